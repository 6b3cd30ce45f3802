// Package recur reads what recurs: recurrence rules and iCalendar events of RFC 5545, on the wall clock of one zone.
//
// A rule here picks days and nothing smaller; it is held to what a person can check: BYHOUR and its like, BYWEEKNO, and a rule whose
// meaning hangs on a start that nobody wrote, are refused by name. The syntax is read by rrule-go, which is also what the tests hold the
// days against. The days themselves are worked out here, period by period around what is asked: walking from the start of a rule
// costs the more the older the rule is, and a rule that never matches (30 February) would be walked to the year 9999.
//
// It is pure, apart from the time zone database. Everything ends with civil.LastYear.
package recur

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teambition/rrule-go"

	"github.com/evenkeel/evenkeel/pkg/civil"
)

// Limits on what is read.
const (
	maxRule     = 1024
	maxInterval = 1000
	maxCount    = 10_000
)

// Rule is a set of days.
type Rule struct {
	freq      rrule.Frequency // YEARLY to DAILY
	interval  int
	weekStart time.Weekday
	months    []int
	monthDays []int
	yearDays  []int
	weekdays  []weekday
	positions []int // BYSETPOS
	start     civil.Day
	last      civil.Day // inclusive
}

// weekday is a day of the week: every one, or with nth not 0 the nth of its month or year, counted from the end where negative.
type weekday struct {
	day time.Weekday
	nth int
}

// ErrNoStart says that the days of a rule depend on the day from which it counts, and that none was given.
var ErrNoStart = errors.New("the rule counts from a start: say from which day")

// refusal says why a part of a rule is not read; it is empty for those that are.
func refusal(key string) string {
	switch key {
	case "FREQ", "INTERVAL", "WKST", "COUNT", "UNTIL", "BYSETPOS", "BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYDAY":
		return ""
	case "BYHOUR", "BYMINUTE", "BYSECOND":
		return key + " is not read: a rule picks days, and the time of day is stated beside it"
	case "DTSTART":
		return "DTSTART is not read inside a rule: the start is stated beside it"
	case "BYWEEKNO", "BYEASTER":
		return key + " is not read: write the dates, or BYMONTH with BYDAY"
	default:
		return fmt.Sprintf("%q is not a part of a rule", key)
	}
}

// Parse reads a rule such as FREQ=MONTHLY;BYDAY=-1FR. Its days begin at the time of day at, which decides whether a day is still
// before an UNTIL; zone is that of an UNTIL in UTC. Start is the day from which INTERVAL and COUNT count, and which gives the day where
// the rule names none; with nil, a rule that needs one is ErrNoStart.
func Parse(text string, start *civil.Day, at civil.Clock, zone *time.Location) (*Rule, error) {
	text = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(text)), "RRULE:")
	if len(text) > maxRule {
		return nil, fmt.Errorf("the rule has %d bytes: the most is %d", len(text), maxRule)
	}
	parts := map[string]string{}
	var kept []string
	for part := range strings.SplitSeq(text, ";") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return nil, fmt.Errorf("%q is not a part of a rule: expected such as FREQ=MONTHLY;BYDAY=-1FR", part)
		}
		if why := refusal(key); why != "" {
			return nil, errors.New(why)
		}
		if _, twice := parts[key]; twice {
			return nil, fmt.Errorf("%s stands twice in the rule", key)
		}
		parts[key] = value
		if key != "UNTIL" { // which has three forms, and is read below
			kept = append(kept, part)
		}
	}
	if parts["FREQ"] == "" {
		return nil, errors.New("the rule has no FREQ: expected YEARLY, MONTHLY, WEEKLY or DAILY")
	}
	opt, err := rrule.StrToROption(strings.Join(kept, ";"))
	if err != nil {
		return nil, fmt.Errorf("this is not a rule: %w", err)
	}
	if opt.Freq > rrule.DAILY {
		return nil, fmt.Errorf("FREQ=%s is not read: expected YEARLY, MONTHLY, WEEKLY or DAILY", parts["FREQ"])
	}
	r := &Rule{
		freq: opt.Freq, interval: max(opt.Interval, 1), months: opt.Bymonth, monthDays: opt.Bymonthday, yearDays: opt.Byyearday,
		positions: opt.Bysetpos, weekStart: standard(opt.Wkst.Day()), start: civil.DayOf(civil.FirstYear, time.January, 1), last: civil.DayOf(civil.LastYear, time.December, 31),
	}
	for i := range opt.Byweekday {
		r.weekdays = append(r.weekdays, weekday{standard(opt.Byweekday[i].Day()), opt.Byweekday[i].N()})
	}
	if err := r.check(opt, parts); err != nil {
		return nil, err
	}
	return r, r.anchor(opt.Count, parts, start, at, zone)
}

