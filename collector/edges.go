package collector

import (
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// borneOut is how long a service has to stay well by its own measure, while the map says that it is hit, for that to speak against the edge: a
// measure over some minutes falls slowly.
const borneOut = 5 * time.Minute

// lookAtEdges notes on the incidents whether what the map foretells of services is borne out by what is measured of them. Of a service that is
// not measured itself nothing can be said.
func (d *decider) lookAtEdges(s *servicemap.Snapshot, now time.Time) {
	for _, i := range d.book.Unresolved(now) {
		if i.Budget || !i.Known || !i.GoodSince.IsZero() {
			continue
		}
		graph := s.Graph()
		hit := map[manifest.Ref]bool{}
		for _, ref := range causesOf(graph, manifest.Ref(i.Cause)) {
			for _, up := range graph.Above(ref) {
				hit[up] = true
			}
		}
		for up := range hit {
			measured, ok := s.Measured(up)
			if !ok || up.Kind() != "service" || measured.Low < opensAt && measured.High >= opensAt {
				continue
			}
			for _, in := range s.Foretells(up, opensAt) {
				if !hit[in] {
					continue
				}
				if noted, news := d.book.Foretold(now, i.ID, string(up)+">"+string(in), measured.Low >= opensAt); news {
					d.changed(noted)
				}
			}
		}
	}
}

// causesOf returns the nodes at which a cause takes hold: of a host, also what runs on it.
func causesOf(g *servicemap.Graph, ref manifest.Ref) []manifest.Ref {
	out := []manifest.Ref{ref}
	if ref.Kind() == "host" {
		for _, m := range g.OnHost(ref.Name()) {
			out = append(out, m.Ref)
		}
	}
	return out
}

// edgeOutcomes is what became of the edges of the map: an incident speaks for each by which it hit a service that was measured to be bad, and
// against each by which it should have hit one that stayed well for long. A service or part that was applied anew is another one since.
func edgeOutcomes(incidents []incident.Incident, changed map[manifest.Ref]time.Time) []picture.Outcome {
	var out []picture.Outcome
	var known []manifest.Ref
	for k := range incidents {
		i := &incidents[k]
		if i.State != incident.Resolved {
			continue
		}
		for _, e := range i.Edges {
			o := picture.Outcome{Item: manifest.Ref(e.Edge), At: i.ResolvedAt, What: picture.Good}
			if !e.Seen {
				if i.ResolvedAt.Sub(e.Since) < borneOut {
					continue
				}
				o.What = picture.Bad
			}
			out = append(out, o)
			if !slices.Contains(known, o.Item) {
				known = append(known, o.Item)
			}
		}
	}
	for _, edge := range known {
		from, to, _ := strings.Cut(string(edge), ">")
		for _, end := range []string{from, to} {
			if at, ok := changed[manifest.Ref(end)]; ok {
				out = append(out, picture.Outcome{Item: edge, At: at, What: picture.Changed})
			}
		}
	}
	return out
}
