package recovery

import (
	"math/big"
	"slices"
)

// blocksUpTo is the number of parts up to which a problem is taken apart.
const blocksUpTo = 1500

// block is a run of parts of Sidney's decomposition: of all sets that can be mended next, closed under what comes before,
// one that ends most loss for each hour of work, and of these one that holds no smaller one.
type block struct {
	parts []int // in the order of topo
	ends  int64 // the loss in an hour that the block ends, in units of the weight that divides all
	work  int64
}

// blocks takes an additive problem of one team apart: some best order mends the blocks one after the other (Sidney 1975). ok is
// false where the numbers are too large for whole arithmetic.
func (w *world) blocks() (out []block, weight int64, ok bool) {
	n := len(w.parts)
	var sum int64
	for i := range w.needs {
		weight = gcd(weight, w.needs[i].rate)
	}
	for i := range w.needs {
		sum += w.needs[i].rate / weight
	}
	if weight > 0 && sum > unbounded/2/max(w.total, 1) {
		return nil, 0, false
	}
	done := NewSet(n)
	for left := n; left > 0; {
		b := w.densest(done, weight)
		for _, i := range b.parts {
			done.Add(i)
		}
		left -= len(b.parts)
		out = append(out, b)
	}
	return out, weight, true
}

// densest returns the next block. The greatest ratio is found by asking, for a ratio that some set has, whether any set
// has a greater one (Dinkelbach 1967), which is a smallest cut of a network: needs gain their weight, parts cost the ratio
// times their work, and what is chosen brings all that it rests on (Picard 1976).
func (w *world) densest(done Set, weight int64) block {
	type open struct {
		need int
		all  Set // the closure of what is still broken of it
	}
	n := len(w.parts)
	var needs []open
	chosen := block{}
	for k := range w.needs {
		x := &w.needs[k]
		if within(x.set, done) {
			continue
		}
		o := open{k, NewSet(n)}
		for _, i := range x.parts {
			o.all.Union(w.closure[i])
		}
		for i := range o.all {
			o.all[i] &^= done[i]
		}
		needs = append(needs, o)
		// The ratio to begin with is the best one of a single need.
		if b := (block{ends: x.rate / weight, work: w.work(o.all)}); chosen.work == 0 || denser(b, chosen) {
			chosen = b
		}
	}
	if len(needs) == 0 {
		rest := block{}
		for _, i := range w.topo {
			if !done.Has(i) {
				rest.parts = append(rest.parts, i)
				rest.work += w.takes[i]
			}
		}
		return rest
	}
	// Nodes: needs, then parts, then source and sink.
	source, sink := len(needs)+n, len(needs)+n+1
	f := newFlow(len(needs) + n + 2)
	gains, costs := make([]int, len(needs)), make([]int, n)
	for k, o := range needs {
		gains[k] = f.join(source, k, 0)
		for _, i := range w.needs[o.need].parts {
			if !done.Has(i) {
				f.join(k, len(needs)+i, unbounded)
			}
		}
	}
	for i := range n {
		if done.Has(i) {
			continue
		}
		costs[i] = f.join(len(needs)+i, sink, 0)
		w.before[i].Each(func(b int) {
			if !done.Has(b) {
				f.join(len(needs)+i, len(needs)+b, unbounded)
			}
		})
	}
	for {
		d := gcd(chosen.ends, chosen.work)
		ends, work := chosen.ends/d, chosen.work/d
		var all int64
		for k := 1; k < len(f.arcs); k += 2 { // flow of the round before
			f.arcs[k-1].left, f.arcs[k].left = f.arcs[k-1].left+f.arcs[k].left, 0
		}
		for k, o := range needs {
			gain := w.needs[o.need].rate / weight * work
			f.set(gains[k], gain)
			all += gain
		}
		for i := range n {
			if !done.Has(i) {
				f.set(costs[i], ends*w.takes[i])
			}
		}
		if f.greatest(source, sink) == all {
			break
		}
		side := f.reach(source, sink)
		chosen = block{}
		for k, o := range needs {
			if side.Has(k) {
				chosen.ends += w.needs[o.need].rate / weight
			}
		}
		for i := range n {
			if side.Has(len(needs) + i) {
				chosen.work += w.takes[i]
			}
		}
	}
	// No set is denser. Those that are as dense are what can be reached without the sink; take the smallest.
	var least Set
	looser := f.leads(sink)
	for k := range needs {
		if looser.Has(k) {
			continue
		}
		if r := f.reach(k, source); least == nil || r.Len() < least.Len() {
			least = r
		}
	}
	b := block{}
	after := slices.Clone(done)
	for _, i := range w.topo {
		if !done.Has(i) && least.Has(len(needs)+i) {
			b.parts = append(b.parts, i)
			b.work += w.takes[i]
			after.Add(i)
		}
	}
	for _, o := range needs {
		if within(w.needs[o.need].set, after) {
			b.ends += w.needs[o.need].rate / weight
		}
	}
	return b
}

