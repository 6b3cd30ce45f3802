package servicemap

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Value is what an hour of something is worth: money where a business owner has priced it, points from criticality
// otherwise. The two are never added or compared with each other.
type Value struct {
	// Ranked says that there is a value at all. What is unranked is never a victim and never first.
	Ranked bool
	// Priced says that everything in it has a price, in one currency: Money and Currency then hold.
	Priced   bool
	Money    manifest.Decimal
	Currency string
	// Pointed says that everything in it has a criticality: Points then holds.
	Pointed bool
	Points  float64

	loss     map[health.Level]manifest.Decimal // of one service; nil: all at critical
	calendar *calendar.Calendar                // of one service; nil: every hour is worth the same
}

// Points returns the points an hour of a criticality: 1000, 100, 10, 1 for 1 to 4, and 0 for none.
func Points(criticality int) float64 {
	switch criticality {
	case 1:
		return 1000
	case 2:
		return 100
	case 3:
		return 10
	case 4:
		return 1
	default:
		return 0
	}
}

func worthOf(s *manifest.Service, c *calendar.Calendar) Value {
	v := Value{Points: Points(s.Criticality), Pointed: s.Criticality > 0, calendar: c}
	if s.Value != nil {
		v.Priced, v.Money, v.Currency, v.loss = true, s.Value.PerHour, s.Value.Currency, s.Value.Loss
	}
	v.Ranked = v.Priced || v.Pointed
	return v
}

// At returns the value at a moment: the base value times the factor that the calendar of the service's value gives it then, money and
// points alike. A value without a calendar is the same at every hour. Money is rounded to the nearest millionth.
func (v Value) At(at time.Time) Value {
	if v.calendar == nil {
		return v
	}
	f := v.calendar.FactorAt(at)
	v.Money = v.Money.Times(f)
	v.Points *= f.Float()
	v.calendar = nil
	return v
}

// Calendar returns the calendar that At asks; nil where every hour is worth the same.
func (v Value) Calendar() *calendar.Calendar { return v.calendar }

// LossFraction returns the part of the value that is lost at a level, from 0 to 1. Without a loss of its own a service loses everything
// at critical and nothing before.
func (v Value) LossFraction(l health.Level) manifest.Decimal {
	if v.loss == nil {
		if l == health.Critical {
			return 1_000_000
		}
		return 0
	}
	f := manifest.Decimal(0)
	for at := health.OK; at <= l; at++ {
		if x, ok := v.loss[at]; ok {
			f = x
		}
	}
	return f
}

// plain leaves out what only a service's own value has, so that equal values are equal.
func (v Value) plain() Value {
	v.loss, v.calendar = nil, nil
	return v
}

// Plus adds two values, of things that are lost apart from each other. What either of them lacks, the sum lacks.
func (v Value) Plus(o Value) Value {
	switch {
	case !o.Ranked:
		return v.plain()
	case !v.Ranked:
		return o.plain()
	}
	out := Value{Ranked: true}
	if v.Priced && o.Priced && v.Currency == o.Currency {
		out.Priced, out.Money, out.Currency = true, v.Money+o.Money, v.Currency
	}
	if v.Pointed && o.Pointed {
		out.Pointed, out.Points = true, v.Points+o.Points
	}
	return out
}

// LossAt returns what an hour at that level costs: the value times LossFraction. A base value is to be taken At a moment before.
func (v Value) LossAt(l health.Level) Value {
	f := v.LossFraction(l)
	v.Money = v.Money.Times(f)
	v.Points *= f.Float()
	return v.plain()
}

// Zero reports whether nothing is in it: no money and no points.
func (v Value) Zero() bool { return v.Money == 0 && v.Points == 0 }

// String writes "12000 EUR/h", "100 points/h", or "unranked".
func (v Value) String() string {
	switch {
	case v.Priced:
		return fmt.Sprintf("%s %s/h", v.Money, v.Currency)
	case v.Pointed:
		return formatPoints(v.Points) + " points/h"
	default:
		return "unranked"
	}
}

func formatPoints(p float64) string {
	s := strconv.FormatFloat(p, 'f', 6, 64)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// UnitPoints is the unit of points; that of money is the currency.
const UnitPoints = "points"

// CommonUnit returns the unit in which these values can be compared: a currency where everything that has a value is
// priced in it, and points in every other case. Where money and points meet, points decide.
func CommonUnit(values ...Value) string {
	unit := ""
	for _, v := range values {
		switch {
		case !v.Ranked:
		case !v.Priced, unit != "" && unit != v.Currency:
			return UnitPoints
		default:
			unit = v.Currency
		}
	}
	if unit == "" {
		return UnitPoints
	}
	return unit
}

// In returns the value as a number of that unit; ok is false where it has none: it is unranked in such a comparison.
func (v Value) In(unit string) (n float64, ok bool) {
	switch {
	case !v.Ranked:
		return 0, false
	case unit == UnitPoints:
		return v.Points, v.Pointed
	default:
		return v.Money.Float(), v.Priced && v.Currency == unit
	}
}

// Text is In as a decimal string; "0" where there is none.
func (v Value) Text(unit string) string {
	if _, ok := v.In(unit); !ok {
		return "0"
	}
	if unit == UnitPoints {
		return formatPoints(v.Points)
	}
	return v.Money.String()
}

// Compare orders two values by the unit that they have in common; ok is false where one of them has no rank in it.
func Compare(a, b Value) (order int, ok bool) {
	unit := CommonUnit(a, b)
	x, xok := a.In(unit)
	y, yok := b.In(unit)
	switch {
	case !xok || !yok:
		return 0, false
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, true
}
