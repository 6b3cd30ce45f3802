package health_test

import (
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/health"
)

const (
	ok, info, warning, minor, major, critical = health.OK, health.Info, health.Warning, health.Minor, health.Major, health.Critical
)

func inputs(levels ...health.Level) []health.Input {
	out := make([]health.Input, len(levels))
	for i, l := range levels {
		out[i] = health.Input{Range: health.Exactly(l), Weight: 1}
	}
	return out
}

func weighed(in []health.Input, weights ...int) []health.Input {
	for i, w := range weights {
		in[i].Weight = w
	}
	return in
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name string
		rule health.Rule
		in   []health.Input
		want health.Level
	}{
		{"worst", health.Rule{}, inputs(ok, minor, info), minor},
		{"worst of nothing", health.Rule{}, nil, ok},
		{"best", health.Rule{Kind: health.Best}, inputs(major, minor, critical), minor},
		{"best of nothing", health.Rule{Kind: health.Best}, nil, ok},
		{"two of three", health.Rule{Kind: health.Quorum, Need: 2}, inputs(critical, ok, major), major},
		{"two of three, two good", health.Rule{Kind: health.Quorum, Need: 2}, inputs(critical, ok, ok), ok},
		{"fewer than needed", health.Rule{Kind: health.Quorum, Need: 2}, inputs(ok), critical},
		{"one needed of none", health.Rule{Kind: health.Quorum, Need: 1}, nil, critical},
		{"55 % of 20 is 11", health.Rule{Kind: health.Quorum, Share: 550_000}, append(inputs(slices.Repeat([]health.Level{ok}, 11)...), inputs(slices.Repeat([]health.Level{critical}, 9)...)...), ok},
		{"55 % of 20 is not 10", health.Rule{Kind: health.Quorum, Share: 550_000}, append(inputs(slices.Repeat([]health.Level{ok}, 10)...), inputs(slices.Repeat([]health.Level{critical}, 10)...)...), critical},
		{"threshold by weight", health.Rule{Kind: health.Threshold, Share: 500_000}, weighed(inputs(ok, major, critical), 2, 1, 1), major},
		{"threshold missed", health.Rule{Kind: health.Threshold, Share: 500_001}, weighed(inputs(ok, major, critical), 2, 1, 1), ok},
		{"exponential, exact power", health.Rule{Kind: health.Exponential, Base: 3}, inputs(warning, warning, warning), minor},
		{"exponential, just below", health.Rule{Kind: health.Exponential, Base: 3}, inputs(warning, warning), warning},
		{"exponential, small ones make a big one", health.Rule{Kind: health.Exponential, Base: 2}, inputs(minor, minor, minor, minor), critical},
		{"exponential, info does not count", health.Rule{Kind: health.Exponential, Base: 2}, inputs(info, info, ok), ok},
		{"score", health.Rule{Kind: health.Score}, weighed(inputs(ok, warning, major), 10, 7, 5), warning},
		{"score dilutes", health.Rule{Kind: health.Score}, weighed(inputs(ok, critical), 10, 1), ok},
		{"always ok", health.Rule{Kind: health.AlwaysOK}, inputs(critical), ok},
		{"extra rule", health.Rule{Kind: health.AlwaysOK, Also: []health.Also{{N: 2, Level: minor, Then: major}}}, inputs(critical, minor, ok), major},
		{"extra rule, percents are floored", health.Rule{Kind: health.AlwaysOK, Also: []health.Also{{Measure: health.Percent, N: 67, Level: minor, Then: major}}}, inputs(critical, minor, ok), ok},
		{"extra rule, fewer than", health.Rule{Kind: health.AlwaysOK, Also: []health.Also{{LessThan: true, N: 2, Level: info, Then: critical}}}, inputs(critical, minor, ok), critical},
		{"extra rule without inputs", health.Rule{Kind: health.AlwaysOK, Also: []health.Also{{LessThan: true, N: 2, Level: info, Then: critical}}}, nil, ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.rule.Reduce(c.in, health.Exactly(ok)); got.Range != health.Exactly(c.want) {
				t.Errorf("%v, want %v", got.Range, c.want)
			}
		})
	}
}

