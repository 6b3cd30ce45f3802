package recovery

import (
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Way is what one of the ways to an order comes to, whatever the number of parts.
type Way struct {
	Order       []int
	Cost, Bound manifest.Decimal
	Exact       bool
}

// ByBlocks takes the problem apart, works out blocks of up to upTo parts, and searches the others.
func ByBlocks(p *Problem, upTo int) (Way, bool) {
	w, err := prepare(p)
	if err != nil {
		panic(err)
	}
	if !w.additive() {
		return Way{}, false
	}
	order, bound, exact, ok := w.byBlocks(upTo)
	return Way{order, w.price(w.schedule(order)).decimal(false), bound.decimal(true), exact}, ok
}

// Search goes the way of many parts.
func Search(p *Problem) Way {
	w, err := prepare(p)
	if err != nil {
		panic(err)
	}
	base := NewSet(len(w.parts))
	order := w.search(base, w.topo, 0)
	return Way{order, w.price(w.schedule(order)).decimal(false), w.bound().decimal(true), false}
}

// Rates returns, for every set of broken parts of a snapshot, what is lost an hour when it is mended, net of what is lost
// when all are.
func Rates(snap *servicemap.Snapshot, opt Options) (parts []Part, rate func(mended []int) manifest.Decimal) {
	all := surveys(snap, opt)
	w, err := prepare(problemOf(all))
	if err != nil {
		panic(err)
	}
	return all[0].parts, func(mended []int) manifest.Decimal {
		k := w.walk()
		k.mend(mended...)
		return manifest.Decimal(sum(k.rate))
	}
}
