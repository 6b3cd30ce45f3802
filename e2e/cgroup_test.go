//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// These tests run twice: on this machine's own cgroups, and by TestCgroupsOfVersion2 in a virtual machine.

// pace is a second, and longer where the CPU is emulated.
func pace() time.Duration {
	if os.Getenv("EK2E_SLOW") != "" {
		return 4 * time.Second
	}
	return time.Second
}

// squeeze is a cgroup with an actor that may act on it.
type squeeze struct {
	group rig.Group
	actor *rig.Actor
}

func newSqueeze(t *testing.T) squeeze {
	t.Helper()
	g := rig.CPU(t).Group(t, "batch")
	target := command.Target{Cgroup: g.Path}
	return squeeze{g, rig.NewActor(t, rig.Grant("cpu.weight", target, 1, 1000), rig.Grant("cpu.quota", target, 1, 400))}
}

func (s squeeze) action(k rig.Knob, value int64) command.Action {
	return command.Action{Name: k.Action, Target: command.Target{Cgroup: s.group.Path}, Value: value}
}

func (s squeeze) expect(t *testing.T, k rig.Knob, want, when string) {
	t.Helper()
	if got := s.group.Read(t, k); got != want {
		t.Errorf("%s: %s reads %q, want %q", when, k.File, got, want)
	}
}

func (s squeeze) becomes(t *testing.T, k rig.Knob, want string, patience time.Duration, what string) time.Duration {
	t.Helper()
	return rig.Until(t, patience, what, func() string {
		if got := s.group.Read(t, k); got != want {
			return k.File + " reads " + got
		}
		return ""
	})
}

// A command changes the kernel's file and has its effect, and when its lease ends the file is what it was before, with
// no agent connected any more.
func TestActorLeaseEndsWithoutAgent(t *testing.T) {
	s := newSqueeze(t)
	weight, quota := s.group.Weight(), s.group.Quota()
	load := rig.StartCmd(t, rig.Helper(t, "spin"))
	s.group.Add(t, load.PID())
	s.actor.Start(t)
	peer := s.actor.Dial(t)
	s.expect(t, weight, weight.Neutral, "before")
	s.expect(t, quota, quota.Neutral, "before")

	lease := 4 * pace()
	capped := peer.Do(t, s.actor, s.action(quota, 1), lease)
	s.expect(t, quota, quota.Text(1), "during the lease")
	began := time.Now()
	first := peer.Do(t, s.actor, s.action(weight, 10), lease)
	s.expect(t, weight, weight.Text(10), "during the lease")
	if r := peer.Results(first.ID); len(r) != 2 || r[0].Phase != command.Accepted || !strings.HasPrefix(r[1].Prior, weight.Neutral) {
		t.Errorf("results of the weight: %+v", r)
	}
	if ended := peer.Results(capped.ID); len(ended) != 2 {
		t.Errorf("results of the quota: %+v", ended)
	}
	peer.Close()

	before := s.group.Throttled(t)
	rig.Until(t, lease, "the quota throttles", func() string {
		if now := s.group.Throttled(t); now < before+3 {
			return fmt.Sprintf("nr_throttled went from %d to %d", before, now)
		}
		return ""
	})
	s.becomes(t, weight, weight.Neutral, lease+2*pace(), "the weight is given back")
	if took := time.Since(began); took < lease {
		t.Errorf("the weight was given back after %s, before the lease of %s ended", took, lease)
	}
	s.becomes(t, quota, quota.Neutral, 2*pace(), "the quota is given back")

	again := s.actor.Dial(t)
	again.Await(t, first.ID, command.Reverted, 2*pace()) // the result waited for somebody to hear it
}

// The kill file takes everything back within a second, whoever is connected, and nothing is accepted while it is there.
func TestActorKillFile(t *testing.T) {
	s := newSqueeze(t)
	weight, quota := s.group.Weight(), s.group.Quota()
	s.actor.Start(t)
	peer := s.actor.Dial(t)
	peer.Do(t, s.actor, s.action(weight, 10), time.Minute)
	peer.Do(t, s.actor, s.action(quota, 20), time.Minute)

	rig.Write(t, s.actor.KillFile, "")
	took := s.becomes(t, weight, weight.Neutral, pace(), "the weight is given back")
	s.becomes(t, quota, quota.Neutral, pace()-took, "the quota is given back")

	c := s.actor.Authority.Apply(t, s.actor, peer.Incarnation(), s.action(weight, 10), time.Minute)
	peer.Send(t, s.actor.Authority.Sign(t, c))
	if r := peer.Await(t, c.ID, command.Refused, 5*time.Second); r.Reason != command.ReasonKilled {
		t.Errorf("refused because %s, want %s", r.Reason, command.ReasonKilled)
	}
	s.expect(t, weight, weight.Neutral, "under the kill file")

	if err := os.Remove(s.actor.KillFile); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, 5*time.Second, "the actor notices", func() string {
		if peer.Report().Killed {
			return "it reports that it is stopped"
		}
		return ""
	})
	peer.Do(t, s.actor, s.action(weight, 10), time.Minute)
}

