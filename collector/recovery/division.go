package recovery

import (
	"cmp"
	"math"
	"math/big"
	"slices"
)

// rounds is how often the division of work is made better.
const rounds = 48

// division divides each part's work among the needs and terms that it counts for: its users. What some of them take, each
// by itself, is then together no more than what mending them really takes, since no share is counted twice. So the most
// that can have ended, when teams that never pause have done so much work, comes of taking first what ends most for
// an hour of work, in fractions: that holds for every division, and gives a bound for each.
type division struct {
	w     *world
	users []user
	sums  float64 // what is lost an hour at the start
}

type user struct {
	term  *term // nil of a need
	saves int64 // of a need, or the most that a term that was not written out can end
	all   []int // the parts that it counts on
	share []float64
	set   Set
}

// stretch is work of one user, from one of its options to the next, at which a loss ends evenly.
type stretch struct {
	user     int
	from, to Set
	work     float64
	saves    float64
}

func (w *world) divide() *division {
	d := &division{w: w}
	add := func(u user, parts []int) {
		u.set = w.all(parts)
		u.all = members(u.set)
		u.share = make([]float64, len(u.all))
		d.users = append(d.users, u)
	}
	for k := range w.needs {
		add(user{saves: w.needs[k].rate}, w.needs[k].parts)
		d.sums += float64(w.needs[k].rate)
	}
	for k := range w.terms {
		t := &w.terms[k]
		// Of what was not written out only this is known: nothing ends before a part is mended, and it is never below 0.
		add(user{term: t, saves: t.first}, t.parts)
		d.sums += float64(t.first - t.last)
	}
	return d
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

// stretches lists what each user does with its work, the most useful first.
func (d *division) stretches() []stretch {
	shares := make([]float64, len(d.w.parts))
	work := func(all Set) (sum float64) {
		all.Each(func(i int) { sum += float64(d.w.takes[i]) * shares[i] })
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
			out = append(out, stretch{k, none, u.set, work(u.set), float64(u.saves)})
		case u.term.table == nil:
			least := stretch{user: k, work: math.Inf(1)}
			for _, i := range u.term.parts {
				if x := work(d.w.closure[i]); x < least.work {
					least = stretch{k, none, d.w.closure[i], x, float64(u.saves)}
				}
			}
			out = append(out, least)
		default:
			from := point{option: option{all: none}}
			for _, p := range d.w.hull(u.term, work) {
				out = append(out, stretch{k, from.all, p.all, p.work - from.work, float64(p.saves - from.saves)})
				from = p
			}
		}
	}
	slices.SortStableFunc(out, func(a, b stretch) int { return cmp.Compare(b.saves*a.work, a.saves*b.work) })
	return out
}

// cost returns the bound of a division, in rates times units of time, and how much more it would be for each unit of
// work that a stretch took longer.
func (d *division) cost(order []stretch) (cost float64, more []float64) {
	teams := float64(d.w.teams)
	end := float64(d.w.total) * teams
	more = make([]float64, len(order))
	var at, area, ended float64
	for k, s := range order {
		more[k] = max(0, d.sums-ended-s.saves/2)
		if x := min(s.work, end-at); x > 0 {
			area += ended*x + s.saves*x/s.work*x/2
			at += x
		}
		ended += s.saves
	}
	area += ended * max(0, end-at)
	// What adding up may have lost is taken off.
	return (d.sums*end - area - 1e-9*(math.Abs(d.sums)*end+math.Abs(area))) / teams, more
}

// shift gives users more of a part the more the bound gains by it.
func (d *division) shift(order []stretch, more []float64, by float64) {
	gain := make([][]float64, len(d.users))
	at := make([]int, len(d.w.parts))
	for k, s := range order {
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
	for round := range rounds {
		order := d.stretches()
		cost, more := d.cost(order)
		best = max(best, cost)
		d.shift(order, more, 2/math.Sqrt(float64(round+1)))
	}
	x := new(amount)
	f := new(big.Float).SetFloat64(best)
	f.Mul(f, new(big.Float).SetInt64(int64(w.unit)))
	f.Int(&x.Int)
	if x.Sign() < 0 {
		x.Sub(&x.Int, big.NewInt(1)) // cut off towards 0
	}
	return x
}
