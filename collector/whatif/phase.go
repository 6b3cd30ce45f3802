package whatif

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// phase is a stretch in which no maintenance begins or ends: the map without the change, and with it.
type phase struct {
	from          time.Time
	base, during  *picture.Picture
	without, with []cost.Segment // of the services that are not ok in some phase
}

// busy is a time in which something is planned that the change must not meet.
type busy struct {
	ref      manifest.Ref
	from, to time.Time
	text     string
}

// limit is how far what is to come is looked at.
func (w *work) limit() time.Time {
	return later(w.opt.From.Add(w.opt.For), w.p.At.Add(w.opt.Horizon))
}

// until returns when a phase ends.
func (w *work) until(i int) time.Time {
	if i+1 < len(w.phases) {
		return w.phases[i+1].from
	}
	return w.limit()
}

// cut works out the phases, with levels set for the time of the change.
func (w *work) cut(levels map[string]string) error {
	moments := []time.Time{w.p.At}
	for r, m := range manifest.Of[manifest.Maintenance](w.p.Set) {
		open, err := calendar.New(m.Window.Calendar())
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref(), err)
		}
		for a, b := range open.Spans(w.p.At, w.limit()) {
			moments = append(moments, a, b)
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	moments = slices.CompactFunc(moments, time.Time.Equal)
	bad, changed := map[manifest.Ref]bool{}, map[manifest.Ref]bool{}
	for _, at := range moments {
		if !at.Before(w.limit()) {
			break
		}
		base, problems := w.p.With(picture.Options{At: at})
		if len(problems) == 0 {
			var during *picture.Picture
			if during, problems = w.p.With(picture.Options{At: at, Set: levels}); len(problems) == 0 {
				w.phases = append(w.phases, phase{from: at, base: base, during: during})
				continue
			}
		}
		return errors.New(problems[0].String())
	}
	for i := range w.phases {
		ph := &w.phases[i]
		ph.without, ph.with = cost.Record(ph.base.Map, ph.from), cost.Record(ph.during.Map, ph.from)
		for _, list := range [][]cost.Segment{ph.without, ph.with} {
			for _, s := range list {
				bad[s.Ref] = bad[s.Ref] || s.Level > health.OK
			}
		}
		for _, ref := range w.p.Map.Graph().Services() {
			was, _ := ph.base.Map.Range(ref)
			if is, _ := ph.during.Map.Range(ref); is != was && !changed[ref] {
				changed[ref] = true
				w.changed = append(w.changed, ref)
			}
		}
	}
	slices.Sort(w.changed)
	ok := func(s cost.Segment) bool { return !bad[s.Ref] }
	for i := range w.phases {
		ph := &w.phases[i]
		ph.without, ph.with = slices.DeleteFunc(ph.without, ok), slices.DeleteFunc(ph.with, ok)
	}
	return nil
}

// segments returns the history of [start, end), with the change or without.
func (w *work) segments(with bool, start, end time.Time) []cost.Segment {
	var out []cost.Segment
	for i := range w.phases {
		ph := &w.phases[i]
		if !ph.from.Before(end) || !w.until(i).After(start) {
			continue
		}
		list := ph.without
		if with {
			list = ph.with
		}
		for _, s := range list {
			s.From = later(ph.from, start)
			out = append(out, s)
		}
	}
	return out
}

// states returns what becomes of a service in the window that was asked about; nothing where it stays as it is.
func (w *work) states(ref manifest.Ref) []State {
	var out []State
	start, end := w.opt.From, w.opt.From.Add(w.opt.For)
	differs := false
	for i := range w.phases {
		ph := &w.phases[i]
		from, to := later(ph.from, start), earlier(w.until(i), end)
		if !from.Before(to) {
			continue
		}
		was, _ := ph.base.Map.Range(ref)
		n, _ := ph.during.Map.Node(ref)
		differs = differs || was != n.Range
		s := State{From: stamp(from), To: stamp(to), Before: Span(was), During: Span(n.Range), Why: n.Why.Text}
		if k := len(out); k > 0 && out[k-1].Before == s.Before && out[k-1].During == s.During && out[k-1].Why == s.Why {
			out[k-1].To = s.To
			continue
		}
		out = append(out, s)
	}
	if !differs {
		return nil
	}
	return out
}

func (w *work) title(ref manifest.Ref) string {
	n, _ := w.p.Map.Node(ref)
	return n.Title
}

// planned returns the times at which the change would meet something else that is planned: another change of the same parts, or of what
// the same services rest on; and maintenance there of other parts than those that are taken out. levels has the parts that are touched.
func (w *work) planned(levels map[string]string) ([]busy, error) {
	var out []busy
	touched, partly := map[manifest.Ref]bool{}, map[manifest.Ref]bool{} // partly: components of which a member is touched
	for ref := range levels {
		touched[manifest.Ref(ref)] = true
		base, _ := manifest.Ref(ref).Member()
		partly[base] = true
	}
	hit := map[manifest.Ref]bool{}
	for _, ref := range w.changed {
		hit[ref] = true
	}
	// meets says what of it is met.
	meets := func(refs []manifest.Ref, sameParts bool) string {
		parts, err := w.p.Out(refs...)
		if err != nil {
			return "" // it is not on the map
		}
		for _, ref := range parts {
			base, _ := ref.Member()
			switch own := touched[ref] || touched[base]; {
			case sameParts && (own || partly[ref]):
				return fmt.Sprintf("of %s, which is touched too", ref)
			case own:
				continue
			}
			for _, s := range w.p.Map.Graph().ServicesAbove(ref) {
				if hit[s] {
					return fmt.Sprintf("of %s, on which %s rests too", ref, s)
				}
			}
		}
		return ""
	}
	add := func(r *manifest.Resource, window *manifest.Window, text string) error {
		open, err := calendar.New(window.Calendar())
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref(), err)
		}
		for a, b := range open.Spans(w.p.At, w.limit()) {
			out = append(out, busy{r.Ref(), a, b, text})
		}
		return nil
	}
	for r, m := range manifest.Of[manifest.Maintenance](w.p.Set) {
		if met := meets(w.p.Map.Graph().Worked(r.Ref()), false); met != "" {
			if err := add(r, &m.Window, fmt.Sprintf("maintenance %s: %s", met, m.Reason)); err != nil {
				return nil, err
			}
		}
	}
	for r, c := range manifest.Of[manifest.ChangeRecord](w.p.Set) {
		if s := c.StateInForce(); r.Ref() == w.opt.Change || s != "planned" && s != "running" {
			continue
		}
		if met := meets(c.Refs, true); met != "" {
			if err := add(r, &c.Window, fmt.Sprintf("a %s change %s: %s", c.StateInForce(), met, c.Title)); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
