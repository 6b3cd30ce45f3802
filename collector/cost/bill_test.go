package cost_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The values are such that no amount has to be rounded.
const shop = `
kind: Service
metadata: {name: shop}
spec: {value: {perHour: 900, currency: EUR, calendar: calendar/day, loss: {major: 0.5, critical: 1}}, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {value: {perHour: 120, currency: EUR, loss: {warning: 0.5}}, dependsOn: [{ref: component/db}]}
---
kind: Service
metadata: {name: reports}
spec: {value: {perHour: 60, currency: EUR}, dependsOn: [{ref: component/db}, {ref: component/batch}]}
---
kind: Service
metadata: {name: board}
spec: {value: {perHour: 300, currency: EUR, calendar: calendar/day}, dependsOn: [{ref: service/reports}, {ref: service/api, propagate: decrease:1}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2, h3]}, unit: web.service, health: {rule: quorum, quorum: {need: 2}}}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h4]}, unit: db.service}
---
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [h4]}, unit: batch.service}
---
kind: Calendar
metadata: {name: day}
spec: {timezone: UTC, default: 0, weekly: [{days: [mon..sun], from: 00:30, to: 01:00, factor: 2}, {days: [mon..sun], from: 01:00, to: 02:00}]}
`

func graph(t testing.TB, docs string) *servicemap.Graph {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, nil)
	for _, p := range problems {
		t.Fatal(p)
	}
	g, err := servicemap.New(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func leafs() []string {
	return []string{"component/web@h1", "component/web@h2", "component/web@h3", "component/db@h4", "component/batch@h4", "service/api"}
}

// faultsOf draws faults within the first two hours and a bit more.
func faultsOf(t *rapid.T, most int) []cost.Fault {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) cost.Fault {
		from := rapid.IntRange(-10, 120).Draw(t, "from")
		return cost.Fault{
			Ref: manifest.Ref(rapid.SampledFrom(leafs()).Draw(t, "ref")), Level: health.Level(rapid.IntRange(2, 5).Draw(t, "level")),
			From: minute(from), To: minute(from + rapid.IntRange(0, 90).Draw(t, "for")),
		}
	}), 0, most).Draw(t, "faults")
}

func minute(n int) time.Time { return day(0).Add(time.Duration(n) * time.Minute) }

// snapshotAt is the map under the faults that are there at a moment.
func snapshotAt(g *servicemap.Graph, faults []cost.Fault, at time.Time) *servicemap.Snapshot {
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	for i, f := range faults {
		if !f.From.After(at) && f.To.After(at) {
			s.Update(at, servicemap.Signal{Ref: f.Ref, Source: fmt.Sprint(i), Range: health.Exactly(f.Level)})
		}
	}
	return s.Snapshot()
}

// At every minute the bill grows by what package cause says is lost in an hour, divided by 60; and so the two never disagree on what is
// counted where.
func TestABillIsTheLossOfEveryMinute(t *testing.T) {
	g := graph(t, shop)
	rates := func(ref manifest.Ref) (cost.Rate, bool) { return cost.RateOf(g.BaseValue(ref), "EUR") }
	rapid.Check(t, func(t *rapid.T) {
		faults := faultsOf(t, 6)
		sum := new(big.Rat)
		var history []cost.Segment
		for m := range 130 {
			snap := snapshotAt(g, faults, minute(m))
			history = append(history, cost.Record(snap, minute(m))...)
			sum.Add(sum, big.NewRat(int64(cause.Loss(snap, "EUR", minute(m)).Money), 60))
		}
		bill := cost.Of(history, minute(130), rates)
		if want := round(sum); bill.Total != want {
			t.Fatalf("the bill is %s, and the minutes cost %s", bill.Total, want)
		}
		var parts manifest.Decimal
		for _, s := range bill.Services {
			parts += s.Cost
		}
		if parts != bill.Total {
			t.Fatalf("the services' costs add up to %s, not to %s", parts, bill.Total)
		}
		if a := cost.Attribute(g, faults, minute(0), minute(130), "EUR"); a.Total != bill.Total || total(a) != a.Total {
			t.Fatalf("%s is attributed, in shares of %s together; the bill is %s", a.Total, total(a), bill.Total)
		}
	})
}

func total(a cost.Attribution) (sum manifest.Decimal) {
	for _, s := range a.Shares {
		sum += s.Cost
	}
	return sum
}

