// Package cause says what makes services bad: which nodes belong to a smallest set that, put right, makes a service
// better; which services each of them hits; and what that costs.
//
// It is pure and reads one snapshot. What is only unknown is never a cause: everything here takes the low end of a
// health, where missing data reads as ok.
package cause

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Cause is one node to which the badness of services goes back.
type Cause struct {
	Ref   manifest.Ref
	Level health.Level // the node's own; of a node that is bad by how it is built, its health
	// Services are those hit by it, sorted: each would get better, or come nearer to it, if the node were put right. Causes that hit the same
	// may share them: they are not to be changed.
	Services []manifest.Ref
	// Loss is what the services lose in an hour at their present health, each loss counted once, where it reaches the
	// business. AtRisk is what an hour of the same services is worth.
	Loss, AtRisk servicemap.Value
	// Partial says that beside it there may be causes that were not found.
	Partial bool
	// NotInMap says that Ref is a service that is bad while all its parts are well: what makes it bad is not in the map.
	NotInMap bool
	// Text says in a clause why the node is a cause: what is said of it, or that the cause is not in the map.
	Text string
}

// Report is what makes a map bad. Causes are ranked by Loss in Unit, then by AtRisk, then by level.
type Report struct {
	Causes []Cause
	// Unit is that in which the causes are compared: a currency, or points where money and points meet.
	Unit string
	// Unranked are services that are hit and have no value in Unit.
	Unranked []manifest.Ref
}

// PerHour returns the loss of a cause in the report's unit, as a decimal string.
func (r *Report) PerHour(c *Cause) string { return c.Loss.Text(r.Unit) }

// web is the part of the map along which badness comes up.
type web struct {
	snap  *servicemap.Snapshot
	up    map[manifest.Ref][]manifest.Ref // who blames a node
	leafs []manifest.Ref                  // that are to blame themselves
	seen  map[manifest.Ref]bool
	part  bool
	hits  map[manifest.Ref][]manifest.Ref // what hit returned
}

func trace(s *servicemap.Snapshot, from ...manifest.Ref) *web {
	w := &web{snap: s, up: map[manifest.Ref][]manifest.Ref{}, seen: map[manifest.Ref]bool{}, hits: map[manifest.Ref][]manifest.Ref{}}
	queue := slices.Clone(from)
	for _, ref := range queue {
		w.seen[ref] = true
	}
	for ; len(queue) > 0; queue = queue[1:] {
		ref := queue[0]
		inputs, itself, partial := s.Blame(ref)
		w.part = w.part || partial
		if itself {
			w.leafs = append(w.leafs, ref)
		}
		for _, in := range inputs {
			w.up[in] = append(w.up[in], ref)
			if !w.seen[in] {
				w.seen[in] = true
				queue = append(queue, in)
			}
		}
	}
	slices.Sort(w.leafs)
	return w
}

// hit returns the services that blame a node, directly or not, the node itself included; sorted. What is blamed by one node only hits the
// same as that, and shares the list with it.
func (w *web) hit(ref manifest.Ref) []manifest.Ref {
	if up := w.up[ref]; len(up) == 1 && ref.Kind() != "service" {
		ref = up[0]
	}
	services, known := w.hits[ref]
	if known {
		return services
	}
	defer func() { w.hits[ref] = services }()
	for at := range w.above(ref) {
		if at.Kind() == "service" {
			services = append(services, at)
		}
	}
	slices.Sort(services)
	return services
}

func (w *web) above(ref manifest.Ref) map[manifest.Ref]bool {
	seen := map[manifest.Ref]bool{ref: true}
	for queue := []manifest.Ref{ref}; len(queue) > 0; queue = queue[1:] {
		for _, up := range w.up[queue[0]] {
			if !seen[up] {
				seen[up] = true
				queue = append(queue, up)
			}
		}
	}
	return seen
}

// sum adds up values of services in one unit so that nothing is counted twice: a service is left out where a service
// above it that blames it counts already. Services without a value in the unit are left out too.
func (w *web) sum(services []manifest.Ref, unit string, value func(manifest.Ref) servicemap.Value) servicemap.Value {
	counts := make(map[manifest.Ref]servicemap.Value, len(services))
	var nothing, total servicemap.Value
	for _, s := range services {
		v := value(s)
		if n, ok := v.In(unit); ok && n > 0 {
			counts[s] = v
		} else if ok {
			nothing = v // to lose nothing is a rank too
		}
	}
	if len(counts) == 0 {
		return nothing
	}
	for _, s := range services {
		v, ok := counts[s]
		if !ok {
			continue
		}
		covered := false
		for up := range w.above(s) {
			if _, valued := counts[up]; valued && up != s {
				covered = true
				break
			}
		}
		if !covered {
			total = total.Plus(v)
		}
	}
	return total
}

// bad returns the services that are known to be worse than info, sorted. One in maintenance is as it was planned to be.
func bad(s *servicemap.Snapshot) []manifest.Ref {
	var out []manifest.Ref
	for _, ref := range s.Graph().Services() {
		if _, planned := s.Maintenance(ref); planned {
			continue
		}
		if r, _ := s.Range(ref); r.Low >= health.Warning {
			out = append(out, ref)
		}
	}
	return out
}

