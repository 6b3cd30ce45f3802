package actuator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Sysctl is sysctl: one kernel parameter of the closed list in pkg/command, in the network namespace of this process.
type Sysctl struct{ proc string }

func (a Sysctl) file(target command.Target) (string, error) {
	if target.Kind() != command.OnSysctl || !slices.Contains(command.Sysctls(), target.Sysctl) {
		return "", command.Refuse(command.ReasonDenied, "%s is no kernel parameter that can be set", target)
	}
	return filepath.Join(a.proc, "sys", strings.ReplaceAll(target.Sysctl, ".", "/")), nil
}

// Prior reads the parameter and makes sure that it can be written back.
func (a Sysctl) Prior(_ context.Context, target command.Target) (State, error) {
	file, err := a.file(target)
	if err != nil {
		return State{}, err
	}
	v, err := readInt(file)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, command.Refuse(command.ReasonNoTarget, "this kernel has no %s", target.Sysctl)
	} else if err != nil {
		return State{}, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return State{}, command.Refuse(command.ReasonNotReversible, "%s cannot be written: %v", target.Sysctl, plain(err))
	}
	f.Close()
	return State{Text: strconv.FormatInt(v, 10), Value: v, Knobs: []string{target.String()}}, nil
}

// Write sets the parameter and reads it back.
func (a Sysctl) Write(_ context.Context, c Change) (State, string, error) {
	file, err := a.file(c.Target)
	if err != nil {
		return c.State, "", err
	}
	now, err := a.set(file, c.Value())
	return c.State, strconv.FormatInt(now, 10), err
}

// set writes the number without creating or truncating anything: it is a kernel's file.
func (a Sysctl) set(file string, v int64) (int64, error) {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteString(strconv.FormatInt(v, 10) + "\n")
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return 0, fmt.Errorf("cannot write %d to %s: %w", v, file, plain(err))
	}
	now, err := readInt(file)
	if err == nil && now != v {
		err = command.Refuse(command.ReasonNoEffect, "%s reads %d after %d was written", file, now, v)
	}
	return now, err
}

// Look reads the parameter and compares.
func (a Sysctl) Look(_ context.Context, c Change) (Standing, string, error) {
	file, err := a.file(c.Target)
	if err != nil {
		return 0, "", err
	}
	now, err := readInt(file)
	if gone(err) {
		return Gone, "", nil
	}
	text := strconv.FormatInt(now, 10)
	switch {
	case err != nil:
		return 0, "", err
	case now == c.Value():
		return Ours, text, nil
	case now == c.State.Value:
		return Before, text, nil
	case slices.Contains(c.Values, now):
		return Older, text, nil
	}
	return Other, text, nil
}

// Restore writes the prior value back if what is found is ours.
func (a Sysctl) Restore(ctx context.Context, c Change) (Standing, string, error) {
	standing, text, err := a.Look(ctx, c)
	if err != nil || standing == Gone || standing == Other || standing == Before {
		return standing, text, err
	}
	file, err := a.file(c.Target)
	if err != nil {
		return 0, "", err
	}
	now, err := a.set(file, c.State.Value)
	return Before, strconv.FormatInt(now, 10), err
}

// Tend does nothing.
func (a Sysctl) Tend(_ context.Context, c Change) (State, bool, error) { return c.State, false, nil }

func readInt(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(trimSpace(b), 10, 64)
	if err != nil {
		return 0, command.Refuse(command.ReasonNotReversible, "%s holds %q, which is no single number", file, trimSpace(b))
	}
	return v, nil
}
