package collector

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func TestFollowNames(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 30, 10, 0, s, 0, time.UTC) }
	recorded := []incident.Incident{{Cause: "component/w@h", Services: []string{"service/a", "service/x"}, Impacts: []incident.Impact{{Service: "service/b"}}}}
	p := &picture.Picture{
		History:   []slo.Row{{Ref: "service/a", At: at(0)}, {Ref: "service/x", At: at(1)}, {Ref: "service/b", At: at(2)}, {Ref: "service/a", At: at(3)}, {Ref: "service/c", At: at(4)}, {Ref: "service/b", At: at(4)}},
		Since:     map[manifest.Ref]time.Time{"component/w@h": at(1), "component/web@h": at(2)},
		Incidents: recorded,
	}
	followNames(p, map[manifest.Ref][]manifest.Ref{
		"service/a": {"service/b", "service/c"}, "service/b": {"service/c"}, "component/w": {"component/web"},
	})
	var got []string
	for _, r := range p.History {
		got = append(got, fmt.Sprintf("%s %d", r.Ref, r.At.Second()))
	}
	if diff := cmp.Diff([]string{"service/c 0", "service/x 1", "service/c 2", "service/c 4"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[manifest.Ref]time.Time{"component/web@h": at(1)}, p.Since); diff != "" {
		t.Error(diff)
	}
	i := p.Incidents[0]
	if i.Cause != "component/web@h" || i.Services[0] != "service/c" || i.Services[1] != "service/x" || i.Impacts[0].Service != "service/c" {
		t.Errorf("%+v", i)
	}
	if recorded[0].Services[0] != "service/a" || recorded[0].Impacts[0].Service != "service/b" {
		t.Error("what is on record was changed")
	}
}

// A service that was renamed has its history from the beginning.
func TestRenameKeepsTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		a := w.shop()
		a.run(10)
		text := "apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: store, renamedFrom: shop}\nspec: {criticality: 1, dependsOn: [{ref: component/server}]}\n"
		if _, problems, err := w.keeper.Apply(t.Context(), []manifest.File{{Name: "m", Text: []byte(text)}}, nil, "ann"); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		a.run(10)
		p, err := w.decider.picture(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		var first time.Time
		for _, r := range p.History {
			if r.Ref == "service/shop" {
				t.Errorf("a row of the former name: %+v", r)
			}
			if r.Ref == "service/store" && first.IsZero() {
				first = r.At
			}
		}
		if first.IsZero() || time.Since(first) < 15*time.Second {
			t.Errorf("the history begins %s ago", time.Since(first))
		}
	})
}
