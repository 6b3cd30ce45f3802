package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Ref is a series of the database. It holds until the epoch changes or the series has had no sample for hours; Append
// then returns ErrUnknownRef. The zero Ref is no series.
type Ref uint64

const (
	maxName   = 200   // bytes of a metric or label name
	maxLabels = 32    // of one series
	maxSeries = 4_096 // bytes of all names and values of one series
)

// Lane is one appender that many streams share. A stream takes it with Begin, appends a tick, and gives it back with
// End; nothing in between may block. Samples become visible to queries, all those of a tick together, within
// Config.CommitEvery.
type Lane struct {
	s  *Store
	mu sync.Mutex

	app     storage.Appender // nil: none is open
	pending int              // samples in app
	dirty   bool             // committed something since the last fsync
	scratch labels.ScratchBuilder
}

// Begin takes the lane for which n stands, waiting until its user of the moment is done. Streams spread themselves over
// the lanes by any n that stays the same. On an error the lane is not taken.
func (s *Store) Begin(n uint32) (*Lane, error) {
	switch {
	case s.state.Load() != ready:
		return nil, ErrUnavailable
	case s.noSpace.Load():
		return nil, ErrNoSpace
	}
	l := s.lanes[n%uint32(len(s.lanes))]
	l.mu.Lock()
	if s.state.Load() != ready { // it may have changed while we waited, and the lane was emptied then
		l.mu.Unlock()
		return nil, ErrUnavailable
	}
	return l, nil
}

// Epoch changes when the database was opened again. Refs of another epoch must be forgotten: they may name other series.
func (l *Lane) Epoch() uint32 { return l.s.epoch.Load() }

func (l *Lane) open() {
	// The lane is held and the state is ready, so db cannot be replaced: that needs every lane.
	l.app = l.s.db.Appender(context.Background())
}

// Append adds one sample of a known series at ms, Unix milliseconds. The caller holds the lane.
func (l *Lane) Append(ref Ref, ms int64, v float64) error {
	if l.app == nil {
		l.open()
	}
	if _, err := l.app.Append(storage.SeriesRef(ref), labels.EmptyLabels(), ms, v); err != nil {
		return l.s.translate(err, true)
	}
	l.pending++
	return nil
}

// Create adds one sample of a series by its identity, which is d's with instance and job, and returns its ref. The
// caller holds the lane.
func (l *Lane) Create(instance string, d *metric.Desc, ms int64, v float64) (Ref, error) {
	set, err := l.labels(instance, d)
	if err != nil {
		return 0, err
	}
	if int(l.s.series.Load()) >= l.s.cfg.MaxSeries && l.s.headFull() && !l.known(set) {
		return 0, ErrTooManySeries
	}
	if l.app == nil {
		l.open()
	}
	ref, err := l.app.Append(0, set, ms, v)
	if err != nil {
		return 0, l.s.translate(err, false)
	}
	l.pending++
	l.s.series.Add(1) // too many at most; headFull counts anew before anything is refused
	return Ref(ref), nil
}

// headFull counts the series of the head. The caller holds a lane, so db stays.
func (s *Store) headFull() bool {
	n := int64(s.db.Head().NumSeries())
	s.series.Store(n)
	return n >= int64(s.cfg.MaxSeries)
}

// known reports whether the head has the series already.
func (l *Lane) known(set labels.Labels) bool {
	if l.app == nil {
		l.open()
	}
	g, ok := l.app.(storage.GetRef)
	if !ok {
		return false
	}
	ref, _ := g.GetRef(set, set.Hash())
	return ref != 0
}

func (l *Lane) labels(instance string, d *metric.Desc) (labels.Labels, error) {
	if d.Name == "" || len(d.Name) > maxName || !utf8.ValidString(d.Name) || len(d.Labels) > maxLabels {
		return labels.Labels{}, ErrBadSeries
	}
	size := len(d.Name)
	b := &l.scratch
	b.Reset()
	b.Add(model.MetricNameLabel, d.Name)
	b.Add("instance", instance)
	b.Add("job", "node")
	for i := range d.Labels {
		n, v := d.Labels[i].Name, d.Labels[i].Value
		size += len(n) + len(v)
		switch {
		case n == "" || len(n) > maxName || n == model.MetricNameLabel || n == "instance" || n == "job",
			size > maxSeries, i > 0 && n <= d.Labels[i-1].Name, !utf8.ValidString(n), !utf8.ValidString(v):
			return labels.Labels{}, ErrBadSeries
		}
		if v != "" { // an empty value is the same as no label
			b.Add(n, v)
		}
	}
	b.Sort()
	return b.Labels(), nil
}

// End gives the lane back and returns the mark of what was appended since Begin. It commits where enough has gathered;
// ErrLost means that this failed.
func (l *Lane) End() (Mark, error) {
	defer l.mu.Unlock()
	m := Mark{Epoch: l.s.epoch.Load(), Round: l.s.round.Load()}
	if l.pending >= l.s.cfg.CommitSamples {
		if err := l.commitLocked(); err != nil {
			return m, ErrLost
		}
	}
	return m, nil
}

// commitLocked writes what has gathered to the log. After an error the store is recovering.
func (l *Lane) commitLocked() error {
	if l.app == nil {
		return nil
	}
	app, n := l.app, l.pending
	l.app, l.pending = nil, 0
	if err := app.Commit(); err != nil {
		l.s.fail(err)
		return err
	}
	l.dirty = l.dirty || n > 0
	l.s.stats.samples.Add(uint64(n))
	l.s.stats.commits.Add(1)
	return nil
}

// dropAppenders rolls back what the lanes hold. The state is no longer ready, so nobody opens another.
func (s *Store) dropAppenders() {
	for _, l := range s.lanes {
		l.mu.Lock()
		if l.app != nil {
			_ = l.app.Rollback() // it writes to the log that failed
			l.app, l.pending = nil, 0
		}
		l.mu.Unlock()
	}
}

// translate turns an error of the database into one of this package.
func (s *Store) translate(err error, byRef bool) error {
	switch {
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		s.stats.tooOld.Add(1)
		return ErrTooOld
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		s.stats.conflicts.Add(1)
		return ErrConflict
	case byRef: // it was looked up by its labels, of which there are none
		return ErrUnknownRef
	}
	return fmt.Errorf("%w: %w", ErrBadSeries, err)
}
