package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// minSyncGap bounds how often fsyncs that were asked for run, so that ten thousand agents that come back at once share
// them.
const minSyncGap = 25 * time.Millisecond

// Run commits, fsyncs, watches the free space and opens the database again after an error, until ctx ends. It owns
// every goroutine that it starts.
func (s *Store) Run(ctx context.Context) error {
	commit := time.NewTicker(s.cfg.CommitEvery)
	defer commit.Stop()
	space := time.NewTicker(5 * time.Second)
	defer space.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			if s.state.Load() == ready {
				_ = s.sync() // Close reports it, by trying again
			}
			return nil
		case <-s.broken:
			if !s.reopen(ctx) {
				return nil
			}
		case <-space.C:
			s.guard()
		case <-s.kick:
			if wait := minSyncGap - time.Since(last); wait > 0 {
				select {
				case <-ctx.Done():
					continue
				case <-time.After(wait):
				}
			}
			_ = s.sync() // a failure has put itself into broken
			last = time.Now()
		case <-commit.C:
			if time.Since(last) >= s.cfg.SyncEvery {
				_ = s.sync()
				last = time.Now()
			} else {
				s.commit()
			}
		}
	}
}

// Sync asks for an fsync now rather than within a second. It does not wait.
func (s *Store) Sync() {
	select {
	case s.kick <- struct{}{}:
	default: // one is asked for already, and will cover this
	}
}

// Durable returns how far samples are on stable storage.
func (s *Store) Durable() Durable {
	s.durableMu.Lock()
	defer s.durableMu.Unlock()
	return s.durable
}

// Mark returns the mark of everything that was appended before. It is for batches of which nothing is stored, so that
// acks keep their order.
func (s *Store) Mark() Mark { return Mark{Epoch: s.epoch.Load(), Round: s.round.Load()} }

// Wait returns as soon as Durable is no longer what the caller has seen, or with ctx's error.
func (s *Store) Wait(ctx context.Context, seen Durable) (Durable, error) {
	for {
		s.durableMu.Lock()
		d, moved := s.durable, s.moved
		s.durableMu.Unlock()
		if d != seen {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-moved:
		}
	}
}

func (s *Store) publish(d Durable) {
	s.durableMu.Lock()
	defer s.durableMu.Unlock()
	if d == s.durable {
		return
	}
	s.durable = d
	close(s.moved)
	s.moved = make(chan struct{})
}

// commit writes what the lanes hold to the log.
func (s *Store) commit() {
	for _, l := range s.lanes {
		l.mu.Lock()
		if s.state.Load() == ready {
			_ = l.commitLocked()
		}
		l.mu.Unlock()
	}
}

// sync makes everything durable that was appended before it.
func (s *Store) sync() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if s.state.Load() != ready {
		return ErrUnavailable
	}
	// A mark is read under the lane's lock. Whoever read the old round gave its lane back before we take it below, so
	// what it appended is committed here.
	epoch, round := s.epoch.Load(), s.round.Add(1)-1
	dirty := false
	for _, l := range s.lanes {
		l.mu.Lock()
		err := ErrUnavailable
		if s.state.Load() == ready {
			err = l.commitLocked()
		}
		dirty = dirty || l.dirty
		l.dirty = false
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if dirty {
		start := time.Now()
		if err := s.files.sync(); err != nil {
			s.fail(err)
			return err
		}
		s.stats.syncs.Add(1)
		s.stats.syncNanos.Store(int64(time.Since(start)))
	}
	if s.logs.failed.Load() {
		// The database only logs when its out-of-order log or the sync of an older segment fails.
		err := errors.New("database reported a failure of its log")
		s.fail(err)
		return err
	}
	if s.state.Load() != ready {
		return ErrUnavailable // another lane failed meanwhile; what is dropped with it will be sent again
	}
	s.publish(Durable{Epoch: epoch, Round: round})
	return nil
}

