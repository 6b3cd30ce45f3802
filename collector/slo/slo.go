// Package slo says how well a service has kept what was promised of it: the time that was good and bad in a window, by
// whose doing it was bad, what is left of the error budget, and how fast it is being spent.
//
// Time is counted in whole nanoseconds and never lost: good, bad by part, and time of which nothing is known add up to the
// scheduled time. What is not known makes a range and nothing is alerted on its strength. The package is pure: it has no
// clock, no I/O and no goroutine. It does not watch services; whoever does hands it their history in order of time.
package slo

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Origin says by whose doing time is bad.
type Origin uint8

// The origins. Unknown is the zero one: nobody has said. Planned is maintenance, whatever the level.
const (
	Unknown Origin = iota
	Own
	Upstream
	Vendor
	Planned
)

var originNames = [...]string{"unknown", "own", "upstream", "vendor", "planned"}

// String returns the origin as people write it.
func (o Origin) String() string {
	if int(o) < len(originNames) {
		return originNames[o]
	}
	return fmt.Sprintf("origin(%d)", uint8(o))
}

// ParseOrigin reads an origin as String writes it.
func ParseOrigin(s string) (Origin, error) {
	for i, n := range originNames {
		if n == s {
			return Origin(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not an origin: expected own, upstream, vendor, planned or unknown", s)
}

// State is how a service is from some moment on.
type State struct {
	Health health.Range
	Origin Origin
}

// Segment is the state of a service during [From, To).
type Segment struct {
	From, To time.Time
	State
}

// Hours are those in which a service is measured.
type Hours interface {
	// Spans yields the open stretches within [from, to), clipped to it, in order and without overlap.
	Spans(from, to time.Time) iter.Seq2[time.Time, time.Time]
}

// Method is what is counted.
type Method uint8

// The budgeting methods.
const (
	Occurrences     Method = iota // every moment
	Timeslices                    // slices that reached their target
	RatioTimeslices               // the mean of what each slice reached
)

// Spec is an objective made ready.
type Spec struct {
	// Objective is the least share that is to be good, in millionths; below 1.
	Objective manifest.Share
	// Rolling is the length of a rolling window; where it is 0, Calendar (week, month, quarter, year) and Location say which
	// calendar window.
	Rolling  time.Duration
	Calendar string
	Location *time.Location
	Method   Method
	// Slice is the length of the slices of Timeslices and RatioTimeslices, SliceTarget what makes one good for the former.
	Slice       time.Duration
	SliceTarget manifest.Share
	// Bad is the level from which time counts as bad.
	Bad health.Level
	// LeftOut says that maintenance leaves the denominator; otherwise it counts as time in which the service was up.
	LeftOut bool
}

// Of makes an objective of its manifest ready. It fails on what the manifest's own check would have refused.
func Of(m *manifest.SLO) (Spec, error) {
	loc, err := m.Window.Location()
	if err != nil {
		return Spec{}, err
	}
	s := Spec{
		Objective: m.Objective, Rolling: m.Window.Rolling.Std(), Calendar: m.Window.Calendar, Location: loc,
		Bad: m.BadFrom(), LeftOut: m.ExcludedInForce() == "leftOut",
	}
	switch m.MethodInForce() {
	case "timeslices":
		s.Method = Timeslices
	case "ratioTimeslices":
		s.Method = RatioTimeslices
	}
	if s.Method != Occurrences && m.Slice != nil {
		s.Slice = m.Slice.Length.Std()
		if m.Slice.Target != nil {
			s.SliceTarget = *m.Slice.Target
		}
	}
	return s, s.check()
}

func (s *Spec) check() error {
	switch {
	case s.Objective <= 0 || s.Objective >= million:
		return errors.New("the objective must be above 0% and below 100%")
	case s.Rolling < 0 || (s.Rolling > 0) == (s.Calendar != ""):
		return errors.New("an objective needs one window, rolling or calendar")
	case s.Calendar != "" && s.Location == nil:
		return errors.New("a calendar window needs a time zone")
	case s.Method != Occurrences && s.Slice < time.Second:
		return errors.New("time slices need a length of a second or more")
	case s.Method == Timeslices && (s.SliceTarget <= 0 || s.SliceTarget > million):
		return errors.New("time slices need a target above 0% and up to 100%")
	case s.Bad == health.OK:
		return errors.New("ok cannot be bad")
	}
	if s.Calendar != "" {
		if _, ok := period[s.Calendar]; !ok {
			return fmt.Errorf("%q is not a calendar window: expected week, month, quarter or year", s.Calendar)
		}
	}
	return nil
}

const (
	million = 1_000_000
	billion = 1_000_000_000
)

// class is what a moment of scheduled time counts as.
type class uint8

const (
	before      class = iota // before the service existed
	good                     // known to be good
	badOwn                   // known to be bad, by origin
	badUpstream              //
	badVendor                //
	badUnknown               //
	unsure                   // it may have been good or bad
	plannedGood              // maintenance, and known to be good
	plannedBad               // maintenance otherwise
	classes
)

func (s *Spec) class(x State) class {
	surely, maybe := x.Health.Low >= s.Bad, x.Health.High >= s.Bad
	switch {
	case x.Origin == Planned && maybe:
		return plannedBad
	case x.Origin == Planned:
		return plannedGood
	case !maybe:
		return good
	case !surely:
		return unsure
	}
	switch x.Origin {
	case Own:
		return badOwn
	case Upstream:
		return badUpstream
	case Vendor:
		return badVendor
	}
	return badUnknown
}

// mulDiv returns a*b/c, rounded down, through 128 bits. All must be at least 0, c above 0, and the result fit.
func mulDiv(a, b, c int64) int64 {
	if a < 0 || b < 0 || c <= 0 {
		panic("BUG: slo: mulDiv of a negative number")
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(q)
}

// atLeast reports whether a*b >= c*d, through 128 bits; all must be at least 0.
func atLeast(a, b, c, d int64) bool {
	h1, l1 := bits.Mul64(uint64(a), uint64(b))
	h2, l2 := bits.Mul64(uint64(c), uint64(d))
	return h1 > h2 || h1 == h2 && l1 >= l2
}
