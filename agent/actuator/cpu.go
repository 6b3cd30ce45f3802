package actuator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// CPU is cpu.weight or cpu.quota: one setting of the cpu controller on one cgroup. Where systemd runs, a unit is
// changed through systemd, so that systemd does not undo the change, and the kernel's file is read back either way: an
// accepted call is no effect.
type CPU struct {
	groups   *cgroups
	files    setting
	property string // of the unit, in systemd
	perUnit  int64  // the property's value for one unit of the action
}

// setting knows the kernel's files for one knob in one version of cgroups.
type setting interface {
	// file is what is written, relative to the cgroup.
	file() string
	// read returns the present value in native text.
	read(root *os.Root, group string) (string, error)
	// write sets a value that read or native returned.
	write(root *os.Root, group, native string) error
	// native turns the action's value into native text; the prior one carries what is not to change.
	native(value int64, prior string) (string, error)
	// value turns native text into the action's unit, as near as that allows.
	value(native string) (int64, error)
}

// group is the Data of a CPU State.
type group struct {
	Path     string `json:"path"`
	Unit     string `json:"unit,omitempty"`     // changed through systemd
	Property uint64 `json:"property,omitempty"` // its prior value there
}

// unset is how systemd writes a number that was not given.
const unset = math.MaxUint64

// Able says why no cgroup can be changed on this host, nil if one can.
func (c *CPU) Able() error {
	switch {
	case c.groups.version == 0:
		return command.Refuse(command.ReasonNotReversible, "this host has no cgroup hierarchy with a cpu controller")
	case c.groups.systemd == nil && unix.Access(c.groups.mount, unix.W_OK) != nil && os.Geteuid() != 0:
		return command.Refuse(command.ReasonNotReversible, "%s may be written by root only; a cgroup that was handed to this user still works", c.groups.mount)
	}
	return nil
}

// Prior finds the cgroup, makes sure that it can be written back, and reads the present setting.
func (c *CPU) Prior(ctx context.Context, target command.Target) (State, error) {
	if c.groups.version == 0 {
		return State{}, command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy with a cpu controller")
	}
	p, err := c.groups.path(ctx, c.groups.mount, target)
	if err != nil {
		return State{}, err
	}
	root, err := os.OpenRoot(c.groups.mount)
	if err != nil {
		return State{}, err
	}
	defer root.Close()
	if _, err := root.Stat(p); errors.Is(err, fs.ErrNotExist) {
		return State{}, command.Refuse(command.ReasonNoTarget, "there is no cgroup /%s", p)
	}
	f, err := root.OpenFile(path.Join(p, c.files.file()), os.O_WRONLY, 0)
	if err != nil {
		return State{}, command.Refuse(command.ReasonNotReversible, "%s of /%s cannot be written: %v", c.files.file(), p, plain(err))
	}
	f.Close()
	native, err := c.files.read(root, p)
	if err != nil {
		return State{}, err
	}
	value, err := c.files.value(native)
	if err != nil {
		return State{}, err
	}
	g := group{Path: p}
	if c.groups.systemd != nil && target.Kind() == command.OnUnit {
		g.Unit = target.Unit
		if g.Property, err = c.groups.systemd.Property(ctx, g.Unit, c.property); err != nil {
			return State{}, fmt.Errorf("cannot ask systemd for unit %s: %w", g.Unit, err)
		}
	}
	data, err := json.Marshal(g)
	if err != nil {
		return State{}, err
	}
	return State{Text: native, Value: value, Knobs: []string{"cgroup/" + p + "/" + c.files.file()}, Data: data}, nil
}

