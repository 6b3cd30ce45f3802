package recovery

import (
	"cmp"
	"math"
	"slices"
)

// bound returns what no schedule can go below, for any loss, curves and number of teams: the greater one of two bounds.
//
// Reach: at any moment a need or term can have lost no more than is lost by the sets of its parts that can be mended until
// then, each by itself, as if nothing else had to be mended.
//
// Work: until a moment, teams that never pause have done so much work; see division.
func (w *world) bound() *amount {
	best := w.reach()
	if b := w.byWork(); b.Cmp(&best.Int) > 0 {
		best = b
	}
	return best
}

// point is an option with the work that it takes.
type point struct {
	option
	work float64
}

// option is a set of a term's parts that ends more than it would without any one of them.
type option struct {
	mask  uint64
	all   Set // with all that comes before
	saves int64
}

// options returns those sets of a term's parts that are worth a thought: what any other set ends, one of these ends that
// is in it.
func (w *world) options(t *term) []option {
	if t.options != nil {
		return t.options
	}
	t.options = []option{}
	for mask, rate := range t.table {
		needed := rate < t.first
		for rest := uint64(mask); rest != 0 && needed; rest &= rest - 1 {
			needed = t.table[uint64(mask)&^(rest&-rest)] > rate
		}
		if needed {
			t.options = append(t.options, option{uint64(mask), w.all(t.pick(uint64(mask))), t.first - rate})
		}
	}
	return t.options
}

// hull returns those sets of a term's parts that end most for their work, by rising work and falling ratio: what any set
// ends is on or below the line through them, which begins at nothing.
func (w *world) hull(t *term, work func(all Set) float64) []point {
	all := make([]point, 0, len(w.options(t)))
	for _, o := range t.options {
		all = append(all, point{o, work(o.all)})
	}
	slices.SortFunc(all, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.work, b.work), cmp.Compare(b.saves, a.saves), cmp.Compare(a.mask, b.mask))
	})
	out := []point{}
	last := func(k int) point {
		if len(out) < k {
			return point{}
		}
		return out[len(out)-k]
	}
	for _, p := range all {
		if p.saves <= last(1).saves {
			continue
		}
		for len(out) > 0 {
			a, b := last(2), last(1)
			if float64(b.saves-a.saves)*(p.work-b.work) > float64(p.saves-b.saves)*(b.work-a.work) {
				break
			}
			out = out[:len(out)-1]
		}
		out = append(out, p)
	}
	return out
}

// soonest returns the earliest moment at which a set can be mended that holds all that comes before its parts: no team does
// two things at once, and what comes before something is not done beside it.
func (w *world) soonest(all Set) int64 {
	if w.teams == 1 {
		return w.work(all)
	}
	load := map[string]int64{}
	chain := make([]int64, len(w.parts))
	var most int64
	for _, i := range w.topo {
		if !all.Has(i) {
			continue
		}
		w.before[i].Each(func(b int) { chain[i] = max(chain[i], chain[b]) })
		chain[i] += w.takes[i]
		load[w.parts[i].Team] += w.takes[i]
		most = max(most, chain[i], load[w.parts[i].Team])
	}
	return most
}

// all returns parts with what comes before them.
func (w *world) all(parts []int) Set {
	s := NewSet(len(w.parts))
	for _, i := range parts {
		s.Union(w.closure[i])
	}
	return s
}

func (w *world) reach() *amount {
	x := new(amount)
	for k := range w.needs {
		n := &w.needs[k]
		x.add(n.rate, w.weighted(n.curve, 0, w.soonest(w.all(n.parts))))
	}
	for k := range w.terms {
		t := &w.terms[k]
		type moment struct{ at, rate int64 }
		moments := []moment{{0, t.first}}
		if t.table == nil {
			// Of what was not written out only this is known: it stays until a part is mended, and is never below 0.
			first := int64(math.MaxInt64)
			for _, i := range t.parts {
				first = min(first, w.soonest(w.closure[i]))
			}
			moments = append(moments, moment{first, 0})
		} else {
			for _, o := range w.options(t) {
				moments = append(moments, moment{w.soonest(o.all), t.first - o.saves})
			}
		}
		slices.SortFunc(moments, func(a, b moment) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.rate, a.rate)) })
		for i, rate := 0, t.first; i < len(moments); i++ {
			rate = min(rate, moments[i].rate)
			until := w.total
			if i+1 < len(moments) {
				until = moments[i+1].at
			}
			x.add(rate-t.last, w.weighted(t.curve, moments[i].at, until))
		}
	}
	return x
}
