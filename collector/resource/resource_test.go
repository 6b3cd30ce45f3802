package resource_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/resource"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func everything(map[string]string) bool { return true }

func clock() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) }

const shippedText = `apiVersion: evenkeel/v1
kind: Detector
metadata: {name: host-cpu}
spec: {signal: cpu.pressure.some, scope: host, act: {above: 40%, of: 2/3}}
`

const mapText = `apiVersion: evenkeel/v1
kind: Component
metadata: {name: web, labels: {env: prod}}
spec: {hosts: {names: [a]}, unit: nginx.service}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {criticality: 1, dependsOn: [{ref: component/web}]}
`

func files(text string) []manifest.File {
	return []manifest.File{{Name: "map.yaml", Text: []byte(text)}}
}

func open(t *testing.T, store state.Store, changed func(*manifest.Set)) *resource.Keeper {
	t.Helper()
	shipped, problems := manifest.Parse("shipped.yaml", []byte(shippedText))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	k, err := resource.Open(t.Context(), resource.Config{Store: store, Shipped: shipped, Clock: clock, Changed: changed})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func apply(t *testing.T, k *resource.Keeper, text string) []manifest.Change {
	t.Helper()
	changes, problems, err := k.Apply(t.Context(), files(text), nil, "ann")
	if err != nil || len(problems) > 0 {
		t.Fatalf("apply: %v %v", problems, err)
	}
	return changes
}

func verbs(changes []manifest.Change) string {
	var s []string
	for _, c := range changes {
		s = append(s, string(c.Ref)+" "+c.Verb)
	}
	return strings.Join(s, ", ")
}

func TestApplyIsKeptAndRepeatingItChangesNothing(t *testing.T) {
	store := state.NewMemory()
	told := 0
	k := open(t, store, func(*manifest.Set) { told++ })
	if got, want := verbs(apply(t, k, mapText)), "component/web created, service/shop created"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := verbs(apply(t, k, mapText)), "component/web unchanged, service/shop unchanged"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if told != 1 {
		t.Errorf("told of %d changes, want 1", told)
	}
	again := open(t, store, nil)
	s, err := again.Get("services", "shop")
	if err != nil || s.ChangedBy != "ann" || !s.ChangedAt.Equal(clock()) {
		t.Errorf("after reopening: %+v, %v", s, err)
	}
	if n := len(again.List("", everything)); n != 3 {
		t.Errorf("%d resources, want 3", n)
	}
	prod := again.List("component", func(l map[string]string) bool { return l["env"] == "prod" })
	if len(prod) != 1 {
		t.Errorf("%d components with env=prod, want 1", len(prod))
	}
}

func TestOneMistakeAndNothingChanges(t *testing.T) {
	k := open(t, state.NewMemory(), func(*manifest.Set) { t.Error("told of a change") })
	_, problems, err := k.Apply(t.Context(), files(strings.Replace(mapText, "component/web}", "component/wbe}", 1)), nil, "ann")
	if err != nil || len(problems) != 1 || problems[0].Line != 9 || !strings.Contains(problems[0].Text, "component/wbe is not there") {
		t.Errorf("got %v, %v", problems, err)
	}
	if n := len(k.List("", everything)); n != 1 {
		t.Errorf("%d resources, want the shipped one", n)
	}
}

func TestDelete(t *testing.T) {
	k := open(t, state.NewMemory(), nil)
	apply(t, k, mapText)
	if _, err := k.Delete(t.Context(), "component", "web"); !errors.Is(err, resource.ErrReferred) || !strings.Contains(err.Error(), "service/shop") {
		t.Errorf("deleting what is referred to: %v", err)
	}
	for _, c := range []struct{ kind, name string }{{"service", "shop"}, {"component", "web"}} {
		if _, err := k.Delete(t.Context(), c.kind, c.name); err != nil {
			t.Error(err)
		}
	}
	if _, err := k.Delete(t.Context(), "service", "shop"); !errors.Is(err, resource.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
	if _, err := k.Delete(t.Context(), "detector", "host-cpu"); !errors.Is(err, resource.ErrShipped) {
		t.Errorf("deleting what is shipped: %v", err)
	}
}

func TestShippedGivesWayAndComesBack(t *testing.T) {
	k := open(t, state.NewMemory(), nil)
	apply(t, k, strings.Replace(shippedText, "40%", "60%", 1))
	if s, err := k.Get("detector", "host-cpu"); err != nil || s.ChangedBy != "ann" {
		t.Errorf("applied over the shipped one: %+v, %v", s, err)
	}
	if _, err := k.Delete(t.Context(), "detector", "host-cpu"); err != nil {
		t.Fatal(err)
	}
	if s, err := k.Get("detector", "host-cpu"); err != nil || s.ChangedBy != "shipped" {
		t.Errorf("after deleting the applied one: %+v, %v", s, err)
	}
}

func TestConcurrentWriterIsNoticed(t *testing.T) {
	store := state.NewMemory()
	one, two := open(t, store, nil), open(t, store, nil)
	apply(t, one, mapText)
	if _, _, err := two.Apply(t.Context(), files(mapText), nil, "bob"); !errors.Is(err, resource.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

// Tests that lie beside a map are checked with it, and left out.
func TestMapTestsAreNotApplied(t *testing.T) {
	k := open(t, state.NewMemory(), nil)
	const test = "---\napiVersion: evenkeel/v1\nkind: MapTest\nmetadata: {name: t}\nspec: {cases: [{name: a, at: 2026-11-30T10:00:00Z, expect: {causes: []}}]}\n"
	if changes := apply(t, k, mapText+test); len(changes) != 2 {
		t.Errorf("changes: %v", changes)
	}
	if _, err := k.Get("maptest", "t"); !errors.Is(err, resource.ErrNotFound) {
		t.Errorf("the test is there: %v", err)
	}
	if changes := apply(t, k, test); len(changes) != 0 {
		t.Errorf("a test alone: %v", changes)
	}
	if _, problems, _ := k.Apply(t.Context(), files(strings.Replace(test, "causes", "cause", 1)), nil, "ann"); len(problems) == 0 {
		t.Error("a mistake in a test went by")
	}
}

// A value is that of the one who changed it, through other changes, a rename and a restart; former names stay known.
func TestValueAndNamesHaveAHistory(t *testing.T) {
	store := state.NewMemory()
	k := open(t, store, nil)
	as := func(by, name, more string) {
		t.Helper()
		text := "apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: " + name + "}\nspec:\n" + more
		if _, problems, err := k.Apply(t.Context(), files(text), nil, by); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
	}
	check := func(name, by string, former ...manifest.Ref) {
		t.Helper()
		got, err := k.Get("service", name)
		if err != nil || got.PricedBy != by || (by == "") != got.PricedAt.IsZero() || !slices.Equal(got.Former, former) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	as("ann", "shop", "  title: A\n")
	check("shop", "")
	as("bob", "shop", "  value: {perHour: 10, currency: EUR}\n")
	check("shop", "bob")
	as("ann", "shop", "  title: B\n  value: {perHour: 10, currency: EUR}\n")
	check("shop", "bob")
	as("ann", "store, renamedFrom: shop", "  value: {perHour: 10, currency: EUR}\n")
	check("store", "bob", "service/shop")
	as("cid", "kiosk, renamedFrom: store", "  value: {perHour: 11, currency: EUR}\n")
	check("kiosk", "cid", "service/shop", "service/store")
	k = open(t, store, nil)
	check("kiosk", "cid", "service/shop", "service/store")
	names := k.Names()
	if !slices.Equal(names["service/shop"], []manifest.Ref{"service/store", "service/kiosk"}) || len(names) != 2 {
		t.Errorf("%v", names)
	}
	as("ann", "shop", "  title: Another\n")
	check("shop", "")
	if names := k.Names(); len(names) != 1 {
		t.Errorf("a name that somebody has: %v", names)
	}
}
