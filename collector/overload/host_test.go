package overload_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func f(v float64) *float64 { return &v }

func hostCPU() overload.Detector {
	return overload.Detector{
		Name: "host-cpu", Signal: "cpu.pressure.some", Scope: "host", Level: health.Major,
		Act: &overload.Condition{Above: f(0.4), Need: 2, Out: 3, And: []overload.Condition{
			{Signal: "runqueue.delay", Of: overload.OfValued, Above: f(0.5), Need: 2, Out: 3},
		}},
		Warn:  &overload.Condition{Above: f(0.25), Need: 8, Out: 10},
		Leave: &overload.Condition{Below: f(0.15), For: 10 * time.Second},
	}
}

// failer is what testing.T and rapid.T share.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func compile(t failer, d ...overload.Detector) *overload.Set {
	t.Helper()
	set, err := overload.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// world drives one Host with PSI and the run-queue delay of one component, in group 1 at 1 s.
type world struct {
	t    failer
	h    *overload.Host
	now  time.Time
	raw  []int64
	last []overload.Verdict
}

var (
	psi    = metric.Desc{Name: "node_pressure_cpu_waiting_seconds_total", Scale: metric.Scale{Div: 1_000_000}, Group: 1}
	runq   = metric.Desc{Name: "evenkeel_component_runqueue_seconds_total", Labels: []metric.Label{{Name: "component", Value: "component/web"}}, Scale: metric.Scale{Div: 1_000_000_000}, Group: 1}
	procs  = metric.Desc{Name: "evenkeel_component_processes", Labels: []metric.Label{{Name: "component", Value: "component/web"}}, Group: 1}
	usage  = metric.Desc{Name: "evenkeel_component_cpu_seconds_total", Labels: []metric.Label{{Name: "component", Value: "component/web"}}, Scale: metric.Scale{Div: 1000}, Group: 1}
	gauges = metric.Desc{Name: "node_memory_MemAvailable_bytes", Group: 2}
	total  = metric.Desc{Name: "node_memory_MemTotal_bytes", Group: 2}
)

func newWorld(t failer, d ...overload.Detector) *world {
	w := &world{t: t, h: overload.NewHost("a", compile(t, d...)), now: start, raw: make([]int64, 4)}
	w.h.SetComponents([]string{"component/web"})
	w.h.Bind(0, &psi)
	w.h.Bind(1, &runq)
	w.h.Bind(2, &procs)
	w.h.Bind(3, &usage)
	w.raw[2] = 1
	w.h.Step(w.now, 2, w.raw)
	return w
}

func (w *world) tick(pressure, delay float64) string {
	w.now = w.now.Add(time.Second)
	w.raw[0] += int64(pressure * 1e6)
	w.raw[1] += int64(delay * 1e9)
	w.raw[3] += 500
	return w.states(w.h.Step(w.now, 2, w.raw))
}

func (w *world) states(vs []overload.Verdict) string {
	var out []string
	for _, v := range vs {
		s := v.Detector + "=" + v.State.String()
		if v.Gone {
			s += " gone"
		}
		out = append(out, s)
	}
	w.last = append(w.last[:0], vs...)
	return strings.Join(out, ",")
}

func (w *world) expect(pressure, delay float64, want string) {
	w.t.Helper()
	if got := w.tick(pressure, delay); got != want {
		w.t.Fatalf("at %s: changed %q, want %q", w.now.Sub(start), got, want)
	}
}

