package recovery

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	// windowOf is how many parts next to each other are put into their best order at a time.
	windowOf = 12
	// passes bounds how often the windows are gone over.
	passes = 12
	// startsUpTo is the number of parts up to which each of them is tried as the first; the best few orders are improved.
	startsUpTo, improved = 60, 6
	// farthest is how often the time is halved that is looked ahead where hours change: from all of it on.
	farthest = 6
	// searchUpTo is the number of parts beyond which they are ranked once and left so.
	searchUpTo = 600
)

// bundles returns sets of parts that may end a loss together, without what comes before them.
func (w *world) bundles() []Set {
	if w.together != nil {
		return w.together
	}
	n := len(w.parts)
	var out []Set
	one := func(parts ...int) {
		s := NewSet(n)
		for _, i := range parts {
			s.Add(i)
		}
		out = append(out, s)
	}
	for i := range n {
		one(i)
	}
	for k := range w.needs {
		out = append(out, w.needs[k].set)
	}
	for k := range w.terms {
		t := &w.terms[k]
		if t.table == nil {
			one(t.parts...)
			continue
		}
		for _, p := range w.hull(t, func(all Set) float64 { return float64(w.work(all)) }) {
			one(t.pick(p.mask)...)
		}
	}
	w.together = out
	return out
}

// pick returns the parts at the positions of a mask.
func (t *term) pick(mask uint64) (parts []int) {
	for ; mask != 0; mask &= mask - 1 {
		parts = append(parts, t.parts[bits.TrailingZeros64(mask)])
	}
	return parts
}

// search orders the parts of a run as well as it can, base being mended at the start. Beside the greedy order it tries those
// that begin with one part each and go on greedily: of two parts one of which is enough, the better one may be that
// which others wait for, and no small change leads from one to the other.
func (w *world) search(base Set, run []int, start int64) []int {
	if len(run) > searchUpTo {
		return w.ranked(base, run)
	}
	begin := w.walk()
	base.Each(func(i int) { begin.mend(i) })
	cost := func(order []int) float64 {
		c := w.along(begin, order, start)
		begin.spoil(order...)
		return c
	}
	type try struct {
		order []int
		cost  float64
	}
	order := w.greedy(base, run, start, 0)
	tries := []try{{order, cost(order)}}
	if len(w.curves) > 1 {
		halves := farthest
		if len(run) > startsUpTo {
			halves /= 2
		}
		for ahead := w.total; ahead > 0 && ahead > w.total>>halves; ahead /= 2 {
			order := w.greedy(base, run, start, ahead)
			tries = append(tries, try{order, cost(order)})
		}
	}
	for _, first := range run {
		if len(run) > startsUpTo {
			break
		}
		var order, rest []int
		head := slices.Clone(base)
		for _, i := range run { // in the order of topo
			if w.closure[first].Has(i) && !base.Has(i) {
				order = append(order, i)
				head.Add(i)
			} else {
				rest = append(rest, i)
			}
		}
		order = append(order, w.greedy(head, rest, start, 0)...)
		tries = append(tries, try{order, cost(order)})
	}
	slices.SortStableFunc(tries, func(a, b try) int { return cmp.Compare(a.cost, b.cost) })
	most := improved
	if len(w.curves) > 1 {
		most *= 2 // there are twice as many ways to begin
	}
	tries = tries[:min(most, len(tries))]
	for k := range tries {
		tries[k].order = w.improve(base, tries[k].order, start)
		tries[k].cost = cost(tries[k].order)
	}
	return slices.MinFunc(tries, func(a, b try) int { return cmp.Compare(a.cost, b.cost) }).order
}

