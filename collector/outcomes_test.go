package collector

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/poll"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// A step that helped speaks for its runbook and policy, and the incident that it answered for its detector; one that did not, against them.
func TestOutcomes(t *testing.T) {
	for _, helps := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, state.NewMemory(), shopMap)
			defer w.stop()
			a := w.shop()
			a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
			a.run(15)
			a.crowded()
			a.run(3)
			applies := w.commands(command.Apply)
			if len(applies) != 1 {
				t.Fatalf("%d commands", len(applies))
			}
			a.answers(applies[0], 1, command.Accepted, "")
			a.answers(applies[0], 2, command.Applied, "")
			if helps {
				a.squeezed()
			}
			a.run(20)
			a.calm()
			a.run(20)
			n := uint32(10)
			for _, r := range w.commands(command.Revert) {
				n++
				a.answers(r, n, command.Reverted, "")
			}
			a.run(60)
			got := map[string]bool{}
			p, err := w.decider.picture(t.Context(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range p.Outcomes {
				got[fmt.Sprint(o.Item, " ", o.What)] = true
			}
			want := picture.Good
			if !helps {
				want = picture.Bad
			}
			for _, item := range []string{"runbook/relieve-cpu " + want, "remediationpolicy/relieve-host " + want, "detector/host-cpu good", "runbook/relieve-cpu change"} {
				if !got[item] {
					t.Errorf("helps %t: no %s among %v", helps, item, got)
				}
			}
			for item := range got {
				if strings.HasSuffix(item, picture.Changed) && strings.HasPrefix(item, "detector/") {
					t.Errorf("what is shipped was never applied: %s", item)
				}
			}
		})
	}
}

// An incident speaks for an edge of the map when the service above is measured to be bad too, and against it when it stays well.
func TestOutcomesOfEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), slowMap)
		defer w.stop()
		edge := func() (good, bad int) {
			p, err := w.decider.picture(t.Context(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range p.Outcomes {
				switch {
				case o.Item != "service/shop>component/pay":
				case o.What == picture.Good:
					good++
				case o.What == picture.Bad:
					bad++
				}
			}
			return good, bad
		}
		w.orders(7)
		for _, c := range []struct {
			orders    float64
			length    time.Duration
			good, bad int
		}{
			{0, time.Minute, 1, 0},     // both were bad
			{7, time.Minute, 1, 0},     // too short to say
			{7, 6 * time.Minute, 1, 1}, // the shop sells on without it
		} {
			w.pay(poll.Down)
			w.orders(c.orders)
			w.pass(c.length)
			w.pay(poll.Up)
			w.orders(7)
			w.pass(10 * time.Minute)
			if good, bad := edge(); good != c.good || bad != c.bad {
				t.Errorf("after %s with %v orders: %d good and %d bad, expected %d and %d", c.length, c.orders, good, bad, c.good, c.bad)
			}
		}
		out, problems, err := reasoner{&backend{decider: w.decider}}.Ask(t.Context(), "review", nil, time.Time{}, nil)
		if err != nil || len(problems) > 0 || !strings.Contains(string(out), `{"item":"service/shop\u003ecomponent/pay","effectiveness":0.49`) {
			t.Errorf("%s, %v, %v", out, problems, err)
		}
	})
}
