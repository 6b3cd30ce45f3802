// Package actuator changes a host: one file for each action, in the kernel's own units, with the way back kept from the
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
	"os"

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

// Config says where the kernel's files are.
type Config struct {
	Proc   string // default /proc
	Cgroup string // mount of the hierarchy with the cpu controller; empty: found in Proc/self/mountinfo
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

// Set is all actuators of this host.
type Set struct {
	Affinity *Affinity
	Weight   *CPU
	Quota    *CPU

	// Of services, through systemd.
	Start, Stop, Restart *Unit
	MemoryHigh, TasksMax *UnitProperty
}

// New returns the actuators. A hierarchy that is missing shows in Able, not here.
func New(cfg Config) *Set {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	groups := findCgroups(cfg)
	return &Set{
		Affinity: &Affinity{proc: procfs{cfg.Proc}, groups: groups, self: os.Getpid()},
		Weight:   &CPU{groups: groups, files: weightFiles(groups.version), property: "CPUWeight", perUnit: 1},
		Quota:    &CPU{groups: groups, files: quotaFiles(groups.version), property: "CPUQuotaPerSecUSec", perUnit: 10000},

		Start: newUnit(cfg, Start), Stop: newUnit(cfg, Stop), Restart: newUnit(cfg, Restart),
		MemoryHigh: newUnitProperty(cfg, "memory", "MemoryHigh", 1<<20, memoryHighFiles),
		TasksMax:   newUnitProperty(cfg, "pids", "TasksMax", 1, tasksFiles),
	}
}
