package recovery_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// peak is a curve: hours from From to To count Factor times.
type peak struct {
	From, To time.Duration
	Factor   int
}

func (p peak) Weighted(from, to time.Duration) time.Duration {
	inside := max(0, min(to, p.To)-max(from, p.From))
	return to - from + inside*time.Duration(p.Factor-1)
}

func (p peak) Changes(to time.Duration) (out []time.Duration) {
	for _, at := range []time.Duration{p.From, p.To} {
		if at > 0 && at < to {
			out = append(out, at)
		}
	}
	return out
}

// drawParts draws parts of whole hours with precedence from higher to lower numbers of a shuffled order.
func drawParts(t *rapid.T, most, teams int) []recovery.Part {
	n := most - rapid.IntRange(0, most-1).Draw(t, "fewer parts") // many are drawn more often than few
	parts := make([]recovery.Part, n)
	rank := rapid.Permutation(numbers(n)).Draw(t, "rank")
	density := rapid.IntRange(0, 3).Draw(t, "density")
	for i := range parts {
		parts[i] = recovery.Part{
			Ref: manifest.Ref(fmt.Sprintf("component/c%02d", i)), Takes: time.Duration(rapid.IntRange(1, 6).Draw(t, "takes")) * time.Hour,
			Team:     fmt.Sprintf("team/%d", rapid.IntRange(0, teams-1).Draw(t, "team")),
			Severity: health.Level(rapid.IntRange(2, 5).Draw(t, "severity")), Since: time.Unix(int64(rapid.IntRange(0, 5).Draw(t, "since")), 0),
		}
		for j := range parts {
			if rank[j] < rank[i] && rapid.IntRange(0, 9).Draw(t, "before") < density {
				parts[i].Before = append(parts[i].Before, j)
			}
		}
	}
	return parts
}

func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func drawSubset(t *rapid.T, n int) []int {
	some := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, min(n, 5), rapid.ID[int]).Draw(t, "subset")
	return some
}

func drawNeeds(t *rapid.T, p *recovery.Problem) {
	for range 8 - rapid.IntRange(0, 8).Draw(t, "fewer needs") {
		p.Needs = append(p.Needs, recovery.Need{Parts: drawSubset(t, len(p.Parts)), Rate: int64(rapid.IntRange(0, 20).Draw(t, "rate")) * 1e6})
	}
}

// drawTerms draws quorums with weights, and tables that fall as more is mended; wild ones do not even do that.
func drawTerms(t *rapid.T, p *recovery.Problem, wild bool) {
	for range 5 - rapid.IntRange(0, 5).Draw(t, "fewer terms") {
		parts := drawSubset(t, len(p.Parts))
		table := make([]int64, 1<<len(parts))
		if rapid.Bool().Draw(t, "quorum") {
			weight := rapid.SliceOfN(rapid.IntRange(1, 3), len(parts), len(parts)).Draw(t, "weight")
			need, rate := rapid.IntRange(1, 2*len(parts)).Draw(t, "need"), int64(rapid.IntRange(1, 20).Draw(t, "rate"))*1e6
			for mask := range table {
				have := 0
				for at := range parts {
					have += weight[at] * (mask >> at & 1)
				}
				if have < need {
					table[mask] = rate
				}
			}
		} else {
			for mask := range table {
				table[mask] = int64(rapid.IntRange(0, 20).Draw(t, "rate")) * 1e6
				for at := 0; at < len(parts) && !wild; at++ {
					if mask>>at&1 != 0 {
						table[mask] = min(table[mask], table[mask^1<<at])
					}
				}
			}
		}
		p.Terms = append(p.Terms, recovery.Term{Parts: parts, Rate: func(mended recovery.Set) int64 { return table[mended[0]] }})
	}
}

// rateAt is the oracle: what is lost an hour on a curve, net of what no repair ends.
func rateAt(p *recovery.Problem, mended uint64, curve recovery.Curve) (rate int64) {
	for _, n := range p.Needs {
		whole := true
		for _, i := range n.Parts {
			whole = whole && mended>>i&1 != 0
		}
		if !whole && n.Curve == curve {
			rate += n.Rate
		}
	}
	for _, x := range p.Terms {
		local, all := recovery.NewSet(len(x.Parts)), recovery.NewSet(len(x.Parts))
		for at, i := range x.Parts {
			all.Add(at)
			if mended>>i&1 != 0 {
				local.Add(at)
			}
		}
		if x.Curve == curve {
			rate += x.Rate(local) - x.Rate(all)
		}
	}
	return rate
}

