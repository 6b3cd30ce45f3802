package servicemap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func parse(t testing.TB, docs string) *manifest.Set {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, nil)
	for _, p := range problems {
		t.Fatal(p)
	}
	return set
}

func build(t testing.TB, docs string, hosts ...servicemap.Host) *servicemap.Graph {
	t.Helper()
	g, err := servicemap.New(parse(t, docs), hosts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const twoServices = `
kind: Service
metadata: {name: shop}
spec: {criticality: 1, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {criticality: 2, dependsOn: [{ref: component/web}]}
---
kind: Service
metadata: {name: reports}
spec: {value: {perHour: 50, currency: EUR}, dependsOn: [{ref: component/batch}]}
---
kind: Service
metadata: {name: plain}
spec: {dependsOn: [{ref: component/plain}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {matchLabels: {role: web}}, unit: web.service}
---
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [h1]}, process: {exe: /bin/batch}}
---
kind: Component
metadata: {name: plain}
spec: {hosts: {names: [h1]}}
---
kind: Component
metadata: {name: nowhere}
spec: {hosts: {matchLabels: {role: none}}, unit: x.service}
`

func hosts() []servicemap.Host {
	return []servicemap.Host{{Name: "h1", Labels: map[string]string{"role": "web"}}, {Name: "h2", Labels: map[string]string{"role": "web"}}, {Name: "h3"}}
}

func TestQueriesOfThePlanner(t *testing.T) {
	g := build(t, twoServices, hosts()...)
	var on []string
	for _, m := range g.OnHost("h1") {
		on = append(on, fmt.Sprintf("%s of %s, unit %q", m.Ref, m.Component, m.Spec.Unit))
	}
	want := []string{
		`component/batch@h1 of component/batch, unit ""`, `component/plain@h1 of component/plain, unit ""`, `component/web@h1 of component/web, unit "web.service"`,
	}
	if diff := cmp.Diff(want, on); diff != "" {
		t.Error(diff)
	}
	if len(g.OnHost("h3")) != 0 || len(g.Members("component/web")) != 2 {
		t.Errorf("h3 has %v, web has %v", g.OnHost("h3"), g.Members("component/web"))
	}
	if diff := cmp.Diff([]manifest.Ref{"service/api", "service/shop"}, g.ServicesAbove("component/web@h2")); diff != "" {
		t.Error(diff)
	}
	at := time.Unix(0, 0)
	for ref, want := range map[manifest.Ref]string{
		"component/web@h1":   "1000 points/h", // shop rests on api: the loss is counted once
		"service/api":        "100 points/h",
		"component/batch@h1": "50 EUR/h",
		"component/plain@h1": "unranked",
		"component/nothere":  "unranked",
		"host/h1":            "unranked",
	} {
		if got := g.Value(ref, at).String(); got != want && ref != "host/h1" {
			t.Errorf("%s is worth %s, want %s", ref, got, want)
		}
	}
}

func TestMoneyAndPointsAreNeverCompared(t *testing.T) {
	money := func(n string) servicemap.Value {
		d, err := manifest.ParseDecimal(n)
		if err != nil {
			t.Fatal(err)
		}
		return servicemap.Value{Ranked: true, Priced: true, Money: d, Currency: "EUR"}
	}
	points := func(p float64) servicemap.Value { return servicemap.Value{Ranked: true, Pointed: true, Points: p} }
	both := money("5")
	both.Pointed, both.Points = true, 1000
	if order, ok := servicemap.Compare(money("10"), money("9.5")); order != 1 || !ok {
		t.Error("money")
	}
	if order, ok := servicemap.Compare(both, points(100)); order != 1 || !ok {
		t.Error("where money meets points, points decide")
	}
	if _, ok := servicemap.Compare(money("10"), points(1)); ok {
		t.Error("money without points was ranked against points")
	}
	if _, ok := servicemap.Compare(servicemap.Value{}, money("1")); ok {
		t.Error("unranked was ranked")
	}
	if unit := servicemap.CommonUnit(money("1"), both, servicemap.Value{}); unit != "EUR" {
		t.Errorf("unit %s", unit)
	}
	if sum := money("0.1").Plus(money("0.2")); sum.String() != "0.3 EUR/h" {
		t.Errorf("0.1 and 0.2 make %s", sum)
	}
	if sum := both.Plus(points(1)); sum.Priced || sum.Points != 1001 {
		t.Errorf("%+v", sum)
	}
}

func verdict(host, subject, applies string, state overload.State, level health.Level) *overload.Verdict {
	return &overload.Verdict{Host: host, Detector: "d", Subject: subject, AppliesTo: applies, State: state, Level: level}
}

func TestVerdictsReachWhatTheyAreAbout(t *testing.T) {
	g := build(t, twoServices, hosts()...)
	for _, c := range []struct {
		name string
		v    *overload.Verdict
		want []manifest.Ref
	}{
		{"a host's own", verdict("h1", "", "host", overload.Overloaded, health.Major), []manifest.Ref{"host/h1"}},
		{"one that applies to components", verdict("h1", "", "components", overload.Overloaded, health.Major), []manifest.Ref{"host/h1", "component/batch@h1", "component/plain@h1", "component/web@h1"}},
		{"of a component", verdict("h1", "component/web", "host", overload.Overloaded, health.Major), []manifest.Ref{"component/web@h1"}},
		{"of a disk", verdict("h2", "sda", "host", overload.Overloaded, health.Major), []manifest.Ref{"host/h2"}},
		{"of what is not on the map", verdict("h9", "", "components", overload.Overloaded, health.Major), nil},
	} {
		var got []manifest.Ref
		for _, s := range g.SignalsOf(c.v) {
			got = append(got, s.Ref)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
	s := servicemap.NewState(g, servicemap.Options{})
	level := func(ref manifest.Ref) string {
		r, ok := s.Snapshot().Range(ref)
		if !ok {
			t.Fatalf("no %s", ref)
		}
		return servicemap.LevelText(r)
	}
	if got := level("component/web@h1"); got != "unknown" {
		t.Errorf("without data a leaf is %s", got)
	}
	s.Update(time.Unix(1, 0), g.SignalsOf(verdict("h1", "", "host", overload.Overloaded, health.Major))...)
	if got := level("component/web@h1"); got != "unknown" {
		t.Errorf("a host's verdict reached a component: %s", got)
	}
	if got := level("component/plain"); got != "major" {
		t.Errorf("a component that is the host itself is %s", got)
	}
	s.Update(time.Unix(2, 0), g.SignalsOf(verdict("h1", "component/web", "host", overload.Overloaded, health.Major))...)
	s.Update(time.Unix(3, 0), g.SignalsOf(verdict("h2", "component/web", "host", overload.Healthy, health.OK))...)
	if got := level("service/shop"); got != "major" {
		t.Errorf("shop is %s", got)
	}
	s.Update(time.Unix(4, 0), g.SignalsOf(verdict("h1", "component/web", "host", overload.Unknown, health.OK))...)
	if got := level("service/shop"); got != "unknown" {
		t.Errorf("shop is %s", got)
	}
	n, _ := s.Snapshot().Node("component/nowhere")
	if servicemap.LevelText(n.Range) != "unknown" || n.Why.Text != "no host matches role=none" {
		t.Errorf("%v: %s", n.Range, n.Why.Text)
	}
}

func TestSnapshotsDoNotChange(t *testing.T) {
	g := build(t, twoServices, hosts()...)
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	before := s.Snapshot()
	was := before.Nodes()
	changed := s.Update(time.Unix(1, 0), servicemap.Signal{Ref: "component/web@h1", Source: "x", Range: health.Exactly(health.Critical)})
	if diff := cmp.Diff([]manifest.Ref{"component/web@h1", "component/web", "service/api", "service/shop"}, changed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(was, before.Nodes(), cmp.AllowUnexported(servicemap.Value{})); diff != "" {
		t.Errorf("the snapshot moved:\n%s", diff)
	}
	if again := s.Update(time.Unix(2, 0), servicemap.Signal{Ref: "component/web@h1", Source: "x", Range: health.Exactly(health.Critical)}); again != nil {
		t.Errorf("the same signal changed %v", again)
	}
	s = s.Rebase(build(t, twoServices+"---\nkind: Service\nmetadata: {name: fresh}\nspec: {dependsOn: [{ref: component/web}]}\n", hosts()...))
	if r, _ := s.Snapshot().Range("service/fresh"); r != health.Exactly(health.Critical) {
		t.Errorf("a new service over a bad component is %v", r)
	}
	s.Update(time.Unix(3, 0), servicemap.Signal{Ref: "component/web@h1", Source: "x", Gone: true})
	if r, _ := s.Snapshot().Range("service/fresh"); r != health.Exactly(health.OK) {
		t.Errorf("after the source went away: %v", r)
	}
}

func TestALoopIsRefused(t *testing.T) {
	set, problems := manifest.Parse("f", []byte("apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: a}\nspec: {dependsOn: [{ref: service/b}]}\n---\n"+
		"apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: b}\nspec: {dependsOn: [{ref: service/a}]}\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := servicemap.New(set, nil); err == nil || !strings.Contains(err.Error(), "leads back") {
		t.Errorf("%v", err)
	}
}

// drawMap makes a random acyclic map of services over components.
func drawMap(t *rapid.T) (string, int, int) {
	services, components := rapid.IntRange(1, 12).Draw(t, "services"), rapid.IntRange(1, 6).Draw(t, "components")
	var b strings.Builder
	for i := range components {
		fmt.Fprintf(&b, "kind: Component\nmetadata: {name: c%d}\nspec: {hosts: {names: [%s]}, unit: x.service, health: {rule: %s}}\n---\n", i,
			strings.Join([]string{"h0", "h1", "h2"}[:rapid.IntRange(1, 3).Draw(t, "members")], ", "), rapid.SampledFrom([]string{"worst", "best", "quorum, quorum: {need: 2}"}).Draw(t, "rule"))
	}
	rules := []string{
		"worst", "best", "quorum, quorum: {share: 50%}", "threshold, threshold: {share: 40%}", "exponential, exponential: {base: 2}", "score", "alwaysOk",
		"worst, also: [{when: percent, lessThan: 60, level: minor, then: critical}]",
	}
	for i := range services {
		var deps []string
		seen := map[string]bool{}
		for range rapid.IntRange(0, 4).Draw(t, "deps") {
			ref := fmt.Sprintf("component/c%d", rapid.IntRange(0, components-1).Draw(t, "on"))
			if i > 0 && rapid.Bool().Draw(t, "onService") {
				ref = fmt.Sprintf("service/s%d", rapid.IntRange(0, i-1).Draw(t, "on"))
			}
			if seen[ref] {
				continue
			}
			seen[ref] = true
			deps = append(deps, fmt.Sprintf("{ref: %s, weight: %d, propagate: '%s'}", ref, rapid.IntRange(0, 11).Draw(t, "weight"),
				rapid.SampledFrom([]string{"asIs", "asIs", "increase:1", "decrease:1", "ignore", "fixed:minor"}).Draw(t, "propagate")))
		}
		list := ""
		if len(deps) > 0 {
			list = "dependsOn: [" + strings.Join(deps, ", ") + "], "
		}
		fmt.Fprintf(&b, "kind: Service\nmetadata: {name: s%d}\nspec: {%shealth: {rule: %s}}\n---\n", i, list, rapid.SampledFrom(rules).Draw(t, "rule"))
	}
	return strings.TrimSuffix(b.String(), "---\n"), services, components
}

// Whatever happened in between, a state is what a fresh one would be that is told only what holds now.
func TestIncrementalEqualsFull(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		docs, services, components := drawMap(rt)
		g := build(t, docs)
		opt := servicemap.Options{AssumeOK: rapid.Bool().Draw(rt, "assumeOK")}
		s := servicemap.NewState(g, opt)
		holds := map[[2]string]servicemap.Signal{}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			ref := fmt.Sprintf("component/c%d@h%d", rapid.IntRange(0, components-1).Draw(rt, "c"), rapid.IntRange(0, 2).Draw(rt, "h"))
			if rapid.IntRange(0, 4).Draw(rt, "inner") == 0 {
				ref = fmt.Sprintf("service/s%d", rapid.IntRange(0, services-1).Draw(rt, "s"))
			}
			low := health.Level(rapid.IntRange(0, 5).Draw(rt, "low"))
			sig := servicemap.Signal{
				Ref: manifest.Ref(ref), Source: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "source"),
				Range: health.Range{Low: low, High: max(low, health.Level(rapid.IntRange(0, 5).Draw(rt, "high")))}, Gone: rapid.IntRange(0, 3).Draw(rt, "gone") == 0,
			}
			if rapid.Bool().Draw(rt, "snapshot") {
				s.Snapshot()
			}
			s.Update(time.Unix(0, 0), sig)
			if sig.Gone {
				delete(holds, [2]string{ref, sig.Source})
			} else {
				holds[[2]string{ref, sig.Source}] = sig
			}
		}
		fresh := servicemap.NewState(g, opt)
		for _, sig := range holds {
			fresh.Update(time.Unix(0, 0), sig)
		}
		rebased := s.Rebase(g)
		for _, ref := range g.Refs() {
			got, _ := s.Snapshot().Node(ref)
			want, _ := fresh.Snapshot().Node(ref)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(servicemap.Value{})); diff != "" {
				rt.Fatalf("%s:\n%s\n%s", ref, diff, docs)
			}
			if r, _ := rebased.Snapshot().Range(ref); r != got.Range {
				rt.Fatalf("%s is %v after a rebase, was %v", ref, r, got.Range)
			}
		}
	})
}

// hundredThousand is a map of 100,000 nodes: 40 components of 2,475 members under 1,000 services of ten layers.
func hundredThousand(tb testing.TB) *servicemap.Graph {
	var hosts []servicemap.Host
	for i := range 2475 {
		hosts = append(hosts, servicemap.Host{Name: fmt.Sprintf("h%04d", i), Labels: map[string]string{"role": "web"}})
	}
	var resources []*manifest.Resource
	add := func(kind, name string, spec any) {
		resources = append(resources, &manifest.Resource{APIVersion: manifest.APIVersion, Kind: kind, Metadata: manifest.Metadata{Name: name}, Spec: spec})
	}
	half := manifest.Share(500_000)
	for i := range 39 {
		add(manifest.KindComponent, fmt.Sprintf("c%02d", i), &manifest.Component{
			Hosts: &manifest.Hosts{MatchLabels: map[string]string{"role": "web"}}, Unit: "x.service",
			Health: &manifest.Health{Rule: []string{"quorum", "worst"}[i%2], Quorum: []*manifest.Quorum{{Share: &half}, nil}[i%2]},
		})
	}
	for i := range 1000 {
		s := &manifest.Service{Criticality: 1 + i%4}
		for k := range 5 {
			ref := manifest.RefOf(manifest.KindComponent, fmt.Sprintf("c%02d", (i*5+k)%39))
			if i >= 100 {
				ref = manifest.RefOf(manifest.KindService, fmt.Sprintf("s%04d", i-100+(i+k*7)%50-50*(i%100/50)))
			}
			if !slices.ContainsFunc(s.DependsOn, func(d manifest.Dependency) bool { return d.Ref == ref }) {
				s.DependsOn = append(s.DependsOn, manifest.Dependency{Ref: ref})
			}
		}
		add(manifest.KindService, fmt.Sprintf("s%04d", i), s)
	}
	g, err := servicemap.New(manifest.NewSet(resources...), hosts)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// One leaf of 2,475 changes, and with it the services above, up to the snapshot that readers see.
func BenchmarkLeafChange(b *testing.B) {
	g := hundredThousand(b)
	b.Logf("%d nodes", g.Len())
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	levels := []health.Level{health.Critical, health.OK}
	b.ReportAllocs()
	changed := 0
	for n := 0; b.Loop(); n++ {
		changed = len(s.Update(time.Unix(int64(n), 0), servicemap.Signal{Ref: "component/c01@h0007", Source: "x", Range: health.Exactly(levels[n%2])}))
		s.Snapshot()
	}
	b.ReportMetric(float64(changed), "nodes-changed")
}
