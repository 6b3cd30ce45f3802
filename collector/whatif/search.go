package whatif

import (
	"cmp"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// cheapest looks for the cheapest feasible window.
//
// What is lost on top is an integral over a window of fixed length, of a rate that is constant between two changes of a calendar: it is
// linear in the start as long as neither end of the window passes such a change. So its least is at a start at which one end
// meets a change, or at an edge of what is feasible. The latter are the edges of what is planned, and starts at which just nothing is left of a budget,
// which are found between two such starts by halving.
func (w *work) cheapest(asked *Window) (*Cheapest, error) {
	unit := w.unit()
	s := &search{
		first: w.p.At, last: w.p.At.Add(w.opt.Horizon - w.opt.For),
		cost: func(start time.Time) manifest.Decimal { return w.loss(start, unit) },
		free: func(start time.Time) bool {
			end := start.Add(w.opt.For)
			return !slices.ContainsFunc(w.busy, func(b busy) bool { return b.from.Before(end) && b.to.After(start) })
		},
		room: w.room,
	}
	end := w.p.At.Add(w.opt.Horizon)
	exact := true
	for _, c := range w.calendars() {
		for seg := range c.Segments(s.first, end) {
			s.meet(seg.Start, w.opt.For)
		}
	}
	for i := range w.objectives {
		exact = exact && w.objectives[i].spec.Method == slo.Occurrences
		for _, at := range w.objectives[i].kinks(s.first, end) {
			s.meet(at, w.opt.For)
		}
	}
	for i := range w.phases {
		s.meet(w.phases[i].from, w.opt.For)
	}
	for _, b := range w.busy {
		s.meet(b.from, w.opt.For)
		s.meet(b.to, w.opt.For)
	}
	start, ok, err := s.best()
	if err != nil || !ok {
		return nil, err
	}
	out := &Cheapest{From: stamp(start), To: stamp(start.Add(w.opt.For)), Unit: unit, Exact: exact}
	if out.Window, _, _, err = w.window(start); err != nil {
		return nil, err
	}
	out.Saves = asked.Lost.Minus(out.Lost)
	return out, nil
}

// search is the choice of a start.
type search struct {
	first, last time.Time
	starts      []time.Time // at which something changes
	cost        func(start time.Time) manifest.Decimal
	free        func(start time.Time) bool
	// room is what is left of the budgets, below 0 where one is overspent. Between two starts next to each other it is concave.
	room func(start time.Time) (time.Duration, error)
}

// meet adds the starts at which an end of the window meets a moment.
func (s *search) meet(at time.Time, length time.Duration) {
	for _, x := range []time.Time{at, at.Add(-length)} {
		if x.After(s.first) && x.Before(s.last) {
			s.starts = append(s.starts, x)
		}
	}
}

// trial is a start, or the stretch between two, with the least that it can cost.
type trial struct {
	from, to time.Time
	least    manifest.Decimal
}

func (s *search) best() (start time.Time, ok bool, err error) {
	s.starts = append(s.starts, s.first, s.last)
	slices.SortFunc(s.starts, time.Time.Compare)
	s.starts = slices.CompactFunc(s.starts, time.Time.Equal)
	trials := make([]trial, 0, 2*len(s.starts))
	for i, at := range s.starts {
		trials = append(trials, trial{at, at, s.cost(at)})
		if i > 0 {
			before := trials[max(2*i-3, 0)] // of the start before; between two starts stands the stretch
			trials = append(trials, trial{before.from, at, min(before.least, trials[len(trials)-1].least)})
		}
	}
	slices.SortStableFunc(trials, func(a, b trial) int { return cmp.Or(cmp.Compare(a.least, b.least), a.from.Compare(b.from)) })
	var cost manifest.Decimal
	for _, t := range trials {
		if ok && t.least > cost {
			break
		}
		found, err := s.feasible(t)
		if err != nil {
			return time.Time{}, false, err
		}
		for _, at := range found {
			if c := s.cost(at); !ok || c < cost || c == cost && at.Before(start) {
				start, cost, ok = at, c, true
			}
		}
	}
	return start, ok, nil
}

// feasible returns the start of a trial where it is feasible, or both ends of what is feasible of a stretch.
func (s *search) feasible(t trial) ([]time.Time, error) {
	if t.from.Equal(t.to) {
		if !s.free(t.from) {
			return nil, nil
		}
		room, err := s.room(t.from)
		if err != nil || room < 0 {
			return nil, err
		}
		return []time.Time{t.from}, nil
	}
	if !s.free(t.from.Add(t.to.Sub(t.from) / 2)) {
		return nil, nil
	}
	left, err := s.room(t.from)
	if err != nil {
		return nil, err
	}
	right, err := s.room(t.to)
	if err != nil || left >= 0 && right >= 0 {
		return nil, err // then its ends are trials of their own
	}
	inside := t.from
	switch {
	case right >= 0:
		inside = t.to
	case left < 0:
		var room time.Duration
		if inside, room, err = s.top(t); err != nil || room < 0 {
			return nil, err
		}
	}
	var out []time.Time
	for _, outside := range []time.Time{t.from, t.to} {
		at, err := s.edge(inside, outside)
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

// top returns the start within a stretch at which most is left, to the second.
func (s *search) top(t trial) (time.Time, time.Duration, error) {
	lo, hi := t.from, t.to
	for hi.Sub(lo) > 2*time.Second {
		third := (hi.Sub(lo) / 3).Truncate(time.Second)
		third = max(third, time.Second)
		a, err := s.room(lo.Add(third))
		if err != nil {
			return lo, 0, err
		}
		b, err := s.room(hi.Add(-third))
		if err != nil {
			return lo, 0, err
		}
		switch {
		case a >= 0:
			return lo.Add(third), a, nil
		case b >= 0:
			return hi.Add(-third), b, nil
		case a < b:
			lo = lo.Add(third)
		default:
			hi = hi.Add(-third)
		}
	}
	mid := lo.Add(hi.Sub(lo) / 2)
	room, err := s.room(mid)
	return mid, room, err
}

// edge returns the feasible start that is nearest to outside, to the nanosecond; inside is feasible.
func (s *search) edge(inside, outside time.Time) (time.Time, error) {
	if room, err := s.room(outside); err != nil || room >= 0 {
		return outside, err
	}
	for outside.Sub(inside).Abs() > time.Nanosecond {
		mid := inside.Add(outside.Sub(inside) / 2)
		room, err := s.room(mid)
		if err != nil {
			return mid, err
		}
		if room >= 0 {
			inside = mid
		} else {
			outside = mid
		}
	}
	return inside, nil
}
