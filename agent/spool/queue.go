// Package spool keeps an agent's batches until a collector has stored them: in memory for sending again at once, and in
// segments on disk for what outlives the process. DESIGN.md beside this file says what survives what.
//
// It knows nothing of what is in a frame and never waits for a collector: when there is no room the oldest batches go, and
// are counted. Trouble with the disk stops nothing; the newest batches are then in memory alone.
//
// It starts no goroutine. The owner appends once a tick and calls SyncIfDue with the time.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config says where a Queue lives and how much it may hold.
type Config struct {
	Dir  string // made with mode 0700 if it is not there
	Boot BootID // of this start of the agent; not that of any before

	MaxBytes     int64         // on disk, acked or not; default 256 MiB, at least two segments
	SegmentBytes int64         // default 4 MiB
	KeepAcked    time.Duration // acked segments stay this long for a collector that asks back; default 2 h
	KeepBytes    int64         // ... and while they are no more than this; default 256 MiB
	MemoryBytes  int           // newest frames in memory; default 512 KiB
	SyncAfter    time.Duration // the oldest unacked batch that is not on the disk itself is at most this old; default 10 s

	// OnError is told of the first error of an outage of the disk, from within Append, Ack, SyncIfDue or Close, and must not
	// call the Queue. May be nil.
	OnError func(error)
	// Create makes a new file for appending. Default: the operating system's.
	Create func(path string) (File, error)
}

// File is what a Queue writes to.
type File interface {
	io.Writer
	Truncate(size int64) error
	Sync() error
	Close() error
}

// ErrClosed is returned by a Queue that was closed.
var ErrClosed = errors.New("the spool is closed")

// Range is a run of unacked batches of one boot. Last < First: none.
type Range struct {
	Boot        BootID
	First, Last uint64
}

// Stats is what a Queue holds and has lost since it was opened.
type Stats struct {
	Bytes        int64  // on disk
	UnackedBytes int64  // of them, not known to be stored; an estimate within a segment
	Limit        int64  // MaxBytes
	Segments     int    // files
	Unacked      uint64 // batches
	Dropped      uint64 // unacked batches that had to go, for want of room or because the disk failed
	DroppedBytes uint64 // their frames and heads
	BadRecords   uint64 // stretches of bytes found at Open that were no record
	WriteErrors  uint64
	Failing      error // why the newest batches are in memory alone; nil when they are not
}

// segment is a file of batches of one boot.
type segment struct {
	id          uint64
	boot        BootID
	owner       *boot  // nil: no batches
	first, last uint64 // batches; last < first: none
	lastAt      int64
	bytes       int64
	count       uint64
	countBytes  int64 // of batches, without acks
	key         bool  // there is a key frame in it
}

// boot is what is known of one start of an agent.
type boot struct {
	id    BootID
	acked uint64
	last  uint64
}

// Queue is a durable queue of batches. Its methods may be called from any goroutine.
type Queue struct {
	cfg Config

	mu       sync.Mutex
	closed   bool
	segments []*segment // oldest first; the last is written to while file is set
	boots    []*boot    // oldest first; the current one last
	nextID   uint64
	file     File
	old      []File // full segments that were not synced yet
	newFiles bool   // since the folder was synced
	ring     ring
	scratch  []byte
	onDisk   uint64 // last batch of this boot written to a file
	synced   uint64 // last batch of this boot known to be on the disk itself
	now      int64  // ms, the latest time heard of
	retryAt  int64  // ms; while failing
	wantKey  bool
	failing  error
	stats    Stats
	evict    func(*entry)
}

const (
	retryEvery = 5000 // ms between two tries of a failing disk
	maxOld     = 4    // files waiting to be synced; beyond that Append syncs them itself
)

