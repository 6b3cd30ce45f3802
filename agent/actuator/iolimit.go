package actuator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// IOLimit is io.limit: a group reads and writes no faster than so many KiB a second each on every disk of the host. A disk
// on which it is held tighter already is left alone, and each disk is compared and given back for itself: one that was
// pulled, or that somebody else took in hand, does not keep the others. Version 1 throttles what is read, and what is
// written directly; what is written through the page cache is throttled by version 2 only.
type IOLimit struct {
	groups *cgroups
	sys    string
	h      hierarchy
}

// ioHeld is the Data of an IOLimit's State.
type ioHeld struct {
	Path  string           `json:"path"`
	Disks map[string]int64 `json:"disks"` // what stood before, by "8:0 r" and "8:0 w": bytes a second, noIOLimit for none
}

const (
	noIOLimit = 1 << 62
	// A release in steps counts no limit as 1 GiB/s.
	plentyOfIO = 1 << 20 // KiB/s
	kib        = 1 << 10
)

// The directions in which a disk is limited.
var ioDirections = []string{"r", "w"}

// Able says why no group can be held on this host, nil if one can.
func (a *IOLimit) Able() error {
	switch disks, err := a.disks(); {
	case a.h.version == 0:
		return command.Refuse(command.ReasonNotReversible, "this host has no cgroup hierarchy with an io controller")
	case err != nil:
		return err
	case len(disks) == 0:
		return command.Refuse(command.ReasonNotReversible, "this host has no disk of its own")
	case a.groups.systemd == nil && unix.Access(a.h.mount, unix.W_OK) != nil && os.Geteuid() != 0:
		return command.Refuse(command.ReasonNotReversible, "%s may be written by root only; a cgroup that was handed to this user still works", a.h.mount)
	}
	return nil
}

// disks lists the numbers of the host's real disks: what is built from them is limited with them.
func (a *IOLimit) disks() ([]string, error) {
	dir := filepath.Join(a.sys, "block")
	names, err := readNames(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name, "device")); err != nil {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(dir, name, "dev")); err == nil {
			out = append(out, trimSpace(b))
		}
	}
	slices.Sort(out)
	return out, nil
}

func (a *IOLimit) files() []string {
	if a.h.version == 1 {
		return []string{"blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"}
	}
	return []string{"io.max"}
}

// Prior finds the group, makes sure that it can be written back, and reads what it is held to on each disk.
func (a *IOLimit) Prior(ctx context.Context, target command.Target) (State, error) {
	if a.h.version == 0 {
		return State{}, command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy with an io controller")
	}
	p, err := a.groups.path(ctx, a.h.mount, target)
	if err != nil {
		return State{}, err
	}
	if err := a.h.has(p); err != nil {
		return State{}, err
	}
	disks, err := a.disks()
	if err != nil {
		return State{}, err
	}
	if len(disks) == 0 {
		return State{}, command.Refuse(command.ReasonNoTarget, "this host has no disk of its own")
	}
	root, err := os.OpenRoot(a.h.mount)
	if err != nil {
		return State{}, err
	}
	defer root.Close()
	for _, file := range a.files() {
		f, err := root.OpenFile(path.Join(p, file), os.O_WRONLY, 0)
		if err != nil {
			return State{}, command.Refuse(command.ReasonNotReversible, "%s of /%s cannot be written: %v", file, p, plain(err))
		}
		f.Close()
	}
	now, err := a.read(root, p)
	if err != nil {
		return State{}, err
	}
	held := ioHeld{Path: p, Disks: map[string]int64{}}
	for _, disk := range disks {
		for _, d := range ioDirections {
			held.Disks[disk+" "+d] = limitOf(now, disk+" "+d)
		}
	}
	return a.state(held)
}

func (a *IOLimit) state(held ioHeld) (State, error) {
	data, err := json.Marshal(held)
	if err != nil {
		return State{}, err
	}
	s := State{Text: ioText(held.Disks), Data: data, Value: plentyOfIO}
	for _, v := range held.Disks {
		s.Value = min(s.Value, max(1, v/kib))
	}
	for _, file := range a.files() {
		s.Knobs = append(s.Knobs, "cgroup/"+held.Path+"/"+file)
	}
	return s, nil
}

