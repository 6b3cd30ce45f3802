//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// These tests run twice too: see cgroup_test.go.

// approved is an authority with an approver beside it, whom the host's permissions list.
type approved struct {
	actor    *rig.Actor
	peer     *rig.Peer
	approver ed25519.PrivateKey
}

// newApproved writes the permissions of an actor and starts it.
func newApproved(t *testing.T, declared string, under []string, grants ...string) *approved {
	t.Helper()
	x := &approved{actor: rig.NewActor(t, grants...), approver: rig.NewKey(t)}
	text := rig.Read(t, x.actor.Permissions) + "\n"
	text = strings.Replace(text, "approvers: []", "approvers: ["+command.FormatPublicKey(x.approver.Public().(ed25519.PublicKey))+"]", 1)
	text = strings.Replace(text, "maxRisk: R2", "maxRisk: R3", 1)
	rig.Write(t, x.actor.Permissions, strings.Replace(text, "actions:\n", declared+"actions:\n", 1))
	if len(under) > 0 {
		x.actor.Under(under...)
	}
	x.actor.Start(t)
	x.peer = x.actor.Dial(t)
	return x
}

// send signs with both keys and sends.
func (x *approved) send(t *testing.T, action command.Action, lease time.Duration) command.Command {
	t.Helper()
	c := x.actor.Authority.Apply(t, x.actor, x.peer.Incarnation(), action, lease)
	e, err := command.Sign(c, x.actor.Authority.Key, command.Key{Private: x.approver})
	if err != nil {
		t.Fatal(err)
	}
	x.peer.Send(t, e)
	return c
}

func (x *approved) do(t *testing.T, action command.Action, lease time.Duration) command.Command {
	t.Helper()
	c := x.send(t, action, lease)
	x.peer.Await(t, c.ID, command.Applied, 20*time.Second)
	return c
}

// Every reversible action on a group or its processes is applied and bites; ends with its lease; is taken back by the kill
// file; and leaves alone what somebody else has set meanwhile. One actor holds them all at the same time.
func TestActorCatalogue(t *testing.T) {
	rows := catalogueRows(t)
	type held struct {
		row
		group rig.Group
		id    string
	}
	var leased, killed, drifting []held
	var grants []string
	for _, r := range rows {
		h := rig.Controller(t, r.controller)
		for _, list := range []*[]held{&leased, &killed, &drifting} {
			if list == &drifting && r.drift == nil {
				continue // it has two values only
			}
			g := h.Group(t, strings.ReplaceAll(r.action, ".", "-"))
			if r.load != "" {
				p := inGroup(t, g, r.load)
				rig.Until(t, 20*pace(), "the load is in its group", func() string {
					if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID())); len(g.PIDs()) != 1 || !strings.Contains(exe, "e2e.test") {
						return fmt.Sprint(g.PIDs(), exe)
					}
					return ""
				})
			}
			*list = append(*list, held{row: r, group: g})
			spec, _ := command.Lookup(r.action)
			grants = append(grants, rig.Grant(r.action, command.Target{Cgroup: g.Path}, spec.Min, spec.Max))
		}
	}
	x := newApproved(t, "", nil, grants...)
	is := func(h held, want, when string) {
		t.Helper()
		if got := h.read(t, h.group); got != want {
			t.Errorf("%s %s: %q, want %q", h.action, when, got, want)
		}
	}
	took := map[string]time.Duration{} // from accepted to applied, by the actor's clock; the slowest
	apply := func(list []held, lease time.Duration, then func(held)) {
		t.Helper()
		for i, h := range list {
			is(h, h.neutral, "before")
			list[i].id = x.do(t, command.Action{Name: h.action, Target: command.Target{Cgroup: h.group.Path}, Value: h.value}, lease).ID
			is(h, h.during, "when it is applied")
			if all := x.peer.Results(list[i].id); len(all) > 1 {
				took[h.action] = max(took[h.action], all[1].Time.Sub(all[0].Time))
			}
			if then != nil {
				then(h)
			}
		}
	}
	apply(killed, 5*time.Minute, nil)
	for _, h := range killed {
		if h.effect != nil {
			h.effect(t, h.group)
		}
		is(h, h.during, "while it is held")
	}
	lease := 3 * pace()
	apply(leased, lease, nil)
	apply(drifting, lease, func(h held) {
		h.row.drift(t, h.group)
		is(h, h.other, "when somebody else has changed it")
	})
	for _, h := range leased {
		x.peer.Await(t, h.id, command.Reverted, lease+20*pace())
		is(h, h.neutral, "after the lease")
	}
	for _, h := range drifting {
		x.peer.Await(t, h.id, command.Drifted, lease+20*pace())
		is(h, h.other, "after the lease, being somebody else's")
	}
	rig.Write(t, x.actor.KillFile, "")
	began := time.Now()
	for _, h := range killed {
		rig.Until(t, 5*pace(), h.action+" is taken back by the kill file", func() string {
			if got := h.read(t, h.group); got != h.neutral {
				return got
			}
			return ""
		})
	}
	for _, r := range rows {
		t.Logf("%s: applied at most %s after it was accepted", r.action, took[r.action])
	}
	t.Logf("%d actions were taken back %s after the kill file", len(killed), time.Since(began).Round(time.Millisecond))
	for _, h := range killed {
		x.peer.Await(t, h.id, command.Reverted, 5*pace())
	}
}

