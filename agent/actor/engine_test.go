package actor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

func TestLeaseEndsWithoutAnybody(t *testing.T) {
	r := rigIn(t)
	c := r.command("a", 50)
	got := r.send(c)
	r.want(got, command.Applied, "")
	if got[0].Phase != command.Accepted || got[0].LeaseLeft != c.Lease || got[1].Prior != "100" || got[1].Value != "50" {
		t.Fatalf("%+v", got)
	}
	r.tick(19 * time.Second)
	r.wantValue("a", 50)
	r.tick(time.Second)
	r.wantValue("a", 100)
	r.want(r.results, command.Reverted, "")
}

func TestRenewal(t *testing.T) {
	r := rigIn(t)
	c := r.command("a", 50)
	r.send(c)
	r.tick(15 * time.Second)
	renew := r.other(command.Renew, c.ID)
	r.want(r.send(renew), command.Renewed, "")
	r.tick(15 * time.Second)
	r.wantValue("a", 50)
	late := r.other(command.Renew, c.ID)
	late.Counter = renew.Counter
	r.want(r.send(late), command.Refused, command.ReasonReplayed)
	r.tick(6 * time.Second)
	r.wantValue("a", 100)
	r.want(r.send(r.other(command.Renew, c.ID)), command.Refused, command.ReasonUnknownCommand)
}

func TestSupersedingKeepsTheFirstBaseline(t *testing.T) {
	r := rigIn(t)
	r.send(r.command("a", 50))
	second := r.command("a", 20)
	second.ExpectedPrior = "50"
	r.want(r.send(second), command.Applied, "")
	third := r.command("a", 10)
	third.ExpectedPrior = "50"
	r.want(r.send(third), command.Refused, command.ReasonPriorDiffers)
	r.wantValue("a", 20)
	r.tick(21 * time.Second)
	r.wantValue("a", 100)
}

func TestGradualRelease(t *testing.T) {
	r := rigIn(t)
	c := r.command("a", 20)
	c.Release = command.Release{Step: 25, Every: 5 * time.Second}
	r.send(c)
	r.tick(20 * time.Second)
	r.want(r.results, command.Releasing, "")
	for _, want := range []int64{40, 60, 80, 100} {
		r.wantValue("a", want)
		r.tick(5 * time.Second)
	}
	r.want(r.results, command.Reverted, "")

	// Killed half way: at once.
	r.send(func() command.Command {
		c := r.command("b", 20)
		c.Release = command.Release{Step: 10, Every: time.Second}
		return c
	}())
	r.tick(23 * time.Second)
	if v := r.value("b"); v <= 20 || v >= 100 {
		t.Fatalf("%d while releasing", v)
	}
	r.e.setKillFile(context.Background(), "kill file")
	r.wantValue("b", 100)
}

func TestReleaseStopsAtAnothersValue(t *testing.T) {
	r := rigIn(t)
	c := r.command("a", 20)
	c.Release = command.Release{Step: 25, Every: 5 * time.Second}
	r.send(c)
	r.tick(21 * time.Second)
	r.world.values[cgroup("a").String()] = 77
	r.tick(5 * time.Second)
	r.want(r.results, command.Drifted, "")
	r.wantValue("a", 77)
}

func TestRevertKillLift(t *testing.T) {
	r := rigIn(t)
	a, b := r.command("a", 50), r.command("b", 50)
	r.send(a)
	r.send(b)
	r.want(r.send(r.other(command.Revert, a.ID)), command.Reverted, "")
	r.wantValue("a", 100)
	kill := r.other(command.Kill, "")
	got := r.send(kill)
	if got[0].Phase != command.Killed || got[len(got)-1].Phase != command.Reverted {
		t.Fatalf("%+v", got)
	}
	r.wantValue("b", 100)
	r.restart()
	r.want(r.send(r.command("a", 50)), command.Refused, command.ReasonKilled)
	r.want(r.send(r.other(command.Lift, "")), command.Lifted, "")
	again := kill
	again.ID = r.command("a", 1).ID
	r.want(r.send(again), command.Refused, command.ReasonOldFence)
	r.want(r.send(r.command("a", 50)), command.Applied, "")
}

func TestKillFile(t *testing.T) {
	r := rigIn(t)
	r.send(r.command("a", 50))
	r.e.setKillFile(context.Background(), "the kill file is there")
	r.wantValue("a", 100)
	r.want(r.send(r.command("a", 50)), command.Refused, command.ReasonKilled)
	if !r.e.report().Killed {
		t.Error("not reported")
	}
	r.e.setKillFile(context.Background(), "")
	r.want(r.send(r.command("a", 50)), command.Applied, "")
}

func TestPermissionsWithdrawn(t *testing.T) {
	r := rigIn(t)
	c := r.command("a", 50)
	r.send(c)
	r.problem = errors.New("the file may be written by others")
	r.want(r.send(r.other(command.Renew, c.ID)), command.Refused, command.ReasonPermissionsBad)
	if p := r.e.report(); p.Problem == "" || len(p.Permissions) != 0 {
		t.Fatalf("%+v", p)
	}
	r.tick(21 * time.Second)
	r.wantValue("a", 100)
}

