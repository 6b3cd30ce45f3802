package slo_test

import (
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func drawState(t *rapid.T) slo.State {
	low := health.Level(rapid.IntRange(0, 5).Draw(t, "low"))
	high := health.Level(rapid.IntRange(int(low), 5).Draw(t, "high"))
	if rapid.Bool().Draw(t, "known") {
		high = low
	}
	return slo.State{Health: health.Range{Low: low, High: high}, Origin: slo.Origin(rapid.IntRange(0, 4).Draw(t, "origin"))}
}

// drawWorld draws a case whose times are multiples of step.
func drawWorld(t *rapid.T, spec slo.Spec, start time.Time, step, each time.Duration) *world {
	w := &world{spec: spec, created: start, step: step}
	at := start
	for range rapid.IntRange(0, 12).Draw(t, "segments") {
		at = at.Add(step * time.Duration(rapid.IntRange(0, int(each/step)/4).Draw(t, "gap")))
		to := at.Add(step * time.Duration(rapid.IntRange(1, int(each/step)).Draw(t, "length")))
		w.history = append(w.history, slo.Segment{From: at, To: to, State: drawState(t)})
		at = to
	}
	return w
}

func drawSpec(t *rapid.T, slice time.Duration) slo.Spec {
	s := slo.Spec{
		Objective: manifest.Share(rapid.SampledFrom([]int{500_000, 900_000, 990_000, 999_000, 999_999}).Draw(t, "objective")),
		Method:    slo.Method(rapid.IntRange(0, 2).Draw(t, "method")),
		Bad:       health.Level(rapid.IntRange(1, 5).Draw(t, "bad")),
		LeftOut:   rapid.Bool().Draw(t, "leftOut"),
	}
	if s.Method != slo.Occurrences {
		s.Slice = slice
		if s.Method == slo.Timeslices {
			s.SliceTarget = manifest.Share(rapid.SampledFrom([]int{1, 333_333, 500_000, 950_000, 1_000_000}).Draw(t, "target"))
		}
	}
	return s
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

// agree compares an answer with that of the oracle, number by number.
func agree(t *rapid.T, w *world, at time.Time) slo.Result {
	t.Helper()
	got, stretches, err := w.evaluate(at)
	if err != nil {
		t.Fatal(err)
	}
	want := w.oracle(at)
	if !got.From.Equal(want.from) || !got.To.Equal(want.to) {
		t.Fatalf("window %s to %s, want %s to %s", got.From, got.To, want.from, want.to)
	}
	if diff := cmp.Diff(want.time, got.Time); diff != "" {
		t.Fatal(diff)
	}
	if got.ToCome != want.toCome || got.Period != want.period {
		t.Fatalf("to come %s of %s, want %s of %s", got.ToCome, got.Period, want.toCome, want.period)
	}
	toCome := want.toCome
	if w.spec.Method != slo.Occurrences {
		toCome = toCome.Truncate(w.spec.Slice)
	}
	for _, c := range []struct {
		name string
		f    slo.Figures
		m    tally
	}{{"up", got.Up, want.up}, {"leftOut", got.LeftOut, want.leftOut}} {
		if c.f.Counted != c.m.valid || c.f.Spent != (slo.Spread{Low: c.m.least, High: c.m.most}) {
			t.Fatalf("%s: counted %s, spent %v, want %+v", c.name, c.f.Counted, c.f.Spent, c.m)
		}
		if c.m.valid > 0 && (c.f.SLILow != percent(c.m, c.m.most) || c.f.SLIHigh != percent(c.m, c.m.least)) {
			t.Fatalf("%s: SLI %s to %s, want %s to %s", c.name, c.f.SLILow, c.f.SLIHigh, percent(c.m, c.m.most), percent(c.m, c.m.least))
		}
		budget := new(big.Int).Mul(big.NewInt(int64(c.m.valid+toCome)), big.NewInt(int64(1e6-w.spec.Objective)))
		budget.Div(budget, big.NewInt(1e6))
		if c.f.Budget != time.Duration(budget.Int64()) || c.f.Left.Low != c.f.Budget-c.m.most || c.f.Left.High != c.f.Budget-c.m.least {
			t.Fatalf("%s: budget %s, left %v, want %s", c.name, c.f.Budget, c.f.Left, budget)
		}
	}
	if len(got.Burns) != len(want.pairs) {
		t.Fatalf("%d pairs, want %d", len(got.Burns), len(want.pairs))
	}
	allowed := 1 - w.spec.Objective.Float()
	for i, b := range got.Burns {
		for k, r := range []slo.Rate{b.InLong, b.InShort} {
			m, rate := want.pairs[i][k], slo.Rate{}
			if m.valid > 0 {
				rate = slo.Rate{Low: float64(m.least) / float64(m.valid) / allowed, High: float64(m.most) / float64(m.valid) / allowed}
			}
			if !near(r.Low/rate1(rate.Low), rate.Low/rate1(rate.Low)) || !near(r.High/rate1(rate.High), rate.High/rate1(rate.High)) {
				t.Fatalf("pair %s, window %d: rate %v, want %v", b.Long, k, r, rate)
			}
		}
		if b.Firing && !b.MayFire || b.Firing && !b.Reachable {
			t.Fatalf("pair %s fires, and may not: %+v", b.Long, b)
		}
	}
	// The stretches are the bad and unsure time.
	var sum time.Duration
	for i, s := range stretches {
		if i > 0 && s.From.Before(stretches[i-1].To) {
			t.Fatal("stretches overlap")
		}
		sum += s.To.Sub(s.From)
	}
	if sum != got.Time.Bad.Sum()+got.Time.Unsure {
		t.Fatalf("stretches of %s, bad %s, unsure %s", sum, got.Time.Bad.Sum(), got.Time.Unsure)
	}
	return got
}

func rate1(x float64) float64 { return max(x, 1) }

// A rolling window, second by second.
func TestRollingAgreesWithScan(t *testing.T) {
	start := time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t, time.Duration(rapid.SampledFrom([]int{7, 60, 300, 600}).Draw(t, "slice"))*time.Second)
		spec.Rolling = time.Duration(rapid.IntRange(60, 7200).Draw(t, "window")) * time.Second
		w := drawWorld(t, spec, start.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "created"))*time.Second), time.Second, 20*time.Minute)
		agree(t, w, w.created.Add(time.Duration(rapid.IntRange(0, 9000).Draw(t, "at"))*time.Second))
	})
}

