package recovery

import (
	"cmp"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Solution is an order of repair and what it costs. Costs are in the unit of the problem's rates and leave out what no repair
// ends.
type Solution struct {
	Steps []Step // by start
	// Cost is what is lost until the last part is mended.
	Cost manifest.Decimal
	// LowerBound is what no other order can go below; it is Cost where Exact.
	LowerBound manifest.Decimal
	// Exact says that no order costs less.
	Exact bool
	// FirstCome and Severity are the costs of mending what broke first, or what is worst, first.
	FirstCome, Severity manifest.Decimal
}

// Step is one repair; times are counted from the start.
type Step struct {
	Part       int
	Start, End time.Duration
}

// Solve finds an order of repair. It is the best one where one team mends up to 20 parts, mostly up to 22, or more whose
// loss is made of needs and falls into blocks of up to 20. Otherwise it is a good one, never worse than first come, first
// served or the worst first; of one team, needs alone and up to 1500 parts it is within twice the best. Errors tell of
// parts that take no time or wait for each other, and of losses out of range.
func Solve(p *Problem) (*Solution, error) {
	w, err := prepare(p)
	if err != nil {
		return nil, err
	}
	if len(w.parts) == 0 {
		return &Solution{Exact: true}, nil
	}
	order, bound, exact := w.order()
	steps := w.schedule(order)
	cost := w.price(steps)
	first, severe := w.schedule(w.sorted(bySince)), w.schedule(w.sorted(bySeverity))
	firstCost, severeCost := w.price(first), w.price(severe)
	if !exact {
		if firstCost.Cmp(&cost.Int) < 0 {
			steps, cost = first, firstCost
		}
		if severeCost.Cmp(&cost.Int) < 0 {
			steps, cost = severe, severeCost
		}
	}
	if !exact && bound.Cmp(&cost.Int) >= 0 {
		exact = true // it costs what no order can go below
	}
	out := &Solution{Cost: cost.decimal(false), FirstCome: firstCost.decimal(false), Severity: severeCost.decimal(false), Exact: exact}
	out.LowerBound = out.Cost
	if !exact {
		out.LowerBound = min(out.Cost, bound.decimal(true))
	}
	for _, s := range steps {
		out.Steps = append(out.Steps, Step{s.part, time.Duration(s.start) * w.unit, time.Duration(s.end) * w.unit})
	}
	return out, nil
}

// order returns an order for one team, a bound for the teams that there are, and whether the order is proven best; then
// there is no bound.
func (w *world) order() (order []int, bound *amount, exact bool) {
	base := NewSet(len(w.parts))
	one := w.teams == 1
	switch {
	case w.exactly(len(w.parts)):
		if order = w.exact(base, w.topo, 0); one {
			return order, nil, true
		}
	case w.additive() && len(w.parts) <= blocksUpTo:
		var ok bool
		if order, bound, exact, ok = w.byBlocks(alwaysUpTo); ok {
			if exact && one {
				return order, nil, true
			}
			if exact = false; !one {
				bound = nil
			}
			break
		}
		fallthrough
	default:
		order = w.search(base, w.topo, 0)
	}
	if other := w.bound(); bound == nil || other.Cmp(&bound.Int) > 0 {
		bound = other
	}
	return order, bound, false
}

// sorted returns the parts in another order; schedule keeps precedence all the same.
func (w *world) sorted(by func(a, b *Part) int) []int {
	order := make([]int, len(w.parts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return by(&w.parts[a], &w.parts[b]) })
	return order
}

func bySince(a, b *Part) int { return a.Since.Compare(b.Since) }

func bySeverity(a, b *Part) int {
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), a.Since.Compare(b.Since))
}
