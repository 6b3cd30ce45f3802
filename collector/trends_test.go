package collector

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// A disk that fills slowly is announced out of the collector's own samples while every service is well: with the range of time in which the
// service will be breached. So is one of a host that is known for a quarter of an hour only. What does not run out is not.
func TestASlowLeakIsAnnounced(t *testing.T) {
	samples, err := store.Open(t.Context(), store.Config{
		Dir: t.TempDir(), Ballast: -1, Log: slog.New(slog.DiscardHandler), Free: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer samples.Close()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	seed := func(host, name, label, value string, since, step time.Duration, left func(hours float64, i int) float64) {
		t.Helper()
		d := &metric.Desc{Name: name}
		if label != "" {
			d.Labels = []metric.Label{{Name: label, Value: value}}
		}
		lane, err := samples.Begin(1)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			when := at.Add(-since + time.Duration(i)*step)
			if when.After(at) {
				break
			}
			if _, err := lane.Create(host, d, when.UnixMilli(), left(when.Sub(at).Hours(), i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := lane.End(); err != nil {
			t.Fatal(err)
		}
	}
	noise := func(i int) float64 { return float64(i*7919%1000) * 1e3 }
	seed("a", "node_filesystem_avail_bytes", "mountpoint", "/var", 6*time.Hour, time.Minute, func(h float64, i int) float64 { return 4e9 - 2e9*h + noise(i) }) // 2 h left
	seed("a", "node_filesystem_avail_bytes", "mountpoint", "/", 6*time.Hour, time.Minute, func(_ float64, i int) float64 { return 5e9 + noise(i) })
	seed("a", "node_memory_MemAvailable_bytes", "", "", 6*time.Hour, time.Minute, func(h float64, i int) float64 { return 8e9 + 1e8*h + noise(i) })
	seed("b", "node_memory_MemAvailable_bytes", "", "", 12*time.Minute, 15*time.Second, func(h float64, i int) float64 { return 1e9 - 1e9*h + noise(i) }) // 1 h left
	const docs = `apiVersion: evenkeel/v1
kind: Host
metadata: {name: a}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: b}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
spec: {hosts: {names: [a, b]}, health: {rule: best}}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {criticality: 1, dependsOn: [{ref: component/db}]}
`
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(docs)}}, picture.Options{At: at})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if p.Trends, err = (reasoner{&backend{samples: samples}}).trends(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	answer, problems, err := reason.Answer("warning", p, nil)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	var got struct {
		Series []struct {
			Ref, Series string
		}
		Services []struct {
			Ref string
			Now bool
			In  struct{ Low, High string }
		}
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range got.Series {
		names[s.Series] = true
	}
	if len(names) != 2 || !names["disk.space of /var on a"] || !names["memory.available on b"] {
		t.Errorf("%v", names)
	}
	if len(got.Services) != 1 || got.Services[0].Ref != "service/shop" || got.Services[0].Now {
		t.Fatalf("%s", answer)
	}
	// One of the two is enough, so the service lasts as long as the later one.
	low, errLow := time.ParseDuration(got.Services[0].In.Low)
	high, errHigh := time.ParseDuration(got.Services[0].In.High)
	if errLow != nil || errHigh != nil || low > 2*time.Hour || high < 2*time.Hour || low < 110*time.Minute || high > 130*time.Minute {
		t.Errorf("in %s to %s, %v %v", low, high, errLow, errHigh)
	}
}
