package whatif

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Budget is the error budget of one objective in one of its windows that the change touches, as it stands when the change is over.
type Budget struct {
	SLO     manifest.Ref `json:"slo"`
	Service manifest.Ref `json:"service"`
	// From and To bound the window of the objective.
	From   string `json:"from"`
	To     string `json:"to"`
	Budget string `json:"budget"`
	// Spent is what the change spends of it, Left what is left after it: below 0 where it is overspent. Without is what would be left
	// without the change.
	Spent   Spread `json:"spent"`
	Left    Spread `json:"left"`
	Without Spread `json:"without"`
	// Assumed says that there is no history of the service: nothing is taken as spent before now.
	Assumed bool `json:"assumed"`
}

// Spread is a span of time with both its ends: what is unknown read as good, and as bad.
type Spread struct {
	Low  string `json:"low"`
	High string `json:"high"`
}

// objective is one that the change can spend the budget of.
type objective struct {
	ref, service manifest.Ref
	spec         slo.Spec
	hours        slo.Hours // nil: around the clock
	history      []slo.Segment
	base, during []slo.State // by phase
}

// affected returns the objectives of the services whose state changes.
func (w *work) affected() ([]objective, error) {
	var out []objective
	for r, m := range manifest.Of[manifest.SLO](w.p.Set) {
		if !slices.Contains(w.changed, m.Service) {
			continue
		}
		o := objective{ref: r.Ref(), service: m.Service, history: w.p.States(m.Service)}
		var err error
		if o.spec, err = slo.Of(m); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Ref(), err)
		}
		if m.Hours != "" {
			if o.hours, err = w.p.Calendar(m.Hours); err != nil {
				return nil, fmt.Errorf("%s: %w", r.Ref(), err)
			}
		}
		for i := range w.phases {
			o.base = append(o.base, stateOf(w.phases[i].base, m.Service))
			o.during = append(o.during, stateOf(w.phases[i].during, m.Service))
		}
		out = append(out, o)
	}
	return out, nil
}

func stateOf(p *picture.Picture, service manifest.Ref) slo.State {
	return picture.Stand(p.Map).Of(service)
}

// course returns the states of a service from the moment of the picture until the end of a change that begins at start.
func (w *work) course(o *objective, start, end time.Time, with bool) []slo.Segment {
	var out []slo.Segment
	add := func(from, to time.Time, s slo.State) {
		if from.Before(to) {
			out = append(out, slo.Segment{From: from, To: to, State: s})
		}
	}
	for i := range w.phases {
		from, to := w.phases[i].from, earlier(w.until(i), end)
		add(from, earlier(to, start), o.base[i])
		if with {
			add(later(from, start), to, o.during[i])
		} else {
			add(later(from, start), to, o.base[i])
		}
	}
	return out
}

// standing is one window of an objective at the end of the change, or of the window where that is earlier.
type standing struct {
	with, without slo.Result
	assumed       bool
}

func (s *standing) spent() slo.Spread {
	a, b := s.with.InForce().Left, s.without.InForce().Left
	return slo.Spread{Low: max(b.High-a.High, 0), High: max(b.Low-a.Low, 0)}
}

func (s *standing) budget(o *objective) Budget {
	f, x := s.with.InForce(), s.spent()
	low, high := min(x.Low, x.High), max(x.Low, x.High)
	return Budget{
		SLO: o.ref, Service: o.service, From: stamp(s.with.From), To: stamp(s.with.To), Budget: slo.Seconds(f.Budget),
		Spent: Spread{slo.Seconds(low), slo.Seconds(high)}, Left: spread(f.Left), Without: spread(s.without.InForce().Left), Assumed: s.assumed,
	}
}

func spread(s slo.Spread) Spread { return Spread{slo.Seconds(s.Low), slo.Seconds(s.High)} }

// stand returns how an objective stands after a change that begins at a moment, for each of its windows that the change touches.
func (w *work) stand(o *objective, start time.Time) ([]standing, error) {
	end := start.Add(w.opt.For)
	moments := []time.Time{end}
	if o.spec.Calendar != "" {
		moments = nil
		for at := start; at.Before(end); {
			_, at = o.spec.Bounds(at)
			moments = append(moments, earlier(at, end))
		}
	}
	var out []standing
	for _, at := range moments {
		s := standing{assumed: len(o.history) == 0}
		created, _ := o.spec.Bounds(at.Add(-1))
		segments := o.history
		if s.assumed {
			if created.After(w.p.At) {
				created = w.p.At
			}
			segments = []slo.Segment{{From: created, To: w.p.At, State: slo.State{Health: health.Exactly(health.OK)}}}
		} else {
			created = segments[0].From
		}
		segments = segments[:len(segments):len(segments)]
		var err error
		if s.with, _, err = slo.EvaluateEnd(o.spec, o.hours, created, append(segments, w.course(o, start, end, true)...), at); err != nil {
			return nil, fmt.Errorf("%s: %w", o.ref, err)
		}
		if s.without, _, err = slo.EvaluateEnd(o.spec, o.hours, created, append(segments, w.course(o, start, end, false)...), at); err != nil {
			return nil, fmt.Errorf("%s: %w", o.ref, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// room returns the least that is left of a budget that the change spends some of, when it begins at a moment.
func (w *work) room(start time.Time) (time.Duration, error) {
	least := time.Duration(math.MaxInt64)
	for i := range w.objectives {
		stands, err := w.stand(&w.objectives[i], start)
		if err != nil {
			return 0, err
		}
		for _, s := range stands {
			if s.spent().High > 0 {
				least = min(least, s.with.InForce().Left.Low)
			}
		}
	}
	return least, nil
}

// kinks returns the moments at which what an objective counts changes: the edges of its hours, of its windows, and of its history.
func (o *objective) kinks(from, to time.Time) []time.Time {
	var out []time.Time
	if o.spec.Calendar != "" {
		for at := from; at.Before(to); {
			_, at = o.spec.Bounds(at)
			out = append(out, at)
		}
	}
	hours := func(from, to time.Time) {
		if o.hours == nil {
			return
		}
		for a, b := range o.hours.Spans(from, to) {
			out = append(out, a, b)
		}
	}
	hours(from, to)
	if o.spec.Rolling > 0 {
		// What leaves a rolling window at its other end matters as well.
		n := len(out)
		hours(from.Add(-o.spec.Rolling), to.Add(-o.spec.Rolling))
		for i := n; i < len(out); i++ {
			out[i] = out[i].Add(o.spec.Rolling)
		}
		for _, s := range o.history {
			out = append(out, s.From.Add(o.spec.Rolling), s.To.Add(o.spec.Rolling))
		}
	}
	return out
}
