package collector

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/effectiveness"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/collector/state"
)

// What somebody confirmed is kept over a restart, counts in the review, and is bounded without the newest of an item being lost.
func TestConfirmationsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, shopMap)
		w.shop()
		synctest.Wait()
		r := reviews{&backend{decider: w.decider, keeper: w.keeper}}
		for item, says := range map[string]string{
			"runbook/relieve-cpu": "", "detector/host-cpu": "", "remediationpolicy/relieve-host": "", "service/shop": "", "service/shop>component/server": "",
			"":                              "item is missing: expected detector/NAME",
			"component/server":              "nothing that is reviewed: expected detector/NAME",
			"runbook/releive-cpu":           `runbook/releive-cpu is not there (did you mean "runbook/relieve-cpu"?)`,
			"service/shop>component/sever":  `component/sever is not on the map (did you mean "component/server"?)`,
			"component/server>service/shop": "component/server does not rest on service/shop: expected one of component/server@a",
		} {
			err := r.Check(t.Context(), item)
			if says == "" && err != nil || says != "" && (!errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), says)) {
				t.Errorf("%q: %v", item, err)
			}
		}
		if _, err := r.Confirm(t.Context(), "runbook/relieve-cpu", "ann", "works"); err != nil {
			t.Fatal(err)
		}
		w.stop()

		w = newWorld(t, store, shopMap)
		defer w.stop()
		r = reviews{&backend{decider: w.decider, keeper: w.keeper}}
		p, err := w.decider.picture(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		out, problems, err := reason.Answer("review", p, nil)
		if err != nil || len(problems) > 0 || !strings.Contains(string(out), `"by":"ann","note":"works"`) {
			t.Errorf("%s %v %v", out, problems, err)
		}
		for n := range keptConfirmations + 5 {
			if _, err := r.Confirm(t.Context(), "detector/host-cpu", "bob", fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		all := w.decider.reviews.list()
		if len(all) != keptConfirmations || all[0].Item != "runbook/relieve-cpu" || all[len(all)-1].Note != fmt.Sprint(keptConfirmations+4) {
			t.Errorf("%d are kept, the first is %+v", len(all), all[0])
		}
		if kept, _, err := store.List(t.Context(), reviewPrefix); err != nil || len(kept) != keptConfirmations {
			t.Errorf("%d are stored, %v", len(kept), err)
		}
	})
}

// A service is bad while all its parts are well: the gap is in the queue for review, also when the service is well again, until somebody has
// looked at it.
func TestGapStaysInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		a := w.shop()
		a.run(15)
		gaps := func() []effectiveness.Gap {
			p, err := w.decider.picture(t.Context(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			var events []effectiveness.Event
			for _, c := range p.Confirmations {
				events = append(events, effectiveness.Event{Item: string(c.Item), At: c.At, What: effectiveness.Confirmed})
			}
			return effectiveness.Of(p, events, effectiveness.Defaults()).Gaps
		}
		set := signalsBackend{&backend{decider: w.decider, keeper: w.keeper}}
		h, err := set.Check(t.Context(), "service/shop", "critical", "", "1m", "ann", "orders at zero")
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Set(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		a.run(5)
		if g := gaps(); len(g) != 1 || !g[0].Now || g[0].Service != "service/shop" || g[0].Incident == "" {
			t.Errorf("%+v", g)
		}
		a.run(100) // what was set ends, and the incident with it
		if i := w.incidents(); len(i) != 1 || i[0].State != "resolved" {
			t.Errorf("%+v", i)
		}
		if g := gaps(); len(g) != 1 || g[0].Now {
			t.Errorf("%+v", g)
		}
		r := reviews{&backend{decider: w.decider, keeper: w.keeper}}
		if _, err := r.Confirm(t.Context(), "service/shop", "ann", "the bank is on the map now"); err != nil {
			t.Fatal(err)
		}
		if g := gaps(); len(g) != 0 {
			t.Errorf("%+v", g)
		}
	})
}