// Open opens the spool in cfg.Dir and reads what earlier boots left there. Bytes at the end of a segment that are no whole
// record are cut off; bad ones further in are left out and counted. It fails where the folder cannot be read.
func Open(cfg Config) (*Queue, error) {
	defaults := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	defaults(&cfg.MaxBytes, 256<<20)
	defaults(&cfg.SegmentBytes, 4<<20)
	defaults(&cfg.KeepBytes, 256<<20)
	defaults((*int64)(&cfg.KeepAcked), int64(2*time.Hour))
	defaults((*int64)(&cfg.SyncAfter), int64(10*time.Second))
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = 512 << 10
	}
	if cfg.Dir == "" || cfg.SegmentBytes < 0 || cfg.MaxBytes < 2*cfg.SegmentBytes {
		return nil, errors.New("cannot open spool: it needs a folder and room for two segments")
	}
	if cfg.Create == nil {
		cfg.Create = func(path string) (File, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open spool: %w", err)
	}
	q := &Queue{cfg: cfg, ring: ring{size: cfg.MemoryBytes}, wantKey: true, stats: Stats{Limit: cfg.MaxBytes}}
	q.evict = func(e *entry) {
		if e.seq > q.onDisk && e.seq > q.currentLocked().acked {
			q.stats.Dropped++
			q.stats.DroppedBytes += uint64(headSize + e.len)
		}
	}
	ids, err := segmentIDs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open spool: %w", err)
	}
	acks := map[BootID]uint64{}
	for _, id := range ids {
		q.nextID = id + 1
		q.recover(id, acks)
	}
	for _, b := range q.boots {
		b.acked = min(acks[b.id], b.last)
	}
	cur := q.boot(cfg.Boot) // made now, or moved to the end
	for i, b := range q.boots {
		if b == cur {
			q.boots = append(append(q.boots[:i:i], q.boots[i+1:]...), cur)
		}
	}
	q.onDisk, q.synced = cur.last, cur.last
	q.trimLocked()
	return q, nil
}

func (s *segment) note(r *Record) {
	s.last, s.lastAt = max(s.last, r.Seq), max(s.lastAt, r.At)
	s.key = s.key || r.Key
	s.count++
	s.countBytes += int64(headSize + len(r.Frame))
}

// boot finds a boot, or makes it the newest.
func (q *Queue) boot(id BootID) *boot {
	for _, b := range q.boots {
		if b.id == id {
			return b
		}
	}
	b := &boot{id: id}
	q.boots = append(q.boots, b)
	return b
}

func (q *Queue) currentLocked() *boot { return q.boots[len(q.boots)-1] }

// NeedsKey reports whether the next batch should be a key frame: it will be the first of a segment, or follows batches that
// only now could reach the disk. While the disk fails it is false, since no segment can start.
func (q *Queue) NeedsKey() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.wantKey && q.failing == nil
}

// Append takes a batch of the current boot, whose seq is above all before, at being the time in ms. It is in the hands of
// the kernel when Append returns nil. The frame is copied. With an error that is not ErrClosed the batch is in memory all
// the same, and goes to the disk once that works again; it needs no second try.
func (q *Queue) Append(seq uint64, at int64, key bool, frame []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.currentLocked()
	switch {
	case q.closed:
		return ErrClosed
	case len(frame) > maxFrame:
		return fmt.Errorf("cannot spool a frame of %d bytes", len(frame))
	case seq <= b.last:
		return fmt.Errorf("cannot spool batch %d after batch %d", seq, b.last)
	}
	q.now = max(q.now, at)
	kept := q.ring.push(seq, at, key, frame, q.evict)
	b.last = seq
	r := Record{b.id, seq, at, key, frame}
	var err error
	if q.failing == nil {
		err = q.writeLocked(&r)
		if err != nil {
			q.failLocked(err)
		}
	} else if err = q.failing; at >= q.retryAt || at < q.retryAt-retryEvery {
		if err = q.catchUpLocked(); err == nil && !kept {
			err = q.writeLocked(&r)
		}
		if err != nil {
			q.failLocked(err)
		}
	}
	if err != nil {
		if !kept {
			q.stats.Dropped++
			q.stats.DroppedBytes += uint64(headSize + len(frame))
		}
		return fmt.Errorf("cannot write to the spool: %w", err)
	}
	q.trimLocked()
	return nil
}

// Ack says that the batches of a boot up to and including seq are stored.
func (q *Queue) Ack(id BootID, seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.boots {
		if b.id != id {
			continue
		}
		seq = min(seq, b.last)
		if seq <= b.acked || q.closed {
			return
		}
		b.acked = seq
		if q.file != nil && q.failing == nil {
			// So that the next boot knows. Losing it only means to offer the batches again.
			if err := q.writeBytesLocked(&Record{Boot: id, Seq: seq, At: q.now}, flagAck); err != nil {
				q.failLocked(err)
			}
		}
		q.trimLocked()
		return
	}
}