// standard turns Monday = 0 into the standard library's Sunday = 0.
func standard(day int) time.Weekday { return time.Weekday((day + 1) % 7) }

// check holds the numbers to their ranges.
func (r *Rule) check(opt *rrule.ROption, parts map[string]string) error {
	nth := 0 // the greatest that means anything
	switch {
	case r.freq == rrule.MONTHLY, r.freq == rrule.YEARLY && len(r.months) > 0:
		nth = 5
	case r.freq == rrule.YEARLY:
		nth = 53
	}
	for _, w := range r.weekdays {
		switch {
		case w.nth != 0 && nth == 0:
			return fmt.Errorf("BYDAY=%s: a numbered day needs FREQ=MONTHLY or YEARLY", parts["BYDAY"])
		case w.nth > nth || w.nth < -nth:
			return fmt.Errorf("BYDAY=%s: the greatest number here is %d", parts["BYDAY"], nth)
		}
	}
	for _, n := range []struct {
		key    string
		values []int
		max    int
		minus  bool
	}{
		{"INTERVAL", []int{opt.Interval}, maxInterval, false},
		{"COUNT", []int{opt.Count}, maxCount, false},
		{"BYMONTH", r.months, 12, false},
		{"BYMONTHDAY", r.monthDays, 31, true},
		{"BYYEARDAY", r.yearDays, 366, true},
		{"BYSETPOS", r.positions, 366, true},
	} {
		if parts[n.key] == "" {
			continue
		}
		for _, v := range n.values {
			if v == 0 || v > n.max || v < 0 && !n.minus || v < -n.max {
				return fmt.Errorf("%s=%s: %d is not from 1 to %d", n.key, parts[n.key], v, n.max)
			}
		}
	}
	if len(r.positions) > 0 && len(r.weekdays)+len(r.monthDays)+len(r.yearDays)+len(r.months) == 0 {
		return errors.New("BYSETPOS picks among days, and no other part of the rule names any")
	}
	if opt.Count > 0 && parts["UNTIL"] != "" {
		return errors.New("COUNT and UNTIL exclude each other")
	}
	return nil
}

// anchor fixes from where and to where the rule goes, and takes from the start what the rule leaves open.
func (r *Rule) anchor(count int, parts map[string]string, start *civil.Day, at civil.Clock, zone *time.Location) error {
	open := r.freq != rrule.DAILY && len(r.weekdays)+len(r.monthDays)+len(r.yearDays) == 0
	switch {
	case start != nil:
		r.start = max(r.start, *start)
	case open || count > 0 || r.interval > 1:
		return ErrNoStart
	}
	if open {
		_, month, day := r.start.Date()
		switch {
		case r.freq == rrule.WEEKLY:
			r.weekdays = []weekday{{day: r.start.Weekday()}}
		case r.freq == rrule.YEARLY && len(r.months) == 0:
			r.months = []int{int(month)}
			fallthrough
		default:
			r.monthDays = []int{day}
		}
	}
	if text := parts["UNTIL"]; text != "" {
		until, whole, err := moment(text, zone)
		if err != nil {
			return fmt.Errorf("UNTIL=%s: %w", text, err)
		}
		last := until.Day()
		if !whole && until.Clock() < at {
			last--
		}
		r.last = min(r.last, last)
	}
	if count > 0 {
		r.last = min(r.last, r.dayOf(count))
	}
	return nil
}

