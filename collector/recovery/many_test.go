package recovery_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// large is a problem of parts whose losses hang together; with redundancy where terms is set.
func large(n int, terms bool) *recovery.Problem {
	p := &recovery.Problem{}
	x := uint32(7)
	next := func(n int) int { x = x*1664525 + 1013904223; return int(x>>8) % n }
	for i := range n {
		part := recovery.Part{Ref: manifest.Ref(fmt.Sprintf("component/c%02d", i)), Takes: time.Duration(1+next(12)) * 5 * time.Minute, Severity: health.Level(2 + next(4)), Since: time.Unix(int64(next(1000)), 0)}
		if i > 0 && next(3) == 0 {
			part.Before = []int{next(i)}
		}
		p.Parts = append(p.Parts, part)
	}
	for range n * 3 / 2 {
		var parts []int
		for len(parts) < 2+next(4) {
			if i := next(n); !slices.Contains(parts, i) {
				parts = append(parts, i)
			}
		}
		rate := int64(1+next(100)) * 1e6
		if !terms {
			p.Needs = append(p.Needs, recovery.Need{Parts: parts, Rate: rate})
			continue
		}
		need := 1 + next(len(parts))
		p.Terms = append(p.Terms, recovery.Term{Parts: parts, Rate: func(mended recovery.Set) int64 {
			if mended.Len() < need {
				return rate
			}
			return 0
		}})
	}
	return p
}

func TestManyParts(t *testing.T) {
	for _, terms := range []bool{false, true} {
		p := large(60, terms)
		s := solve(t, p)
		if s.LowerBound <= 0 || s.LowerBound > s.Cost || s.Cost > s.FirstCome || s.Cost > s.Severity || !terms && s.Cost > 2*s.LowerBound {
			t.Errorf("terms %v: %+v", terms, s)
		}
		t.Logf("terms %v: cost %s, bound %s, first come %s, severity %s, exact %v", terms, s.Cost, s.LowerBound, s.FirstCome, s.Severity, s.Exact)
		if again := solve(t, large(60, terms)); !reflect.DeepEqual(s, again) {
			t.Errorf("terms %v: the same problem has another plan", terms)
		}
	}
}

// Beyond what is searched or taken apart there is a plan all the same.
func TestVeryManyParts(t *testing.T) {
	for n, terms := range map[int]bool{700: true, 1600: false} {
		s := solve(t, large(n, terms))
		if s.Exact || s.LowerBound <= 0 || s.LowerBound > s.Cost || s.Cost > s.FirstCome || s.Cost > s.Severity {
			t.Errorf("%d parts: cost %s, bound %s, first come %s, severity %s, exact %v", n, s.Cost, s.LowerBound, s.FirstCome, s.Severity, s.Exact)
		}
	}
}

// A term that is too large for a table is asked, and its order is still never worse than first come, first served.
func TestLargeTerm(t *testing.T) {
	for _, n := range []int{14, 40} {
		p := &recovery.Problem{}
		for i := range n {
			p.Parts = append(p.Parts, recovery.Part{Ref: manifest.Ref(fmt.Sprintf("component/c%02d", i)), Takes: time.Duration(1+i*7%5) * time.Hour, Since: time.Unix(int64(n-i), 0)})
		}
		p.Terms = []recovery.Term{{Parts: numbers(n), Rate: func(mended recovery.Set) int64 { return int64(max(0, n/2-mended.Len())) * 1e6 }}}
		s := solve(t, p)
		if s.Exact != (n == 14) || s.Cost > s.FirstCome || s.LowerBound <= 0 || s.LowerBound > s.Cost {
			t.Errorf("%d parts: %+v", n, s)
		}
	}
}

// Numbers beyond whole arithmetic give a plan all the same, with a bound that holds; the largest costs saturate.
func TestHugeNumbers(t *testing.T) {
	p := large(60, false)
	for i := range p.Needs {
		p.Needs[i].Rate = p.Needs[i].Rate*1e8 + int64(i)
	}
	for i := range p.Parts {
		p.Parts[i].Takes += time.Duration(i)
	}
	if s := solve(t, p); s.LowerBound <= 0 || s.LowerBound > s.Cost {
		t.Errorf("%+v", s)
	}
	p = &recovery.Problem{Parts: []recovery.Part{{Takes: 1e5 * time.Hour}}, Needs: []recovery.Need{{Parts: []int{0}, Rate: 1 << 60}}}
	if s := solve(t, p); s.Cost != math.MaxInt64 {
		t.Errorf("%+v", s)
	}
}

// The most parts that are worked out in one go.
func TestTwentyTwoParts(t *testing.T) {
	p := large(60, false)
	p.Parts = p.Parts[:22]
	p.Needs = slices.DeleteFunc(p.Needs, func(n recovery.Need) bool { return slices.Max(n.Parts) >= 35 })
	for i := range p.Needs {
		for k := range p.Needs[i].Parts {
			p.Needs[i].Parts[k] %= 22
		}
		slices.Sort(p.Needs[i].Parts)
		p.Needs[i].Parts = slices.Compact(p.Needs[i].Parts)
	}
	s := solve(t, p)
	x, ok := recovery.ByBlocks(p, 22)
	if !s.Exact || !ok || !x.Exact || x.Cost != s.Cost || x.Bound != s.Cost {
		t.Errorf("%+v by all sets, %+v by blocks", s, x)
	}
}
