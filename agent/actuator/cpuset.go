package actuator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// cpusetSetting is cpuset.cpus: the CPUs that a group may use, as a percentage of those that it may use now, taken from
// the highest numbers down.
type cpusetSetting struct{ version int }

const inherited = "inherited" // version 2: no set of its own

func (cpusetSetting) file() string { return "cpuset.cpus" }

func (s cpusetSetting) read(root *os.Root, group string) (string, error) {
	text, err := readText(root, path.Join(group, s.file()))
	if err == nil && text == "" {
		text = inherited
	}
	return text, err
}

// write gives a group that had no set of its own that state back. A kernel that lets no group with processes return to it
// (6.1) is told the CPUs of the group above instead, which come to the same until those change.
func (s cpusetSetting) write(root *os.Root, group, native string) error {
	file := path.Join(group, s.file())
	if native != inherited {
		return writeText(root, file, native)
	}
	err := writeText(root, file, "\n")
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	above, err := s.above(root, group)
	if err != nil {
		return err
	}
	return writeText(root, file, above)
}

// above is the CPUs of the group above.
func (cpusetSetting) above(root *os.Root, group string) (string, error) {
	return readText(root, path.Join(path.Dir(group), "cpuset.cpus.effective"))
}

// same reports whether a group that is to have no set of its own has all that it would inherit.
func (s cpusetSetting) same(root *os.Root, group, now, prior string) bool {
	if prior != inherited {
		return false
	}
	above, err := s.above(root, group)
	return err == nil && now == above
}

func (cpusetSetting) native(percent int64, was former) (string, error) {
	all, err := parseCPUs(was.basis)
	if err != nil {
		return "", err
	}
	return formatCPUs(pickCPUs(all, percent)), nil
}

func (cpusetSetting) value(native, basis string) (int64, error) {
	if native == inherited {
		return 100, nil
	}
	set, err := parseCPUs(native)
	if err != nil {
		return 0, err
	}
	all, err := parseCPUs(basis)
	if err != nil {
		return 0, err
	}
	return int64(set.Count() * 100 / max(1, all.Count())), nil
}

// basis is the CPUs that the group may use at present.
func (s cpusetSetting) basis(root *os.Root, group string) (string, error) {
	file := "cpuset.cpus.effective"
	if s.version == 1 {
		file = s.file()
	}
	text, err := readText(root, path.Join(group, file))
	if err == nil && text == "" {
		err = command.Refuse(command.ReasonNoTarget, "cgroup /%s has no CPUs", group)
	}
	return text, err
}

// fit refuses a group with fewer than two CPUs; one with groups below it whose sets version 1 would not let shrink; and
// one in which a task has pinned itself: a kernel may forget such a pin when the set changes.
func (s cpusetSetting) fit(root *os.Root, group string) error {
	text, err := s.basis(root, group)
	if err != nil {
		return err
	}
	all, err := parseCPUs(text)
	if err != nil {
		return err
	}
	if all.Count() < 2 {
		return command.Refuse(command.ReasonNotReversible, "cgroup /%s may use one CPU only: there is nothing to narrow", group)
	}
	tasks := "cgroup.threads"
	if s.version == 1 {
		tasks = "tasks"
	}
	return fs.WalkDir(root.FS(), group, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // groups come and go while one looks
		}
		if s.version == 1 && p != group {
			return command.Refuse(command.ReasonNotReversible, "cgroup /%s has groups below it, whose CPUs would have to be changed first", group)
		}
		b, err := root.ReadFile(path.Join(p, tasks))
		if err != nil {
			return nil
		}
		for _, field := range strings.Fields(string(b)) {
			tid, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("%s of /%s holds %q", tasks, p, field)
			}
			var mask cpus
			if unix.SchedGetaffinity(tid, &mask) == nil && mask != all && mask.Count() < all.Count() {
				return command.Refuse(command.ReasonNotReversible,
					"task %d has CPUs %s of its own, which would be forgotten: use process.affinity", tid, formatCPUs(mask))
			}
		}
		return nil
	})
}

// pickCPUs returns what a percentage leaves of a set: at least one, the highest numbers.
func pickCPUs(all cpus, percent int64) cpus {
	n := cpuNumbers(all)
	keep := max(1, int(int64(len(n))*min(max(percent, 0), 100)/100))
	var out cpus
	for _, cpu := range n[max(0, len(n)-keep):] {
		out.Set(cpu)
	}
	return out
}
