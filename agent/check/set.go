package check

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/agent/schedule"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

const (
	// Period is the time between two runs of a check.
	Period = 15 * time.Second
	// MaxChecks bounds the checks of a Set, local and watched together; those beyond it are not made, and logged.
	MaxChecks = 128
	// atOnce bounds the checks under way. When full, a check that is due is left out once and counted.
	atOnce = 32
)

// SetConfig says what a Set is made of.
type SetConfig struct {
	ID    string // of the agent; the phase of each check derives from it
	Local []Spec // from the host's own configuration, valid and with names of their own
	Async *schedule.Async
	Asker *Asker       // default: NewAsker(nil)
	Log   *slog.Logger // default: discard
}

// Set makes the checks of a host, each at its own phase of Period, and hands the results to the table. Its methods may
// be called from any goroutine.
type Set struct {
	cfg  SetConfig
	news chan struct{}

	mu      sync.Mutex
	checks  []*entry // sorted by name
	groups  [schedule.AsyncLast - schedule.AsyncFirst + 1]int
	running int
	missed  uint64
}

type entry struct {
	spec   Spec
	local  bool
	source *schedule.Source
	group  metric.Group
	next   time.Time
	busy   bool
	gone   bool
	known  bool
	last   Result
	at     time.Time
}

// Last is the latest result of a check.
type Last struct {
	Result
	At time.Time `json:"at"`
}

// NewSet returns a Set that makes no check yet.
func NewSet(cfg SetConfig) (*Set, error) {
	if cfg.Async == nil {
		return nil, fmt.Errorf("cannot make checks: no place for the results")
	}
	if cfg.Asker == nil {
		cfg.Asker = NewAsker(nil)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{cfg: cfg, news: make(chan struct{}, 1)}
	for _, spec := range cfg.Local {
		if err := spec.Validate(); err != nil {
			return nil, fmt.Errorf("cannot make check %s: %w", spec.Name, err)
		}
		if err := s.addLocked(spec, true); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Watch replaces the checks that the collector asked for. A check that is unchanged keeps its phase and its series; one
// that is not valid, or one beyond MaxChecks, is left out and logged.
func (s *Set) Watch(specs []Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.checks); {
		e := s.checks[i]
		if e.local || slices.Contains(specs, e.spec) {
			i++
			continue
		}
		e.gone = true
		e.source.Close()
		s.groups[e.group-schedule.AsyncFirst]--
		s.checks = slices.Delete(s.checks, i, i+1)
	}
	for _, spec := range specs {
		if err := spec.Validate(); err != nil {
			s.cfg.Log.Warn("check of the watch list is left out", "check", spec.Name, "error", err)
			continue
		}
		if slices.ContainsFunc(s.checks, func(e *entry) bool { return e.spec.Name == spec.Name }) {
			continue
		}
		if err := s.addLocked(spec, false); err != nil {
			s.cfg.Log.Warn("check of the watch list is left out", "check", spec.Name, "error", err)
		}
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *Set) addLocked(spec Spec, local bool) error {
	if len(s.checks) >= MaxChecks {
		return fmt.Errorf("cannot make check %s: there are %d already", spec.Name, MaxChecks)
	}
	at, found := slices.BinarySearchFunc(s.checks, spec.Name, func(e *entry, name string) int { return strings.Compare(e.spec.Name, name) })
	if found {
		return fmt.Errorf("cannot make check %s: there are two of that name", spec.Name)
	}
	// The group with the fewest checks: up to 32 of them have a group each.
	g := 0
	for i, n := range s.groups {
		if n < s.groups[g] {
			g = i
		}
	}
	e := &entry{spec: spec, local: local, group: schedule.AsyncFirst + metric.Group(g)}
	labels := []metric.Label{{Name: "check", Value: spec.Name}}
	var err error
	e.source, err = s.cfg.Async.Open(
		metric.Desc{Name: "evenkeel_check_up", Labels: labels, Group: e.group},
		metric.Desc{Name: "evenkeel_check_duration_seconds", Labels: labels, Group: e.group, Float: true},
	)
	if err != nil {
		return fmt.Errorf("cannot make check %s: %w", spec.Name, err)
	}
	s.groups[g]++
	s.checks = slices.Insert(s.checks, at, e)
	return nil
}

// Run makes checks until ctx ends and then returns nil. The first run of each is at once.
func (s *Set) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for {
		wait := s.start(ctx, &tasks, time.Now())
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.news:
			timer.Stop()
		}
	}
}

// start makes the checks that are due and returns the time until the next one is.
func (s *Set) start(ctx context.Context, tasks *sync.WaitGroup, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := Period
	for _, e := range s.checks {
		if !now.Before(e.next) {
			switch {
			case e.busy:
			case s.running >= atOnce:
				s.missed++
			default:
				e.busy = true
				s.running++
				tasks.Go(func() { s.make(ctx, e) })
			}
			e.next = now.Truncate(Period).Add(s.phase(e.spec.Name))
			for !e.next.After(now) {
				e.next = e.next.Add(Period)
			}
		}
		wait = min(wait, e.next.Sub(now))
	}
	return wait
}

func (s *Set) phase(name string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.cfg.ID + "/" + name))
	return time.Duration(h.Sum64()>>20) % Period
}

func (s *Set) make(ctx context.Context, e *entry) {
	r := s.cfg.Asker.Ask(ctx, e.spec)
	stopped := ctx.Err() != nil
	s.mu.Lock()
	e.busy = false
	s.running--
	changed := !e.known || e.last.Up != r.Up
	if !stopped {
		e.last, e.known, e.at = r, true, time.Now()
	}
	gone := e.gone
	s.mu.Unlock()
	if stopped || gone {
		return
	}
	up := int64(0)
	if r.Up {
		up = 1
	}
	e.source.Set(up, int64(math.Float64bits(r.Duration.Seconds())))
	if changed {
		s.cfg.Log.Info("check", "check", r.Name, "up", r.Up, "detail", r.Detail)
	}
}

// Results returns the latest result of each check that has one, by name, and how many runs were left out for want of
// room.
func (s *Set) Results() ([]Last, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Last
	for _, e := range s.checks {
		if e.known {
			out = append(out, Last{e.last, e.at})
		}
	}
	return out, s.missed
}