func TestAttribution(t *testing.T) {
	g := graph(t, shop)
	for _, c := range []struct {
		name   string
		faults []cost.Fault
		want   string
	}{
		{"nothing", nil, "shapley 0"},
		// Either of two of three web servers, put right, is enough: they share the shop's hour.
		{
			"one alone is made good",
			[]cost.Fault{{Ref: "component/web@h1", Level: health.Critical, From: minute(60), To: minute(120)}, {Ref: "component/web@h2", Level: health.Critical, From: minute(60), To: minute(120)}},
			"shapley 900: component/web@h1 450, component/web@h2 450",
		},
		{
			"one that matters alone, and one that does not",
			[]cost.Fault{{Ref: "component/db@h4", Level: health.Critical, From: minute(60), To: minute(120)}, {Ref: "component/web@h1", Level: health.Critical, From: minute(60), To: minute(90)}},
			"shapley 1200: component/web@h1 0, component/db@h4 1200", // shop 900 and board 300, which rest on api and reports
		},
		{
			"outside the window",
			[]cost.Fault{{Ref: "component/db@h4", Level: health.Critical, From: minute(-60), To: minute(0)}, {Ref: "component/x", Level: health.Critical, From: minute(0), To: minute(60)}},
			"shapley 0: component/db@h4 0",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := cost.Attribute(g, c.faults, minute(0), minute(120), "EUR")
			got := fmt.Sprintf("%s %s", a.Method, a.Total)
			for i, s := range a.Shares {
				got += map[bool]string{true: ": ", false: ", "}[i == 0] + fmt.Sprintf("%s %s", s.Ref, s.Cost)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The shares of up to five causes are held against the definition: the mean over every order in which they could come.
func TestShapleyIsTheMeanOverAllOrders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(t, "causes")
		costs := rapid.SliceOfN(rapid.Int64Range(-1000, 1_000_000), 1<<n, 1<<n).Draw(t, "costs")
		a := cost.Share(n, func(present []bool) manifest.Decimal { return manifest.Decimal(costs[set(present)]) })
		sums, orders := make([]int64, n), int64(0)
		permutations(n, func(order []int) {
			orders++
			have := 0
			for _, i := range order {
				sums[i] += costs[have|1<<i] - costs[have]
				have |= 1 << i
			}
		})
		for i, s := range a.Shares {
			if diff := int64(s.Cost)*orders - sums[i]; diff >= orders || diff <= -orders {
				t.Fatalf("the share of %d is %d, and its mean is %d/%d", i, s.Cost, sums[i], orders)
			}
		}
		if want := manifest.Decimal(costs[len(costs)-1] - costs[0]); a.Total != want || total(a) != want || a.Method != cost.Shapley {
			t.Fatalf("%+v does not add up to %s", a, want)
		}
	})
}

func TestManyCausesAreChargedInTheOrderOfRepair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(cost.ExactUpTo+1, 100).Draw(t, "causes")
		each := rapid.SliceOfN(rapid.Int64Range(0, 1_000_000), n, n).Draw(t, "each")
		asked := 0
		a := cost.Share(n, func(present []bool) manifest.Decimal {
			asked++
			worst := int64(7) // only the worst one counts, on top of what is always there
			for i, p := range present {
				if p {
					worst = max(worst, 7+each[i])
				}
			}
			return manifest.Decimal(worst)
		})
		for i, s := range a.Shares {
			before, after := slices.Max(each[i:]), int64(0)
			if i+1 < n {
				after = slices.Max(each[i+1:])
			}
			if int64(s.Cost) != before-after {
				t.Fatalf("repair %d saved %d, not %d", i, before-after, s.Cost)
			}
		}
		if want := manifest.Decimal(slices.Max(each)); a.Total != want || total(a) != want || a.Method != cost.RepairOrder || asked != n+1 {
			t.Fatalf("%+v does not add up to %s, after %d questions", a, want, asked)
		}
	})
}

func set(present []bool) (s int) {
	for i, p := range present {
		if p {
			s |= 1 << i
		}
	}
	return s
}

// permutations calls f with every order of 0 to n-1.
func permutations(n int, f func([]int)) {
	var order []int
	var next func()
	next = func() {
		if len(order) == n {
			f(order)
			return
		}
		for i := range n {
			if !slices.Contains(order, i) {
				order = append(order, i)
				next()
				order = order[:len(order)-1]
			}
		}
	}
	next()
}