func (w *world) work(set Set) (sum int64) {
	set.Each(func(i int) { sum += w.takes[i] })
	return sum
}

// denser reports whether a ends more for each hour of work than b.
func denser(a, b block) bool {
	x := new(big.Int).Mul(big.NewInt(a.ends), big.NewInt(b.work))
	return x.Cmp(new(big.Int).Mul(big.NewInt(b.ends), big.NewInt(a.work))) > 0
}

// byBlocks orders the parts block by block, each of up to upTo parts in its best order, and returns what no order can go
// below, and whether the order reaches that.
//
// The bound adds up, over the blocks, what they end times the work before them, and within a block its own least cost: worked
// out where the block is small enough. Of a larger one no set is denser than the whole, so that at any moment at
// most the ratio times the work done has ended: the least cost is at least half of what the block ends, times its work,
// plus half of the ratio times the sum of the squares of the repair times, since what is half mended has ended nothing.
// No order that keeps the blocks is above twice that (Chekuri and Motwani 1999).
func (w *world) byBlocks(upTo int) (order []int, bound *amount, exact, ok bool) {
	blocks, weight, ok := w.blocks()
	if !ok {
		return nil, nil, false, false
	}
	bound, exact = new(amount), true
	base := NewSet(len(w.parts))
	k := w.walk()
	var at int64
	for _, b := range blocks {
		ends := b.ends * weight
		bound.add(ends, w.weighted(0, 0, at))
		run := b.parts
		switch {
		case b.ends == 0: // any order
			k.mend(run...)
		case len(run) <= upTo:
			run = w.exact(base, run, at)
			own := new(amount)
			rest := k.rate[0] - ends // of the later blocks
			for _, i := range run {
				own.add(k.rate[0]-rest, w.weighted(0, 0, w.takes[i]))
				k.mend(i)
			}
			bound.Add(&bound.Int, &own.Int)
		default:
			exact = false
			run = w.search(base, run, at)
			k.mend(run...)
			least := w.half(b, ends)
			if alone := w.alone(base, run); alone.Cmp(&least.Int) > 0 {
				least = alone
			}
			bound.Add(&bound.Int, &least.Int)
		}
		for _, i := range run {
			base.Add(i)
		}
		order = append(order, run...)
		at += b.work
	}
	return order, bound, exact, true
}

// half is the bound of a block that is not worked out: (ends x work + ends / work x squares) / 2.
func (w *world) half(b block, ends int64) *amount {
	squares := new(big.Int)
	for _, i := range b.parts {
		t := big.NewInt(w.takes[i])
		squares.Add(squares, t.Mul(t, t))
	}
	x := new(amount)
	work := big.NewInt(b.work)
	x.Mul(work, work)
	x.Add(&x.Int, squares)
	x.Mul(&x.Int, big.NewInt(ends))
	x.Mul(&x.Int, big.NewInt(int64(w.unit)))
	x.Div(&x.Int, work.Lsh(work, 1))
	return x
}

// alone is the other bound of a block: no need ends before all is done that it rests on.
func (w *world) alone(base Set, run []int) *amount {
	x := new(amount)
	inside := slices.Clone(base)
	for _, i := range run {
		inside.Add(i)
	}
	for k := range w.needs {
		need := &w.needs[k]
		if within(need.set, base) || !within(need.set, inside) {
			continue
		}
		all := NewSet(len(w.parts))
		for _, i := range need.parts {
			all.Union(w.closure[i])
		}
		for i := range all {
			all[i] &^= base[i]
		}
		x.add(need.rate, w.weighted(0, 0, w.work(all)))
	}
	return x
}
