package actuator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Kill is cgroup.kill: every process in a group and below it is killed. Version 2 has the kernel do it; in version 1 the
// group is frozen where it can be, so that nothing is born meanwhile, and each process is signalled through a descriptor,
// so that a number that was used again is not hit. It cannot be taken back.
type Kill struct{ groups *cgroups }

const (
	killedWithin = 5 * time.Second
	killPause    = 5 * time.Millisecond
)

// killed is the Data of a Kill's State.
type killed struct {
	Path  string `json:"path"`
	Mount string `json:"mount"`
}

// Able says why no group can be killed on this host, nil if one can.
func (a *Kill) Able() error {
	if len(a.groups.all()) == 0 {
		return command.Refuse(command.ReasonNotReversible, "this host has no cgroup hierarchy")
	}
	return nil
}

// Prior finds the group and counts what is in it. A group that holds this actor or init is refused.
func (a *Kill) Prior(ctx context.Context, target command.Target) (State, error) {
	var first error
	for _, mount := range a.groups.all() {
		p, err := a.groups.path(ctx, mount, target)
		if err == nil {
			err = hierarchy{mount: mount}.has(p)
		}
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		root, err := os.OpenRoot(mount)
		if err != nil {
			return State{}, err
		}
		defer root.Close()
		if err := notOurs(root, p); err != nil {
			return State{}, err
		}
		pids, err := groupPIDs(root, p)
		if err != nil {
			return State{}, err
		}
		if len(pids) == 0 {
			first = command.Refuse(command.ReasonNoTarget, "there is no process in cgroup /%s", p)
			continue
		}
		data, err := json.Marshal(killed{p, mount})
		if err != nil {
			return State{}, err
		}
		return State{Text: fmt.Sprintf("%d processes", len(pids)), PidBound: true, Knobs: []string{"cgroup/" + p + "/cgroup.kill"}, Data: data}, nil
	}
	if first == nil {
		first = command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy")
	}
	return State{}, first
}

// Write kills and waits until nothing is left.
func (a *Kill) Write(ctx context.Context, c Change) (State, string, error) {
	err := a.on(c, func(root *os.Root, k killed) error {
		if err := notOurs(root, k.Path); err != nil {
			return err
		}
		_, err := root.Stat(path.Join(k.Path, "cgroup.kill"))
		whole := err == nil
		if !whole {
			defer a.freeze(k.Path)()
		}
		for end := time.Now().Add(killedWithin); ; time.Sleep(killPause) {
			pids, err := groupPIDs(root, k.Path)
			if err != nil || len(pids) == 0 {
				return err
			}
			if whole {
				err = writeText(root, path.Join(k.Path, "cgroup.kill"), "1")
			} else {
				err = a.signal(root, k.Path, pids)
			}
			switch {
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case time.Now().After(end):
				return command.Refuse(command.ReasonNoEffect, "%d processes of /%s are still there after %s", len(pids), k.Path, killedWithin)
			}
		}
	})
	if gone(err) {
		err = nil // a group without processes may be removed at once
	}
	text := "0 processes"
	if err != nil {
		text = ""
	}
	return c.State, text, err
}

// signal kills the processes that are still in the group.
func (a *Kill) signal(root *os.Root, group string, pids []int) error {
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot hold process %d: %w", pid, err)
		}
		// The descriptor names the process that has the number now: is it one of the group's?
		if now, e := groupPIDs(root, group); e == nil && slices.Contains(now, pid) {
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill process %d: %w", pid, err)
		}
	}
	a.thaw(group)
	return nil
}

// freeze stops the group of the same path in the freezer of version 1, if there is one that is not frozen already, and
// returns what lets it go on.
func (a *Kill) freeze(group string) func() {
	mount := a.groups.v1["freezer"]
	if mount == "" {
		return func() {}
	}
	root, err := os.OpenRoot(mount)
	if err != nil {
		return func() {}
	}
	defer root.Close()
	if err := writeText(root, path.Join(group, "freezer.state"), "FROZEN"); err != nil {
		return func() {}
	}
	return func() { a.thaw(group) }
}

// thaw lets a group go on: a frozen process of version 1 does not even die.
func (a *Kill) thaw(group string) {
	if mount := a.groups.v1["freezer"]; mount != "" {
		if root, err := os.OpenRoot(mount); err == nil {
			_ = writeText(root, path.Join(group, "freezer.state"), "THAWED")
			root.Close()
		}
	}
}

// Look tells whether anything lives in the group.
func (a *Kill) Look(_ context.Context, c Change) (Standing, string, error) {
	var pids []int
	err := a.on(c, func(root *os.Root, k killed) (err error) {
		pids, err = groupPIDs(root, k.Path)
		return err
	})
	switch {
	case gone(err):
		return Gone, "", nil
	case err != nil:
		return 0, "", err
	case len(pids) == 0:
		return Ours, "0 processes", nil
	}
	return Other, fmt.Sprintf("%d processes", len(pids)), nil
}

// Restore refuses: the dead stay dead.
func (a *Kill) Restore(context.Context, Change) (Standing, string, error) {
	return 0, "", command.Refuse(command.ReasonNotReversible, "what was killed does not come back: start its unit")
}

// Tend does nothing.
func (a *Kill) Tend(_ context.Context, c Change) (State, bool, error) { return c.State, false, nil }

func (a *Kill) on(c Change, do func(*os.Root, killed) error) error {
	var k killed
	if err := json.Unmarshal(c.State.Data, &k); err != nil {
		return fmt.Errorf("cannot read a kept group: %w", err)
	}
	if path.Clean("/"+k.Path) == "/" || !slices.Contains(a.groups.all(), k.Mount) {
		return command.Refuse(command.ReasonDenied, "%q of %q is no group to be killed", k.Path, k.Mount)
	}
	root, err := os.OpenRoot(k.Mount)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Stat(strings.TrimPrefix(k.Path, "/")); errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return do(root, k)
}
