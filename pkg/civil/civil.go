// Package civil is time as clocks on the wall show it: days, times of day and moments without a zone, as whole numbers that can be
// compared and counted with. Business is written down in it ("Mondays from 08:00"), whatever a zone does to its clocks.
//
// It has no idea of now and turns nothing into an instant: that takes a zone, and is pkg/calendar's work. Zone is the one door to the
// time zone database, which is built in for machines that have none.
package civil

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // machines without a time zone database
)

// DaySeconds is how many seconds a day has on the wall clock, also where a zone skips or repeats an hour of it.
const DaySeconds = 24 * 60 * 60

// The years that are accepted in text; they bound what a rule without an end can mean.
const (
	FirstYear = 1900
	LastYear  = 2199
)

// Day is a date: days since 1970-01-01. It is written 2026-12-25.
type Day int32

// DayOf returns the day of a date; a month or day beyond its range is carried over as time.Date does.
func DayOf(year int, month time.Month, day int) Day {
	return Day(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / DaySeconds)
}

// Date returns year, month and day of the month.
func (d Day) Date() (year int, month time.Month, day int) { return d.Start().utc().Date() }

// Weekday returns the day of the week.
func (d Day) Weekday() time.Weekday { return time.Weekday((int(d)%7 + 7 + int(time.Thursday)) % 7) }

// Start returns the midnight with which the day begins.
func (d Day) Start() Time { return Time(d) * DaySeconds }

// String writes 2026-12-25.
func (d Day) String() string { return d.Start().utc().Format(time.DateOnly) }

// MarshalText writes what String returns.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 2026-12-25, of the years 1900 to 2199.
func (d *Day) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.DateOnly, string(b))
	if err != nil || !inRange(t) {
		return fmt.Errorf("%q is not a date: expected such as 2026-12-25, from %d to %d", b, FirstYear, LastYear)
	}
	*d = Day(t.Unix() / DaySeconds)
	return nil
}

func inRange(t time.Time) bool { return t.Year() >= FirstYear && t.Year() <= LastYear }

// Time is a date and a time of day: seconds since 1970-01-01T00:00 on the wall clock. It is written 2026-11-27T09:30.
type Time int64

// At returns what the clocks of t's zone show at t, to the second.
func At(t time.Time) Time {
	_, offset := t.Zone()
	return Time(t.Unix() + int64(offset))
}

func (t Time) utc() time.Time { return time.Unix(int64(t), 0).UTC() }

// Day returns the date.
func (t Time) Day() Day {
	d := t / DaySeconds
	if t%DaySeconds < 0 {
		d--
	}
	return Day(d)
}

// Clock returns the time of day.
func (t Time) Clock() Clock { return Clock(t - t.Day().Start()) }

// String writes 2026-11-27T09:30, and the seconds where there are any.
func (t Time) String() string {
	if t%60 == 0 {
		return t.utc().Format("2006-01-02T15:04")
	}
	return t.utc().Format("2006-01-02T15:04:05")
}

// MarshalText writes what String returns.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads 2026-11-27T09:30, with or without seconds, or a date alone, which is its midnight.
func (t *Time) UnmarshalText(b []byte) error {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly} {
		if u, err := time.Parse(layout, string(b)); err == nil && inRange(u) && u.Nanosecond() == 0 {
			*t = Time(u.Unix())
			return nil
		}
	}
	return fmt.Errorf("%q is not a local date and time: expected such as 2026-11-27T09:30, without a zone, from %d to %d", b, FirstYear, LastYear)
}

// Clock is a time of day: seconds since midnight. It is written 08:00; 24:00 is the end of the day.
type Clock int32

// String writes 08:00, and the seconds where there are any.
func (c Clock) String() string {
	if c%60 == 0 {
		return fmt.Sprintf("%02d:%02d", c/3600, c/60%60)
	}
	return fmt.Sprintf("%02d:%02d:%02d", c/3600, c/60%60, c%60)
}

// MarshalText writes what String returns.
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads 00:00 to 24:00.
func (c *Clock) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "24:00" {
		*c = DaySeconds
		return nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != 5 {
		return fmt.Errorf("%q is not a time of day: expected 00:00 to 24:00", s)
	}
	*c = Clock(t.Hour()*3600 + t.Minute()*60)
	return nil
}

// Zone returns the time zone of an IANA name, such as Europe/Berlin. The machine's own zone has no name here.
func Zone(name string) (*time.Location, error) {
	if name == "" || name == "Local" || strings.HasPrefix(name, "/") || len(name) > 64 {
		return nil, fmt.Errorf("%q is not a time zone: expected an IANA name such as Europe/Berlin", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone: expected an IANA name such as Europe/Berlin", name)
	}
	return zone, nil
}
