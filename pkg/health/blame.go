package health

import (
	"cmp"
	"slices"
)

// Blame says what makes a node as bad as it is.
type Blame struct {
	// Inputs are the indices of the inputs that belong to a smallest set which, put right, makes the node better; of all
	// such sets, in rising order.
	Inputs []int
	// Own says that the node's own level is part of every such set.
	Own bool
	// Shape says that no set of inputs helps: the node is bad by how it is built, such as a quorum with too few inputs.
	Shape bool
	// Partial says that there may be more causes than those listed.
	Partial bool
}

// constraint is one reason why a node is at its level: the gains of the inputs that are put right must reach need.
type constraint struct {
	gains  []float64
	need   float64
	strict bool // must exceed need
}

func (c *constraint) met(sum float64) bool {
	if c.strict {
		return sum > c.need
	}
	return sum >= c.need
}

// pairsUpTo is the number of candidates up to which all pairs are tried where several reasons overlap.
const pairsUpTo = 300

// Blame finds the smallest sets of inputs that, read as ok, make the node better than it is, on the reading that takes
// every unknown input as ok: what is only unknown is nobody's fault. It is in closed form, without trying subsets, but
// for several rules that reach the node's level at once; there it tries single inputs, then pairs, then adds up the most
// useful ones and says Partial.
func (r *Rule) Blame(inputs []Input, own Range) Blame {
	levels := make([]Level, len(inputs))
	var t tally
	for i := range inputs {
		if inputs[i].Counted() {
			levels[i] = inputs[i].Edge.Apply(inputs[i].Range.Low)
			t.add(levels[i], &inputs[i])
		}
	}
	main, _, _ := r.level(&t)
	at := max(main, own.Low)
	if at == OK {
		return Blame{}
	}
	s := solver{inputs: inputs, levels: levels, must: make([]bool, len(inputs))}
	out := Blame{Own: own.Low == at}
	if main == at {
		r.reasons(&s, &t, at)
		for i := range r.Also {
			if a := &r.Also[i]; a.Then == at && a.fires(&t) {
				a.reason(&s, &t)
			}
		}
	}
	if s.shape {
		return Blame{Shape: true, Own: out.Own}
	}
	out.Inputs, out.Partial = s.solve()
	return out
}

// solver gathers what has to go: inputs that all must, and constraints on the rest.
type solver struct {
	inputs      []Input
	levels      []Level
	must        []bool
	constraints []constraint
	shape       bool
}

// require adds a constraint over the inputs at from or worse.
func (s *solver) require(from Level, need float64, strict bool, gain func(i int) float64) {
	c := constraint{gains: make([]float64, len(s.inputs)), need: need, strict: strict}
	total := 0.0
	for i := range s.inputs {
		if s.inputs[i].Counted() && s.levels[i] >= max(from, Info) {
			c.gains[i] = gain(i)
			total += c.gains[i]
		}
	}
	if !c.met(total) {
		s.shape = true
	}
	s.constraints = append(s.constraints, c)
}

func one(int) float64 { return 1 }

func (s *solver) weight(i int) float64 { return float64(s.inputs[i].Weight) }

// reasons adds what the main rule has against the node, where it is what puts it at the level at.
func (r *Rule) reasons(s *solver, t *tally, at Level) {
	bare := Rule{Kind: r.Kind, Need: r.Need, Share: r.Share, Base: r.Base}
	if l, _, _ := bare.level(t); l != at {
		return
	}
	n, w := t.from(at)
	switch r.Kind {
	case Worst:
		for i := range s.inputs {
			s.must[i] = s.must[i] || s.inputs[i].Counted() && s.levels[i] == at
		}
	case Best:
		s.require(at, 1, false, one)
	case Quorum:
		s.require(at, float64(r.Needed(t.n)-(t.n-n)), false, one)
	case Threshold:
		// What stays must weigh less than the share of the whole, which does not change.
		excess := w*million - r.Share*t.total
		s.require(at, float64(excess/million+1), false, s.weight)
	case Exponential:
		power := 1.0
		for l := Warning; l < at; l++ {
			power *= r.Base
		}
		s.require(Warning, t.sum(r.Base)-power, true, func(i int) float64 {
			g := s.weight(i)
			for l := Warning; l < s.levels[i]; l++ {
				g *= r.Base
			}
			return g
		})
	case Score:
		if t.floored == at {
			for i := range s.inputs {
				in := &s.inputs[i]
				s.must[i] = s.must[i] || in.Counted() && s.levels[i] == at && (in.Essential || in.Weight >= EssentialWeight)
			}
		}
		if points, weight := t.points(); weight > 0 && band(points, weight) == at {
			s.require(Warning, float64(leastScore(at-1)*weight-points), false, func(i int) float64 {
				if s.inputs[i].Weight >= EssentialWeight {
					return 0
				}
				return s.weight(i) * float64(100-pointsOf(s.levels[i]))
			})
		}
	case AlwaysOK:
	}
}