// fail stops acks and appends until Run has opened the database again.
func (s *Store) fail(err error) {
	if !s.state.CompareAndSwap(ready, recovering) {
		return
	}
	s.stats.failures.Add(1)
	s.cfg.Log.Error("store's log failed, opening again", "error", err)
	select {
	case s.broken <- struct{}{}:
	default:
	}
}

// reopen closes the database and opens it again, trying until it works. It reports false when ctx ended before.
func (s *Store) reopen(ctx context.Context) bool {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	s.dropAppenders()
	s.dropBallast()
	s.dbMu.Lock()
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.cfg.Log.Warn("closing the failed database", "error", err)
		}
		s.db = nil
	}
	s.dbMu.Unlock()
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		s.files.close()
		err := s.openDB()
		if err == nil {
			break
		}
		s.cfg.Log.Error("cannot open the store again", "error", err, "retry_in", delay)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(delay):
		}
	}
	// What was replayed was not all fsynced before. It must be on disk before anything after it counts as durable.
	if err := s.files.sync(); err != nil {
		s.cfg.Log.Error("cannot sync the store after opening again", "error", err)
		select {
		case s.broken <- struct{}{}:
		default:
		}
		return true
	}
	for _, l := range s.lanes {
		l.mu.Lock()
		l.dirty = true
		l.mu.Unlock()
	}
	d := Durable{Epoch: s.epoch.Add(1), Round: s.round.Add(1) - 1}
	s.guard()
	s.state.Store(ready)
	s.publish(d)
	s.cfg.Log.Info("store is open again", "epoch", d.Epoch)
	return true
}

// walFiles fsyncs the segments of the database's two logs through descriptors of its own, since the database syncs a
// segment only when it is full.
type walFiles struct {
	logs  [2]walFile // the log, and that of late samples
	fsync func(*os.File) error
}

type walFile struct {
	dir  string
	file *os.File // the newest segment seen, kept open
	n    int      // its number
}

func newWALFiles(dir string, fsync func(*os.File) error) walFiles {
	return walFiles{
		logs:  [2]walFile{{dir: filepath.Join(dir, "wal"), n: -1}, {dir: filepath.Join(dir, wlog.WblDirName), n: -1}},
		fsync: fsync,
	}
}

func (w *walFiles) close() {
	for i := range w.logs {
		if f := w.logs[i].file; f != nil {
			f.Close()
		}
		w.logs[i].file = nil
	}
}

// sync fsyncs the newest segment of the last time and every one that was started since.
func (w *walFiles) sync() error {
	for i := range w.logs {
		if err := w.logs[i].sync(w.fsync); err != nil {
			return fmt.Errorf("cannot sync %s: %w", filepath.Base(w.logs[i].dir), err)
		}
	}
	return nil
}

func (w *walFile) sync(fsync func(*os.File) error) error {
	if w.file == nil {
		first, last, err := wlog.Segments(w.dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && last < 0 {
			return nil // no late sample has come yet
		}
		if err != nil {
			return err
		}
		// All of them: which ones an earlier process left unsynced is not known.
		for n := first; n <= last; n++ {
			if err := w.step(n, fsync); err != nil {
				return err
			}
		}
	} else if err := fsync(w.file); err != nil {
		return err
	}
	for {
		err := w.step(w.n+1, fsync)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// step opens segment n, fsyncs it and the folder's entry for it, and keeps it as the newest.
func (w *walFile) step(n int, fsync func(*os.File) error) error {
	f, err := os.OpenFile(wlog.SegmentName(w.dir, n), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := fsync(f); err != nil {
		f.Close()
		return err
	}
	d, err := os.Open(w.dir)
	if err != nil {
		f.Close()
		return err
	}
	err = fsync(d)
	d.Close()
	if err != nil {
		f.Close()
		return err
	}
	if w.file != nil {
		w.file.Close()
	}
	w.file, w.n = f, n
	return nil
}

// Flush makes what was appended visible to queries. Tests and queries call it; streams need not.
func (s *Store) Flush() {
	if s.state.Load() == ready {
		s.commit()
	}
}

// SyncNow makes everything appended so far durable and returns when it is.
func (s *Store) SyncNow(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.sync()
}