// A value that somebody else wrote during the lease stays, and is reported as drifted.
func TestActorLeavesDriftAlone(t *testing.T) {
	s := newSqueeze(t)
	weight := s.group.Weight()
	s.actor.Start(t)
	peer := s.actor.Dial(t)
	c := peer.Do(t, s.actor, s.action(weight, 10), 2*pace())
	const other = "333"
	rig.Write(t, s.group.File(weight.File), other)
	peer.Await(t, c.ID, command.Drifted, 4*pace())
	s.expect(t, weight, other, "after the lease")
}

// An actor that is killed during a lease takes it up again when it is started: the change stays, is not made a second
// time, and ends when the lease ends. If the lease ended meanwhile, the change is taken back at the start.
func TestActorCrash(t *testing.T) {
	s := newSqueeze(t)
	weight, quota := s.group.Weight(), s.group.Quota()
	s.actor.Start(t)
	peer := s.actor.Dial(t)
	began := time.Now()
	const long = 4 * time.Second
	resumed := peer.Do(t, s.actor, s.action(weight, 10), long)
	ended := peer.Do(t, s.actor, s.action(quota, 20), time.Second)
	s.actor.Kill()
	s.expect(t, weight, weight.Text(10), "after the kill")

	time.Sleep(time.Until(began.Add(1500 * time.Millisecond)))
	s.expect(t, quota, quota.Text(20), "with no actor")
	s.actor.Start(t)
	s.expect(t, quota, quota.Neutral, "after the start, the lease being over")
	s.expect(t, weight, weight.Text(10), "after the start, the lease going on")
	peer = s.actor.Dial(t)
	peer.Await(t, ended.ID, command.Reverted, time.Second)
	s.becomes(t, weight, weight.Neutral, long+time.Second, "the resumed lease ends")
	if took := time.Since(began); took < long {
		t.Errorf("the resumed lease ended after %s, before its %s", took, long)
	}
	peer.Await(t, resumed.ID, command.Reverted, time.Second)
	for _, r := range peer.Results(resumed.ID) {
		if r.Phase == command.Applied && strings.Contains(r.Detail, "recovered") {
			t.Errorf("the command counted as applied twice: %+v", r)
		}
	}
}

// What a killed actor left is taken back by `revert --all` without it, as the unit's ExecStopPost does; a second call
// finds nothing to do; a clean stop leaves nothing to it.
func TestActorRevertsOffline(t *testing.T) {
	s := newSqueeze(t)
	weight, quota := s.group.Weight(), s.group.Quota()
	s.actor.Start(t)
	peer := s.actor.Dial(t)
	peer.Do(t, s.actor, s.action(weight, 10), time.Hour/10)
	peer.Do(t, s.actor, s.action(quota, 20), time.Hour/10)
	s.actor.Kill()
	s.expect(t, quota, quota.Text(20), "after the kill")

	out := rig.Must(t, s.actor.Binary, "revert", "--all", "--config", s.actor.Config)
	if n := strings.Count(out, "reverted"); n != 2 {
		t.Errorf("revert said %q, want two commands reverted", out)
	}
	s.expect(t, weight, weight.Neutral, "after revert --all")
	s.expect(t, quota, quota.Neutral, "after revert --all")
	if out = rig.Must(t, s.actor.Binary, "revert", "--all", "--config", s.actor.Config); !strings.Contains(out, "nothing is held") {
		t.Errorf("the second revert said %q", out)
	}

	s.actor.Start(t)
	s.actor.Dial(t).Do(t, s.actor, s.action(weight, 10), time.Hour/10)
	if code := s.actor.Stop(t, 20*time.Second); code != 0 {
		t.Errorf("a clean stop ended with %d", code)
	}
	s.expect(t, weight, weight.Neutral, "after a clean stop")
}

// A frozen actor does not hold a host for ever: it takes back what is overdue as soon as it runs again, by the boot
// clock and not by the time that it saw pass.
func TestActorOverdueAfterFreeze(t *testing.T) {
	s := newSqueeze(t)
	weight := s.group.Weight()
	s.actor.Start(t)
	s.actor.Dial(t).Do(t, s.actor, s.action(weight, 10), time.Second)
	s.actor.Signal(syscall.SIGSTOP)
	time.Sleep(1500 * time.Millisecond)
	s.expect(t, weight, weight.Text(10), "while the actor is frozen")
	s.actor.Signal(syscall.SIGCONT)
	s.becomes(t, weight, weight.Neutral, time.Second, "the overdue lease ends")
}