// reason adds what an extra rule that fires has against the node.
func (a *Also) reason(s *solver, t *tally) {
	from := a.Level
	if a.LessThan {
		from++
	}
	n, w := t.from(from)
	have, all, gain := int64(n), int64(t.n), one
	if a.Measure == Weight || a.Measure == WeightPercent {
		have, all, gain = w, t.total, s.weight
	}
	bound, scale := int64(a.N), int64(1)
	if a.Measure == Percent || a.Measure == WeightPercent {
		bound, scale = bound*all, 100
	}
	// In units of 1/scale: at least fires while scale*have >= bound, less than while scale*(all-have) < bound.
	need := scale*have - bound + 1
	if a.LessThan {
		need = bound - scale*(all-have)
	}
	s.require(from, float64(need), false, func(i int) float64 { return float64(scale) * gain(i) })
}

// solve returns the union of all smallest sets that satisfy everything.
func (s *solver) solve() (inputs []int, partial bool) {
	var open []constraint
	for _, c := range s.constraints {
		for i, must := range s.must {
			if must {
				c.need -= c.gains[i]
			}
		}
		if !c.met(0) {
			open = append(open, c)
		}
	}
	for i, must := range s.must {
		if must {
			inputs = append(inputs, i)
		}
	}
	switch len(open) {
	case 0:
	case 1:
		inputs = append(inputs, s.single(&open[0])...)
	default:
		var more []int
		more, partial = s.several(open)
		inputs = append(inputs, more...)
	}
	slices.Sort(inputs)
	return inputs, partial
}

// single solves one constraint: the fewest heaviest inputs that reach it are k; an input belongs to some set of k that
// does exactly if it does together with the k-1 heaviest others.
func (s *solver) single(c *constraint) []int {
	order := s.candidates(func(i int) float64 { return c.gains[i] })
	sum, k := 0.0, 0
	for k < len(order) && !c.met(sum) {
		sum += c.gains[order[k]]
		k++
	}
	out := slices.Clone(order[:k])
	if k == 0 {
		return out
	}
	rest := sum - c.gains[order[k-1]]
	for _, i := range order[k:] {
		if !c.met(rest + c.gains[i]) {
			break
		}
		out = append(out, i)
	}
	return out
}

// candidates returns the inputs with a gain that are not among those that must go anyway, the greatest gain first.
func (s *solver) candidates(gain func(i int) float64) []int {
	var out []int
	for i := range s.inputs {
		if !s.must[i] && gain(i) > 0 {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(gain(b), gain(a)) })
	return out
}

// several solves constraints that overlap.
func (s *solver) several(open []constraint) (inputs []int, partial bool) {
	useful := s.candidates(func(i int) (g float64) {
		for c := range open {
			g += open[c].gains[i]
		}
		return g
	})
	all := func(members ...int) bool {
		for c := range open {
			sum := 0.0
			for _, i := range members {
				sum += open[c].gains[i]
			}
			if !open[c].met(sum) {
				return false
			}
		}
		return true
	}
	for _, i := range useful {
		if all(i) {
			inputs = append(inputs, i)
		}
	}
	if len(inputs) > 0 {
		return inputs, false
	}
	if len(useful) <= pairsUpTo {
		in := make([]bool, len(s.inputs))
		for a, i := range useful {
			for _, j := range useful[a+1:] {
				if all(i, j) {
					in[i], in[j] = true, true
				}
			}
		}
		for i, is := range in {
			if is {
				inputs = append(inputs, i)
			}
		}
		if len(inputs) > 0 {
			return inputs, false
		}
	}
	sums := make([]float64, len(open))
	taken := make([]bool, len(s.inputs))
	for {
		best, bestGain := -1, 0.0
		for _, i := range useful {
			if taken[i] {
				continue
			}
			g := 0.0
			for c := range open {
				if !open[c].met(sums[c]) {
					// In parts of what is missing, so that weights and counts can be compared.
					g += min(1, open[c].gains[i]/max(open[c].need-sums[c], 1e-9))
				}
			}
			if g > bestGain {
				best, bestGain = i, g
			}
		}
		if best < 0 {
			break
		}
		taken[best] = true
		inputs = append(inputs, best)
		for c := range open {
			sums[c] += open[c].gains[best]
		}
	}
	return inputs, true
}
