package recovery

import (
	"math"
	"math/bits"
)

const (
	// exactUpTo is the number of parts up to which the best order is worked out, over all sets of them: 4 million sets.
	exactUpTo = 22
	// alwaysUpTo is the number up to which it is worked out however many sets terms are asked for.
	alwaysUpTo = 20
	// cells bounds the numbers that are held at once, one for each curve and set, and beyond alwaysUpTo also those asked of terms.
	cells = 1 << 23
	// momentsUpTo is the number of moments up to which what a curve weighs is written out.
	momentsUpTo = 1 << 20
)

// exactly reports whether the best order of these many parts can be worked out.
func (w *world) exactly(n int) bool {
	if n <= alwaysUpTo {
		return len(w.curves)<<n <= cells
	}
	asked := 0
	for i := range w.terms {
		asked += 1 << min(len(w.terms[i].parts), n)
	}
	return n <= exactUpTo && len(w.curves)<<n+asked <= cells
}

// exact returns the best order of a window of parts by one team, when base is mended at the start and nothing else before
// the end. All that has to be mended before a part of the window must be in base or in the window.
//
// It goes over all sets of the window, from all of it to none: the least that it costs to go on from a set is, over the parts
// that may come next, the loss until that part is mended and the least from there. Since there is one team, the moment at
// which a set is mended depends on the set alone, so this is right for any loss and any curve.
func (w *world) exact(base Set, window []int, start int64) []int {
	m := len(window)
	full := uint64(1)<<m - 1
	bit := make(map[int]int, m)
	for b, i := range window {
		bit[i] = b
	}
	rates := w.ratesOf(base, window, bit)
	pre := make([]uint64, m)
	takes := make([]float64, m)
	for b, i := range window {
		takes[b] = float64(w.takes[i])
		w.before[i].Each(func(j int) {
			if k, ok := bit[j]; ok {
				pre[b] |= 1 << k
			}
		})
	}
	choice := make([]uint8, 1<<m)
	// The cost from a set on takes the place of the rates of that set, which nothing needs any more.
	a := rates[0]
	a[full] = math.Float64bits(0)
	step := func(s uint64, cost func(b int) float64) {
		best, by := math.Inf(1), 0
		for rest := full &^ s; rest != 0; rest &= rest - 1 {
			b := bits.TrailingZeros64(rest)
			if pre[b]&^s != 0 {
				continue
			}
			if c := cost(b) + math.Float64frombits(a[s|1<<b]); c < best {
				best, by = c, b
			}
		}
		a[s], choice[s] = math.Float64bits(best), uint8(by)
	}
	if len(rates) == 1 && len(w.curves) == 1 {
		for s := full; s > 0; {
			s--
			rate := float64(int64(a[s]))
			best, by := math.Inf(1), 0
			for rest := full &^ s; rest != 0; rest &= rest - 1 {
				b := bits.TrailingZeros64(rest)
				if pre[b]&^s != 0 {
					continue
				}
				if c := float64(rate*takes[b]) + math.Float64frombits(a[s|1<<b]); c < best {
					best, by = c, b
				}
			}
			a[s], choice[s] = math.Float64bits(best), uint8(by)
		}
	} else {
		weigh := w.weigher(window, start)
		low, high := partSums(takes)
		const half = 11
		for s := full; s > 0; {
			s--
			at := start + low[s&(1<<half-1)] + high[s>>half]
			step(s, func(b int) (cost float64) {
				for c := range rates {
					if r := int64(rates[c][s]); r != 0 {
						cost += float64(float64(r) * weigh(c, at, at+int64(takes[b])))
					}
				}
				return cost
			})
		}
	}
	order := make([]int, 0, m)
	for s := uint64(0); s != full; {
		b := choice[s]
		order = append(order, window[b])
		s |= 1 << b
	}
	return order
}

