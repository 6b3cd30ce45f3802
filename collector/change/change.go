// Package change looks for what was changed before something went bad: changes that were planned, declared or observed, beneath each cause, the
// nearest in time and on the map first; what became of health and cost after each change that is done; and how often changes fail.
//
// It is pure. That a change came before is no proof that it is to blame, and nothing here says so.
package change

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/explain"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/table"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// LookBack is how long before a cause changes are looked for.
const LookBack = 7 * 24 * time.Hour

// Report is the answer.
type Report struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	At         string    `json:"at"`
	Causes     []Cause   `json:"causes"` // in the order in which causes are ranked
	Done       []Verdict `json:"done"`   // the latest first
	Rates      []Rate    `json:"rates"`  // by service, then by team
}

// Cause is what makes services bad, with the changes beneath it.
type Cause struct {
	Ref   manifest.Ref `json:"ref"`
	Level health.Level `json:"level"`
	// Since is when it became bad; where that is not known, the moment of the answer stands in, and SinceKnown is false.
	Since      string   `json:"since"`
	SinceKnown bool     `json:"sinceKnown"`
	Changes    []Beside `json:"changes"` // the nearest first
}

// Beside is a change near a cause.
type Beside struct {
	Change manifest.Ref `json:"change"` // of a planned one; empty for the others
	Kind   string       `json:"kind"`   // planned, declared, package, unit, boot or binary
	On     manifest.Ref `json:"on"`
	At     string       `json:"at"` // when it began
	What   string       `json:"what"`
	// Before is how long before the cause it was over, in seconds: "0s" where it was still going on.
	Before string `json:"before"`
	// Distance is how many steps down the map it lies: 0 is the cause itself.
	Distance int `json:"distance"`
	// Closeness is from 0 to 1: halved for each day, and divided by one more than the distance.
	Closeness float64 `json:"closeness"`
}

// event is a change of either sort.
type event struct {
	ref      manifest.Ref
	kind     string
	on       []manifest.Ref
	from, to time.Time
	what     string
}

// Of looks for changes in a picture: those that are planned in its text, and those that were declared or observed. Its error is about a window
// that cannot be read.
func Of(p *picture.Picture) (Report, error) {
	out := Report{APIVersion: manifest.APIVersion, Kind: "Changes", At: stamp(p.At), Causes: []Cause{}, Done: []Verdict{}, Rates: []Rate{}}
	planned, err := plannedIn(p)
	if err != nil {
		return Report{}, err
	}
	events := slices.Clone(planned)
	for _, c := range p.Changes {
		e := event{kind: c.Kind, on: c.Refs, from: c.At, to: c.At, what: c.What}
		if c.Host != "" {
			e.on = append(slices.Clip(e.on), manifest.RefOf(manifest.KindHost, c.Host))
		}
		events = append(events, e)
	}
	for _, c := range explain.Of(p).Causes {
		x := Cause{Ref: c.Ref, Level: c.Level, Since: stamp(p.At), Changes: []Beside{}}
		since := p.At
		if c.Since != nil {
			x.Since, x.SinceKnown = *c.Since, true
			if since, err = time.Parse(time.RFC3339, *c.Since); err != nil {
				return Report{}, fmt.Errorf("%s: %w", c.Ref, err)
			}
		}
		distance := below(p.Map.Graph(), c.Ref)
		for _, e := range events {
			if b, ok := beside(e, since, distance); ok {
				x.Changes = append(x.Changes, b)
			}
		}
		slices.SortStableFunc(x.Changes, func(a, b Beside) int {
			return cmp.Or(cmp.Compare(b.Closeness, a.Closeness), cmp.Compare(a.Distance, b.Distance), cmp.Compare(b.At, a.At), cmp.Compare(a.On, b.On))
		})
		out.Causes = append(out.Causes, x)
	}
	out.Done, out.Rates = judge(p, planned)
	return out, nil
}

