package overload_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func shipped(t *testing.T) []overload.Detector {
	t.Helper()
	set, err := overload.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	ds, err := overload.FromSets(set)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestShippedDetectors(t *testing.T) {
	ds := shipped(t)
	compile(t, ds...)
	if len(ds) < 30 {
		t.Fatalf("only %d", len(ds))
	}
	i := slices.IndexFunc(ds, func(d overload.Detector) bool { return d.Name == "host-cpu" })
	want := hostCPU()
	want.AppliesTo = "host"
	if diff := cmp.Diff(want, ds[i]); diff != "" {
		t.Fatal(diff)
	}
	for _, d := range ds {
		// What a machine does is no overload by itself.
		for _, s := range []string{"cpu.busy", "load", "disk.util", "network.utilisation"} {
			if strings.HasPrefix(d.Signal, s) && d.Act != nil {
				t.Errorf("%s acts on %s alone", d.Name, d.Signal)
			}
		}
		if d.Leave == nil {
			t.Errorf("%s has no leave", d.Name)
		}
	}
}

func TestAppliedDetectorsReplaceShippedOnes(t *testing.T) {
	base, err := overload.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	mine, problems := manifest.Parse("mine.yaml", []byte(`apiVersion: evenkeel/v1
kind: Detector
metadata: {name: host-cpu}
spec: {signal: cpu.pressure.some, scope: host, act: {above: 90%, of: 5/6}, level: minor}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ds, err := overload.FromSets(base, mine)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(ds, func(d overload.Detector) bool { return d.Name == "host-cpu" })
	if d := ds[i]; d.Level != health.Minor || *d.Act.Above != 0.9 || d.Act.Need != 5 || d.Act.Out != 6 || d.Warn != nil {
		t.Fatalf("%+v", d)
	}
	half := manifest.Quantity{}
	bad := manifest.NewSet(&manifest.Resource{
		Kind: manifest.KindDetector, Metadata: manifest.Metadata{Name: "typo"},
		Spec: &manifest.Detector{Signal: "cpu.presure.some", Scope: "host", Act: &manifest.Condition{Above: &half}},
	})
	if ds, err = overload.FromSets(base, bad); err == nil || len(ds) < 30 {
		t.Fatal("a detector on no signal was taken, or took the others with it")
	}
}

// With the shipped detectors, contention that begins at a tick is told at the second tick after, so that 3 s remain for
// the rest of the loop.
func TestOnsetToVerdict(t *testing.T) {
	w := newWorld(t, shipped(t)...)
	for range 20 {
		w.tick(0.05, 0.01)
	}
	onset := w.now
	for !strings.Contains(w.tick(0.95, 2), "host-cpu=overloaded") {
		if w.now.Sub(onset) > 10*time.Second {
			t.Fatal("never")
		}
	}
	if d := w.now.Sub(onset); d != 2*time.Second {
		t.Fatal(d)
	}
	if vs := w.last; len(vs) != 2 || vs[1].Subject == vs[0].Subject {
		t.Fatalf("%+v", vs)
	}
}