// partSums returns the sums of the repair times of every set, by its lower 11 bits and by those above.
func partSums(takes []float64) (low, high []int64) {
	const half = 11
	sums := func(takes []float64) []int64 {
		out := make([]int64, 1<<len(takes))
		for s := 1; s < len(out); s++ {
			out[s] = out[s&(s-1)] + int64(takes[bits.TrailingZeros(uint(s))])
		}
		return out
	}
	if len(takes) <= half {
		return sums(takes), sums(nil)
	}
	return sums(takes[:half]), sums(takes[half:])
}

// weigher returns weight, from a table where the moments are few.
func (w *world) weigher(window []int, start int64) func(curve int, from, to int64) float64 {
	span := int64(0)
	for _, i := range window {
		span += w.takes[i]
	}
	if span > momentsUpTo {
		return w.weight
	}
	tables := make([][]float64, len(w.curves))
	for c := range tables {
		tables[c] = make([]float64, span+1)
		for t := int64(1); t <= span; t++ {
			// From one moment to the next and not from the start, since each span is rounded by itself.
			tables[c][t] = tables[c][t-1] + w.weight(c, start+t-1, start+t)
		}
	}
	return func(c int, from, to int64) float64 { return tables[c][to-start] - tables[c][from-start] }
}

// ratesOf returns, by curve and set of the window, what is lost an hour while base and that set are mended, but for what
// is the same for all sets. Each loss is split into what every set of parts adds to it; those are added up once for
// all losses, so that the number of losses hardly counts.
func (w *world) ratesOf(base Set, window []int, bit map[int]int) [][]uint64 {
	m := len(window)
	sums := make([][]uint64, len(w.curves))
	for c := range sums {
		sums[c] = make([]uint64, 1<<m)
	}
	seen := map[int32]bool{}
	for _, i := range window {
		for _, x := range w.needsOf[i] {
			if seen[x] {
				continue
			}
			seen[x] = true
			n := &w.needs[x]
			mask, reached := uint64(0), true
			for _, p := range n.parts {
				if b, ok := bit[p]; ok {
					mask |= 1 << b
				} else if !base.Has(p) {
					reached = false
				}
			}
			if reached {
				sums[n.curve][0] += uint64(n.rate)
				sums[n.curve][mask] -= uint64(n.rate)
			}
		}
	}
	clear(seen)
	for _, i := range window {
		for _, p := range w.termsOf[i] {
			if !seen[p.term] {
				seen[p.term] = true
				w.terms[p.term].scatter(base, bit, sums[w.terms[p.term].curve])
			}
		}
	}
	for _, a := range sums {
		for half := 1; half < len(a); half *= 2 {
			for from := 0; from < len(a); from += 2 * half {
				lower, upper := a[from:from+half], a[from+half:from+2*half]
				for i, x := range lower {
					upper[i] += x
				}
			}
		}
	}
	return sums
}

// scatter adds what a term is made up of to the sums of a window.
func (t *term) scatter(base Set, bit map[int]int, sums []uint64) {
	var here []int // positions in the term of the window's parts
	fixed := NewSet(len(t.parts))
	for at, p := range t.parts {
		if _, ok := bit[p]; ok {
			here = append(here, at)
		} else if base.Has(p) {
			fixed.Add(at)
		}
	}
	local := NewSet(len(t.parts))
	table := tabulate(len(here), func(mended Set) int64 {
		copy(local, fixed)
		for x := mended[0]; x != 0; x &= x - 1 {
			local.Add(here[bits.TrailingZeros64(x)])
		}
		if t.table == nil && len(here) > tableUpTo {
			return t.rate(local) - t.last // too many to keep
		}
		return t.at(local) - t.last
	})
	difference(table)
	spread := make([]uint64, len(table))
	for s := range table {
		if s > 0 {
			spread[s] = spread[s&(s-1)] | 1<<bit[t.parts[here[bits.TrailingZeros(uint(s))]]]
		}
		sums[spread[s]] += uint64(table[s])
	}
}
