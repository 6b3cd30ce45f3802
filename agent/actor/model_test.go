package actor

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// TestModel drives the engine through random commands, duplicates, crashes, power cuts, restarts, other boots, foreign
// hands, kill files and jumps of time. Executions are counted by the fake host, not by the journal: every command has a
// value of its own that ends in 7, which no release step and no foreign hand ever writes.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		sub := fmt.Sprintf("%s/%d", dir, run)
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(sub)
		m := &model{t: t, r: newRig(t, sub), baseline: map[string]int64{"a": 100, "b": 100, "c": 100}}
		m.r.world.onWrite = m.wrote
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			m.step()
			m.check()
		}
		m.finish()
		m.r.e.j.close()
	})
}

type model struct {
	t        *rapid.T
	r        *rig
	baseline map[string]int64 // what must stand in the end
	sent     []sentCommand
	next     int64
	foreign  int64
}

type sentCommand struct {
	c   command.Command
	env command.Envelope
}

func (m *model) wrote(v int64) {
	if v%10 == 7 && m.r.killed != "" {
		m.t.Fatalf("value %d was written while everything is stopped", v)
	}
}

func (m *model) step() {
	r := m.r
	if rapid.IntRange(0, 3).Draw(m.t, "dies") == 0 {
		r.world.fuse = rapid.IntRange(0, 12).Draw(m.t, "fuse")
	}
	if r.survive(m.act) {
		m.reborn()
	}
}

// reborn starts the process again, which may die again while settling. What was not synced may be lost.
func (m *model) reborn() {
	r := m.r
	for {
		if r.e.j != nil {
			r.e.j.f.Close()
		}
		if info, err := os.Stat(r.path()); err == nil && info.Size() > r.synced && r.synced > 0 {
			if err := os.Truncate(r.path(), rapid.Int64Range(r.synced, info.Size()).Draw(m.t, "torn")); err != nil {
				m.t.Fatal(err)
			}
		}
		if rapid.IntRange(0, 5).Draw(m.t, "boot") == 0 {
			m.next++
			r.boot = fmt.Sprintf("boot-%d", m.next)
		}
		r.advance(time.Duration(rapid.IntRange(0, 40).Draw(m.t, "down")) * time.Second)
		if rapid.IntRange(0, 3).Draw(m.t, "again") == 0 {
			r.world.fuse = rapid.IntRange(0, 4).Draw(m.t, "fuse")
		}
		if !r.survive(r.open) {
			return
		}
	}
}

func (m *model) act() {
	r, ctx := m.r, context.Background()
	target := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(m.t, "target")
	switch rapid.IntRange(0, 13).Draw(m.t, "act") {
	case 0, 1, 2, 3:
		m.next++
		c := r.command(target, 1007+10*m.next)
		if rapid.IntRange(0, 5).Draw(m.t, "old") == 0 && r.serial > 8 {
			c.Fence.Revision = r.serial - 8
		}
		if rapid.Bool().Draw(m.t, "gradual") {
			c.Release = command.Release{Step: 50, Every: 5 * time.Second}
		}
		m.deliver(c)
	case 4, 5, 6:
		if len(m.sent) > 0 {
			r.deliver(rapid.SampledFrom(m.sent).Draw(m.t, "again").env)
		}
	case 7, 8:
		if len(m.sent) > 0 {
			kind := rapid.SampledFrom([]command.Kind{command.Renew, command.Revert}).Draw(m.t, "kind")
			m.deliver(r.other(kind, rapid.SampledFrom(m.sent).Draw(m.t, "of").c.ID))
		}
	case 9, 10:
		r.tick(time.Duration(rapid.IntRange(1, 30).Draw(m.t, "seconds")) * time.Second)
	case 11:
		m.foreign++
		v := 20003 + 10*m.foreign
		r.world.values[cgroup(target).String()] = v
		m.baseline[target] = v
	case 12:
		if r.killed == "" {
			r.killed = "kill file"
		} else {
			r.killed = ""
		}
		r.e.setKillFile(ctx, r.killed)
	case 13:
		for _, x := range r.e.s.snapshot().Results {
			r.e.ack(x.ID, x.Ordinal)
		}
	}
}

func (m *model) deliver(c command.Command) {
	env := m.r.sign(c)
	m.sent = append(m.sent, sentCommand{c, env})
	m.r.deliver(env)
}

func (m *model) check() {
	for v, n := range m.r.world.writes {
		if v%10 == 7 && n > 1 {
			m.t.Fatalf("the command with value %d was run %d times", v, n)
		}
	}
	refused := map[string]bool{}
	applied := map[string]bool{}
	type said struct {
		id    string
		phase command.Phase
	}
	ordinals := map[uint32]said{}
	for _, x := range m.r.results {
		is := said{x.ID, x.Phase}
		if was, ok := ordinals[x.Ordinal]; ok && was != is {
			m.t.Fatalf("ordinal %d stands for %v and %v", x.Ordinal, was, is)
		}
		ordinals[x.Ordinal] = is
		refused[x.ID] = refused[x.ID] || x.Phase == command.Refused || x.Phase == command.NotApplied
		applied[x.ID] = applied[x.ID] || x.Phase == command.Applied
	}
	for _, s := range m.sent {
		n := m.r.world.writes[s.c.Action.Value]
		if s.c.Kind == command.Apply && refused[s.c.ID] && n != 0 && applied[s.c.ID] {
			m.t.Fatalf("command %s was refused and applied", s.c.ID)
		}
		if s.c.Kind == command.Apply && applied[s.c.ID] && n != 1 {
			m.t.Fatalf("command %s was reported as applied and written %d times", s.c.ID, n)
		}
	}
}

// finish lets everything run out and looks at the host.
func (m *model) finish() {
	r := m.r
	r.world.fuse = -1
	r.restart()
	r.tick(3 * time.Minute)
	m.check()
	if n := len(r.e.s.Leases); n != 0 {
		m.t.Fatalf("%d leases are still held: %+v", n, r.e.s.Leases)
	}
	for target, want := range m.baseline {
		if got := r.value(target); got != want {
			m.t.Fatalf("cgroup %s holds %d in the end, %d stood there before", target, got, want)
		}
	}
}
