package collector

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
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
