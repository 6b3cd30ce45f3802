package schedule

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

type quiet struct{ slot metric.Slot }

func (*quiet) Name() string          { return "quiet" }
func (*quiet) Group() metric.Group   { return 0 }
func (*quiet) Period() time.Duration { return time.Second }

func (q *quiet) Read(t *metric.Table, _ time.Time) error {
	if t.Len() == 0 {
		q.slot = t.Add(metric.Desc{Name: "x"})
	}
	t.Set(q.slot, 1)
	return nil
}

func TestTickDoesNotAllocate(t *testing.T) {
	a := NewAsync(0)
	src, err := a.Open(metric.Desc{Name: "up", Group: AsyncFirst})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{ID: "h", Probes: []Probe{&quiet{}}, Async: a, Sink: func(_ time.Time, t *metric.Table) { t.Next() }})
	if err != nil {
		t.Fatal(err)
	}
	now := r.after(time.Unix(1_700_000_000, 0))
	step := func() {
		src.Set(1)
		r.tick(now)
		now = now.Add(time.Second)
	}
	step()
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

func TestAdvance(t *testing.T) {
	r, err := New(Config{ID: "h", Sink: func(time.Time, *metric.Table) {}})
	if err != nil {
		t.Fatal(err)
	}
	last := r.after(time.Unix(1_700_000_000, 0))
	for _, c := range []struct {
		name           string
		now            time.Duration // after last
		next           time.Duration // after last
		skipped, steps uint64
	}{
		{"in time", 3 * time.Millisecond, time.Second, 0, 0},
		{"woken early", -2 * time.Millisecond, time.Second, 0, 0},
		{"exactly at the next", time.Second, 2 * time.Second, 1, 0},
		{"asleep for an hour", time.Hour + time.Millisecond, time.Hour + time.Second, 3600, 0},
		{"clock set back an hour", -time.Hour + time.Millisecond, -time.Hour + time.Second, 0, 1},
	} {
		before := r.Stats()
		if got := r.advance(last, last.Add(c.now)); got.Sub(last) != c.next {
			t.Errorf("%s: next tick after %v, want %v", c.name, got.Sub(last), c.next)
		}
		after := r.Stats()
		if after.Skipped-before.Skipped != c.skipped || after.Steps-before.Steps != c.steps {
			t.Errorf("%s: skipped %d, steps %d", c.name, after.Skipped-before.Skipped, after.Steps-before.Steps)
		}
	}
}

func TestCatchUp(t *testing.T) {
	r, err := New(Config{ID: "h", Sink: func(time.Time, *metric.Table) {}})
	if err != nil {
		t.Fatal(err)
	}
	next := r.after(time.Unix(1_700_000_000, 0))
	for late, want := range map[time.Duration]time.Duration{
		-time.Millisecond: 0, 0: 0, 999 * time.Millisecond: 0, time.Second: time.Second, 3700 * time.Millisecond: 3 * time.Second,
	} {
		if got := r.catchUp(next, next.Add(late)).Sub(next); got != want {
			t.Errorf("%v late: the tick stands for %v later, want %v", late, got, want)
		}
	}
	if got := r.Stats().Skipped; got != 4 {
		t.Errorf("skipped %d, want 4", got)
	}
}