// Business hours and calendar windows, around all clock changes of two places.
func TestCalendarAgreesWithScan(t *testing.T) {
	berlin, york := zone(t, "Europe/Berlin"), zone(t, "America/New_York")
	changes := []time.Time{
		time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC),
	}
	const step = 15 * time.Minute
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t, time.Hour)
		spec.Location = rapid.SampledFrom([]*time.Location{berlin, york, time.UTC}).Draw(t, "zone")
		spec.Calendar = rapid.SampledFrom([]string{"week", "month"}).Draw(t, "window")
		if rapid.IntRange(0, 3).Draw(t, "rolling") == 0 {
			spec.Calendar, spec.Rolling = "", 7*24*time.Hour
		}
		change := rapid.SampledFrom(changes).Draw(t, "change")
		w := drawWorld(t, spec, change.Add(-step*time.Duration(rapid.IntRange(0, 1000).Draw(t, "created"))), step, 36*time.Hour)
		if rapid.Bool().Draw(t, "hours") {
			w.hours = &office{rapid.SampledFrom([]*time.Location{berlin, york}).Draw(t, "office"), 8, 20}
		}
		agree(t, w, w.created.Add(step*time.Duration(rapid.IntRange(0, 1500).Draw(t, "at"))))
	})
}

// Asked again and again, an evaluator says what a fresh one says.
func TestEvaluatorAgreesWithFreshOne(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t, time.Duration(rapid.IntRange(1000, 7_200_000).Draw(t, "slice"))*time.Millisecond)
		spec.Location = berlin
		if rapid.Bool().Draw(t, "calendar") {
			spec.Calendar = rapid.SampledFrom([]string{"week", "month", "quarter", "year"}).Draw(t, "window")
		} else {
			spec.Rolling = time.Duration(rapid.Int64Range(int64(time.Hour), int64(40*24*time.Hour)).Draw(t, "window"))
		}
		var hours slo.Hours
		if rapid.Bool().Draw(t, "hours") {
			hours = office{berlin, 9, 17}
		}
		created := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.Int64Range(0, int64(30*24*time.Hour)).Draw(t, "created")))
		e, err := slo.New(spec, hours, created)
		if err != nil {
			t.Fatal(err)
		}
		var history []slo.Segment
		now := created
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			x := drawState(t)
			if err := e.Set(now, x); err != nil {
				t.Fatal(err)
			}
			then := now.Add(time.Duration(rapid.Int64Range(1, int64(4*24*time.Hour)).Draw(t, "length")))
			history = append(history, slo.Segment{From: now, To: then, State: x})
			now = then
			if rapid.IntRange(0, 3).Draw(t, "ask") > 0 {
				continue
			}
			got, err := e.At(now)
			if err != nil {
				t.Fatal(err)
			}
			want, stretches, err := slo.Evaluate(spec, hours, created, history, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(stretches, e.Stretches(&got)); diff != "" {
				t.Fatal(diff)
			}
			if sum := got.Time.Good + got.Time.Bad.Sum() + got.Time.Unsure; sum != got.Time.Scheduled {
				t.Fatalf("the parts add up to %s, not to %s", sum, got.Time.Scheduled)
			}
			if got.Time.Scheduled+got.Time.BeforeExistence+got.ToCome != got.Period {
				t.Fatalf("%s is not %s", got.Time.Scheduled+got.Time.BeforeExistence+got.ToCome, got.Period)
			}
		}
	})
}

