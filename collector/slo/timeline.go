package slo

import (
	"slices"
	"time"
)

// sums count nanoseconds by class, and all of them together in the last place.
type sums [classes + 1]int64

const total = classes

func (s *sums) add(c class, d int64) {
	s[c] += d
	s[total] += d
}

func (s sums) minus(o *sums) sums {
	for i := range s {
		s[i] -= o[i]
	}
	return s
}

// piece is a stretch of scheduled time of one class, [from, to) in Unix nanoseconds.
type piece struct {
	from, to int64
	class    class
	before   sums // of all that came before it
}

// timeline keeps scheduled time as pieces with sums of all before them, so that the sums of any stretch are a difference of
// two. It grows at its end and is cut off at its beginning.
type timeline struct {
	hours   Hours // nil: around the clock
	pieces  []piece
	dropped int   // pieces cut off; a cursor counts them
	end     int64 // nothing is known beyond
	sum     sums  // of everything before end

	spans   []span // open stretches ahead, of hours
	fetched int64  // where the knowledge of them ends
}

type span struct{ from, to int64 }

// ahead is how far open hours are asked for at a time.
const ahead = int64(8 * 24 * time.Hour)

// grow adds the scheduled time of [end, to) as being of a class, and tells each piece of it to also.
func (tl *timeline) grow(to int64, c class, also func(from, to int64)) {
	if to <= tl.end {
		return
	}
	if tl.hours == nil {
		tl.put(tl.end, to, c, also)
		tl.end = to
		return
	}
	if tl.fetched < to {
		until := max(to, tl.fetched+ahead)
		for a, b := range tl.hours.Spans(time.Unix(0, tl.fetched), time.Unix(0, until)) {
			if a, b := a.UnixNano(), b.UnixNano(); a < b {
				tl.spans = append(tl.spans, span{a, b})
			}
		}
		tl.fetched = until
	}
	used := 0
	for _, s := range tl.spans {
		if s.from >= to {
			break
		}
		if from, until := max(s.from, tl.end), min(s.to, to); from < until {
			tl.put(from, until, c, also)
		}
		if s.to <= to {
			used++
		}
	}
	tl.spans = slices.Delete(tl.spans, 0, used)
	tl.end = to
}

func (tl *timeline) put(from, to int64, c class, also func(from, to int64)) {
	if n := len(tl.pieces); n > 0 && tl.pieces[n-1].to == from && tl.pieces[n-1].class == c {
		tl.pieces[n-1].to = to
	} else {
		tl.pieces = append(tl.pieces, piece{from, to, c, tl.sum})
	}
	tl.sum.add(c, to-from)
	if also != nil {
		also(from, to)
	}
}

// cursor remembers a place in a timeline. It only moves forward, as the edges of windows do, so that all its moves together
// cost no more than the pieces that there are.
type cursor int

// until returns the sums of all scheduled time before t.
func (tl *timeline) until(c *cursor, t int64) sums {
	i := max(int(*c)-tl.dropped, 0)
	for i < len(tl.pieces) && tl.pieces[i].to <= t {
		i++
	}
	*c = cursor(i + tl.dropped)
	if i == len(tl.pieces) {
		return tl.sum
	}
	p := &tl.pieces[i]
	s := p.before
	if t > p.from {
		s.add(p.class, t-p.from)
	}
	return s
}

// back returns the moment before which so much scheduled time has passed, and the sums there; it is not before the first piece.
func (tl *timeline) back(c *cursor, scheduled int64) (int64, sums) {
	i := max(int(*c)-tl.dropped, 0)
	for i < len(tl.pieces) && tl.pieces[i].before[total]+tl.pieces[i].to-tl.pieces[i].from <= scheduled {
		i++
	}
	*c = cursor(i + tl.dropped)
	if i == len(tl.pieces) {
		return tl.end, tl.sum
	}
	p := &tl.pieces[i]
	into := max(scheduled-p.before[total], 0)
	s := p.before
	s.add(p.class, into)
	return p.from + into, s
}

// cut lets go of the pieces before the oldest cursor, when they are many.
func (tl *timeline) cut(oldest cursor) {
	if n := int(oldest) - tl.dropped; n > 64 && n > len(tl.pieces)/2 {
		tl.pieces = slices.Delete(tl.pieces, 0, n)
		tl.dropped += n
	}
}
