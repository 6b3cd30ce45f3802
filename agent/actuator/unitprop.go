package actuator

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// UnitProperty is unit.memory-high or unit.tasks-max: one property of a unit, set through systemd until the next boot, and
// read back from the kernel's file. Without systemd it is not to be had: the file alone would be undone by whoever manages
// the unit.
type UnitProperty struct {
	Group
	controller string
}

func newUnitProperty(g *cgroups, controller, property string, perUnit uint64, files func(version int) setting) *UnitProperty {
	u := &UnitProperty{controller: controller, Group: Group{groups: g}}
	h := g.with(controller)
	if h.version == 0 {
		return u
	}
	if s := files(h.version); s != nil {
		u.in = []variant{{h, s, property, func(v int64) uint64 { return uint64(v) * perUnit }}}
	}
	return u
}

// Able says why no unit's property can be set on this host, nil if one can.
func (u *UnitProperty) Able() error {
	switch {
	case u.groups.systemd == nil:
		return command.Refuse(command.ReasonNotReversible, "systemd does not run on this host")
	case len(u.in) == 0:
		return command.Refuse(command.ReasonNotReversible, "this host has no cgroup hierarchy whose %s controller has such a limit", u.controller)
	}
	return nil
}

// Prior reads the present limit.
func (u *UnitProperty) Prior(ctx context.Context, target command.Target) (State, error) {
	if err := u.Able(); err != nil {
		return State{}, err
	}
	return u.Group.Prior(ctx, target)
}

// limitFile is a file that holds a number or "max".
type limitFile struct {
	name string
	per  int64 // the file's number for one unit of the action
	none int64 // the action's value that stands for no limit
}

func tasksFiles(int) setting { return limitFile{"pids.max", 1, 4194304} }

func memoryHighFiles(version int) setting {
	if version != 2 {
		return nil
	}
	return limitFile{"memory.high", 1 << 20, 1 << 30}
}

func (f limitFile) file() string { return f.name }

func (f limitFile) read(root *os.Root, group string) (string, error) {
	return readText(root, path.Join(group, f.name))
}

func (f limitFile) write(root *os.Root, group, native string) error {
	return writeText(root, path.Join(group, f.name), native)
}

// fit refuses a unit that holds whoever would have to give it back.
func (limitFile) fit(root *os.Root, group string) error { return notOurs(root, group) }

func (f limitFile) native(value int64, _ former) (string, error) {
	return strconv.FormatInt(value*f.per, 10), nil
}

func (f limitFile) value(native, _ string) (int64, error) {
	if native == unlimited {
		return f.none, nil
	}
	n, err := strconv.ParseInt(native, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds %q, which is no number", f.name, native)
	}
	return max(1, n/f.per), nil
}
