//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Whatever is wrong with a command, the real actor refuses it with its reason, and strace sees no attempt to write to a
// cgroup or to set a CPU mask; the same command as it was signed is carried out, once.
func TestForgeriesAreRefused(t *testing.T) {
	cpu := rig.CPU(t)
	batch, other := cpu.Group(t, "batch"), cpu.Group(t, "other")
	target := command.Target{Cgroup: batch.Path}
	load := rig.StartCmd(t, rig.Helper(t, "spin"))
	batch.Add(t, load.PID())
	a := rig.NewActor(t, rig.Grant("cpu.weight", target, 10, 100), rig.Grant("process.affinity", target, 50, 100))
	trace := rig.NewTrace(t)
	a.Under(trace.Wrap()...)
	a.Start(t)
	peer := a.Dial(t)

	auth, now := a.Authority, time.Now()
	weight := command.Action{Name: "cpu.weight", Target: target, Value: 20}
	affinity := command.Action{Name: "process.affinity", Target: target, Value: 50}
	apply := func(action command.Action) command.Command {
		return auth.Apply(t, a, peer.Incarnation(), action, time.Minute)
	}
	with := func(change func(*command.Command)) command.Command {
		c := apply(weight)
		change(&c)
		return c
	}
	sign := func(c command.Command, keys ...command.Key) command.Envelope {
		e, err := command.Sign(c, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	signed := func(change func(*command.Command)) command.Envelope { return auth.Sign(t, with(change)) }
	stranger := rig.NewAuthority(t)
	flip := func(e command.Envelope) command.Envelope {
		e.Body = bytes.Clone(e.Body)
		e.Body[len(e.Body)/2] ^= 1
		return e
	}

	// Two commands that pass: for the replays, and as the proof that strace sees what there is to see.
	good := apply(weight)
	genuine := auth.Sign(t, good)
	peer.Send(t, genuine)
	peer.Await(t, good.ID, command.Applied, 5*time.Second)
	passed := apply(affinity)
	peer.Send(t, auth.Sign(t, passed))
	peer.Await(t, passed.ID, command.Applied, 5*time.Second)
	rig.Until(t, 5*time.Second, "strace sees the writes of the commands that pass", func() string {
		if w := trace.Writes(t); !strings.Contains(strings.Join(w, "\n"), batch.Weight().File) || !strings.Contains(strings.Join(w, "\n"), "sched_setaffinity") {
			return strings.Join(w, "\n")
		}
		return ""
	})
	before := trace.Writes(t)

	for _, tt := range []struct {
		name  string
		want  command.Reason
		made  command.Envelope
		named bool // the result carries the command's own id
	}{
		{"unsigned", command.ReasonUnsigned, command.Envelope{Body: auth.Sign(t, apply(weight)).Body}, false},
		{"another key", command.ReasonUnknownKey, sign(apply(weight), stranger.Key), false},
		{
			"another key under the certificate of the right one", command.ReasonUnknownKey,
			sign(apply(weight), command.Key{Private: rig.NewKey(t), Certificate: auth.Key.Certificate}), false,
		},
		{"a body changed after signing", command.ReasonBadSignature, flip(auth.Sign(t, apply(weight))), false},
		{
			"key certificate expired", command.ReasonKeyExpired,
			sign(apply(weight), auth.Certify(t, rig.NewKey(t), now.Add(-2*time.Hour), now.Add(-time.Hour), command.R2)), false,
		},
		{
			"key certificate not by the root", command.ReasonUnknownKey,
			sign(apply(weight), stranger.Certify(t, rig.NewKey(t), now.Add(-time.Hour), now.Add(time.Hour), command.R2)), false,
		},
		{
			"key certified for less risk", command.ReasonRiskNeedsApprover,
			sign(apply(weight), auth.Certify(t, rig.NewKey(t), now.Add(-time.Hour), now.Add(time.Hour), command.R0)), false,
		},
		{"risk that needs an approver", command.ReasonRiskNeedsApprover, signed(func(c *command.Command) { c.Risk = command.R3 }), false},
		{"another host", command.ReasonWrongHost, signed(func(c *command.Command) { c.Host = "host-2" }), false},
		{"another incarnation", command.ReasonWrongIncarnation, signed(func(c *command.Command) { c.ActorIncarnation = "0123456789ab" }), false},
		{"expired", command.ReasonExpired, signed(func(c *command.Command) {
			c.Issued, c.Expires = now.Add(-time.Minute), now.Add(-30*time.Second)
		}), true},
		{"issued in the future", command.ReasonNotYetValid, signed(func(c *command.Command) {
			c.Issued, c.Expires = now.Add(time.Hour), now.Add(2*time.Hour)
		}), true},
		{"same id, other body", command.ReasonReplayed, signed(func(c *command.Command) { c.ID = good.ID }), false},
		{"old fence", command.ReasonOldFence, signed(func(c *command.Command) { c.Fence = good.Fence }), true},
		{"fence of an older incarnation", command.ReasonOldFence, signed(func(c *command.Command) { c.Fence.Incarnation = 0 }), true},
		{"action that is not permitted", command.ReasonDenied, signed(func(c *command.Command) { c.Action.Name, c.Risk = "cpu.quota", command.R2 }), true},
		{"action that cannot be taken back", command.ReasonRiskNeedsApprover, signed(func(c *command.Command) { c.Action.Name = "unit.restart" }), false},
		{"target that is not permitted", command.ReasonDenied, signed(func(c *command.Command) { c.Action.Target.Cgroup = other.Path }), true},
		{"value under the range", command.ReasonDenied, signed(func(c *command.Command) { c.Action.Value = 9 }), true},
		{"value over the range", command.ReasonDenied, signed(func(c *command.Command) { c.Action.Value = 101 }), true},
		{"lease over the limit", command.ReasonDenied, signed(func(c *command.Command) { c.Lease = 11 * time.Minute }), true},
		{"affinity outside its range", command.ReasonDenied, auth.Sign(t, func() command.Command {
			c := apply(affinity)
			c.Action.Value = 49
			return c
		}()), true},
		{"permissions that were another file", command.ReasonPermissionsChanged, signed(func(c *command.Command) {
			c.PermissionsHash = bytes.Repeat([]byte{7}, 32)
		}), true},
		{"expected prior that is not there", command.ReasonPriorDiffers, signed(func(c *command.Command) { c.ExpectedPrior = "7" }), true},
		{"renewal of what is not held", command.ReasonUnknownCommand, auth.Sign(t, command.Command{
			ID: ulid.Make().String(), Kind: command.Renew, Host: a.Host, ActorIncarnation: peer.Incarnation(), Of: ulid.Make().String(), Counter: 1,
			Issued: now, Expires: now.Add(20 * time.Second), Lease: time.Minute, Risk: command.R1,
		}), true},
	} {
		id := actor.StrangerID(tt.made)
		if tt.named {
			c, err := command.ParseBody(tt.made.Body)
			if err != nil {
				t.Fatal(err)
			}
			id = c.ID
		}
		peer.Send(t, tt.made)
		if r := peer.Await(t, id, command.Refused, 10*time.Second); r.Reason != tt.want || r.Detail == "" {
			t.Errorf("%s: refused as %q (%s), want %q", tt.name, r.Reason, r.Detail, tt.want)
		}
	}

	// The same bytes again: the answer is that of the first time, and nothing is done.
	said := len(peer.Results(good.ID))
	peer.Send(t, genuine)
	rig.Until(t, 10*time.Second, "the replay is answered", func() string {
		r := peer.Results(good.ID)
		if len(r) == said {
			return "no answer"
		}
		if last := r[len(r)-1]; last.Phase != command.Applied || last.Ordinal != r[said-1].Ordinal {
			t.Fatalf("the replay was answered with %+v", last)
		}
		return ""
	})

	// A permissions file that others may write denies everything.
	if err := os.Chmod(a.Permissions, 0o666); err != nil {
		t.Fatal(err)
	}
	denied := auth.Sign(t, apply(weight))
	peer.Send(t, denied)
	if r := peer.Await(t, actor.StrangerID(denied), command.Refused, 10*time.Second); r.Reason != command.ReasonPermissionsBad {
		t.Errorf("with a permissions file that others may write: refused as %q", r.Reason)
	}
	if err := os.Chmod(a.Permissions, 0o644); err != nil {
		t.Fatal(err)
	}

	if after := trace.Writes(t); len(after) != len(before) {
		t.Errorf("the forgeries led to writes:\n%s", strings.Join(after[len(before):], "\n"))
	}
	if got := batch.Read(t, batch.Weight()); got != batch.Weight().Text(20) {
		t.Errorf("the weight reads %s", got)
	}
	if got := other.Read(t, other.Weight()); got != other.Weight().Neutral {
		t.Errorf("the other group's weight reads %s", got)
	}

	// And a fresh one passes as before.
	final := apply(command.Action{Name: "cpu.weight", Target: target, Value: 30})
	peer.Send(t, auth.Sign(t, final))
	peer.Await(t, final.ID, command.Applied, 5*time.Second)
}

// A command that was recorded on one host is void after the actor's journal was lost: no replay across incarnations.
func TestLostJournalVoidsOldCommands(t *testing.T) {
	s := newSqueeze(t)
	weight := s.group.Weight()
	s.actor.Start(t)
	peer := s.actor.Dial(t)
	old := s.actor.Authority.Apply(t, s.actor, peer.Incarnation(), s.action(weight, 10), time.Minute)
	s.actor.Stop(t, 5*time.Second)
	if err := os.Remove(filepath.Join(s.actor.StateDir, "journal")); err != nil {
		t.Fatal(err)
	}
	s.actor.Start(t)
	peer = s.actor.Dial(t)
	e := s.actor.Authority.Sign(t, old)
	peer.Send(t, e)
	if r := peer.Await(t, actor.StrangerID(e), command.Refused, 10*time.Second); r.Reason != command.ReasonWrongIncarnation {
		t.Errorf("refused as %q, want %q", r.Reason, command.ReasonWrongIncarnation)
	}
	s.expect(t, weight, weight.Neutral, "after the replay")
}

// What the actor refuses is told to the collector by the agent that hears it, and stands in the audit log with its
// reason: an unsigned command, and one signed by another cluster's key.
func TestRefusalsReachTheAuditLog(t *testing.T) {
	g := rig.CPU(t).Group(t, "batch")
	target := command.Target{Cgroup: g.Path}
	permissions := filepath.Join(rig.Folder(t), "permissions.yaml")
	rig.Write(t, permissions, rig.PermissionsText("FROM-ENROLMENT", rig.Grant("cpu.weight", target, 10, 100)))
	c := rig.Dev(t, "host-1", "--actor", "--permissions", permissions)
	reaches(t, c.API(t), "host-1", 30*time.Second, "connected")

	stranger := rig.NewAuthority(t)
	// The stranger is root on the host and may write to the socket; the agent stays the one who hears the answers.
	h := &rig.Actor{Host: "host-1", Permissions: filepath.Join(c.Folder, "permissions.yaml"), Socket: filepath.Join(c.Folder, "actor", "actor.sock")}
	peer := rig.Connect(t, h.Socket)
	forged := stranger.Sign(t, stranger.Apply(t, h, "0123456789ab", command.Action{Name: "cpu.weight", Target: target, Value: 20}, time.Minute))
	unsigned := command.Envelope{Body: append([]byte{}, forged.Body...)}
	peer.Send(t, unsigned)
	peer.Send(t, forged)
	for _, want := range []command.Reason{command.ReasonUnsigned, command.ReasonUnknownKey} {
		rig.Until(t, 15*time.Second, "the audit log says "+string(want), func() string {
			out, errs, code := c.Evenkeel(t, "audit", "-o", "json")
			if code != 0 || !strings.Contains(out, string(want)) {
				return out + errs
			}
			return ""
		})
	}
	if got := g.Read(t, g.Weight()); got != g.Weight().Neutral {
		t.Errorf("the weight reads %s", got)
	}
}
