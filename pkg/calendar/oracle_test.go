package calendar_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/teambition/rrule-go"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// oracle answers by the definition alone: it reads the wall clock at a moment and asks every entry of the spec whether that is within
// it. It shares no code with the calendar beyond the spec.
type oracle struct {
	spec *manifest.Calendar
	zone *time.Location
	// allDay and timed are what the iCalendar text of the spec was made from.
	allDay []vevent
	timed  []vevent
	days   map[string]map[string]bool // of a rule, by its text
	picked map[pick]bool
}

// pick is the question whether a day is one that an entry of working days means.
type pick struct {
	day   int64
	entry *manifest.WorkingDays
}

type vevent struct {
	from, to time.Time // on the wall clock, written in UTC
	factor   string
}

// naive is the wall clock at t, written as a time in UTC.
func (o *oracle) naive(t time.Time) time.Time {
	y, m, d := t.In(o.zone).Date()
	h, mi, s := t.In(o.zone).Clock()
	return time.Date(y, m, d, h, mi, s, 0, time.UTC)
}

func midnight(t time.Time) time.Time { return t.Truncate(24 * time.Hour) }

func (o *oracle) holiday(day time.Time) (f manifest.Decimal, is bool) {
	for _, h := range o.spec.Holidays {
		if h.Date.String() == day.Format(time.DateOnly) {
			f, is = max(f, h.FactorInForce()), true
		}
	}
	for _, e := range o.allDay {
		if !day.Before(e.from) && day.Before(e.to) {
			x, err := manifest.ParseDecimal("0" + e.factor)
			if err != nil {
				panic(err)
			}
			f, is = max(f, x), true
		}
	}
	return f, is
}

func on(days []manifest.Weekdays, d time.Weekday) bool {
	for _, w := range days {
		if w.Has(d) {
			return true
		}
	}
	return false
}

// within reports whether a time of day, counted from the midnight with which day began, is in a window of that day.
func within(now, day time.Time, from, to time.Duration) bool {
	if to <= from {
		to += 24 * time.Hour
	}
	since := now.Sub(day)
	return since >= from && since < to
}

func (o *oracle) working(day time.Time, w *manifest.WorkingDays) bool {
	if _, is := o.holiday(day); is {
		return false
	}
	if len(w.Days) > 0 {
		return on(w.Days, day.Weekday())
	}
	for _, x := range o.spec.Weekly {
		if on(x.Days, day.Weekday()) {
			return true
		}
	}
	return false
}

// counts reports whether a day is one of the first or last working days of its month.
func (o *oracle) counts(day time.Time, w *manifest.WorkingDays) bool {
	key := pick{day.Unix(), w}
	if is, known := o.picked[key]; known {
		return is
	}
	if o.picked == nil {
		o.picked = map[pick]bool{}
	}
	o.picked[key] = o.working(day, w) && o.amongThem(day, w)
	return o.picked[key]
}

func (o *oracle) amongThem(day time.Time, w *manifest.WorkingDays) bool {
	step, n := 1, w.Last
	if w.First > 0 {
		step, n = -1, w.First
	}
	beyond := 0 // working days of the month on that side of the day
	for d := day.AddDate(0, 0, step); d.Month() == day.Month(); d = d.AddDate(0, 0, step) {
		if o.working(d, w) {
			beyond++
		}
	}
	return beyond < n
}

// occurs reports whether a rule has an occurrence on a day, as rrule-go walks it from its start.
func (o *oracle) occurs(day time.Time, r *manifest.CalendarRule) bool {
	if o.days == nil {
		o.days = map[string]map[string]bool{}
	}
	if o.days[r.RRule] == nil {
		opt, err := rrule.StrToROption(r.RRule)
		if err != nil {
			panic(err)
		}
		opt.Dtstart = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		if r.Start != nil {
			opt.Dtstart = time.Unix(int64(r.Start.Start()), 0).UTC()
		}
		lib, err := rrule.NewRRule(*opt)
		if err != nil {
			panic(err)
		}
		set := map[string]bool{}
		for _, t := range lib.Between(opt.Dtstart, time.Date(2042, 1, 1, 0, 0, 0, 0, time.UTC), true) {
			set[t.Format(time.DateOnly)] = true
		}
		o.days[r.RRule] = set
	}
	return o.days[r.RRule][day.Format(time.DateOnly)]
}

func (o *oracle) factorAt(t time.Time) manifest.Decimal {
	now := o.naive(t)
	today := midnight(now)
	best := manifest.Decimal(-1)
	match := func(f manifest.Decimal) { best = max(best, f) }
	if f, is := o.holiday(today); is {
		match(f)
	} else {
		for back := range 2 {
			day := today.AddDate(0, 0, -back)
			if _, is := o.holiday(day); is {
				continue
			}
			for _, w := range o.spec.Weekly {
				if on(w.Days, day.Weekday()) && within(now, day, time.Duration(w.From)*time.Second, time.Duration(w.To)*time.Second) {
					match(w.FactorInForce())
				}
			}
		}
	}
	for _, p := range o.spec.Peaks {
		if s := now.Format("2006-01-02T15:04:05"); s >= stamp(p.From.String()) && s < stamp(p.To.String()) {
			match(*p.Factor)
		}
	}
	for _, e := range o.timed {
		if f, err := manifest.ParseDecimal(e.factor); err == nil && !now.Before(e.from) && now.Before(e.to) {
			match(f)
		}
	}
	for i := range o.spec.Rules {
		r := &o.spec.Rules[i]
		for back := range 5 { // the longest of them is 60 hours
			day := today.AddDate(0, 0, -back)
			since := now.Sub(day) - time.Duration(r.From)*time.Second
			if since >= 0 && since < r.Length.Std() && o.occurs(day, r) {
				match(*r.Factor)
			}
		}
	}
	for i := range o.spec.WorkingDays {
		w := &o.spec.WorkingDays[i]
		to := 24 * time.Hour
		if w.To != nil {
			to = time.Duration(*w.To) * time.Second
		}
		for back := range 2 {
			if day := today.AddDate(0, 0, -back); within(now, day, time.Duration(w.From)*time.Second, to) && o.counts(day, w) {
				match(*w.Factor)
			}
		}
	}
	if best < 0 {
		return o.spec.DefaultFactor()
	}
	return best
}

func stamp(s string) string {
	if len(s) == len("2006-01-02T15:04") {
		return s + ":00"
	}
	return s
}

// ical writes the events as iCalendar text.
func (o *oracle) ical() string {
	if len(o.allDay)+len(o.timed) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//test//EN\n")
	for i, e := range o.allDay {
		fmt.Fprintf(&b, "BEGIN:VEVENT\nUID:d%d\nDTSTART;VALUE=DATE:%s\nDTEND;VALUE=DATE:%s\n", i, e.from.Format("20060102"), e.to.Format("20060102"))
		if e.factor != "" {
			fmt.Fprintf(&b, "X-EVENKEEL-FACTOR:%s\n", e.factor)
		}
		b.WriteString("END:VEVENT\n")
	}
	for i, e := range o.timed {
		fmt.Fprintf(&b, "BEGIN:VEVENT\nUID:t%d\nDTSTART:%s\nDTEND:%s\nX-EVENKEEL-FACTOR:%s\nEND:VEVENT\n", i,
			e.from.Format("20060102T150405"), e.to.Format("20060102T150405"), e.factor)
	}
	b.WriteString("END:VCALENDAR\n")
	return b.String()
}
