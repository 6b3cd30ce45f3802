package servicemap_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// A map on which maintenance counts is the map of which nobody declared any.
func TestCountingIsTheMapWithoutMaintenance(t *testing.T) {
	bare, _, _ := strings.Cut(kept, "---\napiVersion: evenkeel/v1\nkind: Maintenance")
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "f.yaml", Text: []byte(bare)}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	without, err := servicemap.New(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	graphs := []*servicemap.Graph{
		keptMap(t, "  refs: [component/db]\n"), keptMap(t, "  refs: [host/h1, component/db]\n"), keptMap(t, "  refs: [service/shop, host/h1, host/h2]\n"),
	}
	at := time.Date(2026, 12, 1, 22, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		s := servicemap.NewState(rapid.SampledFrom(graphs).Draw(t, "map"), servicemap.Options{AssumeOK: true})
		want := servicemap.NewState(without, servicemap.Options{AssumeOK: true})
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			ref := rapid.SampledFrom([]manifest.Ref{"service/shop", "component/db", "component/web@h1", "component/web@h2", "component/web@h3"}).Draw(t, "ref")
			r := rapid.SampledFrom([]health.Range{health.Exactly(health.OK), health.Exactly(health.Major), health.Exactly(health.Critical), health.Unknown}).Draw(t, "range")
			for _, to := range []*servicemap.State{s, want} {
				to.Update(at, servicemap.Signal{Ref: ref, Source: "test", Range: r})
			}
		}
		snap := s.Snapshot()
		got := snap.Counting()
		for _, ref := range without.Refs() {
			a, _ := got.Range(ref)
			b, _ := want.Snapshot().Range(ref)
			if a != b {
				t.Errorf("%s is %s, without maintenance %s", ref, servicemap.LevelText(a), servicemap.LevelText(b))
			}
		}
		if _, ok := snap.Maintenance("component/web@h3"); ok {
			t.Error("the snapshot itself changed")
		}
	})
}

func TestOutIsWhatMaintenanceAloneTakesDown(t *testing.T) {
	begin := time.Date(2026, 12, 1, 21, 0, 0, 0, time.UTC)
	for of, want := range map[string]string{
		"  refs: [component/db]\n":     "21:00 to 01:00",
		"  refs: [host/h1]\n":          "", // two of three are left
		"  refs: [host/h1, host/h3]\n": "21:00 to 01:00",
		"  refs: [service/shop]\n":     "", // its own is another matter
		"  refs: [component/db]\n---\napiVersion: evenkeel/v1\nkind: Maintenance\nmetadata: {name: n}\nspec:\n  reason: r\n  owner: team/ops\n  refs: [component/web]\n  window: {timezone: UTC, start: 2026-12-02T00:30, duration: 2h}\n": "21:00 to 02:30",
		"  refs: [host/h1]\n---\napiVersion: evenkeel/v1\nkind: Maintenance\nmetadata: {name: n}\nspec:\n  reason: r\n  owner: team/ops\n  refs: [host/h2]\n  window: {timezone: UTC, start: 2026-12-02T00:30, duration: 2h}\n":            "00:30 to 01:00",
	} {
		g := keptMap(t, of)
		var got []string
		for _, s := range g.Out("service/shop", health.Major, begin.Add(-time.Hour), begin.Add(24*time.Hour)) {
			got = append(got, fmt.Sprintf("%s to %s", s.From.UTC().Format("15:04"), s.To.UTC().Format("15:04")))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %v, expected %s", of, got, want)
		}
	}
}

// Maintenance turns where it bears on what a part does: on the part, on what rests on it, and on what stands beside it there.
func TestTurns(t *testing.T) {
	begin := time.Date(2026, 12, 1, 21, 0, 0, 0, time.UTC)
	for of, want := range map[string]string{
		"  refs: [component/db]\n": "21:00 01:00", // beside it below the shop
		"  refs: [host/h2]\n":      "21:00 01:00", // beside it below web
		"  refs: [service/shop]\n": "21:00 01:00",
		"  refs: [component/other]\n---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: other}\n": "",
	} {
		var got []string
		for _, at := range keptMap(t, of).Turns(begin.Add(-time.Hour), begin.Add(24*time.Hour), 9, "component/web@h1") {
			got = append(got, at.UTC().Format("15:04"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, expected %s", of, got, want)
		}
	}
	if got := keptMap(t, "  refs: [component/db]\n").Turns(begin.Add(-time.Hour), begin.Add(24*time.Hour), 1, "component/db"); len(got) != 1 {
		t.Errorf("%v, expected the first one alone", got)
	}
}