// Write holds the group on every disk and reads back.
func (a *IOLimit) Write(_ context.Context, c Change) (State, string, error) {
	text := ""
	err := a.on(c, func(root *os.Root, held ioHeld) error {
		now, err := a.read(root, held.Path)
		if err != nil {
			return err
		}
		for key, prior := range held.Disks {
			have := limitOf(now, key)
			want := ioWanted(prior, c.Value())
			if have == want || have != prior && !ioOurs(prior, have, c.Values) {
				continue // somebody else's: it is told by the next look
			}
			if err := a.set(root, held.Path, key, want); err != nil {
				return err
			}
		}
		if now, err = a.read(root, held.Path); err != nil {
			return err
		}
		kept := a.only(held, now)
		text = ioText(kept)
		for key, prior := range held.Disks {
			if want := ioWanted(prior, c.Value()); kept[key] != want {
				return command.Refuse(command.ReasonNoEffect, "disk %s of /%s reads %s after %s was written", key, held.Path, ioNumber(kept[key]), ioNumber(want))
			}
		}
		return nil
	})
	return c.State, text, err
}

// Look compares every disk with a change.
func (a *IOLimit) Look(_ context.Context, c Change) (Standing, string, error) {
	var sum ioSummary
	text := ""
	err := a.on(c, func(root *os.Root, held ioHeld) error {
		now, err := a.read(root, held.Path)
		if err != nil {
			return err
		}
		text = ioText(a.only(held, now))
		for key, prior := range held.Disks {
			sum.count(prior, limitOf(now, key), c.Values)
		}
		return nil
	})
	if gone(err) {
		return Gone, "", nil
	}
	return sum.standing(), text, err
}

// Restore gives back every disk on which our limit is still found.
func (a *IOLimit) Restore(_ context.Context, c Change) (Standing, string, error) {
	standing, text := Before, ""
	err := a.on(c, func(root *os.Root, held ioHeld) error {
		now, err := a.read(root, held.Path)
		if err != nil {
			return err
		}
		present, err := a.disks()
		if err != nil {
			return err
		}
		for key, prior := range held.Disks {
			have := limitOf(now, key)
			disk, _, _ := strings.Cut(key, " ")
			switch {
			case have == prior || !slices.Contains(present, disk):
			case !ioOurs(prior, have, c.Values):
				standing = Other
			default:
				if err := a.set(root, held.Path, key, prior); err != nil {
					return err
				}
			}
		}
		if now, err = a.read(root, held.Path); err != nil {
			return err
		}
		kept := a.only(held, now)
		text = ioText(kept)
		for key, prior := range held.Disks {
			disk, _, _ := strings.Cut(key, " ")
			if slices.Contains(present, disk) && kept[key] != prior && ioOurs(prior, kept[key], c.Values) {
				return command.Refuse(command.ReasonNoEffect, "disk %s of /%s reads %s after %s was written back", key, held.Path, ioNumber(kept[key]), ioNumber(prior))
			}
		}
		return nil
	})
	if gone(err) {
		return Gone, "", nil
	}
	return standing, text, err
}

// Tend takes in disks that came since.
func (a *IOLimit) Tend(_ context.Context, c Change) (State, bool, error) {
	state, changed := c.State, false
	err := a.on(c, func(root *os.Root, held ioHeld) error {
		disks, err := a.disks()
		if err != nil {
			return err
		}
		for _, disk := range disks {
			for _, d := range ioDirections {
				if _, ok := held.Disks[disk+" "+d]; !ok {
					held.Disks[disk+" "+d], changed = noIOLimit, true
					if err := a.set(root, held.Path, disk+" "+d, ioWanted(noIOLimit, c.Value())); err != nil {
						return err
					}
				}
			}
		}
		if changed {
			state, err = a.state(held)
		}
		return err
	})
	if gone(err) {
		return c.State, false, nil
	}
	return state, changed, err
}

