//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// On a kernel with cgroups of version 2, weight and quota are written, seen to work (the group is throttled), and given
// back: at the end of the lease, by the kill file, by a clean stop, and offline after a crash.
func TestCgroupsOfVersion2(t *testing.T) {
	rig.PlainVM(t, "^TestActor(LeaseEnds|KillFile|Leaves|Reverts)", 3*time.Minute)
}

// The same kernel for all other actions on groups, their processes and the host.
func TestCatalogueOfVersion2(t *testing.T) {
	rig.PlainVM(t, "^TestActor(Catalogue|Thaws|Freeze|Sysctl|Plugin|KillsA|Relieves)", 4*time.Minute)
}

// Under a systemd that has a cpu controller, the shipped actor unit changes a unit through systemd, the kernel's file
// says so too, and the change ends with its lease, with the unit's stop, and by ExecStopPost after the actor was killed.
func TestSystemdWithCPUController(t *testing.T) {
	rig.SystemdVM(t, "systemd", 4*time.Minute)
}

// Under a systemd that accepts and reports settings which no kernel file follows, as in a container without the cpu
// controller, the shipped actor says that there was no effect or that it cannot act, and leaves systemd's setting as it
// was. The shipped units are free of mistakes and within their bounds of exposure.
func TestSystemdWithoutCPUController(t *testing.T) {
	rig.Container(t, "systemd", 2*time.Minute)
}

// insides are the tests that run inside a machine.
var insides = map[string]func(*testing.T){
	"approval": insideApproval, "drop-ins": insideDropIns, "ipvs": insideIPVS, "systemd": insideSystemd, "traffic": insideTraffic, "units": insideUnits,
}

const batchUnit = `[Service]
ExecStart=%s/e2e.test
Environment=EK2E_HELPER=spin
`

func insideSystemd(t *testing.T) {
	if os.Getenv("EK2E_CPU") != "present" { // once is enough, where it is quick
		t.Run("units", shippedUnits)
	}
	auth := rig.NewAuthority(t)
	unit := command.Target{Unit: "batch.service"}
	a := &rig.Actor{
		Host: "host-1", Config: actor.DefaultConfig, Permissions: "/etc/evenkeel/permissions.yaml", KillFile: "/etc/evenkeel/kill",
		StateDir: "/var/lib/evenkeel-actor", Socket: "/var/lib/evenkeel-actor/actor.sock", Binary: "/usr/bin/evenkeel-actor", Authority: auth,
	}
	rig.Write(t, a.Permissions, rig.PermissionsText(auth.Root(), rig.Grant("cpu.weight", unit, 1, 1000), rig.Grant("cpu.quota", unit, 1, 400),
		rig.Grant("unit.tasks-max", unit, 1, 1000), rig.Grant("unit.memory-high", unit, 16, 4096),
		rig.Grant("memory.high", unit, 16, 4096), rig.Grant("memory.limit", unit, 16, 4096), rig.Grant("pids.max", unit, 1, 1000), rig.Grant("cpu.idle", unit, 1, 1),
		rig.Grant("process.nice", unit, 1, 19), rig.Grant("process.sched", unit, 1, 2), rig.Grant("process.ionice", unit, 0, 8), rig.Grant("process.oom", unit, 1, 1000)))
	rig.Write(t, a.Config, "host: host-1\n")
	rig.Write(t, "/etc/systemd/system/batch.service", fmt.Sprintf(batchUnit, rig.Inside))
	rig.Must(t, "systemctl", "daemon-reload")
	rig.Must(t, "systemctl", "start", "batch.service", "evenkeel-actor.service")
	rig.Until(t, time.Minute, "the actor listens", func() string {
		if _, err := os.Stat(a.Socket); err != nil {
			return err.Error()
		}
		return ""
	})
	if os.Getenv("EK2E_CPU") == "present" {
		t.Run("effect", func(t *testing.T) { unitsWithController(t, a, unit) })
	} else {
		t.Run("honesty", func(t *testing.T) { unitsWithoutController(t, a, unit) })
	}
}

