// Package overload turns a host's samples into verdicts: windows of recent values by signal, and detectors that read
// them. Detectors are data.
//
// It is pure: window in, verdict out; no I/O, no clock, no goroutine. A Host belongs to one goroutine.
package overload

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// State is what a detector says of its subject.
type State uint8

// The states of a verdict.
const (
	Unknown State = iota
	Healthy
	AtRisk
	Overloaded
)

var stateNames = [...]string{"unknown", "healthy", "at risk", "overloaded"}

// String returns the state as the API writes it.
func (s State) String() string { return stateNames[s] }

// Verdict is the output of one detector for one subject on one host.
type Verdict struct {
	Host     string
	Detector string // name of the detector
	Scope    string // host | unit | process | device | check
	Subject  string // component ref, unit, device, mount or check; "" for the host itself
	State    State
	Level    health.Level // what it means for a leaf that it applies to
	// AppliesTo is "host", or "components" where it also counts for the components on the host.
	AppliesTo string
	Since     time.Time
	At        time.Time // of the sample that decided
	// Began is when the first sample was taken that speaks for the state, of those in a row up to the one that decided; for AtRisk
	// and Overloaded only.
	Began    time.Time
	Evidence []Evidence
	// Gone says that the subject has ended, or the detector was taken away: the verdict with this key is to be forgotten.
	// State is then Unknown.
	Gone bool
}

// Key identifies a verdict's place; a later verdict with the same key replaces it.
func (v *Verdict) Key() string { return v.Host + "|" + v.Detector + "|" + v.Subject }

// Evidence is one number that a verdict rests on.
type Evidence struct {
	Signal  string // "cpu.pressure.some"
	Subject string // "component/web"
	Value   float64
	Text    string // "cpu.pressure.some 71 % > 40 % in 2 of 3 ticks"
}
