package spool

import "sort"

// ring keeps the newest batches of the current boot in memory, so that sending again needs no disk. When it is full the
// oldest is forgotten.
type ring struct {
	size    int // bytes that buf may come to
	buf     []byte
	head    int // where the next frame goes
	entries []entry
	first   int // index of the oldest entry
	n       int
}

type entry struct {
	seq uint64
	at  int64
	off int
	len int
	key bool
}

func (e *entry) end() int { return e.off + e.len }

func (r *ring) at(i int) *entry { return &r.entries[(r.first+i)&(len(r.entries)-1)] }

func (r *ring) frame(e *entry) []byte { return r.buf[e.off:e.end()] }

// dropOldest forgets the oldest batch.
func (r *ring) dropOldest() {
	r.first = (r.first + 1) & (len(r.entries) - 1)
	r.n--
	if r.n == 0 {
		r.head = 0
	}
}

// push keeps a copy of a batch. evict is called before one is forgotten for it. A frame larger than the whole ring is not
// kept, and neither is what came before it.
func (r *ring) push(seq uint64, at int64, key bool, frame []byte, evict func(*entry)) bool {
	if len(frame) > r.size {
		for r.n > 0 {
			evict(r.at(0))
			r.dropOldest()
		}
		return false
	}
	if r.head+len(frame) > r.size {
		// What lies between head and the end is the oldest; it goes before the front is used again.
		for r.n > 0 && r.at(0).off >= r.head {
			evict(r.at(0))
			r.dropOldest()
		}
		r.head = 0
	}
	for r.n > 0 && r.at(0).off >= r.head && r.at(0).off < r.head+len(frame) {
		evict(r.at(0))
		r.dropOldest()
	}
	for len(r.buf) < r.head+len(frame) {
		r.buf = append(r.buf, make([]byte, min(r.size-len(r.buf), max(64<<10, r.head+len(frame)-len(r.buf))))...)
	}
	if r.n == len(r.entries) {
		grown := make([]entry, max(64, 2*len(r.entries)))
		for i := range r.n {
			grown[i] = *r.at(i)
		}
		r.entries, r.first = grown, 0
	}
	r.n++
	*r.at(r.n - 1) = entry{seq, at, r.head, len(frame), key}
	copy(r.buf[r.head:], frame)
	r.head += len(frame)
	return true
}

// search returns the index of the first batch whose seq is at least seq; n when there is none.
func (r *ring) search(seq uint64) int {
	return sort.Search(r.n, func(i int) bool { return r.at(i).seq >= seq })
}