// A frozen group lives on when the actor was killed and `revert --all` has run, as the unit's ExecStopPost has it.
func TestActorThawsAfterItsDeath(t *testing.T) {
	g := rig.Controller(t, "freezer").Group(t, "freeze")
	load := inGroup(t, g, "spin")
	x := newApproved(t, "", nil, rig.Grant("cgroup.freeze", command.Target{Cgroup: g.Path}, 1, 1))
	rig.Until(t, 10*pace(), "the load runs", func() string {
		if ran(g) < 2 {
			return "not yet"
		}
		return ""
	})
	x.do(t, command.Action{Name: "cgroup.freeze", Target: command.Target{Cgroup: g.Path}, Value: 1}, 5*time.Minute)
	x.actor.Signal(syscall.SIGKILL)
	<-x.actor.Done()
	before := ran(g)
	time.Sleep(pace() / 2)
	if now := ran(g); now != before {
		t.Fatalf("it ran %d ticks while frozen", now-before)
	}
	rig.Must(t, x.actor.Binary, "revert", "--all", "--config", x.actor.Config)
	rig.Until(t, 5*pace(), "the load goes on", func() string {
		if ran(g) < before+2 {
			return "it stands still"
		}
		return ""
	})
	if !load.Running() {
		t.Error("the load ended")
	}
}

// What a collector alone has signed does not freeze.
func TestActorFreezeNeedsAnApprover(t *testing.T) {
	g := rig.Controller(t, "freezer").Group(t, "freeze")
	x := newApproved(t, "", nil, rig.Grant("cgroup.freeze", command.Target{Cgroup: g.Path}, 1, 1))
	c := x.actor.Authority.Apply(t, x.actor, x.peer.Incarnation(), command.Action{Name: "cgroup.freeze", Target: command.Target{Cgroup: g.Path}, Value: 1}, time.Minute)
	e := x.actor.Authority.Sign(t, c)
	x.peer.Send(t, e)
	rig.Until(t, 10*time.Second, "it is refused", func() string {
		for _, r := range x.peer.All() {
			if r.Reason == command.ReasonRiskNeedsApprover {
				return ""
			}
		}
		return fmt.Sprint(x.peer.All())
	})
	if got := file("freezer.self_freezing", "cgroup.freeze")(t, g); got != "0" {
		t.Errorf("frozen: %s", got)
	}
}

