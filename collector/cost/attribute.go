package cost

import (
	"cmp"
	"math/big"
	"math/bits"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// ExactUpTo is the number of causes up to which each gets its Shapley share. Beyond, every set of causes would be too many to price.
const ExactUpTo = 8

// The ways in which a cost is attributed.
const (
	// Shapley is the mean, over all orders in which the causes could come, of what each adds to those before it.
	Shapley = "shapley"
	// RepairOrder is what each repair saved, in the order in which the causes were repaired.
	RepairOrder = "repair order"
)

// Fault is a node that was bad by itself for a time: From up to, and without, To.
type Fault struct {
	Ref      manifest.Ref
	Level    health.Level
	From, To time.Time
}

// Attribution is a cost by cause. Total is the exact sum of the shares.
type Attribution struct {
	Total  manifest.Decimal
	Shares []Item // by cause, in the order of repair
	Method string
}

// Attribute returns what the faults cost the services of a map in [from, to), by the node that was bad. Each cost is that of the health
// which the map's rules make of the faults that are present, everything else being well; so a service that would have failed without a
// cause as well is not charged to it alone. What is in maintenance is charged to none. Unit is a currency or servicemap.UnitPoints.
func Attribute(g *servicemap.Graph, faults []Fault, from, to time.Time, unit string) Attribution {
	faults = slices.DeleteFunc(slices.Clone(faults), func(f Fault) bool { return !g.Has(f.Ref) })
	rates := func(ref manifest.Ref) (Rate, bool) { return RateOf(g.BaseValue(ref), unit) }
	causes := byRepair(faults)
	out := Share(len(causes), func(present []bool) manifest.Decimal {
		var some []Fault
		for _, f := range faults {
			if present[slices.Index(causes, f.Ref)] {
				some = append(some, f)
			}
		}
		bill := Of(replay(g, some, from, to), to, rates)
		return bill.Total - bill.Planned
	})
	for i, ref := range causes {
		out.Shares[i].Ref = ref
	}
	return out
}

// byRepair returns the nodes of faults in the order in which the last fault of each ended.
func byRepair(faults []Fault) []manifest.Ref {
	end := map[manifest.Ref]time.Time{}
	var refs []manifest.Ref
	for _, f := range faults {
		if last, seen := end[f.Ref]; !seen {
			refs, end[f.Ref] = append(refs, f.Ref), f.To
		} else {
			end[f.Ref] = later(last, f.To)
		}
	}
	slices.SortFunc(refs, func(a, b manifest.Ref) int { return cmp.Or(end[a].Compare(end[b]), cmp.Compare(a, b)) })
	return refs
}

// replay returns the history of the services under some faults.
func replay(g *servicemap.Graph, faults []Fault, from, to time.Time) []Segment {
	moments := []time.Time{from}
	for _, f := range faults {
		for _, t := range []time.Time{f.From, f.To} {
			if t.After(from) && t.Before(to) {
				moments = append(moments, t)
			}
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	moments = slices.CompactFunc(moments, time.Time.Equal)
	state := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	var out []Segment
	for _, at := range moments {
		worst := map[manifest.Ref]health.Level{}
		for _, f := range faults {
			l := health.OK
			if !f.From.After(at) && f.To.After(at) {
				l = f.Level
			}
			worst[f.Ref] = max(worst[f.Ref], l)
		}
		for ref, l := range worst {
			state.Update(at, servicemap.Signal{Ref: ref, Source: "fault", Range: health.Exactly(l)})
		}
		out = append(out, Record(state.Snapshot(), at)...)
	}
	return out
}

// Share divides what n causes cost among them. Price tells the cost where only some of them are present; it is not to keep the slice. The
// causes are in the order of repair. What is there without any cause belongs to none of them: it is neither in a share nor in the total.
func Share(n int, price func(present []bool) manifest.Decimal) Attribution {
	if n <= ExactUpTo {
		return shapley(n, price)
	}
	out := Attribution{Shares: make([]Item, n), Method: RepairOrder}
	present := slices.Repeat([]bool{true}, n)
	before := price(present)
	for i := range n {
		present[i] = false
		after := price(present)
		out.Shares[i].Cost = before - after
		out.Total += before - after
		before = after
	}
	return out
}

func shapley(n int, price func(present []bool) manifest.Decimal) Attribution {
	costs := make([]manifest.Decimal, 1<<n) // by set, cause i being bit i
	present := make([]bool, n)
	for set := range costs {
		for i := range present {
			present[i] = set>>i&1 == 1
		}
		costs[set] = price(present)
	}
	factorial := func(k int) int64 { return new(big.Int).MulRange(1, int64(k)).Int64() }
	parts := make([]*big.Int, n) // n! times the share
	for i := range parts {
		parts[i] = new(big.Int)
		for set := range costs {
			if set>>i&1 == 1 {
				continue
			}
			size := bits.OnesCount(uint(set))
			added := big.NewInt(int64(costs[set|1<<i] - costs[set]))
			parts[i].Add(parts[i], added.Mul(added, big.NewInt(factorial(size)*factorial(n-size-1))))
		}
	}
	out := Attribution{Total: costs[len(costs)-1] - costs[0], Shares: make([]Item, n), Method: Shapley}
	for i, p := range apportion(parts, big.NewInt(factorial(n))) {
		out.Shares[i].Cost = p
	}
	return out
}

// apportion divides every part by whole so that the results are whole numbers and add up to the sum of the parts, which is a multiple
// of whole: the largest remainders are rounded up, the first of equal ones.
func apportion(parts []*big.Int, whole *big.Int) []manifest.Decimal {
	out := make([]manifest.Decimal, len(parts))
	rests := make([]*big.Int, len(parts))
	order := make([]int, len(parts))
	missing := new(big.Int)
	for i, p := range parts {
		q, rest := new(big.Int).DivMod(p, whole, new(big.Int)) // the rest is never below 0
		out[i], rests[i], order[i] = manifest.Decimal(q.Int64()), rest, i
		missing.Add(missing, rest)
	}
	slices.SortStableFunc(order, func(a, b int) int { return rests[b].Cmp(rests[a]) })
	for _, i := range order[:missing.Quo(missing, whole).Int64()] {
		out[i]++
	}
	return out
}
