// Package recovery says which broken part to mend first so that the business loses least: the order that is proven best
// where that can be worked out, and otherwise a good one with a bound that no order can beat.
//
// A Problem is abstract: parts with repair times and precedence, and what is lost an hour while which of them are broken.
// Of builds one from a snapshot of the map; nothing else here knows how a health comes about.
//
// It is pure: no I/O, no clock, no goroutine, and the same problem always has the same plan. It orders repairs and does not
// shorten them: one team mends one part at a time and finishes what it began.
package recovery

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Part is one broken thing.
type Part struct {
	Ref manifest.Ref
	// Takes is how long it takes to mend, above 0.
	Takes time.Duration
	// Before are the numbers of the parts that have to be mended earlier.
	Before []int
	// Team mends it. Parts of one team are mended one after the other; "" is a team too.
	Team string
	// Severity and Since order the plans that this one is compared with.
	Severity health.Level
	Since    time.Time
}

// Need is a loss that ends once all of its parts are mended: that of a service without redundancy.
type Need struct {
	Parts []int
	// Rate is the loss in an hour, in millionths of the unit, 0 or above.
	Rate  int64
	Curve Curve
}

// Term is a loss that depends on some parts in any way: quorums, weights, extra rules.
type Term struct {
	// Parts are what it depends on, each once.
	Parts []int
	// Rate returns the loss in an hour, in millionths of the unit, 0 or above, when those of Parts are mended whose
	// positions in Parts are in the set. It is asked often, mostly with sets that differ in one part from the one before.
	Rate  func(mended Set) int64
	Curve Curve
}

// Curve is how much the hours of a span weigh when value changes over time. Implementations must be comparable: terms of
// one curve are added up. A nil Curve weighs every hour the same.
type Curve interface {
	// Weighted returns the length of a span, counted from the start of the plan, times its mean factor, 0 or above.
	Weighted(from, to time.Duration) time.Duration
	// Changes returns all moments in (0, to) at which the factor changes, in order.
	Changes(to time.Duration) []time.Duration
}

// Problem is what is broken and what it costs. What is lost at one moment is the sum of its needs and terms.
type Problem struct {
	Parts []Part
	Needs []Need
	Terms []Term
}

// Set is a set of small numbers.
type Set []uint64

// NewSet returns the empty set of numbers below n.
func NewSet(n int) Set { return make(Set, (n+63)/64) }

// Has reports whether i is in the set.
func (s Set) Has(i int) bool { return s[i>>6]>>(i&63)&1 != 0 }

// Add puts i in.
func (s Set) Add(i int) { s[i>>6] |= 1 << (i & 63) }

// Remove takes i out.
func (s Set) Remove(i int) { s[i>>6] &^= 1 << (i & 63) }

// Union puts all of o in.
func (s Set) Union(o Set) {
	for k := range o {
		s[k] |= o[k]
	}
}

// Each calls f with every number of the set, in rising order.
func (s Set) Each(f func(i int)) {
	for k, w := range s {
		for ; w != 0; w &= w - 1 {
			f(k<<6 | bits.TrailingZeros64(w))
		}
	}
}

// Len returns how many numbers there are.
func (s Set) Len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

const (
	// tableUpTo is the number of parts up to which a term is written out as a table.
	tableUpTo = 14
	// needsUpTo is the number of needs up to which a term without redundancy is split into them.
	needsUpTo = 64
	// largest is the most that rates may add up to, in millionths, so that sums of them fit.
	largest = 1 << 61
)

// world is a problem made ready: rates net of what no repair ends, terms as tables, terms without redundancy as needs.
type world struct {
	parts   []Part
	unit    time.Duration // the longest that divides all repair times; times below are counts of it
	takes   []int64
	total   int64 // of takes
	before  []Set
	closure []Set // a part with all that comes before it, directly or not
	topo    []int // an order that keeps precedence, the lowest number first
	teams   int
	curves  []Curve // the first is nil
	needs   []need
	terms   []term
	needsOf [][]int32 // by part
	termsOf [][]place

	together []Set // see bundles; made when they are first needed
}

type need struct {
	parts []int
	set   Set
	rate  int64
	curve int
}

type term struct {
	parts   []int
	table   []int64 // by mask of positions; nil where there are too many
	rate    func(Set) int64
	first   int64 // with nothing mended
	last    int64 // with everything mended
	curve   int
	known   map[key]int64 // what was asked, where there is no table
	options []option      // see there; made when they are first needed
}

// key is a set of up to 256 positions.
type key [4]uint64

// keep is how many answers of a term are kept.
const keep = 1 << 15

// place is a part's position in a term.
type place struct{ term, at int32 }

func prepare(p *Problem) (*world, error) {
	n := len(p.Parts)
	w := &world{parts: p.Parts, takes: make([]int64, n), before: make([]Set, n), curves: []Curve{nil}, needsOf: make([][]int32, n), termsOf: make([][]place, n)}
	var teams []string
	for i := range p.Parts {
		part := &p.Parts[i]
		if part.Takes <= 0 {
			return nil, fmt.Errorf("%s takes %s to mend: expected more than nothing", part.Ref, part.Takes)
		}
		w.unit = gcd(w.unit, part.Takes)
		w.before[i] = NewSet(n)
		for _, b := range part.Before {
			if b < 0 || b >= n {
				return nil, fmt.Errorf("%s waits for part %d of %d", part.Ref, b, n)
			}
			w.before[i].Add(b)
		}
		if !slices.Contains(teams, part.Team) {
			teams = append(teams, part.Team)
		}
	}
	w.teams = len(teams)
	for i := range p.Parts {
		w.takes[i] = int64(p.Parts[i].Takes / w.unit)
		w.total += w.takes[i]
	}
	if err := w.arrange(); err != nil {
		return nil, err
	}
	if err := w.losses(p); err != nil {
		return nil, err
	}
	return w, nil
}

