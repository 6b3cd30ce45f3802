package report_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/report"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 900, currency: EUR}, dependsOn: [{ref: component/db}]}
---
kind: Service
metadata: {name: wiki}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h1]}, unit: db.service}
`

func read(t testing.TB, at time.Time, history string) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(model, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, picture.Options{
		At: at, History: &manifest.File{Name: "h", Text: []byte("ref,time,level,origin\n" + history)},
	})
	for _, x := range problems {
		t.Fatal(x)
	}
	return p
}

// Every hour of the month is looked up by itself; the parts add up to the time that was counted.
func TestAvailabilityIsEveryHour(t *testing.T) {
	begin := time.Date(2026, 9, 20, 0, 0, 0, 0, time.UTC)
	origins := []string{"own", "upstream", "vendor", "planned", "unknown"}
	rapid.Check(t, func(rt *rapid.T) {
		hours := rapid.IntRange(12*24, 60*24).Draw(rt, "hours")
		turns := rapid.SliceOfN(rapid.IntRange(0, hours-1), 1, 12).Draw(rt, "turns")
		var rows strings.Builder
		state := make([]string, hours)
		now := ""
		for h := range hours {
			for _, x := range turns {
				if x == h {
					level := rapid.SampledFrom([]string{"ok", "minor", "major", "critical", "unknown", "ok...major"}).Draw(rt, "level")
					origin := rapid.SampledFrom(origins).Draw(rt, "origin")
					fmt.Fprintf(&rows, "service/shop,%s,%s,%s\n", begin.Add(time.Duration(h)*time.Hour).Format(time.RFC3339), level, origin)
					switch bad := level == "major" || level == "critical"; {
					case origin == "planned" && (bad || strings.HasPrefix(level, "u") || strings.Contains(level, "...")), bad:
						now = origin
					case level == "ok" || level == "minor":
						now = "good"
					default:
						now = "unsure"
					}
					break
				}
			}
			state[h] = now
		}
		at := begin.Add(time.Duration(hours) * time.Hour)
		month := at
		if rapid.Bool().Draw(rt, "last month") && at.AddDate(0, -1, 0).After(begin) {
			month = time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC).Add(-time.Hour)
		}
		if month.Day() == 1 && month.Hour() == 0 {
			return // nothing of the month is over
		}
		got, problems, err := report.Of(read(t, at, rows.String()), report.Options{Month: month, Zone: time.UTC})
		if err != nil || len(problems) > 0 {
			rt.Fatal(err, problems)
		}
		sum := map[string]time.Duration{}
		var counted time.Duration
		for h, s := range state {
			if m := begin.Add(time.Duration(h) * time.Hour); m.Month() == month.Month() && s != "" {
				sum[s] += time.Hour
				counted += time.Hour
			}
		}
		a := got.Services[0].Availability
		if a == nil {
			if counted > 0 {
				rt.Fatalf("no availability of %s", counted)
			}
			return
		}
		want := map[string]string{}
		for _, o := range origins {
			want[o] = slo.Seconds(sum[o])
		}
		if diff := cmp.Diff(want, a.Bad); diff != "" || a.Good != slo.Seconds(sum["good"]) || a.Unsure != slo.Seconds(sum["unsure"]) || a.Counted != slo.Seconds(counted) {
			rt.Fatalf("%s\n%+v, wanted %v of %s\n%s", diff, a, sum, counted, rows.String())
		}
	})
}

// What the history cost in planned time belongs to no cause, and needs no explanation.
func TestPlannedCost(t *testing.T) {
	at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	p := read(t, at, "service/shop,2026-11-01T00:00:00Z,ok,\nservice/shop,2026-11-01T01:00:00Z,critical,planned\nservice/shop,2026-11-01T02:00:00Z,critical,own\nservice/shop,2026-11-01T04:00:00Z,ok,\n")
	hour := func(n int) time.Time { return time.Date(2026, 11, 1, n, 0, 0, 0, time.UTC) }
	got, _, err := report.Of(p, report.Options{Zone: time.UTC, Faults: []cost.Fault{{Ref: "component/db@h1", Level: health.Critical, From: hour(2), To: hour(3)}}})
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Causes[0]; got.Cost["EUR"].String() != "2700" || c.Total != "900" || c.Planned != "900" || c.Unexplained != "900" {
		t.Errorf("%+v, %+v", got.Cost, got.Causes)
	}
}

// What the history cost is the causes and what is unexplained.
func TestCauses(t *testing.T) {
	at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	p := read(t, at, "service/shop,2026-11-01T00:00:00Z,ok,\nservice/shop,2026-11-01T01:00:00Z,critical,own\nservice/shop,2026-11-01T03:00:00Z,ok,\n")
	hour := func(n int) time.Time { return time.Date(2026, 11, 1, n, 0, 0, 0, time.UTC) }
	got, _, err := report.Of(p, report.Options{Zone: time.UTC, Faults: []cost.Fault{{Ref: "component/db@h1", Level: health.Critical, From: hour(1), To: hour(2)}}})
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Causes[0]; got.Cost["EUR"].String() != "1800" || c.Unit != "EUR" || c.Total != "900" || c.Unexplained != "900" || c.Shares[0].Cost != "900" {
		t.Errorf("%+v, %+v", got.Cost, got.Causes)
	}
	want := []string{
		"service/shop has no owner",
		"service/wiki has no history: its availability and its cost are not known, and nothing was counted for it",
		"service/wiki has neither a value nor a criticality: what it costs is not known",
		"service/wiki has no owner",
		"no incidents are known",
	}
	if diff := cmp.Diff(want, got.Unknown); diff != "" {
		t.Error(diff)
	}
	d := got.Document()
	if err := d.Check(); err != nil {
		t.Error(err)
	}
}
