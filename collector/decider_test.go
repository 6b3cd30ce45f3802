package collector

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const shopMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  criticality: 1
  value: {perHour: 12000, currency: EUR, loss: {major: 0.5, critical: 1}}
  dependsOn: [{ref: component/server}]
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: report}
spec:
  criticality: 4
  value: {perHour: 40, currency: EUR}
  dependsOn: [{ref: component/batch}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: server}
spec: {hosts: {names: [a]}, cgroup: /demo/server}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [a]}, cgroup: /demo/batch}
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps:
    - {action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.2}}
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu, level: major}
  hosts: {names: [a]}
  runbook: runbook/relieve-cpu
  mode: auto
  timing: {dwell: 5s, outcome: 5s, cooldown: 0s, lease: 20s, release: 100%/1s}
`

const (
	psi      = "node_pressure_cpu_waiting_seconds_total"
	cpu      = "node_cpu_seconds_total"
	cores    = "evenkeel_component_cpu_seconds_total"
	runqueue = "evenkeel_component_runqueue_seconds_total"
)

// shop is a host with a server and a batch job, as its agent sees them.
func (w *world) shop() *agent {
	a := w.connect("a")
	a.component("component/server")
	a.component("component/batch")
	w.fleet.Event("a", session.Components{At: time.Now(), Places: []session.Place{
		{Component: "component/server", Running: true, Processes: 1, Cgroup: "/demo/server"},
		{Component: "component/batch", Running: true, Processes: 1, Cgroup: "/demo/batch"},
	}})
	a.calm()
	return a
}

func (a *agent) calm() {
	a.rate(psi, "", 2)
	a.rate(cpu, "user", 60)
	a.rate(cpu, "idle", 140)
	a.rate(cores, "component/server", 55)
	a.rate(runqueue, "component/server", 1)
	a.rate(cores, "component/batch", 0)
	a.rate(runqueue, "component/batch", 0)
}

func (a *agent) crowded() {
	a.rate(psi, "", 98)
	a.rate(cpu, "user", 199)
	a.rate(cpu, "idle", 1)
	a.rate(cores, "component/server", 60)
	a.rate(runqueue, "component/server", 300)
	a.rate(cores, "component/batch", 139)
	a.rate(runqueue, "component/batch", 1400)
}

// squeezed is the host while the batch job is held back: PSI stays high, but the server no longer waits.
func (a *agent) squeezed() {
	a.crowded()
	a.rate(runqueue, "component/server", 5)
	a.rate(cores, "component/server", 110)
	a.rate(cores, "component/batch", 89)
}

func (w *world) incidents() []incident.Incident {
	w.Helper()
	var out []incident.Incident
	if err := w.decider.ask(w.Context(), func(now time.Time) { out = w.decider.book.List(now) }); err != nil {
		w.Fatal(err)
	}
	return out
}

// The whole loop: overload seen, the least valuable contributor squeezed, verified, renewed, and taken back when it is over.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		a := w.shop()
		a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
		a.run(15)
		if got := w.incidents(); len(got) != 0 {
			t.Fatalf("a calm host has incidents: %+v", got)
		}
		if len(w.watch["a"]) != 2 {
			t.Fatalf("the agent was told to watch %v", w.watch["a"])
		}

		a.crowded()
		a.run(3)
		applies := w.commands(command.Apply)
		if len(applies) != 1 {
			t.Fatalf("%d commands after 3 s of overload, want 1; incidents %+v", len(applies), w.incidents())
		}
		c := applies[0]
		if c.host != "a" || c.Action.Name != "cpu.weight" || c.Action.Target.Cgroup != "/demo/batch" || c.Action.Value != 10 || c.Lease != 20*time.Second {
			t.Errorf("sent %+v", c)
		}
		a.answers(c, 1, command.Accepted, "")
		a.answers(c, 2, command.Applied, "")
		a.squeezed()
		a.run(8)
		actions := w.executor.Actions()
		if len(actions) != 1 || actions[0].State.Phase() != "active" {
			t.Fatalf("after the outcome time: %+v", actions)
		}
		open := w.incidents()
		if len(open) != 1 || open[0].State != incident.Mitigating || len(open[0].Services) == 0 {
			t.Fatalf("incident: %+v", open)
		}
		if lost, unit := open[0].Lost(); lost <= 0 || unit != "EUR" {
			t.Errorf("lost %g %s so far", lost, unit)
		}
		a.run(8)
		renewals := w.commands(command.Renew)
		if len(renewals) == 0 {
			t.Error("the lease was not renewed while it helps")
		}
		for i, r := range renewals {
			a.answers(r, uint32(3+i), command.Renewed, "")
		}

		a.calm()
		a.run(6)
		reverts := w.commands(command.Revert)
		if len(reverts) == 0 {
			t.Fatalf("nothing was taken back; action %+v", w.executor.Actions())
		}
		a.answers(reverts[0], 90, command.Reverted, "")
		if got := w.executor.Actions()[0]; got.State.Phase() != "reverted" {
			t.Errorf("action is %s", got.State)
		}
		a.run(30)
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Resolved {
			t.Errorf("incident: %+v", got)
		}
		if n := len(w.commands(command.Apply)); n != 1 {
			t.Errorf("%d commands in all, want 1", n)
		}
	})
}

// Nothing is done, and everything is explained, where the host's permissions do not list the contributor.
func TestPermissionsHaveTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		a := w.shop()
		a.actor("cpu.weight", command.Target{Unit: "other.service"})
		a.run(5)
		a.crowded()
		a.run(10)
		if n := len(w.commands(command.Apply)); n != 0 {
			t.Fatalf("%d commands were sent", n)
		}
		open := w.incidents()
		if len(open) != 1 {
			t.Fatalf("incidents: %+v", open)
		}
		plan, ok := w.executor.ExplainIncident(open[0].ID)
		if !ok || plan.Proposal != nil || plan.Refusal == "" {
			t.Fatalf("plan: %+v", plan)
		}
		for _, c := range plan.Candidates {
			if c.Component == "component/batch" && (c.Limitable || c.Why == "") {
				t.Errorf("batch: %+v", c)
			}
		}
	})
}

// The valuable one is never squeezed for the cheap one, whoever crowds whom.
func TestValueDecidesWhoGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		swapped := strings.Replace(strings.Replace(shopMap, "perHour: 12000", "perHour: 39", 1), "criticality: 1\n", "criticality: 4\n", 1)
		swapped = strings.Replace(swapped, "perHour: 40", "perHour: 50000", 1)
		w := newWorld(t, state.NewMemory(), swapped)
		defer w.stop()
		a := w.shop()
		a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
		a.run(5)
		a.crowded()
		a.run(10)
		for _, c := range w.commands(command.Apply) {
			if c.Action.Target.Cgroup == "/demo/batch" {
				t.Errorf("the more valuable one was squeezed: %+v", c)
			}
		}
	})
}

// A silent host is unknown, then lost or down as its observers say; it starts no action and its map never turns ok.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name     string
		answered bool
		want     overload.Reach
	}{{"agent lost", true, overload.AgentLost}, {"down", false, overload.Down}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, state.NewMemory(), shopMap)
				defer w.stop()
				a, b := w.shop(), w.connect("b")
				a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
				for range 40 {
					a.run(1)
					b.run(0)
					b.beat()
				}
				a.crowded() // and then falls silent in the middle of it
				a.run(1)
				for range 20 {
					time.Sleep(time.Second)
					b.beat()
					synctest.Wait()
					w.answerReach(c.answered)
				}
				reach := (*w.decider.reach.Load())["a"]
				if reach.Reach != c.want {
					t.Errorf("reach is %s (%s), want %s; asked %q", reach.Reach, reach.Text, c.want, w.asked)
				}
				r, _ := w.decider.snapshot.Load().Range("service/shop")
				if r.High.String() != "critical" {
					t.Errorf("the shop is %v: a silent host is never well", r)
				}
				if n := len(w.commands(command.Apply)); n != 0 {
					t.Errorf("%d commands were sent to a silent host", n)
				}
			})
		})
	}
}

func (a *agent) beat() {
	a.w.fleet.Event(a.name, session.Heartbeat{Session: a.session, At: time.Now()})
}

// answerReach plays both observers for every question that is open.
func (w *world) answerReach(answered bool) {
	w.decider.do(func(now time.Time) { w.decider.silence.Answer("a", overload.ObserverCollector, answered, "test", now) })
	w.mu.Lock()
	asked := len(w.asked)
	w.mu.Unlock()
	if asked > 0 {
		w.fleet.Event("b", session.Reach{Host: "a", Answered: answered, Detail: "test", At: time.Now()})
	}
	synctest.Wait()
}

// A restart of the collector opens no incident for hosts that have not come back yet, and keeps those that it had.
func TestRestartOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, shopMap)
		a := w.shop()
		a.run(5)
		a.crowded()
		a.run(5)
		before := w.incidents()
		if len(before) != 1 {
			t.Fatalf("incidents: %+v", before)
		}
		w.stop()

		w = newWorld(t, store, "")
		defer w.stop()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		after := w.incidents()
		if len(after) != 1 || after[0].ID != before[0].ID || after[0].State == incident.Resolved {
			t.Errorf("after the restart: %+v", after)
		}
	})
}

// Applying a map redraws it at once, and a host's members come with it.
func TestApplyRedraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap)
		defer w.stop()
		a := w.shop()
		a.run(3)
		more := `apiVersion: evenkeel/v1
