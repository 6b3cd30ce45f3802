package simulate_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/simulate"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

var update = flag.Bool("update", false, "write the golden files")

func shop(t testing.TB) []manifest.File {
	t.Helper()
	files, problems := manifest.Read([]string{"../../deploy/examples/shop"}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return files
}

func noon() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) }

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  simulate.Options
	}{
		{"all-well", simulate.Options{}},
		{"nothing-known", simulate.Options{Default: "unknown"}},
		{"not-in-the-map", simulate.Options{Set: map[string]string{"service/checkout": "critical"}}},
		{"one-of-three", simulate.Options{Set: map[string]string{"component/web@web1": "critical"}}},
		{"several-broken", simulate.Options{Set: map[string]string{
			"component/web@web1": "critical", "component/web@web3": "major", "component/database@db1": "critical", "component/san": "critical",
			"component/search@web1": "critical", "component/search@web2": "critical", "component/search@web3": "critical", "component/batch@db1": "critical",
		}}},
		{"by-hand-above", simulate.Options{Set: map[string]string{"service/orders": "minor", "component/web": "ok", "component/database@db1": "unknown"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opt.At = noon()
			sim, problems := simulate.Run(shop(t), c.opt)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			got, err := sim.JSON()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", c.name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("go test -update writes it anew:\n%s", diff)
			}
			reversed := shop(t)
			slices.Reverse(reversed)
			sim, _ = simulate.Run(reversed, c.opt)
			if again, _ := sim.JSON(); !bytes.Equal(got, again) {
				t.Error("the order of files changes the answer")
			}
		})
	}
}

func TestBadInputIsToldAndNothingComputed(t *testing.T) {
	sim, problems := simulate.Run(shop(t), simulate.Options{At: noon(), Default: "maybe", Set: map[string]string{"component/wbe": "critical", "service/orders": "awful"}})
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`"maybe" is not a default: expected ok or unknown`,
		`component/wbe is not on the map (did you mean "component/web"?)`,
		`"awful" is not a level: expected ok, info, warning, minor, major, critical or unknown`,
	}
	if diff := cmp.Diff(want, got); diff != "" || len(sim.Nodes) != 0 {
		t.Errorf("%s\n%d nodes", diff, len(sim.Nodes))
	}
	if _, problems = simulate.Run([]manifest.File{{Name: "a.yaml", Text: []byte("kind: Service")}}, simulate.Options{}); len(problems) == 0 {
		t.Error("a broken manifest was taken")
	}
}
