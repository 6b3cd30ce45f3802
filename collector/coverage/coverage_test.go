package coverage_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/contact"
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/coverage"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func read(t testing.TB, docs string, at time.Time) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, picture.Options{At: at})
	for _, x := range problems {
		t.Fatal(x, b.String())
	}
	return p
}

// Every quarter of an hour of the week is asked by itself: what the service is worth, and whether somebody is there. A change of the
// clocks lies within the week.
func TestFiguresAreTheSumOfEveryQuarter(t *testing.T) {
	at := time.Date(2026, 10, 22, 9, 30, 0, 0, time.UTC)
	calendars := []string{"", "calendar/a", "calendar/b", "calendar/c"}
	rapid.Check(t, func(rt *rapid.T) {
		var docs strings.Builder
		for i, zone := range []string{"UTC", "Europe/Berlin", "America/New_York"} {
			fmt.Fprintf(&docs, "kind: Calendar\nmetadata: {name: %c}\nspec: {timezone: %s, default: 0, weekly: [", 'a'+i, zone)
			for range rapid.IntRange(0, 3).Draw(rt, "windows") {
				fmt.Fprintf(&docs, "{days: [%s], from: '%02d:%02d', to: '%02d:30', factor: %d},", rapid.SampledFrom([]string{"mon..sun", "mon..fri", "sat..sun", "sun"}).Draw(rt, "days"),
					rapid.IntRange(0, 23).Draw(rt, "from"), rapid.SampledFrom([]int{0, 15, 45}).Draw(rt, "minute"), rapid.IntRange(0, 23).Draw(rt, "to"), rapid.IntRange(1, 3).Draw(rt, "factor"))
			}
			docs.WriteString("]}\n---\n")
		}
		hours := func(name string) string {
			if c := rapid.SampledFrom(calendars).Draw(rt, name); c != "" {
				return ", " + name + ": " + c
			}
			return ""
		}
		who := func() string { return "{name: A, phone: +49 30 1" + hours("hours") + "}" }
		owner, vendor, fallback := "", "", ""
		if rapid.Bool().Draw(rt, "owned") {
			owner = ", owner: team/a"
		}
		if rapid.Bool().Draw(rt, "sold") {
			vendor = ", vendor: vendor/v"
		}
		if rapid.Bool().Draw(rt, "fallback") {
			fallback = ", fallback: {name: F, phone: +49 30 2}"
		}
		fmt.Fprintf(&docs, "kind: Service\nmetadata: {name: s}\nspec: {value: {perHour: 4, currency: EUR%s}%s%s%s}\n", hours("calendar"), hours("supportHours"), owner, vendor)
		fmt.Fprintf(&docs, "---\nkind: Team\nmetadata: {name: a}\nspec: {contacts: [%s], escalation: [{after: 5m, to: team/b}]%s}\n", who(), fallback)
		fmt.Fprintf(&docs, "---\nkind: Team\nmetadata: {name: b}\nspec: {contacts: [%s]}\n", who())
		fmt.Fprintf(&docs, "---\nkind: Vendor\nmetadata: {name: v}\nspec: {contacts: [%s]%s}\n", who(), hours("hours"))
		p := read(t, docs.String(), at)
		got, err := coverage.Of(p)
		if err != nil {
			rt.Fatal(err)
		}
		s, _ := manifest.SpecOf[manifest.Service](p.Set, "service/s")
		all := map[manifest.Ref]*calendar.Calendar{}
		for r, spec := range manifest.Of[manifest.Calendar](p.Set) {
			if all[r.Ref()], err = calendar.New(spec); err != nil {
				rt.Fatal(err)
			}
		}
		opens := func(ref manifest.Ref, at time.Time) bool { return ref == "" || all[ref].Open(at) }
		team := func(ref manifest.Ref, at time.Time) bool {
			x, ok := manifest.SpecOf[manifest.Team](p.Set, ref)
			return ok && opens(x.Contacts[0].Hours, at)
		}
		var valued, covered, only, uncovered, idle time.Duration
		worth := new(big.Rat)
		const quarter = 15 * time.Minute
		for m := at; m.Before(at.Add(7 * 24 * time.Hour)); m = m.Add(quarter) {
			value := p.Map.Graph().BaseValue("service/s").At(m).Money
			there := s.Owner != "" && (team("team/a", m) || team("team/b", m))
			if v, ok := manifest.SpecOf[manifest.Vendor](p.Set, s.Vendor); ok {
				there = there || opens(v.Hours, m) && opens(v.Contacts[0].Hours, m)
			}
			there = there && opens(s.SupportHours, m)
			switch {
			case value > 0 && there:
				covered += quarter
			case value > 0 && fallback != "" && owner != "":
				only += quarter
			case value > 0:
				uncovered += quarter
				worth.Add(worth, big.NewRat(int64(value), 4))
			case there:
				idle += quarter
			}
			if value > 0 {
				valued += quarter
			}
		}
		want := coverage.Figures{
			Valued: slo.Seconds(valued), Covered: slo.Seconds(covered), FallbackOnly: slo.Seconds(only), Uncovered: slo.Seconds(uncovered), Idle: slo.Seconds(idle),
			Value: cost.Amounts{"EUR": manifest.Decimal(worth.Num().Int64() / worth.Denom().Int64())},
		}
		if diff := cmp.Diff(want, got.Services[0].Week); diff != "" {
			rt.Fatalf("%s\n%s", diff, docs.String())
		}
	})
}

