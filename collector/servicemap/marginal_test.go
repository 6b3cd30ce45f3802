package servicemap_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// shared is a database that everything rests on, a pool of two of which one is enough, and a job of its own.
const shared = `kind: Service
metadata: {name: shop}
spec: {value: {perHour: 1000, currency: EUR}, dependsOn: [{ref: service/pool}, {ref: component/db}]}
---
kind: Service
metadata: {name: pool}
spec: {health: {rule: quorum, quorum: {need: 1}}, dependsOn: [{ref: component/web}]}
---
kind: Service
metadata: {name: reports}
spec: {value: {perHour: 40, currency: EUR}, dependsOn: [{ref: component/batch}, {ref: component/db}]}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h1]}, unit: db.service}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2]}, unit: web.service, health: {rule: best}}
---
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [h1]}, unit: batch.service}
---
kind: Component
metadata: {name: loose}
spec: {hosts: {names: [h1]}, unit: loose.service}
`

func TestMarginalLoss(t *testing.T) {
	g := build(t, shared)
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	at := time.Unix(0, 0)
	parts := []manifest.Ref{"component/db@h1", "component/web@h1", "component/batch@h1", "component/loose@h1", "component/nowhere"}
	check := func(how string, out []manifest.Ref, want ...string) {
		t.Helper()
		for i, v := range s.Snapshot().Marginal(parts, out, at) {
			if got := v.String(); got != want[i] {
				t.Errorf("%s: without %s %s, want %s", how, parts[i], got, want[i])
			}
		}
	}
	check("all well", nil, "1040 EUR/h", "0 EUR/h", "40 EUR/h", "unranked", "unranked")
	check("the other replica is held back", []manifest.Ref{"component/web@h2"}, "1040 EUR/h", "1000 EUR/h", "40 EUR/h", "unranked", "unranked")
	s.Update(at, servicemap.Signal{Ref: "component/web@h2", Source: "test", Range: health.Exactly(health.Critical)})
	check("the other replica is down", nil, "1040 EUR/h", "1000 EUR/h", "40 EUR/h", "unranked", "unranked")
	// What crowds each other on the host is bad now, and counts as well once it no longer does.
	for _, ref := range parts[:3] {
		s.Update(at, servicemap.Signal{Ref: ref, Source: "test", Range: health.Exactly(health.Critical)})
	}
	check("all of the host is bad", nil, "1040 EUR/h", "1000 EUR/h", "40 EUR/h", "unranked", "unranked")
}

// On any map: the loss that states tell, which were given each case from the ground up.
func TestMarginalLossAgainstStates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		docs, services, components := drawMap(rt)
		for i := range services {
			if rapid.Bool().Draw(rt, "priced") {
				docs += fmt.Sprintf("---\nkind: Service\nmetadata: {name: top%d}\nspec: {value: {perHour: %d, currency: EUR, loss: {minor: 0.25, critical: 1}}, dependsOn: [{ref: service/s%d}]}\n",
					i, rapid.IntRange(1, 100).Draw(rt, "value"), i)
			}
		}
		g := build(t, docs)
		at := time.Unix(0, 0)
		var members []manifest.Ref
		for c := range components {
			for h := range 3 {
				if ref := manifest.Ref(fmt.Sprintf("component/c%d@h%d", c, h)); g.Has(ref) {
					members = append(members, ref)
				}
			}
		}
		if len(members) == 0 {
			return
		}
		background := map[manifest.Ref]health.Level{}
		for _, ref := range members {
			background[ref] = health.Level(rapid.IntRange(0, 5).Draw(rt, "level"))
		}
		var parts, out []manifest.Ref
		for _, ref := range members {
			switch rapid.IntRange(0, 3).Draw(rt, "role") {
			case 0:
				parts = append(parts, ref)
			case 1:
				out = append(out, ref)
			}
		}
		// with is the map with the parts well but one, those held back critical, and the rest as it is.
		with := func(gone manifest.Ref) *servicemap.Snapshot {
			s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
			for _, ref := range members {
				level := background[ref]
				switch {
				case ref == gone || slices.Contains(out, ref):
					level = health.Critical
				case slices.Contains(parts, ref):
					level = health.OK
				}
				s.Update(at, servicemap.Signal{Ref: ref, Source: "test", Range: health.Exactly(level)})
			}
			return s.Snapshot()
		}
		s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
		for _, ref := range members {
			s.Update(at, servicemap.Signal{Ref: ref, Source: "test", Range: health.Exactly(background[ref])})
		}
		got := s.Snapshot().Marginal(parts, out, at)
		well := with("")
		for i, ref := range parts {
			gone := with(ref)
			want, ranked := manifest.Decimal(0), g.Value(ref, at).Ranked
			for _, x := range g.Services() {
				// Only the topmost services have a price here, so no loss is counted twice.
				if a, b := gone.Loss(x, at), well.Loss(x, at); a.Priced && b.Priced {
					want += a.Money - b.Money
				}
			}
			if got[i].Ranked != ranked || ranked && got[i].Money != want {
				rt.Fatalf("without %s: %v, want %v\n%s", ref, got[i], want, docs)
			}
		}
	})
}
