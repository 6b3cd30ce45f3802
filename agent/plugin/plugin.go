// Package plugin carries out plugin:NAME: a program of the host's own gets and sets one number, and is so a knob like any
// other that is read, written, compared and given back.
//
// No shell is ever started. The program is named in the permissions by absolute path and SHA-256. Its file is read once,
// into a sealed file in memory; what was hashed there is what runs, through the same descriptor. It gets a typed argument
// list, an environment of three words, a user, an own cgroup of version 2, resource limits and a time; when the time is over,
// or it says more than it may, everything in its group is killed. A shim (see Shim) sets the limits between fork and exec.
//
// It judges nothing and owns no goroutine beyond a call.
package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Program is what a host's owner declares.
type Program struct {
	Exe     string        `json:"exe"`    // absolute path
	SHA256  string        `json:"sha256"` // of the file, in hex
	User    string        `json:"user"`   // as whom it runs
	Get     []string      `json:"get"`    // arguments with which it prints the value that stands; "{target}" is the target
	Set     []string      `json:"set"`    // arguments with which it sets "{value}"
	Timeout time.Duration `json:"timeout"`
	Memory  int64         `json:"memory"` // bytes of address space
}

// The words of an argument list that stand for something.
const (
	TargetWord = "{target}"
	ValueWord  = "{value}"
)

// Defaults and bounds of a Program.
const (
	DefaultTimeout = 5 * time.Second
	MaxTimeout     = 10 * time.Second // nothing else is done by an actor meanwhile, but that its kill file calls it off
	DefaultMemory  = 256 << 20
	MaxProgram     = 32 << 20 // bytes of the file
	maxOutput      = 4 << 10
)

// Plugin is the actuator of one declared program.
type Plugin struct {
	name     string
	declared atomic.Pointer[Program]
	runner   *Runner
}

// New returns the actuator of plugin:NAME, which refuses until something is declared.
func New(name string, r *Runner) *Plugin { return &Plugin{name: name, runner: r} }

// Declare says what the program is from now on; nil: there is none any more. A change in force is given back by the program
// that made it, as long as its file is the same.
func (p *Plugin) Declare(d *Program) { p.declared.Store(d) }

// Able says why no program can be run on this host, nil if one can.
func (p *Plugin) Able() error { return p.runner.able() }

// kept is the Data of a State.
type kept struct {
	Program Program `json:"program"`
	Prior   int64   `json:"prior"`
}

// Prior asks the program for the value that stands.
func (p *Plugin) Prior(ctx context.Context, target command.Target) (actuator.State, error) {
	d := p.declared.Load()
	if d == nil {
		return actuator.State{}, command.Refuse(command.ReasonNoTarget, "the permissions declare no plugin %s", p.name)
	}
	if err := p.runner.able(); err != nil {
		return actuator.State{}, err
	}
	v, err := p.get(ctx, *d, target)
	if err != nil {
		return actuator.State{}, err
	}
	data, err := json.Marshal(kept{*d, v})
	if err != nil {
		return actuator.State{}, err
	}
	return actuator.State{Text: strconv.FormatInt(v, 10), Value: v, Knobs: []string{"plugin/" + p.name + "/" + target.String()}, Data: data}, nil
}

// Write has the program set the value, and asks it.
func (p *Plugin) Write(ctx context.Context, c actuator.Change) (actuator.State, string, error) {
	k, err := p.kept(c)
	if err != nil {
		return c.State, "", err
	}
	now, err := p.set(ctx, k.Program, c.Target, c.Value())
	return c.State, strconv.FormatInt(now, 10), err
}

// Look asks the program and compares.
func (p *Plugin) Look(ctx context.Context, c actuator.Change) (actuator.Standing, string, error) {
	k, err := p.kept(c)
	if err != nil {
		return 0, "", err
	}
	return p.look(ctx, k, c)
}

func (p *Plugin) look(ctx context.Context, k kept, c actuator.Change) (actuator.Standing, string, error) {
	now, err := p.get(ctx, k.Program, c.Target)
	if err != nil {
		return 0, "", err
	}
	text := strconv.FormatInt(now, 10)
	switch {
	case now == c.Value():
		return actuator.Ours, text, nil
	case now == k.Prior:
		return actuator.Before, text, nil
	case slices.Contains(c.Values, now):
		return actuator.Older, text, nil
	}
	return actuator.Other, text, nil
}

// Restore has the program set the prior value where ours is still found.
func (p *Plugin) Restore(ctx context.Context, c actuator.Change) (actuator.Standing, string, error) {
	k, err := p.kept(c)
	if err != nil {
		return 0, "", err
	}
	standing, text, err := p.look(ctx, k, c)
	if err != nil || standing == actuator.Other || standing == actuator.Before {
		return standing, text, err
	}
	now, err := p.set(ctx, k.Program, c.Target, k.Prior)
	return actuator.Before, strconv.FormatInt(now, 10), err
}

// Tend does nothing.
func (p *Plugin) Tend(_ context.Context, c actuator.Change) (actuator.State, bool, error) {
	return c.State, false, nil
}

// kept is the program that a change was made with. Where its file was replaced since, by one that is declared anew under the
// same name, the new one has to give back.
func (p *Plugin) kept(c actuator.Change) (kept, error) {
	var k kept
	if err := json.Unmarshal(c.State.Data, &k); err != nil {
		return k, fmt.Errorf("cannot read a kept program: %w", err)
	}
	if d := p.declared.Load(); d != nil {
		k.Program = *d
	}
	return k, nil
}

func (p *Plugin) get(ctx context.Context, d Program, target command.Target) (int64, error) {
	out, err := p.runner.run(ctx, p.name, d, fill(d.Get, target, 0))
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return 0, command.Refuse(command.ReasonNotReversible, "plugin %s was asked for a number and said %q", p.name, clip(out))
	}
	return v, nil
}

func (p *Plugin) set(ctx context.Context, d Program, target command.Target, v int64) (int64, error) {
	if _, err := p.runner.run(ctx, p.name, d, fill(d.Set, target, v)); err != nil {
		return 0, err
	}
	now, err := p.get(ctx, d, target)
	if err == nil && now != v {
		err = command.Refuse(command.ReasonNoEffect, "plugin %s says %d after it was to set %d", p.name, now, v)
	}
	return now, err
}

// fill puts the target and the value where their words stand. A word is replaced as a whole or not at all.
func fill(args []string, target command.Target, v int64) []string {
	out := slices.Clone(args)
	for i, a := range out {
		switch a {
		case TargetWord:
			out[i] = target.String()
		case ValueWord:
			out[i] = strconv.FormatInt(v, 10)
		}
	}
	return out
}

func clip(s string) string {
	if s = strings.TrimSpace(s); len(s) > 80 {
		s = s[:80] + "..."
	}
	return s
}