func curves(p *recovery.Problem) []recovery.Curve {
	out := []recovery.Curve{nil}
	add := func(c recovery.Curve) {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	for _, n := range p.Needs {
		add(n.Curve)
	}
	for _, x := range p.Terms {
		add(x.Curve)
	}
	return out
}

// oracle prices steps and enumerates orders by itself, in whole hours.
type oracle struct {
	p     *recovery.Problem
	rates [][]int64 // by curve and set
	of    []recovery.Curve
}

func newOracle(p *recovery.Problem) *oracle {
	o := &oracle{p: p, of: curves(p)}
	for _, c := range o.of {
		rates := make([]int64, 1<<len(p.Parts))
		for s := range rates {
			rates[s] = rateAt(p, uint64(s), c)
		}
		o.rates = append(o.rates, rates)
	}
	return o
}

func (o *oracle) span(mended uint64, from, to time.Duration) (cost int64) {
	for c, rates := range o.rates {
		weighted := to - from
		if o.of[c] != nil {
			weighted = o.of[c].Weighted(from, to)
		}
		cost += rates[mended] * int64(weighted/time.Hour)
	}
	return cost
}

// best is the least cost of all orders by one team.
func (o *oracle) best() manifest.Decimal {
	best := int64(math.MaxInt64)
	n := len(o.p.Parts)
	var try func(mended uint64, at time.Duration, cost int64)
	try = func(mended uint64, at time.Duration, cost int64) {
		if mended == 1<<n-1 {
			best = min(best, cost)
			return
		}
		for i := range n {
			part := &o.p.Parts[i]
			if mended>>i&1 != 0 || slices.ContainsFunc(part.Before, func(b int) bool { return mended>>b&1 == 0 }) {
				continue
			}
			try(mended|1<<i, at+part.Takes, cost+o.span(mended, at, at+part.Takes))
		}
	}
	try(0, 0, 0)
	return manifest.Decimal(best)
}

// price is the cost of steps, in whatever order they end.
func (o *oracle) price(steps []recovery.Step) manifest.Decimal {
	ends := slices.Clone(steps)
	slices.SortFunc(ends, func(a, b recovery.Step) int { return int(a.End - b.End) })
	var mended uint64
	var at time.Duration
	var cost int64
	for _, s := range ends {
		cost += o.span(mended, at, s.End)
		at, mended = s.End, mended|1<<s.Part
	}
	return manifest.Decimal(cost)
}

func solve(t rapid.TB, p *recovery.Problem) *recovery.Solution {
	t.Helper()
	s, err := recovery.Solve(p)
	if err != nil {
		t.Fatal(err)
	}
	kept(t, p, s.Steps)
	return s
}

// kept checks that every part is mended once, in its time, by a team that does nothing else meanwhile, after what comes before.
func kept(t rapid.TB, p *recovery.Problem, steps []recovery.Step) {
	t.Helper()
	end := map[int]time.Duration{}
	free := map[string]time.Duration{}
	for i, s := range steps {
		part := &p.Parts[s.Part]
		if _, twice := end[s.Part]; twice || s.End-s.Start != part.Takes || s.Start < free[part.Team] || i > 0 && s.Start < steps[i-1].Start {
			t.Fatalf("step %d: %+v of %+v after %+v", i, s, part, steps[:i])
		}
		end[s.Part], free[part.Team] = s.End, s.End
		for _, b := range part.Before {
			if e, ok := end[b]; !ok || e > s.Start {
				t.Fatalf("step %d: %+v begins before %d is mended", i, s, b)
			}
		}
	}
	if len(end) != len(p.Parts) {
		t.Fatalf("%d steps for %d parts", len(end), len(p.Parts))
	}
}

// With one team the plan is that of full enumeration, for any loss, and what it says it costs is what it costs.
func TestPlanIsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &recovery.Problem{Parts: drawParts(t, 7, 1)}
		drawNeeds(t, p)
		drawTerms(t, p, rapid.Bool().Draw(t, "wild"))
		if rapid.IntRange(0, 2).Draw(t, "curves") == 0 {
			c := peak{time.Duration(rapid.IntRange(0, 9).Draw(t, "from")) * time.Hour, time.Duration(rapid.IntRange(9, 20).Draw(t, "to")) * time.Hour, rapid.IntRange(0, 4).Draw(t, "factor")}
			for i := range p.Needs {
				if i%2 == 0 {
					p.Needs[i].Curve = c
				}
			}
			for i := range p.Terms {
				if i%2 == 0 {
					p.Terms[i].Curve = c
				}
			}
		}
		o := newOracle(p)
		s := solve(t, p)
		if best := o.best(); s.Cost != best || !s.Exact || s.LowerBound != best || o.price(s.Steps) != best {
			t.Fatalf("costs %s (by enumeration %s), best %s, bound %s, exact %v", s.Cost, o.price(s.Steps), best, s.LowerBound, s.Exact)
		}
		if s.FirstCome < s.Cost || s.Severity < s.Cost {
			t.Fatalf("first come %s, severity %s, plan %s", s.FirstCome, s.Severity, s.Cost)
		}
		// What is found for many parts is not better, its bound is below, and it keeps precedence.
		x := recovery.Search(p)
		if x.Cost < s.Cost || x.Bound > s.Cost || len(x.Order) != len(p.Parts) {
			t.Fatalf("search: %+v, best %s", x, s.Cost)
		}
	})
}

