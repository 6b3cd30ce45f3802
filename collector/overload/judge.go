package overload

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// instance is one detector on one subject.
type instance struct {
	detector *compiled
	slot     *slot
	latched  State // what is held while data is missing; Unknown before the first sample
	told     bool  // a verdict was returned
	verdict  Verdict
}

func (c *compiled) same(o *compiled) bool { return c == o || reflect.DeepEqual(c.Detector, o.Detector) }

// judge steps the detectors of a slot that got a sample.
func (h *Host) judge(s *slot) {
	for _, i := range s.instances {
		d := i.detector
		next := i.latched
		if next == Unknown {
			next = Healthy
		}
		var by *condition
		switch {
		case next != Overloaded && h.met(d.act, s):
			next, by = Overloaded, d.act
		case next == Healthy && h.met(d.warn, s):
			next, by = AtRisk, d.warn
		case next > Healthy && h.met(d.leave, s):
			next, by = Healthy, d.leave
		}
		i.latched = next
		if !i.told || i.verdict.State != next {
			h.tell(i, next, by)
		}
	}
}

// blind makes the verdicts of a slot unknown; what was latched is held.
func (h *Host) blind(s *slot) {
	for _, i := range s.instances {
		if i.told && i.verdict.State != Unknown {
			h.tell(i, Unknown, nil)
		}
	}
}

func (h *Host) tell(i *instance, state State, by *condition) {
	d := i.detector
	at := time.Unix(0, h.at).UTC()
	v := Verdict{
		Host: h.name, Detector: d.Name, Scope: d.Scope, Subject: i.slot.subject, State: state, AppliesTo: d.AppliesTo, Since: at, At: at,
	}
	switch state {
	case Overloaded:
		v.Level = d.Level
	case AtRisk:
		v.Level = min(d.Level, health.Warning)
	case Unknown:
		v.Evidence = []Evidence{{
			Signal: d.Signal, Subject: i.slot.subject, Value: math.NaN(), Text: d.Signal + " has no sample",
		}}
	}
	if by == nil && state > Healthy {
		// Data came back: what was held stands, on the grounds that it had.
		if by = d.act; state == AtRisk {
			by = d.warn
		}
	}
	if by != nil {
		v.Evidence = h.evidence(by, i.slot, nil)
		if state > Healthy {
			v.Began = h.began(by, i.slot)
		}
	}
	i.verdict, i.told = v, true
	h.changed = append(h.changed, v)
}

func (h *Host) gone(i *instance) {
	if !i.told {
		return
	}
	v := i.verdict
	v.State, v.Level, v.Gone, v.Evidence = Unknown, health.OK, true, nil
	v.Since = time.Unix(0, h.at).UTC()
	v.At = v.Since
	h.changed = append(h.changed, v)
}

func (h *Host) tellGone() {
	for _, i := range h.orphans {
		h.gone(i)
	}
	h.orphans = h.orphans[:0]
}

// met says whether a condition on a slot holds now. Only samples that are close enough in time count, so an outage does
// not join what was before it with what came after.
func (h *Host) met(c *condition, s *slot) bool {
	if c == nil || !h.windowMet(c, s) {
		return false
	}
	for i := range c.and {
		if h.find(&c.and[i], s) == nil {
			return false
		}
	}
	return true
}

// find returns the slot on which a further condition holds, the one with the highest value where there are several, or
// nil.
func (h *Host) find(c *condition, main *slot) *slot {
	var best *slot
	for _, s := range h.bySignal[c.signal] {
		switch c.of {
		case OfSubject:
			if s.subject != "" && s.subject != main.subject {
				continue
			}
		case OfValued:
			if !h.valued[s.subject] {
				continue
			}
		}
		if s.nums == 0 || s.clock.stale || !h.met(c, s) {
			continue
		}
		if best == nil || s.last() > best.last() || s.last() == best.last() && s.subject < best.subject {
			best = s
		}
	}
	return best
}

func (h *Host) windowMet(c *condition, s *slot) bool {
	k := s.clock
	step := max(k.period, time.Second)
	kept := min(k.count, len(k.times))
	if c.hold > 0 {
		before := h.at
		for n := 1; n <= kept; n++ {
			pos := (k.count - n) % len(k.times)
			if before-k.times[pos] > int64(patience(k.period)) || !c.match(s.values[pos]) {
				return false
			}
			before = k.times[pos]
			if h.at-before >= int64(c.hold) {
				return true
			}
		}
		return false
	}
	reach := int64(c.out+1) * int64(step)
	hits := 0
	for n := 1; n <= min(kept, c.out); n++ {
		pos := (k.count - n) % len(k.times)
		if h.at-k.times[pos] > reach {
			break
		}
		if c.match(s.values[pos]) {
			if hits++; hits >= c.need {
				return true
			}
		}
	}
	return false
}

// began returns the time of the oldest sample that a condition matches, of those before which no longer stretch without a match lies than
// its window forgives.
func (h *Host) began(c *condition, s *slot) time.Time {
	k := s.clock
	step := max(k.period, time.Second)
	oldest, missed := h.at, 0
	for n := 1; n <= min(k.count, len(k.times)); n++ {
		pos := (k.count - n) % len(k.times)
		if oldest-k.times[pos] > int64(c.out+1)*int64(step) {
			break
		}
		if c.match(s.values[pos]) {
			oldest, missed = k.times[pos], 0
		} else if missed++; missed > max(c.out-c.need, 0) {
			break
		}
	}
	return time.Unix(0, oldest).UTC()
}

// match is false for NaN.
func (c *condition) match(v float32) bool {
	switch {
	case c.strict:
		return v < c.threshold && !c.above || v > c.threshold && c.above
	case c.above:
		return v >= c.threshold
	}
	return v <= c.threshold
}

func (s *slot) last() float32 {
	if s.clock == nil || s.clock.count == 0 {
		return float32(math.NaN())
	}
	return s.values[(s.clock.count-1)%len(s.values)]
}

// evidence names the numbers behind a condition that holds.
func (h *Host) evidence(c *condition, s *slot, out []Evidence) []Evidence {
	sig := &signals[c.signal]
	v := float64(s.last())
	var b strings.Builder
	b.WriteString(sig.Name)
	if s.subject != "" {
		b.WriteString(" of " + s.subject)
	}
	relation := "<="
	if c.above {
		relation = ">="
	}
	fmt.Fprintf(&b, " %s", sig.Unit.Format(v))
	if c.match(float32(v)) {
		fmt.Fprintf(&b, " %s %s", relation, sig.Unit.Format(float64(c.threshold)))
	} else {
		fmt.Fprintf(&b, ", and was %s %s", relation, sig.Unit.Format(float64(c.threshold)))
	}
	switch {
	case c.hold > 0:
		fmt.Fprintf(&b, " for %s", c.hold)
	case c.out > 1:
		fmt.Fprintf(&b, " in %d of %d ticks", c.need, c.out)
	}
	out = append(out, Evidence{Signal: sig.Name, Subject: s.subject, Value: v, Text: b.String()})
	for i := range c.and {
		if f := h.find(&c.and[i], s); f != nil {
			out = h.evidence(&c.and[i], f, out)
		}
	}
	return out
}

// Verdicts appends the present verdicts of the host to dst, in order of their keys.
func (h *Host) Verdicts(dst []Verdict) []Verdict {
	n := len(dst)
	for _, s := range h.slots {
		for _, i := range s.instances {
			if i.told {
				dst = append(dst, i.verdict)
			}
		}
	}
	slices.SortFunc(dst[n:], func(a, b Verdict) int { return strings.Compare(a.Key(), b.Key()) })
	return dst
}
