package recovery

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"time"
)

const (
	// rounds is how often the division of work is made better, at most.
	rounds = 48
	// steps bounds what is gone through for it, in stretches and moments.
	steps = 3e7
)

// division divides each part's work among the needs and terms that it counts for: its users. What some of them take, each
// by itself, is then together no more than what mending them really takes, since no share is counted twice. So the most
// that can have ended at a moment, when teams that never pause have done so much work, comes of taking first what ends most at that moment
// for an hour of work, in fractions, of what can have ended by then at all: that holds for every division, and gives a bound for each.
type division struct {
	w     *world
	users []user
	base  []float64  // by curve, what is lost an hour at the start
	spans []interval // from the start until all is mended
	// factors are the different ones of spans, by curve.
	factors [][]float64
}

type user struct {
	term  *term // nil of a need
	saves int64 // of a need, or the most that a term that was not written out can end
	curve int
	all   []int // the parts that it counts on
	share []float64
	set   Set
	reach []moment // by what ends, falling
}

// moment is the earliest one at which as much as this, or more, can have ended.
type moment struct {
	saves int64
	at    time.Duration
}

// interval is a span of time in which no factor changes.
type interval struct {
	from, to time.Duration
	factors  int
}

// stretch is work of one user, from one of its options to the next, at which a loss ends evenly.
type stretch struct {
	user     int
	curve    int
	from, to Set
	work     float64 // in nanoseconds
	saves    float64
	ready    time.Duration // before, nothing of it can have ended
}

func (w *world) divide() *division {
	d := &division{w: w, base: make([]float64, len(w.curves))}
	add := func(u user, parts []int, base int64) {
		u.set = w.all(parts)
		u.all = members(u.set)
		u.share = make([]float64, len(u.all))
		u.reach = w.reachOf(&u)
		d.users = append(d.users, u)
		d.base[u.curve] += float64(base)
	}
	for k := range w.needs {
		n := &w.needs[k]
		add(user{saves: n.rate, curve: n.curve}, n.parts, n.rate)
	}
	for k := range w.terms {
		t := &w.terms[k]
		// Of what was not written out only this is known: nothing ends before a part is mended, and it is never below 0.
		add(user{term: t, saves: t.first, curve: t.curve}, t.parts, t.first-t.last)
	}
	d.cut()
	return d
}

// reachOf lists when a user can have ended how much.
func (w *world) reachOf(u *user) []moment {
	var out []moment
	switch {
	case u.term == nil:
		out = []moment{{u.saves, w.span(w.soonest(u.set))}}
	case u.term.table == nil:
		first := int64(math.MaxInt64)
		for _, i := range u.term.parts {
			first = min(first, w.soonest(w.closure[i]))
		}
		out = []moment{{u.saves, w.span(first)}}
	default:
		for _, o := range w.options(u.term) {
			out = append(out, moment{o.saves, w.span(w.soonest(o.all))})
		}
	}
	slices.SortFunc(out, func(a, b moment) int { return cmp.Or(cmp.Compare(b.saves, a.saves), cmp.Compare(a.at, b.at)) })
	for k := 1; k < len(out); k++ {
		out[k].at = min(out[k].at, out[k-1].at)
	}
	return out
}

// span returns units of time as time.
func (w *world) span(units int64) time.Duration { return time.Duration(units) * w.unit }

// above returns the earliest moment at which more than so much can have ended.
func (u *user) above(saves int64) time.Duration {
	k, _ := slices.BinarySearchFunc(u.reach, saves, func(m moment, s int64) int {
		if m.saves > s {
			return -1
		}
		return 1
	})
	if k == 0 {
		return math.MaxInt64
	}
	return u.reach[k-1].at
}

// cut cuts the time of the repairs where factors change, and where something more can have ended, unless these moments are too many; then
// some are left out, and what can end then can a little earlier.
func (d *division) cut() {
	w := d.w
	end := w.span(w.total)
	moments := []time.Duration{0, end}
	for _, c := range w.curves {
		if c != nil {
			moments = append(moments, c.Changes(end)...)
		}
	}
	var ready []time.Duration
	for k := range d.users {
		for _, m := range d.users[k].reach {
			ready = append(ready, m.at)
		}
	}
	slices.Sort(ready)
	ready = slices.Compact(ready)
	most := max(1, int(steps/rounds)/max(len(d.users), 1))
	for k, every := 0, 1+len(ready)/most; k < len(ready); k += every {
		moments = append(moments, ready[k])
	}
	slices.Sort(moments)
	moments = slices.Compact(moments)
	for k := 0; k+1 < len(moments) && moments[k] < end; k++ {
		from, to := moments[k], min(moments[k+1], end)
		f := make([]float64, len(w.curves))
		for c, curve := range w.curves {
			f[c] = 1
			if curve != nil {
				f[c] = float64(curve.Weighted(from, to)) / float64(to-from)
			}
		}
		n := slices.IndexFunc(d.factors, func(have []float64) bool { return slices.Equal(have, f) })
		if n < 0 {
			n = len(d.factors)
			d.factors = append(d.factors, f)
		}
		d.spans = append(d.spans, interval{from, to, n})
	}
}

// even makes the shares of each part add up to one.
func (d *division) even() {
	total := make([]float64, len(d.w.parts))
	for k := range d.users {
		for at, i := range d.users[k].all {
			total[i] += d.users[k].share[at]
		}
	}
	for k := range d.users {
		for at, i := range d.users[k].all {
			d.users[k].share[at] /= total[i]
		}
	}
}