func TestScoreIsThePublishedOne(t *testing.T) {
	r := health.Rule{Kind: health.Score}
	got := r.Reduce(weighed(inputs(ok, warning, major), 10, 7, 5), health.Exactly(ok))
	if !got.Scored || health.RoundScore(got.Score) != 74.5 {
		t.Errorf("%+v", got)
	}
	in := weighed(inputs(ok, critical), 10, 1)
	in[1].Essential = true
	if got := r.Reduce(in, health.Exactly(ok)); got.Low != critical || got.Score < 90 {
		t.Errorf("an essential input is a floor: %+v", got)
	}
	if got := r.Reduce(weighed(inputs(ok, major), 10, 11), health.Exactly(ok)); got.Low != major || got.Score != 100 {
		t.Errorf("weight 11 is essential and not in the mean: %+v", got)
	}
}

func TestUnknownIsARange(t *testing.T) {
	in := inputs(ok, ok, minor)
	in[0].Range = health.Unknown
	for _, c := range []struct {
		rule health.Rule
		want health.Range
	}{
		{health.Rule{}, health.Range{Low: minor, High: critical}},
		{health.Rule{Kind: health.Best}, health.Exactly(ok)},
		{health.Rule{Kind: health.Quorum, Need: 2}, health.Range{Low: ok, High: minor}},
		{health.Rule{Kind: health.Quorum, Need: 3}, health.Range{Low: minor, High: critical}},
	} {
		if got := c.rule.Reduce(in, health.Exactly(ok)); got.Range != c.want {
			t.Errorf("%v: %v, want %v", c.rule.Kind, got.Range, c.want)
		}
	}
}

func TestOwnLevelNeitherHidesNorIsHidden(t *testing.T) {
	r := health.Rule{Kind: health.Best}
	if got := r.Reduce(inputs(major, critical), health.Exactly(ok)); got.Low != major {
		t.Errorf("own ok hides the inputs: %v", got.Range)
	}
	if got := r.Reduce(inputs(ok, ok), health.Exactly(critical)); got.Low != critical {
		t.Errorf("good inputs hide the own level: %v", got.Range)
	}
}

