package slo

import (
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// Evaluator keeps one objective up to date. A state is told once, when it begins; asking again at a later time costs a
// few steps, however long the window and its history are. What no window reaches any more is let go of when it is asked, so
// it should be, now and then. It is used by one goroutine at a time.
type Evaluator struct {
	spec    Spec
	line    timeline
	slicer  *slicer // nil where every moment counts
	created int64
	state   class

	// The calendar window of the last answer.
	from, to int64
	whole    int64 // its scheduled time

	start      cursor
	startSlice cursor
	edges      [len(pairs)][2]cursor // of the long and the short windows
	edgeSlices [len(pairs)][2]cursor
}

// New returns an evaluator of an objective over a service that exists since created. hours may be nil: around the clock.
// Until a state is set, nothing is known of the service.
func New(spec Spec, hours Hours, created time.Time) (*Evaluator, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	if y := created.Year(); y < 1970 || y > 2200 {
		return nil, fmt.Errorf("the service exists since %d: expected a year from 1970 to 2200", y)
	}
	e := &Evaluator{spec: spec, created: created.UnixNano(), state: unsure}
	// The line begins a whole window earlier, so that time before the service existed is seen, counted and left out.
	origin := created.Add(-spec.Rolling)
	if spec.Calendar != "" {
		origin, _ = spec.bounds(created)
	}
	e.line = timeline{hours: hours, end: origin.UnixNano(), fetched: origin.UnixNano()}
	if spec.Method != Occurrences {
		e.slicer = newSlicer(&e.spec)
	}
	e.grow(e.created, before)
	return e, nil
}

func (e *Evaluator) grow(to int64, c class) {
	var also func(from, to int64)
	if e.slicer != nil {
		also = func(from, to int64) { e.slicer.add(c, from, to) }
	}
	e.line.grow(to, c, also)
}

// Set tells that the service is in a state from a moment on. It fails when more than that is known already: states are
// told in order of time, and not from before a moment that was asked about.
func (e *Evaluator) Set(at time.Time, x State) error {
	t := at.UnixNano()
	if t < e.line.end {
		return fmt.Errorf("a state from %s comes too late: it is known until %s",
			at.UTC().Format(time.RFC3339Nano), time.Unix(0, e.line.end).UTC().Format(time.RFC3339Nano))
	}
	if x.Health.Low > x.Health.High || x.Health.High > health.Critical {
		return fmt.Errorf("a health from %s to %s is no range", x.Health.Low, x.Health.High)
	}
	e.grow(t, e.state)
	e.state = e.spec.class(x)
	return nil
}

// At returns how the objective stands at t, the state of last holding until then. It fails when t lies before what is known.
func (e *Evaluator) At(t time.Time) (Result, error) { return e.at(t, t) }

// End is At, but at the first moment of a calendar window it tells how the one stood that has just ended.
func (e *Evaluator) End(t time.Time) (Result, error) { return e.at(t, t.Add(-1)) }

// at answers for t about the calendar window that holds another moment.
func (e *Evaluator) at(t, within time.Time) (Result, error) {
	now := t.UnixNano()
	if now < e.line.end {
		return Result{}, fmt.Errorf("cannot go back to %s: it is known until %s",
			t.UTC().Format(time.RFC3339Nano), time.Unix(0, e.line.end).UTC().Format(time.RFC3339Nano))
	}
	e.grow(now, e.state)
	if e.slicer != nil {
		e.slicer.close(floorDiv(now, e.slicer.length))
	}
	r := Result{At: t, To: t, Force: "up"}
	if e.spec.LeftOut {
		r.Force = "leftOut"
	}
	from := now - int64(e.spec.Rolling)
	if e.spec.Calendar != "" {
		e.enter(within)
		from = e.from
		r.To = time.Unix(0, e.to).In(t.Location())
	}
	r.From = time.Unix(0, from).In(t.Location())
	all := e.line.sum.minus(ptr(e.line.until(&e.start, from)))
	r.Time = timeOf(&all)
	r.Period = time.Duration(all[total])
	var toCome int64
	if e.spec.Calendar != "" {
		toCome = max(e.whole-all[total], 0)
		r.ToCome, r.Period = time.Duration(toCome), time.Duration(e.whole)
	}
	if e.slicer != nil {
		toCome -= toCome % e.slicer.length
	}
	both := e.measure(&all, from, now, &e.startSlice)
	r.Up, r.LeftOut = e.spec.figures(both[0], toCome), e.spec.figures(both[1], toCome)

	left := r.InForce().Left
	oldest, oldestSlice := e.start, e.startSlice
	for i, p := range pairs {
		if !e.spec.fits(p, r.Period) {
			continue
		}
		if r.Burns == nil {
			r.Burns = make([]Burn, 0, len(pairs))
		}
		var m [2]measure
		var young int64
		for k, length := range [2]time.Duration{p.Long, p.Short} {
			at, s := e.line.back(&e.edges[i][k], e.line.sum[total]-int64(length))
			part := e.line.sum.minus(&s)
			pick := 0
			if e.spec.LeftOut {
				pick = 1
			}
			m[k] = e.measure(&part, at, now, &e.edgeSlices[i][k])[pick]
			if k == 0 {
				young = part[before]
			}
			oldest, oldestSlice = min(oldest, e.edges[i][k]), min(oldestSlice, e.edgeSlices[i][k])
		}
		r.Burns = append(r.Burns, e.spec.burn(p, r.Period, m[0], m[1], young, left))
	}
	e.line.cut(oldest)
	if e.slicer != nil {
		e.slicer.cut(oldestSlice)
	}
	return r, nil
}

func ptr(s sums) *sums { return &s }

// measure measures the stretch [from, to), whose sums are given, under both conventions.
func (e *Evaluator) measure(s *sums, from, to int64, c *cursor) (out [2]measure) {
	if e.slicer == nil {
		return [2]measure{counted(s, false), counted(s, true)}
	}
	first, end := e.slicer.within(from, to) // to is now: the slices before end are all that are over
	sc := e.slicer.sum                      // all that are over
	if first < end {
		sc = sc.minus(e.slicer.until(c, first))
	} else {
		sc = scores{}
	}
	for i := range out {
		out[i] = sc[i].measure(time.Duration(e.slicer.length))
	}
	return out
}

// enter makes the calendar window of t the one at hand.
func (e *Evaluator) enter(t time.Time) {
	if now := t.UnixNano(); e.to > now && e.from <= now {
		return
	}
	from, to := e.spec.bounds(t)
	e.from, e.to = from.UnixNano(), to.UnixNano()
	e.whole = e.to - e.from
	if e.line.hours != nil {
		e.whole = 0
		for a, b := range e.line.hours.Spans(from, to) {
			e.whole += b.UnixNano() - a.UnixNano()
		}
	}
}

// Stretch is bad or unsure time of one kind within the window.
type Stretch struct {
	From, To time.Time
	// Part is own, upstream, vendor, planned or unknown; or unsure, where it is not known whether the time was bad.
	Part string
}

var partNames = map[class]string{
	badOwn: "own", badUpstream: "upstream", badVendor: "vendor", badUnknown: "unknown", plannedBad: "planned", unsure: "unsure",
}

// Stretches returns the bad and unsure stretches of the window of the last answer, in order. Together they are as long as Bad
// and Unsure of its Time.
func (e *Evaluator) Stretches(r *Result) []Stretch {
	var out []Stretch
	from, to := r.From.UnixNano(), r.At.UnixNano()
	for i := range e.line.pieces {
		p := &e.line.pieces[i]
		part, bad := partNames[p.class]
		a, b := max(p.from, from), min(p.to, to)
		if !bad || a >= b {
			continue
		}
		out = append(out, Stretch{time.Unix(0, a).In(r.At.Location()), time.Unix(0, b).In(r.At.Location()), part})
	}
	return out
}

// Evaluate returns how an objective stands at a moment, given the whole history of a service. Segments are in order and do
// not overlap; what lies between them, and after the last, is not known.
func Evaluate(spec Spec, hours Hours, created time.Time, history []Segment, at time.Time) (Result, []Stretch, error) {
	return evaluate(spec, hours, created, history, at, (*Evaluator).At)
}

// EvaluateEnd is Evaluate, but at the first moment of a calendar window it is about the one that has just ended.
func EvaluateEnd(spec Spec, hours Hours, created time.Time, history []Segment, at time.Time) (Result, []Stretch, error) {
	return evaluate(spec, hours, created, history, at, (*Evaluator).End)
}

func evaluate(
	spec Spec, hours Hours, created time.Time, history []Segment, at time.Time, ask func(*Evaluator, time.Time) (Result, error),
) (Result, []Stretch, error) {
	e, err := New(spec, hours, created)
	if err != nil {
		return Result{}, nil, err
	}
	for _, s := range history {
		from, to := s.From, s.To
		if from.Before(created) {
			from = created
		}
		if to.After(at) {
			to = at
		}
		if !from.Before(to) {
			continue
		}
		if err := e.Set(from, s.State); err != nil {
			return Result{}, nil, err
		}
		if err := e.Set(to, State{Health: health.Unknown}); err != nil {
			return Result{}, nil, err
		}
	}
	r, err := ask(e, at)
	if err != nil {
		return Result{}, nil, err
	}
	return r, e.Stretches(&r), nil
}
