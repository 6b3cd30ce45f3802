package cause_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func state(t testing.TB, docs string, set map[manifest.Ref]string) *servicemap.State {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	parsed, problems := manifest.CheckFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, nil)
	for _, p := range problems {
		t.Fatal(p)
	}
	g, err := servicemap.New(parsed, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	for ref, word := range set {
		r := health.Unknown
		if word != "unknown" {
			l, err := health.ParseLevel(word)
			if err != nil {
				t.Fatal(err)
			}
			r = health.Exactly(l)
		}
		if !g.Has(ref) {
			t.Fatalf("no %s", ref)
		}
		s.Update(time.Unix(0, 0), servicemap.Signal{Ref: ref, Source: "test", Range: r})
	}
	return s
}

const shop = `
kind: Service
metadata: {name: shop}
spec: {value: {perHour: 900, currency: EUR, loss: {major: 0.5, critical: 1}}, criticality: 1, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {value: {perHour: 100, currency: EUR}, criticality: 2, dependsOn: [{ref: component/db}]}
---
kind: Service
metadata: {name: reports}
spec: {value: {perHour: 50, currency: EUR}, dependsOn: [{ref: component/db}, {ref: component/batch}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2, h3]}, unit: web.service, health: {rule: quorum, quorum: {need: 2}}}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h4]}, unit: db.service}
---
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [h4]}, unit: batch.service}
`

func lines(r cause.Report) []string {
	var out []string
	for i := range r.Causes {
		c := &r.Causes[i]
		out = append(out, fmt.Sprintf("%s %s %v %s %s", c.Ref, c.Level, c.Services, r.PerHour(c), r.Unit))
	}
	return out
}