// stretches lists what each user does with its work.
func (d *division) stretches() []stretch {
	shares := make([]float64, len(d.w.parts))
	work := func(all Set) (sum float64) {
		all.Each(func(i int) { sum += float64(d.w.span(d.w.takes[i])) * shares[i] })
		return sum
	}
	none := NewSet(len(d.w.parts))
	var out []stretch
	for k := range d.users {
		u := &d.users[k]
		for at, i := range u.all {
			shares[i] = u.share[at]
		}
		switch {
		case u.term == nil:
			out = append(out, stretch{k, u.curve, none, u.set, work(u.set), float64(u.saves), u.above(0)})
		case u.term.table == nil:
			least := stretch{user: k, work: math.Inf(1)}
			for _, i := range u.term.parts {
				if x := work(d.w.closure[i]); x < least.work {
					least = stretch{k, u.curve, none, d.w.closure[i], x, float64(u.saves), u.above(0)}
				}
			}
			out = append(out, least)
		default:
			from := point{option: option{all: none}}
			for _, p := range d.w.hull(u.term, work) {
				out = append(out, stretch{k, u.curve, from.all, p.all, p.work - from.work, float64(p.saves - from.saves), u.above(from.saves)})
				from = p
			}
		}
	}
	return out
}

// orders returns the stretches by what they end for their work, for each of the factors.
func (d *division) orders(list []stretch) [][]int {
	out := make([][]int, len(d.factors))
	for n, f := range d.factors {
		for k := range list {
			if f[list[k].curve] > 0 && list[k].saves > 0 {
				out[n] = append(out[n], k)
			}
		}
		slices.SortStableFunc(out[n], func(a, b int) int {
			x, y := &list[a], &list[b]
			return cmp.Compare(y.saves*f[y.curve]*x.work, x.saves*f[x.curve]*y.work)
		})
	}
	return out
}

// cost returns the bound of a division, in rates times nanoseconds, and how much more it would be for each unit of
// work that a stretch took longer.
func (d *division) cost(list []stretch) (cost float64, more []float64) {
	teams := float64(d.w.teams)
	orders := d.orders(list)
	more = make([]float64, len(list))
	type taken struct {
		k       int
		by, own float64 // what it costs those before it, and itself, to take longer
	}
	var all []taken
	var lost float64
	for _, s := range d.spans {
		f := d.factors[s.factors]
		begin, end := teams*float64(s.from), teams*float64(s.to)
		var rate, at, ended, area float64
		for c, b := range d.base {
			rate += b * f[c]
		}
		all = all[:0]
		for _, k := range orders[s.factors] {
			x := &list[k]
			if x.ready >= s.to {
				continue
			}
			value := x.saves * f[x.curve]
			one := taken{k: k}
			if lo, hi := max(at, begin), min(at+x.work, end); hi > lo {
				half := (lo + hi) / 2
				area += (ended + value*(half-at)/x.work) * (hi - lo)
				one.by = value / x.work * (hi - lo)
				one.own = one.by * (half - at) / x.work
			}
			all = append(all, one)
			at, ended = at+x.work, ended+value
			if at >= end {
				break
			}
		}
		area += ended * max(0, end-max(at, begin))
		cost += rate*(end-begin) - area
		lost += math.Abs(rate)*(end-begin) + math.Abs(area)
		behind := 0.0
		for n := len(all) - 1; n >= 0; n-- {
			more[all[n].k] += behind + all[n].own
			behind += all[n].by
		}
	}
	// What adding up may have lost is taken off.
	return (cost - 1e-9*lost) / teams, more
}

// shift gives users more of a part the more the bound gains by it.
func (d *division) shift(list []stretch, more []float64, by float64) {
	gain := make([][]float64, len(d.users))
	at := make([]int, len(d.w.parts))
	for k, s := range list {
		u := &d.users[s.user]
		if gain[s.user] == nil {
			gain[s.user] = make([]float64, len(u.all))
		}
		for x, i := range u.all {
			at[i] = x
		}
		s.to.Each(func(i int) { gain[s.user][at[i]] += more[k] })
		s.from.Each(func(i int) { gain[s.user][at[i]] -= more[k] })
	}
	most := make([]float64, len(d.w.parts))
	for k := range d.users {
		for x, i := range d.users[k].all {
			if gain[k] != nil {
				most[i] = max(most[i], math.Abs(gain[k][x]))
			}
		}
	}
	for k := range d.users {
		for x, i := range d.users[k].all {
			if gain[k] != nil && most[i] > 0 {
				d.users[k].share[x] *= math.Exp(by * gain[k][x] / most[i])
			}
			// Nobody is given nothing for good.
			d.users[k].share[x] = max(d.users[k].share[x], 1e-9)
		}
	}
	d.even()
}

// byWork is the bound by work: the greatest of those of some divisions, beginning with shares as large as what can end.
func (w *world) byWork() *amount {
	d := w.divide()
	for k := range d.users {
		u := &d.users[k]
		for x := range u.share {
			u.share[x] = float64(max(u.saves, 1))
		}
	}
	d.even()
	best := math.Inf(-1)
	for round, left := 0, steps; round < rounds && left > 0; round++ {
		list := d.stretches()
		cost, more := d.cost(list)
		best = max(best, cost)
		d.shift(list, more, 2/math.Sqrt(float64(round+1)))
		left -= float64(len(list)) * float64(len(d.spans))
	}
	x := new(amount)
	new(big.Float).SetFloat64(best).Int(&x.Int)
	if x.Sign() < 0 {
		x.Sub(&x.Int, big.NewInt(1)) // cut off towards 0
	}
	return x
}