// Above returns, for every service that is hit, the services that blame it, directly or not, sorted. While one of those loses something,
// the loss of the service below is counted there and not beside it.
func Above(s *servicemap.Snapshot) map[manifest.Ref][]manifest.Ref {
	w := trace(s, bad(s)...)
	out := map[manifest.Ref][]manifest.Ref{}
	for ref := range w.seen {
		if ref.Kind() != "service" {
			continue
		}
		if up := slices.DeleteFunc(slices.Clone(w.hit(ref)), func(x manifest.Ref) bool { return x == ref }); len(up) > 0 {
			out[ref] = up
		}
	}
	return out
}

// Unit returns the unit in which what these services lose can be compared; where there are none, that of all services, so that
// a loss of nothing is told in the unit of the others.
func Unit(s *servicemap.Snapshot, services []manifest.Ref, at time.Time) string {
	if len(services) == 0 {
		services = s.Graph().Services()
	}
	values := make([]servicemap.Value, len(services))
	for i, x := range services {
		values[i] = s.Worth(x, at)
	}
	return servicemap.CommonUnit(values...)
}

// Find returns the causes of every bad service of a snapshot that is not in maintenance, valued as of a moment.
func Find(s *servicemap.Snapshot, at time.Time) Report { return find(s, at, bad(s)) }

// Of returns the causes of one node's badness; the services of each cause are those on the way to it.
func Of(s *servicemap.Snapshot, ref manifest.Ref, at time.Time) Report {
	if r, ok := s.Range(ref); !ok || r.Low < health.Warning {
		return Report{Unit: servicemap.UnitPoints}
	}
	return find(s, at, []manifest.Ref{ref})
}

func find(s *servicemap.Snapshot, at time.Time, roots []manifest.Ref) Report {
	w := trace(s, roots...)
	services := slices.DeleteFunc(slices.Sorted(maps.Keys(w.seen)), func(x manifest.Ref) bool { return x.Kind() != "service" })
	report := Report{Unit: Unit(s, services, at)}
	for _, x := range services {
		if _, ok := s.Worth(x, at).In(report.Unit); !ok {
			report.Unranked = append(report.Unranked, x)
		}
	}
	type both struct{ loss, atRisk servicemap.Value }
	sums := map[*manifest.Ref]both{} // by the list, which causes share that hit the same
	worth := func(services []manifest.Ref) (loss, atRisk servicemap.Value) {
		if len(services) == 0 {
			return loss, atRisk
		}
		b, known := sums[&services[0]]
		if !known {
			b.loss = w.sum(services, report.Unit, func(x manifest.Ref) servicemap.Value { return s.Loss(x, at) })
			b.atRisk = w.sum(services, report.Unit, func(x manifest.Ref) servicemap.Value { return s.Worth(x, at) })
			sums[&services[0]] = b
		}
		return b.loss, b.atRisk
	}
	for _, ref := range w.leafs {
		c := Cause{Ref: ref, Level: s.Own(ref).Low, Services: w.hit(ref), Partial: w.part}
		if c.Level == health.OK {
			r, _ := s.Range(ref)
			c.Level = r.Low
		}
		c.Text = s.Worst(ref)
		if c.NotInMap = s.NotInMap(ref); c.NotInMap {
			c.Text = s.NotInMapText(ref) + "; " + c.Text
		}
		if c.Text == "" {
			n, _ := s.Node(ref)
			c.Text = n.Why.Text
		}
		c.Loss, c.AtRisk = worth(c.Services)
		report.Causes = append(report.Causes, c)
	}
	number := func(v servicemap.Value) float64 {
		n, ok := v.In(report.Unit)
		if !ok {
			return -1
		}
		return n
	}
	slices.SortStableFunc(report.Causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(number(b.Loss), number(a.Loss)), cmp.Compare(number(b.AtRisk), number(a.AtRisk)),
			cmp.Compare(b.Level, a.Level), cmp.Compare(len(b.Services), len(a.Services)), cmp.Compare(a.Ref, b.Ref))
	})
	return report
}

// Impact returns the services that a node hits now: those whose badness goes back to it by the rules on the way. A node
// that is well, or whose failure is made good above it, hits none.
func Impact(s *servicemap.Snapshot, ref manifest.Ref) []manifest.Ref {
	var above []manifest.Ref
	for _, x := range s.Graph().ServicesAbove(ref) {
		if r, _ := s.Range(x); r.Low >= health.Warning {
			above = append(above, x)
		}
	}
	w := trace(s, above...)
	if !w.seen[ref] {
		return nil
	}
	return w.hit(ref)
}

// Hits answers Impact for many nodes of one snapshot: the map is traced once for all of them.
type Hits struct{ w *web }

// Trace traces a snapshot.
func Trace(s *servicemap.Snapshot) *Hits {
	var all []manifest.Ref
	for _, x := range s.Graph().Services() {
		if r, _ := s.Range(x); r.Low >= health.Warning {
			all = append(all, x)
		}
	}
	return &Hits{trace(s, all...)}
}

// Of returns the services that a node hits now, as Impact does. The list is not to be changed.
func (h *Hits) Of(ref manifest.Ref) []manifest.Ref {
	if !h.w.seen[ref] {
		return nil
	}
	return h.w.hit(ref)
}

// Loss returns what all services lose in an hour at their present health in one unit, each loss counted once.
func Loss(s *servicemap.Snapshot, unit string, at time.Time) servicemap.Value {
	services := bad(s)
	return trace(s, services...).sum(services, unit, func(x manifest.Ref) servicemap.Value { return s.Loss(x, at) })
}
