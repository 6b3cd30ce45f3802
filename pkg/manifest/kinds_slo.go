package manifest

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// KindSLO is a service level objective.
const KindSLO = "SLO"

// SLO is how well a service is to do, measured by its health over time.
type SLO struct {
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Service     Ref    `json:"service" manifest:"required,ref=service"`
	// Objective is the least share that is to be good, below 100%: a budget of nothing cannot be spent.
	Objective Share     `json:"objective" manifest:"required"`
	Window    SLOWindow `json:"window" manifest:"required"`
	// Method says what is counted: every moment (occurrences), slices that were good enough (timeslices), or the mean of what
	// each slice reached (ratioTimeslices). The latter two need Slice.
	Method string    `json:"method,omitempty" manifest:"enum=occurrences|timeslices|ratioTimeslices"`
	Slice  *SLOSlice `json:"slice,omitempty"`
	// Bad is the level from which time counts as bad, major where not stated.
	Bad *health.Level `json:"bad,omitempty"`
	// Hours are those in which the service is measured; around the clock where not stated.
	Hours Ref `json:"hours,omitempty" manifest:"ref=calendar"`
	// Excluded says what maintenance is: time in which the service was up, or time that leaves the denominator. The
	// former where not stated.
	Excluded string `json:"excluded,omitempty" manifest:"enum=up|leftOut"`
}

// SLOWindow is the time over which an SLO is kept; exactly one of Rolling and Calendar is set. A rolling window is a span
// of elapsed time; a calendar one begins and ends at midnight of Timezone, UTC where not stated, and a week on Monday.
type SLOWindow struct {
	Rolling  Duration `json:"rolling,omitempty"`
	Calendar string   `json:"calendar,omitempty" manifest:"enum=week|month|quarter|year"`
	Timezone string   `json:"timezone,omitempty"` // name in the IANA database
}

// SLOSlice cuts the window into slices of Length, aligned to the Unix epoch. Target is the least share of a slice that makes
// it good; only method timeslices has one.
type SLOSlice struct {
	Length Duration `json:"length" manifest:"required"`
	Target *Share   `json:"target,omitempty"`
}

// BadFrom returns Bad, major where none was stated.
func (s *SLO) BadFrom() health.Level {
	if s.Bad == nil {
		return health.Major
	}
	return *s.Bad
}

// MethodInForce returns Method, occurrences where none was stated.
func (s *SLO) MethodInForce() string {
	if s.Method == "" {
		return "occurrences"
	}
	return s.Method
}

// ExcludedInForce returns Excluded, up where none was stated.
func (s *SLO) ExcludedInForce() string {
	if s.Excluded == "" {
		return "up"
	}
	return s.Excluded
}

// Location returns the time zone of a calendar window, UTC where none was stated. It fails on what Parse would have refused,
// and where the machine has no database of time zones.
func (w SLOWindow) Location() (*time.Location, error) { return location(w.Timezone) }
