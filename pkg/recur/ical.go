package recur

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"

	"github.com/evenkeel/evenkeel/pkg/civil"
)

// Limits on what is read of a calendar; a resource is held to 64 KiB as a whole.
const (
	maxICal   = 1 << 20
	maxEvents = 5000
	// MaxLength is the longest that one occurrence may be.
	MaxLength = 366 * civil.DaySeconds * time.Second
)

// FactorProperty is the property of an event that carries its factor.
const FactorProperty = "X-EVENKEEL-FACTOR"

// Event is a VEVENT on the wall clock of a zone.
type Event struct {
	Name string // SUMMARY
	// AllDay says that the event has dates and no times: Start is then a midnight and Length whole days.
	AllDay bool
	Start  civil.Time
	Length time.Duration // above 0, up to MaxLength
	// Factor is what FactorProperty says; empty where it is not there.
	Factor string

	rule   *Rule // nil: once
	extra  []civil.Time
	except []civil.Time
	exDays []civil.Day
}

// Occurrences returns the starts of the event on days in [from, to), sorted, each once.
func (e *Event) Occurrences(from, to civil.Day) []civil.Time {
	var out []civil.Time
	if e.rule == nil {
		out = append(out, e.Start)
	} else {
		for _, d := range e.rule.Days(from, to) {
			out = append(out, d.Start()+civil.Time(e.Start.Clock()))
		}
	}
	out = append(out, e.extra...)
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(t civil.Time) bool {
		return t.Day() < from || t.Day() >= to || slices.Contains(e.except, t) || slices.Contains(e.exDays, t.Day())
	})
}

// Events reads the VEVENTs of an iCalendar text, in its order; cancelled ones are left out. Times in UTC and in other zones become
// the wall clock of zone, at the moment that they name; an event that recurs in another zone is refused, since its hour here would
// differ between the seasons.
func Events(text string, zone *time.Location) (events []Event, err error) {
	if len(text) > maxICal {
		return nil, fmt.Errorf("the calendar has %d bytes: the most is %d", len(text), maxICal)
	}
	defer func() { // a panic of the parser on malformed input is an answer like any other
		if r := recover(); r != nil {
			events, err = nil, fmt.Errorf("this is not an iCalendar: %v", r)
		}
	}()
	text = strings.TrimSpace(text)
	if !strings.HasSuffix(text, "END:VCALENDAR") {
		return nil, errors.New("this is not an iCalendar: expected BEGIN:VCALENDAR to END:VCALENDAR")
	}
	cal, err := ics.ParseCalendar(strings.NewReader(text + "\n"))
	if err != nil {
		return nil, fmt.Errorf("this is not an iCalendar: %w", err)
	}
	for i, v := range cal.Events() {
		if i == maxEvents {
			return nil, fmt.Errorf("the calendar has more than %d events", maxEvents)
		}
		e, cancelled, err := event(v.Properties, zone)
		if err != nil {
			return nil, fmt.Errorf("event %d (%s): %w", i+1, name(v.Properties), err)
		}
		if !cancelled {
			events = append(events, e)
		}
	}
	return events, nil
}

// name is what a person knows the event by.
func name(properties []ics.IANAProperty) string {
	for _, key := range []string{"SUMMARY", "UID"} {
		for i := range properties {
			if strings.EqualFold(properties[i].IANAToken, key) && properties[i].Value != "" {
				return properties[i].Value
			}
		}
	}
	return "without a name"
}

func event(properties []ics.IANAProperty, zone *time.Location) (e Event, cancelled bool, err error) {
	e.Name = name(properties)
	one := map[string]*ics.IANAProperty{}
	for i := range properties {
		p := &properties[i]
		key := strings.ToUpper(p.IANAToken)
		switch key {
		case "DTSTART", "DTEND", "DURATION", "RRULE", "STATUS", FactorProperty:
			if one[key] != nil {
				return e, false, fmt.Errorf("%s stands twice", key)
			}
			one[key] = p
		case "RECURRENCE-ID", "EXRULE":
			return e, false, fmt.Errorf("%s is not read: write the changed occurrence as an event of its own, and EXDATE for the old one", key)
		}
	}
	if p := one["STATUS"]; p != nil && strings.EqualFold(p.Value, "CANCELLED") {
		return e, true, nil
	}
	if p := one[FactorProperty]; p != nil {
		e.Factor = strings.TrimSpace(p.Value)
	}
	if one["DTSTART"] == nil {
		return e, false, errors.New("DTSTART is missing")
	}
	var foreign bool
	if e.Start, e.AllDay, foreign, err = when(one["DTSTART"], zone); err != nil {
		return e, false, err
	}
	if e.Length, err = length(&e, one["DTEND"], one["DURATION"], zone); err != nil {
		return e, false, err
	}
	for i := range properties {
		p := &properties[i]
		if key := strings.ToUpper(p.IANAToken); key == "EXDATE" || key == "RDATE" {
			if err := e.dates(key, p, zone); err != nil {
				return e, false, err
			}
		}
	}
	p := one["RRULE"]
	if p == nil {
		return e, false, nil
	}
	if foreign {
		return e, false, fmt.Errorf("it recurs in another zone than %s: its hour would differ between the seasons", zone)
	}
	start := e.Start.Day()
	if e.rule, err = Parse(p.Value, &start, e.Start.Clock(), zone); err != nil {
		return e, false, fmt.Errorf("RRULE: %w", err)
	}
	return e, false, nil
}

