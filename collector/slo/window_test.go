package slo_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
)

func calendarSpec(window string, loc *time.Location) slo.Spec {
	return slo.Spec{Objective: 999_000, Calendar: window, Location: loc, Bad: health.Major}
}

// Weeks with a clock change have 167 and 169 hours, and so has their budget.
func TestWeeksOfClockChanges(t *testing.T) {
	for _, c := range []struct {
		zone  string
		at    time.Time
		hours time.Duration
	}{
		{"Europe/Berlin", time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), 167},
		{"Europe/Berlin", time.Date(2026, 4, 3, 0, 0, 0, 0, time.UTC), 168},
		{"Europe/Berlin", time.Date(2026, 10, 22, 0, 0, 0, 0, time.UTC), 169},
		{"America/New_York", time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC), 167},
		{"America/New_York", time.Date(2026, 10, 29, 0, 0, 0, 0, time.UTC), 169},
		{"UTC", time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), 168},
	} {
		loc := zone(t, c.zone)
		r, _, err := slo.Evaluate(calendarSpec("week", loc), nil, c.at.AddDate(-1, 0, 0), nil, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if from := r.From.In(loc); from.Weekday() != time.Monday || from.Hour() != 0 {
			t.Errorf("%s: the week begins at %s", c.zone, from)
		}
		if r.Period != c.hours*time.Hour || r.Up.Budget != c.hours*time.Hour/1000 {
			t.Errorf("%s, %s: %s with a budget of %s, want %d hours", c.zone, c.at, r.Period, r.Up.Budget, c.hours)
		}
	}
}

// A window is a civil period wherever the clock stands, also where a day begins twice or at one o'clock.
func TestWindowsAreCivil(t *testing.T) {
	var zones []*time.Location
	for _, name := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Asia/Beirut", "Africa/Cairo", "America/Sao_Paulo",
		"Australia/Lord_Howe", "Asia/Kathmandu", "America/Asuncion", "Pacific/Apia",
	} {
		zones = append(zones, zone(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		loc := rapid.SampledFrom(zones).Draw(t, "zone")
		window := rapid.SampledFrom([]string{"week", "month", "quarter", "year"}).Draw(t, "window")
		at := time.Unix(rapid.Int64Range(time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC).Unix()).Draw(t, "at"), 0)
		r, _, err := slo.Evaluate(calendarSpec(window, loc), nil, at, nil, at)
		if err != nil {
			t.Fatal(err)
		}
		name := func(x time.Time) [2]int { return key(window, x.In(loc)) }
		if r.From.After(at) || !r.To.After(at) || name(r.From) != name(at) || name(r.From.Add(-1)) == name(at) ||
			name(r.To) == name(at) || name(r.To.Add(-1)) != name(at) {
			t.Fatalf("%s of %s in %s: %s to %s", window, at.In(loc), loc, r.From.In(loc), r.To.In(loc))
		}
	})
}

// Havana shows midnight twice when summer ends, Beirut skips it when summer begins.
func TestMidnightThatIsSkippedOrShownTwice(t *testing.T) {
	havana, sao := zone(t, "America/Havana"), zone(t, "America/Sao_Paulo")
	// Sunday 2020-11-01: the clock went from 1:00 back to 0:00, so November began an hour before the second midnight.
	r, _, err := slo.Evaluate(calendarSpec("month", havana), nil, time.Date(2020, 11, 10, 0, 0, 0, 0, time.UTC), nil, time.Date(2020, 11, 10, 0, 0, 0, 0, time.UTC))
	if want := time.Date(2020, 11, 1, 4, 0, 0, 0, time.UTC); err != nil || !r.From.Equal(want) {
		t.Errorf("November in Havana begins at %s, want %s, %v", r.From.UTC(), want, err)
	}
	// Sunday 2018-11-04 began at 1:00, in the middle of a week; the week is an hour short.
	r, _, err = slo.Evaluate(calendarSpec("week", sao), nil, time.Date(2018, 11, 1, 0, 0, 0, 0, time.UTC), nil, time.Date(2018, 11, 1, 0, 0, 0, 0, time.UTC))
	if err != nil || r.Period != 167*time.Hour {
		t.Errorf("the week has %s, %v", r.Period, err)
	}
}