func TestHostCPUActsOnPressureAndDelay(t *testing.T) {
	w := newWorld(t, hostCPU())
	w.expect(0.05, 0.01, "host-cpu=healthy")
	w.expect(0.9, 0.1, "")
	w.expect(0.9, 0.9, "")
	w.expect(0.9, 0.9, "host-cpu=overloaded")
	v := w.last[0]
	if v.Level != health.Major || v.AppliesTo != "host" || v.Subject != "" || v.Host != "a" || !v.Since.Equal(w.now) {
		t.Fatalf("verdict %+v", v)
	}
	want := []string{
		"cpu.pressure.some 90 % >= 40 % in 2 of 3 ticks",
		"runqueue.delay of component/web 0.90 s/s >= 0.50 s/s in 2 of 3 ticks",
	}
	var got []string
	for _, e := range v.Evidence {
		got = append(got, e.Text)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	// Between leave and act it stays; it leaves after ten seconds below 15 %.
	for range 20 {
		w.expect(0.2, 0.1, "")
	}
	for range 10 {
		w.expect(0.1, 0, "")
	}
	w.expect(0.1, 0, "host-cpu=healthy")
}

func TestPressureAloneWarnsAndNeverActs(t *testing.T) {
	w := newWorld(t, hostCPU())
	w.expect(0.9, 0, "host-cpu=healthy")
	for range 6 {
		w.expect(0.9, 0, "")
	}
	w.expect(0.9, 0, "host-cpu=at risk")
	for range 30 {
		w.expect(1, 0.4, "")
	}
	w.h.SetComponents(nil) // nothing on the host has a value
	for range 5 {
		w.expect(1, 5, "")
	}
}

func TestUnknownNeitherEntersNorLeaves(t *testing.T) {
	w := newWorld(t, hostCPU())
	for range 4 {
		w.tick(0.9, 1)
	}
	// The probe fails: its series are gone.
	w.h.Unbind(0)
	w.now = w.now.Add(time.Second)
	if got := w.states(w.h.Step(w.now, 2, w.raw)); got != "host-cpu=unknown" {
		t.Fatal(got)
	}
	for range 60 {
		w.now = w.now.Add(time.Second)
		if got := w.states(w.h.Step(w.now, 2, w.raw)); got != "" {
			t.Fatal(got)
		}
	}
	// It comes back calm: what was latched stands until leave is met by samples.
	w.h.Bind(0, &psi)
	w.expect(0, 0, "")
	w.expect(0, 0, "host-cpu=overloaded")
	for range 9 {
		w.expect(0, 0, "")
	}
	w.expect(0, 0, "host-cpu=healthy")
}

func TestSilenceAndOutageDoNotJoinWindows(t *testing.T) {
	w := newWorld(t, hostCPU())
	w.expect(0, 0, "host-cpu=healthy")
	w.expect(0.9, 1, "")
	if got := w.states(w.h.MarkSilent(w.now.Add(4 * time.Second))); got != "host-cpu=unknown" {
		t.Fatal(got)
	}
	if got := w.states(w.h.MarkSilent(w.now.Add(5 * time.Second))); got != "" {
		t.Fatal(got)
	}
	// One bad sample before the gap and one after are not two of three.
	w.now = w.now.Add(60 * time.Second)
	w.expect(0.9*61, 61, "host-cpu=healthy")
	w.expect(0.9, 1, "host-cpu=overloaded")
}

func TestCounterResetGivesNoSample(t *testing.T) {
	w := newWorld(t, hostCPU())
	w.tick(0.1, 0)
	w.raw[0] = 0
	w.expect(0, 0, "")
	if _, ok := w.h.Last("cpu.pressure.some", ""); ok {
		t.Fatal("a reset gave a value")
	}
	w.expect(0.2, 0, "")
	if p, ok := w.h.Last("cpu.pressure.some", ""); !ok || math.Abs(p.Value-0.2) > 1e-6 {
		t.Fatal(p, ok)
	}
}

func TestComponentDetectors(t *testing.T) {
	w := newWorld(t,
		overload.Detector{
			Name: "component-running", Signal: "process.running", Scope: "process", Level: health.Critical,
			Act: &overload.Condition{Below: f(0), Need: 1, Out: 1}, Leave: &overload.Condition{Above: f(1), For: 2 * time.Second},
		})
	w.raw[2] = 0
	w.expect(0, 0, "component-running=overloaded")
	if v := w.last[0]; v.Subject != "component/web" || v.Level != health.Critical {
		t.Fatalf("%+v", v)
	}
	w.raw[2] = 2
	w.expect(0, 0, "")
	w.expect(0, 0, "")
	w.expect(0, 0, "component-running=healthy")
}

func TestGroupThatStopsIsUnknownAfterItsPatience(t *testing.T) {
	d := overload.Detector{
		Name: "memory", Signal: "memory.available", Level: health.Major, Act: &overload.Condition{Below: f(0.05), Need: 1, Out: 1},
	}
	w := newWorld(t, d)
	w.h.Bind(4, &gauges)
	w.h.Bind(5, &total)
	w.raw = append(w.raw, 50, 100)
	for i := range 20 {
		w.now = w.now.Add(time.Second)
		groups := uint64(2)
		if i%10 == 0 {
			groups |= 4
		}
		w.h.Step(w.now, groups, w.raw)
	}
	for i := 1; ; i++ { // last ran at i=10 of the loop above, nine ticks ago
		w.now = w.now.Add(time.Second)
		if got := w.states(w.h.Step(w.now, 2, w.raw)); got == "memory=unknown" {
			if i+9 != 32 {
				t.Fatalf("unknown after %d s", i+9)
			}
			return
		} else if got != "" || i > 60 {
			t.Fatal(got, i)
		}
	}
}

func TestUseKeepsStateOfUnchangedDetectors(t *testing.T) {
	other := hostCPU()
	other.Name = "other"
	w := newWorld(t, hostCPU(), other)
	for range 4 {
		w.tick(0.9, 1)
	}
	changed := hostCPU()
	changed.Level = health.Critical
	w.h.Use(compile(t, hostCPU()))
	w.expect(0.9, 1, "other=unknown gone")
	w.h.Use(compile(t, changed))
	w.expect(0.9, 1, "host-cpu=overloaded")
	if w.last[0].Level != health.Critical {
		t.Fatal(w.last[0])
	}
	if vs := w.h.Verdicts(nil); len(vs) != 1 || vs[0].State != overload.Overloaded {
		t.Fatal(vs)
	}
}

func TestEndedSubjectIsForgotten(t *testing.T) {
	w := newWorld(t, overload.Detector{
		Name: "running", Signal: "process.running", Scope: "process", Level: health.Critical, Act: &overload.Condition{Below: f(0)},
	})
	w.tick(0, 0)
	w.h.Unbind(2)
	w.expect(0, 0, "running=unknown")
	for i := 0; ; i++ {
		if got := w.tick(0, 0); got == "running=unknown gone" {
			break
		} else if got != "" || i > 700 {
			t.Fatal(got, i)
		}
	}
	if vs := w.h.Verdicts(nil); len(vs) != 0 {
		t.Fatal(vs)
	}
}

// Every value of ten minutes is there, whatever the ring did meanwhile; the oracle keeps them all.
func TestWindowKeepsTenMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := overload.NewHost("a", compile(t, hostCPU()))
		h.Bind(0, &psi)
		raw := []int64{0}
		now := start
		var all []overload.Point
		h.Step(now, 2, raw)
		n := rapid.IntRange(1, 1500).Draw(t, "ticks")
		gap := rapid.IntRange(1, 5).Draw(t, "gap")
		for i := range n {
			step := time.Second
			if i%97 == 96 {
				step = time.Duration(gap) * time.Second
			}
			now = now.Add(step)
			v := int64(i % 1000)
			raw[0] += v * 1000
			h.Step(now, 2, raw)
			all = append(all, overload.Point{At: now, Value: float64(v) / 1000 / step.Seconds()})
		}
		since := now.Add(-10*time.Minute - time.Nanosecond)
		var want []overload.Point
		for _, p := range all {
			if p.At.After(since) {
				want = append(want, p)
			}
		}
		got := h.Values(nil, "cpu.pressure.some", "", since)
		if len(got) != len(want) {
			t.Fatalf("%d values, want %d", len(got), len(want))
		}
		for i := range got {
			if !got[i].At.Equal(want[i].At) || math.Abs(got[i].Value-want[i].Value) > 1e-5 {
				t.Fatalf("value %d: %v, want %v", i, got[i], want[i])
			}
		}
	})
}

