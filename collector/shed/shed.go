// Package shed chooses what goes without, when a resource is short: the least expected loss for what has to be freed.
//
// It knows units with a demand, a floor and a loss, and nothing of hosts, services or actions. It is pure, it never takes
// anything below its floor, and it decides nothing that is not asked: whether anything may be taken at all is the
// business of collector/remedy.
//
// Source: reference/business-model.md 3.12. One resource and units that can be squeezed to any degree: greedy by loss for
// what is freed is best. Units that go as a whole make it a knapsack: exact by branch and bound for up to MaxExact of them.
package shed

import (
	"cmp"
	"slices"
)

// Unit is something that uses the resource.
type Unit struct {
	// Free is how much of the resource is freed when the unit goes without everything above its floor, at least 0.
	Free float64
	// Loss is what that costs, at least 0. A unit that is squeezed by half of that loses half.
	Loss float64
	// Whole says that it goes entirely or not at all.
	Whole bool
}

// MaxExact is up to how many whole units an answer is exact.
const MaxExact = 30

// Answer is what goes without.
type Answer struct {
	// Share is, by unit, how much of what it could free it does free, from 0 to 1.
	Share []float64
	Freed float64
	Loss  float64
	// Enough says that it is as much as is needed; where it is not, everything goes.
	Enough bool
	// Exact says that no other choice loses less.
	Exact bool
}

// Order returns the units by what they lose for what they free, the cheapest first; of equals the one that frees more,
// then the one that comes first. Units that free nothing are left out.
func Order(units []Unit) []int {
	var out []int
	for i, u := range units {
		if u.Free > 0 {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int {
		x, y := units[a], units[b]
		return cmp.Or(cmp.Compare(x.Loss*y.Free, y.Loss*x.Free), cmp.Compare(y.Free, x.Free))
	})
	return out
}

// Solve frees need of the resource with the least loss.
func Solve(units []Unit, need float64) Answer {
	s := &search{units: units, order: Order(units), best: Answer{Share: make([]float64, len(units))}}
	total, whole := 0.0, 0
	for _, i := range s.order {
		total += units[i].Free
		if units[i].Whole {
			whole++
		}
	}
	if need <= 0 {
		s.best.Enough, s.best.Exact = true, true
		return s.best
	}
	if total < need {
		for _, i := range s.order {
			s.best.Share[i] = 1
			s.best.Freed += units[i].Free
			s.best.Loss += units[i].Loss
		}
		s.best.Exact = true
		return s.best
	}
	// The whole units are decided in the order of Order, and the others fill up what is left.
	for _, i := range s.order {
		if units[i].Whole {
			s.whole = append(s.whole, i)
		}
	}
	s.share = make([]float64, len(units))
	s.exact = whole <= MaxExact
	s.decide(0, need, 0)
	s.best.Exact = s.exact
	return s.best
}

// search is a branch and bound over the whole units.
type search struct {
	units []Unit
	order []int // all
	whole []int // of order
	share []float64
	found bool
	exact bool
	best  Answer
}

// decide takes or leaves the whole units from k on; need is what is still to be freed and loss what was lost so far.
func (s *search) decide(k int, need, loss float64) {
	bound, enough := s.relaxed(k, need)
	if !enough || s.found && loss+bound >= s.best.Loss {
		return
	}
	if need <= 0 || k == len(s.whole) {
		s.finish(need, loss)
		return
	}
	i := s.whole[k]
	s.share[i] = 1
	s.decide(k+1, need-s.units[i].Free, loss+s.units[i].Loss)
	s.share[i] = 0
	// Beyond MaxExact the first way down that holds is taken: greedy, at most one unit too many.
	if s.exact || !s.found {
		s.decide(k+1, need, loss)
	}
}

// relaxed is the least loss of freeing need with the units that are still open, if whole ones could be squeezed too.
func (s *search) relaxed(k int, need float64) (loss float64, enough bool) {
	open := 0 // of whole, in order
	for _, i := range s.order {
		if need <= 0 {
			break
		}
		u := s.units[i]
		if u.Whole {
			if open++; open <= k {
				continue
			}
		}
		part := min(1, need/u.Free)
		loss += part * u.Loss
		need -= part * u.Free
	}
	return loss, need <= tiny
}

// finish fills up with the units that can be squeezed, and keeps what is better than everything before.
func (s *search) finish(need, loss float64) {
	a := Answer{Share: slices.Clone(s.share), Loss: loss, Enough: true}
	for _, i := range s.order {
		u := s.units[i]
		if need <= 0 {
			break
		}
		if u.Whole {
			continue
		}
		part := min(1, need/u.Free)
		a.Share[i] = part
		a.Loss += part * u.Loss
		need -= part * u.Free
	}
	if need > tiny || s.found && a.Loss >= s.best.Loss {
		return
	}
	for i, u := range s.units {
		a.Freed += a.Share[i] * u.Free
	}
	s.best, s.found = a, true
}

// tiny is what rounding may leave of a need.
const tiny = 1e-9
