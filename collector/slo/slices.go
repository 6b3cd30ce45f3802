package slo

import (
	"slices"
	"time"
)

// score is what slices are worth under one convention: how many count, and what they reached in billionths, at least and
// at most.
type score struct{ n, low, high int64 }

// scores are those under both conventions: maintenance as time up, and left out.
type scores [2]score

func (s scores) minus(o scores) scores {
	for i := range s {
		s[i].n -= o[i].n
		s[i].low -= o[i].low
		s[i].high -= o[i].high
	}
	return s
}

func (s *scores) add(each scores, n int64) {
	for i := range s {
		s[i].n += each[i].n * n
		s[i].low += each[i].low * n
		s[i].high += each[i].high * n
	}
}

// streak is a number of slices that follow each other and are worth the same.
type streak struct {
	first, n int64 // slices are numbered from the Unix epoch
	each     scores
	before   scores // of all that came before it
}

// slicer cuts a timeline into slices as it grows. A slice counts when it is over.
type slicer struct {
	length  int64
	score   func(*sums) scores
	streaks []streak
	dropped int
	sum     scores

	number int64 // of the slice under way
	now    sums  // its time so far
}

func newSlicer(s *Spec) *slicer {
	return &slicer{length: int64(s.Slice), score: s.score}
}

// score values one slice.
func (s *Spec) score(x *sums) scores {
	var out scores
	for i := range out {
		m := counted(x, i == 1)
		if m.valid == 0 {
			continue
		}
		out[i].n = 1
		for _, end := range []struct {
			to  *int64
			bad int64
		}{{&out[i].low, m.most}, {&out[i].high, m.least}} {
			up := m.valid - end.bad
			switch {
			case s.Method == RatioTimeslices:
				*end.to = mulDiv(up, billion, m.valid)
			case atLeast(up, million, m.valid, int64(s.SliceTarget)):
				*end.to = billion
			}
		}
	}
	return out
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// add takes a stretch of one class; stretches come in order of time.
func (sl *slicer) add(c class, from, to int64) {
	sl.close(floorDiv(from, sl.length))
	if end := (sl.number + 1) * sl.length; sl.now != (sums{}) || from != sl.number*sl.length || to < end {
		part := min(to, end)
		sl.now.add(c, part-from)
		from = part
		if from < end {
			return
		}
		sl.close(sl.number + 1)
	}
	if n := (to - from) / sl.length; n > 0 {
		whole := sums{}
		whole.add(c, sl.length)
		sl.put(sl.number, n, sl.score(&whole))
		sl.number += n
		from += n * sl.length
	}
	if from < to {
		sl.now.add(c, to-from)
	}
}

// close ends the slices before that number. Those without any scheduled time leave no trace.
func (sl *slicer) close(number int64) {
	if number <= sl.number {
		return
	}
	if sl.now != (sums{}) {
		sl.put(sl.number, 1, sl.score(&sl.now))
		sl.now = sums{}
	}
	sl.number = number
}

func (sl *slicer) put(first, n int64, each scores) {
	if each == (scores{}) {
		return
	}
	if k := len(sl.streaks); k > 0 && sl.streaks[k-1].each == each && sl.streaks[k-1].first+sl.streaks[k-1].n == first {
		sl.streaks[k-1].n += n
	} else {
		sl.streaks = append(sl.streaks, streak{first, n, each, sl.sum})
	}
	sl.sum.add(each, n)
}

// until returns the scores of all slices with a smaller number.
func (sl *slicer) until(c *cursor, number int64) scores {
	i := max(int(*c)-sl.dropped, 0)
	for i < len(sl.streaks) && sl.streaks[i].first+sl.streaks[i].n <= number {
		i++
	}
	*c = cursor(i + sl.dropped)
	if i == len(sl.streaks) {
		return sl.sum
	}
	s := sl.streaks[i].before
	if n := number - sl.streaks[i].first; n > 0 {
		s.add(sl.streaks[i].each, n)
	}
	return s
}

func (sl *slicer) cut(oldest cursor) {
	if n := int(oldest) - sl.dropped; n > 64 && n > len(sl.streaks)/2 {
		sl.streaks = slices.Delete(sl.streaks, 0, n)
		sl.dropped += n
	}
}

// within returns the number of the first slice that ends after from, and of the first that is not over at to: a slice belongs
// to the window in which it ends.
func (sl *slicer) within(from, to int64) (int64, int64) {
	return floorDiv(from, sl.length), floorDiv(to, sl.length)
}

// measure is an amount of time that counts, and how much of it was bad, at least and at most.
type measure struct{ valid, least, most int64 }

// counted measures every moment.
func counted(s *sums, leftOut bool) measure {
	m := measure{valid: s[total] - s[before], least: s[badOwn] + s[badUpstream] + s[badVendor] + s[badUnknown]}
	if leftOut {
		m.valid -= s[plannedGood] + s[plannedBad]
	}
	m.most = m.least + s[unsure]
	return m
}

// measure measures slices: a slice is worth its length.
func (s score) measure(length time.Duration) measure {
	return measure{
		valid: s.n * int64(length),
		least: mulDiv(s.n*billion-s.high, int64(length), billion),
		most:  mulDiv(s.n*billion-s.low, int64(length), billion),
	}
}
