package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// recover reads a segment of an earlier time. What cannot be read or repaired is left as it is: the queue lives on in
// segments of its own.
func (q *Queue) recover(id uint64, acks map[BootID]uint64) {
	path := filepath.Join(q.cfg.Dir, segmentName(id))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		q.stats.BadRecords++
		return
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		q.stats.BadRecords++
		return
	}
	seg := &segment{id: id, bytes: size}
	s := scanner{f: f}
	for {
		r, flags, err := s.next(size)
		if err != nil {
			if err != io.EOF {
				q.stats.BadRecords++
			} else if s.end < size && f.Truncate(s.end) == nil {
				seg.bytes = s.end
			}
			break
		}
		if flags&flagAck != 0 {
			acks[r.Boot] = max(acks[r.Boot], r.Seq)
			continue
		}
		if seg.count == 0 {
			seg.boot, seg.first, seg.owner = r.Boot, r.Seq, q.boot(r.Boot)
		} else if r.Boot != seg.boot {
			continue // not as this package writes it
		}
		seg.note(&r)
		seg.owner.last = max(seg.owner.last, r.Seq)
		q.now = max(q.now, r.At)
	}
	q.stats.BadRecords += uint64(s.bad)
	q.segments = append(q.segments, seg)
	_ = f.Sync() // it may have been in the kernel's hands alone when the agent was killed
}

// catchUpLocked writes what is in memory alone.
func (q *Queue) catchUpLocked() error {
	for i := q.ring.search(q.onDisk + 1); i < q.ring.n; i++ {
		e := q.ring.at(i)
		r := Record{q.cfg.Boot, e.seq, e.at, e.key, q.ring.frame(e)}
		if err := q.writeLocked(&r); err != nil {
			return err
		}
	}
	q.failing = nil
	return nil
}

// writeLocked writes a batch to its segment, a new one if it is time for that.
func (q *Queue) writeLocked(r *Record) error {
	full := false
	if q.file != nil {
		// A segment begins with a key frame, so a full one grows on until there is one, though not without end.
		n := q.segments[len(q.segments)-1].bytes
		full = n >= q.cfg.SegmentBytes && r.Key || n >= 2*q.cfg.SegmentBytes
	}
	if q.file == nil || full {
		if err := q.rotateLocked(); err != nil {
			return err
		}
	}
	if err := q.writeBytesLocked(r, 0); err != nil {
		return err
	}
	seg := q.segments[len(q.segments)-1]
	if seg.count == 0 {
		seg.boot, seg.first, seg.owner = r.Boot, r.Seq, q.currentLocked()
	}
	seg.note(r)
	q.onDisk = r.Seq
	q.wantKey = seg.bytes >= q.cfg.SegmentBytes || !seg.key
	return nil
}

func (q *Queue) writeBytesLocked(r *Record, flags byte) error {
	if r.Key {
		flags |= flagKey
	}
	q.scratch = appendRecord(q.scratch[:0], r, flags)
	seg := q.segments[len(q.segments)-1]
	n, err := q.file.Write(q.scratch)
	if err == nil {
		seg.bytes += int64(n)
		return nil
	}
	if n > 0 && q.file.Truncate(seg.bytes) != nil {
		seg.bytes += int64(n) // half a record stays, which readers step over
	}
	return err
}

// rotateLocked starts a new segment. The one before is synced and closed by SyncIfDue.
func (q *Queue) rotateLocked() error {
	if len(q.old) >= maxOld {
		if err := q.flush(q.old, nil); err != nil {
			return err
		}
		q.old = q.old[:0]
	}
	f, err := q.cfg.Create(filepath.Join(q.cfg.Dir, segmentName(q.nextID)))
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			q.nextID++
		}
		return err
	}
	if q.file != nil {
		q.old = append(q.old, q.file)
	}
	q.file, q.newFiles = f, true
	q.segments = append(q.segments, &segment{id: q.nextID, boot: q.cfg.Boot})
	q.nextID++
	return nil
}

// failLocked begins or continues an outage. A new segment is tried when it ends, for the old file may be what fails.
func (q *Queue) failLocked(err error) {
	q.stats.WriteErrors++
	first := q.failing == nil
	q.failing, q.retryAt, q.wantKey = err, q.now+retryEvery, true
	if q.file != nil {
		q.old = append(q.old, q.file)
		q.file = nil
	}
	if len(q.old) > maxOld {
		_ = q.old[0].Close()
		q.old = append(q.old[:0], q.old[1:]...)
	}
	if first && q.cfg.OnError != nil {
		q.cfg.OnError(err)
	}
}

// SyncDue reports whether SyncIfDue has a reason to force batches to the disk. It is cheap enough for every tick, so that the
// one who may wait for the disk need not wake up to find out.
func (q *Queue) SyncDue(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.closed && q.dueLocked(now.UnixMilli())
}

// SyncIfDue forces batches to the disk itself when the oldest unacked one that may not be there is SyncAfter old, and
// removes what need not be kept. The owner calls it when SyncDue says so, and now and then. It may take as long as the disk does, while
// Append and all others go on. An error was told to OnError, and everything is tried again.
func (q *Queue) SyncIfDue(now time.Time) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.now = max(q.now, now.UnixMilli())
	q.trimLocked()
	due := q.dueLocked(now.UnixMilli())
	q.mu.Unlock()
	if !due {
		return nil
	}
	return q.Sync()
}

func (q *Queue) dueLocked(now int64) bool {
	safe := max(q.synced, q.currentLocked().acked)
	if q.onDisk <= safe {
		return len(q.old) >= maxOld
	}
	i := q.ring.search(safe + 1)
	if i == q.ring.n || q.ring.at(i).seq > safe+1 && i == 0 {
		return true // so old that it left memory
	}
	age := now - q.ring.at(i).at
	return age >= q.cfg.SyncAfter.Milliseconds() || age < 0
}

// Sync forces everything to the disk itself.
func (q *Queue) Sync() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	old, file, upTo, folder := q.old, q.file, q.onDisk, q.newFiles
	q.old, q.newFiles = nil, false
	q.mu.Unlock()

	err := q.flush(old, file)
	if folder {
		err = errors.Join(err, syncFolder(q.cfg.Dir))
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.newFiles = q.newFiles || folder
		// The kernel may have forgotten what it could not write, so what memory still has is written once more.
		if q.ring.n > 0 {
			q.onDisk = max(q.synced, q.ring.at(0).seq-1)
		}
		if !q.closed {
			q.failLocked(err)
		}
		return fmt.Errorf("cannot sync the spool: %w", err)
	}
	q.synced = max(q.synced, upTo)
	return nil
}

// flush syncs and closes the old files, and syncs the current one.
func (q *Queue) flush(old []File, current File) error {
	var errs []error
	for _, f := range old {
		errs = append(errs, f.Sync(), f.Close())
	}
	if current != nil {
		errs = append(errs, current.Sync())
	}
	return errors.Join(errs...)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
