package coverage

import (
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/contact"
)

// span is a stretch of time: from up to, and without, to.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return s.to.Sub(s.from) }

// spans are in order, apart from each other, and none is empty.
type spans []span

func (l spans) length() (sum time.Duration) {
	for _, s := range l {
		sum += s.length()
	}
	return sum
}

// open returns when hours are open in [from, to); nil hours are around the clock.
func open(hours contact.Hours, from, to time.Time) spans {
	if hours == nil {
		return spans{{from, to}}
	}
	var out spans
	for a, b := range hours.Spans(from, to) {
		out = append(out, span{a, b})
	}
	return out
}

// or returns what is in either.
func (l spans) or(o spans) spans {
	all := slices.Concat(l, o)
	slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	var out spans
	for _, s := range all {
		if n := len(out); n > 0 && !s.from.After(out[n-1].to) {
			if s.to.After(out[n-1].to) {
				out[n-1].to = s.to
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// and returns what is in both.
func (l spans) and(o spans) spans {
	var out spans
	for i, j := 0, 0; i < len(l) && j < len(o); {
		from, to := l[i].from, l[i].to
		if o[j].from.After(from) {
			from = o[j].from
		}
		if o[j].to.Before(to) {
			to = o[j].to
		}
		if from.Before(to) {
			out = append(out, span{from, to})
		}
		if l[i].to.Before(o[j].to) {
			i++
		} else {
			j++
		}
	}
	return out
}

// without returns what is in l and not in o.
func (l spans) without(o spans) spans {
	var out spans
	j := 0
	for _, s := range l {
		for ; j < len(o) && !o[j].to.After(s.from); j++ {
		}
		for k := j; k < len(o) && o[k].from.Before(s.to); k++ {
			if s.from.Before(o[k].from) {
				out = append(out, span{s.from, o[k].from})
			}
			s.from = o[k].to
		}
		if s.from.Before(s.to) {
			out = append(out, s)
		}
	}
	return out
}
