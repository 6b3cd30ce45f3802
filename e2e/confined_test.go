//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// The real actor keeps the capabilities that its permissions need and no other, and says so; with no agent at all it goes on
// holding, answers for itself, and takes everything back when the lease ends. Its audit log tells all of it, and holds together.
func TestActorWithoutAgentAndPrivileges(t *testing.T) {
	cpu := rig.CPU(t)
	group := cpu.Group(t, "batch")
	target := command.Target{Cgroup: group.Path}
	a := rig.NewActor(t, rig.Grant("cpu.weight", target, 10, 100))
	a.Start(t)
	peer := a.Dial(t) // it answers nobody before it has given up what it does not need
	status := func(key string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID()))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && k == key {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	const dacOverride = "0000000000000002"
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		if got := status(set); got != dacOverride {
			t.Errorf("%s is %s, want CAP_DAC_OVERRIDE alone", set, got)
		}
	}
	if status("NoNewPrivs") != "1" || status("Seccomp") != "2" {
		t.Errorf("new privileges: %s, seccomp: %s", status("NoNewPrivs"), status("Seccomp"))
	}

	weight := group.Weight()
	c := peer.Do(t, a, command.Action{Name: "cpu.weight", Target: target, Value: 20}, 6*time.Second)
	peer.Close() // the agent is dead
	capabilities := func() actor.Capabilities {
		t.Helper()
		var caps actor.Capabilities
		if err := json.Unmarshal([]byte(rig.Must(t, a.Binary, "capabilities", "--config", a.Config, "-o", "json")), &caps); err != nil {
			t.Fatal(err)
		}
		return caps
	}
	caps := capabilities()
	if !caps.Running || len(caps.Leases) != 1 || caps.Leases[0].ID != c.ID || caps.Process == nil || caps.Audit == nil {
		t.Fatalf("%+v", caps)
	}
	if k := caps.Process.Capabilities; len(k) != 1 || k[0].Name != "CAP_DAC_OVERRIDE" || !strings.Contains(k[0].Why, "cpu.weight") {
		t.Errorf("it says that it keeps %+v", k)
	}
	t.Logf("%+v", *caps.Process)
	if got := group.Read(t, weight); got != weight.Text(20) {
		t.Errorf("the weight reads %s", got)
	}

	// An action that is permitted now and needs what was given up is denied until the actor is started anew.
	a.Allow(t, "", "R2", rig.Grant("cpu.weight", target, 10, 100), rig.Grant("process.affinity", target, 50, 100))
	rig.Until(t, 5*time.Second, "the new permission counts as one that cannot be used", func() string {
		for _, x := range capabilities().Cannot {
			if x.Action == "process.affinity" && strings.Contains(x.Why, "CAP_SYS_NICE") && strings.Contains(x.Why, "restart evenkeel-actor") {
				return ""
			}
		}
		return fmt.Sprint(capabilities().Cannot)
	})
	peer = a.Dial(t)
	denied := a.Authority.Apply(t, a, peer.Incarnation(), command.Action{Name: "process.affinity", Target: target, Value: 50}, time.Minute)
	peer.Send(t, a.Authority.Sign(t, denied))
	if r := peer.Await(t, denied.ID, command.Refused, 5*time.Second); r.Reason != command.ReasonDenied || !strings.Contains(r.Detail, "restart evenkeel-actor") {
		t.Errorf("%+v", r)
	}
	peer.Close()

	rig.Until(t, 15*time.Second, "the lease ends without an agent", func() string {
		if got := group.Read(t, weight); got != weight.Neutral {
			return got
		}
		return ""
	})
	head := capabilities().Audit
	a.Stop(t, 10*time.Second)
	log := filepath.Join(a.StateDir, "audit", "audit.jsonl")
	out := rig.Must(t, rig.Binary(t, "evenkeel"), "audit", "verify", "--head", fmt.Sprintf("%d:%s", head.Seq, head.Hash), log)
	t.Log(out)
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"what":"start"`, `"what":"applied","subject":"` + c.ID, `"what":"reverted","subject":"` + c.ID, `"outcome":"denied"`, `"what":"stop"`, `"who":"collector collector-1 (`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the audit log has no %s:\n%s", want, b)
		}
	}
	if err := os.WriteFile(log, []byte(strings.Replace(string(b), "denied", "doneee", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := rig.Run(t, rig.Binary(t, "evenkeel"), "audit", "verify", log); code != 1 || !strings.Contains(errs, "line ") {
		t.Errorf("a changed log: exit code %d\n%s%s", code, out, errs)
	}
}