// A kernel parameter of the actor's own network namespace is set, given back when the lease ends and by the kill file, and left
// alone where somebody else has set it.
func TestActorSysctl(t *testing.T) {
	grant := func(name string) string {
		return fmt.Sprintf("  - {action: sysctl, targets: [{sysctl: %s}], min: 1, max: 8192, maxLease: 10m, rate: 100/5m}\n", name)
	}
	leased, killed, drifting := "net.core.somaxconn", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_synack_retries"
	x := newApproved(t, "", []string{"unshare", "-n"}, grant(leased), grant(killed), grant(drifting))
	in := func(shell string) string {
		return strings.TrimSpace(rig.Must(t, "nsenter", "-t", strconv.Itoa(x.actor.PID()), "-n", "sh", "-c", shell))
	}
	path := func(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }
	before := map[string]string{}
	for _, name := range []string{leased, killed, drifting} {
		before[name] = in("cat " + path(name))
	}
	ids := map[string]string{}
	for name, lease := range map[string]time.Duration{leased: 2 * pace(), drifting: 2 * pace(), killed: 5 * time.Minute} {
		ids[name] = x.do(t, command.Action{Name: "sysctl", Target: command.Target{Sysctl: name}, Value: 77}, lease).ID
		if got := in("cat " + path(name)); got != "77" {
			t.Errorf("%s reads %s", name, got)
		}
	}
	in("echo 88 >" + path(drifting))
	x.peer.Await(t, ids[leased], command.Reverted, 20*pace())
	x.peer.Await(t, ids[drifting], command.Drifted, 20*pace())
	rig.Write(t, x.actor.KillFile, "")
	x.peer.Await(t, ids[killed], command.Reverted, 5*pace())
	for name, want := range map[string]string{leased: before[leased], killed: before[killed], drifting: "88"} {
		if got := in("cat " + path(name)); got != want {
			t.Errorf("in the end %s reads %s, want %s", name, got, want)
		}
	}
	c := x.send(t, command.Action{Name: "sysctl", Target: command.Target{Sysctl: "vm.swappiness"}, Value: 10}, time.Minute)
	x.peer.Await(t, c.ID, command.Refused, 10*time.Second)
}

// knobScript keeps a number for each target in a file.
const knobScript = `#!/bin/sh
f=STORE/$(echo "$2" | tr / _)
case "$1" in
get) cat "$f" ;;
set) printf %s "$3" >"$f" ;;
esac
`

// A program that the permissions declare sets a value, gives it back when the lease ends and by the kill file, and leaves it alone
// where somebody else has set it. A program that is not the one that was declared does not run.
func TestActorPlugin(t *testing.T) {
	dir := rig.Folder(t)
	exe := filepath.Join(dir, "knob")
	script := strings.ReplaceAll(knobScript, "STORE", dir)
	rig.Write(t, exe, script)
	declared := func(content string) string {
		return fmt.Sprintf("plugins:\n  - {name: knob, exe: %s, sha256: %x, user: '0', get: [get, '{target}'], set: [set, '{target}', '{value}'], timeout: 10s}\n", exe, sha256.Sum256([]byte(content)))
	}
	target := func(name string) command.Target { return command.Target{Unit: name + ".service"} }
	store := func(name string) string { return filepath.Join(dir, "unit_"+name+".service") }
	var grants []string
	for _, name := range []string{"leased", "killed", "drifting"} {
		rig.Write(t, store(name), "40")
		grants = append(grants, rig.Grant("'plugin:knob'", target(name), 1, 100))
	}
	x := newApproved(t, declared(script), nil, grants...)
	act := func(name string) command.Action {
		return command.Action{Name: "plugin:knob", Target: target(name), Value: 7}
	}
	ids := map[string]string{}
	for name, lease := range map[string]time.Duration{"leased": 3 * pace(), "drifting": 3 * pace(), "killed": 5 * time.Minute} {
		ids[name] = x.do(t, act(name), lease).ID
		if got := rig.Read(t, store(name)); got != "7" {
			t.Errorf("%s holds %s", name, got)
		}
	}
	rig.Write(t, store("drifting"), "55")
	x.peer.Await(t, ids["leased"], command.Reverted, 20*pace())
	x.peer.Await(t, ids["drifting"], command.Drifted, 20*pace())
	rig.Write(t, x.actor.KillFile, "")
	x.peer.Await(t, ids["killed"], command.Reverted, 20*pace())
	for name, want := range map[string]string{"leased": "40", "killed": "40", "drifting": "55"} {
		if got := rig.Read(t, store(name)); got != want {
			t.Errorf("in the end %s holds %s, want %s", name, got, want)
		}
	}
	if err := os.Remove(x.actor.KillFile); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, 5*pace(), "the actor goes on", func() string {
		if x.peer.Report().Killed {
			return "it reports that it is stopped"
		}
		return ""
	})
	rig.Write(t, exe, script+"echo 1 >"+filepath.Join(dir, "harm")+"\n")
	c := x.send(t, act("leased"), time.Minute)
	if r := x.peer.Await(t, c.ID, command.Refused, 10*time.Second); r.Reason != command.ReasonDenied {
		t.Errorf("another file is refused as %s: %s", r.Reason, r.Detail)
	}
	if _, err := os.Stat(filepath.Join(dir, "harm")); err == nil {
		t.Error("another file ran")
	}
}

