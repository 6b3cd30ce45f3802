package servicemap

import (
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Counting returns the map as it is when what is in maintenance counts like everything else.
func (s *Snapshot) Counting() *Snapshot {
	if len(s.away.nodes) == 0 {
		return s
	}
	t := s.State()
	t.away = away{}
	for n := range s.away.nodes {
		for _, p := range s.graph.nodes[n].parents {
			t.dirty.push(p)
		}
	}
	t.Update(time.Time{})
	return t.Snapshot()
}

// Out returns the stretches of [from, to) in which the maintenance of what a service rests on would alone make it as bad as a level, or
// worse, were it out and everything else well; in order, without overlap.
func (g *Graph) Out(service manifest.Ref, level health.Level, from, to time.Time) []Span {
	start, ok := g.index[service]
	if !ok || len(g.works) == 0 {
		return nil
	}
	below := g.below(start)
	var works []*work
	spans := map[*work][]Span{}
	cuts := []time.Time{from, to}
	for k := range g.works {
		w := &g.works[k]
		if !slices.ContainsFunc(w.nodes, func(n int32) bool { return n != start && below[n] }) {
			continue
		}
		for a, b := range w.open.Spans(from, to) {
			spans[w] = append(spans[w], Span{a, b})
			cuts = append(cuts, a, b)
		}
		works = append(works, w)
	}
	slices.SortFunc(cuts, time.Time.Compare)
	cuts = slices.CompactFunc(cuts, time.Time.Equal)
	known := map[string]bool{}
	var out []Span
	for k := 0; k+1 < len(cuts); k++ {
		var now []*work
		for _, w := range works {
			if slices.ContainsFunc(spans[w], func(s Span) bool { return !cuts[k].Before(s.From) && cuts[k].Before(s.To) }) {
				now = append(now, w)
			}
		}
		if len(now) == 0 {
			continue
		}
		key := fmt.Sprint(refsOf(now))
		bad, asked := known[key]
		if !asked {
			bad = g.levelWithout(start, now) >= level
			known[key] = bad
		}
		switch n := len(out); {
		case !bad:
		case n > 0 && out[n-1].To.Equal(cuts[k]):
			out[n-1].To = cuts[k+1]
		default:
			out = append(out, Span{cuts[k], cuts[k+1]})
		}
	}
	return out
}

func refsOf(works []*work) (out []manifest.Ref) {
	for _, w := range works {
		out = append(out, w.ref)
	}
	return out
}

// levelWithout returns how bad a node is when what some maintenances work on is out and everything else is well.
func (g *Graph) levelWithout(node int32, works []*work) health.Level {
	g.wellOnce.Do(func() { g.well = NewState(g, Options{AssumeOK: true}).Snapshot() })
	s := g.well.State()
	var out []Signal
	for _, w := range works {
		for _, n := range w.nodes {
			out = append(out, Signal{Ref: g.nodes[n].ref, Source: "out", Range: health.Exactly(health.Critical)})
		}
	}
	s.Update(time.Time{}, out...)
	return s.result(node).Range.Low
}

// below returns a node and all that it rests on.
func (g *Graph) below(node int32) map[int32]bool {
	seen := map[int32]bool{node: true}
	for queue := []int32{node}; len(queue) > 0; queue = queue[1:] {
		for _, in := range g.nodes[queue[0]].inputs {
			if !seen[in.to] {
				seen[in.to] = true
				queue = append(queue, in.to)
			}
		}
	}
	return seen
}
