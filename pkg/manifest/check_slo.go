package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// Limits on what is kept of a service's history for an SLO: windows beyond them would hold years of it.
const (
	leastRolling = Duration(time.Hour)
	mostRolling  = Duration(366 * 24 * time.Hour)
	leastSlice   = Duration(time.Second)
	mostSlice    = Duration(24 * time.Hour)
)

func checkSLO(c *checker, s *SLO) {
	if s.Objective == micro {
		c.problem("spec.objective", "an objective of 100% leaves no budget", "the most is 99.9999%")
	}
	if s.Bad != nil && *s.Bad == health.OK {
		c.problem("spec.bad", "ok cannot be bad", "the level from which time counts as bad, such as major")
	}
	w := s.Window
	c.exactlyOne("spec.window", "rolling and calendar", w.Rolling != 0, w.Calendar != "")
	if w.Rolling != 0 && (w.Rolling < leastRolling || w.Rolling > mostRolling) {
		c.problemf("spec.window.rolling", "a window of %s: expected %s to %s", w.Rolling, leastRolling, mostRolling)
	}
	if w.Timezone != "" {
		if w.Calendar == "" {
			c.problem("spec.window.timezone", "a rolling window is elapsed time: it has no time zone", "")
		} else if _, err := location(w.Timezone); err != nil {
			c.problem("spec.window.timezone", err.Error(), "")
		}
	}
	c.slice(s)
}

func (c *checker) slice(s *SLO) {
	sl := s.Slice
	switch m := s.MethodInForce(); {
	case m == "occurrences":
		if sl != nil {
			c.problem("spec.slice", "method occurrences counts every moment, not slices", "write method: timeslices, or leave slice out")
		}
		return
	case sl == nil:
		at := "spec.method"
		c.problem(at, fmt.Sprintf("method %s needs spec.slice", m), "such as slice: {length: 1m, target: 95%}")
		return
	case m == "timeslices" && sl.Target == nil:
		c.problem("spec.slice", "method timeslices needs spec.slice.target", "the least share of a slice that makes it good, such as 95%")
	case m == "ratioTimeslices" && sl.Target != nil:
		c.problem("spec.slice.target", "method ratioTimeslices takes the mean of the slices: none of them has a target", "")
	}
	most := mostSlice
	if w := s.Window.Rolling; w != 0 {
		most = min(most, w/2)
	}
	if sl.Length < leastSlice || sl.Length > most {
		c.problemf("spec.slice.length", "a slice of %s: expected %s to %s, so that a window holds at least two", sl.Length, leastSlice, most)
	}
}

// location loads a time zone by its name. "Local" is refused: it means something else on every machine.
func location(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" || strings.ContainsAny(name, " \\") || len(name) > 64 {
		return nil, fmt.Errorf("%q is not a time zone: expected a name such as Europe/Berlin", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone that is known here: expected a name such as Europe/Berlin", name)
	}
	return loc, nil
}
