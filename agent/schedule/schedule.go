// Package schedule decides when an agent reads: a Runner ticks once a period at a phase of its own, runs the probes that
// are due into one metric.Table, takes in what other goroutines have read (Async), and hands the table to a sink.
//
// It knows no probe and no wire format. Ticks that come too late are skipped and counted, never bunched. Run is the only
// goroutine: it owns the table, so that a tick needs no lock and, after warm-up, no allocation.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// The groups of pkg/metric, divided: probes have 0 to 30, the Runner's own series OwnGroup, sources of Async the rest.
const (
	OwnGroup   metric.Group = 31
	AsyncFirst metric.Group = 32
	AsyncLast  metric.Group = metric.MaxGroups - 1
)

// ownPeriod is how often the Runner publishes its own series.
const ownPeriod = 10 * time.Second

// Probe reads one thing into the table. All methods are called by the goroutine of Run.
type Probe interface {
	// Name is short and constant: the value of a label.
	Name() string
	// Group is the probe's own; no two probes of a Runner share one.
	Group() metric.Group
	// Period is a whole multiple of the Runner's.
	Period() time.Duration
	// Read adds, sets and ends the series of the probe's group. When it fails it has ended them all.
	Read(t *metric.Table, now time.Time) error
}

// Config is what a Runner needs.
type Config struct {
	// ID is the agent's; the phase derives from it.
	ID string
	// Period of a tick, default 1 s, at least 10 ms.
	Period time.Duration
	Probes []Probe
	// Async may be nil.
	Async *Async
	// Sink gets the table once a tick, on the goroutine of Run, and must call its Next before it returns. now is the
	// scheduled time of the tick in whole milliseconds.
	Sink func(now time.Time, t *metric.Table)
	// Log gets one line when a probe starts to fail and one when it works again. Default: slog.Default().
	Log *slog.Logger
}

// ProbeStats is what a Runner knows of one probe since it started.
type ProbeStats struct {
	Name     string
	Runs     uint64
	Failures uint64
	// Slow counts the runs that took more than a quarter of the Runner's period.
	Slow uint64
	// Seconds is the time spent in Read, in total and at most.
	Seconds, Longest float64
	// Err is that of the last run; nil if it went well.
	Err error
}

// Stats is what a Runner did since it started.
type Stats struct {
	Ticks uint64
	// Skipped counts the ticks that could not be held: the machine slept, or a tick took longer than its period.
	Skipped uint64
	// Steps counts how often the wall clock was set back by more than half a period.
	Steps uint64
	// Last is the scheduled time of the last tick.
	Last   time.Time
	Probes []ProbeStats
}

type entry struct {
	probe  Probe
	every  int64 // ticks
	begun  bool
	failed bool
	slot   metric.Slot
	stats  ProbeStats
}

// Runner is the agent's clock. Make it with New.
type Runner struct {
	cfg   Config
	phase time.Duration
	log   *slog.Logger
	table metric.Table
	probe []entry

	own     bool // the Runner's own series are there
	skipped metric.Slot
	merged  metric.Slot

	mu    sync.Mutex // guards stats; taken once a tick
	stats Stats
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Runner, error) {
	if cfg.Period == 0 {
		cfg.Period = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	var problems []error
	if cfg.Period < 10*time.Millisecond || cfg.Period%time.Millisecond != 0 {
		problems = append(problems, fmt.Errorf("period %v is not a whole number of milliseconds of at least 10", cfg.Period))
	}
	if cfg.Sink == nil {
		problems = append(problems, errors.New("no sink"))
	}
	r := &Runner{cfg: cfg, log: cfg.Log}
	names := map[string]bool{}
	groups := map[metric.Group]string{}
	for _, p := range cfg.Probes {
		name, period, g := p.Name(), p.Period(), p.Group()
		switch other, taken := groups[g]; {
		case names[name]:
			problems = append(problems, fmt.Errorf("two probes are called %s", name))
		case taken:
			problems = append(problems, fmt.Errorf("probes %s and %s share group %d", other, name, g))
		case g >= OwnGroup:
			problems = append(problems, fmt.Errorf("group %d of probe %s is not one for probes", g, name))
		case period < cfg.Period || period%cfg.Period != 0:
			problems = append(problems, fmt.Errorf("period %v of probe %s is not a multiple of %v", period, name, cfg.Period))
		}
		names[name], groups[g] = true, name
		r.probe = append(r.probe, entry{probe: p, every: int64(period / cfg.Period), stats: ProbeStats{Name: name}})
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("cannot schedule: %w", err)
	}
	r.phase = Phase(cfg.ID, cfg.Period)
	r.stats.Probes = make([]ProbeStats, len(r.probe))
	for i := range r.probe {
		r.stats.Probes[i] = r.probe[i].stats
	}
	return r, nil
}

// Phase returns the offset of an agent's ticks within period, in whole milliseconds: a hash of its id, so that agents
// spread evenly and each stays where it is.
func Phase(id string, period time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(id))
	return time.Duration(mix(h.Sum64())%uint64(period/time.Millisecond)) * time.Millisecond
}

// mix spreads the bits of an FNV hash, whose low ones differ little between names that differ in their last letter.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Stats returns a copy, for any goroutine at any time.
func (r *Runner) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Probes = append([]ProbeStats(nil), r.stats.Probes...)
	return s
}