// once sends what cannot be taken back: it has no lease.
func (x *approved) once(t *testing.T, action command.Action) command.Result {
	t.Helper()
	c := x.send(t, action, 0)
	return x.peer.Await(t, c.ID, command.Applied, 20*time.Second)
}

func onceGrant(action, target string, most int) string {
	return fmt.Sprintf("  - {action: %s, targets: [{%s}], min: 1, max: %d, rate: 100/5m}\n", action, target, most)
}

// Every process of a group is killed, those below it too, once and on an approver's word only; nothing is held afterwards, and
// what starts there later lives.
func TestActorKillsAGroup(t *testing.T) {
	h := rig.CPU(t)
	g, other := h.Group(t, "kill"), h.Group(t, "bystander")
	below := rig.Group{Hierarchy: h, Path: g.Path + "/below"}
	if err := os.Mkdir(filepath.Join(h.Mount, below.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(h.Mount, below.Path)) })
	first, second, bystander := inGroup(t, g, "nap"), inGroup(t, below, "nap"), inGroup(t, other, "nap")
	rig.Until(t, 10*pace(), "the processes are in their groups", func() string {
		if len(g.PIDs()) != 1 || len(below.PIDs()) != 1 || len(other.PIDs()) != 1 {
			return fmt.Sprint(g.PIDs(), below.PIDs(), other.PIDs())
		}
		return ""
	})
	x := newApproved(t, "", nil, onceGrant("cgroup.kill", "cgroup: "+g.Path, 1))
	action := command.Action{Name: "cgroup.kill", Target: command.Target{Cgroup: g.Path}, Value: 1}

	c := x.actor.Authority.Apply(t, x.actor, x.peer.Incarnation(), action, 0)
	x.peer.Send(t, x.actor.Authority.Sign(t, c))
	rig.Until(t, 10*time.Second, "without an approver it is refused", func() string {
		for _, r := range x.peer.All() {
			if r.Reason == command.ReasonRiskNeedsApprover {
				return ""
			}
		}
		return fmt.Sprint(x.peer.All())
	})
	if !first.Running() || !second.Running() {
		t.Fatal("killed without an approver")
	}
	r := x.once(t, action)
	t.Logf("%s, was %s", r.Value, r.Prior)
	for _, p := range []*rig.Process{first, second} {
		if code := p.Wait(t, 5*pace()); code == 0 {
			t.Errorf("a process of the group ended with %d", code)
		}
	}
	if !bystander.Running() {
		t.Error("a process of another group was killed")
	}
	later := inGroup(t, g, "nap")
	rig.Until(t, 10*pace(), "another process is in the group", func() string {
		if len(g.PIDs()) != 1 {
			return "not yet"
		}
		return ""
	})
	rig.Write(t, x.actor.KillFile, "") // nothing is held that could be taken back
	time.Sleep(pace())
	if !later.Running() {
		t.Error("a process that came later was killed")
	}
	if out := rig.Must(t, x.actor.Binary, "capabilities", "--config", x.actor.Config); !strings.Contains(out, "in force:\n  nothing") {
		t.Errorf("something is held:\n%s", out)
	}
}

// Old files of a declared place go, oldest first, until so much is free, and no other file.
func TestActorRelievesFiles(t *testing.T) {
	dir := rig.Folder(t)
	root := filepath.Join(dir, "place")
	for name, hours := range map[string]int{"a.log.1": 30, "b.log.2": 50, "c.log.3": 40, "new.log.4": 1, "data.db": 900} {
		rig.Write(t, filepath.Join(root, name), strings.Repeat("x", 2<<20))
		at := time.Now().Add(-time.Duration(hours) * time.Hour)
		if err := os.Chtimes(filepath.Join(root, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	x := newApproved(t, "places:\n  - {name: old-logs, root: "+root+", match: '*.log.*', olderThan: 24h, how: delete}\n", nil, onceGrant("file.relief", "place: old-logs", 100))
	r := x.once(t, command.Action{Name: "file.relief", Target: command.Target{Place: "old-logs"}, Value: 3})
	t.Logf("%s, was %s", r.Value, r.Prior)
	list, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, f := range list {
		left = append(left, f.Name())
	}
	if got := strings.Join(left, " "); got != "a.log.1 data.db new.log.4" {
		t.Errorf("left: %s", got)
	}
}
