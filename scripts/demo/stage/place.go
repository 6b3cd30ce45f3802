package stage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Place is how the two demo processes share the machine: as siblings in the cpu hierarchy where that can be written,
// else in one session, since autogroup isolates sessions from each other.
type Place struct {
	root   string // mount of the cpu hierarchy; "" without cgroups
	v2     bool
	parent string // "/evenkeel-demo-PID"
	former string // where this process was before it entered the group of the rig

	// Share of the machine's CPUs that the server needs; 0 for what the demo shows.
	Share float64
}

// FindPlace looks for a writable cpu hierarchy and makes the groups in it. The text says what was found.
//
// There this process and all that it starts get a group of their own beside the two: what is seen is then what the two do to
// each other. The parent keeps the weight of every group: a heavier one starves the kernel's own threads, and with them the
// disk that the collector waits for before it signs anything.
func FindPlace() (*Place, string) {
	p, how := FindPlaceAt("/evenkeel-demo-" + strconv.Itoa(os.Getpid()))
	if p.Groups() {
		if err := p.apart(); err != nil {
			p.Remove()
			return &Place{}, fmt.Sprintf("cgroups cannot be written (%v): one session, process.affinity", err)
		}
	}
	return p, how
}

// apart moves this process into a group of its own, with twice the weight of each of the two.
func (p *Place) apart() error {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(own)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, at, _ := strings.Cut(rest, ":")
		if p.v2 && controllers == "" || !p.v2 && slices.Contains(strings.Split(controllers, ","), "cpu") {
			p.former = at
		}
	}
	file, weight := "cpu.shares", "2048"
	if p.v2 {
		file, weight = "cpu.weight", "200"
	}
	rig := filepath.Join(p.root, p.parent, "rig")
	if err := os.Mkdir(rig, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(rig, file), []byte(weight), 0o644); err != nil {
		return err
	}
	return p.Enter(os.Getpid(), "rig")
}

// FindPlaceAt is FindPlace with a path of its own for the cgroup that holds the two others.
func FindPlaceAt(parent string) (*Place, string) {
	if os.Geteuid() != 0 {
		return &Place{}, "not root: one session, process.affinity"
	}
	p := &Place{parent: parent}
	switch {
	case Exists("/sys/fs/cgroup/cpu/cpu.shares"):
		p.root = "/sys/fs/cgroup/cpu"
	case hasController("/sys/fs/cgroup", "cpu"):
		p.root, p.v2 = "/sys/fs/cgroup", true
	default:
		return &Place{}, "no cpu cgroup hierarchy: one session, process.affinity"
	}
	if err := p.make(); err != nil {
		p.Remove()
		return &Place{}, fmt.Sprintf("cgroups cannot be written (%v): one session, process.affinity", err)
	}
	kind := "cgroup v1"
	if p.v2 {
		kind = "cgroup v2"
	}
	return p, fmt.Sprintf("root and %s: sibling groups %s/{server,batch}, cpu.weight", kind, p.parent)
}

// Groups reports whether the two have cgroups of their own.
func (p *Place) Groups() bool { return p.root != "" }

// Parent is the path of the cgroup that holds those of the two.
func (p *Place) Parent() string { return p.parent }

func (p *Place) make() error {
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

// Remove takes the groups away again; they are empty once the demo's processes ended.
func (p *Place) Remove() {
	if !p.Groups() {
		return
	}
	if p.former != "" {
		_ = os.WriteFile(filepath.Join(p.root, p.former, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
	}
	base := filepath.Join(p.root, p.parent)
	for _, dir := range []string{filepath.Join(base, "server"), filepath.Join(base, "batch"), filepath.Join(base, "rig"), base} {
		_ = os.Remove(dir)
	}
}

// Enter puts a process into the group called name.
func (p *Place) Enter(pid int, name string) error {
	if !p.Groups() {
		return nil
	}
	return os.WriteFile(filepath.Join(p.root, p.parent, name, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// Demand is how many CPUs the server needs.
func (p *Place) Demand() float64 {
	switch {
	case p.Share > 0:
		return p.Share * float64(runtime.NumCPU())
	case p.Groups():
		return 0.55 * float64(runtime.NumCPU())
	}
	return 0.3 * float64(runtime.NumCPU())
}

// Knob reads what an action on the batch job would change, for the proof that everything was taken back.
func (p *Place) Knob(batch int) (string, error) {
	if p.Groups() {
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

// Exists reports whether there is something at path.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func hasController(root, name string) bool {
	b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+name+" ")
}
