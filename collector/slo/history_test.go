package slo_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
)

func TestReadHistory(t *testing.T) {
	rows, problems := slo.ReadHistory("h", []byte(`ref,time,level,origin
service/a,2026-11-25T10:00:00Z,ok,
service/b,2026-11-25T09:00:00+01:00,unknown,
service/a,2026-11-25T10:00:00.5Z,minor...critical,vendor
`))
	if len(problems) > 0 || len(rows) != 3 {
		t.Fatalf("%v, %v", rows, problems)
	}
	got := slo.Segments(rows, "service/a", start.Add(time.Hour))
	want := []slo.Segment{
		{From: start, To: start.Add(500 * time.Millisecond)},
		{From: start.Add(500 * time.Millisecond), To: start.Add(time.Hour), State: slo.State{Health: health.Range{Low: health.Minor, High: health.Critical}, Origin: slo.Vendor}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := slo.Segments(rows, "service/a", start); len(got) != 0 {
		t.Errorf("before the first row there is %v", got)
	}
}

func historyMistakes() []struct{ name, text, want string } {
	const head = "ref,time,level\n"
	return []struct{ name, text, want string }{
		{"nothing", "", `h:1:1: the file is empty (its first line is ref,time,level or ref,time,level,origin)`},
		{"no head", "service/a,2026-11-25T10:00:00Z,ok\n", `h:1:1: the first line is "service/a,2026-11-25T10:00:00Z,ok" (expected ref,time,level or ref,time,level,origin)`},
		{"field missing", head + "service/a,2026-11-25T10:00:00Z\n", `h:2:1: there are 2 fields: the first line has 3`},
		{"not a service", head + "component/a,2026-11-25T10:00:00Z,ok\n", `h:2:1: "component/a" is not a service (expected service/NAME)`},
		{"not a time", head + "service/a,10:00,ok\n", `h:2:11: "10:00" is not a time (expected RFC 3339, such as 2026-11-25T10:00:00Z)`},
		{"another age", head + "service/a,1900-01-01T00:00:00Z,ok\n", `h:2:11: "1900-01-01T00:00:00Z" is in the year 1900: expected 1971 to 2199`},
		{"not a level", head + "service/a,2026-11-25T10:00:00Z,down\n", `h:2:32: "down" is not a level: expected ok, info, warning, minor, major or critical; or unknown, or a range such as ok...major`},
		{"range upside down", head + "service/a,2026-11-25T10:00:00Z,major...ok\n", `h:2:32: "major...ok" is not a range: major is worse than ok`},
		{"range without an end", head + "service/a,2026-11-25T10:00:00Z,ok...\n", `h:2:32: "" is not a level: expected ok, info, warning, minor, major or critical; or unknown, or a range such as ok...major`},
		{
			"not an origin", "ref,time,level,origin\nservice/a,2026-11-25T10:00:00Z,ok,us\n",
			`h:2:35: "us" is not an origin: expected own, upstream, vendor, planned or unknown`,
		},
		{
			"back in time", head + "service/a,2026-11-25T10:00:00Z,ok\nservice/b,2026-11-25T09:00:00Z,ok\nservice/a,2026-11-25T10:00:00Z,major\n",
			`h:4:11: "2026-11-25T10:00:00Z" is not after the row of service/a before it, of 2026-11-25T10:00:00Z (rows of a service stand in order of time)`,
		},
		{"not CSV", head + "service/a,\"2026-11-25T10:00:00Z,ok\n", `h:2:36: this is not CSV: extraneous or missing " in quoted-field`},
		{"two mistakes of a line", head + "a,b,ok\n", "h:2:1: \"a\" is not a service (expected service/NAME)\nh:2:3: \"b\" is not a time (expected RFC 3339, such as 2026-11-25T10:00:00Z)"},
	}
}

func TestHistoryMistakes(t *testing.T) {
	for _, c := range historyMistakes() {
		rows, problems := slo.ReadHistory("h", []byte(c.text))
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(strings.Split(c.want, "\n"), got); diff != "" || rows != nil {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	_, problems := slo.ReadHistory("h", []byte("ref,time,level\n"+strings.Repeat("x,y,z\n", 1000)))
	if n := len(problems); n != 22 || problems[n-1].Line != 8 {
		t.Errorf("%d problems, the last %v", n, problems[n-1])
	}
}

func FuzzReadHistory(f *testing.F) {
	for _, c := range historyMistakes() {
		f.Add([]byte(c.text))
	}
	f.Add([]byte("ref,time,level,origin\nservice/a,2026-11-25T10:00:00Z,ok...major,vendor\nservice/a,2026-11-25T11:00:00.000000001Z,unknown,\n"))
	spec := slo.Spec{Objective: 999_000, Rolling: 24 * time.Hour, Bad: health.Major}
	f.Fuzz(func(t *testing.T, text []byte) {
		rows, problems := slo.ReadHistory("h", text)
		for _, p := range problems {
			if p.Text == "" || p.Line < 1 || p.Column < 1 || rows != nil {
				t.Fatalf("%+v beside %d rows", p, len(rows))
			}
		}
		for _, r := range rows {
			h := slo.Segments(rows, r.Ref, r.At.Add(time.Hour))
			if len(h) == 0 {
				t.Fatalf("no history of %s at %s", r.Ref, r.At)
			}
			res, _, err := slo.Evaluate(spec, nil, h[0].From, h, r.At.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if res.Time.Good+res.Time.Bad.Sum()+res.Time.Unsure != res.Time.Scheduled {
				t.Fatalf("%+v does not add up", res.Time)
			}
			if len(rows) > 50 {
				break
			}
		}
	})
}