kind: Component
metadata: {name: extra}
spec: {hosts: {names: [a]}, unit: extra.service}
`
		if _, problems, err := w.keeper.Apply(t.Context(), []manifest.File{{Name: "more.yaml", Text: []byte(more)}}, nil, "ann"); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		synctest.Wait()
		if _, ok := w.decider.snapshot.Load().Range("component/extra@a"); !ok {
			t.Error("the new member is not on the map")
		}
		if len(w.watch["a"]) != 3 {
			t.Errorf("the agent watches %v", w.watch["a"])
		}
	})
}

// A detector of a signal that nobody has is told in its place, and not kept.
func TestDetectorOfAnUnknownSignalIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), "")
		defer w.stop()
		bad := "apiVersion: evenkeel/v1\nkind: Detector\nmetadata: {name: odd}\nspec:\n  signal: cpu.bussy\n  scope: host\n  act: {above: 90%, of: 2/3}\n"
		_, problems, err := w.keeper.Apply(t.Context(), []manifest.File{{Name: "odd.yaml", Text: []byte(bad)}}, nil, "ann")
		if err != nil || len(problems) != 1 || problems[0].Line != 5 || !strings.Contains(problems[0].Text, "cpu.bussy") {
			t.Errorf("got %v, %v", problems, err)
		}
	})
}
