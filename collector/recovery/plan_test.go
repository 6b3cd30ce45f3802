package recovery_test

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func state(t rapid.TB, docs string) *servicemap.State {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		if strings.TrimSpace(doc) != "" {
			fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
		}
	}
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, nil)
	for _, p := range problems {
		t.Fatal(p)
	}
	g, err := servicemap.New(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return servicemap.NewState(g, servicemap.Options{AssumeOK: true})
}

func tell(s *servicemap.State, ref string, level health.Level) {
	s.Update(start(), servicemap.Signal{Ref: manifest.Ref(ref), Source: "test", Range: health.Exactly(level)})
}

func start() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) }

// drawMap draws components, some with members, and services on these and on each other, with values and rules of all kinds.
func drawMap(t *rapid.T) (docs string, leaves []string, services int) { return drawDated(t, false) }

// drawDated is drawMap; where dated, values have calendars, and these and all repairs keep to half hours.
func drawDated(t *rapid.T, dated bool) (docs string, leaves []string, services int) {
	var b strings.Builder
	if dated {
		for i := range 2 {
			fmt.Fprintf(&b, "---\nkind: Calendar\nmetadata: {name: k%d}\nspec: {timezone: UTC, default: %s, weekly: [", i, rapid.SampledFrom([]string{"0", "1"}).Draw(t, "default"))
			for range 3 {
				from := rapid.IntRange(24, 46).Draw(t, "from")
				to := rapid.IntRange(from+1, 47).Draw(t, "to")
				fmt.Fprintf(&b, "{days: [mon..sun], from: '%02d:%02d', to: '%02d:%02d', factor: %s}, ", from/2, from%2*30, to/2, to%2*30,
					rapid.SampledFrom([]string{"0", "0.5", "3", "10"}).Draw(t, "factor"))
			}
			b.WriteString("]}\n")
		}
	}
	components := rapid.IntRange(1, 6).Draw(t, "components")
	plain := rapid.Bool().Draw(t, "plain")
	rule := func() string {
		if plain {
			return "rule: worst"
		}
		return rapid.SampledFrom([]string{
			"rule: worst", "rule: best", "rule: quorum, quorum: {need: 2}", "rule: threshold, threshold: {share: 50%}", "rule: score",
			"rule: worst, also: [{when: count, atLeast: 2, level: minor, then: critical}]",
		}).Draw(t, "rule")
	}
	for i := range components {
		fmt.Fprintf(&b, "---\nkind: Component\nmetadata: {name: c%d}\nspec: {", i)
		if hosts := rapid.IntRange(0, 2).Draw(t, "hosts"); hosts == 0 {
			fmt.Fprintf(&b, "external: {check: 'x.example:80'}")
			leaves = append(leaves, fmt.Sprintf("component/c%d", i))
		} else {
			fmt.Fprintf(&b, "hosts: {names: [h0, h1]}, unit: x.service, health: {%s}", rule())
			leaves = append(leaves, fmt.Sprintf("component/c%d@h0", i), fmt.Sprintf("component/c%d@h1", i))
		}
		minutes := rapid.IntRange(1, 60).Draw(t, "expected")
		if dated {
			minutes = 30 * (1 + minutes%4)
		}
		fmt.Fprintf(&b, ", repair: {expected: %dm}}\n", minutes)
	}
	services = rapid.IntRange(1, 6).Draw(t, "services")
	for i := range services {
		var deps []string
		seen := map[string]bool{}
		for range rapid.IntRange(1, 4).Draw(t, "deps") {
			ref := fmt.Sprintf("component/c%d", rapid.IntRange(0, components-1).Draw(t, "c"))
			if i > 0 && rapid.Bool().Draw(t, "above") {
				ref = fmt.Sprintf("service/s%d", rapid.IntRange(0, i-1).Draw(t, "s"))
			}
			if seen[ref] {
				continue
			}
			seen[ref] = true
			deps = append(deps, fmt.Sprintf("{ref: %s, weight: %d, propagate: '%s'}", ref, rapid.IntRange(0, 11).Draw(t, "weight"),
				rapid.SampledFrom([]string{"asIs", "asIs", "increase:1", "decrease:1", "ignore", "fixed:minor"}).Draw(t, "propagate")))
		}
		value := rapid.SampledFrom([]string{
			"", "criticality: 1, ", "criticality: 3, ", "value: {perHour: 120, currency: EUR}, ", "value: {perHour: 7.5, currency: EUR, loss: {minor: 0.1, major: 0.5, critical: 1}}, ",
		}).Draw(t, "value")
		if k := rapid.IntRange(0, 2).Draw(t, "calendar"); dated && k < 2 {
			value = strings.Replace(value, "value: {", fmt.Sprintf("value: {calendar: calendar/k%d, ", k), 1)
		}
		fmt.Fprintf(&b, "---\nkind: Service\nmetadata: {name: s%d}\nspec: {%sdependsOn: [%s], health: {%s}}\n", i, value, strings.Join(deps, ", "), rule())
	}
	return b.String(), leaves, services
}

