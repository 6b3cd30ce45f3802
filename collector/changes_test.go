package collector

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// What is observed and what is declared is kept, once each, over a restart, and bounded.
func TestChangesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, shopMap)
		w.shop()
		api := changes{&backend{decider: w.decider}}
		synctest.Wait()
		now := time.Now()
		seen := session.HostChange{Kind: "binary", Component: "component/server", What: "/usr/bin/server", Before: "1", After: "2", Made: now.Add(-time.Minute), At: now}
		w.fleet.Event("a", seen)
		w.fleet.Event("a", seen)
		w.fleet.Event("a", session.HostChange{Kind: "package", What: "nginx", Before: "1", After: "2", Made: now.Add(time.Hour), At: now})
		if _, err := api.Record(t.Context(), []picture.Change{{What: "shop 4.12", Refs: []manifest.Ref{"service/shop"}, By: "ci"}}); err != nil {
			t.Error(err)
		}
		for _, bad := range []picture.Change{{What: "x", Refs: []manifest.Ref{"service/shpo"}}, {What: "x", At: now.Add(time.Hour)}} {
			if _, err := api.Record(t.Context(), []picture.Change{{What: "good"}, bad}); err == nil || !strings.HasPrefix(err.Error(), "not valid") && !strings.Contains(err.Error(), "changes[1]") {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		time.Sleep(time.Second)
		want := "binary [component/server@a] /usr/bin/server, package [host/a] nginx, declared [service/shop] shop 4.12"
		if got := told(w.decider.changes.list()); got != want {
			t.Errorf("got %s", got)
		}
		p, err := w.decider.picture(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(p.Changes); got != want {
			t.Errorf("the picture has %s", got)
		}
		w.stop()

		w = newWorld(t, store, shopMap)
		if got := told(w.decider.changes.list()); got != want {
			t.Errorf("after a restart %s", got)
		}
		for n := range keptChanges + 10 {
			w.fleet.Event("a", session.HostChange{Kind: "package", What: fmt.Sprint("p", n), Made: now.Add(time.Duration(n) * time.Millisecond), At: time.Now()})
		}
		time.Sleep(30 * time.Second)
		if got := w.decider.changes.list(); len(got) != keptChanges || got[0].What != "p10" {
			t.Errorf("%d are kept, the first is %+v", len(got), got[0])
		}
		if all, _, err := store.List(t.Context(), changePrefix); err != nil || len(all) != keptChanges {
			t.Errorf("%d are stored, %v", len(all), err)
		}
		w.stop()
	})
}

func told(all []picture.Change) string {
	out := make([]string, len(all))
	for i, c := range all {
		out[i] = fmt.Sprint(c.Kind, " ", c.Refs, " ", c.What)
	}
	return strings.Join(out, ", ")
}