// A gap is where whom to call has no answer but the fallback.
func TestGapsHaveNobodyToCall(t *testing.T) {
	at := time.Date(2026, 3, 27, 12, 0, 0, 0, time.UTC)
	p := read(t, `
kind: Service
metadata: {name: s}
spec: {criticality: 1, owner: team/a, supportHours: calendar/long}
---
kind: Service
metadata: {name: lost}
spec: {value: {perHour: 10, currency: EUR, calendar: calendar/office}}
---
kind: Service
metadata: {name: free}
---
kind: Team
metadata: {name: a}
spec: {contacts: [{name: A, phone: +49 30 1, hours: calendar/office}]}
---
kind: Calendar
metadata: {name: office}
spec: {timezone: Europe/Berlin, default: 0, weekly: [{days: [mon..fri], from: 08:00, to: 18:00}]}
---
kind: Calendar
metadata: {name: long}
spec: {timezone: Europe/Berlin, default: 0, weekly: [{days: [mon..sun], from: 06:00, to: 22:00}]}
`, at)
	got, err := coverage.Of(p)
	if err != nil || len(got.Services) != 2 || got.Services[0].Ref != "service/s" || len(got.Unvalued) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	gaps := got.Services[0].Gaps
	if len(gaps) != 10 || gaps[0].Why != "no contact is there" || gaps[1].Why != "outside calendar/long" || gaps[0].From != "2026-03-27T17:00:00Z" || gaps[0].Value["points"].String() != "4000" || gaps[0].Fallback {
		t.Errorf("%+v", gaps)
	}
	for _, g := range gaps {
		if g.Why != "no contact is there" {
			continue
		}
		m, err := time.Parse(time.RFC3339, g.From)
		if err != nil {
			t.Fatal(err)
		}
		who, err := contact.Who(p.Set, "service/s", m, func(ref manifest.Ref) (contact.Hours, error) { return p.Calendar(ref) })
		if _, somebody := who.First(); err != nil || somebody {
			t.Errorf("%s: %+v, %v", g.From, who, err)
		}
	}
	if l := got.Services[1]; l.Week.Uncovered != "183600s" || l.Week.Value["EUR"].String() != "510" || l.Gaps[0].Why != "it has no owner" {
		t.Errorf("%+v", l)
	}
}