func TestNineParts(t *testing.T) {
	for seed := range 6 {
		p := rapid.Custom(func(t *rapid.T) *recovery.Problem {
			p := &recovery.Problem{Parts: drawParts(t, 9, 1)}
			for len(p.Parts) < 9 {
				p.Parts = append(p.Parts, recovery.Part{Ref: manifest.Ref(fmt.Sprintf("component/c%02d", len(p.Parts))), Takes: time.Duration(len(p.Parts)) * time.Hour, Team: "team/0"})
			}
			drawNeeds(t, p)
			drawTerms(t, p, false)
			return p
		}).Example(seed)
		if s, best := solve(t, p), newOracle(p).best(); s.Cost != best {
			t.Errorf("seed %d: costs %s, best %s", seed, s.Cost, best)
		}
	}
}

// Without redundancy the blocks give the best order where each is worked out, and one within twice the best, with a bound
// within twice, where none is.
func TestBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &recovery.Problem{Parts: drawParts(t, 7, 1)}
		drawNeeds(t, p)
		best := newOracle(p).best()
		x, ok := recovery.ByBlocks(p, 20)
		if !ok || !x.Exact || x.Cost != best || x.Bound != best {
			t.Fatalf("worked out: %+v, best %s", x, best)
		}
		upTo := rapid.IntRange(0, 3).Draw(t, "upTo")
		x, ok = recovery.ByBlocks(p, upTo)
		if !ok || x.Cost < best || x.Cost > 2*best || x.Bound > best || x.Cost > 2*x.Bound+1 {
			t.Fatalf("blocks of up to %d: %+v, best %s", upTo, x, best)
		}
	})
}

// Teams never do two things at once, and no list of repairs costs less than the bound.
func TestTeams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &recovery.Problem{Parts: drawParts(t, 5, 3)}
		drawNeeds(t, p)
		drawTerms(t, p, false)
		o := newOracle(p)
		s := solve(t, p)
		if s.Cost != o.price(s.Steps) {
			t.Fatalf("costs %s, by enumeration %s", s.Cost, o.price(s.Steps))
		}
		one := true
		for _, part := range p.Parts {
			one = one && part.Team == p.Parts[0].Team
		}
		if one && !s.Exact || s.FirstCome < s.Cost || s.Severity < s.Cost {
			t.Fatalf("%+v, one team: %v", s, one)
		}
		if best := o.bestOfLists(); s.LowerBound > best || s.Cost < best || s.Exact && s.Cost > best {
			t.Fatalf("bound %s, best list %s, cost %s", s.LowerBound, best, s.Cost)
		}
	})
}

// bestOfLists tries every schedule in which each team begins a part as soon as it is free and the part may begin, in every
// order; teams may also leave a part for later.
func (o *oracle) bestOfLists() manifest.Decimal {
	best := manifest.Decimal(math.MaxInt64)
	n := len(o.p.Parts)
	var try func(order []int)
	try = func(order []int) {
		if len(order) < n {
			for i := range n {
				if !slices.Contains(order, i) {
					try(append(slices.Clone(order), i))
				}
			}
			return
		}
		// Each part of the list is put where its team and what comes before allow; a list that breaks precedence is left out.
		end := map[int]time.Duration{}
		free := map[string]time.Duration{}
		var steps []recovery.Step
		for _, i := range order {
			part := &o.p.Parts[i]
			start := free[part.Team]
			for _, b := range part.Before {
				e, ok := end[b]
				if !ok {
					return
				}
				start = max(start, e)
			}
			end[i], free[part.Team] = start+part.Takes, start+part.Takes
			steps = append(steps, recovery.Step{Part: i, Start: start, End: end[i]})
		}
		best = min(best, o.price(steps))
	}
	try(nil)
	return best
}

