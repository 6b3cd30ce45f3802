package probe_test

import (
	"fmt"
	"os"
	"sort"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key writes a series as people know it: name{label="value",...}.
func key(d *metric.Desc) string {
	s := d.Name
	for i, l := range d.Labels {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		s += fmt.Sprintf("%s%s=%q", sep, l.Name, l.Value)
	}
	if len(d.Labels) > 0 {
		s += "}"
	}
	return s
}

// values returns all live series of a table by key.
func values(t *metric.Table) map[string]float64 {
	all := map[string]float64{}
	for s := range metric.Slot(t.Len()) {
		if t.Live(s) {
			d := t.Desc(s)
			all[key(d)] = d.Value(t.Raw(s))
		}
	}
	return all
}

func open(t testing.TB, cfg probe.Config) *probe.Set {
	t.Helper()
	s, err := probe.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// round reads every probe once, as on a first tick.
func round(t testing.TB, s *probe.Set, tab *metric.Table, now time.Time) {
	t.Helper()
	for _, p := range s.Probes() {
		if err := p.Read(tab, now); err != nil {
			t.Fatalf("%s: %v", p.Name(), err)
		}
		tab.Ran(p.Group())
	}
}

// self is this test's own process as a component: it surely runs.
func self(t testing.TB) []probe.Watch {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return []probe.Watch{{Component: "component/self", Target: command.Target{Process: &command.Process{Exe: exe}}}}
}

// used is the CPU time of this process.
func used(t testing.TB) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// The host that the test runs on agrees with itself: the time of all modes grows by that of the CPUs, and what this
// process does is seen.
func TestLiveHost(t *testing.T) {
	s := open(t, probe.Config{})
	s.Components().SetWatch(self(t))
	var tab metric.Table
	now := time.Now()
	round(t, s, &tab, now)
	before := values(&tab)
	tab.Next()

	// Spun by this process's own clock, since the test may have to share the CPUs.
	for end := used(t) + 100*time.Millisecond; used(t) < end; {
	}
	round(t, s, &tab, now.Add(time.Second))
	after := values(&tab)

	busy := func(v map[string]float64) (sum float64) {
		for _, m := range []string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"} {
			sum += v[`node_cpu_seconds_total{mode="`+m+`"}`]
		}
		return sum
	}
	if d := busy(after) - busy(before); d < 0.05 {
		t.Errorf("100 ms of spinning: the CPUs' time grew by %v s", d)
	}
	k := `evenkeel_component_cpu_seconds_total{component="component/self"}`
	if d := after[k] - before[k]; d < 0.05 || d > 5 {
		t.Errorf("100 ms of spinning: the component's time grew by %v s", d)
	}
	for _, name := range []string{
		"node_memory_MemTotal_bytes", "node_boot_time_seconds", "evenkeel_host_cpus", "node_context_switches_total",
		"evenkeel_agent_resident_memory_bytes", "evenkeel_agent_series",
		`evenkeel_component_processes{component="component/self"}`, `evenkeel_component_threads{component="component/self"}`,
		`evenkeel_component_memory_bytes{component="component/self"}`, `evenkeel_component_fds{component="component/self"}`,
	} {
		if after[name] <= 0 {
			t.Errorf("%s = %v", name, after[name])
		}
	}
	if got, want := after["evenkeel_agent_series"], float64(tab.Count()); got != want {
		t.Errorf("evenkeel_agent_series = %v, want %v", got, want)
	}
	places, _ := s.Components().Places()
	if len(places) != 1 || !places[0].Running || places[0].Processes < 1 || places[0].Problem != "" || places[0].Cgroup == "" {
		t.Errorf("places %+v", places)
	}
	if testing.Verbose() {
		names := make([]string, 0, len(after))
		for k := range after {
			names = append(names, k)
		}
		sort.Strings(names)
		for _, k := range names {
			t.Log(k, after[k])
		}
		t.Log("absent:", s.Absent())
		for _, f := range s.Files() {
			t.Log(f)
		}
	}
}

// ready returns a set on the live host that has been read for some rounds.
func ready(t testing.TB) (*probe.Set, *metric.Table, func()) {
	s := open(t, probe.Config{})
	s.Components().SetWatch(self(t))
	tab := &metric.Table{}
	now := time.Now()
	step := func() {
		for _, p := range s.Probes() {
			if err := p.Read(tab, now); err != nil {
				t.Fatalf("%s: %v", p.Name(), err)
			}
		}
		tab.Next()
		now = now.Add(p1)
	}
	for range 5 {
		step()
	}
	return s, tab, step
}

const p1 = time.Second

func BenchmarkProbe(b *testing.B) {
	s, tab, _ := ready(b)
	now := time.Now()
	for _, p := range s.Probes() {
		b.Run(p.Name(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Read(tab, now); err != nil {
					b.Fatal(err)
				}
				tab.Next()
				now = now.Add(time.Millisecond)
			}
		})
	}
}

// BenchmarkSecond is what one second costs: the probes of each second, and a tenth of the others.
func BenchmarkSecond(b *testing.B) {
	s, tab, _ := ready(b)
	now := time.Now()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i, p := range s.Probes() {
			if p.Period() == time.Second || (n+i)%10 == 0 {
				if err := p.Read(tab, now); err != nil {
					b.Fatal(err)
				}
			}
		}
		tab.Next()
		n++
		now = now.Add(time.Second)
	}
	b.ReportMetric(float64(tab.Count()), "series")
}
