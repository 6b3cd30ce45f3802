package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// place is how the two demo processes share the machine: as siblings in the cpu hierarchy where that can be written,
// else in one session, since autogroup isolates sessions from each other.
type place struct {
	root   string // mount of the cpu hierarchy; "" without cgroups
	v2     bool
	parent string // "/evenkeel-demo-PID"
}

// findPlace looks for a writable cpu hierarchy and makes the demo's groups in it.
func findPlace() (*place, string) {
	if os.Geteuid() != 0 {
		return &place{}, "not root: one session, process.affinity"
	}
	p := &place{parent: "/evenkeel-demo-" + strconv.Itoa(os.Getpid())}
	switch {
	case exists("/sys/fs/cgroup/cpu/cpu.shares"):
		p.root = "/sys/fs/cgroup/cpu"
	case hasController("/sys/fs/cgroup", "cpu"):
		p.root, p.v2 = "/sys/fs/cgroup", true
	default:
		return &place{}, "no cpu cgroup hierarchy: one session, process.affinity"
	}
	if err := p.make(); err != nil {
		p.remove()
		return &place{}, fmt.Sprintf("cgroups cannot be written (%v): one session, process.affinity", err)
	}
	kind := "cgroup v1"
	if p.v2 {
		kind = "cgroup v2"
	}
	return p, fmt.Sprintf("root and %s: sibling groups %s/{server,batch}, cpu.weight", kind, p.parent)
}

func (p *place) groups() bool { return p.root != "" }

func (p *place) make() error {
	base := filepath.Join(p.root, p.parent)
	if p.v2 {
		if err := os.WriteFile(filepath.Join(p.root, "cgroup.subtree_control"), []byte("+cpu"), 0o644); err != nil {
			return err
		}
	}
	if err := os.Mkdir(base, 0o755); err != nil {
		return err
	}
	if p.v2 {
		if err := os.WriteFile(filepath.Join(base, "cgroup.subtree_control"), []byte("+cpu"), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(os.Mkdir(filepath.Join(base, "server"), 0o755), os.Mkdir(filepath.Join(base, "batch"), 0o755))
}

// remove takes the groups away again; they are empty once the demo's processes ended.
func (p *place) remove() {
	if !p.groups() {
		return
	}
	base := filepath.Join(p.root, p.parent)
	for _, dir := range []string{filepath.Join(base, "server"), filepath.Join(base, "batch"), base} {
		_ = os.Remove(dir)
	}
}

// enter puts a process into the group called name.
func (p *place) enter(pid int, name string) error {
	if !p.groups() {
		return nil
	}
	return os.WriteFile(filepath.Join(p.root, p.parent, name, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// demand is the share of the machine's CPUs that the server needs, and the limit that its owner would call fair.
func (p *place) demand() float64 {
	if p.groups() {
		return 0.55 * float64(runtime.NumCPU())
	}
	return 0.3 * float64(runtime.NumCPU())
}

// knob reads what an action on the batch job would change, for the proof that everything was taken back.
func (p *place) knob(batch int) (string, error) {
	if p.groups() {
		file := "cpu.shares"
		if p.v2 {
			file = "cpu.weight"
		}
		b, err := os.ReadFile(filepath.Join(p.root, p.parent, "batch", file))
		return file + " " + strings.TrimSpace(string(b)), err
	}
	return affinity(batch)
}

// affinity returns the CPUs allowed to the tasks of a process, each list once.
func affinity(pid int) (string, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		return "", fmt.Errorf("process %d has no tasks", pid)
	}
	seen := map[string]bool{}
	var lists []string
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok && !seen[list] {
				seen[list] = true
				lists = append(lists, strings.TrimSpace(list))
			}
		}
	}
	return "CPUs " + strings.Join(lists, " and "), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func hasController(root, name string) bool {
	b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+name+" ")
}