func TestRateCountsAcrossRestarts(t *testing.T) {
	r := rigIn(t)
	r.perm.Actions[0].Times, r.perm.Actions[0].Per = 2, time.Minute
	r.send(r.command("a", 50))
	r.want(r.send(r.command("b", 50)), command.Applied, "")
	r.restart()
	r.want(r.send(r.command("c", 50)), command.Refused, command.ReasonRateLimited)
	r.tick(time.Minute)
	r.want(r.send(r.command("c", 50)), command.Applied, "")
}

func TestRefusalSticks(t *testing.T) {
	r := rigIn(t)
	r.e.setKillFile(context.Background(), "kill file")
	c := r.command("a", 50)
	r.want(r.send(c), command.Refused, command.ReasonKilled)
	r.e.setKillFile(context.Background(), "")
	r.want(r.send(c), command.Refused, command.ReasonKilled)
	r.restart()
	r.want(r.send(c), command.Refused, command.ReasonKilled)
	r.wantValue("a", 100)
}

func TestStrangersAreAnsweredInBounds(t *testing.T) {
	r := rigIn(t)
	for range 200 {
		c := r.command("a", 50)
		c.Host = "web2"
		r.send(c)
	}
	if n := len(r.results); n != looseBurst {
		t.Fatalf("%d answers", n)
	}
	if r.results[0].ID[:7] != "sha256:" || len(r.e.s.Seen) != 0 {
		t.Fatalf("%+v", r.results[0])
	}
}

func TestFailuresOfTheHost(t *testing.T) {
	t.Run("no effect", func(t *testing.T) {
		r := rigIn(t)
		r.world.lazy = true
		got := r.send(r.command("a", 50))
		r.want(got, command.Reverted, "")
		r.want(got[:2], command.Failed, command.ReasonNoEffect)
	})
	t.Run("no target", func(t *testing.T) {
		r := rigIn(t)
		delete(r.world.values, cgroup("a").String())
		r.want(r.send(r.command("a", 50)), command.Refused, command.ReasonNoTarget)
	})
	t.Run("target gone", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		delete(r.world.values, cgroup("a").String())
		r.tick(20 * time.Second)
		r.want(r.results, command.Reverted, "")
	})
	t.Run("drifted", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.world.values[cgroup("a").String()] = 77
		r.want(r.send(r.command("a", 20)), command.Refused, command.ReasonPriorDiffers)
		r.wantValue("a", 77)
		if !slices.ContainsFunc(r.results, func(x command.Result) bool { return x.Phase == command.Drifted }) {
			t.Error("drift was not reported")
		}
		if len(r.e.s.Leases) != 0 {
			t.Error("a lease on another's value is still held")
		}
	})
	t.Run("revert fails", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.world.fail = errors.New("permission denied")
		r.tick(30 * time.Second)
		r.want(r.results, command.RevertFailed, "")
		r.want(r.send(r.command("a", 20)), command.Refused, command.ReasonBusy)
		r.world.fail = nil
		r.tick(10 * time.Second)
		r.want(r.results, command.Reverted, "")
		r.wantValue("a", 100)
	})
	t.Run("two names for one file", func(t *testing.T) {
		r := rigIn(t)
		r.perm.MaxRisk = command.R2
		r.send(r.command("a", 50))
		c := r.command("a", 50)
		c.Action.Name, c.Risk = "cpu.quota", command.R2 // the fake host has one file for both
		r.want(r.send(c), command.Refused, command.ReasonBusy)
	})
}

func TestDiskFull(t *testing.T) {
	r := rigIn(t)
	r.noSync = errDisk
	c := r.command("a", 50)
	r.want(r.send(c), command.Failed, command.ReasonBusy)
	r.wantValue("a", 100)
	if len(r.world.writes) != 0 {
		t.Fatal("acted without a journal")
	}
	r.noSync = nil
	r.want(r.send(c), command.Failed, command.ReasonBusy) // answered is answered
}

func TestDiskFullDuringALease(t *testing.T) {
	r := rigIn(t)
	r.send(r.command("a", 50))
	r.noSync = errDisk
	r.tick(21 * time.Second)
	r.wantValue("a", 100)
	r.noSync = nil
	r.restart()
	r.wantValue("a", 100)
	if len(r.e.s.Leases) != 0 {
		t.Fatal("still held")
	}
}

func TestClockIsSet(t *testing.T) {
	r := rigIn(t)
	r.now.Wall = r.now.Wall.Add(-time.Hour)
	r.want(r.send(r.command("a", 50)), command.Refused, command.ReasonClockSkew)
	r.tick(2 * time.Minute)
	r.want(r.send(r.command("a", 50)), command.Applied, "")
	r.now.Wall = r.now.Wall.Add(time.Hour) // leases run on the boot clock
	r.tick(10 * time.Second)
	r.wantValue("a", 50)
	r.tick(10 * time.Second)
	r.wantValue("a", 100)
}

