package starter_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/starter"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func draw(t interface{ Fatal(...any) }, text string, hosts []servicemap.Host) *picture.Picture {
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "f.yaml", Text: []byte(text)}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p, problems := picture.Of(set, hosts, picture.Options{At: time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

func TestOf(t *testing.T) {
	p := draw(t, `
apiVersion: evenkeel/v1
kind: HostTemplate
metadata: {name: db}
spec: {hosts: {names: [d1]}, labels: {role: db}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: old}
spec: {hosts: {names: [o1]}}
`, []servicemap.Host{
		{Name: "w1", Labels: map[string]string{"app": "Web Shop", "role": "web", "team": "sales"}},
		{Name: "w2", Labels: map[string]string{"app": "Web Shop", "role": "web", "team": "sales"}},
		{Name: "d1", Labels: map[string]string{"app": "Web Shop", "team": "dba"}},
		{Name: "c1", Labels: map[string]string{"role": "web"}},
		{Name: "x1", Labels: map[string]string{"site": "a"}},
		{Name: "o1", Labels: map[string]string{"app": "old"}},
	})
	got, err := starter.Of(p, starter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := manifest.YAML(got.Resources...)
	if err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: evenkeel/v1
kind: Component
metadata:
  name: web
spec:
  hosts:
    names:
    - c1
---
apiVersion: evenkeel/v1
kind: Component
metadata:
  name: web-shop-db
spec:
  owner: team/dba
  hosts:
    matchLabels:
      app: Web Shop
      role: db
---
apiVersion: evenkeel/v1
kind: Component
metadata:
  name: web-shop-web
spec:
  owner: team/sales
  hosts:
    matchLabels:
      app: Web Shop
      role: web
---
apiVersion: evenkeel/v1
kind: Service
metadata:
  name: web-shop
spec:
  title: Web Shop
  dependsOn:
  - ref: component/web-shop-db
  - ref: component/web-shop-web
---
apiVersion: evenkeel/v1
kind: Team
metadata:
  name: dba
spec: {}
---
apiVersion: evenkeel/v1
kind: Team
metadata:
  name: sales
spec: {}
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(starter.Labels{Role: "role", App: "app", Owner: "team"}, got.Labels); diff != "" {
		t.Error(diff)
	}
	var gaps []string
	for _, g := range got.Gaps {
		gaps = append(gaps, fmt.Sprintf("%s: %s", g.Ref, g.Text))
	}
	for _, want := range []string{
		"host/x1: it is on no map: it has none of the labels app, role",
		"component/web: no service rests on it: nobody knows what it is for",
		"component/web: its hosts are named: their labels would pick others too",
		"component/web-shop-web: the worst of its 2 hosts counts: say how many of them are needed, in health",
		"service/web-shop: no owner: nobody is called when it fails",
		"team/dba: no contact: neither phone nor email",
	} {
		if !slices.Contains(gaps, want) {
			t.Errorf("no gap %q in\n%s", want, strings.Join(gaps, "\n"))
		}
	}
}

func TestNothingToDraw(t *testing.T) {
	p := draw(t, "apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: old}\nspec: {hosts: {names: [o1]}}\n", nil)
	if _, err := starter.Of(p, starter.Options{}); err == nil {
		t.Error("a map of nothing")
	}
}

// What comes out is valid beside what is there, and puts each host that has one of the labels on the map exactly once.
func TestStarterMapsAreValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hosts []servicemap.Host
		for i := range rapid.IntRange(1, 12).Draw(t, "hosts") {
			labels := map[string]string{}
			for k, values := range map[string][]string{
				"app": {"", "shop", "Shop", "old", "a b"}, "role": {"", "web", "db", "web!"}, "agent/role": {"", "x"}, "owner": {"", "ops", "***"},
			} {
				if v := rapid.SampledFrom(values).Draw(t, k); v != "" {
					labels[k] = v
				}
			}
			hosts = append(hosts, servicemap.Host{Name: fmt.Sprintf("h%d", i), Labels: labels})
		}
		p := draw(t, "apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: old}\n---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: shop-web}\nspec: {hosts: {names: [h0]}}\n", hosts)
		got, err := starter.Of(p, starter.Options{})
		if err != nil {
			if len(hosts) > 1 {
				t.Fatal(err)
			}
			return
		}
		text, err := manifest.YAML(got.Resources...)
		if err != nil {
			t.Fatal(err)
		}
		set, problems := manifest.CheckFiles([]manifest.File{{Name: "new", Text: text}}, p.Set)
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, text)
		}
		for r := range set.All() {
			if _, there := p.Set.Get(r.Ref()); there {
				t.Fatalf("%s was there before", r.Ref())
			}
		}
		g, err := servicemap.New(p.Set.Merge(set), slices.Clone(hosts))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts[1:] {
			role := got.Labels.Role
			want := 1
			if h.Labels["app"] == "" && h.Labels[role] == "" {
				want = 0
			}
			if n := len(g.OnHost(h.Name)); n != want {
				t.Fatalf("%s with %v carries %d components, want %d\n%s", h.Name, slices.Sorted(maps.Keys(h.Labels)), n, want, text)
			}
		}
	})
}
