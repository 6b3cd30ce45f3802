package importer_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/importer"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const holidays = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nX-WR-TIMEZONE:Europe/Berlin\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\nBEGIN:STANDARD\r\n" +
	"DTSTART:19961027T030000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Christ\r\n mas\r\nDESCRIPTION:long\r\n  text\r\n" +
	"DTSTART;VALUE=DATE:20261225\r\nRRULE:FREQ=YEARLY\r\nBEGIN:VALARM\r\nSUMMARY:ring\r\nTRIGGER:-PT30M\r\nEND:VALARM\r\nEND:VEVENT\r\n" +
	"BEGIN:VEVENT\r\nSUMMARY:Sale\r\nDTSTART:20261127T090000\r\nDURATION:PT8H\r\nATTENDEE:mailto:a@b\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

func TestICal(t *testing.T) {
	got, problems := importer.ICal("h.ics", []byte(holidays), importer.CalendarOptions{Name: "retail", Factor: "3"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	text, err := manifest.YAML(got.Resources...)
	if err != nil {
		t.Fatal(err)
	}
	set, problems := manifest.Parse("x", text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c, ok := manifest.SpecOf[manifest.Calendar](set, "calendar/retail")
	if !ok {
		t.Fatalf("no calendar in\n%s", text)
	}
	want := "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nSUMMARY:Christmas\nDTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY\nEND:VEVENT\n" +
		"BEGIN:VEVENT\nSUMMARY:Sale\nDTSTART:20261127T090000\nDURATION:PT8H\nX-EVENKEEL-FACTOR:3\nEND:VEVENT\nEND:VCALENDAR\n"
	if diff := cmp.Diff(want, c.ICal); diff != "" {
		t.Error(diff)
	}
	if c.Timezone != "Europe/Berlin" || c.DefaultFactor().String() != "1" {
		t.Errorf("%+v", c)
	}
}

func TestMistakesInICal(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		opt              importer.CalendarOptions
	}{
		{"no calendar", "hello", `h.ics: there is no event in the calendar`, importer.CalendarOptions{Name: "x", Timezone: "UTC"}},
		{"no zone", strings.Replace(holidays, "X-WR-TIMEZONE", "X-OTHER", 1), `h.ics: the calendar names no time zone (say which: --timezone Europe/Berlin)`, importer.CalendarOptions{Name: "x"}},
		{"a zone that is none", holidays, `h.ics: "Berlin" is not a time zone: expected an IANA name such as Europe/Berlin`, importer.CalendarOptions{Name: "x", Timezone: "Berlin"}},
		{"no factor", holidays, `h.ics: event "Sale": an event with times is a peak and needs a factor: write X-EVENKEEL-FACTOR:3 (--factor gives one to all of them)`, importer.CalendarOptions{Name: "x"}},
		{"a factor that is none", holidays, `h.ics: event "Sale": X-EVENKEEL-FACTOR:much is not a factor from 0 to 1000000`, importer.CalendarOptions{Name: "x", Factor: "much"}},
		{"a name that is none", holidays, `h.ics: "A B" is not a name: lower-case letters, digits, and between them - . _`, importer.CalendarOptions{Name: "A B", Factor: "3"}},
		{"a default that is none", holidays, `h.ics: "all" is not a decimal number`, importer.CalendarOptions{Name: "x", Factor: "3", Default: "all"}},
		{"a date that is none", strings.Replace(holidays, "20261225", "20261325", 1), `h.ics:10:1: event 1 (Christmas): DTSTART: "20261325" is neither a date such as 20261127 nor a time such as 20261127T093000`, importer.CalendarOptions{Name: "x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := importer.ICal("h.ics", []byte(c.text), c.opt)
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzICal(f *testing.F) {
	f.Add([]byte(holidays), "UTC", "3")
	f.Fuzz(func(t *testing.T, text []byte, zone, factor string) {
		got, problems := importer.ICal("h.ics", text, importer.CalendarOptions{Name: "x", Timezone: zone, Factor: factor})
		if (len(problems) == 0) != (len(got.Resources) == 1) {
			t.Errorf("%d resources, %v", len(got.Resources), problems)
		}
	})
}
