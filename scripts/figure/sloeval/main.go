// The sloeval program takes the figure slo-eval: it keeps ten thousand objectives with a month of history each up to date,
// and measures how long it takes to ask all of them again.
package main

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"time"
	_ "time/tzdata"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	name    = "slo-eval"
	count   = 10_000
	changes = 100 // in the history of each
	rounds  = 100
	every   = 10 * time.Second
)

func main() {
	value, err := take()
	if err != nil {
		report.Fail(name, err)
	}
	report.Exit(report.Figure{Name: name, Value: value, Unit: "ms of CPU", Op: "<=", Goal: 100})
}

func take() (float64, error) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		return 0, err
	}
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	created := now.AddDate(0, 0, -35)
	began := time.Now()
	evaluators := make([]*slo.Evaluator, count)
	for i := range evaluators {
		spec := slo.Spec{Objective: manifest.Share(999_000), Bad: health.Major, Location: berlin}
		switch i % 4 {
		case 0, 1:
			spec.Rolling = 28 * 24 * time.Hour
		case 2:
			spec.Calendar = "month"
		default:
			spec.Rolling = 28 * 24 * time.Hour
			spec.Method, spec.Slice, spec.SliceTarget = slo.Timeslices, time.Minute, 950_000
		}
		var hours slo.Hours
		if i%4 == 1 {
			hours = office{berlin}
		}
		if evaluators[i], err = slo.New(spec, hours, created); err != nil {
			return 0, err
		}
		for k := range changes {
			at := created.Add(now.Sub(created) * time.Duration(k) / changes).Add(time.Duration(random.IntN(300)) * time.Second)
			if err := evaluators[i].Set(at, state(random)); err != nil {
				return 0, err
			}
		}
	}
	if _, _, err := round(evaluators, now.Add(time.Hour)); err != nil {
		return 0, err
	}
	fmt.Printf("%d objectives, %d changes each: a quarter each with a rolling window around the clock, one in business hours, "+
		"one in time slices of a minute, and a calendar month; made in %s\n", count, changes, time.Since(began).Round(time.Millisecond))

	now = now.Add(time.Hour)
	var wall, cpu []float64
	firing := 0
	for range rounds {
		for range count / 100 { // one in a hundred changes between two rounds
			if err := evaluators[random.IntN(count)].Set(now.Add(every/2), state(random)); err != nil {
				return 0, err
			}
		}
		now = now.Add(every)
		before, err := report.CPU(os.Getpid())
		if err != nil {
			return 0, err
		}
		took, n, err := round(evaluators, now)
		if err != nil {
			return 0, err
		}
		after, err := report.CPU(os.Getpid())
		if err != nil {
			return 0, err
		}
		firing = n
		wall, cpu = append(wall, took.Seconds()*1e3), append(cpu, (after-before).Seconds()*1e3)
	}
	fmt.Printf("%d rounds, each %s later, one in a hundred changed in between; %d pairs of windows call in the last\n", rounds, every, firing)
	fmt.Printf("CPU time of the process in a round, garbage collection included: %s ms, 95th percentile %.4g; by the clock: %s ms, 95th percentile %.4g\n",
		report.Range(cpu), report.Quantile(cpu, 0.95), report.Range(wall), report.Quantile(wall, 0.95))
	return report.Quantile(cpu, 0.95), nil
}

// round asks all of them, and returns how many pairs of windows call.
func round(all []*slo.Evaluator, at time.Time) (time.Duration, int, error) {
	n := 0
	began := time.Now()
	for _, e := range all {
		r, err := e.At(at)
		if err != nil {
			return 0, 0, err
		}
		for i := range r.Burns {
			if r.Burns[i].Firing {
				n++
			}
		}
	}
	return time.Since(began), n, nil
}

// state is ok nine times of ten.
func state(r *rand.Rand) slo.State {
	if r.IntN(10) > 0 {
		return slo.State{}
	}
	return slo.State{Health: health.Exactly(health.Level(r.IntN(6))), Origin: slo.Origin(r.IntN(5))}
}

// office are the hours from 8 to 18 on every day but Sunday.
type office struct{ loc *time.Location }

// Spans yields the open stretches within [from, to).
func (o office) Spans(from, to time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(time.Time, time.Time) bool) {
		y, m, d := from.In(o.loc).Date()
		for ; ; d++ {
			a, b := time.Date(y, m, d, 8, 0, 0, 0, o.loc), time.Date(y, m, d, 18, 0, 0, 0, o.loc)
			if !a.Before(to) {
				return
			}
			if a.Weekday() == time.Sunday {
				continue
			}
			if a.Before(from) {
				a = from
			}
			if b.After(to) {
				b = to
			}
			if a.Before(b) && !yield(a, b) {
				return
			}
		}
	}
}