func TestEdgeMaps(t *testing.T) {
	for _, c := range []struct {
		edge string
		want [6]health.Level
	}{
		{"asIs", [6]health.Level{ok, info, warning, minor, major, critical}},
		{"increase:2", [6]health.Level{ok, minor, major, critical, critical, critical}},
		{"decrease:2", [6]health.Level{ok, ok, ok, info, warning, minor}},
		{"fixed:minor", [6]health.Level{ok, minor, minor, minor, minor, minor}},
	} {
		m, err := health.ParseEdgeMap(c.edge)
		if err != nil || m.String() != c.edge {
			t.Fatalf("%q: %v %v", c.edge, m, err)
		}
		for l := ok; l <= critical; l++ {
			if got := m.Apply(l); got != c.want[l] {
				t.Errorf("%s of %v is %v, want %v", c.edge, l, got, c.want[l])
			}
		}
	}
	for _, bad := range []string{"", "increase", "increase:0", "increase:6", "decrease:-1", "fixed:bad", "ignore:1", "asIs:1", "up"} {
		if _, err := health.ParseEdgeMap(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// The rules once more, straight from their definitions, over plain slices of mapped levels.
func oracle(r *health.Rule, levels []health.Level, in []health.Input) health.Level {
	n := len(levels)
	out := ok
	var total, scoreSum, scoreWeight int
	for i := range in {
		total += in[i].Weight
	}
	sorted := slices.Clone(levels)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	switch r.Kind {
	case health.Worst:
		if n > 0 {
			out = sorted[n-1]
		}
	case health.Best:
		if n > 0 {
			out = sorted[0]
		}
	case health.Quorum:
		k := r.Need
		if k == 0 {
			for k*1_000_000 < int(r.Share)*n {
				k++
			}
		}
		switch {
		case k > n:
			out = critical
		case k > 0:
			out = sorted[k-1]
		}
	case health.Threshold:
		for l := info; l <= critical; l++ {
			w := 0
			for i := range levels {
				if levels[i] >= l {
					w += in[i].Weight
				}
			}
			if w > 0 && w*1_000_000 >= int(r.Share)*total {
				out = l
			}
		}
	case health.Exponential:
		x := 0.0
		pow := func(k int) float64 {
			p := 1.0
			for range k {
				p *= r.Base
			}
			return p
		}
		for i, l := range levels {
			if l >= warning {
				x += float64(in[i].Weight) * pow(int(l-warning))
			}
		}
		for k := 0; k <= 3; k++ {
			if x >= pow(k) {
				out = warning + health.Level(k)
			}
		}
	case health.Score:
		points := map[health.Level]int{ok: 100, warning: 70, minor: 50, major: 30, critical: 0}
		for i, l := range levels {
			if p, counts := points[l]; counts && in[i].Weight < 11 {
				scoreSum += p * in[i].Weight
				scoreWeight += in[i].Weight
			}
			if in[i].Essential || in[i].Weight >= 11 {
				out = max(out, l)
			}
		}
		if scoreWeight > 0 {
			switch s := float64(scoreSum) / float64(scoreWeight); {
			case s >= 80:
			case s >= 60:
				out = max(out, warning)
			case s >= 40:
				out = max(out, minor)
			case s >= 20:
				out = max(out, major)
			default:
				out = critical
			}
		}
	case health.AlwaysOK:
	}
	for _, a := range r.Also {
		bad, badWeight := 0, 0
		for i, l := range levels {
			if !a.LessThan && l >= a.Level || a.LessThan && l > a.Level {
				bad++
				badWeight += in[i].Weight
			}
		}
		have, whole := bad, n
		if a.Measure == health.Weight || a.Measure == health.WeightPercent {
			have, whole = badWeight, total
		}
		if whole == 0 {
			continue
		}
		if a.LessThan {
			have = whole - have
		}
		if a.Measure == health.Percent || a.Measure == health.WeightPercent {
			have = have * 100 / whole
		}
		if a.LessThan && have < a.N || !a.LessThan && have >= a.N {
			out = max(out, a.Then)
		}
	}
	return out
}

func drawLevel(t *rapid.T, name string) health.Level {
	return health.Level(rapid.IntRange(0, 5).Draw(t, name))
}

func drawRule(t *rapid.T, maxAlso int) *health.Rule {
	r := &health.Rule{
		Kind: health.Kind(rapid.IntRange(0, 6).Draw(t, "kind")),
		Base: rapid.SampledFrom([]float64{1.5, 2, 3}).Draw(t, "base"),
	}
	if r.Kind == health.Threshold || rapid.Bool().Draw(t, "byShare") {
		r.Share = int64(rapid.IntRange(1, 20).Draw(t, "share") * 50_000)
	} else {
		r.Need = rapid.IntRange(1, 5).Draw(t, "need")
	}
	for range rapid.IntRange(0, maxAlso).Draw(t, "also") {
		r.Also = append(r.Also, health.Also{
			Measure: health.Measure(rapid.IntRange(0, 3).Draw(t, "measure")), LessThan: rapid.Bool().Draw(t, "lessThan"),
			N: rapid.IntRange(1, 60).Draw(t, "n"), Level: health.Level(rapid.IntRange(1, 5).Draw(t, "level")), Then: health.Level(rapid.IntRange(1, 5).Draw(t, "then")),
		})
	}
	return r
}

func drawInputs(t *rapid.T, maxN int) []health.Input {
	in := make([]health.Input, rapid.IntRange(0, maxN).Draw(t, "inputs"))
	for i := range in {
		l := drawLevel(t, "level")
		in[i] = health.Input{
			Range: health.Range{Low: l, High: max(l, drawLevel(t, "high"))}, Weight: rapid.IntRange(0, 12).Draw(t, "weight"),
			Essential: rapid.IntRange(0, 4).Draw(t, "essential") == 0, Away: rapid.IntRange(0, 9).Draw(t, "away") == 0,
		}
		in[i].Edge = health.EdgeMap{How: health.Propagation(rapid.IntRange(0, 4).Draw(t, "how")), By: rapid.IntRange(1, 3).Draw(t, "by"), To: drawLevel(t, "to")}
	}
	return in
}

// counted returns what enters the rule on one reading of the unknown.
func counted(in []health.Input, high bool) (levels []health.Level, of []health.Input, index []int) {
	for i, x := range in {
		if x.Edge.How == health.Ignore || x.Weight == 0 || x.Away {
			continue
		}
		l := x.Range.Low
		if high {
			l = x.Range.High
		}
		levels, of, index = append(levels, x.Edge.Apply(l)), append(of, x), append(index, i)
	}
	return levels, of, index
}

func TestReduceAgainstItsDefinitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, in := drawRule(t, 2), drawInputs(t, 9)
		own := drawLevel(t, "own")
		got := r.Reduce(in, health.Exactly(own))
		lows, of, _ := counted(in, false)
		highs, _, _ := counted(in, true)
		low, high := max(own, oracle(r, lows, of)), max(own, oracle(r, highs, of))
		if want := (health.Range{Low: min(low, high), High: max(low, high)}); got.Range != want {
			t.Fatalf("%+v of %+v: %v, want %v", r, in, got.Range, want)
		}
	})
}

