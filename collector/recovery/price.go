package recovery

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// walker mends one part after the other and knows what is lost an hour meanwhile, net of what no repair ends.
type walker struct {
	w      *world
	left   []int32 // by need: parts still broken
	mended []Set   // by term, its own positions
	now    []int64 // by term
	rate   []int64 // by curve
	seen   []int32 // by term: the last round in which it was asked
	round  int32
	asked  []int32
}

func (w *world) walk() *walker {
	k := &walker{
		w: w, left: make([]int32, len(w.needs)), mended: make([]Set, len(w.terms)), now: make([]int64, len(w.terms)),
		rate: make([]int64, len(w.curves)), seen: make([]int32, len(w.terms)),
	}
	for i := range w.needs {
		k.left[i] = int32(len(w.needs[i].parts))
		k.rate[w.needs[i].curve] += w.needs[i].rate
	}
	for i := range w.terms {
		t := &w.terms[i]
		k.mended[i] = NewSet(len(t.parts))
		k.now[i] = t.first
		k.rate[t.curve] += t.first - t.last
	}
	return k
}

// mend mends parts, none of which is mended yet.
func (k *walker) mend(parts ...int) { k.change(parts, false) }

// spoil takes mend back.
func (k *walker) spoil(parts ...int) { k.change(parts, true) }

func (k *walker) change(parts []int, back bool) {
	w := k.w
	k.round++
	k.asked = k.asked[:0]
	for _, i := range parts {
		for _, x := range w.needsOf[i] {
			n := &w.needs[x]
			if back {
				if k.left[x] == 0 {
					k.rate[n.curve] += n.rate
				}
				k.left[x]++
				continue
			}
			if k.left[x]--; k.left[x] == 0 {
				k.rate[n.curve] -= n.rate
			}
		}
		for _, p := range w.termsOf[i] {
			if back {
				k.mended[p.term].Remove(int(p.at))
			} else {
				k.mended[p.term].Add(int(p.at))
			}
			if k.seen[p.term] != k.round {
				k.seen[p.term] = k.round
				k.asked = append(k.asked, p.term)
			}
		}
	}
	for _, x := range k.asked {
		t := &w.terms[x]
		r := t.at(k.mended[x])
		k.rate[t.curve] += r - k.now[x]
		k.now[x] = r
	}
}

func (t *term) at(mended Set) int64 {
	if t.table != nil {
		return t.table[mended[0]]
	}
	if len(mended) > len(key{}) {
		return t.rate(mended)
	}
	var k key
	copy(k[:], mended)
	if rate, ok := t.known[k]; ok {
		return rate
	}
	rate := t.rate(mended)
	if len(t.known) == keep {
		clear(t.known)
	}
	t.known[k] = rate
	return rate
}

// step is one repair, in units of time.
type step struct {
	part       int
	start, end int64
}

// schedule lets every team mend its parts in an order: at any moment a free team takes the first of its parts for which
// all that comes before is mended, and waits where there is none. With one team and an order that keeps precedence it is
// that order without a gap.
func (w *world) schedule(order []int) []step {
	n := len(w.parts)
	steps := make([]step, 0, n)
	begun, done := NewSet(n), NewSet(n)
	busy := map[string]bool{}
	var running []step
	for now := int64(0); len(steps) < n || len(running) > 0; {
		for _, i := range order {
			if team := w.parts[i].Team; !busy[team] && !begun.Has(i) && within(w.before[i], done) {
				s := step{i, now, now + w.takes[i]}
				busy[team] = true
				begun.Add(i)
				steps, running = append(steps, s), append(running, s)
			}
		}
		now = slices.MinFunc(running, byEnd).end
		running = slices.DeleteFunc(running, func(s step) bool {
			if s.end > now {
				return false
			}
			done.Add(s.part)
			busy[w.parts[s.part].Team] = false
			return true
		})
	}
	return steps
}

func byEnd(a, b step) int { return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.part, b.part)) }

// amount is a cost, exact: millionths of the unit an hour, times nanoseconds.
type amount struct{ big.Int }

func (a *amount) add(rate int64, span time.Duration) {
	var x big.Int
	a.Add(&a.Int, x.Mul(big.NewInt(rate), big.NewInt(int64(span))))
}

// decimal returns the amount in the unit, rounded to the nearest millionth, or down to one. It saturates.
func (a *amount) decimal(down bool) manifest.Decimal {
	x, hour := new(big.Int).Set(&a.Int), big.NewInt(int64(time.Hour))
	if !down {
		x.Add(x, big.NewInt(int64(time.Hour/2)))
	}
	x.Div(x, hour) // towards less, also below 0
	switch {
	case x.IsInt64():
		return manifest.Decimal(x.Int64())
	case x.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// weighted returns how much a span weighs on a curve.
func (w *world) weighted(curve int, from, to int64) time.Duration {
	a, b := time.Duration(from)*w.unit, time.Duration(to)*w.unit
	if c := w.curves[curve]; c != nil {
		return c.Weighted(a, b)
	}
	return b - a
}

// price returns what is lost until the last repair ends, without what would be lost then too.
func (w *world) price(steps []step) *amount {
	ends := slices.Clone(steps)
	slices.SortFunc(ends, byEnd)
	k := w.walk()
	total := new(amount)
	at := int64(0)
	for _, s := range ends {
		if s.end > at {
			for c, rate := range k.rate {
				if rate != 0 {
					total.add(rate, w.weighted(c, at, s.end))
				}
			}
			at = s.end
		}
		k.mend(s.part)
	}
	return total
}

// along returns the cost of a run of parts by one team, begun at a moment, for comparing orders; k is moved past it.
func (w *world) along(k *walker, parts []int, at int64) (cost float64) {
	for _, i := range parts {
		for c, rate := range k.rate {
			if rate != 0 {
				cost += float64(float64(rate) * w.weight(c, at, at+w.takes[i]))
			}
		}
		at += w.takes[i]
		k.mend(i)
	}
	return cost
}

// weight is weighted for comparing: in units of time where no value changes over time, so that it is a whole number.
func (w *world) weight(curve int, from, to int64) float64 {
	if len(w.curves) == 1 {
		return float64(to - from)
	}
	return float64(w.weighted(curve, from, to))
}
