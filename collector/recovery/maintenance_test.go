package recovery_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func maintenance(name string, from time.Time, length time.Duration, refs ...string) string {
	return fmt.Sprintf("---\nkind: Maintenance\nmetadata: {name: %s}\nspec: {refs: [%s], window: {timezone: UTC, start: %s, duration: %s}, reason: firmware, owner: team/ops}\n",
		name, strings.Join(refs, ", "), from.UTC().Format("2006-01-02T15:04"), manifest.Duration(length))
}

const two = `---
kind: Team
metadata: {name: ops}
---
kind: Service
metadata: {name: shop}
spec: {value: {perHour: 600, currency: EUR}, dependsOn: [{ref: component/db}]}
---
kind: Service
metadata: {name: reports}
spec: {value: {perHour: 100, currency: EUR}, dependsOn: [{ref: component/batch}]}
---
kind: Component
metadata: {name: db}
spec: {external: {check: 'db.example:1'}, repair: {expected: 1h}}
---
kind: Component
metadata: {name: batch}
spec: {external: {check: 'batch.example:1'}, repair: {expected: 1h}}
`

// What is in maintenance is mended later, since it does not count; unless its maintenance ends so soon that it will.
func TestMaintenanceReordersTheRepair(t *testing.T) {
	for name, c := range map[string]struct{ docs, order, cost string }{
		"none":                {"", "component/db component/batch", "800"},
		"long":                {maintenance("m", start(), 2*time.Hour, "component/db"), "component/batch component/db", "100"},
		"by the service":      {maintenance("m", start(), 2*time.Hour, "service/shop"), "component/batch component/db", "100"}, // it is as it was planned to be
		"over soon":           {maintenance("m", start(), 30*time.Minute, "component/db"), "component/db component/batch", "500"},
		"to come":             {maintenance("m", start().Add(time.Hour), 2*time.Hour, "component/db"), "component/batch component/db", "700"},
		"of both, one longer": {maintenance("m", start(), time.Hour, "component/db") + maintenance("n", start(), 2*time.Hour, "component/batch"), "component/db component/batch", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := state(t, two+c.docs)
			tell(s, "component/db", health.Critical)
			tell(s, "component/batch", health.Critical)
			plan, err := recovery.Of(s.Snapshot(), recovery.Options{At: start(), Unit: "EUR"})
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			for _, r := range plan.Steps {
				order = append(order, r.Ref)
			}
			if got := strings.Join(order, " "); got != c.order || plan.Cost.String() != c.cost || !plan.Exact {
				t.Errorf("%s at %s, expected %s at %s", got, plan.Cost, c.order, c.cost)
			}
		})
	}
}

// Whatever is in maintenance when, no order costs less than the plan, priced half hour by half hour by the report on causes.
func TestPlanFollowsMaintenance(t *testing.T) {
	const slot = 30 * time.Minute
	rapid.Check(t, func(t *rapid.T) {
		docs, leaves, services := drawDated(t, true)
		docs += "---\nkind: Team\nmetadata: {name: ops}\n"
		for i := range rapid.IntRange(1, 2).Draw(t, "maintenances") {
			ref := rapid.SampledFrom(leaves).Draw(t, "worked on")
			if host, ok := strings.CutPrefix(ref, "component/"); ok && strings.Contains(host, "@") {
				ref = rapid.SampledFrom([]string{"host/" + host[strings.Index(host, "@")+1:], "component/" + host[:strings.Index(host, "@")]}).Draw(t, "or its host")
			}
			if rapid.IntRange(0, 3).Draw(t, "a service") == 0 {
				ref = fmt.Sprintf("service/s%d", rapid.IntRange(0, services-1).Draw(t, "which"))
			}
			docs += maintenance(fmt.Sprintf("m%d", i), start().Add(time.Duration(rapid.IntRange(-4, 8).Draw(t, "begins"))*slot), time.Duration(rapid.IntRange(1, 8).Draw(t, "lasts"))*slot, ref)
		}
		docs += "---\nkind: Host\nmetadata: {name: h0}\n---\nkind: Host\nmetadata: {name: h1}\n"
		s := state(t, docs)
		for _, leaf := range leaves[:min(len(leaves), 3)] {
			if level := health.Level(rapid.IntRange(0, 5).Draw(t, "level")); level > health.OK {
				tell(s, leaf, level)
			}
		}
		s.Update(start())
		snap := s.Snapshot()
		unit := cause.Find(snap, start()).Unit
		plan, err := recovery.Of(snap, recovery.Options{At: start(), Unit: unit})
		if err != nil {
			t.Fatal(err)
		}
		parts, _ := recovery.Rates(snap, recovery.Options{At: start(), Unit: unit})
		known := map[string]manifest.Decimal{}
		lost := func(mask uint64, at time.Time) manifest.Decimal {
			key := fmt.Sprint(mask, at)
			if d, ok := known[key]; ok {
				return d
			}
			var signals []servicemap.Signal
			for i := range parts {
				level := snap.Own(parts[i].Ref).Low
				if mask>>i&1 != 0 {
					level = health.OK
				}
				signals = append(signals, servicemap.Signal{Ref: parts[i].Ref, Source: "test", Range: health.Exactly(level)})
			}
			s.Update(at, signals...)
			d, err := manifest.ParseDecimal(cause.Loss(s.Snapshot(), unit, at).Text(unit))
			if err != nil {
				t.Fatal(err)
			}
			known[key] = d
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
	})
}