// ioSummary counts the entries of one look.
type ioSummary struct{ same, ours, older, before, other int }

func (s *ioSummary) count(prior, now int64, values []int64) {
	last := len(values) - 1
	switch want := ioWanted(prior, values[last]); {
	case now == want && now == prior:
		s.same++
	case now == want:
		s.ours++
	case now == prior:
		s.before++
	case ioOurs(prior, now, values[:last]):
		s.older++
	default:
		s.other++
	}
}

func (s *ioSummary) standing() Standing {
	return standingOf(s.ours, s.older, s.before, s.other)
}

func ioWanted(prior, kibPerSecond int64) int64 { return min(prior, kibPerSecond*kib) }

func ioOurs(prior, now int64, values []int64) bool {
	return slices.ContainsFunc(values, func(v int64) bool { return ioWanted(prior, v) == now })
}

// only leaves out what the change does not hold.
func (a *IOLimit) only(held ioHeld, now map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for key := range held.Disks {
		out[key] = limitOf(now, key)
	}
	return out
}

func limitOf(now map[string]int64, key string) int64 {
	if v, ok := now[key]; ok {
		return v
	}
	return noIOLimit
}

// read returns the limits that stand in the group's files.
func (a *IOLimit) read(root *os.Root, group string) (map[string]int64, error) {
	out := map[string]int64{}
	for i, file := range a.files() {
		text, err := readText(root, path.Join(group, file))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			if a.h.version == 1 {
				if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
					out[f[0]+" "+ioDirections[i]] = int64(min(n, noIOLimit))
				}
				continue
			}
			for _, word := range f[1:] {
				name, value, _ := strings.Cut(word, "=")
				if n, err := strconv.ParseUint(value, 10, 64); err == nil && (name == "rbps" || name == "wbps") {
					out[f[0]+" "+name[:1]] = int64(min(n, noIOLimit))
				}
			}
		}
	}
	return out, nil
}

// set writes one limit and leaves the others of the disk alone.
func (a *IOLimit) set(root *os.Root, group, key string, v int64) error {
	disk, direction, _ := strings.Cut(key, " ")
	file, text := a.files()[0], ""
	if a.h.version == 1 {
		file = a.files()[slices.Index(ioDirections, direction)]
		if v == noIOLimit {
			v = 0 // takes the entry away
		}
		text = disk + " " + strconv.FormatInt(v, 10)
	} else {
		text = disk + " " + direction + "bps=" + ioNumber(v)
	}
	if err := writeText(root, path.Join(group, file), text); err != nil {
		return fmt.Errorf("cannot write %q to %s: %w", text, file, err)
	}
	return nil
}

func ioNumber(v int64) string {
	if v == noIOLimit {
		return unlimited
	}
	return strconv.FormatInt(v, 10)
}

// ioText is "8:0 r=max w=1048576", a disk after the other.
func ioText(disks map[string]int64) string {
	var b strings.Builder
	last := ""
	for _, key := range slices.Sorted(maps.Keys(disks)) {
		disk, direction, _ := strings.Cut(key, " ")
		if disk != last {
			if last != "" {
				b.WriteString("; ")
			}
			b.WriteString(disk)
			last = disk
		}
		b.WriteString(" " + direction + "=" + ioNumber(disks[key]))
	}
	return b.String()
}

// on opens the hierarchy for a kept change.
func (a *IOLimit) on(c Change, do func(*os.Root, ioHeld) error) error {
	var held ioHeld
	if err := json.Unmarshal(c.State.Data, &held); err != nil {
		return fmt.Errorf("cannot read a kept I/O limit: %w", err)
	}
	if held.Path == "" || path.Clean("/"+held.Path) == "/" {
		return command.Refuse(command.ReasonDenied, "the root cgroup is never written")
	}
	if a.h.version == 0 {
		return command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy with an io controller")
	}
	root, err := os.OpenRoot(a.h.mount)
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root, held)
}