// dates reads the values of an EXDATE or RDATE.
func (e *Event) dates(key string, p *ics.IANAProperty, zone *time.Location) error {
	for value := range strings.SplitSeq(p.Value, ",") {
		q := *p
		q.Value = value
		t, whole, _, err := when(&q, zone)
		switch {
		case err != nil:
			return err
		case key == "EXDATE" && whole:
			e.exDays = append(e.exDays, t.Day())
		case key == "EXDATE":
			e.except = append(e.except, t)
		case whole != e.AllDay:
			return errors.New("RDATE and DTSTART must both be dates or both be times")
		default:
			e.extra = append(e.extra, t)
		}
	}
	return nil
}

// when reads a date or a time as the zone's wall clock shows it. Foreign says that the text is in another zone.
func when(p *ics.IANAProperty, zone *time.Location) (t civil.Time, whole, foreign bool, err error) {
	in := zone
	for key, values := range p.ICalParameters {
		switch {
		case strings.EqualFold(key, "TZID") && len(values) == 1:
			if in, err = civil.Zone(values[0]); err != nil {
				return 0, false, false, fmt.Errorf("%s: TZID: %w", p.IANAToken, err)
			}
		case strings.EqualFold(key, "VALUE") && len(values) == 1 && strings.EqualFold(values[0], "PERIOD"):
			return 0, false, false, fmt.Errorf("%s: periods are not read", p.IANAToken)
		}
	}
	foreign = in.String() != zone.String() || strings.HasSuffix(p.Value, "Z") && zone.String() != "UTC"
	t, whole, err = moment(p.Value, in)
	if err != nil {
		return 0, false, false, fmt.Errorf("%s: %w", p.IANAToken, err)
	}
	switch {
	case whole:
		foreign = false
	case strings.HasSuffix(p.Value, "Z"):
		u, _ := time.Parse("20060102T150405Z", p.Value)
		t = civil.At(u.In(zone))
	case foreign:
		u, _ := time.ParseInLocation("20060102T150405", p.Value, in)
		t = civil.At(u.In(zone))
	}
	return t, whole, foreign, nil
}

// moment reads 20261127, 20261127T093000 and 20261127T083000Z; the last one becomes the wall clock of zone.
func moment(text string, zone *time.Location) (t civil.Time, whole bool, err error) {
	for _, layout := range []string{"20060102", "20060102T150405", "20060102T150405Z"} {
		u, err := time.Parse(layout, text)
		if err != nil || u.Nanosecond() != 0 {
			continue
		}
		if u.Year() < civil.FirstYear || u.Year() > civil.LastYear {
			return 0, false, fmt.Errorf("%q is not from %d to %d", text, civil.FirstYear, civil.LastYear)
		}
		if strings.HasSuffix(layout, "Z") {
			u = u.In(zone)
		}
		return civil.At(u), layout == "20060102", nil
	}
	return 0, false, fmt.Errorf("%q is neither a date such as 20261127 nor a time such as 20261127T093000", text)
}

// length reads DTEND or DURATION. An event of dates without either is one day; one of times without either has no length.
func length(e *Event, end, duration *ics.IANAProperty, zone *time.Location) (time.Duration, error) {
	var l time.Duration
	switch {
	case end != nil && duration != nil:
		return 0, errors.New("DTEND and DURATION exclude each other")
	case end != nil:
		t, whole, _, err := when(end, zone)
		if err != nil {
			return 0, err
		}
		if whole != e.AllDay {
			return 0, errors.New("DTSTART and DTEND must both be dates or both be times")
		}
		l = time.Duration(t-e.Start) * time.Second
	case duration != nil:
		d, err := span(duration.Value)
		if err != nil {
			return 0, err
		}
		if e.AllDay && d%(civil.DaySeconds*time.Second) != 0 {
			return 0, fmt.Errorf("DURATION: %q is not whole days", duration.Value)
		}
		l = d
	case e.AllDay:
		l = civil.DaySeconds * time.Second
	}
	if l <= 0 || l > MaxLength {
		return 0, errors.New("the event has no length, or is longer than 366 days")
	}
	return l, nil
}

// span reads a duration such as P2D, PT8H or P1DT30M; a day has 24 hours on the wall clock.
func span(text string) (time.Duration, error) {
	m := regexp.MustCompile(`^\+?P(?:(\d{1,4})W)?(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?$`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("DURATION: %q is not a duration: expected such as P2D or PT8H", text)
	}
	var total time.Duration
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if n, err := strconv.Atoi(m[i+1]); err == nil {
			total += time.Duration(n) * unit
		}
	}
	return total, nil
}
