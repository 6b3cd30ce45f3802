package schedule_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/evenkeel/evenkeel/agent/schedule"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fake struct {
	name   string
	group  metric.Group
	period time.Duration
	took   func(run int) time.Duration
	err    func(run int) error

	slot metric.Slot
	live bool
	runs int
	at   []time.Time
}

func (f *fake) Name() string          { return f.name }
func (f *fake) Group() metric.Group   { return f.group }
func (f *fake) Period() time.Duration { return f.period }

func (f *fake) Read(t *metric.Table, now time.Time) error {
	f.runs++
	f.at = append(f.at, now)
	if f.took != nil {
		if d := f.took(f.runs); d > 0 {
			<-time.After(d)
		}
	}
	if f.err != nil {
		if err := f.err(f.runs); err != nil {
			if f.live {
				t.End(f.slot)
				f.live = false
			}
			return err
		}
	}
	if !f.live {
		f.slot, f.live = t.Add(metric.Desc{Name: f.name, Group: f.group}), true
	}
	t.Set(f.slot, int64(f.runs))
	return nil
}

// run keeps a Runner going for d of the bubble's time and returns it with the times of its ticks.
func run(t *testing.T, cfg schedule.Config, d time.Duration) (*schedule.Runner, []time.Time) {
	t.Helper()
	var at []time.Time
	sink := cfg.Sink
	cfg.Sink = func(now time.Time, tab *metric.Table) {
		at = append(at, now)
		if sink != nil {
			sink(now, tab)
		}
		tab.Next()
	}
	r, err := schedule.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return r, at
}

func TestTicksStandOnTheirPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fake{name: "a", period: time.Second, took: func(int) time.Duration { return 30 * time.Millisecond }}
		_, at := run(t, schedule.Config{ID: "host-1", Probes: []schedule.Probe{p}}, 10500*time.Millisecond)
		if len(at) < 10 {
			t.Fatalf("%d ticks in 10.5 s", len(at))
		}
		want := schedule.Phase("host-1", time.Second)
		for i, now := range at {
			if got := time.Duration(now.Nanosecond()); got != want {
				t.Errorf("tick %d at phase %v, want %v", i, got, want)
			}
			if i > 0 && now.Sub(at[i-1]) != time.Second {
				t.Errorf("tick %d is %v after the one before", i, now.Sub(at[i-1]))
			}
		}
	})
}

func TestPhasesSpread(t *testing.T) {
	var bins [10]int
	for i := range 1000 {
		d := schedule.Phase("host-"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+string(rune('a'+i/26%26)), time.Second)
		if d < 0 || d >= time.Second || d%time.Millisecond != 0 {
			t.Fatalf("phase %v", d)
		}
		bins[d/(100*time.Millisecond)]++
	}
	for i, n := range bins {
		if n < 50 || n > 170 {
			t.Errorf("bin %d holds %d of 1000", i, n)
		}
	}
}

func TestPeriodsAreMultiples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &fake{name: "one", group: 1, period: time.Second}
		ten := &fake{name: "ten", group: 2, period: 10 * time.Second}
		ten2 := &fake{name: "ten2", group: 3, period: 10 * time.Second}
		groups := map[metric.Group]int{}
		_, at := run(t, schedule.Config{ID: "h", Probes: []schedule.Probe{one, ten, ten2}, Sink: func(_ time.Time, tab *metric.Table) {
			for g := range metric.Group(metric.MaxGroups) {
				if tab.Groups()&(1<<g) != 0 {
					groups[g]++
				}
			}
		}}, 61*time.Second)
		if one.runs != len(at) || groups[1] != len(at) {
			t.Errorf("the probe of 1 s ran %d times and was marked %d times in %d ticks", one.runs, groups[1], len(at))
		}
		if !ten.at[0].Equal(at[0]) || !ten2.at[0].Equal(at[0]) {
			t.Error("the first tick did not run every probe")
		}
		for i := 2; i < len(ten.at); i++ {
			if d := ten.at[i].Sub(ten.at[i-1]); d != 10*time.Second {
				t.Errorf("run %d of the probe of 10 s came %v after the last", i, d)
			}
		}
		if ten.at[1].Equal(ten2.at[1]) {
			t.Error("two probes of 10 s fall on one tick")
		}
		if groups[schedule.OwnGroup] < 6 || groups[schedule.OwnGroup] > 8 {
			t.Errorf("the runner's own group ran %d times in 61 s", groups[schedule.OwnGroup])
		}
	})
}

func TestLateTicksAreSkippedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{name: "slow", period: time.Second, took: func(run int) time.Duration {
			if run == 3 {
				return 3200 * time.Millisecond
			}
			return 0
		}}
		r, at := run(t, schedule.Config{ID: "h", Probes: []schedule.Probe{slow}}, 10*time.Second)
		s := r.Stats()
		if s.Skipped != 3 || s.Steps != 0 {
			t.Errorf("skipped %d, steps %d, want 3 and 0", s.Skipped, s.Steps)
		}
		if d := at[3].Sub(at[2]); d != 4*time.Second {
			t.Errorf("the tick after the slow one came %v later", d)
		}
		if s.Probes[0].Slow != 1 || s.Probes[0].Longest < 3 || s.Probes[0].Runs != uint64(len(at)) || s.Ticks != uint64(len(at)) {
			t.Errorf("%+v", s)
		}
	})
}

func TestFailureIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		broken := &fake{name: "disk", group: 5, period: time.Second, err: func(run int) error {
			if run >= 3 && run < 6 {
				return errors.New("cannot read")
			}
			return nil
		}}
		var ran []bool
		var gone int
		r, _ := run(t, schedule.Config{
			ID: "h", Probes: []schedule.Probe{broken}, Log: slog.New(slog.NewTextHandler(&out, nil)),
			Sink: func(_ time.Time, tab *metric.Table) {
				ran = append(ran, tab.Groups()&(1<<5) != 0)
				gone += len(tab.Gone())
			},
		}, 8*time.Second)
		if n := strings.Count(out.String(), "probe failed"); n != 1 {
			t.Errorf("failure logged %d times:\n%s", n, out.String())
		}
		if n := strings.Count(out.String(), "probe works again"); n != 1 {
			t.Errorf("recovery logged %d times", n)
		}
		if d := cmp.Diff([]bool{true, true, false, false, false, true, true}, ran[:7]); d != "" {
			t.Error(d)
		}
		if gone != 1 {
			t.Errorf("%d series gone, want 1", gone)
		}
		if s := r.Stats().Probes[0]; s.Failures != 3 || s.Err != nil {
			t.Errorf("%+v", s)
		}
	})
}

func TestAsyncReachesTheNextTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := schedule.NewAsync(3)
		const g = schedule.AsyncFirst
		src, err := a.Open(metric.Desc{Name: "up", Group: g}, metric.Desc{Name: "took", Group: g})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Open(metric.Desc{Name: "x", Group: g}, metric.Desc{Name: "y", Group: g}); !errors.Is(err, schedule.ErrFull) {
			t.Fatalf("a fourth series: %v", err)
		}
		if _, err := a.Open(metric.Desc{Name: "x", Group: 3}); err == nil {
			t.Fatal("a source in a probe's group was let in")
		}
		type tick struct {
			ran         bool
			up, took    int64
			count, gone int
		}
		var ticks []tick
		step := 0
		_, _ = run(t, schedule.Config{ID: "h", Async: a, Sink: func(_ time.Time, tab *metric.Table) {
			var k tick
			k.ran = tab.Groups()&(1<<g) != 0
			k.gone = len(tab.Gone())
			for s := range metric.Slot(tab.Len()) {
				if tab.Live(s) && tab.Desc(s).Group == g {
					k.count++
					switch tab.Desc(s).Name {
					case "up":
						k.up = tab.Raw(s)
					case "took":
						k.took = tab.Raw(s)
					}
				}
			}
			ticks = append(ticks, k)
			switch step++; step {
			case 1:
				src.Set(1, 10)
				src.Set(1, 20) // replaces the first
			case 3:
				src.Set(0, 30)
			case 4:
				src.End()
			case 5:
				src.Set(1, 40)
			case 6:
				src.Close()
				src.Set(1, 50)
			}
		}}, 9*time.Second)
		want := []tick{
			{},
			{ran: true, up: 1, took: 20, count: 2},
			{up: 1, took: 20, count: 2},
			{ran: true, up: 0, took: 30, count: 2},
			{gone: 2},
			{ran: true, up: 1, took: 40, count: 2},
			{gone: 2},
			{},
		}
		if d := cmp.Diff(want, ticks[:8], cmp.AllowUnexported(tick{})); d != "" {
			t.Error(d)
		}
		if a.Merged() != 1 {
			t.Errorf("merged %d", a.Merged())
		}
		if _, err := a.Open(metric.Desc{Name: "x", Group: g}, metric.Desc{Name: "y", Group: g}); err != nil {
			t.Errorf("the place of a closed source is not free: %v", err)
		}
	})
}

func TestBadConfig(t *testing.T) {
	_, err := schedule.New(schedule.Config{Period: time.Millisecond, Probes: []schedule.Probe{
		&fake{name: "a", period: time.Second}, &fake{name: "b", period: time.Second}, &fake{name: "c", group: 40, period: time.Second},
	}})
	for _, want := range []string{"period 1ms", "no sink", "share group 0", "group 40"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func BenchmarkAsyncSet(b *testing.B) {
	a := schedule.NewAsync(0)
	src, err := a.Open(metric.Desc{Name: "up", Group: schedule.AsyncFirst})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		src.Set(1)
	}
}