// Without precedence, and each loss resting on one part, the best order is that of loss over time (Smith 1956), of any
// number of parts.
func TestSmithsRatio(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "n")
		p := &recovery.Problem{}
		for i := range n {
			p.Parts = append(p.Parts, recovery.Part{Ref: manifest.Ref(fmt.Sprintf("component/c%02d", i)), Takes: time.Duration(rapid.IntRange(1, 9).Draw(t, "takes")) * time.Minute})
			p.Needs = append(p.Needs, recovery.Need{Parts: []int{i}, Rate: int64(rapid.IntRange(0, 99).Draw(t, "rate")) * 60e6})
		}
		if n > 12 && n <= 22 {
			n = 12 // the sets of more are tried elsewhere
			p.Parts, p.Needs = p.Parts[:n], p.Needs[:n]
		}
		s := solve(t, p)
		if !s.Exact {
			t.Fatal("not exact")
		}
		for i := 1; i < len(s.Steps); i++ {
			a, b := s.Steps[i-1].Part, s.Steps[i].Part
			if p.Needs[a].Rate*int64(p.Parts[b].Takes/time.Minute) < p.Needs[b].Rate*int64(p.Parts[a].Takes/time.Minute) {
				t.Fatalf("%d before %d: %v", a, b, s.Steps)
			}
		}
	})
}

func TestCostsAreRoundedOnce(t *testing.T) {
	p := &recovery.Problem{
		Parts: []recovery.Part{{Ref: "a", Takes: time.Second}, {Ref: "b", Takes: time.Second, Before: []int{0}}},
		Needs: []recovery.Need{{Parts: []int{1}, Rate: 1}, {Parts: []int{0}, Rate: 1_000_000}},
	}
	exact := new(big.Rat).SetFrac64(2+1_000_000, 3600) // millionths
	want, _ := exact.Float64()
	if s := solve(t, p); s.Cost != manifest.Decimal(math.Round(want)) || s.Cost.String() != "0.000278" {
		t.Errorf("%+v, wanted %s", s, exact)
	}
}

func TestNothingBroken(t *testing.T) {
	if s := solve(t, &recovery.Problem{}); !s.Exact || s.Cost != 0 || len(s.Steps) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMistakes(t *testing.T) {
	hour := func(before ...int) recovery.Part {
		return recovery.Part{Ref: "component/a", Takes: time.Hour, Before: before}
	}
	below := func(recovery.Set) int64 { return -1 }
	for says, p := range map[string]*recovery.Problem{
		"takes 0s":                {Parts: []recovery.Part{{Ref: "component/a"}}},
		"waits for part 3 of 1":   {Parts: []recovery.Part{hour(3)}},
		"wait for each other":     {Parts: []recovery.Part{hour(1), hour(0)}},
		"part 2 of 1":             {Parts: []recovery.Part{hour()}, Needs: []recovery.Need{{Parts: []int{2}}}},
		"twice":                   {Parts: []recovery.Part{hour()}, Terms: []recovery.Term{{Parts: []int{0, 0}}}},
		"out of range":            {Parts: []recovery.Part{hour()}, Needs: []recovery.Need{{Parts: []int{0}, Rate: -1}}},
		"expected 0 to":           {Parts: []recovery.Part{hour()}, Needs: []recovery.Need{{Parts: []int{0}, Rate: 1 << 61}, {Parts: []int{0}, Rate: 1}}},
		"a loss in an hour is be": {Parts: []recovery.Part{hour()}, Terms: []recovery.Term{{Parts: []int{0}, Rate: below}}},
	} {
		if _, err := recovery.Solve(p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("wanted %q, got %v", says, err)
		}
	}
}

// Of more parts than can be enumerated the dynamic program is the oracle: no bound is above it, and no order below.
func TestBoundsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &recovery.Problem{Parts: drawParts(t, 12, 1)}
		for range 3 {
			drawNeeds(t, p)
		}
		if rapid.Bool().Draw(t, "with terms") {
			drawTerms(t, p, false)
		}
		best := solve(t, p).Cost
		if x := recovery.Search(p); x.Cost < best || x.Bound > best {
			t.Fatalf("search: %+v, best %s", x, best)
		}
		if x, ok := recovery.ByBlocks(p, 2); ok && (x.Cost < best || x.Cost > 2*best || x.Bound > best || x.Cost > 2*x.Bound+1) {
			t.Fatalf("blocks: %+v, best %s", x, best)
		}
	})
}
