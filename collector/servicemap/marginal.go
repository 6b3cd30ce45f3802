package servicemap

import (
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Marginal returns, for each of the parts, what an hour without it alone would cost the business: the loss with that part
// critical less the loss with every part well, everything else being as it is. The parts in out count as critical in both.
// So a spare replica costs nothing, the last one costs its service, and what many rest on costs what rests on it; a loss
// that reaches several services on the way up is counted at the topmost. A part on which nothing with a value rests is
// unranked, and so is what is not on the map.
//
// Source: the marginal loss of reference/business-model.md 3.12, l = L(without) - L(now), with "now" as it will be when
// what competes on one host no longer does.
func (s *Snapshot) Marginal(parts, out []manifest.Ref, at time.Time) []Value {
	losses := make([]Value, len(parts))
	known := func(ref manifest.Ref) bool { return s.graph.Has(ref) }
	var mine []manifest.Ref
	for _, ref := range parts {
		if known(ref) {
			mine = append(mine, ref)
		}
	}
	held := slices.DeleteFunc(slices.Clone(out), func(ref manifest.Ref) bool { return !known(ref) || slices.Contains(mine, ref) })
	if len(mine) == 0 {
		return losses
	}
	all := slices.Concat(mine, held)
	t := s.Trial(all, nil)
	for i := range all {
		if i < len(mine) {
			t.Put(i, true)
		} else {
			t.set(i, health.Exactly(health.Critical))
		}
	}
	well := make([]health.Level, t.Len())
	for k := range well {
		well[k] = t.Level(k)
	}
	for i, ref := range parts {
		k := slices.Index(mine, ref)
		total := s.graph.Value(ref, at)
		if k < 0 || !total.Ranked {
			continue
		}
		total.Money, total.Points = 0, 0
		t.set(k, health.Exactly(health.Critical))
		for _, more := range s.graph.added(t, well, at) {
			total = total.Plus(more)
		}
		losses[i] = total
		t.Put(k, true)
	}
	return losses
}

// added returns what is lost over what was lost at the levels before, each loss at the topmost service that it reaches.
func (g *Graph) added(t *Trial, before []health.Level, at time.Time) []Value {
	var worse []int32
	more := map[int32]Value{}
	for k := range before {
		ref := t.Ref(k)
		if t.Level(k) <= before[k] || ref.Kind() != "service" {
			continue
		}
		then, was := g.LossAt(ref, t.Level(k), at), g.LossAt(ref, before[k], at)
		if !then.Ranked {
			continue
		}
		then.Money -= was.Money
		then.Points -= was.Points
		i := g.index[ref]
		more[i] = then
		worse = append(worse, i)
	}
	var out []Value
	for _, i := range g.topmost(worse) {
		out = append(out, more[i])
	}
	return out
}
