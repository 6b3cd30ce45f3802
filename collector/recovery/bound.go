package recovery

import (
	"cmp"
	"math"
	"math/big"
	"math/bits"
	"slices"
)

// bound returns what no schedule can go below, for any loss, curve and number of teams: the greater one of two bounds.
//
// Reach: at any moment a need or term can have lost no more than is lost by the sets of its parts that can be mended until
// then, each by itself, as if nothing else had to be mended.
//
// Work: until a moment, teams that never pause have done so much work. Each part's work is divided among the needs and
// terms that it counts for, so that what a set of them takes, each by itself, is no more than what it really takes; the
// most that can have ended then comes of taking those first that end most for each hour. It is for one value at all hours.
func (w *world) bound() *amount {
	best := w.reach()
	if len(w.curves) == 1 {
		for _, share := range []func(rate float64, work int64) float64{
			func(float64, int64) float64 { return 1 },
			func(rate float64, work int64) float64 { return math.Sqrt(rate / float64(work)) },
			func(rate float64, work int64) float64 { return rate / float64(work) },
		} {
			if b := w.byWork(share); b.Cmp(&best.Int) > 0 {
				best = b
			}
		}
	}
	return best
}

// point is what a set of a term's parts ends, and the work that it takes.
type point struct {
	mask  uint64
	work  float64
	saves int64
}

// closed returns, by mask of a term's positions, these parts with all that comes before them.
func (w *world) closed(t *term) []Set {
	if t.closed == nil {
		t.closed = make([]Set, len(t.table))
		t.closed[0] = NewSet(len(w.parts))
		for s := 1; s < len(t.table); s++ {
			t.closed[s] = slices.Clone(t.closed[s&(s-1)])
			t.closed[s].Union(w.closure[t.parts[bits.TrailingZeros(uint(s))]])
		}
	}
	return t.closed
}

// hull returns those sets of a term's parts that end most for their work, by rising work and falling ratio: what any set
// ends is on or below the line through them, which begins at nothing.
func (w *world) hull(t *term, work func(all Set) float64) []point {
	closed := w.closed(t)
	all := make([]point, 0, len(t.table))
	for mask := range t.table {
		if saves := t.first - t.table[mask]; saves > 0 {
			all = append(all, point{uint64(mask), work(closed[mask]), saves})
		}
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

// soonest returns the earliest moment at which a set can be mended together with what comes before: no team does two things at once, and
// what comes before something is not done beside it.
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
			for s, all := range w.closed(t) {
				if t.table[s] < t.first {
					moments = append(moments, moment{w.soonest(all), t.table[s]})
				}
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

// byWork is the bound by work, with a part's work divided among what it counts for in proportion to share, which is told
// what the need or term can end and the work that this takes. It errs on the low side.
func (w *world) byWork(share func(rate float64, work int64) float64) *amount {
	var sums float64 // what is lost at the start
	type user struct {
		all   Set // the parts that it rests on
		share float64
	}
	users := make([]user, 0, len(w.needs)+len(w.terms))
	total := make([]float64, len(w.parts))
	add := func(parts []int, rate int64) {
		u := user{all: w.all(parts)}
		u.share = share(float64(max(rate, 1)), max(w.work(u.all), 1))
		u.all.Each(func(i int) { total[i] += u.share })
		users = append(users, u)
	}
	for k := range w.needs {
		add(w.needs[k].parts, w.needs[k].rate)
		sums += float64(w.needs[k].rate)
	}
	for k := range w.terms {
		t := &w.terms[k]
		add(t.parts, t.first)
		sums += float64(t.first - t.last)
	}
	part := func(u *user, all Set) (work float64) {
		all.Each(func(i int) { work += float64(w.takes[i]) * u.share / total[i] })
		return work
	}
	type piece struct{ work, saves float64 }
	var pieces []piece
	for k := range w.needs {
		pieces = append(pieces, piece{part(&users[k], users[k].all), float64(w.needs[k].rate)})
	}
	for k := range w.terms {
		t, u := &w.terms[k], &users[len(w.needs)+k]
		if t.table == nil {
			least := math.Inf(1)
			for _, i := range t.parts {
				least = min(least, part(u, w.closure[i]))
			}
			pieces = append(pieces, piece{least, float64(t.first)})
			continue
		}
		from := point{}
		for _, p := range w.hull(t, func(all Set) float64 { return part(u, all) }) {
			pieces = append(pieces, piece{p.work - from.work, float64(p.saves - from.saves)})
			from = p
		}
	}
	slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(b.saves*a.work, a.saves*b.work) })
	end := float64(w.total) * float64(w.teams)
	var at, area float64 // of what has ended, over work
	var ended float64
	for _, p := range pieces {
		d := min(p.work, end-at)
		if d > 0 && p.work > 0 {
			area += ended*d + p.saves*d/p.work*d/2
			at += d
		}
		ended += p.saves
	}
	area += ended * max(0, end-at)
	cost := (sums*end - area) / float64(w.teams)
	cost -= 1e-9 * (math.Abs(sums)*end + math.Abs(area)) / float64(w.teams)
	x := new(amount)
	f := new(big.Float).SetFloat64(cost)
	f.Mul(f, new(big.Float).SetInt64(int64(w.unit)))
	f.Int(&x.Int)
	if x.Sign() < 0 {
		x.Sub(&x.Int, big.NewInt(1)) // cut off towards 0
	}
	return x
}