// Detectors are checked against a slow oracle that keeps every sample and counts anew on each tick.
func TestDetectorAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		need := rapid.IntRange(1, 4).Draw(t, "need")
		out := need + rapid.IntRange(0, 4).Draw(t, "more")
		d := overload.Detector{
			Name: "d", Signal: "cpu.pressure.some", Level: health.Major,
			Act:   &overload.Condition{Above: f(0.405), Need: need, Out: out},
			Leave: &overload.Condition{Below: f(0.155), For: 4 * time.Second},
		}
		w := newWorld(t, d)
		var samples []float64
		state := "healthy"
		told := ""
		for range rapid.IntRange(1, 80).Draw(t, "ticks") {
			v := float64(rapid.IntRange(0, 5).Draw(t, "v")) / 10
			samples = append(samples, v)
			hits := 0
			for _, s := range samples[max(0, len(samples)-out):] {
				if s > 0.405 {
					hits++
				}
			}
			calm := len(samples) >= 5
			for _, s := range samples[max(0, len(samples)-5):] {
				calm = calm && s < 0.155
			}
			switch {
			case state != "overloaded" && hits >= need:
				state = "overloaded"
			case state == "overloaded" && calm:
				state = "healthy"
			}
			want := ""
			if state != told {
				want, told = "d="+state, state
			}
			if got := w.tick(v, 0); got != want {
				t.Fatalf("after %v: changed %q, want %q", samples, got, want)
			}
		}
	})
}