// What the planner takes for the loss is what the report on causes says, whatever is mended.
func TestLossIsThatOfTheReport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		docs, leaves, services := drawMap(t)
		s := state(t, docs)
		for _, leaf := range leaves {
			if level := health.Level(rapid.IntRange(0, 5).Draw(t, "level")); level > health.OK {
				tell(s, leaf, level)
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "by hand") == 0 {
			tell(s, fmt.Sprintf("service/s%d", rapid.IntRange(0, services-1).Draw(t, "s")), health.Critical)
		}
		snap := s.Snapshot()
		unit := cause.Find(snap, start()).Unit
		parts, rate := recovery.Rates(snap, recovery.Options{At: start(), Unit: unit})
		lost := func(mask uint64) manifest.Decimal {
			for i := range parts {
				level := snap.Own(parts[i].Ref).Low
				if mask>>i&1 != 0 {
					level = health.OK
				}
				tell(s, string(parts[i].Ref), level)
			}
			d, err := manifest.ParseDecimal(cause.Loss(s.Snapshot(), unit, start()).Text(unit))
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		all := uint64(1)<<len(parts) - 1
		last := lost(all)
		for range 12 {
			mask := rapid.Uint64Range(0, all).Draw(t, "mended")
			var mended []int
			for b := mask; b != 0; b &= b - 1 {
				mended = append(mended, bits.TrailingZeros64(b))
			}
			if got, want := rate(mended), lost(mask)-last; got != want {
				t.Fatalf("with %b of %d parts mended %s %s are lost an hour, wanted %s\n%s", mask, len(parts), got, unit, want, docs)
			}
		}
	})
}

