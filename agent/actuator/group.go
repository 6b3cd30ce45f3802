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

// Group is an action on one setting of one cgroup: cpu.weight, memory.high and their like. Where systemd runs and knows
// the setting, a unit is changed through systemd, so that systemd does not undo the change, and the kernel's file is
// read back either way: an accepted call is no effect.
type Group struct {
	groups *cgroups
	in     []variant // in the order of preference; the first in which the cgroup is found counts
	absent string    // why there is none
}

// variant is a setting as one hierarchy of this host has it.
type variant struct {
	hierarchy
	setting
	property string             // of the unit, in systemd; empty: systemd does not know it
	unitOf   func(int64) uint64 // the property's value for one of the action's
}

// setting knows the kernel's files for one knob in one version of cgroups.
type setting interface {
	// file is what is written, relative to the cgroup.
	file() string
	// read returns the present value in native text.
	read(root *os.Root, group string) (string, error)
	// write sets a value that read or native returned.
	write(root *os.Root, group, native string) error
	// native turns the action's value into native text.
	native(value int64, was former) (string, error)
	// value turns native text into the action's unit, as near as that allows.
	value(native, basis string) (int64, error)
}

// former is what a setting was before: native text, and what its values are counted in where that is not fixed.
type former struct{ text, basis string }

// Further abilities of a setting.
type (
	// based has values that are counted in something of the host's, such as its CPUs.
	based interface {
		basis(root *os.Root, group string) (string, error)
	}
	// fitting can say that a cgroup could not be given back, or must not be touched, whatever the value.
	fitting interface {
		fit(root *os.Root, group string) error
	}
	// guarded can say that a value would do harm that could not be taken back.
	guarded interface {
		guard(root *os.Root, group string, value int64) error
	}
	// alike knows texts that come to the same as what stood before.
	alike interface {
		same(root *os.Root, group, now, prior string) bool
	}
	// joined changes other knobs with it.
	joined interface{ also() []string }
)

// group is the Data of a Group's State.
type group struct {
	Path     string `json:"path"`
	Mount    string `json:"mount,omitempty"`
	Basis    string `json:"basis,omitempty"`
	Unit     string `json:"unit,omitempty"`     // changed through systemd
	Property uint64 `json:"property,omitempty"` // its prior value there
}

// unset is how systemd writes a number that was not given.
const unset = math.MaxUint64

// Able says why no cgroup can be changed on this host, nil if one can.
func (c *Group) Able() error {
	if len(c.in) == 0 {
		return command.Refuse(command.ReasonNotReversible, "%s", c.absent)
	}
	if v := c.in[0]; c.groups.systemd == nil && unix.Access(v.mount, unix.W_OK) != nil && os.Geteuid() != 0 {
		return command.Refuse(command.ReasonNotReversible, "%s may be written by root only; a cgroup that was handed to this user still works", v.mount)
	}
	return nil
}

// find returns the variant in whose hierarchy the target has a cgroup, and the cgroup's path there.
func (c *Group) find(ctx context.Context, target command.Target) (variant, string, error) {
	err := error(command.Refuse(command.ReasonNoTarget, "%s", c.absent))
	for i, v := range c.in {
		p, why := c.groups.path(ctx, v.mount, target)
		if why == nil {
			why = v.has(p)
		}
		if why == nil {
			return v, p, nil
		}
		if i == 0 {
			err = why
		}
	}
	return variant{}, "", err
}

// Prior finds the cgroup, makes sure that it can be written back, and reads the present setting.
func (c *Group) Prior(ctx context.Context, target command.Target) (State, error) {
	v, p, err := c.find(ctx, target)
	if err != nil {
		return State{}, err
	}
	root, err := os.OpenRoot(v.mount)
	if err != nil {
		return State{}, err
	}
	defer root.Close()
	f, err := root.OpenFile(path.Join(p, v.file()), os.O_WRONLY, 0)
	if err != nil {
		return State{}, command.Refuse(command.ReasonNotReversible, "%s of /%s cannot be written: %v", v.file(), p, plain(err))
	}
	f.Close()
	if x, ok := v.setting.(fitting); ok {
		if err := x.fit(root, p); err != nil {
			return State{}, err
		}
	}
	g := group{Path: p, Mount: v.mount}
	if x, ok := v.setting.(based); ok {
		if g.Basis, err = x.basis(root, p); err != nil {
			return State{}, err
		}
	}
	native, err := v.read(root, p)
	if err != nil {
		return State{}, err
	}
	value, err := v.value(native, g.Basis)
	if err != nil {
		return State{}, err
	}
	if c.groups.systemd != nil && target.Kind() == command.OnUnit && v.property != "" {
		g.Unit = target.Unit
		if g.Property, err = c.groups.systemd.Property(ctx, g.Unit, v.property); err != nil {
			return State{}, fmt.Errorf("cannot ask systemd for unit %s: %w", g.Unit, err)
		}
	}
	data, err := json.Marshal(g)
	if err != nil {
		return State{}, err
	}
	s := State{Text: native, Value: value, Knobs: []string{"cgroup/" + p + "/" + v.file()}, Data: data}
	if x, ok := v.setting.(joined); ok {
		for _, file := range x.also() {
			s.Knobs = append(s.Knobs, "cgroup/"+p+"/"+file)
		}
	}
	return s, nil
}

