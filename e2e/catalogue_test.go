//go:build e2e

package e2e

import (
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
)

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
