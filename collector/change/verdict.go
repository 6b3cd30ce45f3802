package change

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Declared changes are judged when they are not older than JudgedFor, and only the newest JudgedMost of them.
const (
	JudgedFor  = 30 * 24 * time.Hour
	JudgedMost = 200
)

// Least is how long before and after a change must be known to compare them.
const Least = time.Minute

// Around is how long before and after a change is looked at, at most.
const Around = 24 * time.Hour

// What became of a change.
const (
	Worse   = "worse"
	Better  = "better"
	Same    = "same"
	Unknown = "unknown" // too early, or without history
)

// Verdict is what became of the services above a change that is done, failed or was rolled back.
type Verdict struct {
	Change manifest.Ref `json:"change"` // of a planned one; empty for one that was declared
	ID     string       `json:"id"`     // of a declared one, where it is on record
	Title  string       `json:"title"`
	State  string       `json:"state"` // done, failed or rolledBack
	Owner  manifest.Ref `json:"owner"`
	From   string       `json:"from"`
	To     string       `json:"to"`
	// Length is that of the stretches before and after it which are compared: a day, or the time since it was over.
	Length string `json:"length"`
	// Services are those above it whose history covers both stretches, Unseen the others.
	Services []manifest.Ref `json:"services"`
	Unseen   []manifest.Ref `json:"unseen"`
	Before   Stretch        `json:"before"`
	After    Stretch        `json:"after"`
	// Verdict goes by the time in which services were bad, and by the cost where that is the same.
	Verdict string `json:"verdict"`
}

// Stretch is what was before a change, or after it.
type Stretch struct {
	Bad  string       `json:"bad"` // for how long services were known to be at major or worse, added up
	Cost cost.Amounts `json:"cost"`
}

// Rate is how often changes beneath a service, or of a team, fail.
type Rate struct {
	Ref      manifest.Ref `json:"ref"` // service or team
	Finished int          `json:"finished"`
	Failed   int          `json:"failed"` // failed or rolled back
	Worse    int          `json:"worse"`  // done, and it was worse afterwards
	Rate     float64      `json:"rate"`   // Failed of Finished
}

func judge(p *picture.Picture, planned []event) ([]Verdict, []Rate) {
	verdicts := []Verdict{}
	rates := map[manifest.Ref]*Rate{}
	past := map[manifest.Ref][]slo.Segment{} // as far as they were asked for
	add := func(e event, id, title, state string, owner manifest.Ref) {
		v, services := verdict(p, e, past)
		v.ID, v.State, v.Owner, v.Title = id, state, owner, title
		verdicts = append(verdicts, v)
		if owner != "" {
			services = append(services, owner)
		}
		for _, ref := range services {
			r := rates[ref]
			if r == nil {
				r = &Rate{Ref: ref}
				rates[ref] = r
			}
			r.Finished++
			switch {
			case state != "done":
				r.Failed++
			case v.Verdict == Worse:
				r.Worse++
			}
		}
	}
	for _, e := range planned {
		c, ok := manifest.SpecOf[manifest.ChangeRecord](p.Set, e.ref)
		if state := c.StateInForce(); ok && state != "planned" && state != "running" {
			add(e, "", c.Title, state, c.Owner)
		}
	}
	most := JudgedMost
	for _, c := range slices.Backward(p.Changes) { // the newest first
		if c.Kind != picture.ChangeDeclared || len(c.Refs) == 0 || c.At.After(p.At) || p.At.Sub(c.At) > JudgedFor || most == 0 {
			continue
		}
		most--
		add(event{on: c.Refs, from: c.At, to: c.At, what: c.What}, c.ID, c.What, cmp.Or(c.State, "done"), p.Map.Graph().Owner(c.Refs[0]))
	}
	slices.SortStableFunc(verdicts, func(a, b Verdict) int { return cmp.Compare(b.To, a.To) })
	out := []Rate{}
	for _, ref := range slices.Sorted(maps.Keys(rates)) {
		r := *rates[ref]
		r.Rate = math.Round(float64(r.Failed)/float64(r.Finished)*1e6) / 1e6
		out = append(out, r)
	}
	return verdicts, out
}

// verdict compares the time before and after a change, and returns all services above it.
func verdict(p *picture.Picture, e event, past map[manifest.Ref][]slo.Segment) (Verdict, []manifest.Ref) {
	var services []manifest.Ref
	for _, ref := range e.on {
		services = append(services, p.Map.Graph().ServicesAbove(ref)...)
	}
	slices.Sort(services)
	services = slices.Compact(services)
	v := Verdict{Change: e.ref, From: stamp(e.from), To: stamp(e.to), Services: []manifest.Ref{}, Unseen: []manifest.Ref{}, Verdict: Unknown}
	length := min(Around, max(p.At.Sub(e.to), 0))
	v.Length = slo.Seconds(length)
	var rows []slo.Row
	for _, ref := range services {
		history, known := past[ref]
		if !known {
			history = p.States(ref)
			past[ref] = history
		}
		if len(history) == 0 || history[0].From.After(e.from.Add(-length)) {
			v.Unseen = append(v.Unseen, ref)
			continue
		}
		v.Services = append(v.Services, ref)
		for _, h := range history {
			rows = append(rows, slo.Row{Ref: ref, At: h.From, State: h.State})
		}
	}
	before, bad := stretch(p, rows, e.from.Add(-length), e.from)
	after, worse := stretch(p, rows, e.to, e.to.Add(length))
	v.Before, v.After = before, after
	if length < Least || len(v.Services) == 0 {
		return v, services
	}
	switch {
	case worse > bad:
		v.Verdict = Worse
	case worse < bad:
		v.Verdict = Better
	default:
		v.Verdict = byCost(after.Cost.Minus(before.Cost))
	}
	return v, services
}

// byCost judges by the difference of costs: the same where the units disagree.
func byCost(d cost.Amounts) string {
	more, less := false, false
	for _, x := range d {
		more, less = more || x > 0, less || x < 0
	}
	switch {
	case more && !less:
		return Worse
	case less && !more:
		return Better
	}
	return Same
}

// stretch is what was bad of some services, and what that cost, but for what was planned.
func stretch(p *picture.Picture, rows []slo.Row, from, to time.Time) (Stretch, time.Duration) {
	g := p.Map.Graph()
	segments := cost.History(g, rows, from, to)
	var bad time.Duration
	last := map[manifest.Ref]cost.Segment{}
	slices.SortStableFunc(segments, func(a, b cost.Segment) int { return a.From.Compare(b.From) })
	end := func(s cost.Segment, at time.Time) {
		if s.Level >= health.Major && !s.Planned {
			bad += at.Sub(s.From)
		}
	}
	for _, s := range segments {
		if x, ok := last[s.Ref]; ok {
			end(x, s.From)
		}
		last[s.Ref] = s
	}
	for _, s := range last {
		end(s, to)
	}
	costs := cost.Amounts{}
	for unit, b := range cost.Bills(g, segments, to) {
		costs[unit] = b.Total - b.Planned
	}
	return Stretch{slo.Seconds(bad), costs}, bad
}