// Ranges lists the unacked batches by boot: the current boot first, present also when empty, then earlier ones, oldest
// first.
func (q *Queue) Ranges() []Range {
	q.mu.Lock()
	defer q.mu.Unlock()
	cur := q.currentLocked()
	all := []Range{q.rangeLocked(cur)}
	for _, b := range q.boots[:len(q.boots)-1] {
		if r := q.rangeLocked(b); r.First <= r.Last {
			all = append(all, r)
		}
	}
	return all
}

func (q *Queue) rangeLocked(b *boot) Range {
	first := b.last + 1
	for _, s := range q.segments {
		if s.boot == b.id && s.count > 0 && s.last > b.acked {
			first = max(s.first, b.acked+1)
			break
		}
	}
	if b == q.currentLocked() && q.ring.n > 0 {
		if i := q.ring.search(b.acked + 1); i < q.ring.n {
			first = min(first, q.ring.at(i).seq)
		}
	}
	return Range{b.id, first, b.last}
}

// trimLocked removes acked segments that need not be kept, and the oldest ones while there are too many.
func (q *Queue) trimLocked() {
	total, acked := int64(0), int64(0)
	for _, s := range q.segments {
		total += s.bytes
		if q.ackedLocked(s) {
			acked += s.bytes
		}
	}
	n := len(q.segments)
	if q.file != nil {
		n-- // the one that is written to stays
	}
	kept := q.segments[:0]
	for i, s := range q.segments {
		old := q.ackedLocked(s) && (acked > q.cfg.KeepBytes || q.now-s.lastAt >= q.cfg.KeepAcked.Milliseconds())
		if i >= n || !old && total <= q.cfg.MaxBytes {
			kept = append(kept, s)
			continue
		}
		if err := os.Remove(filepath.Join(q.cfg.Dir, segmentName(s.id))); err != nil && !errors.Is(err, os.ErrNotExist) {
			kept = append(kept, s)
			continue
		}
		total -= s.bytes
		if q.ackedLocked(s) {
			acked -= s.bytes
		}
		q.dropLocked(s)
	}
	clear(q.segments[len(kept):])
	q.segments = kept
}

func (q *Queue) ackedLocked(s *segment) bool {
	return s.count == 0 || s.last <= s.owner.acked
}

// unackedLocked returns how many batches of a segment are unacked, and about how many bytes.
func (q *Queue) unackedLocked(s *segment) (uint64, int64) {
	if q.ackedLocked(s) {
		return 0, 0
	}
	n := min(s.count, s.last-max(s.owner.acked, s.first-1))
	return n, int64(float64(s.countBytes) * float64(n) / float64(s.count))
}

// dropLocked counts what goes with a segment.
func (q *Queue) dropLocked(s *segment) {
	if s.count > 0 && s.boot == q.cfg.Boot {
		for q.ring.n > 0 && q.ring.at(0).seq <= s.last {
			q.ring.dropOldest()
		}
	}
	n, bytes := q.unackedLocked(s)
	q.stats.Dropped += n
	q.stats.DroppedBytes += uint64(bytes)
}

// Stats returns what the Queue holds.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Segments, s.Failing = len(q.segments), q.failing
	for _, seg := range q.segments {
		s.Bytes += seg.bytes
		n, bytes := q.unackedLocked(seg)
		s.Unacked += n
		s.UnackedBytes += bytes
	}
	for i := q.ring.search(max(q.onDisk, q.currentLocked().acked) + 1); i < q.ring.n; i++ {
		s.Unacked++ // in memory alone
	}
	return s
}

// Close writes what is in memory alone, if the disk takes it, forces everything to the disk and ends the Queue.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	var err error
	if q.failing != nil {
		err = q.catchUpLocked()
	}
	old := q.old
	if q.file != nil {
		old = append(old, q.file)
	}
	err = errors.Join(err, q.flush(old, nil), syncFolder(q.cfg.Dir))
	q.file, q.old = nil, nil
	if err != nil {
		return fmt.Errorf("cannot close the spool: %w", err)
	}
	return nil
}