func TestCompileRefuses(t *testing.T) {
	for name, d := range map[string]overload.Detector{
		"no signal":        {Name: "x", Signal: "cpu.bussy", Act: &overload.Condition{Above: f(1)}},
		"neither":          {Name: "x", Signal: "cpu.busy"},
		"no threshold":     {Name: "x", Signal: "cpu.busy", Act: &overload.Condition{}},
		"two thresholds":   {Name: "x", Signal: "cpu.busy", Act: &overload.Condition{Above: f(1), Below: f(0)}},
		"n over m":         {Name: "x", Signal: "cpu.busy", Act: &overload.Condition{Above: f(1), Need: 4, Out: 3}},
		"unknown and":      {Name: "x", Signal: "cpu.busy", Act: &overload.Condition{Above: f(1), And: []overload.Condition{{Signal: "y", Above: f(1)}}}},
		"longer than kept": {Name: "x", Signal: "cpu.busy", Act: &overload.Condition{Above: f(1), For: time.Hour}},
		"for and of":       {Name: "x", Signal: "cpu.busy", Act: &overload.Condition{Above: f(1), For: time.Second, Need: 1, Out: 2}},
	} {
		if _, err := overload.Compile([]overload.Detector{d}); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}

// load binds n series as a real agent has them: host, devices, units and components.
func load(n int) (*overload.Host, []int64, func([]int64)) {
	set, err := overload.Compile([]overload.Detector{
		hostCPU(),
		{Name: "component-delay", Signal: "runqueue.delay", Scope: "process", Level: health.Major, Act: &overload.Condition{Above: f(0.5), Need: 2, Out: 3}},
		{Name: "busy", Signal: "cpu.busy", Level: health.Warning, Warn: &overload.Condition{Above: f(0.85), For: time.Minute}},
		{Name: "unit-throttled", Signal: "unit.throttled", Scope: "unit", Level: health.Minor, Act: &overload.Condition{Above: f(0.5), For: 30 * time.Second}},
		{Name: "disk-util", Signal: "disk.util", Scope: "device", Level: health.Warning, Warn: &overload.Condition{Above: f(0.98), For: time.Minute}},
	})
	if err != nil {
		panic(err)
	}
	h := overload.NewHost("a", set)
	h.SetComponents([]string{"component/c0"})
	var descs []metric.Desc
	add := func(name, label, value string, div uint32) {
		d := metric.Desc{Name: name, Scale: metric.Scale{Div: div}, Group: metric.Group(len(name) % 6)}
		if label != "" {
			d.Labels = []metric.Label{{Name: label, Value: value}}
		}
		descs = append(descs, d)
	}
	for _, m := range []string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"} {
		add("node_cpu_seconds_total", "mode", m, 100)
	}
	descs = append(descs, psi)
	for i := 0; len(descs) < n; i++ {
		u := fmt.Sprint("u", i)
		add("evenkeel_unit_cpu_seconds_total", "unit", u, 1000)
		add("evenkeel_unit_cpu_periods_total", "unit", u, 1)
		add("evenkeel_unit_cpu_throttled_periods_total", "unit", u, 1)
		add("evenkeel_unit_memory_bytes", "unit", u, 1)
		add("node_netstat_Ip_Forwarding"+u, "", "", 1)
		if i%5 == 0 {
			add("evenkeel_component_runqueue_seconds_total", "component", "component/c"+fmt.Sprint(i), 1_000_000_000)
			add("node_disk_io_time_seconds_total", "device", "sd"+u, 1000)
			add("node_disk_reads_completed_total", "device", "sd"+u, 1)
			add("node_disk_written_bytes_total", "device", "sd"+u, 1)
		}
	}
	for i := range descs[:n] {
		h.Bind(i, &descs[i])
	}
	raw := make([]int64, n)
	return h, raw, func(raw []int64) {
		for i := range raw {
			raw[i] += int64(i%7) * 3
		}
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	h, raw, next := load(500)
	now := start
	step := func() {
		now = now.Add(time.Second)
		next(raw)
		h.Step(now, math.MaxUint64, raw)
	}
	for range 700 {
		step()
	}
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Fatalf("%v allocations a tick", n)
	}
}

func BenchmarkStep(b *testing.B) {
	for _, n := range []int{100, 500} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			h, raw, next := load(n)
			now := start
			for range 700 {
				now = now.Add(time.Second)
				next(raw)
				h.Step(now, math.MaxUint64, raw)
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Second)
				next(raw)
				h.Step(now, math.MaxUint64, raw)
			}
		})
	}
}
