//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// row is one action of the catalogue, seen from outside: by what the kernel says, read without our code.
type row struct {
	action     string
	controller string
	value      int64
	// read says what stands now; neutral, during and other are what it says before, during and after somebody else's change.
	read                   func(t *testing.T, g rig.Group) string
	neutral, during, other string
	drift                  func(t *testing.T, g rig.Group)
	// effect sees that it bites. It is called for one group during the action.
	effect func(t *testing.T, g rig.Group)
	load   string // helper that runs in the group; empty: none
}

func file(v1, v2 string) func(*testing.T, rig.Group) string {
	return func(t *testing.T, g rig.Group) string {
		if g.Version == 1 {
			return rig.Read(t, g.File(v1))
		}
		return rig.Read(t, g.File(v2))
	}
}

func write(v1, v2, text string) func(*testing.T, rig.Group) {
	return func(t *testing.T, g rig.Group) {
		name := v2
		if g.Version == 1 {
			name = v1
		}
		if err := os.WriteFile(g.File(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// ofTasks says what a function tells of every task in the group: one text, or all of them.
func ofTasks(f func(tid int) string) func(*testing.T, rig.Group) string {
	return func(t *testing.T, g rig.Group) string {
		seen := map[string]bool{}
		for _, pid := range g.PIDs() {
			names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			for _, n := range names {
				tid, _ := strconv.Atoi(n.Name())
				seen[f(tid)] = true
			}
		}
		var all []string
		for s := range seen {
			all = append(all, s)
		}
		return strings.Join(all, " and ")
	}
}

func eachTask(f func(tid int) error) func(*testing.T, rig.Group) {
	return func(t *testing.T, g rig.Group) {
		for _, pid := range g.PIDs() {
			names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			for _, n := range names {
				tid, _ := strconv.Atoi(n.Name())
				if err := f(tid); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// statField is a field of /proc/TID/stat as proc(5) counts them.
func statField(n int) func(int) string {
	return func(tid int) string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
		_, after, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(after); len(f) > n-3 {
			return f[n-3]
		}
		return ""
	}
}

func ionice(tid int) string {
	out, _ := exec.Command("ionice", "-p", strconv.Itoa(tid)).Output()
	return strings.TrimSpace(string(out))
}

// ran is the CPU time of a group's processes so far, in clock ticks.
func ran(g rig.Group) int {
	sum := 0
	for _, pid := range g.PIDs() {
		for _, field := range []int{14, 15} {
			n, _ := strconv.Atoi(statField(field)(pid))
			sum += n
		}
	}
	return sum
}

// hog allocates and touches so many MiB and stays.
func hog(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var all [][]byte
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	time.Sleep(time.Minute)
	_ = all
	return nil
}

// nap waits, with a few threads.
func nap([]string) error {
	time.Sleep(time.Hour)
	return nil
}

// inGroup starts a helper that is in the group before it does anything.
func inGroup(t *testing.T, g rig.Group, name string, args ...string) *rig.Process {
	t.Helper()
	h := rig.Helper(t, name, args...)
	cmd := exec.Command("/bin/sh", append([]string{"-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, filepath.Join(g.Mount, g.Path)}, h.Args...)...)
	cmd.Env = h.Env
	return rig.StartCmd(t, cmd)
}

func highest() string {
	var s unix.CPUSet
	_ = unix.SchedGetaffinity(1, &s)
	top := 0
	for i := range 1024 {
		if s.IsSet(i) {
			top = i
		}
	}
	return strconv.Itoa(top)
}

func catalogueRows(t *testing.T) []row {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &all); err != nil {
		t.Fatal(err)
	}
	v2 := rig.CPU(t).Version == 2
	cpus := rig.Read(t, filepath.Join(rig.Controller(t, "cpuset").Mount, map[bool]string{false: "cpuset.cpus", true: "cpuset.cpus.effective"}[v2]))
	rows := []row{
		ioRow(t),
		{
			action: "memory.limit", controller: "memory", value: 32, read: file("memory.limit_in_bytes", "memory.max"),
			neutral: map[bool]string{false: "9223372036854771712", true: "max"}[v2], during: "33554432", other: "50331648", drift: write("memory.limit_in_bytes", "memory.max", "50331648"),
			effect: func(t *testing.T, g rig.Group) {
				if code := inGroup(t, g, "hog", "64").Wait(t, 30*pace()); code == 0 {
					t.Error("64 MiB fit below a limit of 32")
				}
			},
		},
		{
			action: "pids.max", controller: "pids", value: 3, read: file("pids.max", "pids.max"), neutral: "max", during: "3", other: "5",
			drift: write("pids.max", "pids.max", "5"),
			effect: func(t *testing.T, g rig.Group) {
				cmd := exec.Command("/bin/sh", "-c", `echo $$ >"$0" && for i in 1 2 3 4 5 6; do sleep 2 & done; wait`, g.File("cgroup.procs"))
				if p := rig.StartCmd(t, cmd); p.Wait(t, 30*time.Second) == 0 && !strings.Contains(p.Output(), "fork") {
					t.Errorf("seven processes ran below a limit of three: %s", p.Output())
				}
			},
		},
		{
			action: "cpuset.cpus", controller: "cpuset", value: 50, load: "nap", read: file("cpuset.cpus", "cpuset.cpus.effective"), neutral: cpus, during: highest(), other: "0",
			drift: write("cpuset.cpus", "cpuset.cpus", "0"),
			effect: func(t *testing.T, g rig.Group) {
				for _, pid := range g.PIDs() {
					if got := allowed(t, pid); got != highest() {
						t.Errorf("process %d may use CPUs %s", pid, got)
					}
				}
			},
		},
		{
			action: "cpu.idle", controller: "cpu", value: 1, load: "spin", read: file("cpu.idle", "cpu.idle"), neutral: "0", during: "1",
			effect: func(t *testing.T, g rig.Group) {
				// A sibling on the same CPU takes it.
				sibling := g.Hierarchy.Group(t, "sibling")
				pinned, free := inGroup(t, g, "spin-pinned", "0"), inGroup(t, sibling, "spin-pinned", "0")
				rig.Until(t, 10*pace(), "both run", func() string {
					if len(g.PIDs()) < 2 || ran(sibling) < 10 {
						return "not yet"
					}
					return ""
				})
				tick := func(p *rig.Process) int { n, _ := strconv.Atoi(statField(14)(p.PID())); return n }
				a, b := tick(pinned), tick(free)
				time.Sleep(2 * pace())
				if a, b = tick(pinned)-a, tick(free)-b; a*5 > b {
					t.Errorf("the idle group ran %d ticks beside %d", a, b)
				}
				pinned.End()
				free.End()
			},
		},
		{
			action: "cgroup.freeze", controller: "freezer", value: 1, load: "spin", read: file("freezer.self_freezing", "cgroup.freeze"), neutral: "0", during: "1",
			effect: func(t *testing.T, g rig.Group) {
				before := ran(g)
				time.Sleep(pace() / 2)
				if now := ran(g); now != before {
					t.Errorf("the frozen group ran %d ticks", now-before)
				}
			},
		},
		{
			action: "process.nice", controller: "cpu", value: 17, load: "nap", read: ofTasks(statField(19)), neutral: statField(19)(os.Getpid()), during: "17", other: "18",
			drift: eachTask(func(tid int) error { return unix.Setpriority(unix.PRIO_PROCESS, tid, 18) }),
		},
		{
			action: "process.sched", controller: "cpu", value: 2, load: "nap", read: ofTasks(statField(41)), neutral: "0", during: "5", other: "3",
			drift: eachTask(func(tid int) error {
				return unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}, 0)
			}),
		},
		{
			action: "process.ionice", controller: "cpu", value: 7, load: "nap", read: ofTasks(ionice), neutral: ionice(os.Getpid()), during: "best-effort: prio 7", other: "idle",
			drift: eachTask(func(tid int) error { return exec.Command("ionice", "-c", "3", "-p", strconv.Itoa(tid)).Run() }),
		},
		{
			action: "process.oom", controller: "cpu", value: 500, load: "nap", read: ofTasks(func(tid int) string {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", tid))
				return strings.TrimSpace(string(b))
			}), neutral: "0", during: "500", other: "700",
			drift: eachTask(func(tid int) error { return os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", tid), []byte("700"), 0) }),
		},
	}
	if v2 {
		rows = append(
			rows,
			row{
				action: "memory.high", controller: "memory", value: 32, read: file("", "memory.high"), neutral: "max", during: "33554432", other: "50331648",
				drift: write("", "memory.high", "50331648"),
				effect: func(t *testing.T, g rig.Group) {
					inGroup(t, g, "hog", "64")
					rig.Until(t, 30*pace(), "the group is slowed down", func() string {
						if n := eventsOf(t, g, "memory.events", "high"); n == 0 {
							return "memory.events counts none"
						}
						return ""
					})
				},
			},
			row{
				action: "memory.low", controller: "memory", value: 32, read: file("", "memory.low"), neutral: "0", during: "33554432", other: "50331648",
				drift: write("", "memory.low", "50331648"),
			},
		)
	}
	return rows
}

// disks lists the numbers of the real disks of this machine.
func disks(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/sys/block/*/device")
	if err != nil || len(found) == 0 {
		t.Fatalf("this machine has no disk: the rig needs one (%v)", err)
	}
	var out []string
	for _, d := range found {
		out = append(out, rig.Read(t, filepath.Join(filepath.Dir(d), "dev")))
	}
	slices.Sort(out)
	return out
}

func ioRow(t *testing.T) row {
	all := disks(t)
	v2 := rig.Controller(t, "io").Version == 2
	lines := func(bytes string, limited int) string {
		var out []string
		for i, d := range all {
			n := "1048576"
			if i < limited {
				n = bytes
			}
			out = append(out, d+" "+n)
		}
		return strings.Join(out, "\n")
	}
	// What somebody else has set on the first disk stays; the others, and the first one's reading, are given back.
	other := all[0] + " 2097152"
	return row{
		action: "io.limit", controller: "io", value: 1024, neutral: "", during: lines("1048576", 0), other: other,
		read: func(t *testing.T, g rig.Group) string {
			var got []string
			for line := range strings.Lines(file("blkio.throttle.write_bps_device", "io.max")(t, g)) {
				f := strings.Fields(line)
				if len(f) > 2 { // 8:0 rbps=max wbps=1048576 ...
					f[1] = strings.TrimPrefix(f[2], "wbps=")
				}
				if len(f) > 1 && f[1] != "max" {
					got = append(got, f[0]+" "+f[1])
				}
			}
			slices.Sort(got)
			return strings.Join(got, "\n")
		},
		drift: func(t *testing.T, g rig.Group) {
			write("blkio.throttle.write_bps_device", "io.max", map[bool]string{false: all[0] + " 2097152", true: all[0] + " wbps=2097152"}[v2])(t, g)
		},
		effect: func(t *testing.T, g rig.Group) {
			free, held := startDirect(t, ""), startDirect(t, filepath.Join(g.Mount, g.Path))
			time.Sleep(3 * time.Second)
			a, b := written(free), written(held)
			// A limit of 1 MiB/s lets through three, and the start of a slice.
			if b > 6<<20 || b == 0 || a < 2*b {
				t.Errorf("in three seconds %d bytes were written with a limit of 1 MiB/s, %d without", b, a)
			}
			free.End()
			held.End()
		},
	}
}

// startDirect starts a process that writes past the page cache, in a group if one is given.
func startDirect(t *testing.T, group string) *rig.Process {
	t.Helper()
	h := rig.Helper(t, "direct", scratch(t))
	cmd := exec.Command("/bin/sh", append([]string{"-c", `[ -z "$0" ] || echo $$ >"$0"/cgroup.procs; exec "$@"`, group}, h.Args...)...)
	cmd.Env = h.Env
	return rig.StartCmd(t, cmd)
}

// scratch is something on a disk that may be written to: the empty disk of a virtual machine, or a file of our own.
func scratch(t *testing.T) string {
	t.Helper()
	if os.Getenv("EK2E_SLOW") != "" {
		return "/dev/nvme0n1"
	}
	f, err := os.CreateTemp(rig.Root(t)+"/.state", rig.Prefix+"-scratch-")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { os.Remove(f.Name()) })
	return f.Name()
}

// written is how many bytes a process has had written to disks.
func written(p *rig.Process) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.PID()))
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			v, _ := strconv.Atoi(strings.TrimSpace(n))
			return v
		}
	}
	return 0
}

// direct writes blocks of 256 KiB past the page cache, over and over the first MiB.
func direct(args []string) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	block, err := unix.Mmap(-1, 0, 256<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	for i := int64(0); ; i++ {
		if _, err := f.WriteAt(block, i%4*int64(len(block))); err != nil {
			return err
		}
	}
}

func eventsOf(t *testing.T, g rig.Group, name, key string) int {
	t.Helper()
	for line := range strings.Lines(rig.Read(t, g.File(name))) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
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
	apply := func(list []held, lease time.Duration, then func(held)) {
		t.Helper()
		for i, h := range list {
			is(h, h.neutral, "before")
			list[i].id = x.do(t, command.Action{Name: h.action, Target: command.Target{Cgroup: h.group.Path}, Value: h.value}, lease).ID
			is(h, h.during, "when it is applied")
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
