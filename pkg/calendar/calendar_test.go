package calendar_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func parse(t testing.TB, spec string) *calendar.Calendar {
	t.Helper()
	set, problems := manifest.Parse("c.yaml", []byte("apiVersion: evenkeel/v1\nkind: Calendar\nmetadata: {name: c}\nspec:\n"+spec))
	for _, p := range problems {
		t.Fatal(p)
	}
	s, ok := manifest.SpecOf[manifest.Calendar](set, "calendar/c")
	if !ok {
		t.Fatal("no calendar")
	}
	c, err := calendar.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const office = `
  timezone: Europe/Berlin
  default: 0
  weekly: [{days: [mon..fri], from: 08:00, to: 18:00}, {days: [fri], from: 22:00, to: 02:00, factor: 0.5}]
  holidays: [{date: 2026-12-25}, {date: 2026-12-26}]
  workingDays: [{last: 2, from: 17:00, to: 20:00, factor: 2}]
`

func TestSegments(t *testing.T) {
	for _, c := range []struct{ name, spec, from, to, want string }{
		{"a working day", office, "2026-11-24T00:00:00+01:00", "2026-11-25T00:00:00+01:00", "00:00 0, 08:00 1, 18:00 0"},
		{"past midnight", office, "2026-11-20T12:00:00+01:00", "2026-11-21T12:00:00+01:00", "12:00 1, 18:00 0, 22:00 0.5, 02:00 0"},
		{"a holiday", office, "2026-12-24T12:00:00+01:00", "2026-12-26T12:00:00+01:00", "12:00 1, 18:00 0"},
		// Of the month's weekdays 30 and 31 December are the last; the greater factor wins from 17:00.
		{"last working days", office, "2026-12-29T16:00:00+01:00", "2026-12-31T00:00:00+01:00", "16:00 1, 18:00 0, 08:00 1, 17:00 2, 20:00 0"},
		{
			"the hour that is skipped", "  timezone: Europe/Berlin\n  weekly: [{days: [sun], from: 02:00, to: 03:00, factor: 2}]\n",
			"2026-03-29T00:00:00+01:00", "2026-03-29T12:00:00+02:00", "00:00 1",
		},
		{
			"the hour that comes twice", "  timezone: Europe/Berlin\n  weekly: [{days: [sun], from: 02:00, to: 03:00, factor: 2}]\n",
			"2026-10-25T00:00:00+02:00", "2026-10-25T12:00:00+01:00", "00:00 1, 02:00 2, 03:00 1",
		},
		{
			"half of it comes twice", "  timezone: Europe/Berlin\n  weekly: [{days: [sun], from: 01:30, to: 02:30, factor: 2}]\n",
			"2026-10-25T00:00:00+02:00", "2026-10-25T12:00:00+01:00", "00:00 1, 01:30 2, 02:30 1, 02:00 2, 02:30 1",
		},
		{"seconds at the ends", office, "2026-11-24T17:59:59.5+01:00", "2026-11-24T18:00:00.5+01:00", "17:59 1, 18:00 0"},
		{"nothing at all", "  timezone: UTC\n", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "00:00 1"},
		{"no time", office, "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cal := parse(t, c.spec)
			var got []string
			last := at(t, c.from)
			for s := range cal.Segments(at(t, c.from), at(t, c.to)) {
				if !s.Start.Equal(last) || !s.End.After(s.Start) {
					t.Errorf("a gap: %s after %s", s.Start, last)
				}
				last = s.End
				got = append(got, fmt.Sprintf("%s %s", s.Start.Format("15:04"), s.Factor))
			}
			if !last.Equal(at(t, c.to)) {
				t.Errorf("it ends at %s", last)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOpenTime(t *testing.T) {
	c := parse(t, office)
	if got := c.Between(at(t, "2026-12-21T00:00:00+01:00"), at(t, "2026-12-28T00:00:00+01:00")); got != 40*time.Hour {
		t.Errorf("the week of Christmas is open for %s", got)
	}
	// 2 hours on Thursday; Friday and Saturday are holidays, and nothing is open on Sunday.
	got, ok := c.Add(at(t, "2026-12-24T16:00:00+01:00"), 3*time.Hour)
	if want := at(t, "2026-12-28T09:00:00+01:00"); !ok || !got.Equal(want) {
		t.Errorf("3 open hours later it is %s", got)
	}
	got, ok = c.Next(at(t, "2026-12-24T18:00:00+01:00"))
	if want := at(t, "2026-12-28T08:00:00+01:00"); !ok || !got.Equal(want) || c.Open(got.Add(-1)) || !c.Open(got) {
		t.Errorf("the next change is at %s", got)
	}
	closed := parse(t, "  timezone: UTC\n  default: 0\n  rules: [{rrule: FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30, length: 8h, factor: 1}]\n")
	if got, ok := closed.Add(at(t, "2026-01-01T00:00:00Z"), 1); ok {
		t.Errorf("it opens at %s", got)
	}
	if got, ok := closed.Next(at(t, "2026-01-01T00:00:00Z")); ok {
		t.Errorf("it changes at %s", got)
	}
}

// Spans are the open part of Segments, clipped, and no two of them touch.
func TestSpans(t *testing.T) {
	c := parse(t, office)
	from, to := at(t, "2026-12-21T09:30:00+01:00"), at(t, "2026-12-29T10:00:00+01:00")
	var open time.Duration
	last := from.Add(-1)
	for a, b := range c.Spans(from, to) {
		if !a.After(last) || !b.After(a) || b.After(to) || !c.Open(a) || !c.Open(b.Add(-1)) || b.Before(to) && c.Open(b) {
			t.Errorf("open from %s to %s, after %s", a, b, last)
		}
		open += b.Sub(a)
		last = b
	}
	if want := c.Between(from, to); open != want || want == 0 {
		t.Errorf("open for %s, wanted %s", open, want)
	}
	for a := range c.Spans(from, to) {
		if !a.Equal(from) {
			t.Errorf("the first begins at %s", a)
		}
		break
	}
}

func clocks(t *rapid.T, name string) civil.Clock {
	return civil.Clock(rapid.SampledFrom([]int{0, 60, 90, 120, 150, 180, 210, 480, 1080, 1439}).Draw(t, name) * 60)
}

func decimals(t *rapid.T, name string) *manifest.Decimal {
	d := manifest.Decimal(rapid.SampledFrom([]int{0, 200_000, 1_000_000, 1_500_000, 3_000_000}).Draw(t, name))
	return &d
}

func weekdaysOf(t *rapid.T, name string) []manifest.Weekdays {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) manifest.Weekdays {
		return manifest.Weekdays{First: time.Weekday(rapid.IntRange(0, 6).Draw(t, "first")), Last: time.Weekday(rapid.IntRange(0, 6).Draw(t, "last"))}
	}), 1, 2).Draw(t, name)
}

// draw makes a calendar whose entries lie around a moment, with every boundary on a whole minute of the wall clock.
func draw(t *rapid.T, zone *time.Location, around time.Time) *oracle {
	o := &oracle{zone: zone, spec: &manifest.Calendar{Timezone: zone.String()}}
	centre := civil.At(around.In(zone)).Day()
	minute := func(name string) civil.Time {
		return (centre - 3).Start() + civil.Time(rapid.IntRange(0, 6*48).Draw(t, name)*1800)
	}
	s := o.spec
	if rapid.Bool().Draw(t, "default") {
		s.Default = decimals(t, "default factor")
	}
	for range rapid.IntRange(0, 3).Draw(t, "windows") {
		w := manifest.WeeklyWindow{Days: weekdaysOf(t, "days"), From: clocks(t, "from"), To: clocks(t, "to"), Factor: decimals(t, "factor")}
		if w.To == w.From || w.To == 0 {
			w.To = civil.DaySeconds
		}
		s.Weekly = append(s.Weekly, w)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "holidays") {
		s.Holidays = append(s.Holidays, manifest.Holiday{Date: centre + civil.Day(rapid.IntRange(-1, 1).Draw(t, "date")*(i+1)), Factor: decimals(t, "factor")})
	}
	for range rapid.IntRange(0, 2).Draw(t, "peaks") {
		from := minute("from")
		s.Peaks = append(s.Peaks, manifest.Peak{From: from, To: from + civil.Time(rapid.IntRange(1, 100).Draw(t, "long")*1800), Factor: decimals(t, "factor")})
	}
	start := civil.DayOf(2025, 11, 3)
	for range rapid.IntRange(0, 2).Draw(t, "rules") {
		s.Rules = append(s.Rules, manifest.CalendarRule{
			RRule: rapid.SampledFrom([]string{"FREQ=MONTHLY;BYDAY=-1SU,1SU", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=SA,SU", "FREQ=YEARLY;BYMONTHDAY=1,-1", "FREQ=MONTHLY;BYDAY=SA,SU;BYSETPOS=-1"}).Draw(t, "rule"),
			Start: &start, From: clocks(t, "from"), Length: manifest.Duration(time.Duration(rapid.IntRange(1, 120).Draw(t, "long")) * 30 * time.Minute), Factor: decimals(t, "factor"),
		})
	}
	if rapid.Bool().Draw(t, "working days") && len(s.Weekly) > 0 {
		w := manifest.WorkingDays{From: clocks(t, "from"), Factor: decimals(t, "factor")}
		if rapid.Bool().Draw(t, "first") {
			w.First = rapid.IntRange(1, 4).Draw(t, "n")
		} else {
			w.Last = rapid.IntRange(1, 4).Draw(t, "n")
		}
		if rapid.Bool().Draw(t, "own days") {
			w.Days = weekdaysOf(t, "days")
		}
		if to := clocks(t, "to"); to != w.From && rapid.Bool().Draw(t, "ends") {
			w.To = &to
		}
		s.WorkingDays = append(s.WorkingDays, w)
	}
	wall := func(x civil.Time) time.Time { return time.Unix(int64(x), 0).UTC() }
	if rapid.IntRange(0, 3).Draw(t, "all-day event") == 0 {
		from := centre + civil.Day(rapid.IntRange(-2, 2).Draw(t, "date"))
		o.allDay = append(o.allDay, vevent{wall(from.Start()), wall((from + 2).Start()), rapid.SampledFrom([]string{"", "0.5", "2"}).Draw(t, "factor")})
	}
	if rapid.IntRange(0, 3).Draw(t, "timed event") == 0 {
		from := minute("from")
		o.timed = append(o.timed, vevent{wall(from), wall(from + 5400), "2.5"})
	}
	s.ICal = o.ical()
	return o
}

// moments are around what the clocks of three zones do, two of them north and one south of the equator, and around ends of years.
func moments() map[string][]string {
	return map[string][]string{
		"Europe/Berlin":       {"2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2040-12-31T01:00:00Z"}, // beyond what the database lists change by change
		"America/New_York":    {"2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z", "2027-01-01T05:00:00Z"},
		"Australia/Lord_Howe": {"2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-12-31T13:00:00Z"}, // by half an hour
	}
}

func TestEveryMinuteIsAsDefined(t *testing.T) {
	for name, changes := range moments() {
		t.Run(name, func(t *testing.T) {
			zone, err := civil.Zone(name)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				around, err := time.Parse(time.RFC3339, rapid.SampledFrom(changes).Draw(t, "around"))
				if err != nil {
					t.Fatal(err)
				}
				o := draw(t, zone, around)
				cal, err := calendar.New(o.spec)
				if err != nil {
					t.Fatal(err)
				}
				from := around.Add(time.Duration(rapid.IntRange(-40*60, 0).Draw(t, "from")) * time.Minute)
				to := from.Add(time.Duration(rapid.IntRange(1, 48*60).Draw(t, "to")) * time.Minute)
				minutes(t, o, cal, from, to)
			})
		})
	}
}

// minutes holds Segments, FactorAt, Between, Add and Next against the oracle, minute by minute and at both sides of every edge.
func minutes(t *rapid.T, o *oracle, cal *calendar.Calendar, from, to time.Time) {
	at, open := from, time.Duration(0)
	var before manifest.Decimal
	for s := range cal.Segments(from, to) {
		if !s.Start.Equal(at) || !s.End.After(at) || s.End.After(to) {
			t.Fatalf("a segment from %s to %s after %s", s.Start, s.End, at)
		}
		if s.Start.After(from) && s.Factor == before {
			t.Fatalf("two segments of factor %s meet at %s", s.Factor, s.Start)
		}
		before = s.Factor
		if f := o.factorAt(s.End.Add(-time.Second)); f != s.Factor {
			t.Fatalf("a second before %s it is %s, not %s", s.End, f, s.Factor)
		}
		for ; at.Before(s.End); at = at.Add(time.Minute) {
			if f := o.factorAt(at); f != s.Factor || cal.FactorAt(at) != f || cal.Open(at) != (f > 0) {
				t.Fatalf("at %s it is %s; the segment says %s, and FactorAt %s", at.In(o.zone), f, s.Factor, cal.FactorAt(at))
			}
			if s.Factor > 0 {
				open += time.Minute
			}
		}
	}
	if !at.Equal(to) {
		t.Fatalf("the segments end at %s, not at %s", at, to)
	}
	if got := cal.Between(from, to); got != open {
		t.Fatalf("it is open for %s, not for %s", open, got)
	}
	if open > 0 {
		part := time.Duration(rapid.Int64Range(1, int64(open)).Draw(t, "part"))
		end, ok := cal.Add(from, part)
		if !ok || cal.Between(from, end) != part || end.After(to) || !cal.Open(end.Add(-1)) {
			t.Fatalf("%s of %s open hours end at %s, by when it was open for %s", part, open, end, cal.Between(from, end))
		}
	}
	if next, ok := cal.Next(from); ok && next.Before(to) && (o.factorAt(next) == o.factorAt(from) || o.factorAt(next.Add(-time.Second)) != o.factorAt(from)) {
		t.Fatalf("%s is not where the factor of %s changes", next, from)
	}
}

func BenchmarkYear(b *testing.B) {
	c := parse(b, office)
	from := at(b, "2026-01-01T00:00:00Z")
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range c.Segments(from, from.AddDate(1, 0, 0)) {
			n++
		}
		if n < 500 {
			b.Fatal(n)
		}
	}
}

func TestICalendar(t *testing.T) {
	c := parse(t, `
  timezone: Europe/Berlin
  weekly: [{days: [mon..sun], from: 08:00, to: 18:00, factor: 2}]
  ical: |
    BEGIN:VCALENDAR
    BEGIN:VEVENT
    SUMMARY:Weeks that lie over each other
    DTSTART;VALUE=DATE:20261201
    DTEND;VALUE=DATE:20261208
    RRULE:FREQ=WEEKLY;BYDAY=TU,TH;UNTIL=20261210
    END:VEVENT
    BEGIN:VEVENT
    SUMMARY:Night sale
    DTSTART:20261212T220000
    DURATION:PT4H
    RRULE:FREQ=YEARLY
    X-EVENKEEL-FACTOR:5
    END:VEVENT
    END:VCALENDAR
`)
	for text, want := range map[string]string{
		"2026-11-30T12:00:00+01:00": "2",
		"2026-12-01T12:00:00+01:00": "0",
		"2026-12-16T23:59:59+01:00": "0", // the week that began on the 10th
		"2026-12-17T00:00:00+01:00": "1",
		"2026-12-12T22:00:00+01:00": "5", // a peak goes on through holidays
		"2029-12-13T01:59:59+01:00": "5",
		"2029-12-13T02:00:00+01:00": "1",
	} {
		if got := c.FactorAt(at(t, text)).String(); got != want {
			t.Errorf("at %s it is %s, want %s", text, got, want)
		}
	}
}

// What begins in one year and ends in the next is found from both.
func TestNewYear(t *testing.T) {
	for _, entry := range []string{
		"weekly: [{days: [thu], from: 22:00, to: 04:00, factor: 3}]",
		"workingDays: [{last: 1, days: [mon..fri], from: 22:00, to: 04:00, factor: 3}]",
		"peaks: [{from: 2026-12-31T22:00, to: 2027-01-01T04:00, factor: 3}]",
		"rules: [{rrule: FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=31, from: 22:00, length: 6h, factor: 3}]",
		"rules: [{rrule: FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=1, from: 04:00, length: 31d, factor: 3}]",
		"ical: \"BEGIN:VCALENDAR\\nBEGIN:VEVENT\\nDTSTART:20261231T220000\\nDURATION:PT6H\\nX-EVENKEEL-FACTOR:3\\nEND:VEVENT\\nEND:VCALENDAR\"",
		"ical: \"BEGIN:VCALENDAR\\nBEGIN:VEVENT\\nDTSTART;VALUE=DATE:20260103\\nDTEND;VALUE=DATE:20270104\\nX-EVENKEEL-FACTOR:3\\nEND:VEVENT\\nEND:VCALENDAR\"",
	} {
		c := parse(t, "  timezone: UTC\n  "+entry+"\n")
		for _, text := range []string{"2026-12-31T22:00:00Z", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", "2027-01-01T03:59:59Z"} {
			if got := c.FactorAt(at(t, text)).String(); got != "3" {
				t.Errorf("%s: at %s it is %s", entry, text, got)
			}
		}
		if next, ok := c.Next(at(t, "2026-12-31T22:00:00Z")); !ok || next.Before(at(t, "2027-01-01T04:00:00Z")) {
			t.Errorf("%s: it changes at %s", entry, next)
		}
	}
}
