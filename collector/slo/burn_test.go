package slo_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
)

func rolling(days int) slo.Spec {
	return slo.Spec{Objective: 999_000, Rolling: time.Duration(days) * 24 * time.Hour, Bad: health.Major}
}

func TestFactorsFollowThePeriod(t *testing.T) {
	for days, want := range map[int][]float64{
		30: {14.4, 6, 3, 1},
		28: {13.44, 5.6, 2.8, 28.0 / 30},
		7:  {3.36, 1.4, 0.7, 7.0 / 30},
		3:  {1.44, 0.6, 0.3}, // a window of three days is no part of three days
		2:  {0.96, 0.4, 0.2},
	} {
		r, _, err := slo.Evaluate(rolling(days), nil, start.AddDate(-1, 0, 0), nil, start)
		if err != nil || len(r.Burns) != len(want) {
			t.Fatalf("%d days: %d pairs, %v", days, len(r.Burns), err)
		}
		for i, b := range r.Burns {
			if !near(b.Factor, want[i]) || !b.Reachable {
				t.Errorf("%d days, %s: factor %v, want %v", days, b.Long, b.Factor, want[i])
			}
		}
	}
}

var start = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

// history returns a service that was ok for a year, then in a state for so long, until start.
func history(x slo.State, d time.Duration) (created time.Time, out []slo.Segment) {
	created = start.AddDate(-1, 0, 0)
	return created, []slo.Segment{{From: created, To: start.Add(-d)}, {From: start.Add(-d), To: start, State: x}}
}

func TestWhenItCalls(t *testing.T) {
	down := slo.State{Health: health.Exactly(health.Critical), Origin: slo.Vendor}
	for _, c := range []struct {
		name  string
		state slo.State
		d     time.Duration
		calls string // y, n or ? for each pair
	}{
		{"well", slo.State{}, time.Hour, "nnnn"},
		{"down for 50 seconds", down, 50 * time.Second, "nnnn"},
		{"down for 52 seconds", down, 52 * time.Second, "ynnn"},
		{"down for 3 minutes", down, 3 * time.Minute, "yynn"},
		{"down for 10 minutes", down, 10 * time.Minute, "yyyy"},
		{"silent for 10 minutes", slo.State{Health: health.Unknown}, 10 * time.Minute, "????"},
		{"below what is bad", slo.State{Health: health.Exactly(health.Minor)}, 10 * time.Hour, "nnnn"},
		{"maintenance", slo.State{Health: health.Exactly(health.Critical), Origin: slo.Planned}, time.Hour, "nnnn"},
	} {
		created, h := history(c.state, c.d)
		r, _, err := slo.Evaluate(rolling(30), nil, created, h, start)
		if err != nil {
			t.Fatal(err)
		}
		var calls strings.Builder
		for _, b := range r.Burns {
			switch {
			case b.Firing:
				calls.WriteByte('y')
			case b.MayFire:
				calls.WriteByte('?')
			default:
				calls.WriteByte('n')
			}
		}
		if calls.String() != c.calls {
			t.Errorf("%s: %s, want %s: %+v", c.name, calls.String(), c.calls, r.Burns)
		}
	}
}

func TestTimeToExhaustion(t *testing.T) {
	// 30 days at 99.9% may have 43m12s; 3m36s of the last hour were bad: a rate of 60, which spends what is left in 11 hours.
	created, h := history(slo.State{Health: health.Exactly(health.Critical)}, 216*time.Second)
	r, _, err := slo.Evaluate(rolling(30), nil, created, h, start)
	if err != nil {
		t.Fatal(err)
	}
	left := 43*time.Minute + 12*time.Second - 216*time.Second
	want := time.Duration(float64(left) * 3600 / 216)
	if e := r.Burns[0].Exhausted; r.Up.Left != (slo.Spread{Low: left, High: left}) || e != (slo.Spread{Low: want, High: want}) {
		t.Errorf("left %v, exhausted in %v, want %s in %s", r.Up.Left, e, left, want)
	}
	// At a rate of f the whole budget lasts period / f.
	if b := r.Burns[0]; !near(b.InLong.Low, 60) {
		t.Errorf("rate %v", b.InLong)
	}
	created, h = history(slo.State{Health: health.Unknown}, 216*time.Second)
	if r, _, err = slo.Evaluate(rolling(30), nil, created, h, start); err != nil {
		t.Fatal(err)
	}
	if e := r.Burns[0].Exhausted; e != (slo.Spread{Low: want, High: slo.Never}) {
		t.Errorf("unsure: exhausted in %v", e)
	}
	created, h = history(slo.State{Health: health.Exactly(health.Critical)}, 2*time.Hour)
	if r, _, err = slo.Evaluate(rolling(30), nil, created, h, start); err != nil {
		t.Fatal(err)
	}
	if e := r.Burns[0].Exhausted; e != (slo.Spread{}) || r.Up.Outcome != slo.Missed {
		t.Errorf("overspent: exhausted in %v, %s", e, r.Up.Outcome)
	}
}

// An objective of 90% burns at most ten times as fast as it may: 14.4 is never reached, and the answer says so.
func TestFactorOutOfReach(t *testing.T) {
	s := rolling(30)
	s.Objective = 900_000
	r, _, err := slo.Evaluate(s, nil, start.AddDate(-1, 0, 0), nil, start)
	if err != nil || r.Burns[0].Reachable || !r.Burns[1].Reachable {
		t.Errorf("%+v, %v", r.Burns, err)
	}
}

