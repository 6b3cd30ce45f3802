package overload

import (
	"math"
	"slices"
	"time"
)

// Point is one value of a signal.
type Point struct {
	At    time.Time
	Value float64
}

// Values appends the kept values of a signal after since to dst, oldest first; ticks without a value are left out. At
// least the last ten minutes are kept. An unknown signal or subject gives none.
func (h *Host) Values(dst []Point, signal, subject string, since time.Time) []Point {
	n := len(dst)
	h.back(signal, subject, func(at int64, v float32) bool {
		if at <= since.UnixNano() {
			return false
		}
		if v == v {
			dst = append(dst, Point{time.Unix(0, at).UTC(), float64(v)})
		}
		return true
	})
	slices.Reverse(dst[n:])
	return dst
}

// Last returns the newest value of a signal. It is false where the last run of its probe gave none, or the probe or the
// host has fallen silent.
func (h *Host) Last(signal, subject string) (Point, bool) {
	n, ok := signalNumber(signal)
	if !ok {
		return Point{}, false
	}
	s := h.slots[place{n, subject}]
	if s == nil || s.clock == nil || s.nums == 0 || !s.fresh || s.clock.stale || s.clock.count == 0 {
		return Point{}, false
	}
	return Point{time.Unix(0, s.clock.last).UTC(), float64(s.last())}, true
}

// Mean returns the mean of a signal over the last span before the host's newest tick, and how many values it rests on.
func (h *Host) Mean(signal, subject string, span time.Duration) (mean float64, values int) {
	h.back(signal, subject, func(at int64, v float32) bool {
		if h.at-at >= int64(span) {
			return false
		}
		if v == v {
			mean += float64(v)
			values++
		}
		return true
	})
	if values == 0 {
		return math.NaN(), 0
	}
	return mean / float64(values), values
}

// Subjects returns the subjects of which a signal has live series, sorted.
func (h *Host) Subjects(signal string) []string {
	n, ok := signalNumber(signal)
	if !ok {
		return nil
	}
	var out []string
	for _, s := range h.bySignal[n] {
		if s.nums > 0 {
			out = append(out, s.subject)
		}
	}
	slices.Sort(out)
	return out
}

// At returns the time of the newest tick; zero before the first.
func (h *Host) At() time.Time {
	if h.at == 0 {
		return time.Time{}
	}
	return time.Unix(0, h.at).UTC()
}

// back walks a signal's values from the newest until f returns false.
func (h *Host) back(signal, subject string, f func(at int64, v float32) bool) {
	n, ok := signalNumber(signal)
	if !ok {
		return
	}
	s := h.slots[place{n, subject}]
	if s == nil || s.clock == nil {
		return
	}
	k := s.clock
	for n := 1; n <= min(k.count, len(k.times)); n++ {
		pos := (k.count - n) % len(k.times)
		if !f(k.times[pos], s.values[pos]) {
			return
		}
	}
}
