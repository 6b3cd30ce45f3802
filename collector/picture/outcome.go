package picture

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// What an Outcome says.
const (
	Good    = "good"   // it did what it is for
	Bad     = "bad"    // it did not
	Changed = "change" // it is another one since
)

// Outcome is one thing that became of a detector, a runbook or a policy.
type Outcome struct {
	Item manifest.Ref
	At   time.Time
	What string
}

// Confirmation is that somebody reviewed an item and found it right: a detector, runbook or policy, an edge of the map, or a service of which
// the map had a gap. It is stored as JSON.
type Confirmation struct {
	ID   string       `json:"id"`
	Item manifest.Ref `json:"item"` // or FROM>TO
	At   time.Time    `json:"at"`
	By   string       `json:"by"`
	Note string       `json:"note"`
}

// Month is one that is over, with how every objective stood at its end.
type Month struct {
	Name   string // 2026-10
	Report []byte // the JSON of the question slo; empty where the objectives could not be worked out
	// Fault says what is not as it was sealed; empty where all is.
	Fault string
}

// Trend is what was measured of a part, and the value at which the part has run out.
type Trend struct {
	Ref    manifest.Ref
	Name   string // "disk.space /var on web-1"
	Limit  float64
	Above  bool // the limit is reached from below
	Points []Reading
}

// Reading is one value at a moment.
type Reading struct {
	At    time.Time
	Value float64
}
