// Package actuator changes a host: one file for each family of actions, in the kernel's own units, with the way back kept from the
// start.
//
// Every actuator reads the prior state, writes, reads back what the kernel then says, and can restore. It refuses what
// it could not take back with the privileges that it has, it never starts a program, and it leaves alone what it finds
// changed by somebody else. It judges nothing: permission, fence and lease are the business of agent/actor. It owns no
// goroutine and must be called from one at a time.
package actuator

import (
	"context"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// State is what stood before an action, as a journal keeps it: enough to recognise our own change later and to undo it.
type State struct {
	Text     string   `json:"text"`            // native units, for people and for a command's expected prior
	Value    int64    `json:"value"`           // the same in the action's unit, as near as that unit allows
	PidBound bool     `json:"pidBound"`        // void in another boot
	Knobs    []string `json:"knobs,omitempty"` // what is held: no two leases may share one
	Data     []byte   `json:"data,omitempty"`  // the actuator's own
}

// Change is an action in progress: the state before it and every value that has been written since, newest last. A
// value found on the host is ours if it comes from any of them.
type Change struct {
	Target command.Target
	State  State
	Values []int64
}

// Value is the one that is wanted now.
func (c Change) Value() int64 { return c.Values[len(c.Values)-1] }

// Standing says what is found on the host, compared with a change.
type Standing uint8

// The standings.
const (
	Ours   Standing = iota + 1 // the newest value, everywhere
	Older                      // an earlier value of the same change
	Before                     // what stood before the change
	Mixed                      // partly ours, partly what stood before
	Other                      // somebody else's value
	Gone                       // the target is no longer there
)

// String returns the standing in lower case.
func (s Standing) String() string {
	names := [...]string{"", "ours", "older", "before", "mixed", "other", "gone"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("standing(%d)", uint8(s))
}

// standingOf sums up how many parts of a target stand in each way.
func standingOf(ours, older, before, other int) Standing {
	switch {
	case other > 0:
		return Other
	case before == 0 && older == 0:
		return Ours
	case ours == 0 && older == 0:
		return Before
	case ours == 0 && before == 0:
		return Older
	}
	return Mixed
}

// Config says where the kernel's files are.
type Config struct {
	Proc   string // default /proc
	Sys    string // default /sys
	Cgroup string // mount of the one hierarchy with all controllers; empty: found in Proc/self/mountinfo
	// Systemd is asked for, and told about, units where systemd runs. Nil: it does not, and units are found by the name
	// of their cgroup.
	Systemd UnitManager
}

// UnitManager is the part of systemd that the cpu actuators use.
type UnitManager interface {
	// ControlGroup returns the path of the unit's cgroup, "/" first; empty where the unit has none now.
	ControlGroup(ctx context.Context, unit string) (string, error)
	// Property and SetProperty read and set, until the next boot, one number.
	Property(ctx context.Context, unit, name string) (uint64, error)
	SetProperty(ctx context.Context, unit, name string, value uint64) error
}

// Actuator performs one action on the host. Prior reads what stands there, Write makes the newest value of a change so
// and reads it back, Look compares, Restore gives back what stood before wherever our value is still found, Tend takes
// in what was born since. Errors may be a *command.Refusal.
type Actuator interface {
	Prior(ctx context.Context, t command.Target) (State, error)
	Write(ctx context.Context, c Change) (State, string, error)
	Look(ctx context.Context, c Change) (Standing, string, error)
	Restore(ctx context.Context, c Change) (Standing, string, error)
	Tend(ctx context.Context, c Change) (State, bool, error)
}

// New returns this host's actuators by the name of their action. What the host lacks shows in their Able, not here.
func New(cfg Config) map[string]Actuator {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Sys == "" {
		cfg.Sys = "/sys"
	}
	g, p := findCgroups(cfg), procfs{cfg.Proc}
	out := map[string]Actuator{
		"process.affinity": newAffinity(p, g),
		"process.nice":     newTree[int](nice{}, p, g),
		"process.ionice":   newTree[int](ioNice{}, p, g),
		"process.sched":    newTree[uint32](schedClass{}, p, g),
		"process.oom":      newTree[int](oomPreference{p}, p, g),
	}
	for name, verb := range map[string]Verb{"unit.start": Start, "unit.stop": Stop, "unit.restart": Restart} {
		out[name] = newUnit(cfg, verb)
	}
	out["sysctl"] = Sysctl{cfg.Proc}
	out["cgroup.kill"] = &Kill{groups: g}
	out["file.relief"] = newRelief(time.Now)
	out["io.limit"] = &IOLimit{groups: g, sys: cfg.Sys, h: g.with("blkio")}
	for name, s := range groupSettings(g) {
		out[name] = s
	}
	return out
}

// groupSettings are the actions on one setting of one cgroup.
func groupSettings(g *cgroups) map[string]*Group {
	out := map[string]*Group{}
	one := func(name, controller, property string, unitOf func(int64) uint64, of func(version int) setting) {
		a := &Group{groups: g, absent: "this host has no cgroup hierarchy with a " + controller + " controller"}
		if h := g.with(controller); h.version != 0 {
			a.in = []variant{{h, of(h.version), property, unitOf}}
		}
		out[name] = a
	}
	same := func(v int64) uint64 { return uint64(v) }
	one("cpu.weight", "cpu", "CPUWeight", same, weightFiles)
	one("cpu.quota", "cpu", "CPUQuotaPerSecUSec", func(v int64) uint64 { return uint64(v) * 10000 }, quotaFiles)
	one("cpu.idle", "cpu", "CPUWeight", func(int64) uint64 { return 0 }, func(version int) setting {
		return idleSetting{weight: weightFiles(version).file()}
	})
	one("cpuset.cpus", "cpuset", "", nil, func(version int) setting { return cpusetSetting{version} })
	one("pids.max", "pids", "TasksMax", same, func(int) setting { return pidsSetting{} })
	for name, which := range map[string]string{"memory.high": "high", "memory.low": "low", "memory.limit": "max"} {
		in, absent := memoryVariants(g, which)
		out[name] = &Group{groups: g, in: in, absent: absent}
	}
	out["cgroup.freeze"] = &Group{groups: g, in: freezeVariants(g), absent: "this host has no cgroup hierarchy that can freeze"}
	return out
}
