package slo

import "time"

// Pair is a long and a short window over which a burn rate is watched: the long one shows that it matters, the short one
// that it is still going on. Share is how much of the budget is gone by the time the long window calls, in percent.
type Pair struct {
	Long, Short time.Duration
	Share       int64
	// Call is what it is worth: page or ticket.
	Call string
}

// Pairs returns the pairs of windows, the fastest first. Over 30 days their factors are 14.4, 6, 3 and 1.
func Pairs() []Pair { return append([]Pair(nil), pairs[:]...) }

var pairs = [...]Pair{
	{time.Hour, 5 * time.Minute, 2, "page"},
	{6 * time.Hour, 30 * time.Minute, 5, "page"},
	{24 * time.Hour, 2 * time.Hour, 10, "ticket"},
	{72 * time.Hour, 6 * time.Hour, 10, "ticket"},
}

// Factor returns the burn rate at which the share of the budget of that period is gone in the long window.
func (p Pair) Factor(period time.Duration) float64 {
	return float64(p.Share) * float64(period) / (100 * float64(p.Long))
}

// fits reports whether a pair says anything in such a window.
func (s *Spec) fits(p Pair, period time.Duration) bool {
	return p.Long < period && (s.Method == Occurrences || s.Slice <= p.Short)
}

// rate returns the burn rate of a stretch; where nothing counts, nothing burns.
func (s *Spec) rate(m measure) Rate {
	if m.valid == 0 {
		return Rate{}
	}
	allowed := float64(million - int64(s.Objective))
	per := million / (float64(m.valid) * allowed)
	return Rate{float64(m.least) * per, float64(m.most) * per}
}

// burn judges one pair. Of the long window, young is the time before the service existed: it spent nothing, and unless it counted as such
// here, the first bad seconds of a service would call.
func (s *Spec) burn(p Pair, period time.Duration, long, short measure, young int64, left Spread) Burn {
	b := Burn{Pair: p, Factor: p.Factor(period), InLong: s.rate(long), InShort: s.rate(short)}
	b.Reachable = b.Factor*float64(million-int64(s.Objective)) < million
	long.valid += young
	spent := s.rate(long)
	b.Firing = spent.Low > b.Factor && b.InShort.Low > b.Factor
	b.MayFire = spent.High > b.Factor && b.InShort.High > b.Factor
	long.valid -= young
	b.Exhausted = Spread{exhausted(left.Low, long.most, long.valid), exhausted(left.High, long.least, long.valid)}
	return b
}

// exhausted returns how long left lasts when bad of each valid is spent.
func exhausted(left time.Duration, bad, valid int64) time.Duration {
	switch {
	case left <= 0:
		return 0
	case bad == 0:
		return Never
	case float64(left)*float64(valid)/float64(bad) >= float64(Never)/2:
		return Never
	}
	return time.Duration(mulDiv(int64(left), valid, bad))
}
