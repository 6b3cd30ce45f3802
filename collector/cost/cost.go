// Package cost is what bad health costs: the exact integral of value times loss over the history of services, no loss counted twice
// along the map, and its attribution to causes.
//
// A service costs, at each moment, its value per hour times the factor of its calendar times the loss at its level; between two changes
// that is constant, so sums of durations give the integral exactly, in whole numbers. It is rounded in one place: the amount of each
// service, once, to the nearest millionth, half away from zero. A whole is the exact sum of its rounded parts.
//
// It is pure: the history is handed in, nothing is measured and nothing is remembered.
package cost

import (
	"math"
	"math/big"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// levels is the number of levels, and one that divides a word evenly.
const (
	levels = int(health.Critical) + 1
	lanes  = 8
)

// Rate is what an hour of a service costs at each level.
type Rate struct {
	PerHour manifest.Decimal         // the base value; not below 0
	Loss    [levels]manifest.Decimal // the fraction lost at each level, from 0 to 1
	// Calendar gives the factor on PerHour; nil: 1 at every hour.
	Calendar *calendar.Calendar
}

// RateOf returns the rate of a service's base value in a unit, a currency or servicemap.UnitPoints; false where it has no value in it.
func RateOf(v servicemap.Value, unit string) (Rate, bool) {
	r := Rate{Calendar: v.Calendar()}
	switch _, ok := v.In(unit); {
	case !ok:
		return Rate{}, false
	case unit == servicemap.UnitPoints:
		r.PerHour = manifest.Decimal(math.Round(v.Points * 1e6))
	default:
		r.PerHour = v.Money
	}
	for l := range r.Loss {
		r.Loss[l] = v.LossFraction(health.Level(l))
	}
	return r, true
}

// Run is a level that holds from a moment until the next run.
type Run struct {
	From  time.Time
	Level health.Level
}

// Runs returns the cost of a history from its first run to end. The runs are in the order of time; what is not after the one before it,
// or not before end, has no length.
func (r *Rate) Runs(runs []Run, end time.Time) manifest.Decimal {
	var m meter
	for i, run := range runs {
		to := end
		if i+1 < len(runs) && runs[i+1].From.Before(end) {
			to = runs[i+1].From
		}
		if r.Loss[run.Level] == 0 {
			continue
		}
		r.segments(run.From, to, func(s calendar.Segment) { m.add(s.Factor, run.Level, s.End.Sub(s.Start)) })
	}
	return m.price(r)
}

// Series is a history in which every level holds for one Step.
type Series struct {
	Start  time.Time
	Step   time.Duration // above 0
	Levels []health.Level
}

// Series returns the cost of a history of equal steps. A change of the factor within a step counts from the moment on at which it is.
func (r *Rate) Series(h Series) manifest.Decimal {
	var m meter
	r.segments(h.Start, h.Start.Add(time.Duration(len(h.Levels))*h.Step), func(s calendar.Segment) {
		from, to := s.Start.Sub(h.Start), s.End.Sub(h.Start)
		first, last := int((from+h.Step-1)/h.Step), int(to/h.Step) // whole steps: [first, last)
		if first > last {
			m.add(s.Factor, h.Levels[last], to-from)
			return
		}
		if head := time.Duration(first)*h.Step - from; head > 0 {
			m.add(s.Factor, h.Levels[first-1], head)
		}
		part := m.of(s.Factor)
		var n [lanes]int64
		count(h.Levels[first:last], &n)
		for l := range part.at {
			part.at[l] += time.Duration(n[l]) * h.Step
		}
		if tail := to - time.Duration(last)*h.Step; tail > 0 {
			m.add(s.Factor, h.Levels[last], tail)
		}
	})
	return m.price(r)
}

// segments calls f for each stretch of one factor in [from, to).
func (r *Rate) segments(from, to time.Time, f func(calendar.Segment)) {
	if r.Calendar == nil {
		if from.Before(to) {
			f(calendar.Segment{Start: from, End: to, Factor: one})
		}
		return
	}
	for s := range r.Calendar.Segments(from, to) {
		f(s)
	}
}

// one is the factor 1.
const one manifest.Decimal = 1_000_000

// count adds up how often each level occurs. Eight counters of a byte stand side by side in a word, so that no branch depends on the
// levels; they are emptied before the first of them can be full.
func count(history []health.Level, n *[lanes]int64) {
	const full = 248 // the last multiple of 8 that a byte holds
	ones := [lanes]uint64{1, 1 << 8, 1 << 16, 1 << 24, 1 << 32, 1 << 40, 1 << 48, 1 << 56}
	for len(history) > 0 {
		chunk := history[:min(full, len(history))]
		history = history[len(chunk):]
		var a, b uint64
		for len(chunk) >= 8 {
			c := chunk[:8:8]
			a += ones[c[0]%lanes] + ones[c[1]%lanes] + ones[c[2]%lanes] + ones[c[3]%lanes]
			b += ones[c[4]%lanes] + ones[c[5]%lanes] + ones[c[6]%lanes] + ones[c[7]%lanes]
			chunk = chunk[8:]
		}
		for _, l := range chunk {
			a += ones[l%lanes]
		}
		a += b
		for l := range n {
			n[l] += int64(a >> (8 * l) & 0xff)
		}
	}
}

// meter adds up how long each level held under each factor.
type meter struct {
	parts []part
	last  int
}

type part struct {
	factor manifest.Decimal
	at     [levels]time.Duration
}

func (m *meter) of(factor manifest.Decimal) *part {
	if m.last < len(m.parts) && m.parts[m.last].factor == factor {
		return &m.parts[m.last]
	}
	for i := range m.parts {
		if m.parts[i].factor == factor {
			m.last = i
			return &m.parts[i]
		}
	}
	m.parts = append(m.parts, part{factor: factor})
	m.last = len(m.parts) - 1
	return &m.parts[m.last]
}

func (m *meter) add(factor manifest.Decimal, l health.Level, d time.Duration) {
	if d > 0 {
		m.of(factor).at[l] += d
	}
}

// price is the sum of per hour x factor x loss x duration, rounded here and nowhere else. It saturates at the largest amount.
func (m *meter) price(r *Rate) manifest.Decimal {
	var sum, term, x big.Int
	for i := range m.parts {
		p := &m.parts[i]
		term.SetInt64(0)
		for l, d := range p.at {
			if d > 0 && r.Loss[l] > 0 {
				term.Add(&term, x.Mul(big.NewInt(int64(r.Loss[l])), x.SetInt64(int64(d))))
			}
		}
		sum.Add(&sum, term.Mul(&term, x.SetInt64(int64(p.factor))))
	}
	sum.Mul(&sum, x.SetInt64(int64(r.PerHour)))
	// Millionths of a factor and of a loss, and nanoseconds of an hour.
	whole := new(big.Int).Mul(big.NewInt(int64(one)*int64(one)), big.NewInt(int64(time.Hour)))
	return rounded(&sum, whole)
}

// rounded returns a / b to the nearest whole number, half away from zero; b is above 0.
func rounded(a, b *big.Int) manifest.Decimal {
	half := new(big.Int).Rsh(b, 1)
	if a.Sign() < 0 {
		half.Neg(half)
	}
	q := half.Add(half, a)
	q.Quo(q, b)
	switch {
	case q.IsInt64():
		return manifest.Decimal(q.Int64())
	case q.Sign() < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}
