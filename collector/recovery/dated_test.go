package recovery_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/recovery"
)

// daily is a curve that comes back every 24 hours: from From for Open hours it counts Day times, otherwise Night times.
type daily struct{ From, Open, Day, Night int }

func (d daily) factor(hour int) int {
	if h := (hour%24 + 24 - d.From) % 24; h < d.Open {
		return d.Day
	}
	return d.Night
}

func (d daily) Weighted(from, to time.Duration) (sum time.Duration) {
	for at := from; at < to; {
		next := min(to, at.Truncate(time.Hour)+time.Hour)
		sum += (next - at) * time.Duration(d.factor(int(at/time.Hour)))
		at = next
	}
	return sum
}

func (d daily) Changes(to time.Duration) (out []time.Duration) {
	for h := 1; time.Duration(h)*time.Hour < to; h++ {
		if d.factor(h) != d.factor(h-1) {
			out = append(out, time.Duration(h)*time.Hour)
		}
	}
	return out
}

// dated gives the losses of a problem hours of some kinds.
func dated(p *recovery.Problem, kinds ...recovery.Curve) *recovery.Problem {
	for k := range p.Needs {
		p.Needs[k].Curve = kinds[k%len(kinds)]
	}
	for k := range p.Terms {
		p.Terms[k].Curve = kinds[k%len(kinds)]
	}
	return p
}

// Under calendars the bound of many parts is near what the plan costs too.
func TestBoundUnderCalendars(t *testing.T) {
	shop, office, night := daily{8, 12, 10, 1}, daily{9, 8, 5, 0}, daily{22, 8, 4, 1}
	for name, kinds := range map[string][]recovery.Curve{"one": {shop}, "two": {shop, office}, "three": {shop, office, night}, "some around the clock": {shop, nil, night}} {
		for _, terms := range []bool{false, true} {
			for _, n := range []int{23, 40, 100} {
				s := solve(t, dated(large(n, terms), kinds...))
				ratio := s.Cost.Float() / s.LowerBound.Float()
				if most := map[bool]float64{false: 1.6, true: 2.1}[terms]; ratio < 1 || ratio > most {
					t.Errorf("%s, terms %v, %d parts: the plan costs %.2f times the bound, expected at most %.1f", name, terms, n, ratio, most)
				}
				t.Logf("%s, terms %v, %d parts: cost %s, bound %s, ratio %.2f", name, terms, n, s.Cost, s.LowerBound, ratio)
			}
		}
	}
}

// However many parts there are and however often hours change, a plan with its bound takes seconds.
func TestVeryManyPartsUnderCalendars(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, n := range []int{200, 1200} {
		began := time.Now()
		s := solve(t, dated(large(n, false), daily{8, 12, 10, 1}, nil, daily{22, 8, 4, 1}))
		t.Logf("%d parts: cost %s, bound %s, %s", n, s.Cost, s.LowerBound, time.Since(began).Round(time.Millisecond))
		if s.LowerBound <= 0 || s.LowerBound > s.Cost {
			t.Errorf("%d parts: %+v", n, s)
		}
	}
}

// Of more parts than can be enumerated the dynamic program is the oracle: no bound is above it, whatever the hours.
func TestBoundsHoldUnderCalendars(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &recovery.Problem{Parts: drawParts(t, 11, 1)}
		for range 3 {
			drawNeeds(t, p)
		}
		if rapid.Bool().Draw(t, "with terms") {
			drawTerms(t, p, true)
		}
		kinds := []recovery.Curve{nil}
		for range rapid.IntRange(1, 3).Draw(t, "kinds") {
			kinds = append(kinds, daily{
				rapid.IntRange(0, 23).Draw(t, "from"), rapid.IntRange(1, 23).Draw(t, "open"), rapid.IntRange(0, 9).Draw(t, "day"), rapid.IntRange(0, 9).Draw(t, "night"),
			})
		}
		for k := range p.Needs {
			p.Needs[k].Curve = rapid.SampledFrom(kinds).Draw(t, "curve")
		}
		for k := range p.Terms {
			p.Terms[k].Curve = rapid.SampledFrom(kinds).Draw(t, "curve")
		}
		best := solve(t, p)
		if !best.Exact {
			t.Fatal("not exact")
		}
		if x := recovery.Search(p); x.Cost < best.Cost || x.Bound > best.Cost {
			t.Fatalf("search: %+v, best %s", x, best.Cost)
		}
	})
}