// Write sets the value and reads the kernel's file back.
func (c *CPU) Write(ctx context.Context, ch Change) (State, string, error) {
	native, err := c.files.native(ch.Value(), ch.State.Text)
	if err != nil {
		return ch.State, "", err
	}
	return ch.State, native, c.in(ch, func(root *os.Root, g group) error {
		if g.Unit != "" {
			if err := c.groups.systemd.SetProperty(ctx, g.Unit, c.property, uint64(ch.Value()*c.perUnit)); err != nil {
				return fmt.Errorf("cannot set %s of unit %s: %w", c.property, g.Unit, err)
			}
		} else if err := c.files.write(root, g.Path, native); err != nil {
			return err
		}
		now, err := c.files.read(root, g.Path)
		if err == nil && now != native {
			err = command.Refuse(command.ReasonNoEffect, "%s of /%s reads %s after %s was written", c.files.file(), g.Path, now, native)
		}
		return err
	})
}

// Look reads the kernel's file and compares.
func (c *CPU) Look(_ context.Context, ch Change) (Standing, string, error) {
	var now string
	if err := c.in(ch, func(root *os.Root, g group) (err error) {
		now, err = c.files.read(root, g.Path)
		return err
	}); gone(err) {
		return Gone, "", nil
	} else if err != nil {
		return 0, "", err
	}
	s, err := c.compare(ch, now)
	return s, now, err
}

func (c *CPU) compare(ch Change, now string) (Standing, error) {
	for i, v := range slices.Backward(ch.Values) {
		native, err := c.files.native(v, ch.State.Text)
		if err != nil {
			return 0, err
		}
		if native == now && i == len(ch.Values)-1 {
			return Ours, nil
		}
		if native == now && now != ch.State.Text {
			return Older, nil
		}
	}
	if now == ch.State.Text {
		return Before, nil
	}
	return Other, nil
}

// Restore writes the prior setting back if what is found is ours.
func (c *CPU) Restore(ctx context.Context, ch Change) (Standing, string, error) {
	standing, now, err := c.Look(ctx, ch)
	if err != nil || standing == Gone || standing == Other {
		return standing, now, err
	}
	err = c.in(ch, func(root *os.Root, g group) error {
		if g.Unit != "" && c.groups.systemd != nil {
			if err := c.groups.systemd.SetProperty(ctx, g.Unit, c.property, g.Property); err != nil {
				return fmt.Errorf("cannot set %s of unit %s: %w", c.property, g.Unit, err)
			}
		}
		if now, err = c.files.read(root, g.Path); err == nil && now != ch.State.Text {
			if err = c.files.write(root, g.Path, ch.State.Text); err == nil {
				now, err = c.files.read(root, g.Path)
			}
		}
		if err == nil && now != ch.State.Text {
			err = command.Refuse(command.ReasonNoEffect, "%s of /%s reads %s after %s was written back", c.files.file(), g.Path, now, ch.State.Text)
		}
		return err
	})
	if gone(err) {
		return Gone, "", nil
	}
	return Before, now, err
}

// Tend does nothing: a cgroup's children share its setting.
func (c *CPU) Tend(_ context.Context, ch Change) (State, bool, error) { return ch.State, false, nil }

// in opens the hierarchy so that no path can lead out of it.
func (c *CPU) in(ch Change, do func(*os.Root, group) error) error {
	var g group
	if err := json.Unmarshal(ch.State.Data, &g); err != nil {
		return fmt.Errorf("cannot read a kept cgroup setting: %w", err)
	}
	if g.Path == "" || path.Clean("/"+g.Path) == "/" {
		return command.Refuse(command.ReasonDenied, "the root cgroup is never written")
	}
	if c.groups.version == 0 {
		return command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy with a cpu controller")
	}
	root, err := os.OpenRoot(c.groups.mount)
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root, g)
}

// plain returns the cause of a file error without its path, which the sentence around it has already.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func readText(root *os.Root, p string) (string, error) {
	b, err := root.ReadFile(p)
	return trimSpace(b), err
}

// writeText writes a kernel file in one call: such a file takes a value whole or not at all.
func writeText(root *os.Root, p, text string) error {
	f, err := root.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
