package slo

import "time"

// period returns the civil date on which the window that holds a date begins, and that of the one after it.
var period = map[string]func(y int, m time.Month, d int, wd time.Weekday) (from, to date){
	"week": func(y int, m time.Month, d int, wd time.Weekday) (date, date) {
		monday := d - (int(wd)+6)%7
		return date{y, m, monday}, date{y, m, monday + 7}
	},
	"month": func(y int, m time.Month, _ int, _ time.Weekday) (date, date) { return date{y, m, 1}, date{y, m + 1, 1} },
	"quarter": func(y int, m time.Month, _ int, _ time.Weekday) (date, date) {
		q := m - (m-1)%3
		return date{y, q, 1}, date{y, q + 3, 1}
	},
	"year": func(y int, _ time.Month, _ int, _ time.Weekday) (date, date) { return date{y, 1, 1}, date{y + 1, 1, 1} },
}

// date is a civil date; month and day may lie beyond their ends, as time.Date takes them.
type date struct {
	y int
	m time.Month
	d int
}

// first returns the first moment of the date at a place. It is midnight, but for places where the clock skips midnight, or
// shows it twice.
func (x date) first(loc *time.Location) time.Time {
	t := time.Date(x.y, x.m, x.d, 0, 0, 0, 0, loc)
	want := time.Date(x.y, x.m, x.d, 0, 0, 0, 0, time.UTC) // normalised, to compare with
	if y, m, d := t.Date(); y != want.Year() || m != want.Month() || d != want.Day() {
		_, end := t.ZoneBounds() // midnight was skipped, and this is before the gap
		return end
	}
	start, _ := t.ZoneBounds()
	if h, m, s := t.Clock(); h != 0 || m != 0 || s != 0 {
		return start // midnight was skipped, and this is after the gap
	}
	if start.IsZero() {
		return t
	}
	_, now := t.Zone()
	_, was := start.Add(-1).Zone()
	if earlier := t.Add(-time.Duration(was-now) * time.Second); was > now && earlier.Before(start) {
		return earlier
	}
	return t
}

// bounds returns the calendar window that holds t.
func (s *Spec) bounds(t time.Time) (from, to time.Time) {
	local := t.In(s.Location)
	y, m, d := local.Date()
	a, b := period[s.Calendar](y, m, d, local.Weekday())
	return a.first(s.Location), b.first(s.Location)
}