// Run ticks until ctx ends and then returns nil. It is called once. The tick that is under way ends first.
func (r *Runner) Run(ctx context.Context) error {
	next := r.after(time.Now())
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		// A goroutine that a timer made ready inherits the time slice of whoever ran last, here itself, a second ago: the
		// runtime would take it for a hog, interrupt it in the middle of the tick and carry it on from another thread. This
		// begins a slice of its own.
		runtime.Gosched()
		if ctx.Err() != nil {
			return nil
		}
		next = r.catchUp(next, time.Now())
		r.tick(next)
		next = r.advance(next, time.Now())
		// The wall clock decides, so the wait is computed afresh each time and follows a clock that is slewed.
		timer.Reset(time.Until(next))
	}
}

// after returns the first scheduled time later than now. The result has no monotonic reading on purpose.
func (r *Runner) after(now time.Time) time.Time {
	p := int64(r.cfg.Period)
	k := floorDiv(now.UnixNano()-int64(r.phase), p) + 1
	return time.Unix(0, k*p+int64(r.phase)).UTC()
}

// catchUp returns the scheduled time that a wake-up at now stands for: next, or a later one where the host was so busy
// that whole periods went by. Readings carry the time at which they are taken; those of the ticks between are not made up.
func (r *Runner) catchUp(next, now time.Time) time.Time {
	late := time.Duration(now.UnixNano() - next.UnixNano())
	if late < r.cfg.Period {
		return next
	}
	n := late / r.cfg.Period
	r.mu.Lock()
	r.stats.Skipped += uint64(n)
	r.mu.Unlock()
	return next.Add(n * r.cfg.Period)
}

// advance returns the tick after last, given the time at which last ended, and counts what was missed.
func (r *Runner) advance(last, now time.Time) time.Time {
	wall := time.Unix(0, now.UnixNano())
	var skipped, steps uint64
	// A timer keeps the monotonic clock and may come a little before its wall time; that is the same tick, not a
	// clock that was set back.
	if d := last.Sub(wall); d > r.cfg.Period/2 {
		steps = 1
	} else if d > 0 {
		wall = last
	}
	next := r.after(wall)
	if gap := next.Sub(last); steps == 0 && gap > r.cfg.Period {
		skipped = uint64(gap/r.cfg.Period) - 1
	}
	if skipped > 0 || steps > 0 {
		r.mu.Lock()
		r.stats.Skipped += skipped
		r.stats.Steps += steps
		r.mu.Unlock()
	}
	return next
}

func (r *Runner) tick(now time.Time) {
	k := floorDiv(now.UnixNano()-int64(r.phase), int64(r.cfg.Period))
	if r.cfg.Async != nil {
		r.cfg.Async.drain(&r.table)
	}
	begin := time.Now()
	for i := range r.probe {
		e := &r.probe[i]
		// Slow probes have an offset each, so that they do not all fall on one tick; the first tick runs them all.
		if e.begun && (k+int64(e.probe.Group()))%e.every != 0 {
			continue
		}
		e.begun = true
		err := e.probe.Read(&r.table, now)
		end := time.Now()
		e.count(end.Sub(begin), r.cfg.Period, err)
		begin = end
		if err == nil {
			r.table.Ran(e.probe.Group())
		}
		if failed := err != nil; failed != e.failed {
			e.failed = failed
			if failed {
				r.log.Warn("probe failed", "probe", e.stats.Name, "error", err)
			} else {
				r.log.Info("probe works again", "probe", e.stats.Name)
			}
		}
	}
	r.publish(now, k)
	r.cfg.Sink(now, &r.table)
}

func (e *entry) count(took, period time.Duration, err error) {
	s := &e.stats
	s.Runs++
	s.Err = err
	if err != nil {
		s.Failures++
	}
	if took > period/4 {
		s.Slow++
	}
	sec := took.Seconds()
	s.Seconds += sec
	s.Longest = max(s.Longest, sec)
}

// publish moves the counts of the tick to where Stats sees them and, each ownPeriod, into the table.
func (r *Runner) publish(now time.Time, k int64) {
	r.mu.Lock()
	r.stats.Ticks++
	r.stats.Last = now
	for i := range r.probe {
		r.stats.Probes[i] = r.probe[i].stats
	}
	skipped := r.stats.Skipped
	r.mu.Unlock()

	every := max(1, int64(ownPeriod/r.cfg.Period))
	if r.own && (k+int64(OwnGroup))%every != 0 {
		return
	}
	if !r.own {
		r.own = true
		for i := range r.probe {
			r.probe[i].slot = r.table.Add(metric.Desc{
				Name:   "evenkeel_agent_probe_seconds_total",
				Labels: []metric.Label{{Name: "probe", Value: r.probe[i].stats.Name}},
				Scale:  metric.Scale{Div: 1e6}, Group: OwnGroup,
			})
		}
		r.skipped = r.table.Add(metric.Desc{Name: "evenkeel_agent_ticks_skipped_total", Group: OwnGroup})
		if r.cfg.Async != nil {
			r.merged = r.table.Add(metric.Desc{Name: "evenkeel_agent_async_merged_total", Group: OwnGroup})
		}
	}
	for i := range r.probe {
		r.table.Set(r.probe[i].slot, int64(r.probe[i].stats.Seconds*1e6))
	}
	r.table.Set(r.skipped, int64(skipped))
	if r.cfg.Async != nil {
		r.table.Set(r.merged, int64(r.cfg.Async.Merged()))
	}
	r.table.Ran(OwnGroup)
}

// floorDiv divides towards minus infinity, so that times before 1970 fall on the same grid.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