// In business time an hour of the windows is an hour of business: Monday at 8:30 it reaches back to Friday.
func TestBurnInBusinessTime(t *testing.T) {
	hours := office{time.UTC, 8, 17}
	monday := time.Date(2026, 11, 23, 8, 30, 0, 0, time.UTC)
	friday := time.Date(2026, 11, 20, 16, 45, 0, 0, time.UTC)
	created := monday.AddDate(0, -3, 0)
	h := []slo.Segment{
		{From: created, To: friday},
		{From: friday, To: monday.Add(-15 * time.Minute), State: slo.State{Health: health.Exactly(health.Major), Origin: slo.Own}},
		{From: monday.Add(-15 * time.Minute), To: monday},
	}
	r, _, err := slo.Evaluate(rolling(28), hours, created, h, monday)
	if err != nil {
		t.Fatal(err)
	}
	if r.Period != 20*9*time.Hour || r.Time.Bad.Own != 30*time.Minute {
		t.Errorf("period %s, bad %s", r.Period, r.Time.Bad.Own)
	}
	b := r.Burns[0]
	if !near(b.InLong.Low, 500) || b.InShort.Low != 0 || !near(b.Factor, 0.02*180) {
		t.Errorf("%+v", b)
	}
}

// Both conventions about maintenance are told, with the one in force.
func TestConventions(t *testing.T) {
	created := start.Add(-100 * time.Hour)
	h := []slo.Segment{
		{From: created, To: start.Add(-50 * time.Hour)},
		{From: start.Add(-50 * time.Hour), To: start.Add(-40 * time.Hour), State: slo.State{Health: health.Exactly(health.Critical), Origin: slo.Planned}},
		{From: start.Add(-40 * time.Hour), To: start.Add(-31 * time.Hour), State: slo.State{Health: health.Exactly(health.Critical), Origin: slo.Upstream}},
		{From: start.Add(-31 * time.Hour), To: start},
	}
	s := slo.Spec{Objective: 500_000, Rolling: 100 * time.Hour, Bad: health.Major}
	r, stretches, err := slo.Evaluate(s, nil, created, h, start)
	if err != nil {
		t.Fatal(err)
	}
	if r.Force != "up" || r.Up.SLILow.String() != "91" || r.LeftOut.SLILow.String() != "90" || r.Up.Budget != 50*time.Hour || r.LeftOut.Budget != 45*time.Hour {
		t.Errorf("%s: %+v\n%+v", r.Force, r.Up, r.LeftOut)
	}
	if len(stretches) != 2 || stretches[0].Part != "planned" || stretches[1].Part != "upstream" {
		t.Errorf("%v", stretches)
	}
	s.LeftOut = true
	if r, _, err = slo.Evaluate(s, nil, created, h, start); err != nil || r.Force != "leftOut" || r.InForce() != r.LeftOut {
		t.Errorf("%s, %v", r.Force, err)
	}
}

// A budget that is spent to the last nanosecond is kept.
func TestOutcome(t *testing.T) {
	s := slo.Spec{Objective: 999_000, Rolling: 1000 * time.Hour, Bad: health.Major}
	for _, c := range []struct {
		x    health.Range
		d    time.Duration
		want string
	}{
		{health.Exactly(health.Major), time.Hour, slo.Met},
		{health.Exactly(health.Major), time.Hour + 1, slo.Missed},
		{health.Exactly(health.Minor), 2 * time.Hour, slo.Met},
		{health.Unknown, time.Hour, slo.Met},
		{health.Range{Low: health.Minor, High: health.Major}, time.Hour + 1, slo.Undecided},
	} {
		created, h := history(slo.State{Health: c.x}, c.d)
		r, _, err := slo.Evaluate(s, nil, created, h, start)
		if err != nil || r.Up.Outcome != c.want {
			t.Errorf("%v for %s: %s, %v", c.x, c.d, r.Up.Outcome, err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	bad := []slo.Spec{
		{},
		{Objective: 1_000_000, Rolling: time.Hour, Bad: health.Major},
		{Objective: 1, Bad: health.Major},
		{Objective: 1, Rolling: time.Hour, Calendar: "week", Bad: health.Major},
		{Objective: 1, Calendar: "week", Bad: health.Major},
		{Objective: 1, Calendar: "moon", Location: time.UTC, Bad: health.Major},
		{Objective: 1, Rolling: time.Hour},
		{Objective: 1, Rolling: time.Hour, Bad: health.Major, Method: slo.Timeslices},
		{Objective: 1, Rolling: time.Hour, Bad: health.Major, Method: slo.Timeslices, Slice: time.Minute},
	}
	for _, s := range bad {
		if _, err := slo.New(s, nil, start); err == nil {
			t.Errorf("%+v was taken", s)
		}
	}
	e, err := slo.New(rolling(30), nil, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Set(start.Add(-1), slo.State{}); err == nil {
		t.Error("a state from before the service existed was taken")
	}
	if _, err := e.At(start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := e.Set(start.Add(time.Minute), slo.State{}); err == nil {
		t.Error("a state that comes too late was taken")
	}
	if _, err := e.At(start); err == nil {
		t.Error("it went back")
	}
	if err := e.Set(start.Add(2*time.Hour), slo.State{Health: health.Range{Low: 3, High: 1}}); err == nil {
		t.Error("a range that is none was taken")
	}
}
