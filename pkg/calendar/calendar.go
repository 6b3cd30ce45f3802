// Package calendar is business time: what factor holds at a moment, where it changes, and how long something was open.
//
// One definition answers everything: an entry matches a moment if the zone's wall clock, at that moment, reads within it; of the entries
// that match, the greatest factor holds, and the default where none does. On a day that is a holiday no weekly window matches. So a
// window from 02:00 to 03:00 is empty on the night that skips the hour and lasts two hours on the night that repeats it, and an
// 8-hour stretch over such a night lasts 7 or 9.
//
// A weekly window belongs to the day on which it begins: past midnight it still does, but it ends where a holiday begins, and a holiday
// takes the whole of the windows that would begin on it.
//
// Factors are asked by the service map and by package cost, open time by objectives, support hours, agreements and maintenance.
//
// It is pure: no clock and no goroutine; the one thing it reads is the time zone database, in New. A Calendar may be used from many
// goroutines; it keeps the years that were asked for.
package calendar

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

// Horizon is how far Add and Next look ahead before they give up: a calendar that never opens must not be searched for ever.
const Horizon = 50 * 366 * 24 * time.Hour

// keptYears bounds what a calendar remembers; beyond, all of it is forgotten and worked out again.
const keptYears = 128

// Calendar answers for one spec.
type Calendar struct {
	zone     *time.Location
	fallback manifest.Decimal
	weekly   [7][]window // by the day on which they begin
	holidays map[civil.Day]manifest.Decimal
	moving   []event // all-day events of the iCalendar text
	peaks    []interval
	timed    []event // the other events
	rules    []ruled
	working  []working

	mu    sync.Mutex
	years map[int][]step
}

// window is on the wall clock of the day on which it begins; to is beyond 24 hours where it passes midnight.
type window struct {
	from, to civil.Time
	factor   manifest.Decimal
}

// interval is on the wall clock: from up to, and without, to.
type interval struct {
	from, to civil.Time
	factor   manifest.Decimal
}

type event struct {
	recur.Event
	factor manifest.Decimal
}

type ruled struct {
	rule   *recur.Rule
	window window
}

type working struct {
	first, last int
	days        [7]bool // none: those of the weekly windows
	window      window
}

// step is where a factor begins to hold, until the next step.
type step struct {
	at     civil.Time
	factor manifest.Decimal
}

// Segment is a stretch of time with one factor: Start up to, and without, End.
type Segment struct {
	Start, End time.Time
	Factor     manifest.Decimal
}

