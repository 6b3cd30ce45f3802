//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Under a real systemd the shipped actor stops, starts and restarts a service by approved command: the job's result is
// awaited, the service has a new invocation, and what can be taken back is, at the end of the lease, by the kill file, and
// where somebody else started the service meanwhile not at all. A collector alone can do none of it.
func TestUnits(t *testing.T) {
	rig.Container(t, "units", 3*time.Minute)
}

func insideUnits(t *testing.T) {
	auth, approver := rig.NewAuthority(t), rig.NewKey(t)
	unit := command.Target{Unit: "batch.service"}
	a := &rig.Actor{
		Host: "host-1", Config: actor.DefaultConfig, Permissions: "/etc/evenkeel/permissions.yaml", KillFile: "/etc/evenkeel/kill",
		StateDir: "/var/lib/evenkeel-actor", Socket: "/var/lib/evenkeel-actor/actor.sock", Binary: "/usr/bin/evenkeel-actor", Authority: auth,
	}
	a.Allow(t, command.FormatPublicKey(approver.Public().(ed25519.PublicKey)), "R3",
		rig.Grant("unit.stop", unit, 1, 1), rig.Grant("unit.start", unit, 1, 1), strings.Replace(rig.Grant("unit.restart", unit, 1, 1), "maxLease: 10m, ", "", 1),
		rig.Grant("unit.stop", command.Target{Unit: "evenkeel-actor.service"}, 1, 1), rig.Grant("pids.max", unit, 1, 1000))
	rig.Write(t, a.Config, "host: host-1\n")
	rig.Write(t, "/etc/systemd/system/batch.service", strings.Replace(batchUnit, "%s", rig.Inside, 1))
	rig.Must(t, "systemctl", "daemon-reload")
	rig.Must(t, "systemctl", "start", "batch.service", "evenkeel-actor.service")
	rig.Until(t, time.Minute, "the actor answers", func() string {
		if _, err := actor.AskCapabilities(a.Socket, 5*time.Second); err != nil {
			return err.Error()
		}
		return ""
	})
	caps, err := actor.AskCapabilities(a.Socket, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("can %+v\ncannot %+v\nkeeps %+v", caps.Can, caps.Cannot, caps.Process)
	active, invocation := func() string { return property(t, unit.Unit, "ActiveState") }, func() string { return property(t, unit.Unit, "InvocationID") }
	becomes := func(want string, patience time.Duration) {
		t.Helper()
		rig.Until(t, patience, "the service is "+want, func() string {
			if got := active(); got != want {
				return got
			}
			return ""
		})
	}
	peer := a.Dial(t)
	signed := func(name string, lease time.Duration) (command.Command, command.Envelope) {
		c := auth.Apply(t, a, peer.Incarnation(), command.Action{Name: name, Target: unit, Value: 1}, lease)
		return c, auth.Sign(t, c)
	}
	approved := func(name string, lease time.Duration) command.Command {
		t.Helper()
		c, e := signed(name, lease)
		e, err := e.WithApproval(approver.Public().(ed25519.PublicKey), command.Approve(e.Body, approver).Sig)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		peer.Send(t, e)
		r := peer.Await(t, c.ID, command.Applied, 15*time.Second)
		t.Logf("%s: %s, was %s, after %s", name, r.Value, r.Prior, time.Since(began).Round(time.Millisecond))
		return c
	}

	_, alone := signed("unit.stop", time.Minute)
	peer.Send(t, alone)
	if r := peer.Await(t, actor.StrangerID(alone), command.Refused, 5*time.Second); r.Reason != command.ReasonRiskNeedsApprover || active() != "active" {
		t.Fatalf("by a collector alone: %+v, the service is %s", r, active())
	}

	before := invocation()
	c := approved("unit.stop", 4*time.Second)
	becomes("inactive", time.Second)
	peer.Await(t, c.ID, command.Reverted, 15*time.Second)
	becomes("active", time.Second)
	if invocation() == before {
		t.Error("it runs under the old invocation")
	}

	before = invocation()
	approved("unit.restart", 0)
	if active() != "active" || invocation() == before {
		t.Errorf("after its restart it is %s, invocation %s", active(), invocation())
	}
	if caps, err := actor.AskCapabilities(a.Socket, 5*time.Second); err != nil || len(caps.Leases) != 0 {
		t.Errorf("a restart is held: %+v %v", caps.Leases, err)
	}

	c = approved("unit.stop", 5*time.Minute)
	rig.Must(t, "systemctl", "start", unit.Unit) // somebody wants it
	theirs := invocation()
	peer.Send(t, auth.Sign(t, command.Command{
		ID: ulid.Make().String(), Kind: command.Revert, Host: a.Host, ActorIncarnation: peer.Incarnation(), Of: c.ID, Issued: time.Now(), Expires: time.Now().Add(20 * time.Second), Risk: command.R2,
	}))
	peer.Await(t, c.ID, command.Drifted, 15*time.Second)
	if active() != "active" || invocation() != theirs {
		t.Errorf("somebody else's start was touched: %s", active())
	}

	c = approved("unit.stop", 5*time.Minute)
	rig.Write(t, a.KillFile, "")
	peer.Await(t, c.ID, command.Reverted, 15*time.Second)
	becomes("active", time.Second)
	rig.Must(t, "rm", a.KillFile)

	rig.Must(t, "systemctl", "stop", unit.Unit)
	rig.Until(t, 5*time.Second, "the kill file is gone for the actor too", func() string {
		if caps, err := actor.AskCapabilities(a.Socket, 5*time.Second); err != nil || caps.Killed != "" {
			return "killed"
		}
		return ""
	})
	c = approved("unit.start", 4*time.Second)
	becomes("active", time.Second)
	peer.Await(t, c.ID, command.Reverted, 15*time.Second)
	becomes("inactive", time.Second)

	// A property that systemd accepts and no kernel file follows is no effect; one that a file follows is taken back.
	rig.Must(t, "systemctl", "start", unit.Unit)
	prop := auth.Apply(t, a, peer.Incarnation(), command.Action{Name: "pids.max", Target: unit, Value: 200}, 3*time.Second)
	peer.Send(t, auth.Sign(t, prop))
	rig.Until(t, 10*time.Second, "the actor answers", func() string {
		for _, r := range peer.Results(prop.ID) {
			switch r.Phase {
			case command.Applied:
				t.Logf("pids.max: %s, was %s", r.Value, r.Prior)
				return ""
			case command.Refused, command.Failed:
				t.Logf("pids.max: %s as %s: %s", r.Phase, r.Reason, r.Detail)
				switch r.Reason {
				case command.ReasonNoEffect, command.ReasonNotReversible, command.ReasonNoTarget:
				default:
					t.Errorf("%+v", r)
				}
				return ""
			}
		}
		return "no answer"
	})
	rig.Until(t, 15*time.Second, "systemd's property is as before", func() string {
		if got := property(t, unit.Unit, "TasksMax"); got == "200" {
			return got
		}
		return ""
	})
}