// dayOf returns the nth day of the rule, or the last day there is.
func (r *Rule) dayOf(n int) civil.Day {
	const stride = 366
	for from := r.start; from <= r.last; from += stride {
		days := r.Days(from, from+stride)
		if len(days) >= n {
			return days[n-1]
		}
		n -= len(days)
	}
	return r.last
}

// Days returns the days of the rule in [from, to), in order. It costs by the length of what is asked, not by the age of the rule.
func (r *Rule) Days(from, to civil.Day) []civil.Day {
	from, to = max(from, r.start), min(to, r.last+1)
	if from >= to {
		return nil
	}
	var out []civil.Day
	first, end := r.period(from), r.period(to-1)
	if over := (first - r.period(r.start)) % r.interval; over > 0 {
		first += r.interval - over
	}
	for p := first; p <= end; p += r.interval {
		begin, stop := r.bounds(p)
		var days []civil.Day
		for d := begin; d < stop; d++ {
			if r.matches(d) {
				days = append(days, d)
			}
		}
		for _, d := range r.pick(days) {
			if d >= from && d < to {
				out = append(out, d)
			}
		}
	}
	return out
}

// period numbers the years, months, weeks or days that the rule counts in.
func (r *Rule) period(d civil.Day) int {
	year, month, _ := d.Date()
	switch r.freq {
	case rrule.YEARLY:
		return year
	case rrule.MONTHLY:
		return year*12 + int(month) - 1
	case rrule.WEEKLY:
		back := (int(d.Weekday()) - int(r.weekStart) + 7) % 7
		return floorDiv(int(d)-back, 7)
	default:
		return int(d)
	}
}

// bounds returns the days of a period: begin up to, and without, stop.
func (r *Rule) bounds(p int) (begin, stop civil.Day) {
	switch r.freq {
	case rrule.YEARLY:
		return civil.DayOf(p, time.January, 1), civil.DayOf(p+1, time.January, 1)
	case rrule.MONTHLY:
		return civil.DayOf(p/12, time.Month(p%12+1), 1), civil.DayOf(p/12, time.Month(p%12+2), 1)
	case rrule.WEEKLY:
		begin = civil.Day(p * 7)
		begin += civil.Day((int(r.weekStart) - int(begin.Weekday()) + 7) % 7)
		return begin, begin + 7
	default:
		return civil.Day(p), civil.Day(p + 1)
	}
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// matches reports whether a day satisfies every part of the rule that names days.
func (r *Rule) matches(d civil.Day) bool {
	year, month, day := d.Date()
	if len(r.months) > 0 && !slices.Contains(r.months, int(month)) {
		return false
	}
	monthLength := int(civil.DayOf(year, month+1, 1) - civil.DayOf(year, month, 1))
	yearStart := civil.DayOf(year, time.January, 1)
	yearLength := int(civil.DayOf(year+1, time.January, 1) - yearStart)
	ofYear := int(d-yearStart) + 1
	if len(r.monthDays) > 0 && !slices.Contains(r.monthDays, day) && !slices.Contains(r.monthDays, day-monthLength-1) {
		return false
	}
	if len(r.yearDays) > 0 && !slices.Contains(r.yearDays, ofYear) && !slices.Contains(r.yearDays, ofYear-yearLength-1) {
		return false
	}
	if len(r.weekdays) == 0 {
		return true
	}
	at, length := day, monthLength
	if r.freq == rrule.YEARLY && len(r.months) == 0 {
		at, length = ofYear, yearLength
	}
	front, back := (at-1)/7+1, -((length-at)/7 + 1)
	return slices.ContainsFunc(r.weekdays, func(w weekday) bool {
		return w.day == d.Weekday() && (w.nth == 0 || w.nth == front || w.nth == back)
	})
}

// pick applies BYSETPOS to the days of one period.
func (r *Rule) pick(days []civil.Day) []civil.Day {
	if len(r.positions) == 0 {
		return days
	}
	var out []civil.Day
	for i, d := range days {
		if slices.Contains(r.positions, i+1) || slices.Contains(r.positions, i-len(days)) {
			out = append(out, d)
		}
	}
	return out
}
