package recur_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/teambition/rrule-go"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

func day(t testing.TB, text string) civil.Day {
	t.Helper()
	var d civil.Day
	if err := d.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDays(t *testing.T) {
	for _, c := range []struct{ rule, start, from, to, want string }{
		{"FREQ=MONTHLY;BYDAY=-1FR", "", "2026-01-01", "2026-04-01", "2026-01-30 2026-02-27 2026-03-27"},
		{"FREQ=MONTHLY;BYDAY=-1FR", "", "2026-12-01", "2027-01-01", "2026-12-25"}, // with six days after it
		{"rrule:freq=monthly;byday=-1fr", "", "2026-01-01", "2026-02-01", "2026-01-30"},
		{"FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "", "2025-01-01", "2028-01-01", "2025-11-27 2026-11-26 2027-11-25"},
		{"FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "", "2026-01-01", "2026-04-01", "2026-01-30 2026-02-27 2026-03-31"},
		{"FREQ=YEARLY;BYDAY=20MO", "", "1997-01-01", "2000-01-01", "1997-05-19 1998-05-18 1999-05-17"},
		{"FREQ=YEARLY;BYYEARDAY=1,-1", "", "2027-12-01", "2029-02-01", "2027-12-31 2028-01-01 2028-12-31 2029-01-01"},
		{"FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "2026-01-05", "2026-02-01", "2026-03-01", "2026-02-02 2026-02-16"},
		{"FREQ=YEARLY", "2024-02-29", "2024-01-01", "2033-01-01", "2024-02-29 2028-02-29 2032-02-29"},
		{"FREQ=MONTHLY", "2026-01-31", "2026-01-01", "2026-06-01", "2026-01-31 2026-03-31 2026-05-31"},
		{"FREQ=WEEKLY", "2026-01-07", "2026-01-01", "2026-01-20", "2026-01-07 2026-01-14"},
		{"FREQ=DAILY;COUNT=3", "2026-01-07", "2026-01-01", "2026-02-01", "2026-01-07 2026-01-08 2026-01-09"},
		{"FREQ=DAILY;UNTIL=20260108", "2026-01-07", "2026-01-01", "2026-02-01", "2026-01-07 2026-01-08"},
		{"FREQ=DAILY;UNTIL=20260108T085959", "2026-01-07", "2026-01-01", "2026-02-01", "2026-01-07"}, // begins at 09:00
		{"FREQ=DAILY;UNTIL=20260108T080000Z", "2026-01-07", "2026-01-01", "2026-02-01", "2026-01-07 2026-01-08"},
		{"FREQ=MONTHLY;BYDAY=1MO,FR;BYMONTH=2", "", "2026-01-01", "2026-12-01", "2026-02-02 2026-02-06 2026-02-13 2026-02-20 2026-02-27"},
		{"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "", "1900-01-01", "2199-12-31", ""},
		{"FREQ=DAILY;INTERVAL=1000;BYMONTH=2;BYMONTHDAY=30", "1900-01-01", "1900-01-01", "2199-12-31", ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var start *civil.Day
			if c.start != "" {
				d := day(t, c.start)
				start = &d
			}
			berlin, err := civil.Zone("Europe/Berlin")
			if err != nil {
				t.Fatal(err)
			}
			r, err := recur.Parse(c.rule, start, 9*3600, berlin)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range r.Days(day(t, c.from), day(t, c.to)) {
				got = append(got, d.String())
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusedRules(t *testing.T) {
	for rule, want := range map[string]string{
		"":                                  `"" is not a part of a rule: expected such as FREQ=MONTHLY;BYDAY=-1FR`,
		"BYDAY=MO":                          "the rule has no FREQ: expected YEARLY, MONTHLY, WEEKLY or DAILY",
		"FREQ=HOURLY":                       "FREQ=HOURLY is not read: expected YEARLY, MONTHLY, WEEKLY or DAILY",
		"FREQ=DAILY;BYHOUR=3":               "BYHOUR is not read: a rule picks days, and the time of day is stated beside it",
		"FREQ=YEARLY;BYWEEKNO=20":           "BYWEEKNO is not read: write the dates, or BYMONTH with BYDAY",
		"FREQ=DAILY;FREQ=DAILY":             "FREQ stands twice in the rule",
		"FREQ=DAILY;COLOUR=RED":             `"COLOUR" is not a part of a rule`,
		"FREQ=WEEKLY;BYDAY=2MO":             "BYDAY=2MO: a numbered day needs FREQ=MONTHLY or YEARLY",
		"FREQ=MONTHLY;BYDAY=6MO":            "BYDAY=6MO: the greatest number here is 5",
		"FREQ=MONTHLY;BYMONTHDAY=0":         "BYMONTHDAY=0: 0 is not from 1 to 31",
		"FREQ=MONTHLY;BYDAY=MO;INTERVAL=-2": "INTERVAL=-2: -2 is not from 1 to 1000",
		"FREQ=DAILY;COUNT=1;UNTIL=20260101": "COUNT and UNTIL exclude each other",
		"FREQ=DAILY;BYSETPOS=1":             "BYSETPOS picks among days, and no other part of the rule names any",
	} {
		if _, err := recur.Parse(rule, nil, 0, time.UTC); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", rule, err, want)
		}
	}
	for _, rule := range []string{"FREQ=WEEKLY", "FREQ=YEARLY;BYMONTH=3", "FREQ=DAILY;INTERVAL=2", "FREQ=DAILY;COUNT=3", "FREQ=WEEKLY;BYDAY=MO;INTERVAL=2"} {
		if _, err := recur.Parse(rule, nil, 0, time.UTC); !errors.Is(err, recur.ErrNoStart) {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// The days of a rule are those that rrule-go walks to from its start. Left out is what the two read differently on purpose: BYDAY with
// and without numbers in one rule, where rrule-go wants a day to satisfy both, and BYSETPOS in a week that is not whole.
func TestDaysAreThoseOfTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		freq := rapid.SampledFrom([]string{"YEARLY", "MONTHLY", "WEEKLY", "DAILY"}).Draw(t, "freq")
		parts := []string{"FREQ=" + freq}
		some := func(name string, of []string) {
			if picked := rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, min(3, len(of)), rapid.ID[string]).Draw(t, name); len(picked) > 0 {
				parts = append(parts, name+"="+strings.Join(picked, ","))
			}
		}
		some("BYMONTH", []string{"1", "2", "6", "11", "12"})
		switch {
		case freq == "YEARLY" && rapid.Bool().Draw(t, "by day of the year"):
			some("BYYEARDAY", []string{"1", "60", "366", "-1", "-307"})
		case freq == "YEARLY" || freq == "MONTHLY":
			if rapid.Bool().Draw(t, "numbered") {
				some("BYDAY", []string{"1MO", "-1FR", "2SU", "5WE", "-5TU"})
			} else {
				some("BYMONTHDAY", []string{"1", "15", "29", "31", "-1", "-31"})
				some("BYDAY", []string{"MO", "TU", "FR", "SU"})
			}
		default:
			some("BYDAY", []string{"MO", "TU", "FR", "SU"})
		}
		if (freq == "YEARLY" || freq == "MONTHLY") && len(parts) > 1 {
			some("BYSETPOS", []string{"1", "2", "-1", "7"})
		}
		parts = append(parts, fmt.Sprintf("INTERVAL=%d", rapid.IntRange(1, 5).Draw(t, "interval")))
		if freq == "WEEKLY" {
			parts = append(parts, "WKST="+rapid.SampledFrom([]string{"MO", "SU", "TH"}).Draw(t, "week starts"))
		}
		if rapid.Bool().Draw(t, "counted") {
			parts = append(parts, fmt.Sprintf("COUNT=%d", rapid.IntRange(1, 50).Draw(t, "count")))
		}
		start := civil.DayOf(2020, 1, 1+rapid.IntRange(0, 1000).Draw(t, "start"))
		from := start + civil.Day(rapid.IntRange(-400, 2000).Draw(t, "from"))
		to := from + civil.Day(rapid.IntRange(0, 1500).Draw(t, "to"))
		text := strings.Join(parts, ";")

		opt, err := rrule.StrToROption(text)
		if err != nil {
			t.Fatal(err)
		}
		opt.Dtstart = time.Unix(int64(start.Start()), 0).UTC()
		lib, err := rrule.NewRRule(*opt)
		if err != nil {
			t.Fatal(err)
		}
		var want []civil.Day
		for _, at := range lib.Between(time.Unix(int64(from.Start()), 0).UTC(), time.Unix(int64(to.Start())-1, 0).UTC(), true) {
			want = append(want, civil.At(at).Day())
		}
		r, err := recur.Parse(text, &start, 0, time.UTC)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := r.Days(from, to); !slices.Equal(got, want) {
			t.Fatalf("%s from %s: in %s to %s\ngot  %v\nwant %v", text, start, from, to, got, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"FREQ=MONTHLY;BYDAY=-1FR", "FREQ=DAILY;COUNT=10000", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;INTERVAL=1000", "FREQ=WEEKLY;WKST=SU;UNTIL=20301231T000000Z"} {
		f.Add(s)
	}
	start := civil.DayOf(1990, 5, 17)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := recur.Parse(text, &start, 0, time.UTC)
		if err != nil {
			return
		}
		from := civil.DayOf(2026, 1, 1)
		days := r.Days(from, from+800)
		if !slices.IsSorted(days) || len(days) > 800 {
			t.Fatalf("%q: %v", text, days)
		}
		for i, d := range days {
			if d < from || d >= from+800 || i > 0 && days[i-1] == d {
				t.Fatalf("%q: %v", text, days)
			}
		}
	})
}
