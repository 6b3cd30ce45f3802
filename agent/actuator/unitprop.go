package actuator

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// UnitProperty is unit.memory-high or unit.tasks-max: one property of a unit, set through systemd until the next boot, and
// read back from the kernel's file. Without systemd it is not to be had: the file alone would be undone by whoever manages
// the unit.
type UnitProperty struct {
	CPU
	controller string
}

func newUnitProperty(cfg Config, controller, property string, perUnit int64, files func(version int) setting) *UnitProperty {
	g := findController(cfg, controller)
	u := &UnitProperty{controller: controller, CPU: CPU{groups: g, property: property, perUnit: perUnit}}
	if u.files = files(g.version); u.files == nil {
		g.version = 0
	}
	return u
}

// Able says why no unit's property can be set on this host, nil if one can.
func (u *UnitProperty) Able() error {
	switch {
	case u.groups.systemd == nil:
		return command.Refuse(command.ReasonNotReversible, "systemd does not run on this host")
	case u.groups.version == 0:
		return command.Refuse(command.ReasonNotReversible, "this host has no cgroup hierarchy whose %s controller has such a limit", u.controller)
	}
	return nil
}

// Prior reads the present limit.
func (u *UnitProperty) Prior(ctx context.Context, target command.Target) (State, error) {
	if err := u.Able(); err != nil {
		return State{}, err
	}
	return u.CPU.Prior(ctx, target)
}

// findController finds the hierarchy of a controller: its own of version 1, or the tree of version 2 that has it.
func findController(cfg Config, name string) *cgroups {
	g := &cgroups{systemd: cfg.Systemd}
	if cfg.Cgroup != "" {
		g.mount, g.version = cfg.Cgroup, 1
		if _, err := os.Stat(filepath.Join(cfg.Cgroup, "cgroup.controllers")); err == nil {
			g.version = 2
		}
		return g
	}
	f, err := os.Open(filepath.Join(cfg.Proc, "self", "mountinfo"))
	if err != nil {
		return g
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		x, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(x) < 5 || len(tail) < 3 {
			continue
		}
		switch {
		case tail[0] == "cgroup" && slices.Contains(strings.Split(tail[2], ","), name):
			g.mount, g.version = x[4], 1
			return g
		case tail[0] == "cgroup2":
			if b, err := os.ReadFile(filepath.Join(x[4], "cgroup.controllers")); err == nil && slices.Contains(strings.Fields(string(b)), name) {
				g.mount, g.version = x[4], 2
			}
		}
	}
	return g
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

func (f limitFile) native(value int64, _ string) (string, error) {
	return strconv.FormatInt(value*f.per, 10), nil
}

func (f limitFile) value(native string) (int64, error) {
	if native == unlimited {
		return f.none, nil
	}
	n, err := strconv.ParseInt(native, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds %q, which is no number", f.name, native)
	}
	return max(1, n/f.per), nil
}
