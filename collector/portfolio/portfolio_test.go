package portfolio_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/portfolio"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The values are such that no amount of an hour has to be rounded.
const model = `
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 900, currency: EUR, calendar: calendar/day, loss: {major: 0.5, critical: 1}}, dependsOn: [{ref: service/api}]}
---
kind: Service
metadata: {name: api}
spec: {criticality: 2, value: {perHour: 120, currency: EUR, loss: {warning: 0.5}}, dependsOn: [{ref: component/db}]}
---
kind: Service
metadata: {name: board}
spec: {value: {perHour: 30, currency: USD}, dependsOn: [{ref: service/api}]}
---
kind: Service
metadata: {name: wiki}
spec: {criticality: 4}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h1]}, unit: db.service}
---
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 90%, window: {calendar: month, timezone: Europe/Berlin}}
---
kind: Calendar
metadata: {name: day}
spec: {timezone: UTC, default: 0, weekly: [{days: [mon..sun], from: 08:00, to: 20:00}, {days: [sat], from: 10:00, to: 12:00, factor: 3}]}
`

func read(t testing.TB, opt picture.Options) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(model, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, opt)
	for _, x := range problems {
		t.Fatal(x)
	}
	return p
}

// The services add up to the total; the total is what every hour of both months cost by the states of that hour, and what package cause
// says is lost now.
func TestTotalsReconcile(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 9, 29, 0, 0, 0, 0, time.UTC)
	services := []string{"service/shop", "service/api", "service/board", "service/wiki"}
	rapid.Check(t, func(rt *rapid.T) {
		at := time.Date(2026, 11, rapid.IntRange(1, 30).Draw(rt, "day"), rapid.IntRange(0, 23).Draw(rt, "hour"), 0, 0, 0, time.UTC)
		var rows strings.Builder
		rows.WriteString("ref,time,level\n")
		levels := map[manifest.Ref][]health.Level{} // by hour
		hours := int(at.Sub(begin) / time.Hour)
		for _, s := range services {
			turns := rapid.SliceOfN(rapid.IntRange(0, hours-1), 1, 8).Draw(rt, "turns")
			l := health.OK
			for h := range hours {
				if slices.Contains(turns, h) {
					l = rapid.SampledFrom([]health.Level{0, 0, 2, 4, 5}).Draw(rt, "level")
					fmt.Fprintf(&rows, "%s,%s,%s\n", s, begin.Add(time.Duration(h)*time.Hour).Format(time.RFC3339), l)
				}
				levels[manifest.Ref(s)] = append(levels[manifest.Ref(s)], l)
			}
		}
		set := map[string]string{}
		for _, ref := range []string{"component/db@h1", "service/shop", "service/wiki"} {
			if l := rapid.SampledFrom([]string{"", "major", "critical", "unknown"}).Draw(rt, ref); l != "" {
				set[ref] = l
			}
		}
		p := read(t, picture.Options{At: at, Set: set, History: &manifest.File{Name: "h", Text: []byte(rows.String())}})
		got, problems, err := portfolio.Of(p, berlin)
		if err != nil || len(problems) > 0 || len(got.Services) != len(services) {
			rt.Fatal(err, problems)
		}
		for _, unit := range []string{"EUR", "USD", "points"} {
			for _, list := range []struct {
				name  string
				total cost.Amounts
				part  func(*portfolio.Figures) cost.Amounts
			}{
				{"at risk", got.Total.AtRisk, func(f *portfolio.Figures) cost.Amounts { return f.AtRisk }},
				{"losing", got.Total.Losing, func(f *portfolio.Figures) cost.Amounts { return f.Losing }},
				{"cost", got.Total.Cost, func(f *portfolio.Figures) cost.Amounts { return f.Cost }},
				{"last", got.Total.LastCost, func(f *portfolio.Figures) cost.Amounts { return f.LastCost }},
				{"trend", got.Total.Trend, func(f *portfolio.Figures) cost.Amounts { return f.Trend }},
			} {
				var all manifest.Decimal
				for i := range got.Services {
					all += list.part(&got.Services[i].Figures)[unit]
				}
				if all != list.total[unit] {
					rt.Fatalf("%s in %s: the parts are %s, the total is %s", list.name, unit, all, list.total[unit])
				}
			}
			if want := cause.Loss(p.Map, unit, at).Text(unit); got.Total.Losing[unit].String() != want {
				rt.Fatalf("losing %s %s, wanted %s", got.Total.Losing[unit], unit, want)
			}
			for name, period := range map[string]portfolio.Period{"cost": got.Month, "last": got.Last} {
				from, err := time.Parse(time.RFC3339, period.From)
				if err != nil {
					rt.Fatal(err)
				}
				to, err := time.Parse(time.RFC3339, period.To)
				if err != nil {
					rt.Fatal(err)
				}
				want := new(big.Rat)
				for h := max(int(from.Sub(begin)/time.Hour), 0); begin.Add(time.Duration(h) * time.Hour).Before(to); h++ {
					want.Add(want, hour(p, levels, h, begin.Add(time.Duration(h)*time.Hour), unit))
				}
				total := map[string]cost.Amounts{"cost": got.Total.Cost, "last": got.Total.LastCost}[name]
				if big.NewRat(int64(total[unit]), 1_000_000).Cmp(want) != 0 {
					rt.Fatalf("%s %v: %s %s, wanted %s", name, period, total[unit], unit, want.FloatString(6))
				}
			}
		}
	})
}

