package slo

import (
	"fmt"
	"strings"
	"time"
)

// Seconds writes a span as a decimal string of seconds, exact to the nanosecond: "0.000000001s".
func Seconds(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	s := fmt.Sprintf("%s%d.%09d", sign, d/time.Second, d%time.Second)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".") + "s"
}

// Bounds returns the calendar window that holds a moment. Where the window is rolling, it is the one that ends then.
func (s *Spec) Bounds(t time.Time) (from, to time.Time) {
	if s.Calendar == "" {
		return t.Add(-s.Rolling), t
	}
	return s.bounds(t)
}
