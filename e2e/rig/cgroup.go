package rig

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchy is the cgroup tree with one controller.
type Hierarchy struct {
	Mount   string
	Version int // 1 or 2
}

// CPU finds the hierarchy of the cpu controller.
func CPU(t testing.TB) Hierarchy {
	t.Helper()
	return Controller(t, "cpu")
}

// Controller finds the hierarchy of a controller, by its name in version 2: "io" is blkio in version 1, and "freezer" every
// group of version 2 has.
func Controller(t testing.TB, name string) Hierarchy {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v1 := name
	if name == "io" {
		v1 = "blkio"
	}
	var h Hierarchy
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		f, tail := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(tail) < 3 {
			continue
		}
		switch {
		case tail[0] == "cgroup" && strings.Contains(","+tail[2]+",", ","+v1+","):
			return Hierarchy{Mount: f[4], Version: 1}
		case tail[0] == "cgroup2":
			if b, err := os.ReadFile(filepath.Join(f[4], "cgroup.controllers")); err == nil && (name == "freezer" || strings.Contains(" "+string(b), " "+name)) {
				h = Hierarchy{Mount: f[4], Version: 2}
			}
		}
	}
	if h.Version == 0 {
		t.Fatalf("this machine has no cgroup hierarchy with a %s controller: the rig needs one", name)
	}
	return h
}

// Group is one cgroup that the test made.
type Group struct {
	Hierarchy
	Path string // below the mount, "/" first
}

// Group makes a cgroup. When the test ends, everything in it is killed and it is removed.
func (h Hierarchy) Group(t testing.TB, name string) Group {
	t.Helper()
	if h.Version == 2 {
		has := Read(t, filepath.Join(h.Mount, "cgroup.controllers"))
		for _, c := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
			if !slices.Contains(strings.Fields(has), c) {
				continue
			}
			if err := os.WriteFile(filepath.Join(h.Mount, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
				t.Fatalf("cannot hand the %s controller to groups: %v", c, err)
			}
		}
	}
	dir, err := os.MkdirTemp(h.Mount, Prefix+"-"+name+"-")
	if err != nil {
		t.Fatalf("cannot make a cgroup: %v", err)
	}
	g := Group{Hierarchy: h, Path: "/" + filepath.Base(dir)}
	if _, err := os.Stat(filepath.Join(dir, "cpuset.mems")); err == nil && h.Version == 1 {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // a new group has none
			Write(t, filepath.Join(dir, file), Read(t, filepath.Join(h.Mount, file)))
		}
	}
	t.Cleanup(func() {
		began := time.Now()
		for {
			for _, pid := range g.PIDs() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			err := unix.Rmdir(dir)
			if err == nil || err == unix.ENOENT {
				return
			}
			if time.Since(began) > 5*time.Second {
				t.Errorf("cannot remove cgroup %s: %v", dir, err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return g
}

// PIDs lists the processes in the group.
func (g Group) PIDs() []int {
	b, _ := os.ReadFile(filepath.Join(g.Mount, g.Path, "cgroup.procs"))
	var out []int
	for _, s := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(s); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// Add moves a process into the group.
func (g Group) Add(t testing.TB, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.Mount, g.Path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		t.Fatalf("cannot move process %d into %s: %v", pid, g.Path, err)
	}
}

// Knob is a kernel file of the cpu controller with what stands there and how values of an action read.
type Knob struct {
	Action, File, Neutral string
	Text                  func(value int64) string
}

// Weight is the knob of cpu.weight.
func (h Hierarchy) Weight() Knob {
	if h.Version == 1 {
		return Knob{"cpu.weight", "cpu.shares", "1024", func(v int64) string { return strconv.FormatInt(v*1024/100, 10) }}
	}
	return Knob{"cpu.weight", "cpu.weight", "100", func(v int64) string { return strconv.FormatInt(v, 10) }}
}

// Quota is the knob of cpu.quota.
func (h Hierarchy) Quota() Knob {
	if h.Version == 1 {
		return Knob{"cpu.quota", "cpu.cfs_quota_us", "-1", func(v int64) string { return strconv.FormatInt(v*1000, 10) }}
	}
	return Knob{"cpu.quota", "cpu.max", "max 100000", func(v int64) string { return strconv.FormatInt(v*1000, 10) + " 100000" }}
}

// File returns the path of one of the group's kernel files.
func (g Group) File(name string) string { return filepath.Join(g.Mount, g.Path, name) }

// Read returns what the kernel says of a knob now.
func (g Group) Read(t testing.TB, k Knob) string {
	t.Helper()
	return Read(t, g.File(k.File))
}

// Throttled returns in how many periods the group ran into its quota.
func (g Group) Throttled(t testing.TB) int {
	t.Helper()
	for line := range strings.Lines(Read(t, g.File("cpu.stat"))) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "nr_throttled" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("cpu.stat has no nr_throttled")
	return 0
}
