package slo

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Parts is bad time by whose doing it was.
type Parts struct {
	Own, Upstream, Vendor, Planned, Unknown time.Duration
}

// Sum returns all of it.
func (p Parts) Sum() time.Duration { return p.Own + p.Upstream + p.Vendor + p.Planned + p.Unknown }

// Time is where the scheduled time of a stretch went: Good + Bad.Sum() + Unsure = Scheduled, to the nanosecond.
type Time struct {
	// Scheduled is time in business hours during which the service existed.
	Scheduled time.Duration
	// Good includes maintenance during which the service was known to be good.
	Good time.Duration
	// Bad.Planned is maintenance during which it was bad or nobody knows.
	Bad Parts
	// Unsure is time outside maintenance of which it is not known whether it was good or bad.
	Unsure time.Duration
	// Excluded is all maintenance; it is in Good and Bad.Planned already.
	Excluded time.Duration
	// BeforeExistence is scheduled time before the service existed. It is left out of everything above.
	BeforeExistence time.Duration
}

func timeOf(s *sums) Time {
	d := func(c ...class) (sum time.Duration) {
		for _, c := range c {
			sum += time.Duration(s[c])
		}
		return sum
	}
	return Time{
		Scheduled: d(total) - d(before), Good: d(good, plannedGood), Unsure: d(unsure),
		Bad:      Parts{Own: d(badOwn), Upstream: d(badUpstream), Vendor: d(badVendor), Planned: d(plannedBad), Unknown: d(badUnknown)},
		Excluded: d(plannedGood, plannedBad), BeforeExistence: d(before),
	}
}

// Spread is an amount of time that is not known exactly: with all that is unsure read as good, and as bad.
type Spread struct{ Low, High time.Duration }

// Outcomes of a window so far.
const (
	Met       = "met"
	Missed    = "missed"
	Undecided = "unknown" // what is unsure decides
)

// Figures are what comes of the time under one convention about maintenance. For the methods that count slices, a slice
// stands for its whole length.
type Figures struct {
	// Counted is the denominator so far.
	Counted time.Duration
	// SLILow and SLIHigh are percentages, rounded down; neither means anything where Counted is 0.
	SLILow, SLIHigh manifest.Decimal
	// Budget is the bad time that the whole window may hold, rounded down. What is to come of a calendar window counts as
	// scheduled time without maintenance.
	Budget time.Duration
	// Spent is what was bad, Left what remains of the budget: below 0 where it is overspent.
	Spent, Left Spread
	// Outcome is Met, Missed or Undecided, as the budget stands.
	Outcome string
}

// Rate is how fast the budget is being spent: 1 spends all of it in exactly one window.
type Rate struct{ Low, High float64 }

// Burn is one pair of windows over which the burn rate is measured, in scheduled time.
type Burn struct {
	Pair
	// Factor is the rate beyond which both windows together call: the pair's share of the budget * period / long.
	Factor float64
	// Reachable is false where even being bad all the time does not reach Factor, since the objective is too low for it.
	Reachable       bool
	InLong, InShort Rate
	// Firing says that both windows are surely beyond Factor, MayFire that they are with what is unsure read as bad.
	Firing, MayFire bool
	// Exhausted is the scheduled time until nothing is left of the budget at the rate of the long window: at the soonest and
	// at the latest, or Never. 0 says that nothing is left now.
	Exhausted Spread
}

// Never is a time to exhaustion that does not end.
const Never = time.Duration(1<<63 - 1)

// Result is how an objective stands at a moment.
type Result struct {
	At time.Time
	// From and To bound the window; To is At for a rolling one, and ahead of it for a calendar one.
	From, To time.Time
	// Time is where the scheduled time from From to At went.
	Time Time
	// ToCome is scheduled time from At to To.
	ToCome time.Duration
	// Period is the scheduled time of the whole window, including what was before the service existed.
	Period time.Duration
	// Up are the figures with maintenance as time up, LeftOut those with maintenance out of the denominator.
	Up, LeftOut Figures
	// Force names the convention in force, "up" or "leftOut"; Burns follow it.
	Force string
	// Burns are the pairs of windows, the fastest first. Those that do not fit into the window or are shorter than a slice
	// are left out.
	Burns []Burn
}

// InForce returns the figures under the convention in force.
func (r *Result) InForce() Figures {
	if r.Force == "leftOut" {
		return r.LeftOut
	}
	return r.Up
}

// Allowance returns the bad time that so much time may hold, rounded down.
func (s *Spec) Allowance(period time.Duration) time.Duration {
	return time.Duration(mulDiv(int64(period), million-int64(s.Objective), million))
}

func (s *Spec) figures(m measure, toCome int64) Figures {
	f := Figures{Counted: time.Duration(m.valid)}
	if m.valid > 0 {
		f.SLILow = manifest.Decimal(mulDiv(m.valid-m.most, 100*million, m.valid))
		f.SLIHigh = manifest.Decimal(mulDiv(m.valid-m.least, 100*million, m.valid))
	}
	f.Budget = s.Allowance(time.Duration(m.valid + toCome))
	f.Spent = Spread{time.Duration(m.least), time.Duration(m.most)}
	f.Left = Spread{f.Budget - f.Spent.High, f.Budget - f.Spent.Low}
	switch {
	case f.Left.Low >= 0:
		f.Outcome = Met
	case f.Left.High < 0:
		f.Outcome = Missed
	default:
		f.Outcome = Undecided
	}
	return f
}
