package slo_test

import (
	"iter"
	"math/big"
	"time"
	_ "time/tzdata" // a machine without zones runs the same tests

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// office are hours from Monday to Friday in civil time.
type office struct {
	loc      *time.Location
	from, to int // hours
}

func (o office) open(t time.Time) bool {
	l := t.In(o.loc)
	return l.Weekday() >= time.Monday && l.Weekday() <= time.Friday && l.Hour() >= o.from && l.Hour() < o.to
}

func (o office) Spans(from, to time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(time.Time, time.Time) bool) {
		y, m, d := from.In(o.loc).Date()
		for ; ; d++ {
			a, b := time.Date(y, m, d, o.from, 0, 0, 0, o.loc), time.Date(y, m, d, o.to, 0, 0, 0, o.loc)
			if !a.Before(to) {
				return
			}
			if a.Before(from) {
				a = from
			}
			if b.After(to) {
				b = to
			}
			if w := time.Date(y, m, d, 12, 0, 0, 0, o.loc).Weekday(); w == time.Saturday || w == time.Sunday || !a.Before(b) {
				continue
			}
			if !yield(a, b) {
				return
			}
		}
	}
}

// world is a small case that an oracle can look at moment by moment. All its times are multiples of step.
type world struct {
	spec    slo.Spec
	hours   *office
	created time.Time
	history []slo.Segment
	step    time.Duration

	begin time.Time // of all that is looked at, once it was found
}

func (w *world) evaluate(at time.Time) (slo.Result, []slo.Stretch, error) {
	var h slo.Hours
	if w.hours != nil {
		h = *w.hours
	}
	return slo.Evaluate(w.spec, h, w.created, w.history, at)
}

func (w *world) open(t time.Time) bool { return w.hours == nil || w.hours.open(t) }

// What a moment is, as the oracle sees it.
const (
	beforehand = iota
	isGood
	isBad
	isUnsure
	isPlannedGood
	isPlannedBad
)

func (w *world) what(t time.Time) (kind int, by slo.Origin) {
	if t.Before(w.created) {
		return beforehand, 0
	}
	x := slo.State{Health: health.Unknown}
	for _, s := range w.history {
		if !t.Before(s.From) && t.Before(s.To) {
			x = s.State
		}
	}
	planned := x.Origin == slo.Planned
	switch {
	case planned && x.Health.High < w.spec.Bad:
		return isPlannedGood, 0
	case planned:
		return isPlannedBad, slo.Planned
	case x.Health.High < w.spec.Bad:
		return isGood, 0
	case x.Health.Low < w.spec.Bad:
		return isUnsure, 0
	}
	return isBad, x.Origin
}

// tally is time counted moment by moment under one convention.
type tally struct{ valid, least, most time.Duration }

func (w *world) add(m *tally, t time.Time, leftOut bool) {
	switch kind, _ := w.what(t); kind {
	case isGood:
		m.valid += w.step
	case isBad:
		m.valid, m.least, m.most = m.valid+w.step, m.least+w.step, m.most+w.step
	case isUnsure:
		m.valid, m.most = m.valid+w.step, m.most+w.step
	case isPlannedGood, isPlannedBad:
		if !leftOut {
			m.valid += w.step
		}
	}
}

// counted measures [from, to) by the spec's method, looking at each moment.
func (w *world) counted(from, to time.Time, leftOut bool) (out tally) {
	if w.spec.Method == slo.Occurrences {
		for t := from; t.Before(to); t = t.Add(w.step) {
			if w.open(t) {
				w.add(&out, t, leftOut)
			}
		}
		return out
	}
	length := w.spec.Slice
	least, most, n := new(big.Int), new(big.Int), int64(0)
	first := time.Unix(0, 0).Add(from.Sub(time.Unix(0, 0)).Truncate(length)) // all cases are after 1970
	for t := first; !t.Add(length).After(to); t = t.Add(length) {
		var one tally
		for x := t; x.Before(t.Add(length)); x = x.Add(w.step) {
			if w.open(x) && !x.Before(w.origin()) {
				w.add(&one, x, leftOut)
			}
		}
		if one.valid == 0 {
			continue
		}
		n++
		least.Add(least, big.NewInt(w.lost(one, one.least)))
		most.Add(most, big.NewInt(w.lost(one, one.most)))
	}
	scale := func(x *big.Int) time.Duration {
		x.Mul(x, big.NewInt(int64(length))).Div(x, big.NewInt(1e9))
		return time.Duration(x.Int64())
	}
	return tally{time.Duration(n) * length, scale(least), scale(most)}
}

