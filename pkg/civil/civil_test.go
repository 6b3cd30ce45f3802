package civil_test

import (
	"encoding"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/civil"
)

func TestDaysCountAsTheStandardLibraryDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := civil.Day(rapid.IntRange(-60_000, 90_000).Draw(t, "day"))
		std := time.Unix(int64(d)*civil.DaySeconds, 0).UTC()
		y, m, dd := d.Date()
		if sy, sm, sd := std.Date(); y != sy || m != sm || dd != sd || d.Weekday() != std.Weekday() || civil.DayOf(y, m, dd) != d {
			t.Fatalf("%d is %s, a %s; the standard library says %s", d, d, d.Weekday(), std)
		}
		clock := civil.Clock(rapid.IntRange(0, civil.DaySeconds-1).Draw(t, "clock"))
		if at := d.Start() + civil.Time(clock); at.Day() != d || at.Clock() != clock {
			t.Fatalf("%s is on %s at %s", at, at.Day(), at.Clock())
		}
	})
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		into encoding.TextUnmarshaler
		text string
		want string // empty: refused
	}{
		{new(civil.Day), "2026-12-25", "2026-12-25"},
		{new(civil.Day), "2026-02-29", ""},
		{new(civil.Day), "1899-12-31", ""},
		{new(civil.Day), "26-12-25", ""},
		{new(civil.Time), "2026-11-27T09:30", "2026-11-27T09:30"},
		{new(civil.Time), "2026-11-27T09:30:15", "2026-11-27T09:30:15"},
		{new(civil.Time), "2026-11-27", "2026-11-27T00:00"},
		{new(civil.Time), "2026-11-27T09:30:15.5", ""},
		{new(civil.Time), "2026-11-27T09:30Z", ""},
		{new(civil.Time), "2026-11-27 09:30", ""},
		{new(civil.Clock), "08:00", "08:00"},
		{new(civil.Clock), "24:00", "24:00"},
		{new(civil.Clock), "24:01", ""},
		{new(civil.Clock), "8:00", ""},
		{new(civil.Clock), "480", ""},
	} {
		err := c.into.UnmarshalText([]byte(c.text))
		if (err == nil) != (c.want != "") {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if err != nil {
			continue
		}
		if got, _ := c.into.(encoding.TextMarshaler).MarshalText(); string(got) != c.want {
			t.Errorf("%q became %q, want %q", c.text, got, c.want)
		}
	}
}

func TestZone(t *testing.T) {
	for name, ok := range map[string]bool{"Europe/Berlin": true, "UTC": true, "": false, "Local": false, "Mars/Base": false, "/etc/passwd": false, "../x": false} {
		if _, err := civil.Zone(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
