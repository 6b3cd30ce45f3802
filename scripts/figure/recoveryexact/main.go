// The recoveryexact program takes the figures recovery-exact and recovery-bound: how long it takes to plan the recovery of a map
// with 20 broken parts under 50 services, proven best, and of one with 200 broken parts, with a bound. The maps are made
// up from a seed; the clock runs from the snapshot to the plan. Of each map the fastest of a few runs counts, since other work on
// the machine only adds to it; the figure is the slowest map.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

func main() {
	maps := flag.Int("maps", 20, "`NUMBER` of maps")
	runs := flag.Int("runs", 3, "`NUMBER` of runs of each map")
	flag.Parse()
	name := flag.Arg(0)
	var figure report.Figure
	var err error
	switch name {
	case "recovery-exact":
		figure, err = exact(name, *maps, *runs)
	case "recovery-bound":
		figure, err = bound(name, *maps, *runs)
	default:
		err = errors.New("expected recovery-exact or recovery-bound")
	}
	if err != nil {
		report.Fail(name, err)
	}
	report.Exit(figure)
}

func exact(name string, maps, times int) (report.Figure, error) {
	runs, err := plan(maps, times, func(seed uint64) (*servicemap.Snapshot, error) { return redundant(seed, 20, 50) })
	if err != nil {
		return report.Figure{}, err
	}
	for _, r := range runs {
		if !r.plan.Exact || len(r.plan.Steps) != 20 {
			return report.Figure{}, fmt.Errorf("a plan of %d steps, exact: %v", len(r.plan.Steps), r.plan.Exact)
		}
	}
	fmt.Printf("%d maps of 50 services on services and on components that need 2 of 3 members, 20 members broken, one crew: every plan proven best\n", maps)
	tell(runs)
	return report.Figure{Name: name, Value: slowest(runs), Unit: "s", Op: "<=", Goal: 1}, nil
}

func bound(name string, maps, times int) (report.Figure, error) {
	plain, err := plan(maps, times, func(seed uint64) (*servicemap.Snapshot, error) { return bare(seed, 200, 300, false) })
	if err != nil {
		return report.Figure{}, err
	}
	fmt.Printf("%d maps of 300 services and 200 broken parts without redundancy, one crew\n", maps)
	tell(plain)
	knit, err := plan(maps, times, func(seed uint64) (*servicemap.Snapshot, error) { return bare(seed, 200, 300, true) })
	if err != nil {
		return report.Figure{}, err
	}
	fmt.Printf("%d maps of 300 services, each on 3 to 5 of 200 broken parts without redundancy, one crew\n", maps)
	tell(knit)
	spare, err := plan(maps, times, func(seed uint64) (*servicemap.Snapshot, error) { return redundant(seed, 200, 300) })
	if err != nil {
		return report.Figure{}, err
	}
	fmt.Printf("%d maps of 300 services and 200 broken members of components that need 2 of 3, one crew\n", maps)
	tell(spare)
	return report.Figure{Name: name, Value: max(slowest(plain), slowest(knit), slowest(spare)), Unit: "s", Op: "<=", Goal: 2}, nil
}

type run struct {
	plan      recovery.Plan
	took, cpu time.Duration
}

func plan(maps, times int, made func(seed uint64) (*servicemap.Snapshot, error)) ([]run, error) {
	var runs []run
	for seed := range maps {
		snap, err := made(uint64(seed))
		if err != nil {
			return nil, err
		}
		unit := cause.Find(snap, start()).Unit
		var best run
		for range times {
			r, err := once(snap, unit)
			if err != nil {
				return nil, err
			}
			if best.took == 0 || r.took < best.took {
				best = r
			}
		}
		runs = append(runs, best)
	}
	return runs, nil
}

func once(snap *servicemap.Snapshot, unit string) (run, error) {
	runtime.GC()
	cpu, err := report.CPU(os.Getpid())
	if err != nil {
		return run{}, err
	}
	began := time.Now()
	p, err := recovery.Of(snap, recovery.Options{At: start(), Unit: unit})
	if err != nil {
		return run{}, err
	}
	took := time.Since(began)
	after, err := report.CPU(os.Getpid())
	return run{p, took, after - cpu}, err
}

func slowest(runs []run) float64 {
	return slices.MaxFunc(runs, func(a, b run) int { return int(a.took - b.took) }).took.Seconds()
}

// tell prints how long the plans took, how far they are above their bounds, and what they save.
func tell(runs []run) {
	var took, cpu, gap, first, severe []float64
	proven := 0
	for _, r := range runs {
		took = append(took, r.took.Seconds())
		cpu = append(cpu, r.cpu.Seconds())
		cost := r.plan.Cost.Float()
		gap = append(gap, 100*(cost/r.plan.LowerBound.Float()-1))
		first = append(first, 100*(1-cost/r.plan.FirstComeCost.Float()))
		severe = append(severe, 100*(1-cost/r.plan.SeverityCost.Float()))
		if r.plan.Exact {
			proven++
		}
	}
	mean := func(values []float64) float64 {
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		return sum / float64(len(values))
	}
	fmt.Printf("  seconds: %s; of CPU time: %s; proven best: %d of %d\n", report.Range(took), report.Range(cpu), proven, len(runs))
	fmt.Printf("  average gap to the lower bound: %.1f %%, largest %.1f %%\n", mean(gap), slices.Max(gap))
	fmt.Printf("  saved on average against mending in the order of names: %.0f %%, against the worst first: %.0f %%\n", mean(first), mean(severe))
}

func start() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) }

// snapshot is the map of these resources with some leaves as bad as is said.
func snapshot(resources []*manifest.Resource, bad map[manifest.Ref]health.Level) (*servicemap.Snapshot, error) {
	g, err := servicemap.New(manifest.NewSet(resources...), nil)
	if err != nil {
		return nil, err
	}
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	for ref, level := range bad {
		if !g.Has(ref) {
			return nil, fmt.Errorf("%s is not on the map", ref)
		}
		s.Update(start(), servicemap.Signal{Ref: ref, Source: "figure", Range: health.Exactly(level)})
	}
	return s.Snapshot(), nil
}
