package manifest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const calHead = "apiVersion: evenkeel/v1\nkind: Calendar\nmetadata: {name: c}\nspec:\n  timezone: Europe/Berlin\n"

func TestMistakesInCalendarsAreToldWithTheirPlace(t *testing.T) {
	tell(t, []mistake{
		{"no zone", strings.Replace(calHead, "  timezone: Europe/Berlin\n", "  title: x\n", 1), `f.yaml:5:3: spec.timezone is missing`},
		{
			"unknown zone",
			strings.Replace(calHead, "Europe/Berlin", "Europe/Berlim", 1),
			`f.yaml:5:13: "Europe/Berlim" is not a time zone: expected an IANA name such as Europe/Berlin`,
		},
		{
			"unknown key",
			calHead + "  weekly:\n    - {days: [mon..fri], from: 08:00, to: 18:00, facter: 1}\n",
			`f.yaml:7:50: unknown key "facter" (did you mean "factor"?)`,
		},
		{
			"unknown day",
			calHead + "  weekly: [{days: [mon, friday], from: 08:00, to: 18:00}]\n",
			`f.yaml:6:25: "friday" is not a day of the week: expected mon, tue, wed, thu, fri, sat or sun, or a run such as mon..fri`,
		},
		{"no time of day", calHead + "  weekly: [{days: [mon], from: 8am, to: 18:00}]\n", `f.yaml:6:32: "8am" is not a time of day: expected 00:00 to 24:00`},
		{"no end", calHead + "  weekly: [{days: [mon], from: 08:00}]\n", `f.yaml:6:12: spec.weekly[0].to is missing`},
		{
			"empty window",
			calHead + "  weekly: [{days: [mon], from: 08:00, to: 08:00}]\n",
			`f.yaml:6:43: the window from 08:00 to 08:00 is empty (a whole day is 00:00 to 24:00)`,
		},
		{
			"begins at the end",
			calHead + "  weekly: [{days: [mon], from: 24:00, to: 08:00}]\n",
			`f.yaml:6:32: a window does not begin at 24:00 (write 00:00 of the next day)`,
		},
		{"below nothing", calHead + "  default: -1\n", `f.yaml:6:12: factor -1 is not from 0 to 1000000`},
		{"no date", calHead + "  holidays: [{date: 2026-02-30}]\n", `f.yaml:6:21: "2026-02-30" is not a date: expected such as 2026-12-25, from 1900 to 2199`},
		{"one day twice", calHead + "  holidays: [{date: 2026-12-25}, {date: 2026-12-25, factor: 2}]\n", `f.yaml:6:41: 2026-12-25 is listed twice`},
		{
			"backwards",
			calHead + "  peaks:\n    - {from: 2026-11-30T00:00, to: 2026-11-27T00:00, factor: 3}\n",
			`f.yaml:7:36: the peak ends at 2026-11-27T00:00, which is not after its start at 2026-11-30T00:00`,
		},
		{"a peak of nothing", calHead + "  peaks: [{from: 2026-11-27, to: 2026-11-30}]\n", `f.yaml:6:11: spec.peaks[0].factor is missing`},
		{
			"bad rule",
			calHead + "  rules: [{rrule: FREQ=MONTLY;BYDAY=MO, length: 8h, factor: 2}]\n",
			`f.yaml:6:19: this is not a rule: undefined frequency: MONTLY`,
		},
		{
			"rule without a start",
			calHead + "  rules: [{rrule: FREQ=WEEKLY;BYDAY=MO;INTERVAL=2, length: 8h, factor: 2}]\n",
			`f.yaml:6:19: the rule counts from a start: say from which day (write spec.rules[0].start)`,
		},
		{
			"endless rule",
			calHead + "  rules: [{rrule: FREQ=DAILY, length: 40d, factor: 2}]\n",
			`f.yaml:6:39: length 40d is not whole seconds from 1s to 31d`,
		},
		{
			"first and last",
			calHead + "  workingDays: [{first: 1, last: 2, days: [mon..fri], factor: 2}]\n",
			`f.yaml:6:17: spec.workingDays[0] takes exactly one of first and last`,
		},
		{
			"no working day",
			calHead + "  workingDays: [{last: 2, factor: 2}]\n",
			`f.yaml:6:17: no day is a working day: there is no weekly window (say which in spec.workingDays[0].days)`,
		},
		{
			"no iCalendar",
			calHead + "  ical: nothing\n",
			`f.yaml:6:9: this is not an iCalendar: expected BEGIN:VCALENDAR to END:VCALENDAR`,
		},
		{
			"a peak without a factor",
			calHead + "  ical: |\n    BEGIN:VCALENDAR\n    BEGIN:VEVENT\n    SUMMARY:Sale\n    DTSTART:20261127T090000\n    DURATION:PT8H\n    END:VEVENT\n    END:VCALENDAR\n",
			`f.yaml:6:9: event "Sale": an event with times is a peak and needs a factor: write X-EVENKEEL-FACTOR:3`,
		},
		{
			"a calendar that is not there",
			calHead + "---\n" + strings.Replace(svcHead, "spec:\n", "spec: {supportHours: calendar/d, value: {perHour: 1, currency: EUR, calendar: calendar/x}}\n", 1),
			`f.yaml:10:22: calendar/d is not there (did you mean "calendar/c"?)
f.yaml:10:79: calendar/x is not there (did you mean "calendar/c"?)`,
		},
	})
}

func TestWeekdays(t *testing.T) {
	for text, want := range map[string]string{
		"mon": "mon", "mon..fri": "mon tue wed thu fri", "fri..mon": "sun mon fri sat", "sun..sat": "sun mon tue wed thu fri sat", "sat..sat": "sat",
	} {
		var w manifest.Weekdays
		if err := w.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for d, name := range []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} {
			if w.Has(time.Weekday(d)) {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
}