// Write sets the value and reads the kernel's file back.
func (c *Group) Write(ctx context.Context, ch Change) (State, string, error) {
	native := ""
	err := c.on(ch, func(v variant, root *os.Root, g group) (err error) {
		if native, err = v.native(ch.Value(), former{ch.State.Text, g.Basis}); err != nil {
			return err
		}
		if x, ok := v.setting.(guarded); ok {
			if err := x.guard(root, g.Path, ch.Value()); err != nil {
				return err
			}
		}
		if g.Unit != "" {
			if err := c.groups.systemd.SetProperty(ctx, g.Unit, v.property, v.unitOf(ch.Value())); err != nil {
				return fmt.Errorf("cannot set %s of unit %s: %w", v.property, g.Unit, err)
			}
		} else if err := v.write(root, g.Path, native); err != nil {
			return err
		}
		now, err := v.read(root, g.Path)
		if err == nil && now != native {
			err = command.Refuse(command.ReasonNoEffect, "%s of /%s reads %s after %s was written", v.file(), g.Path, now, native)
		}
		return err
	})
	return ch.State, native, err
}

// Look reads the kernel's file and compares.
func (c *Group) Look(_ context.Context, ch Change) (Standing, string, error) {
	var standing Standing
	var now string
	err := c.on(ch, func(v variant, root *os.Root, g group) (err error) {
		if now, err = v.read(root, g.Path); err == nil {
			standing, err = compare(v.setting, root, ch, g, now)
		}
		return err
	})
	if gone(err) {
		return Gone, "", nil
	}
	return standing, now, err
}

func compare(s setting, root *os.Root, ch Change, g group, now string) (Standing, error) {
	for i, v := range slices.Backward(ch.Values) {
		native, err := s.native(v, former{ch.State.Text, g.Basis})
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
	if isPrior(s, root, g, now, ch.State.Text) {
		return Before, nil
	}
	return Other, nil
}

// isPrior reports whether what stands is, or comes to, what stood before.
func isPrior(s setting, root *os.Root, g group, now, prior string) bool {
	x, ok := s.(alike)
	return now == prior || ok && x.same(root, g.Path, now, prior)
}

// Restore writes the prior setting back if what is found is ours.
func (c *Group) Restore(ctx context.Context, ch Change) (Standing, string, error) {
	standing, now, err := c.Look(ctx, ch)
	if err != nil || standing == Gone || standing == Other {
		return standing, now, err
	}
	err = c.on(ch, func(v variant, root *os.Root, g group) error {
		if g.Unit != "" && c.groups.systemd != nil {
			if err := c.groups.systemd.SetProperty(ctx, g.Unit, v.property, g.Property); err != nil {
				return fmt.Errorf("cannot set %s of unit %s: %w", v.property, g.Unit, err)
			}
		}
		if now, err = v.read(root, g.Path); err == nil && !isPrior(v.setting, root, g, now, ch.State.Text) {
			if err = v.write(root, g.Path, ch.State.Text); err == nil {
				now, err = v.read(root, g.Path)
			}
		}
		if err == nil && !isPrior(v.setting, root, g, now, ch.State.Text) {
			err = command.Refuse(command.ReasonNoEffect, "%s of /%s reads %s after %s was written back", v.file(), g.Path, now, ch.State.Text)
		}
		return err
	})
	if gone(err) {
		return Gone, "", nil
	}
	return Before, now, err
}

// Tend does nothing: a cgroup's children share its setting.
func (c *Group) Tend(_ context.Context, ch Change) (State, bool, error) { return ch.State, false, nil }

// on opens the hierarchy that a change was made in, so that no path can lead out of it.
func (c *Group) on(ch Change, do func(variant, *os.Root, group) error) error {
	var g group
	if err := json.Unmarshal(ch.State.Data, &g); err != nil {
		return fmt.Errorf("cannot read a kept cgroup setting: %w", err)
	}
	if g.Path == "" || path.Clean("/"+g.Path) == "/" {
		return command.Refuse(command.ReasonDenied, "the root cgroup is never written")
	}
	i := slices.IndexFunc(c.in, func(v variant) bool { return g.Mount == "" || v.mount == g.Mount })
	if i < 0 {
		return command.Refuse(command.ReasonNoTarget, "the hierarchy at %q is no longer mounted", g.Mount)
	}
	root, err := os.OpenRoot(c.in[i].mount)
	if err != nil {
		return err
	}
	defer root.Close()
	return do(c.in[i], root, g)
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
