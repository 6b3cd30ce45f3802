package manifest

import (
	"errors"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

// maxFactor is the greatest factor of a calendar: beyond, it is a slip of the pen.
const maxFactor = 1_000_000 * micro

// maxRuleLength is the longest stretch of a rule.
const maxRuleLength = Duration(31 * 24 * time.Hour)

func checkCalendar(c *checker, s *Calendar) {
	zone := time.UTC
	if s.Timezone != "" {
		z, err := civil.Zone(s.Timezone)
		if err != nil {
			c.problem("spec.timezone", err.Error(), "")
		} else {
			zone = z
		}
	}
	c.factor("spec.default", s.Default)
	for i := range s.Weekly {
		w, at := &s.Weekly[i], fmt.Sprintf("spec.weekly[%d]", i)
		c.window(at, w.From, w.To)
		c.factor(at+".factor", w.Factor)
	}
	seen := map[civil.Day]bool{}
	for i := range s.Holidays {
		h, at := &s.Holidays[i], fmt.Sprintf("spec.holidays[%d]", i)
		if seen[h.Date] {
			c.problemf(at+".date", "%s is listed twice", h.Date)
		}
		seen[h.Date] = true
		c.factor(at+".factor", h.Factor)
	}
	for i := range s.Peaks {
		p, at := &s.Peaks[i], fmt.Sprintf("spec.peaks[%d]", i)
		if p.To <= p.From {
			c.problemf(at+".to", "the peak ends at %s, which is not after its start at %s", p.To, p.From)
		}
		c.factor(at+".factor", p.Factor)
	}
	for i := range s.Rules {
		c.calendarRule(fmt.Sprintf("spec.rules[%d]", i), &s.Rules[i], zone)
	}
	for i := range s.WorkingDays {
		w, at := &s.WorkingDays[i], fmt.Sprintf("spec.workingDays[%d]", i)
		if (w.First > 0) == (w.Last > 0) {
			c.problem(at, at+" takes exactly one of first and last", "")
		}
		if len(w.Days) == 0 && len(s.Weekly) == 0 {
			c.problem(at, "no day is a working day: there is no weekly window", "say which in "+at+".days")
		}
		to := civil.Clock(civil.DaySeconds)
		if w.To != nil {
			to = *w.To
		}
		c.window(at, w.From, to)
		c.factor(at+".factor", w.Factor)
	}
	c.ical(s.ICal, zone)
}

func (c *checker) factor(at string, f *Decimal) {
	if f != nil && (*f < 0 || *f > maxFactor) {
		c.problemf(at, "factor %s is not from 0 to 1000000", f)
	}
}

// window checks a window of a day; one that ends before it begins passes midnight.
func (c *checker) window(at string, from, to civil.Clock) {
	switch {
	case from == civil.DaySeconds:
		c.problem(at+".from", "a window does not begin at 24:00", "write 00:00 of the next day")
	case from == to:
		c.problem(at+".to", fmt.Sprintf("the window from %s to %s is empty", from, to), "a whole day is 00:00 to 24:00")
	}
}

func (c *checker) calendarRule(at string, r *CalendarRule, zone *time.Location) {
	if r.From == civil.DaySeconds {
		c.problem(at+".from", "a stretch does not begin at 24:00", "write 00:00 of the next day")
	}
	if l := r.Length; l <= 0 || l > maxRuleLength || l%Duration(time.Second) != 0 {
		c.problemf(at+".length", "length %s is not whole seconds from 1s to 31d", l)
	}
	c.factor(at+".factor", r.Factor)
	if r.RRule == "" {
		return
	}
	switch _, err := recur.Parse(r.RRule, r.Start, r.From, zone); {
	case errors.Is(err, recur.ErrNoStart):
		c.problem(at+".rrule", err.Error(), "write "+at+".start")
	case err != nil:
		c.problem(at+".rrule", err.Error(), "")
	}
}

func (c *checker) ical(text string, zone *time.Location) {
	if text == "" {
		return
	}
	events, err := recur.Events(text, zone)
	if err != nil {
		c.problem("spec.ical", err.Error(), "")
		return
	}
	for i := range events {
		if _, err := EventFactor(&events[i]); err != nil {
			c.problem("spec.ical", fmt.Sprintf("event %q: %v", events[i].Name, err), "")
		}
	}
}

// EventFactor returns the factor of an event of a calendar's iCalendar text: what X-EVENKEEL-FACTOR says, and 0 for an event with
// dates that says nothing, which is a holiday. An event with times must say what it counts.
func EventFactor(e *recur.Event) (Decimal, error) {
	if e.Factor == "" {
		if e.AllDay {
			return 0, nil
		}
		return 0, fmt.Errorf("an event with times is a peak and needs a factor: write %s:3", recur.FactorProperty)
	}
	d, err := ParseDecimal(e.Factor)
	if err != nil || d < 0 || d > maxFactor {
		return 0, fmt.Errorf("%s:%s is not a factor from 0 to 1000000", recur.FactorProperty, e.Factor)
	}
	return d, nil
}
