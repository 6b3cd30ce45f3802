package collector

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// exhaustible is what a host can run out of: how much of it is left.
var exhaustible = []struct{ name, expr, label string }{
	{"disk.space", "node_filesystem_avail_bytes", "mountpoint"},
	{"disk.inodes", "node_filesystem_files_free", "mountpoint"},
	{"memory.available", "node_memory_MemAvailable_bytes", ""},
	{"files", "node_filefd_maximum - node_filefd_allocated", ""},
	{"pids", "node_processes_max_processes - node_processes_pids", ""},
}

// The stretch that trends are drawn through, and how far apart its points are; a host that is not known for so long is looked at more closely.
var stretches = []struct{ length, step time.Duration }{{6 * time.Hour, 5 * time.Minute}, {15 * time.Minute, 15 * time.Second}}

// enough is how many points a trend needs in a stretch before the shorter one is taken.
const enough = 24

// trends gathers what hosts can run out of. What a host runs out of, everything on it does.
func (b reasoner) trends(ctx context.Context, p *picture.Picture) ([]picture.Trend, error) {
	out := []picture.Trend{}
	for _, e := range exhaustible {
		known := map[string]bool{}
		for _, stretch := range stretches {
			r, err := b.samples.QueryRange(ctx, e.expr, p.At.Add(-stretch.length), p.At, stretch.step)
			if err != nil {
				return nil, fmt.Errorf("cannot read %s: %w", e.name, err)
			}
			for _, s := range r.Series {
				host, key := s.Labels["instance"], s.Labels["instance"]+" "+s.Labels[e.label]
				if known[key] || len(s.Points) < enough {
					continue
				}
				known[key] = true
				t := picture.Trend{Name: e.name + " on " + host}
				if e.label != "" {
					t.Name = e.name + " of " + s.Labels[e.label] + " on " + host
				}
				for _, v := range s.Points {
					if !math.IsNaN(v.Value) {
						t.Points = append(t.Points, picture.Reading{At: v.Time, Value: v.Value})
					}
				}
				graph := p.Map.Graph()
				if ref := manifest.RefOf(manifest.KindHost, host); graph.Has(ref) {
					t.Ref = ref
					out = append(out, t)
				}
				for _, m := range graph.OnHost(host) {
					t.Ref = m.Ref
					out = append(out, t)
				}
			}
		}
	}
	return out, nil
}