// Blame against the power set: the union of all smallest sets of inputs which, read as ok, make the node better.
func TestBlameAgainstThePowerSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, in := drawRule(t, 1), drawInputs(t, 8)
		own := rapid.SampledFrom([]health.Level{ok, ok, ok, minor, critical}).Draw(t, "own")
		levels, of, index := counted(in, false)
		at := max(own, oracle(r, levels, of))
		got := r.Blame(in, health.Exactly(own))
		if r.Kind == health.Score && slices.Contains(levels, info) {
			return // info is left out of the mean, where ok would raise it: putting it right is no repair
		}
		if at == ok {
			if diff := cmp.Diff(health.Blame{}, got); diff != "" {
				t.Fatal(diff)
			}
			return
		}
		best := len(levels) + 1
		var union uint
		for set := range uint(1) << len(levels) {
			after := slices.Clone(levels)
			legal := true
			for i := range after {
				if set>>i&1 == 1 {
					legal = legal && after[i] != ok
					after[i] = ok
				}
			}
			// The own level goes with every set: it is told apart.
			if !legal || oracle(r, after, of) >= at {
				continue
			}
			switch n := bits.OnesCount(set); {
			case n < best:
				best, union = n, set
			case n == best:
				union |= set
			}
		}
		var want []int
		for i := range levels {
			if union>>i&1 == 1 {
				want = append(want, index[i])
			}
		}
		about := fmt.Sprintf("%+v of %+v (levels %v), own %v", r, in, levels, own)
		switch {
		case best > len(levels):
			if !got.Shape {
				t.Fatalf("%s: nothing helps, but blamed %+v", about, got)
			}
		case got.Shape:
			t.Fatalf("%s: shape blamed, but %v helps", about, want)
		case got.Partial:
			for _, i := range got.Inputs {
				if !in[i].Counted() {
					t.Fatalf("%s: blamed %d, which does not count", about, i)
				}
			}
		default:
			if diff := cmp.Diff(want, got.Inputs); diff != "" {
				t.Fatalf("%s:\n%s", about, diff)
			}
		}
		if got.Own != (own == at) {
			t.Fatalf("%s: own blamed %v", about, got.Own)
		}
	})
}

func BenchmarkReduce(b *testing.B) {
	in := make([]health.Input, 2500)
	for i := range in {
		in[i] = health.Input{Range: health.Exactly(health.Level(i % 6)), Weight: 1}
	}
	r := health.Rule{Kind: health.Quorum, Share: 500_000}
	b.ReportAllocs()
	for b.Loop() {
		r.Reduce(in, health.Exactly(ok))
	}
}

func BenchmarkBlame(b *testing.B) {
	in := make([]health.Input, 2500)
	for i := range in {
		in[i] = health.Input{Range: health.Exactly(health.Level(i % 6)), Weight: 1 + i%7}
	}
	r := health.Rule{Kind: health.Threshold, Share: 500_000}
	b.ReportAllocs()
	for b.Loop() {
		r.Blame(in, health.Exactly(ok))
	}
}
