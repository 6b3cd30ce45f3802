package schedule

import (
	"errors"
	"fmt"
	"sync"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// ErrFull is returned by Open when the Async holds as many series as it may.
var ErrFull = errors.New("too many series from asynchronous sources")

// Async takes readings from any goroutine and gives them to the table at the next tick. It holds at most one reading for
// each open series: a second one before the tick replaces the first and is counted (Merged), so nothing can pile up and
// no submitter ever waits for a tick.
type Async struct {
	limit int

	mu     sync.Mutex // guards all below and the fields of every Source
	ready  []*Source  // with something to hand over, in the order of arrival; a Source is in it at most once
	series int
	merged uint64
}

// NewAsync returns an Async for at most limit series; 0 stands for 4096.
func NewAsync(limit int) *Async {
	if limit <= 0 {
		limit = 4096
	}
	return &Async{limit: limit}
}

// Source is a set of series that are always read together, such as the state and the duration of one check. Its methods
// may be called from any goroutine.
type Source struct {
	a     *Async
	descs []metric.Desc

	raw    []int64
	read   bool // raw waits to be handed over
	end    bool // the series are to end first
	closed bool
	queued bool
	slots  []metric.Slot // while the series are in the table; touched by drain only
}

// Open declares a source. Its series start with the first Set.
//
// All series have one group, AsyncFirst to AsyncLast. A group counts as run on the tick that takes in a reading of it,
// and every live series of a group that ran has a sample on that tick, new or repeated. So sources that are read at
// different times get a group each, and share one only when there are more sources than groups.
func (a *Async) Open(descs ...metric.Desc) (*Source, error) {
	if len(descs) == 0 {
		return nil, errors.New("cannot open source: no series")
	}
	for _, d := range descs {
		if d.Group < AsyncFirst || d.Group > AsyncLast || d.Group != descs[0].Group {
			return nil, fmt.Errorf("cannot open source: series %s is in group %d", d.Name, d.Group)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.series+len(descs) > a.limit {
		return nil, ErrFull
	}
	a.series += len(descs)
	return &Source{a: a, descs: append([]metric.Desc(nil), descs...), raw: make([]int64, len(descs))}, nil
}

// Set hands over one reading for each series, in the order of Open. After Close it does nothing.
func (s *Source) Set(raw ...int64) {
	if len(raw) != len(s.descs) {
		panic(fmt.Sprintf("BUG: %d readings for a source of %d series", len(raw), len(s.descs)))
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if s.closed {
		return
	}
	if s.read {
		s.a.merged++
	}
	copy(s.raw, raw)
	s.read = true
	s.queueLocked()
}

// End ends the series: what they measure failed or is over. A later Set starts new ones.
func (s *Source) End() {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.endLocked()
}

func (s *Source) endLocked() {
	if s.closed {
		return
	}
	if s.read {
		s.read = false
		s.a.merged++
	}
	s.end = true
	s.queueLocked()
}

// Close ends the series for good and frees their place.
func (s *Source) Close() {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.endLocked()
	if !s.closed {
		s.closed = true
		s.a.series -= len(s.descs)
	}
}

func (s *Source) queueLocked() {
	if !s.queued {
		s.queued = true
		s.a.ready = append(s.a.ready, s)
	}
}

// Merged returns how many readings were replaced or dropped before a tick took them.
func (a *Async) Merged() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.merged
}

// drain moves what waits into t. It is called by the goroutine that owns t.
func (a *Async) drain(t *metric.Table) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.ready {
		a.ready[i] = nil
		s.queued = false
		if s.end {
			s.end = false
			for _, slot := range s.slots {
				t.End(slot)
			}
			s.slots = s.slots[:0]
		}
		if !s.read {
			continue
		}
		s.read = false
		if len(s.slots) == 0 {
			for _, d := range s.descs {
				s.slots = append(s.slots, t.Add(d))
			}
		}
		for j, slot := range s.slots {
			t.Set(slot, s.raw[j])
		}
		t.Ran(s.descs[0].Group)
	}
	a.ready = a.ready[:0]
}
