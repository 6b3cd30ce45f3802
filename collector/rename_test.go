package collector

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/poll"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func TestFollowNames(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 30, 10, 0, s, 0, time.UTC) }
	recorded := []incident.Incident{{Cause: "component/w@h", Services: []string{"service/a", "service/x"}, Impacts: []incident.Impact{{Service: "service/b"}}}}
	p := &picture.Picture{
		History:       []slo.Row{{Ref: "service/a", At: at(0)}, {Ref: "service/x", At: at(1)}, {Ref: "service/b", At: at(2)}, {Ref: "service/a", At: at(3)}, {Ref: "service/c", At: at(4)}, {Ref: "service/b", At: at(4)}},
		Since:         map[manifest.Ref]time.Time{"component/w@h": at(1), "component/web@h": at(2)},
		Incidents:     recorded,
		Changes:       []picture.Change{{Refs: []manifest.Ref{"component/w@h", "host/h"}}},
		Outcomes:      []picture.Outcome{{Item: "service/a>component/w"}, {Item: "runbook/r"}},
		Confirmations: []picture.Confirmation{{Item: "service/a>component/w"}},
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
	if got := fmt.Sprint(p.Changes[0].Refs, p.Outcomes[0].Item, p.Outcomes[1].Item, p.Confirmations[0].Item); got != "[component/web@h host/h]service/c>component/webrunbook/rservice/c>component/web" {
		t.Error(got)
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

// An open incident follows the rename of its cause and of the services that it hits, and so does what was said of them: it goes on as the same
// one, and is over when the part is well. What is deleted from the map ends its incident.
func TestRenameOfWhatIsBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shopAndPay := strings.Replace(outsideMap, "[{ref: component/web}]", "[{ref: component/web}, {ref: component/pay}]", 1)
		w := newWorld(t, state.NewMemory(), shopAndPay+"---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: san}\n")
		defer w.stop()
		apply := func(text string) {
			t.Helper()
			if _, problems, err := w.keeper.Apply(t.Context(), []manifest.File{{Name: "m", Text: []byte(text)}}, nil, "ann"); err != nil || len(problems) > 0 {
				t.Fatal(problems, err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		w.alert("f0", "resolved", "critical")
		if why, err := w.signals().Tell(t.Context(), "ci", []outside.Posted{{Ref: "component/san", Level: "major", TTL: "1h"}}); err != nil || why[0] != nil {
			t.Fatal(why, err)
		}
		h, err := w.signals().Check(t.Context(), "component/pay", "critical", "", "1h", "ann", "a drill")
		if err == nil {
			err = w.signals().Set(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		before := map[string]string{}
		for _, i := range w.incidents() {
			before[i.Cause] = i.ID
		}
		if len(before) != 2 || before["component/pay"] == "" || before["component/san"] == "" {
			t.Fatalf("%v", before)
		}
		renamed := strings.NewReplacer("{name: pay}", "{name: bank, renamedFrom: pay}", "component/pay", "component/bank", "{name: shop}", "{name: store, renamedFrom: shop}").Replace(shopAndPay)
		apply(renamed)
		for range 2 {
			got := w.incidents()
			var i incident.Incident
			for _, x := range got {
				if x.ID == before["component/pay"] {
					i = x
				}
			}
			if len(got) != 2 || i.Cause != "component/bank" || i.State != incident.Open || !i.Known || strings.Join(i.Services, " ") != "service/store" ||
				len(i.Impacts) != 1 || i.Impacts[0].Service != "service/store" || i.Title != "component/bank is critical, says set" {
				t.Fatalf("%d incidents, %+v", len(got), i)
			}
			renames := 0
			for _, e := range i.Timeline {
				if e.What == "component/pay is called component/bank now" || e.What == "service/shop is called service/store now" {
					renames++
				}
			}
			if renames != 2 {
				t.Errorf("%+v", i.Timeline)
			}
			apply(renamed) // for good: nothing happens twice
		}
		apply("apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: disks, renamedFrom: san}\n")
		if s, err := w.signals().Signals(t.Context()); err != nil || len(s) != 1 || s[0].Target != "component/disks" || w.level("component/disks") != "major" {
			t.Errorf("%+v %v", s, err)
		}
		if hands, err := w.signals().Hands(t.Context()); err != nil || len(hands) != 1 || hands[0].Ref != "component/bank" || w.level("component/bank") != "critical" {
			t.Errorf("%+v %v", hands, err)
		}
		if _, err := w.signals().Unset(t.Context(), "component/bank"); err != nil {
			t.Fatal(err)
		}
		if why, err := w.signals().Tell(t.Context(), "ci", []outside.Posted{{Ref: "component/disks", Level: "critical", TTL: "1h"}}); err != nil || why[0] != nil {
			t.Fatal(why, err)
		}
		w.answer("component/bank check", poll.Answer{State: poll.Up, Text: "200"})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if _, err := w.keeper.Delete(t.Context(), "Component", "disks"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, i := range w.incidents() {
			if last := i.Timeline[len(i.Timeline)-1].What; i.State != incident.Resolved || i.ID == before["component/san"] && last != "resolved: component/disks is not on the map any more" {
				t.Errorf("%+v", i)
			}
		}
	})
}

// A component that an agent watches is renamed while it is down: its agent still speaks of the old name for a while, and no second incident opens.
func TestRenameOfWhatAnAgentWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		a := w.shop()
		a.run(15)
		a.total["evenkeel_component_processescomponent/server"] = 0
		a.run(5)
		if got := w.incidents(); len(got) != 1 || got[0].Cause != "component/server@a" {
			t.Fatalf("%+v", got)
		}
		text := strings.NewReplacer("{name: server}", "{name: front, renamedFrom: server}", "component/server", "component/front").Replace(shopMap)
		if _, problems, err := w.keeper.Apply(t.Context(), []manifest.File{{Name: "m", Text: []byte(text)}}, []string{"a"}, "ann"); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		a.run(5)
		if got := w.incidents(); len(got) != 1 || got[0].Cause != "component/front@a" || got[0].State != incident.Open {
			t.Fatalf("%+v", got)
		}
		for _, running := range []int64{0, 1} {
			a = w.connect("a")
			a.component("component/front")
			a.component("component/batch")
			a.total["evenkeel_component_processescomponent/front"] = running
			for _, c := range []string{"component/front", "component/batch"} {
				a.rate(cores, c, 1)
			}
			a.rate(cpu, "idle", 140)
			a.run(30)
			want := incident.Open
			if running == 1 {
				want = incident.Resolved
			}
			if got := w.incidents(); len(got) != 1 || got[0].State != want || !got[0].Known {
				t.Fatalf("%d running: %+v", running, got)
			}
		}
	})
}
