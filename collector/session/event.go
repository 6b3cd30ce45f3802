package session

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Event is something that an agent said, or that happened to its session: one of the types below.
type Event interface{ event() }

// Connected opens a session: the host was welcomed. Skew is the collector's clock minus the agent's, the time on the way
// included.
type Connected struct {
	Session      uint64
	Address      string
	Serial       string
	Version      string
	KernelBootID string
	Skew         time.Duration
	Period       time.Duration // between two ticks
	Facts        Facts
	Labels       map[string]string // as the agent declares them, without the prefix agent/
	At           time.Time
}

// Facts describe the host.
type Facts struct {
	OS, Platform, Kernel, Arch string
	Cgroup                     string // "v1", "v2", "hybrid" or "none"
	CPUs                       int
	MemoryBytes                uint64
}

// Disconnected ends a session. It comes once for each Connected; where a newer session of the host has taken over, its
// Connected may come first: compare Session.
type Disconnected struct {
	Session uint64
	Reason  string
	At      time.Time
}

// Heartbeat comes every 10 s.
type Heartbeat struct {
	Session      uint64
	Skew         time.Duration
	SpoolBytes   uint64
	SpoolDropped uint64 // batches, since the agent's start
	At           time.Time
}

// Actor is what the host's actor says of itself. The agent sends it after each Connected and on change.
type Actor struct {
	Report command.ActorReport
	At     time.Time
}

// Components says where the watched components run, all of them.
type Components struct {
	Places []Place
	At     time.Time
}

// Place is where one watched component runs.
type Place struct {
	Component string
	Running   bool
	Processes int
	Cgroup    string
	Problem   string
}

// Exit says that a process of a watched component ended. Ended is by the host's clock.
type Exit struct {
	Component string
	PID       int
	Ended     time.Time
	At        time.Time
}

// HostChange says that something on the host is not as it was: its boot, a package, or a unit file or program of a component.
type HostChange struct {
	Kind, Component, What, Before, After string
	// Made is by the host's clock.
	Made time.Time
	At   time.Time
}

// Reach answers SendReach.
type Reach struct {
	ID       string
	Host     string
	Answered bool
	Detail   string
	At       time.Time
}

func (Connected) event()    {}
func (Disconnected) event() {}
func (Heartbeat) event()    {}
func (Actor) event()        {}
func (Components) event()   {}
func (Exit) event()         {}
func (HostChange) event()   {}
func (Reach) event()        {}