func TestCausesAreRankedByWhatTheyCost(t *testing.T) {
	for _, c := range []struct {
		name string
		set  map[manifest.Ref]string
		want []string
	}{
		{"all well", nil, nil},
		{"one of three is made good", map[manifest.Ref]string{"component/web@h1": "critical"}, nil},
		{
			"two of three are not",
			map[manifest.Ref]string{"component/web@h1": "critical", "component/web@h2": "major"},
			// The second best is major: either of the two, put right, is enough.
			[]string{"component/web@h1 critical [service/shop] 450 EUR", "component/web@h2 major [service/shop] 450 EUR"},
		},
		{
			"a loss is counted where it reaches the business",
			map[manifest.Ref]string{"component/db@h4": "critical", "component/batch@h4": "critical"},
			[]string{"component/db@h4 critical [service/api service/reports service/shop] 950 EUR", "component/batch@h4 critical [service/reports] 50 EUR"},
		},
		{"what is unknown is nobody's fault", map[manifest.Ref]string{"component/db@h4": "unknown"}, nil},
		{
			"a service that says it of itself",
			map[manifest.Ref]string{"service/api": "critical", "component/db@h4": "minor"},
			[]string{"service/api critical [service/api service/shop] 900 EUR", "component/db@h4 minor [service/reports] 0 EUR"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := cause.Find(state(t, shop, c.set).Snapshot(), time.Unix(0, 0))
			if diff := cmp.Diff(c.want, lines(r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPointsDecideWhereMoneyMeetsPoints(t *testing.T) {
	docs := shop + "---\nkind: Service\nmetadata: {name: mail}\nspec: {criticality: 3, dependsOn: [{ref: component/db}]}\n"
	r := cause.Find(state(t, docs, map[manifest.Ref]string{"component/db@h4": "critical"}).Snapshot(), time.Unix(0, 0))
	want := []string{"component/db@h4 critical [service/api service/mail service/reports service/shop] 1010 points"}
	if diff := cmp.Diff(want, lines(r)); diff != "" {
		t.Error(diff)
	}
	// Reports has a price and no criticality: it has no rank among points.
	if diff := cmp.Diff([]manifest.Ref{"service/reports"}, r.Unranked); diff != "" {
		t.Error(diff)
	}
}

// Where nothing is lost, nothing is told in the unit that a loss would have.
func TestTheUnitOfNoLoss(t *testing.T) {
	const mail = shop + "---\nkind: Service\nmetadata: {name: mail}\nspec: {criticality: 3}\n"
	for docs, want := range map[string]string{shop: "EUR", mail: servicemap.UnitPoints} {
		if r := cause.Find(state(t, docs, nil).Snapshot(), time.Unix(0, 0)); r.Unit != want || len(r.Causes) != 0 {
			t.Errorf("%+v: expected %s", r, want)
		}
	}
}

func TestImpact(t *testing.T) {
	s := state(t, shop, map[manifest.Ref]string{"component/db@h4": "critical", "component/web@h1": "critical"}).Snapshot()
	for ref, want := range map[manifest.Ref][]manifest.Ref{
		"component/db@h4":  {"service/api", "service/reports", "service/shop"},
		"component/web@h1": nil, // the quorum holds
		"service/api":      {"service/api", "service/shop"},
		"component/batch":  nil,
	} {
		if diff := cmp.Diff(want, cause.Impact(s, ref)); diff != "" {
			t.Errorf("%s:\n%s", ref, diff)
		}
	}
	one := cause.Of(s, "service/reports", time.Unix(0, 0))
	if diff := cmp.Diff([]string{"component/db@h4 critical [service/reports] 50 EUR"}, lines(one)); diff != "" {
		t.Error(diff)
	}
}

// What was traced once answers as Impact does, on random maps with members, quorums, shared parts and services on services.
func TestTraceIsImpact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		n := rapid.IntRange(1, 6).Draw(rt, "components")
		for i := range n {
			fmt.Fprintf(&b, "---\nkind: Component\nmetadata: {name: c%d}\n", i)
		}
		services := rapid.IntRange(1, 6).Draw(rt, "services")
		for i := range services {
			var on []string
			for k := range n {
				if rapid.Bool().Draw(rt, "on") {
					on = append(on, fmt.Sprintf("{ref: component/c%d}", k))
				}
			}
			for k := range i {
				if rapid.IntRange(0, 2).Draw(rt, "above") == 0 {
					on = append(on, fmt.Sprintf("{ref: service/s%d}", k))
				}
			}
			if len(on) == 0 {
				on = append(on, "{ref: component/c0}")
			}
			rule := rapid.SampledFrom([]string{"rule: worst", "rule: best", "rule: quorum, quorum: {need: 1}"}).Draw(rt, "rule")
			fmt.Fprintf(&b, "---\nkind: Service\nmetadata: {name: s%d}\nspec: {criticality: 2, health: {%s}, dependsOn: [%s]}\n", i, rule, strings.Join(on, ", "))
		}
		set := map[manifest.Ref]string{}
		for i := range n {
			set[manifest.Ref(fmt.Sprintf("component/c%d", i))] = rapid.SampledFrom([]string{"ok", "warning", "major", "critical", "unknown"}).Draw(rt, "level")
		}
		s := state(t, strings.TrimPrefix(b.String(), "---\n"), set).Snapshot()
		hits := cause.Trace(s)
		for _, ref := range s.Graph().Refs() {
			if diff := cmp.Diff(cause.Impact(s, ref), hits.Of(ref)); diff != "" {
				rt.Fatalf("%s:\n%s\n%s", ref, diff, b.String())
			}
		}
	})
}

func TestAQuorumThatCannotBeMetIsItsOwnCause(t *testing.T) {
	r := cause.Find(state(t, "kind: Service\nmetadata: {name: a}\nspec: {dependsOn: [{ref: component/x}], health: {rule: quorum, quorum: {need: 2}}}\n---\nkind: Component\nmetadata: {name: x}\n", nil).Snapshot(), time.Unix(0, 0))
	if diff := cmp.Diff([]string{"service/a critical [service/a] 0 points"}, lines(r)); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkFind(b *testing.B) {
	var names []string
	set := map[manifest.Ref]string{}
	for i := range 2500 {
		names = append(names, fmt.Sprintf("h%d", i))
		if i%2 == 0 {
			set[manifest.Ref(fmt.Sprintf("component/x@h%d", i))] = "critical"
		}
	}
	docs := "kind: Service\nmetadata: {name: a}\nspec: {criticality: 1, dependsOn: [{ref: component/x}]}\n---\nkind: Component\nmetadata: {name: x}\n" +
		"spec: {hosts: {names: [" + strings.Join(names, ", ") + "]}, unit: x.service, health: {rule: threshold, threshold: {share: 40%}}}\n"
	snap := state(b, docs, set).Snapshot()
	b.ReportAllocs()
	for b.Loop() {
		cause.Find(snap, time.Unix(0, 0))
	}
}