func gcd[T ~int64](a, b T) T {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// arrange finds an order that keeps precedence, and what comes before each part.
func (w *world) arrange() error {
	n := len(w.parts)
	done := NewSet(n)
	w.closure = make([]Set, n)
	for len(w.topo) < n {
		next := 0
		for ; next < n; next++ {
			if !done.Has(next) && within(w.before[next], done) {
				break
			}
		}
		if next == n {
			return fmt.Errorf("some of the %d parts wait for each other: take one of the precedences out", n-len(w.topo))
		}
		done.Add(next)
		w.topo = append(w.topo, next)
		w.closure[next] = NewSet(n)
		w.closure[next].Add(next)
		w.before[next].Each(func(b int) { w.closure[next].Union(w.closure[b]) })
	}
	return nil
}

// within reports whether all of a is in b.
func within(a, b Set) bool {
	for k := range a {
		if a[k]&^b[k] != 0 {
			return false
		}
	}
	return true
}

// losses takes in needs and terms.
func (w *world) losses(p *Problem) error {
	n := len(w.parts)
	var sum int64
	known := func(parts []int) error {
		seen := NewSet(n)
		for _, i := range parts {
			if i < 0 || i >= n || seen.Has(i) {
				return fmt.Errorf("a loss depends on part %d of %d, or twice on it", i, n)
			}
			seen.Add(i)
		}
		return nil
	}
	add := func(rate int64) error {
		if rate < 0 || rate > largest-sum {
			return fmt.Errorf("the losses in an hour are out of range: expected 0 to %s in all", manifest.Decimal(largest))
		}
		sum += rate
		return nil
	}
	same := map[string]int{}
	take := func(parts []int, rate int64, curve int) {
		if rate == 0 || len(parts) == 0 {
			return
		}
		set := NewSet(n)
		for _, i := range parts {
			set.Add(i)
		}
		key := fmt.Sprint(curve, set)
		if k, ok := same[key]; ok {
			w.needs[k].rate += rate
			return
		}
		same[key] = len(w.needs)
		x := need{set: set, rate: rate, curve: curve}
		set.Each(func(i int) { x.parts = append(x.parts, i) })
		w.needs = append(w.needs, x)
	}
	for i := range p.Needs {
		x := &p.Needs[i]
		if err := known(x.Parts); err != nil {
			return err
		}
		if err := add(x.Rate); err != nil {
			return err
		}
		take(x.Parts, x.Rate, w.curve(x.Curve))
	}
	for i := range p.Terms {
		x := &p.Terms[i]
		if err := known(x.Parts); err != nil {
			return err
		}
		t := term{parts: x.Parts, rate: x.Rate, curve: w.curve(x.Curve), known: map[key]int64{}}
		k := len(x.Parts)
		if k > tableUpTo {
			local := NewSet(k)
			t.first = x.Rate(local)
			for at := range k {
				local.Add(at)
			}
			t.last = x.Rate(local)
			if err := add(max(t.first, t.last)); err != nil {
				return err
			}
			w.terms = append(w.terms, t)
			continue
		}
		t.table = tabulate(k, x.Rate)
		t.first, t.last = t.table[0], t.table[len(t.table)-1]
		if slices.Min(t.table) < 0 {
			return fmt.Errorf("a loss in an hour is below 0")
		}
		if err := add(slices.Max(t.table)); err != nil {
			return err
		}
		if split, ok := conjunctions(t.table); ok {
			for mask, rate := range split {
				var parts []int
				for b := uint64(mask); b != 0; b &= b - 1 {
					parts = append(parts, x.Parts[bits.TrailingZeros64(b)])
				}
				take(parts, -rate, t.curve)
			}
			continue
		}
		w.terms = append(w.terms, t)
	}
	for k := range w.needs {
		for _, i := range w.needs[k].parts {
			w.needsOf[i] = append(w.needsOf[i], int32(k))
		}
	}
	for k := range w.terms {
		for at, i := range w.terms[k].parts {
			w.termsOf[i] = append(w.termsOf[i], place{int32(k), int32(at)})
		}
	}
	return nil
}

func (w *world) curve(c Curve) int {
	for i, have := range w.curves {
		if have == c {
			return i
		}
	}
	w.curves = append(w.curves, c)
	return len(w.curves) - 1
}

// tabulate asks a rate for every set of k positions, each set differing in one part from the one before.
func tabulate(k int, rate func(Set) int64) []int64 {
	table := make([]int64, 1<<k)
	local := NewSet(max(k, 1))
	for i := range table {
		gray := uint64(i ^ i>>1)
		local[0] = gray
		table[gray] = rate(local)
	}
	return table
}

// conjunctions splits a table into what each set of parts ends when all of it is mended; ok is false where some set does
// harm in that reading, which is what redundancy looks like.
func conjunctions(table []int64) (split []int64, ok bool) {
	split = slices.Clone(table)
	difference(split)
	split[0] = 0 // what remains when nothing ends it
	used := 0
	for _, rate := range split {
		if rate > 0 {
			return nil, false
		}
		if rate < 0 {
			used++
		}
	}
	return split, used <= needsUpTo
}

// difference turns a function of sets into the sums by which it is made up: what each set adds to all that hold it.
// Numbers wrap around, which loses nothing.
func difference(a []int64) {
	for half := 1; half < len(a); half *= 2 {
		for base := 0; base < len(a); base += 2 * half {
			for i := base; i < base+half; i++ {
				a[i+half] -= a[i]
			}
		}
	}
}

// additive reports whether the loss is made of needs alone, of one value at all hours.
func (w *world) additive() bool { return len(w.terms) == 0 && len(w.curves) == 1 }
