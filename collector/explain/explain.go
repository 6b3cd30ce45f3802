// Package explain says in full what makes services bad, and what a part would make bad: with the services, their levels, what it
// costs an hour, whom to call, and the paragraph that goes into an alert.
//
// It is pure. What it finds is found by package cause, through the rules on the way; what is only unknown is never a cause.
package explain

import (
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/contact"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Causes is the answer to what makes services bad. Amounts are decimal strings in Unit.
type Causes struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	At         string  `json:"at"`
	Unit       string  `json:"unit"`   // a currency where all that is hit is priced in it, else points
	Causes     []Cause `json:"causes"` // the costliest first
	// PerHour is what all of it costs an hour, each loss counted once.
	PerHour  string         `json:"perHour"`
	Unranked []manifest.Ref `json:"unranked"` // services that are hit and have no value in Unit
	Unsure   []manifest.Ref `json:"unsure"`   // services of which it is not known whether they are bad
}

// Cause is one thing to which bad services go back.
type Cause struct {
	Ref   manifest.Ref `json:"ref"`
	Title string       `json:"title,omitempty"`
	Level health.Level `json:"level"`
	Since *string      `json:"since"` // null where it is not known
	// NotOnMap says that a service is bad by itself and nothing that it rests on is to blame: what is wrong is not on the map.
	NotOnMap bool `json:"notOnMap"`
	// Services are those that it hits, sorted.
	Services []Service `json:"services"`
	// PerHour is what they lose in an hour now, AtRisk what an hour of them is worth; each is counted once.
	PerHour string `json:"perHour"`
	AtRisk  string `json:"atRisk"`
	// Partial says that there may be more causes, which were not found.
	Partial bool `json:"partial"`
	// Call is whom to call now; null where nobody is to be reached.
	Call  *contact.Step `json:"call"`
	Alert string        `json:"alert"`
}

// Service is one that is hit.
type Service struct {
	Ref     manifest.Ref `json:"ref"`
	Title   string       `json:"title,omitempty"`
	Level   health.Level `json:"level"`   // what it is known to be at least
	Since   *string      `json:"since"`   // since when it is bad, by the history; null where it does not tell
	PerHour string       `json:"perHour"` // what it loses by itself; "0" where it has no value in Unit
}

// Of explains what is bad in a picture.
func Of(p *picture.Picture) Causes {
	report := cause.Find(p.Map, p.At)
	out := Causes{
		APIVersion: manifest.APIVersion, Kind: "Causes", At: stamp(p.At), Unit: report.Unit, Causes: []Cause{},
		Unranked: append([]manifest.Ref{}, report.Unranked...), Unsure: []manifest.Ref{},
	}
	out.PerHour = cause.Loss(p.Map, report.Unit, p.At).Text(report.Unit)
	for _, ref := range p.Map.Graph().Services() {
		if r, _ := p.Map.Range(ref); r.Low < health.Warning && r.High >= health.Warning {
			out.Unsure = append(out.Unsure, ref)
		}
	}
	for i := range report.Causes {
		c := &report.Causes[i]
		n, _ := p.Map.Node(c.Ref)
		x := Cause{
			Ref: c.Ref, Title: n.Title, Level: c.Level, Since: since(p, c.Ref), NotOnMap: notOnMap(p.Map, c.Ref), Services: []Service{},
			PerHour: report.PerHour(c), AtRisk: c.AtRisk.Text(report.Unit), Partial: c.Partial,
		}
		for _, s := range c.Services {
			x.Services = append(x.Services, serviceOf(p, s, report.Unit))
		}
		who, err := contact.Who(p.Set, c.Ref, p.At, lookup(p))
		if first, ok := who.First(); err == nil && ok {
			x.Call = &first
		}
		_, ranked := c.AtRisk.In(report.Unit)
		x.Alert = alert(&x, report.Unit, ranked, behind(p, c, report.Unit), &who)
		out.Causes = append(out.Causes, x)
	}
	return out
}

// behind returns the services with a value that rest on a cause, are bad, and do not blame it.
func behind(p *picture.Picture, c *cause.Cause, unit string) []string {
	var out []string
	for _, ref := range p.Map.Graph().ServicesAbove(c.Ref) {
		r, _ := p.Map.Range(ref)
		if _, valued := p.Map.Worth(ref, p.At).In(unit); valued && r.Low >= health.Warning && !slices.Contains(c.Services, ref) {
			out = append(out, string(ref))
		}
	}
	return out
}

func serviceOf(p *picture.Picture, ref manifest.Ref, unit string) Service {
	n, _ := p.Map.Node(ref)
	s := Service{Ref: ref, Title: n.Title, Level: n.Range.Low, PerHour: p.Map.Loss(ref, p.At).Text(unit)}
	if at, ok := p.BadSince(ref); ok {
		s.Since = ptr(stamp(at))
	}
	return s
}

// since returns when the first sign of a cause was seen or else the incident about it was opened, or when a cause that is a service became bad.
func since(p *picture.Picture, ref manifest.Ref) *string {
	for i := range p.Incidents {
		if x := &p.Incidents[i]; x.Cause == string(ref) && x.ResolvedAt.IsZero() {
			if !x.BeganAt.IsZero() {
				return ptr(stamp(x.BeganAt))
			}
			return ptr(stamp(x.OpenedAt))
		}
	}
	if at, ok := p.BadSince(ref); ok {
		return ptr(stamp(at))
	}
	return nil
}

// notOnMap reports whether a service is bad by its own signals alone.
func notOnMap(s *servicemap.Snapshot, ref manifest.Ref) bool {
	if ref.Kind() != "service" {
		return false
	}
	inputs, itself, _ := s.Blame(ref)
	return itself && len(inputs) == 0 && s.Own(ref).Low >= health.Warning
}

func lookup(p *picture.Picture) contact.Lookup {
	return func(ref manifest.Ref) (contact.Hours, error) { return p.Calendar(ref) }
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func ptr[T any](x T) *T { return &x }
