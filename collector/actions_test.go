package collector

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// A step that a runbook names in the map's text becomes the signed command that its words mean, on the target that the host
// permits, and a host that permits none gets none.
func TestStepsOfARunbookBecomeCommands(t *testing.T) {
	group := command.Target{Cgroup: "/demo/batch"}
	for step, want := range map[string]command.Action{
		"{action: cpu.idle}":                                        {Name: "cpu.idle", Target: group, Value: 1},
		"{action: cpuset.cpus, cpus: 50%}":                          {Name: "cpuset.cpus", Target: group, Value: 50},
		"{action: process.nice, to: 10}":                            {Name: "process.nice", Target: group, Value: 10},
		"{action: process.sched, to: 2}":                            {Name: "process.sched", Target: group, Value: 2},
		"{action: memory.high, to: 1GiB, V}":                        {Name: "memory.high", Target: group, Value: 1024},
		"{action: memory.low, to: 1GiB, V}":                         {Name: "memory.low", Target: command.Target{Cgroup: "/demo/server"}, Value: 1024},
		"{action: io.limit, to: 20MiB, V}":                          {Name: "io.limit", Target: group, Value: 20 << 10},
		"{action: pids.max, to: 40, V}":                             {Name: "pids.max", Target: group, Value: 40},
		"{action: process.oom, to: 500, V}":                         {Name: "process.oom", Target: group, Value: 500},
		"{action: sysctl, sysctl: net.core.somaxconn, to: 4096, V}": {Name: "sysctl", Target: command.Target{Sysctl: "net.core.somaxconn"}, Value: 4096},
		"{action: 'plugin:shed', to: 40, V}":                        {Name: "plugin:shed", Value: 40}, // on the host
	} {
		t.Run(want.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				step = strings.Replace(step, "V}", "verify: {signal: runqueue.delay, of: protected, below: 0.2}}", 1)
				text := strings.Replace(shopMap, "{action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.2}}", step, 1)
				w := newWorld(t, state.NewMemory(), text)
				defer w.stop()
				a := w.shop()
				permit := func(targets ...command.Target) {
					w.fleet.Event("a", session.Actor{At: time.Now(), Report: command.ActorReport{
						Present: true, Incarnation: "inc-a", PermissionsHash: make([]byte, 32), MaxRisk: command.R2,
						Permissions: []command.Permission{{Action: want.Name, Targets: targets, Min: 0, Max: 1 << 20, MaxLease: time.Minute, Rate: "20/5m"}},
					}})
				}
				permit(command.Target{Cgroup: "/demo/other"})
				a.run(35) // what costs service waits until the collector has decided for half a minute
				a.crowded()
				a.run(4)
				if got := w.commands(command.Apply); len(got) != 0 {
					t.Fatalf("sent to a host that does not permit it: %+v", got)
				}
				permit(want.Target)
				a.run(4)
				got := w.commands(command.Apply)
				if len(got) == 0 || slices.ContainsFunc(got, func(c sentCommand) bool { return c.ID != got[0].ID }) {
					t.Fatalf("sent %+v, want one command, again until it is answered", got)
				}
				spec, _ := command.Lookup(want.Name)
				if got[0].Action != want || got[0].Risk != spec.Risk || got[0].Lease != 20*time.Second {
					t.Errorf("sent %+v, want %+v", got[0].Action, want)
				}
			})
		})
	}
}
