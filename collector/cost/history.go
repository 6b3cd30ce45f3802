package cost

import (
	"cmp"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Amounts are sums by unit: a currency, or servicemap.UnitPoints. Sums of different units are never added. What is not in it is not
// known to be worth anything.
type Amounts map[string]manifest.Decimal

// Minus returns a without b, in the units of either.
func (a Amounts) Minus(b Amounts) Amounts {
	out := Amounts{}
	for unit, x := range a {
		out[unit] = x - b[unit]
	}
	for unit, x := range b {
		if _, ok := a[unit]; !ok {
			out[unit] = -x
		}
	}
	return out
}

// Units returns the units in which services of a map have a value: the currencies, sorted, and then points.
func Units(g *servicemap.Graph) []string {
	var out []string
	points := false
	for _, ref := range g.Services() {
		v := g.BaseValue(ref)
		if v.Priced && !slices.Contains(out, v.Currency) {
			out = append(out, v.Currency)
		}
		points = points || v.Pointed
	}
	slices.Sort(out)
	if points {
		out = append(out, servicemap.UnitPoints)
	}
	return out
}

// Bills returns the cost of a history up to end in every unit of a map. Each is complete in itself: what a service costs in points is
// what it costs in money, told in another unit.
func Bills(g *servicemap.Graph, segments []Segment, end time.Time) map[string]Bill {
	out := map[string]Bill{}
	for _, unit := range Units(g) {
		out[unit] = Of(segments, end, func(ref manifest.Ref) (Rate, bool) { return RateOf(g.BaseValue(ref), unit) })
	}
	return out
}

// Totals returns the totals of bills.
func Totals(bills map[string]Bill) Amounts {
	out := Amounts{}
	for unit, b := range bills {
		out[unit] = b.Total
	}
	return out
}

// OfService returns what is counted at a service in each unit in which it has a rate.
func OfService(bills map[string]Bill, ref manifest.Ref) Amounts {
	out := Amounts{}
	for unit, b := range bills {
		if i, ok := slices.BinarySearchFunc(b.Services, ref, func(x Item, ref manifest.Ref) int { return cmp.Compare(x.Ref, ref) }); ok {
			out[unit] = b.Services[i].Cost
		}
	}
	return out
}

// History returns the segments in [from, to) of states that were kept. What the map was like then is not kept: a loss is counted at the
// uppermost of the services that rest on each other now. What is only unknown is taken as ok.
func History(g *servicemap.Graph, rows []slo.Row, from, to time.Time) []Segment {
	above := map[manifest.Ref][]manifest.Ref{}
	for _, ref := range g.Services() {
		above[ref] = slices.DeleteFunc(g.ServicesAbove(ref), func(x manifest.Ref) bool { return x == ref })
	}
	stood := map[manifest.Ref]slo.Row{}
	var out []Segment
	for _, r := range rows {
		switch {
		case !g.Has(r.Ref) || !r.At.Before(to):
		case !r.At.After(from):
			stood[r.Ref] = r
		default:
			out = append(out, Segment{r.Ref, r.At, r.Health.Low, above[r.Ref], r.Origin == slo.Planned})
		}
	}
	for ref, r := range stood {
		out = append(out, Segment{ref, from, r.Health.Low, above[ref], r.Origin == slo.Planned})
	}
	return out
}