// greedy orders the parts of a run, base being mended: always the bundle, with all that comes before it, that ends most
// loss for each hour of work. What hours weigh is that of so much time ahead, from when the bundle would be mended; 0 leaves it aside.
func (w *world) greedy(base Set, run []int, start, ahead int64) []int {
	n := len(w.parts)
	inside := NewSet(n)
	for _, i := range run {
		inside.Add(i)
	}
	k := w.walk()
	base.Each(func(i int) { k.mend(i) })
	done := slices.Clone(base)
	var bundles []Set
	for _, s := range w.bundles() {
		all := NewSet(n)
		s.Each(func(i int) { all.Union(w.closure[i]) })
		for i := range all {
			all[i] &^= base[i]
		}
		if within(all, inside) && all.Len() > 0 {
			bundles = append(bundles, all)
		}
	}
	order := make([]int, 0, len(run))
	rest := make([]int, 0, len(run))
	var rates []int64
	for len(order) < len(run) {
		var best []int
		top := 0.0
		bundles = slices.DeleteFunc(bundles, func(s Set) bool {
			rest = rest[:0]
			work := int64(0)
			for x, word := range s {
				for word &^= done[x]; word != 0; word &= word - 1 {
					i := x<<6 | bits.TrailingZeros64(word)
					rest = append(rest, i)
					work += w.takes[i]
				}
			}
			if len(rest) == 0 {
				return true
			}
			rates = append(rates[:0], k.rate...)
			k.mend(rest...)
			gain := 0.0
			for c, r := range rates {
				if ended := float64(r - k.rate[c]); ended != 0 && ahead > 0 {
					gain += ended * w.weight(c, start+work, start+work+ahead) / float64(work)
				} else {
					gain += ended / float64(work)
				}
			}
			k.spoil(rest...)
			if best == nil || gain > top {
				best, top = append(best[:0], rest...), gain
			}
			return false
		})
		for _, i := range best {
			start += w.takes[i]
		}
		for _, i := range w.topo {
			if slices.Contains(best, i) {
				order = append(order, i)
				done.Add(i)
			}
		}
		k.mend(best...)
	}
	return order
}

// ranked orders the parts of a run, base being mended, by what each bundle would end for each hour of work if it were mended
// first.
func (w *world) ranked(base Set, run []int) []int {
	inside, done := slices.Clone(base), slices.Clone(base)
	for _, i := range run {
		inside.Add(i)
	}
	k := w.walk()
	base.Each(func(i int) { k.mend(i) })
	type rank struct {
		parts []int
		gain  float64
	}
	var ranks []rank
	for _, s := range w.bundles() {
		all := w.all(members(s))
		if !within(all, inside) {
			continue
		}
		for i := range all {
			all[i] &^= base[i]
		}
		if work := w.work(all); work > 0 {
			parts := members(all)
			before := sum(k.rate)
			k.mend(parts...)
			ranks = append(ranks, rank{parts, float64(before-sum(k.rate)) / float64(work)})
			k.spoil(parts...)
		}
	}
	slices.SortStableFunc(ranks, func(a, b rank) int { return cmp.Compare(b.gain, a.gain) })
	at := make([]int, len(w.parts))
	for k, i := range w.topo {
		at[i] = k
	}
	order := make([]int, 0, len(run))
	for _, r := range ranks {
		slices.SortFunc(r.parts, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
		for _, i := range r.parts {
			if !done.Has(i) {
				done.Add(i)
				order = append(order, i)
			}
		}
	}
	return order
}

func sum(rates []int64) (s int64) {
	for _, r := range rates {
		s += r
	}
	return s
}

// improve puts one window after the other of an order into its best order until no window gets better.
func (w *world) improve(base Set, order []int, start int64) []int {
	size := min(windowOf, len(order))
	order = slices.Clone(order)
	for range passes {
		better := false
		done, at := slices.Clone(base), start
		k := w.walk()
		base.Each(func(i int) { k.mend(i) })
		for from := 0; from+1 < len(order); from += max(1, size/2) {
			run := order[from:min(from+size, len(order))]
			next := w.exact(done, run, at)
			now := w.along(k, run, at)
			k.spoil(run...)
			// Less by more than what adding up in another order makes of it.
			if then := w.along(k, next, at); then < now-1e-12*max(now, -now) {
				copy(run, next)
				better = true
			}
			k.spoil(run...)
			for _, i := range run[:min(max(1, size/2), len(run))] {
				done.Add(i)
				k.mend(i)
				at += w.takes[i]
			}
		}
		if !better {
			break
		}
	}
	return order
}