// Of few parts every order is tried, and priced half hour by half hour by the report on causes: none costs less than the plan, whose
// cost is right, whatever value does meanwhile.
func TestPlanFollowsTheHours(t *testing.T) {
	const slot = 30 * time.Minute
	rapid.Check(t, func(t *rapid.T) {
		docs, leaves, _ := drawDated(t, true)
		s := state(t, docs)
		for _, leaf := range leaves[:min(len(leaves), 4)] {
			if level := health.Level(rapid.IntRange(0, 5).Draw(t, "level")); level > health.OK {
				tell(s, leaf, level)
			}
		}
		snap := s.Snapshot()
		unit := cause.Find(snap, start()).Unit
		plan, err := recovery.Of(snap, recovery.Options{At: start(), Unit: unit})
		if err != nil {
			t.Fatal(err)
		}
		parts, _ := recovery.Rates(snap, recovery.Options{At: start(), Unit: unit})
		snaps := map[uint64]*servicemap.Snapshot{}
		lost := func(mask uint64, at time.Time) manifest.Decimal {
			if snaps[mask] == nil {
				for i := range parts {
					level := snap.Own(parts[i].Ref).Low
					if mask>>i&1 != 0 {
						level = health.OK
					}
					tell(s, string(parts[i].Ref), level)
				}
				snaps[mask] = s.Snapshot()
			}
			d, err := manifest.ParseDecimal(cause.Loss(snaps[mask], unit, at).Text(unit))
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		all := uint64(1)<<len(parts) - 1
		best := manifest.Decimal(math.MaxInt64)
		var try func(mask uint64, at time.Time, cost manifest.Decimal)
		try = func(mask uint64, at time.Time, cost manifest.Decimal) {
			if mask == all {
				best = min(best, cost)
			}
			for i := range parts {
				if mask>>i&1 != 0 {
					continue
				}
				more := manifest.Decimal(0)
				for x := at; x.Before(at.Add(parts[i].Takes)); x = x.Add(slot) {
					more += lost(mask, x) - lost(all, x)
				}
				try(mask|1<<i, at.Add(parts[i].Takes), cost+more)
			}
		}
		try(0, start(), 0)
		if !plan.Exact || 2*plan.Cost != best {
			t.Fatalf("the plan costs %s %s, exact %v, and the best order %s halves of it\n%s", plan.Cost, unit, plan.Exact, best, docs)
		}
		if plan.FirstComeCost < plan.Cost || plan.SeverityCost < plan.Cost || plan.LowerBound > plan.Cost {
			t.Fatalf("%+v\n%s", plan, docs)
		}
	})
}

const shop = `
kind: Service
metadata: {name: shop}
spec: {owner: team/shop, value: {perHour: 600, currency: EUR}, dependsOn: [{ref: component/web}, {ref: component/db}]}
---
kind: Service
metadata: {name: reports}
spec: {value: {perHour: 60, currency: EUR}, dependsOn: [{ref: component/batch}]}
---
kind: Component
metadata: {name: web}
spec: {owner: team/shop, hosts: {names: [h1, h2, h3]}, unit: web.service, repair: {expected: 10m, team: team/ops}, health: {rule: quorum, quorum: {need: 2}}}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h4]}, unit: db.service, repair: {expected: 30m, team: team/ops, after: [component/san]}}
---
kind: Component
metadata: {name: san}
spec: {external: {vendor: vendor/disks, check: 'san.example:3260'}, repair: {expected: 1h, team: team/ops}}
---
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [h4]}, unit: batch.service, repair: {expected: 5m, team: team/ops}}
---
kind: Team
metadata: {name: shop}
---
kind: Team
metadata: {name: ops}
---
kind: Vendor
metadata: {name: disks}
`

func TestPlanOfTheMap(t *testing.T) {
	s := state(t, shop)
	for _, ref := range []string{"component/web@h1", "component/web@h2", "component/db@h4", "component/san"} {
		tell(s, ref, health.Critical)
	}
	tell(s, "component/batch@h4", health.Critical)
	plan, err := recovery.Of(s.Snapshot(), recovery.Options{
		At: start(), Unit: "EUR", Since: map[manifest.Ref]time.Time{"component/batch@h4": start().Add(-time.Second)},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := func(minutes int) string {
		return start().Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339)
	}
	// Batch first: 60 an hour for 5 minutes is as good as 600 for 100 (20 minutes less work on one of two servers), and
	// the rest of it together.
	want := recovery.Plan{
		Steps: []recovery.Repair{
			{"component/batch@h4", at(0), at(5), "team/ops", "team/ops", []string{"service/reports"}},
			{"component/san", at(5), at(65), "team/ops", "vendor/disks", []string{}},
			{"component/db@h4", at(65), at(95), "team/ops", "team/ops", []string{}},
			{"component/web@h1", at(95), at(105), "team/ops", "team/shop", []string{"service/shop"}},
			{"component/web@h2", at(105), at(115), "team/ops", "team/shop", []string{}},
		},
		Cost: 1_055_000_000, LowerBound: 1_055_000_000, Exact: true, Unit: "EUR",
	}
	if diff := cmp.Diff(want, plan, cmp.FilterPath(func(p cmp.Path) bool {
		return strings.HasSuffix(p.String(), "Cost") && p.String() != "Cost"
	}, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	if plan.FirstComeCost < plan.Cost || plan.SeverityCost < plan.Cost {
		t.Errorf("%+v", plan)
	}
	b, err := plan.JSON()
	if err != nil || !strings.Contains(string(b), `"cost": "1055"`) || !strings.Contains(string(b), `"reinstates": []`) {
		t.Errorf("%s, %v", b, err)
	}
}

// What is only unknown is not broken; what rests on nothing that broke is in no plan.
func TestUnknownIsNotBroken(t *testing.T) {
	s := state(t, shop)
	s.Update(start(), servicemap.Signal{Ref: "component/db@h4", Source: "test", Range: health.Unknown})
	tell(s, "service/shop", health.Critical)
	plan, err := recovery.Of(s.Snapshot(), recovery.Options{At: start(), Unit: "EUR"})
	if err != nil || len(plan.Steps) != 0 || !plan.Exact || plan.Cost != 0 {
		t.Errorf("%+v, %v", plan, err)
	}
}
