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

// Whatever is put right and spoilt again, a trial says what a state would that is told the same.
func TestTrialIsWhatAStateSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		docs, services, components := drawMap(rt)
		g := build(t, docs)
		s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
		tell := func(ref manifest.Ref, level health.Level) {
			s.Update(time.Unix(0, 0), servicemap.Signal{Ref: ref, Source: "test", Range: health.Exactly(level)})
		}
		var parts []manifest.Ref
		level := map[manifest.Ref]health.Level{}
		for range rapid.IntRange(1, 6).Draw(rt, "parts") {
			ref := manifest.Ref(fmt.Sprintf("component/c%d@h%d", rapid.IntRange(0, components-1).Draw(rt, "c"), rapid.IntRange(0, 2).Draw(rt, "h")))
			if g.Has(ref) && !slices.Contains(parts, ref) {
				parts = append(parts, ref)
				level[ref] = health.Level(rapid.IntRange(1, 5).Draw(rt, "level"))
				tell(ref, level[ref])
			}
		}
		other := manifest.Ref(fmt.Sprintf("service/s%d", rapid.IntRange(0, services-1).Draw(rt, "s")))
		trial := s.Snapshot().Trial(parts, []manifest.Ref{other})
		for range 8 {
			if len(parts) > 0 {
				part, right := rapid.IntRange(0, len(parts)-1).Draw(rt, "part"), rapid.Bool().Draw(rt, "right")
				trial.Put(part, right)
				if right {
					tell(parts[part], health.OK)
				} else {
					tell(parts[part], level[parts[part]])
				}
			}
			snap := s.Snapshot()
			for node := range trial.Len() {
				ref := trial.Ref(node)
				if r, _ := snap.Range(ref); r.Low != trial.Level(node) {
					rt.Fatalf("%s is %s, wanted %s\n%s", ref, trial.Level(node), r.Low, docs)
				}
				blamed, _, _ := snap.Blame(ref)
				trial.Blame(node, func(in int) {
					if !slices.Contains(blamed, trial.Ref(in)) {
						rt.Fatalf("%s blames %s, wanted %v\n%s", ref, trial.Ref(in), blamed, docs)
					}
				})
				for _, in := range trial.Inputs(node) {
					if int(in) >= node {
						rt.Fatalf("%s rests on a node after it", ref)
					}
				}
			}
		}
	})
}

func TestLossAtAndVendor(t *testing.T) {
	g := build(t, `kind: Service
metadata: {name: a}
spec: {value: {perHour: 100, currency: EUR, loss: {minor: 0.1, critical: 1}}, dependsOn: [{ref: component/c}]}
---
kind: Component
metadata: {name: c}
spec: {external: {vendor: vendor/v, check: 'x.example:80'}}
---
kind: Vendor
metadata: {name: v}
`)
	at := time.Unix(0, 0)
	for level, want := range map[health.Level]string{health.Warning: "0", health.Minor: "10", health.Major: "10", health.Critical: "100"} {
		if got := g.LossAt("service/a", level, at).Text("EUR"); got != want {
			t.Errorf("at %s %s, wanted %s", level, got, want)
		}
	}
	if v := g.LossAt("component/c", health.Critical, at); v.Ranked {
		t.Errorf("a component loses %s", v)
	}
	if g.Vendor("component/c") != "vendor/v" || g.Vendor("service/a") != "" {
		t.Errorf("%q, %q", g.Vendor("component/c"), g.Vendor("service/a"))
	}
}