// shippedUnits has systemd read the units that packages will install.
func shippedUnits(t *testing.T) {
	files, err := filepath.Glob("/etc/systemd/system/evenkeel-*.service")
	if err != nil || len(files) < 2 {
		t.Fatalf("units: %v, %v", files, err)
	}
	most := map[string]string{"evenkeel-actor.service": "45", "evenkeel-agent.service": "25", "evenkeel-collector.service": "25", "evenkeel-agent-check.service": "15"}
	for _, f := range files {
		name := filepath.Base(f)
		if _, err := os.Stat("/usr/bin/" + strings.TrimSuffix(name, ".service")); err != nil {
			rig.Write(t, "/usr/bin/"+strings.TrimSuffix(name, ".service"), "#!/bin/sh\n") // verify wants to see a program
			if err := os.Chmod("/usr/bin/"+strings.TrimSuffix(name, ".service"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, errs, code := rig.Run(t, "systemd-analyze", "verify", "--man=no", f); code != 0 || strings.Contains(out+errs, name) {
			t.Errorf("systemd-analyze verify %s: exit code %d\n%s%s", name, code, out, errs)
		}
		out, errs, code := rig.Run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+most[name], f)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 {
			t.Errorf("systemd-analyze security %s: over %s\n%s%s", name, most[name], out, errs)
		}
		t.Log(lines[len(lines)-1])
	}
}

func property(t *testing.T, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(rig.Must(t, "systemctl", "show", "--value", "-p", name, unit))
}

// unitsWithController sees every change in the kernel's file and in systemd's own word.
func unitsWithController(t *testing.T, a *rig.Actor, unit command.Target) {
	h := rig.CPU(t)
	g := rig.Group{Hierarchy: h, Path: property(t, unit.Unit, "ControlGroup")}
	weight, quota := h.Weight(), h.Quota()
	kernel := func(k rig.Knob) string {
		b, err := os.ReadFile(g.File(k.File))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return k.Neutral // systemd takes the controller from a slice in which no unit asks for it
		case err != nil:
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	returns := func(k rig.Knob, patience time.Duration, what string) {
		t.Helper()
		rig.Until(t, patience, what, func() string {
			if now := kernel(k); now != k.Neutral {
				return k.File + " reads " + now
			}
			return ""
		})
	}
	t.Logf("%s at first: %s; %s", weight.File, kernel(weight), property(t, unit.Unit, "CPUWeight"))
	peer := a.Dial(t)
	c := peer.Do(t, a, command.Action{Name: "cpu.weight", Target: unit, Value: 20}, 20*time.Second)
	if got := kernel(weight); got != "20" {
		t.Errorf("the kernel's weight reads %s, want 20", got)
	}
	if got := property(t, unit.Unit, "CPUWeight"); got != "20" {
		t.Errorf("systemd's weight reads %s, want 20", got)
	}
	rig.Must(t, "systemctl", "daemon-reload") // systemd keeps what it was told
	if got := kernel(weight); got != "20" {
		t.Errorf("after a reload the kernel's weight reads %s, want 20", got)
	}
	returns(weight, time.Minute, "the lease ends")
	peer.Await(t, c.ID, command.Reverted, 5*time.Second)
	if got := property(t, unit.Unit, "CPUWeight"); got != "[not set]" {
		t.Errorf("systemd's weight reads %s after the lease", got)
	}

	// Properties of the unit, as the kernel's own files have them.
	for _, x := range []struct {
		action, file, property, want, said string
		value                              int64
	}{
		{"unit.tasks-max", "pids.max", "TasksMax", "300", "300", 300},
		{"unit.memory-high", "memory.high", "MemoryHigh", "134217728", "134217728", 128},
		{"cpu.idle", "cpu.idle", "CPUWeight", "1", "idle", 1},
		{"pids.max", "pids.max", "TasksMax", "300", "300", 300},
		{"memory.high", "memory.high", "MemoryHigh", "134217728", "134217728", 128},
		{"memory.limit", "memory.max", "MemoryMax", "268435456", "268435456", 256},
	} {
		k := rig.Knob{File: x.file}
		b, err := os.ReadFile(g.File(x.file))
		if err != nil {
			t.Fatal(err)
		}
		k.Neutral = strings.TrimSpace(string(b))
		was := property(t, unit.Unit, x.property)
		c := peer.Do(t, a, command.Action{Name: x.action, Target: unit, Value: x.value}, 10*time.Second)
		if got, said := kernel(k), property(t, unit.Unit, x.property); got != x.want || said != x.said {
			t.Errorf("%s: the kernel's %s reads %s, systemd says %s, want %s and %s", x.action, x.file, got, said, x.want, x.said)
		}
		returns(k, time.Minute, "the lease of "+x.action+" ends")
		peer.Await(t, c.ID, command.Reverted, 5*time.Second)
		if got := property(t, unit.Unit, x.property); got != was {
			t.Errorf("systemd's %s reads %s after the lease, was %s", x.property, got, was)
		}
	}

	// Priorities of its processes, from within the bounds of the shipped unit.
	pid, err := strconv.Atoi(property(t, unit.Unit, "MainPID"))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		action string
		value  int64
		read   func(pid int) string
		want   string
	}{
		{"process.nice", 12, statField(19), "12"},
		{"process.sched", 2, statField(41), "5"},
		{"process.ionice", 8, ionice, "idle"},
		{"process.oom", 700, func(pid int) string { return rig.Read(t, fmt.Sprintf("/proc/%d/oom_score_adj", pid)) }, "700"},
	} {
		was := x.read(pid)
		c := peer.Do(t, a, command.Action{Name: x.action, Target: unit, Value: x.value}, 5*time.Second)
		if got := x.read(pid); got != x.want {
			t.Errorf("%s: the process has %q, want %q", x.action, got, x.want)
		}
		peer.Await(t, c.ID, command.Reverted, 30*time.Second)
		if got := x.read(pid); got != was {
			t.Errorf("%s: the process is left with %q, had %q", x.action, got, was)
		}
	}

	peer.Do(t, a, command.Action{Name: "cpu.quota", Target: unit, Value: 30}, 5*time.Minute)
	if got := kernel(quota); got != "30000 100000" {
		t.Errorf("the kernel's quota reads %s", got)
	}
	before := g.Throttled(t)
	rig.Until(t, 10*time.Second, "the quota throttles", func() string {
		if g.Throttled(t) < before+3 {
			return "nr_throttled does not grow"
		}
		return ""
	})
	rig.Must(t, "systemctl", "kill", "--signal=KILL", "evenkeel-actor.service")
	returns(quota, time.Minute, "ExecStopPost takes back what a killed actor left")
	if got := property(t, unit.Unit, "CPUQuotaPerSecUSec"); got != "infinity" {
		t.Errorf("systemd's quota reads %s after ExecStopPost", got)
	}
	rig.Until(t, time.Minute, "systemd starts the actor again", func() string {
		if got := property(t, "evenkeel-actor.service", "ActiveState"); got != "active" {
			return got
		}
		if _, err := actor.AskCapabilities(a.Socket, 5*time.Second); err != nil {
			return err.Error()
		}
		return ""
	})
	a.Dial(t).Do(t, a, command.Action{Name: "cpu.weight", Target: unit, Value: 50}, 5*time.Minute)
	rig.Must(t, "systemctl", "stop", "evenkeel-actor.service")
	returns(weight, time.Second, "a clean stop takes everything back")
	if got := property(t, unit.Unit, "CPUWeight"); got != "[not set]" {
		t.Errorf("systemd's weight reads %s after a clean stop", got)
	}
}

// unitsWithoutController sees that the actor believes the kernel and not the call that succeeded.
func unitsWithoutController(t *testing.T, a *rig.Actor, unit command.Target) {
	peer := a.Dial(t)
	for _, x := range []struct {
		action, property, neutral string
		value                     int64
	}{{"cpu.weight", "CPUWeight", "[not set]", 20}, {"cpu.quota", "CPUQuotaPerSecUSec", "infinity", 30}} {
		c := a.Authority.Apply(t, a, peer.Incarnation(), command.Action{Name: x.action, Target: unit, Value: x.value}, time.Minute)
		peer.Send(t, a.Authority.Sign(t, c))
		var last command.Result
		rig.Until(t, 10*time.Second, "the actor answers", func() string {
			for _, r := range peer.Results(c.ID) {
				switch r.Phase {
				case command.Applied:
					t.Fatalf("%s counts as applied: %+v", x.action, r)
				case command.Refused, command.Failed:
					last = r
					return ""
				}
			}
			return fmt.Sprint(peer.Results(c.ID))
		})
		switch last.Reason {
		case command.ReasonNoEffect, command.ReasonNotReversible, command.ReasonNoTarget:
		default:
			t.Errorf("%s is %s as %q: %s", x.action, last.Phase, last.Reason, last.Detail)
		}
		t.Logf("%s: %s, %s: %s", x.action, last.Phase, last.Reason, last.Detail)
		rig.Until(t, 5*time.Second, "systemd's setting is as before", func() string {
			if got := property(t, unit.Unit, x.property); got != x.neutral {
				return x.property + " is " + got
			}
			return ""
		})
	}
	var caps actor.Capabilities
	if err := json.Unmarshal([]byte(rig.Must(t, a.Binary, "capabilities", "-o", "json")), &caps); err != nil {
		t.Fatal(err)
	}
	if len(caps.Leases) != 0 {
		t.Errorf("the actor holds %+v", caps.Leases)
	}
	t.Logf("can: %+v; cannot: %+v", caps.Can, caps.Cannot)
}
