package recur_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

func calendar(events ...string) string {
	return "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//test//EN\nBEGIN:VEVENT\nUID:1\n" +
		strings.Join(events, "\nEND:VEVENT\nBEGIN:VEVENT\nUID:2\n") + "\nEND:VEVENT\nEND:VCALENDAR\n"
}

func TestEvents(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a day", "DTSTART;VALUE=DATE:20261225", "2026-12-25T00:00 24h0m0s"},
		{"two days", "DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227", "2026-12-25T00:00 48h0m0s"},
		{"every year", "DTSTART;VALUE=DATE:20201225\nRRULE:FREQ=YEARLY", "2026-12-25T00:00 2027-12-25T00:00 24h0m0s"},
		{"floating", "DTSTART:20261127T093000\nDTEND:20261127T180000", "2026-11-27T09:30 8h30m0s"},
		{"in UTC", "DTSTART:20261127T083000Z\nDURATION:PT1H30M", "2026-11-27T09:30 1h30m0s"},
		{"in another zone", "DTSTART;TZID=America/New_York:20261127T033000\nDURATION:P1D", "2026-11-27T09:30 24h0m0s"},
		{"in this zone, every week", "DTSTART;TZID=Europe/Berlin:20261217T090000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3", "2026-12-17T09:00 2026-12-24T09:00 2026-12-31T09:00 1h0m0s"},
		{"without one", "DTSTART:20261217T090000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3\nEXDATE:20261224T090000", "2026-12-17T09:00 2026-12-31T09:00 1h0m0s"},
		{"without the day of one", "DTSTART:20261217T090000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3\nEXDATE;VALUE=DATE:20261224", "2026-12-17T09:00 2026-12-31T09:00 1h0m0s"},
		{"with one more", "DTSTART;VALUE=DATE:20261225\nRDATE;VALUE=DATE:20261231,20261225", "2026-12-25T00:00 2026-12-31T00:00 24h0m0s"},
		{"folded", "DTSTART;VALUE=DA\n TE:20261225", "2026-12-25T00:00 24h0m0s"},
		{"cancelled", "DTSTART;VALUE=DATE:20261225\nSTATUS:CANCELLED", ""},
		{"no start", "SUMMARY:x", "event 1 (x): DTSTART is missing"},
		{"no length", "SUMMARY:x\nDTSTART:20261225T090000", "event 1 (x): the event has no length, or is longer than 366 days"},
		{"backwards", "DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261224", "event 1 (1): the event has no length, or is longer than 366 days"},
		{"recurs elsewhere", "DTSTART:20261127T083000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY", "event 1 (1): it recurs in another zone than Europe/Berlin: its hour would differ between the seasons"},
		{"unknown zone", "DTSTART;TZID=Mars/Base:20261127T083000\nDURATION:PT1H", `event 1 (1): DTSTART: TZID: "Mars/Base" is not a time zone: expected an IANA name such as Europe/Berlin`},
		{"changed occurrence", "DTSTART;VALUE=DATE:20261225\nRECURRENCE-ID:20261225", "event 1 (1): RECURRENCE-ID is not read: write the changed occurrence as an event of its own, and EXDATE for the old one"},
		{"twice", "DTSTART;VALUE=DATE:20261225\nDTSTART;VALUE=DATE:20261225", "event 1 (1): DTSTART stands twice"},
		{"mixed", "DTSTART;VALUE=DATE:20261225\nDTEND:20261225T090000", "event 1 (1): DTSTART and DTEND must both be dates or both be times"},
	} {
		t.Run(c.name, func(t *testing.T) {
			berlin, err := civil.Zone("Europe/Berlin")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			events, err := recur.Events(calendar(c.text), berlin)
			if err != nil {
				got = append(got, err.Error())
			}
			for _, e := range events {
				for _, at := range e.Occurrences(civil.DayOf(2026, 6, 1), civil.DayOf(2028, 1, 1)) {
					got = append(got, at.String())
				}
				got = append(got, e.Length.String())
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNoCalendar(t *testing.T) {
	for _, text := range []string{"", "hello", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VEVENT\n", "BEGIN:VEVENT\nEND:VEVENT\nEND:VCALENDAR"} {
		if _, err := recur.Events(text, nil); err == nil || !strings.HasPrefix(err.Error(), "this is not an iCalendar") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add(calendar("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY\nEXDATE;VALUE=DATE:20271225", "DTSTART;TZID=Europe/Berlin:20261127T093000\nDURATION:P1DT2H\nX-EVENKEEL-FACTOR:3"))
	f.Add(calendar("DTSTART:20261127T083000Z\nDTEND:20261127T090000Z\nRDATE:20261128T083000Z"))
	berlin, err := civil.Zone("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		events, err := recur.Events(text, berlin)
		if err != nil {
			return
		}
		from, to := civil.DayOf(2026, 1, 1), civil.DayOf(2028, 1, 1)
		for _, e := range events {
			starts := e.Occurrences(from, to)
			if e.Length <= 0 || e.Length > recur.MaxLength || !slices.IsSorted(starts) {
				t.Fatalf("%+v: %v", e, starts)
			}
			for _, at := range starts {
				if at.Day() < from || at.Day() >= to {
					t.Fatalf("%s is not in the range", at)
				}
			}
		}
	})
}