// hour is what an hour cost: each service by itself, unless one that rests on it loses something.
func hour(p *picture.Picture, levels map[manifest.Ref][]health.Level, h int, at time.Time, unit string) *big.Rat {
	g := p.Map.Graph()
	lost := func(ref manifest.Ref) float64 {
		if n, ok := g.LossAt(ref, levels[ref][h], at).In(unit); ok {
			return n
		}
		return 0
	}
	sum := new(big.Rat)
	for ref := range levels {
		if !slices.ContainsFunc(g.ServicesAbove(ref), func(up manifest.Ref) bool { return up != ref && lost(up) > 0 }) {
			sum.Add(sum, new(big.Rat).SetFloat64(lost(ref)))
		}
	}
	return sum
}

func TestMonths(t *testing.T) {
	for at, want := range map[string]string{
		"2026-11-25T10:00:00Z": "2026-10-31T23:00:00Z 2026-09-30T22:00:00Z 2026-10-25T10:00:00Z", // an hour later by the sun: 11:00 in both
		"2026-03-31T10:00:00Z": "2026-02-28T23:00:00Z 2026-01-31T23:00:00Z 2026-02-28T23:00:00Z", // February was shorter
		"2026-01-01T00:00:00Z": "2025-12-31T23:00:00Z 2025-11-30T23:00:00Z 2025-12-01T00:00:00Z",
	} {
		moment, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		got, problems, err := portfolio.Of(read(t, picture.Options{At: moment}), zone)
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
		if text := got.Month.From + " " + got.Last.From + " " + got.Last.To; text != want {
			t.Errorf("%s: %s, wanted %s", at, text, want)
		}
	}
}

func TestOf(t *testing.T) {
	p := read(t, picture.Options{
		At: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), Set: map[string]string{"component/db@h1": "critical"},
		History: &manifest.File{Name: "h", Text: []byte("ref,time,level\nservice/shop,2026-11-01T00:00:00Z,ok\nservice/shop,2026-11-25T09:30:00Z,critical\n")},
	})
	got, _, err := portfolio.Of(p, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	s := got.Services[0]
	if s.Ref != "service/shop" || s.Cost["EUR"].String() != "450" || s.Losing["EUR"].String() != "900" || s.AtRisk["points"].String() != "1000" || len(s.SLOs) != 1 || s.SLOs[0].Left == nil || s.SLOs[0].Outcome != "met" || s.Uncovered == "" {
		t.Errorf("%+v", s)
	}
	if !slices.Equal(got.Unknown, []manifest.Ref{"service/api", "service/board", "service/wiki"}) || len(got.WorstCoverage) != 3 {
		t.Errorf("%v, %v", got.Unknown, got.WorstCoverage)
	}
}