func TestRestart(t *testing.T) {
	t.Run("lease resumes", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.advance(10 * time.Second)
		r.restart()
		r.wantValue("a", 50)
		r.tick(9 * time.Second)
		r.wantValue("a", 50)
		r.tick(time.Second)
		r.wantValue("a", 100)
	})
	t.Run("lease ran out meanwhile", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.advance(time.Minute)
		r.restart()
		r.wantValue("a", 100)
		r.want(r.results, command.Reverted, "")
	})
	t.Run("another boot, files", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.boot = "boot-2"
		r.restart()
		r.wantValue("a", 100)
	})
	t.Run("another boot, files changed", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.boot = "boot-2"
		r.world.values[cgroup("a").String()] = 33
		r.restart()
		r.wantValue("a", 33)
		r.want(r.results, command.Drifted, "")
	})
	t.Run("another boot, processes", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		l := r.e.s.Leases["cpu.weight:cgroup/a"]
		l.State.PidBound = true
		if err := r.e.commit(entry{Put: &l}, true); err != nil {
			t.Fatal(err)
		}
		r.boot = "boot-2"
		r.restart()
		r.wantValue("a", 50) // not touched: it would be another process
		r.want(r.results, command.Reverted, "")
	})
	t.Run("journal lost", func(t *testing.T) {
		r := rigIn(t)
		c := r.command("a", 50)
		if err := os.Remove(r.path()); err != nil {
			t.Fatal(err)
		}
		r.restart()
		r.want(r.send(c), command.Refused, command.ReasonWrongIncarnation)
	})
	t.Run("journal damaged", func(t *testing.T) {
		r := rigIn(t)
		c := r.command("a", 50)
		r.send(c)
		b, err := os.ReadFile(r.path())
		if err != nil {
			t.Fatal(err)
		}
		b[headerLen+frameLen+4] ^= 1 // the first record: the incarnation
		if err := os.WriteFile(r.path(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		was := r.e.s.Incarnation
		r.restart()
		if r.e.s.Incarnation == was {
			t.Error("same incarnation")
		}
		r.wantValue("a", 100)
		if _, err := os.Stat(r.path() + ".damaged"); err != nil {
			t.Error(err)
		}
	})
	t.Run("results are kept until acked", func(t *testing.T) {
		r := rigIn(t)
		r.send(r.command("a", 50))
		r.restart()
		if n := len(r.e.s.Results); n != 2 {
			t.Fatalf("%d results", n)
		}
		for _, x := range slices.Clone(r.e.s.Results) {
			r.e.ack(x.ID, x.Ordinal)
		}
		r.e.ack("nobody", 1)
		r.restart()
		if n := len(r.e.s.Results); n != 0 {
			t.Fatalf("%d results", n)
		}
	})
}

// TestCrashAtEveryStep dies at each point where the outside world could have changed, and looks at what the next
// process makes of it.
func TestCrashAtEveryStep(t *testing.T) {
	for _, supersede := range []bool{false, true} {
		reached := map[command.Phase]bool{}
		steps := 0
		for fuse := 0; ; fuse++ {
			r := rigIn(t)
			if supersede {
				r.want(r.send(r.command("a", 80)), command.Applied, "")
			}
			r.results = nil
			c := r.command("a", 50)
			env := r.sign(c)
			r.world.fuse = fuse
			if died := r.survive(func() { r.deliver(env) }); !died {
				break
			}
			steps++
			before := r.world.writes[50]
			r.restart()
			r.deliver(env)
			if r.world.writes[50] > 1 || before == 1 && r.world.writes[50] != 1 {
				t.Fatalf("fuse %d: written %d times", fuse, r.world.writes[50])
			}
			last := r.results[len(r.results)-1]
			reached[last.Phase] = true
			if last.Phase == command.Applied {
				r.wantValue("a", 50)
			}
			r.tick(time.Minute)
			r.wantValue("a", 100)
			if len(r.e.s.Leases) != 0 {
				t.Fatalf("fuse %d: still held", fuse)
			}
		}
		if steps < 5 || !reached[command.Applied] || !reached[command.NotApplied] && !reached[command.Reverted] {
			t.Fatalf("%d steps, reached %v", steps, reached)
		}
	}
}

// survive runs f and reports whether the process died in it.
func (r *rig) survive(f func()) (died bool) {
	defer func() {
		if x := recover(); x != nil {
			if _, ok := x.(crash); !ok {
				panic(x)
			}
			died = true
		}
	}()
	f()
	r.world.fuse = -1
	return false
}

func TestCompaction(t *testing.T) {
	r := rigIn(t)
	held := r.command("b", 50)
	held.Lease = time.Minute
	r.send(held)
	pad := bytes.Repeat([]byte("x"), 100<<10)
	for r.e.j.floor == 0 {
		if err := r.e.commit(entry{Kind: "test", Body: pad}, false); err != nil {
			t.Fatal(err)
		}
		r.e.tick(context.Background())
	}
	if r.e.j.size > 1<<20 {
		t.Fatalf("%d bytes after compaction", r.e.j.size)
	}
	r.restart()
	r.want(r.send(held), command.Applied, "")
	if r.world.writes[50] != 1 {
		t.Fatal("run twice")
	}
	r.tick(time.Minute)
	r.wantValue("b", 100)
}
