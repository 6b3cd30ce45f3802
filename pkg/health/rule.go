package health

import (
	"fmt"
	"math"
	"strings"
)

// EssentialWeight is the weight that makes an input of a score essential; the others are 1 to 10.
const EssentialWeight = 11

// Kind names a rule.
type Kind uint8

// The rules by which the health of many becomes the health of one.
const (
	Worst       Kind = iota
	Best             // the best input
	Quorum           // the k-th best input
	Threshold        // the worst level that a share of the weight reaches
	Exponential      // many small make one big
	Score            // weighted mean of points
	AlwaysOK
)

var kindNames = [...]string{"worst", "best", "quorum", "threshold", "exponential", "score", "alwaysOk"}

// String returns the rule as manifests write it.
func (k Kind) String() string { return kindNames[k] }

// ParseKind reads what String writes; the empty word is Worst.
func ParseKind(s string) (Kind, error) {
	if s == "" {
		return Worst, nil
	}
	for i, n := range kindNames {
		if n == s {
			return Kind(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a rule: expected %s", s, strings.Join(kindNames[:], ", "))
}

// million is the whole of a share.
const million = 1_000_000

// Rule is a rule with its parameters. The zero Rule is Worst.
type Rule struct {
	Kind Kind
	// Need is the number of inputs that Quorum needs; where it is 0, Share of the inputs, rounded up.
	Need int
	// Share of Quorum (of the inputs) and Threshold (of the weight), in millionths, above 0.
	Share int64
	// Base of Exponential, above 1.
	Base float64
	Also []Also
}

// Measure says what an extra rule counts.
type Measure uint8

// The measures of an extra rule.
const (
	Count Measure = iota
	Percent
	Weight
	WeightPercent
)

var measureNames = [...]string{"count", "percent", "weight", "weightPercent"}

// String returns the measure as manifests write it.
func (m Measure) String() string { return measureNames[m] }

// ParseMeasure reads what String writes.
func ParseMeasure(s string) (Measure, error) {
	for i, n := range measureNames {
		if n == s {
			return Measure(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a measure: expected count, percent, weight or weightPercent", s)
}

// Also is an extra rule. It fires when at least N of the inputs are at Level or worse; or, with LessThan, when fewer
// than N are at Level or better. Where it fires, the node is at Then or worse. It never fires without inputs.
type Also struct {
	Measure  Measure
	LessThan bool
	N        int
	Level    Level
	Then     Level
}

// Input is one input of a node: the health at the far end of an edge and what the edge does to it.
type Input struct {
	Range     Range
	Edge      EdgeMap
	Weight    int // 0: not counted
	Essential bool
	Away      bool // in maintenance: not counted
}

// Counted reports whether the input enters the rule at all.
func (i Input) Counted() bool { return i.Edge.How != Ignore && i.Weight > 0 && !i.Away }

// Result is the health of a node. Score is set by the rule Score: the mean with every unknown input read as ok, 0 to 100.
type Result struct {
	Range
	Score  float64
	Scored bool
}

// Reduce returns the health of a node from its inputs and its own level. The own level (of signals about the node
// itself) never hides the inputs, nor they it: the worse counts. A node without own signals passes Exactly(OK).
func (r *Rule) Reduce(inputs []Input, own Range) Result {
	var low, high tally
	same := own.Low == own.High
	for i := range inputs {
		in := &inputs[i]
		if !in.Counted() {
			continue
		}
		m := in.Edge.ApplyRange(in.Range)
		low.add(m.Low, in)
		high.add(m.High, in)
		same = same && m.Low == m.High
	}
	var out Result
	var main Level
	main, out.Score, out.Scored = r.level(&low)
	out.Low = max(main, own.Low)
	out.High = out.Low
	if !same {
		main, _, _ = r.level(&high)
		out.High = max(main, own.High)
		// Info is left out of a score, so that an input which gets worse than info can raise the mean: the ends may
		// come out crossed.
		out.Low, out.High = min(out.Low, out.High), max(out.Low, out.High)
	}
	return out
}

// tally is all that a rule needs to know of the inputs, on one reading of what is unknown.
type tally struct {
	n       int
	total   int64
	count   [Critical + 1]int
	weight  [Critical + 1]int64
	graded  [Critical + 1]int64 // weight that enters the mean of a score
	floored Level               // worst essential input
}

func (t *tally) add(l Level, in *Input) {
	t.n++
	t.total += int64(in.Weight)
	t.count[l]++
	t.weight[l] += int64(in.Weight)
	if in.Weight < EssentialWeight {
		t.graded[l] += int64(in.Weight)
	}
	if (in.Essential || in.Weight >= EssentialWeight) && l > t.floored {
		t.floored = l
	}
}

// from returns how many inputs, and what weight, are at l or worse.
func (t *tally) from(l Level) (n int, w int64) {
	for ; l <= Critical; l++ {
		n += t.count[l]
		w += t.weight[l]
	}
	return n, w
}

func (r *Rule) level(t *tally) (l Level, score float64, scored bool) {
	switch r.Kind {
	case Worst:
		for c := Critical; c > OK; c-- {
			if t.count[c] > 0 {
				l = c
				break
			}
		}
	case Best:
		l = t.best(min(1, t.n))
	case Quorum:
		l = t.best(r.Needed(t.n))
	case Threshold:
		for c := Critical; c > OK && l == OK; c-- {
			if _, w := t.from(c); w*million >= r.Share*t.total && w > 0 {
				l = c
			}
		}
	case Exponential:
		l = exponential(t.sum(r.Base), r.Base)
	case Score:
		points, weight := t.points()
		if weight == 0 {
			score, l = 100, t.floored
		} else {
			score = float64(points) / float64(weight)
			l = max(band(points, weight), t.floored)
		}
		scored = true
	case AlwaysOK:
	}
	for i := range r.Also {
		if a := &r.Also[i]; a.Then > l && a.fires(t) {
			l = a.Then
		}
	}
	return l, score, scored
}

// Needed returns how many of n inputs a quorum needs.
func (r *Rule) Needed(n int) int {
	if r.Need > 0 {
		return r.Need
	}
	return int((r.Share*int64(n) + million - 1) / million)
}

// best returns the k-th best level; critical where there are fewer than k inputs. Where none is needed nothing is wrong.
func (t *tally) best(k int) Level {
	seen := 0
	for l := OK; l <= Critical; l++ {
		if seen += t.count[l]; seen >= k {
			return l
		}
	}
	return Critical
}

// sum adds up base to the power of each level, warning being 0.
func (t *tally) sum(base float64) (x float64) {
	p := 1.0
	for l := Warning; l <= Critical; l++ {
		x += float64(t.weight[l]) * p
		p *= base
	}
	return x
}

// exponential returns the greatest level whose power x reaches. Powers are multiplied up, since exact ones sit on the edge.
func exponential(x, base float64) Level {
	out, p := OK, 1.0
	for l := Warning; l <= Critical && p <= x; l++ {
		out = l
		p *= base
	}
	return out
}

// pointsOf is what an input at a level gives to a score; info is left out of the mean.
func pointsOf(l Level) int64 {
	switch l {
	case OK:
		return 100
	case Warning:
		return 70
	case Minor:
		return 50
	case Major:
		return 30
	default:
		return 0
	}
}

func (t *tally) points() (sum, weight int64) {
	for l := OK; l <= Critical; l++ {
		if l != Info {
			sum += pointsOf(l) * t.graded[l]
			weight += t.graded[l]
		}
	}
	return sum, weight
}

// leastScore is the score from which on a node is at that level or better.
func leastScore(l Level) int64 {
	switch l {
	case OK, Info:
		return 80
	case Warning:
		return 60
	case Minor:
		return 40
	case Major:
		return 20
	default:
		return 0
	}
}

// band returns the level of a mean: 80 and above is ok, 60 warning, 40 minor, 20 major, less is critical.
func band(points, weight int64) Level {
	for _, l := range []Level{OK, Warning, Minor, Major} {
		if points >= leastScore(l)*weight {
			return l
		}
	}
	return Critical
}

func (a *Also) fires(t *tally) bool {
	if t.n == 0 || t.total == 0 {
		return false
	}
	from := a.Level
	if a.LessThan {
		from++ // those beyond the level
	}
	n, w := t.from(from)
	have, all := int64(n), int64(t.n)
	if a.Measure == Weight || a.Measure == WeightPercent {
		have, all = w, t.total
	}
	if a.LessThan {
		have = all - have
	}
	if a.Measure == Percent || a.Measure == WeightPercent {
		have = 100 * have / all
	}
	if a.LessThan {
		return have < int64(a.N)
	}
	return have >= int64(a.N)
}

// RoundScore returns a score with one decimal, as people read it.
func RoundScore(s float64) float64 { return math.Round(s*10) / 10 }
