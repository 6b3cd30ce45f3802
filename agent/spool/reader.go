package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Reader gives the batches of one boot in order, from memory where they are there. It belongs to one goroutine.
type Reader struct {
	q    *Queue
	boot BootID
	next uint64 // the lowest seq wanted
	read uint64 // no file has one that is wanted up to here

	file *os.File
	scan scanner
	seg  *segment
	buf  []byte
}

// Iterate begins to read at the last key frame at or before from, or at the oldest batch of the boot where there is none.
// A boot that is not known has no batches.
func (q *Queue) Iterate(boot BootID, from uint64) (*Reader, error) {
	r := &Reader{q: q, boot: boot}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	if boot == q.cfg.Boot {
		i := q.ring.search(from)
		if i < q.ring.n && q.ring.at(i).seq == from {
			i++
		}
		for i--; i >= 0; i-- {
			if e := q.ring.at(i); e.key {
				r.next = e.seq
				q.mu.Unlock()
				return r, nil
			}
		}
	}
	var ids []uint64
	for _, s := range q.segments {
		if s.count > 0 && s.boot == boot && s.first <= from {
			ids = append(ids, s.id)
		}
	}
	q.mu.Unlock()
	for i := len(ids) - 1; i >= 0; i-- {
		found := uint64(0)
		has := false
		err := readSegment(filepath.Join(q.cfg.Dir, segmentName(ids[i])), func(rec Record) error {
			switch {
			case rec.Boot != boot || rec.Seq > from:
			case rec.Key:
				found, has = rec.Seq, true
			}
			return nil
		})
		if err != nil && !isGone(err) {
			return nil, err
		}
		if has {
			r.next = found
			return r, nil
		}
	}
	return r, nil
}

// Next returns the next batch; io.EOF after the last that is there now, and it goes on when there are more. The frame is
// valid until the next call.
func (r *Reader) Next() (Record, error) {
	q := r.q
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return Record{}, ErrClosed
		}
		seg, e := r.findLocked()
		switch {
		case e != nil:
			r.buf = append(r.buf[:0], q.ring.frame(e)...)
			rec := Record{r.boot, e.seq, e.at, e.key, r.buf}
			q.mu.Unlock()
			r.next = rec.Seq + 1
			return rec, nil
		case seg == nil:
			q.mu.Unlock()
			return Record{}, io.EOF
		}
		limit, last := seg.bytes, seg.last
		q.mu.Unlock()

		rec, err := r.fromFile(seg, limit)
		switch {
		case err == io.EOF || isGone(err):
			r.read = last // what is left of it is bad, or it was dropped meanwhile
			continue
		case err != nil:
			return Record{}, fmt.Errorf("cannot read the spool: %w", err)
		}
		r.next = rec.Seq + 1
		return rec, nil
	}
}

// findLocked returns where the next batch is: in memory, if that has exactly the one wanted or no file has an earlier one;
// else in a file; else nowhere.
func (r *Reader) findLocked() (*segment, *entry) {
	q := r.q
	var e *entry
	if r.boot == q.cfg.Boot {
		if i := q.ring.search(r.next); i < q.ring.n {
			e = q.ring.at(i)
			if e.seq == r.next {
				return nil, e
			}
		}
	}
	for _, s := range q.segments {
		if s.count > 0 && s.boot == r.boot && s.last >= r.next && s.last > r.read {
			if e != nil && e.seq <= s.first {
				return nil, e
			}
			return s, nil
		}
	}
	return nil, e
}

// fromFile returns the first batch of a segment that is wanted.
func (r *Reader) fromFile(seg *segment, limit int64) (Record, error) {
	if r.seg != seg {
		f, err := os.Open(filepath.Join(r.q.cfg.Dir, segmentName(seg.id)))
		if err != nil {
			return Record{}, err
		}
		if r.file != nil {
			_ = r.file.Close()
		}
		r.file, r.seg, r.scan = f, seg, scanner{f: f}
	}
	for {
		rec, flags, err := r.scan.next(limit)
		if err != nil {
			return Record{}, err
		}
		if flags&flagAck == 0 && rec.Boot == r.boot && rec.Seq >= r.next {
			return rec, nil
		}
	}
}

// Close ends reading.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file, r.seg = nil, nil
	return err
}

func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