// lost is how much of a slice is lost, in billionths.
func (w *world) lost(m tally, bad time.Duration) int64 {
	up := new(big.Rat).SetFrac64(int64(m.valid-bad), int64(m.valid))
	if w.spec.Method == slo.RatioTimeslices {
		x := new(big.Int).Mul(up.Num(), big.NewInt(1e9))
		return 1e9 - x.Div(x, up.Denom()).Int64()
	}
	if up.Cmp(big.NewRat(int64(w.spec.SliceTarget), 1e6)) >= 0 {
		return 0
	}
	return 1e9
}

// key names the calendar window of a moment.
func key(period string, t time.Time) [2]int {
	switch period {
	case "week":
		y, w := t.ISOWeek()
		return [2]int{y, w}
	case "month":
		return [2]int{t.Year(), int(t.Month())}
	case "quarter":
		return [2]int{t.Year(), int(t.Month()-1) / 3}
	default:
		return [2]int{t.Year(), 0}
	}
}

// window looks for the ends of the window at t, step by step.
func (w *world) window(t time.Time) (from, to time.Time) {
	if w.spec.Calendar == "" {
		return t.Add(-w.spec.Rolling), t
	}
	k := key(w.spec.Calendar, t.In(w.spec.Location))
	for from = t; key(w.spec.Calendar, from.Add(-w.step).In(w.spec.Location)) == k; {
		from = from.Add(-w.step)
	}
	for to = t; key(w.spec.Calendar, to.In(w.spec.Location)) == k; {
		to = to.Add(w.step)
	}
	return from, to
}

// origin is the moment before which nothing is looked at.
func (w *world) origin() time.Time {
	if w.begin.IsZero() {
		w.begin, _ = w.window(w.created)
	}
	return w.begin
}

// back walks back from t over so much scheduled time.
func (w *world) back(t time.Time, scheduled time.Duration) time.Time {
	first := t
	origin := w.origin()
	for x := t.Add(-w.step); scheduled > 0 && !x.Before(origin); x = x.Add(-w.step) {
		if w.open(x) {
			first, scheduled = x, scheduled-w.step
		}
	}
	return first
}

// answer is what the oracle says of a moment.
type answer struct {
	from, to    time.Time
	time        slo.Time
	toCome      time.Duration
	period      time.Duration
	up, leftOut tally
	pairs       [][2]tally
}

func (w *world) oracle(at time.Time) answer {
	var a answer
	a.from, a.to = w.window(at)
	for t := a.from; t.Before(a.to); t = t.Add(w.step) {
		if !w.open(t) {
			continue
		}
		a.period += w.step
		if !t.Before(at) {
			a.toCome += w.step
			continue
		}
		kind, by := w.what(t)
		if kind == beforehand {
			a.time.BeforeExistence += w.step
			continue
		}
		a.time.Scheduled += w.step
		switch kind {
		case isGood:
			a.time.Good += w.step
		case isPlannedGood:
			a.time.Good += w.step
			a.time.Excluded += w.step
		case isPlannedBad:
			a.time.Excluded += w.step
		case isUnsure:
			a.time.Unsure += w.step
		}
		if kind == isBad || kind == isPlannedBad {
			b := &a.time.Bad
			*map[slo.Origin]*time.Duration{slo.Own: &b.Own, slo.Upstream: &b.Upstream, slo.Vendor: &b.Vendor, slo.Planned: &b.Planned, slo.Unknown: &b.Unknown}[by] += w.step
		}
	}
	a.up, a.leftOut = w.counted(a.from, at, false), w.counted(a.from, at, true)
	for _, p := range slo.Pairs() {
		if p.Long >= a.period || w.spec.Method != slo.Occurrences && w.spec.Slice > p.Short {
			continue
		}
		a.pairs = append(a.pairs, [2]tally{
			w.counted(w.back(at, p.Long), at, w.spec.LeftOut), w.counted(w.back(at, p.Short), at, w.spec.LeftOut),
		})
	}
	return a
}

// percent is 100*(valid-bad)/valid, rounded down at the sixth place.
func percent(m tally, bad time.Duration) manifest.Decimal {
	x := new(big.Int).Mul(big.NewInt(int64(m.valid-bad)), big.NewInt(1e8))
	return manifest.Decimal(x.Div(x, big.NewInt(int64(m.valid))).Int64())
}
