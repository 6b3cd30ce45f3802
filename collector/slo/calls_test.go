package slo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
)

// A pair calls from firing until its short window is surely calm, whatever is not known in between.
func TestCallsHaveHysteresis(t *testing.T) {
	fast, slow := slo.Pair{Long: time.Hour, Short: 5 * time.Minute}, slo.Pair{Long: 6 * time.Hour, Short: 30 * time.Minute}
	at := func(p slo.Pair, firing bool, low, high float64) slo.Burn {
		return slo.Burn{Pair: p, Factor: 10, Firing: firing, InShort: slo.Rate{Low: low, High: high}}
	}
	var c slo.Calls
	for i, step := range []struct {
		burns []slo.Burn
		want  string
	}{
		{[]slo.Burn{at(fast, false, 9, 9)}, "[]"},
		{[]slo.Burn{at(fast, false, 0, 100)}, "[]"}, // what is not known begins nothing
		{[]slo.Burn{at(fast, true, 11, 11)}, "[1h0m0s]"},
		{[]slo.Burn{at(fast, false, 9, 9)}, "[1h0m0s]"},
		{[]slo.Burn{at(fast, false, 5, 5), at(slow, true, 12, 12)}, "[1h0m0s 6h0m0s]"},
		{[]slo.Burn{at(fast, false, 0, 100), at(slow, false, 4.9, 4.9)}, "[1h0m0s]"}, // and ends nothing
		{[]slo.Burn{at(fast, false, 4, 4.9), at(slow, false, 6, 6)}, "[]"},
		{[]slo.Burn{at(fast, false, 9, 9)}, "[]"},
	} {
		got := []time.Duration{}
		for _, b := range c.Next(step.burns) {
			got = append(got, b.Long)
		}
		if fmt.Sprint(got) != step.want {
			t.Errorf("step %d: %v, expected %s", i, got, step.want)
		}
	}
	c.Resume(time.Hour)
	if got := c.Next([]slo.Burn{at(fast, false, 6, 6)}); len(got) != 1 {
		t.Errorf("after a restart: %v", got)
	}
}

// A service that is younger than the long window calls once its share of the budget is gone, and not at the first bad second.
func TestAYoungServiceDoesNotCallAtOnce(t *testing.T) {
	born := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	spec := slo.Spec{Objective: 990_000, Rolling: 28 * 24 * time.Hour, Bad: health.Major}
	state := func(l health.Level) slo.State { return slo.State{Health: health.Exactly(l), Origin: slo.Own} }
	// 2 % of the budget of 28 days at 99 % are 8 minutes and 3.84 seconds.
	for after, want := range map[time.Duration]bool{2 * time.Minute: false, 9 * time.Minute: false, 9*time.Minute + 4*time.Second: true} {
		r, _, err := slo.Evaluate(spec, nil, born, []slo.Segment{
			{From: born, To: born.Add(time.Minute), State: state(health.OK)}, {From: born.Add(time.Minute), To: born.Add(time.Hour), State: state(health.Critical)},
		}, born.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		if b := r.Burns[0]; b.Firing != want || b.MayFire != want || b.InLong.Low < 30 {
			t.Errorf("after %s: %+v", after, b)
		}
	}
}