// What lies before all windows is let go of, and nothing changes by it.
func TestLongHistory(t *testing.T) {
	for _, method := range []slo.Method{slo.Occurrences, slo.Timeslices} {
		spec := slo.Spec{Objective: 999_000, Rolling: 40 * time.Hour, Bad: health.Major, Method: method}
		if method == slo.Timeslices {
			spec.Slice, spec.SliceTarget = time.Minute, 900_000
		}
		created := start.AddDate(0, 0, -60)
		e, err := slo.New(spec, nil, created)
		if err != nil {
			t.Fatal(err)
		}
		var history []slo.Segment
		for i := range 1500 {
			s := slo.Segment{From: created.Add(time.Duration(i) * 7 * time.Minute)}
			s.To = s.From.Add(7 * time.Minute)
			if i%3 == 1 {
				s.State = slo.State{Health: health.Exactly(health.Level(i % 6)), Origin: slo.Origin(i % 5)}
			}
			history = append(history, s)
			if err := e.Set(s.From, s.State); err != nil {
				t.Fatal(err)
			}
			got, err := e.At(s.To)
			if err != nil {
				t.Fatal(err)
			}
			want, stretches, err := slo.Evaluate(spec, nil, created, history, s.To)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(want, got) || !slices.Equal(stretches, e.Stretches(&got)) {
				t.Fatalf("after %d states: %s%s", i, cmp.Diff(want, got), cmp.Diff(stretches, e.Stretches(&got)))
			}
		}
	}
}

// Where one stretch gets worse, or less is known of it, nothing looks better at its low end.
func TestWorseIsNeverBetter(t *testing.T) {
	start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t, 5*time.Minute)
		spec.Rolling = 6 * time.Hour
		w := drawWorld(t, spec, start, time.Second, time.Hour)
		for i := range w.history {
			if w.history[i].Origin == slo.Planned {
				w.history[i].Origin = slo.Own
			}
		}
		if len(w.history) == 0 {
			return
		}
		at := w.history[len(w.history)-1].To
		before, _, err := w.evaluate(at)
		if err != nil {
			t.Fatal(err)
		}
		x := &w.history[rapid.IntRange(0, len(w.history)-1).Draw(t, "which")].Health
		worse := rapid.Bool().Draw(t, "worse")
		if worse {
			x.Low = health.Level(rapid.IntRange(int(x.Low), 5).Draw(t, "to"))
			x.High = max(x.High, x.Low)
		} else {
			*x = health.Unknown
		}
		after, _, err := w.evaluate(at)
		if err != nil {
			t.Fatal(err)
		}
		b, a := before.InForce(), after.InForce()
		if a.SLILow > b.SLILow || a.Left.Low > b.Left.Low || a.Counted != b.Counted || a.Budget != b.Budget {
			t.Fatalf("it got worse, and looks better:\n%+v\n%+v", b, a)
		}
		if worse && (a.SLIHigh > b.SLIHigh || a.Left.High > b.Left.High) || !worse && a.SLIHigh < b.SLIHigh {
			t.Fatalf("high end:\n%+v\n%+v", b, a)
		}
		for i := range after.Burns {
			if after.Burns[i].InLong.High < before.Burns[i].InLong.High || before.Burns[i].MayFire && !after.Burns[i].MayFire {
				t.Fatalf("it got worse, and burns less: %+v, %+v", before.Burns[i], after.Burns[i])
			}
			if !worse && after.Burns[i].Firing && !before.Burns[i].Firing {
				t.Fatal("less was known, and it called")
			}
		}
	})
}

// At the turn of a month, End is about the month that is over and At about the new one.
func TestEndOfAWindow(t *testing.T) {
	spec := slo.Spec{Objective: 990_000, Calendar: "month", Location: time.UTC, Bad: health.Major}
	begin, end := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	history := []slo.Segment{
		{From: begin, To: end.Add(-time.Hour), State: slo.State{Health: health.Exactly(health.OK)}},
		{From: end.Add(-time.Hour), To: end.Add(time.Hour), State: slo.State{Health: health.Exactly(health.Critical)}},
	}
	over, _, err := slo.EvaluateEnd(spec, nil, begin, history, end)
	if err != nil || !over.From.Equal(begin) || !over.To.Equal(end) || over.Time.Scheduled != 31*24*time.Hour || over.Up.Spent.Low != time.Hour || over.ToCome != 0 {
		t.Errorf("%+v, %v", over, err)
	}
	fresh, _, err := slo.Evaluate(spec, nil, begin, history, end)
	if err != nil || !fresh.From.Equal(end) || fresh.Time.Scheduled != 0 || fresh.Up.Spent.Low != 0 {
		t.Errorf("%+v, %v", fresh, err)
	}
	within, _, err := slo.EvaluateEnd(spec, nil, begin, history, end.Add(time.Minute))
	if err != nil || !within.From.Equal(end) || within.Up.Spent.Low != time.Minute {
		t.Errorf("%+v, %v", within, err)
	}
}
