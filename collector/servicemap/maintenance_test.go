package servicemap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const kept = `
apiVersion: evenkeel/v1
kind: Team
metadata: {name: ops}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: h1, labels: {site: a}}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: h2, labels: {site: a}}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: h3, labels: {site: b}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web, labels: {tier: front}}
spec:
  hosts: {names: [h1, h2, h3]}
  unit: nginx.service
  health: {rule: quorum, quorum: {need: 2}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {dependsOn: [{ref: component/web}, {ref: component/db}]}
---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: m}
spec:
  reason: firmware
  owner: team/ops
  window: {timezone: Europe/Berlin, start: 2026-12-01T22:00, duration: 4h}
`

func keptMap(t testing.TB, of string) *servicemap.Graph {
	t.Helper()
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "f.yaml", Text: []byte(kept + of)}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	g, err := servicemap.New(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func down(ref manifest.Ref) servicemap.Signal {
	return servicemap.Signal{Ref: ref, Source: "test", Range: health.Exactly(health.Critical)}
}

func TestMaintenanceIsNotCountedWhileItLasts(t *testing.T) {
	begin := time.Date(2026, 12, 1, 21, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		of, want string
		down     []manifest.Ref
	}{
		"a component":         {"  refs: [component/db]\n", "critical ok critical", []manifest.Ref{"component/db"}},
		"and nothing else":    {"  refs: [component/db]\n", "critical critical critical", []manifest.Ref{"component/web@h1", "component/web@h2"}},
		"a host of a quorum":  {"  refs: [host/h1]\n", "ok ok ok", []manifest.Ref{"component/web@h1"}},
		"too few are left":    {"  refs: [host/h1, host/h2]\n", "ok critical ok", nil},
		"by labels of hosts":  {"  matchLabels: {site: b}\n", "critical critical critical", []manifest.Ref{"component/web@h1", "component/web@h2"}},
		"by labels of a part": {"  matchLabels: {tier: front}\n", "critical ok critical", []manifest.Ref{"component/web@h1", "component/web@h2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := servicemap.NewState(keptMap(t, c.of), servicemap.Options{AssumeOK: true})
			var signals []servicemap.Signal
			for _, ref := range c.down {
				signals = append(signals, down(ref))
			}
			s.Update(begin.Add(-time.Second), signals...)
			var got []string
			for _, at := range []time.Time{begin.Add(-time.Second), begin, begin.Add(4 * time.Hour)} {
				s.Update(at)
				r, _ := s.Snapshot().Range("service/shop")
				got = append(got, servicemap.LevelText(r))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMaintenanceIsToldInTheReasons(t *testing.T) {
	s := servicemap.NewState(keptMap(t, "  refs: [component/db, host/h1]\n"), servicemap.Options{AssumeOK: true})
	s.Update(time.Date(2026, 12, 1, 21, 30, 0, 0, time.UTC), down("component/db"))
	snap := s.Snapshot()
	for ref, want := range map[manifest.Ref]string{
		"component/db":     "in maintenance until 2026-12-02T01:00:00Z (maintenance/m: firmware); test says critical",
		"component/web@h1": "in maintenance until 2026-12-02T01:00:00Z (maintenance/m: firmware); no data, taken as ok",
		"component/web@h2": "no data, taken as ok",
		"service/shop":     "worst of 1 input: ok; not counted: component/db, in maintenance until 2026-12-02T01:00:00Z (maintenance/m: firmware)",
	} {
		n, _ := snap.Node(ref)
		if diff := cmp.Diff(want, n.Why.Text); diff != "" {
			t.Errorf("%s\n%s", ref, diff)
		}
	}
	n, _ := snap.Node("service/shop")
	for _, in := range n.Why.Inputs {
		if in.Counted == (in.Ref == "component/db") {
			t.Errorf("%s counted: %v", in.Ref, in.Counted)
		}
	}
	if inputs, itself, _ := snap.Blame("service/shop"); len(inputs) > 0 || itself {
		t.Errorf("blamed %v %v", inputs, itself)
	}
	if _, ok := snap.Maintenance("component/web@h2"); ok {
		t.Error("what is on another host is in maintenance")
	}
	if m, ok := snap.State().Snapshot().Maintenance("component/db"); !ok || m.Owner != "team/ops" {
		t.Error("a copy forgets the maintenance")
	}
}

// A state that went through many moments, forth and back, is as one that was made at the last of them.
func TestMaintenanceDependsOnTheMomentAlone(t *testing.T) {
	g := keptMap(t, "  refs: [component/db, host/h1, host/h3]\n"+`---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: weekly}
spec:
  reason: patches
  owner: team/ops
  matchLabels: {site: a}
  window: {timezone: America/New_York, start: 2026-11-01T00:00, rrule: FREQ=DAILY, duration: 90m}
`)
	rapid.Check(t, func(t *rapid.T) {
		long := servicemap.NewState(g, servicemap.Options{})
		var told []servicemap.Signal
		var at time.Time
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			at = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 3*24*60).Draw(t, "minute")) * time.Minute)
			ref := rapid.SampledFrom([]manifest.Ref{"component/db", "component/web@h1", "component/web@h2", "component/web@h3"}).Draw(t, "ref")
			sig := servicemap.Signal{Ref: ref, Source: "test", Range: health.Exactly(rapid.SampledFrom([]health.Level{health.OK, health.Major, health.Critical}).Draw(t, "level"))}
			told = append(told, sig)
			long.Update(at, sig)
		}
		fresh := servicemap.NewState(g, servicemap.Options{})
		fresh.Update(at, told...)
		a, b := long.Snapshot(), fresh.Snapshot()
		for _, ref := range g.Refs() {
			x, _ := a.Node(ref)
			y, _ := b.Node(ref)
			if fmt.Sprint(x.Range, x.Why) != fmt.Sprint(y.Range, y.Why) {
				t.Fatalf("%s: %v %v, and fresh %v %v", ref, x.Range, x.Why, y.Range, y.Why)
			}
		}
	})
}

func TestHostTemplatesAddLabels(t *testing.T) {
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "f.yaml", Text: []byte(`
apiVersion: evenkeel/v1
kind: HostTemplate
metadata: {name: a}
spec: {hosts: {matchLabels: {site: fra}}, labels: {role: web, tier: front}}
---
apiVersion: evenkeel/v1
kind: HostTemplate
metadata: {name: b}
spec: {hosts: {matchLabels: {site: fra}}, labels: {role: db, zone: z1}}
---
apiVersion: evenkeel/v1
kind: HostTemplate
metadata: {name: c}
spec: {hosts: {matchLabels: {role: web}}, labels: {chained: "yes"}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {hosts: {matchLabels: {role: web, site: fra}}}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: h2, labels: {site: fra, role: cache}}
`)}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	own := map[string]string{"site": "fra"}
	g, err := servicemap.New(set, []servicemap.Host{{Name: "h1", Labels: own}, {Name: "h3", Labels: map[string]string{"role": "web"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []servicemap.Host{
		{Name: "h1", Labels: map[string]string{"site": "fra", "role": "web", "tier": "front", "zone": "z1"}},
		{Name: "h2", Labels: map[string]string{"site": "fra", "role": "cache", "tier": "front", "zone": "z1"}},
		{Name: "h3", Labels: map[string]string{"role": "web", "chained": "yes"}},
	}
	if diff := cmp.Diff(want, g.Hosts()); diff != "" {
		t.Error(diff)
	}
	if len(own) != 1 {
		t.Error("the caller's labels were changed")
	}
	var members []string
	for _, m := range g.Members("component/web") {
		members = append(members, m.Host)
	}
	if diff := cmp.Diff([]string{"h1"}, members); diff != "" {
		t.Error(diff)
	}
}

// Planned agrees with asking the map minute by minute.
func TestPlannedIsWhenTheMapSaysSo(t *testing.T) {
	g := keptMap(t, "  refs: [service/shop, host/h1]\n"+`---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: nightly}
spec:
  reason: patches
  owner: team/ops
  refs: [service/shop]
  window: {timezone: Europe/Berlin, start: 2026-11-30T21:30, rrule: FREQ=DAILY;COUNT=3, duration: 45m}
`)
	rapid.Check(t, func(t *rapid.T) {
		from := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 4*24*60).Draw(t, "from")) * time.Minute)
		to := from.Add(time.Duration(rapid.IntRange(0, 24*60).Draw(t, "length")) * time.Minute)
		ref := rapid.SampledFrom([]manifest.Ref{"service/shop", "host/h1", "component/web@h1", "component/db"}).Draw(t, "ref")
		spans := g.Planned(ref, from, to)
		s := servicemap.NewState(g, servicemap.Options{})
		for at := from; at.Before(to); at = at.Add(5 * time.Minute) {
			s.Update(at)
			_, want := s.Snapshot().Maintenance(ref)
			got := false
			for _, x := range spans {
				got = got || !at.Before(x.From) && at.Before(x.To)
			}
			if got != want {
				t.Fatalf("%s at %s: planned %v, in maintenance %v (%v)", ref, at, got, want, spans)
			}
		}
		for i := 1; i < len(spans); i++ {
			if !spans[i-1].To.Before(spans[i].From) {
				t.Fatalf("spans touch: %v", spans)
			}
		}
	})
}

// The index of labels picks the hosts that Matches does.
func TestSelectorsPickWhatMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hosts []servicemap.Host
		for i := range rapid.IntRange(0, 12).Draw(t, "hosts") {
			labels := map[string]string{}
			for _, k := range []string{"a", "b", "c"} {
				if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, k); v != "" {
					labels[k] = v
				}
			}
			hosts = append(hosts, servicemap.Host{Name: fmt.Sprintf("h%d", i), Labels: labels})
		}
		want := map[string]string{}
		for _, k := range []string{"a", "b", "d"} {
			if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "want "+k); v != "" {
				want[k] = v
			}
		}
		pick := &manifest.Hosts{MatchLabels: want}
		if len(want) == 0 {
			pick = &manifest.Hosts{Names: []string{"h3", "h1", "new"}}
		}
		g, err := servicemap.New(manifest.NewSet(&manifest.Resource{
			Kind: manifest.KindComponent, Metadata: manifest.Metadata{Name: "c"}, Spec: &manifest.Component{Hosts: pick},
		}), hosts)
		if err != nil {
			t.Fatal(err)
		}
		var got, expected []string
		for _, m := range g.Members("component/c") {
			got = append(got, m.Host)
		}
		for _, h := range hosts {
			if pick.Matches(h.Name, h.Labels) {
				expected = append(expected, h.Name)
			}
		}
		for _, n := range pick.Names {
			if !slices.Contains(expected, n) {
				expected = append(expected, n)
			}
		}
		slices.Sort(got)
		slices.Sort(expected)
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