// New returns the calendar of a spec. It fails on a spec that manifest.Parse would have refused.
func New(spec *manifest.Calendar) (*Calendar, error) {
	zone, err := civil.Zone(spec.Timezone)
	if err != nil {
		return nil, err
	}
	c := &Calendar{
		zone: zone, fallback: spec.DefaultFactor(), holidays: make(map[civil.Day]manifest.Decimal, len(spec.Holidays)), years: map[int][]step{},
	}
	for i := range spec.Weekly {
		w := &spec.Weekly[i]
		for d, on := range weekdays(w.Days) {
			if on {
				c.weekly[d] = append(c.weekly[d], windowOf(w.From, w.To, w.FactorInForce()))
			}
		}
	}
	for i := range spec.Holidays {
		h := &spec.Holidays[i]
		c.holidays[h.Date] = max(c.holidays[h.Date], h.FactorInForce())
	}
	for i := range spec.Peaks {
		p := &spec.Peaks[i]
		f, err := required(p.Factor)
		if err != nil {
			return nil, fmt.Errorf("peak %d: %w", i, err)
		}
		if p.From < p.To {
			c.peaks = append(c.peaks, interval{p.From, p.To, f})
		}
	}
	for i := range spec.Rules {
		r := &spec.Rules[i]
		rule, err := recur.Parse(r.RRule, r.Start, r.From, zone)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		f, err := required(r.Factor)
		if length := r.Length.Std(); err == nil && (length <= 0 || length > recur.MaxLength) {
			err = fmt.Errorf("length %s is not above 0 and up to 366 days", r.Length)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		c.rules = append(c.rules, ruled{rule, window{civil.Time(r.From), civil.Time(r.From) + seconds(r.Length.Std()), f}})
	}
	for i := range spec.WorkingDays {
		w := &spec.WorkingDays[i]
		f, err := required(w.Factor)
		if err != nil {
			return nil, fmt.Errorf("working days %d: %w", i, err)
		}
		to := civil.Clock(civil.DaySeconds)
		if w.To != nil {
			to = *w.To
		}
		c.working = append(c.working, working{w.First, w.Last, weekdays(w.Days), windowOf(w.From, to, f)})
	}
	return c, c.ical(spec.ICal)
}

func (c *Calendar) ical(text string) error {
	if text == "" {
		return nil
	}
	events, err := recur.Events(text, c.zone)
	if err != nil {
		return err
	}
	for _, e := range events {
		f, err := manifest.EventFactor(&e)
		if err != nil {
			return fmt.Errorf("event %q: %w", e.Name, err)
		}
		if e.AllDay {
			c.moving = append(c.moving, event{e, f})
		} else {
			c.timed = append(c.timed, event{e, f})
		}
	}
	return nil
}

func required(f *manifest.Decimal) (manifest.Decimal, error) {
	if f == nil {
		return 0, fmt.Errorf("it has no factor")
	}
	return *f, nil
}

func weekdays(spans []manifest.Weekdays) (on [7]bool) {
	for d := range on {
		on[d] = slices.ContainsFunc(spans, func(s manifest.Weekdays) bool { return s.Has(time.Weekday(d)) })
	}
	return on
}

func windowOf(from, to civil.Clock, factor manifest.Decimal) window {
	w := window{civil.Time(from), civil.Time(to), factor}
	if to <= from {
		w.to += civil.DaySeconds
	}
	return w
}

func seconds(d time.Duration) civil.Time { return civil.Time(d / time.Second) }

// Zone returns the time zone of the calendar.
func (c *Calendar) Zone() *time.Location { return c.zone }

// FactorAt returns the factor that holds at t.
func (c *Calendar) FactorAt(t time.Time) manifest.Decimal {
	at := civil.At(t.In(c.zone))
	steps := c.stepsOf(at)
	return steps[indexOf(steps, at)].factor
}

// Open reports whether the factor at t is above 0.
func (c *Calendar) Open(t time.Time) bool { return c.FactorAt(t) > 0 }

// Segments yields the stretches of one factor in [from, to), in order, without a gap, and no two with one factor beside each other.
// They lie on the time line, so a stretch over a change of the clocks is as long as it really is. The times are in the calendar's zone.
func (c *Calendar) Segments(from, to time.Time) iter.Seq[Segment] {
	return func(yield func(Segment) bool) {
		if !from.Before(to) {
			return
		}
		seg := Segment{Start: from.In(c.zone)}
		open := false
		whole := c.walk(from, to, func(start int64, f manifest.Decimal) bool {
			if open && f == seg.Factor {
				return true
			}
			if open {
				seg.End = time.Unix(start, 0).In(c.zone)
				if !yield(seg) {
					return false
				}
				seg.Start = seg.End
			}
			seg.Factor, open = f, true
			return true
		})
		if whole {
			seg.End = to.In(c.zone)
			yield(seg)
		}
	}
}

// walk calls next with the second at which each stretch of one factor in [from, to) begins; neighbours may have the same factor. It
// reports whether it came to the end. Between two changes of the clocks, wall clock and time line run side by side.
func (c *Calendar) walk(from, to time.Time, next func(start int64, factor manifest.Decimal) bool) bool {
	end := to.Unix()
	if to.Nanosecond() > 0 {
		end++
	}
	for at := from.Unix(); at < end; {
		local := time.Unix(at, 0).In(c.zone)
		_, shift := local.Zone()
		stop := end
		if _, change := local.ZoneBounds(); !change.IsZero() {
			// Beyond the last change that its table has, the standard library ends each year after 365 days: on the last day of
			// a leap year the next change is in the past. The offset is right there, and is asked for hour by hour.
			ends := change.Unix()
			if ends <= at {
				ends = at + 3600
			}
			stop = min(stop, ends)
		}
		offset := int64(shift)
		for at < stop {
			wall := civil.Time(at + offset)
			steps := c.stepsOf(wall)
			for i := indexOf(steps, wall); i < len(steps)-1 && at < stop; i++ {
				if !next(at, steps[i].factor) {
					return false
				}
				at = int64(steps[i+1].at) - offset
			}
		}
		at = stop
	}
	return true
}

// Between returns for how long the calendar is open in [from, to); 0 where to is not after from.
func (c *Calendar) Between(from, to time.Time) time.Duration {
	var open time.Duration
	for s := range c.Segments(from, to) {
		if s.Factor > 0 {
			open += s.End.Sub(s.Start)
		}
	}
	return open
}

// Spans yields the stretches of [from, to) in which the calendar is open, in order; stretches that touch are one.
func (c *Calendar) Spans(from, to time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(from, to time.Time) bool) {
		var start, end time.Time
		for s := range c.Segments(from, to) {
			switch {
			case s.Factor <= 0:
			case s.Start.Equal(end):
				end = s.End
			case !end.IsZero() && !yield(start, end):
				return
			default:
				start, end = s.Start, s.End
			}
		}
		if !end.IsZero() {
			yield(start, end)
		}
	}
}

// Add returns the first moment at or after t by which the calendar was open for d since t: t itself where d is not above 0. It reports
// false where that does not come within Horizon.
func (c *Calendar) Add(t time.Time, d time.Duration) (time.Time, bool) {
	if d <= 0 {
		return t, true
	}
	for s := range c.Segments(t, t.Add(Horizon)) {
		if s.Factor <= 0 {
			continue
		}
		if l := s.End.Sub(s.Start); l < d {
			d -= l
			continue
		}
		return s.Start.Add(d), true
	}
	return time.Time{}, false
}

// Next returns the first moment after t at which another factor holds than at t; false where there is none within Horizon.
func (c *Calendar) Next(t time.Time) (time.Time, bool) {
	end := t.Add(Horizon)
	for s := range c.Segments(t, end) {
		return s.End, s.End.Before(end)
	}
	return time.Time{}, false
}

// indexOf returns the step that holds at a moment; the steps begin at or before it.
func indexOf(steps []step, at civil.Time) int {
	i, found := slices.BinarySearchFunc(steps, at, func(s step, at civil.Time) int { return cmp.Compare(s.at, at) })
	if !found {
		i--
	}
	return i
}

// stepsOf returns the steps of the year in which a moment lies. The first one is its beginning, the last one that of the next year.
func (c *Calendar) stepsOf(at civil.Time) []step {
	year, _, _ := at.Day().Date()
	c.mu.Lock()
	defer c.mu.Unlock()
	steps, ok := c.years[year]
	if !ok {
		if len(c.years) >= keptYears {
			clear(c.years)
		}
		steps = c.year(year)
		c.years[year] = steps
	}
	return steps
}
