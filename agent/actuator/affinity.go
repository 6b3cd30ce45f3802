package actuator

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// affinity is process.affinity: it keeps a tree on a percentage of the CPUs that it may use, taken from the highest
// numbers down. A task that had pinned itself keeps to its own CPUs as far as they overlap, and is left as it is where they
// do not.
type affinity struct{}

func newAffinity(p procfs, g *cgroups) *Tree[cpus] { return newTree[cpus](affinity{}, p, g) }

func (affinity) able(procfs) error {
	var s cpus
	if err := unix.SchedGetaffinity(0, &s); err != nil {
		return err
	}
	if online, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil {
		if all, err := parseCPUs(trimSpace(online)); err == nil {
			s = all
		}
	}
	if s.Count() < 2 {
		return command.Refuse(command.ReasonNotReversible, "this host has one CPU: there is nothing to narrow")
	}
	return nil
}

func (affinity) fit(p procfs, pid int) error { return ownOrNice(p, pid, "CPU mask") }

// ownOrNice refuses a process of another user, whose setting could not be given back without CAP_SYS_NICE.
func ownOrNice(p procfs, pid int, what string) error {
	if uid, ok := p.uid(pid); ok && uid != uint32(os.Geteuid()) && !p.has(unix.CAP_SYS_NICE) {
		return command.Refuse(command.ReasonNotReversible, "process %d belongs to another user, whose %s could not be given back", pid, what)
	}
	return nil
}

func (affinity) whole(all cpus) error {
	if all.Count() < 2 {
		return command.Refuse(command.ReasonNotReversible, "the processes may use one CPU only: there is nothing to narrow")
	}
	return nil
}

func (affinity) threads() bool { return true }

func (affinity) get(tid int) (cpus, error) {
	var s cpus
	err := unix.SchedGetaffinity(tid, &s)
	return s, err
}

func (affinity) set(tid int, s cpus) error { return unix.SchedSetaffinity(tid, &s) }

func (affinity) wanted(prior, all cpus, percent int64) cpus {
	if both := intersect(prior, pickCPUs(all, percent)); both.Count() > 0 {
		return both
	}
	return prior
}

func (affinity) join(all, one cpus) cpus { return unite(all, one) }
func (affinity) empty() cpus             { return cpus{} }
func (affinity) neutral(cpus) int64      { return 100 }

func (affinity) shown(all cpus, percent int64) string { return formatCPUs(pickCPUs(all, percent)) }
func (affinity) text(s cpus) string                   { return formatCPUs(s) }
func (affinity) parse(text string) (cpus, error)      { return parseCPUs(text) }
func (affinity) prefix() string                       { return "pid" }