// plannedIn returns the changes of kind Change that have begun, by reference.
func plannedIn(p *picture.Picture) ([]event, error) {
	var out []event
	for r, c := range manifest.Of[manifest.ChangeRecord](p.Set) {
		open, err := calendar.New(c.Window.Calendar())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Ref(), err)
		}
		e := event{ref: r.Ref(), kind: "planned", on: c.Refs, what: c.Title}
		// A window of a year at most lies in so many days on both sides of it.
		day := time.Unix(int64(c.Window.Start), 0).UTC()
		for a, b := range open.Spans(day.AddDate(0, 0, -2), day.AddDate(2, 0, 0)) {
			if e.from.IsZero() {
				e.from = a
			}
			e.to = b
		}
		if !e.from.IsZero() && e.from.Before(p.At) {
			out = append(out, e)
		}
	}
	return out, nil
}

// beside says how near a change lies to a cause; false where it lies elsewhere, too long ago, or after it.
func beside(e event, since time.Time, distance map[manifest.Ref]int) (Beside, bool) {
	near, on := math.MaxInt, manifest.Ref("")
	for _, ref := range e.on {
		if d, ok := distance[ref]; ok && d < near {
			near, on = d, ref
		}
	}
	age := max(since.Sub(e.to), 0)
	if on == "" || e.from.After(since) || age > LookBack {
		return Beside{}, false
	}
	closeness := math.Exp2(-age.Hours()/24) / float64(1+near)
	return Beside{
		Change: e.ref, Kind: e.kind, On: on, At: stamp(e.from), What: e.what, Before: slo.Seconds(age), Distance: near,
		Closeness: math.Round(closeness*1e6) / 1e6,
	}, true
}

// below returns how many steps beneath a node other nodes lie. A member of a component, the component, and what is declared of either are one;
// its host lies a step below, and what else runs there another one.
func below(g *servicemap.Graph, of manifest.Ref) map[manifest.Ref]int {
	out := map[manifest.Ref]int{}
	level := []manifest.Ref{of}
	for d := 0; len(level) > 0; d++ {
		var next []manifest.Ref
		for ; len(level) > 0; level = level[1:] {
			ref := level[0]
			if _, seen := out[ref]; seen {
				continue
			}
			out[ref] = d
			base, host := ref.Member()
			switch {
			case host != "":
				if _, seen := out[base]; !seen {
					out[base] = d // the component's other members are not beneath this one
				}
				next = append(next, manifest.RefOf(manifest.KindHost, host))
			case ref.Kind() == "component":
				for _, m := range g.Members(ref) {
					level = append(level, m.Ref)
				}
			case ref.Kind() == "host" && ref != of:
				for _, m := range g.OnHost(ref.Name()) {
					next = append(next, m.Ref)
				}
			}
			if ref.Kind() != "component" || host != "" {
				next = append(next, g.RestsOn(ref)...)
			}
		}
		level = next
	}
	return out
}

// Read reads changes that were declared or observed out of CSV, with the first line at,on,kind,what. What is on no map is a mistake.
func Read(p *picture.Picture, file string, text []byte) ([]picture.Change, []manifest.Problem) {
	kinds := []string{picture.ChangeDeclared, picture.ChangePackage, picture.ChangeUnit, picture.ChangeBoot, picture.ChangeBinary}
	var out []picture.Change
	problems := table.Read(file, text, []string{"at", "on", "kind", "what"}, func(r *table.Row) {
		on := r.Ref("on", "component", "service", "host")
		c := picture.Change{At: r.Time("at"), Refs: []manifest.Ref{on}, Kind: r.OneOf("kind", kinds...), What: r.Needed("what")}
		r.Needed("at")
		if g := p.Map.Graph(); on != "" && !g.Has(on) && len(g.OnHost(on.Name())) == 0 {
			r.Mistake("on", string(on)+" is not on the map", "")
		}
		out = append(out, c)
	})
	return out, problems
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
