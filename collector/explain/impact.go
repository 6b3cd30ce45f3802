package explain

import (
	"slices"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Impact is what a part hits, and what it would hit if it were critical. Amounts are decimal strings in Unit.
type Impact struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	At         string       `json:"at"`
	Ref        manifest.Ref `json:"ref"`
	Unit       string       `json:"unit"`
	// Out is what would be critical by itself: the part, and of a host all that runs on it.
	Out []manifest.Ref `json:"out"`
	// Now are the services that are bad and go back to it now, sorted.
	Now []manifest.Ref `json:"now"`
	// Hit are the services that would get worse if it were critical, sorted.
	Hit []Change `json:"hit"`
	// Held are those that rest on it and would not get worse, with the reason.
	Held []Held `json:"held"`
	// PerHour is what all services lose in an hour now, Then what they would lose, Adds the difference; each loss is counted once.
	PerHour string `json:"perHour"`
	Then    string `json:"then"`
	Adds    string `json:"adds"`
	// Unranked are services in Hit without a value in Unit.
	Unranked []manifest.Ref `json:"unranked"`
}

// Span is a health: both ends.
type Span struct {
	Low  health.Level `json:"low"`
	High health.Level `json:"high"`
}

// Change is what becomes of a service.
type Change struct {
	Ref   manifest.Ref `json:"ref"`
	Title string       `json:"title,omitempty"`
	Now   Span         `json:"now"`
	Then  Span         `json:"then"`
	// PerHour is what it would lose by itself; "0" where it has no value in Unit.
	PerHour string `json:"perHour"`
	Why     string `json:"why"`
}

// Held is a service that stays as it is.
type Held struct {
	Ref   manifest.Ref `json:"ref"`
	Level Span         `json:"level"`
	Why   string       `json:"why"`
}

// ImpactOf says what a part hits in a picture. It fails on what is not on the map.
func ImpactOf(p *picture.Picture, ref manifest.Ref) (Impact, error) {
	parts, err := p.Out(ref)
	if err != nil {
		return Impact{}, err
	}
	then, problems := p.Critical(parts...)
	if len(problems) > 0 {
		panic("BUG: explain: parts that are on the map cannot be set: " + problems[0].String())
	}
	out := Impact{
		APIVersion: manifest.APIVersion, Kind: "Impact", At: stamp(p.At), Ref: ref, Out: parts,
		Now: []manifest.Ref{}, Hit: []Change{}, Held: []Held{}, Unranked: []manifest.Ref{},
	}
	for _, part := range parts {
		out.Now = append(out.Now, cause.Impact(p.Map, part)...)
	}
	slices.Sort(out.Now)
	out.Now = slices.Compact(out.Now)
	var hit []manifest.Ref
	for _, s := range above(p, parts) {
		was, _ := p.Map.Range(s)
		n, _ := then.Map.Node(s)
		if n.Range == was {
			out.Held = append(out.Held, Held{s, Span(was), n.Why.Text})
			continue
		}
		hit = append(hit, s)
		out.Hit = append(out.Hit, Change{Ref: s, Title: n.Title, Now: Span(was), Then: Span(n.Range), Why: n.Why.Text})
	}
	out.Unit = cause.Unit(then.Map, append(hit, bad(then)...), p.At)
	before, after := cause.Loss(p.Map, out.Unit, p.At), cause.Loss(then.Map, out.Unit, p.At)
	out.PerHour, out.Then, out.Adds = before.Text(out.Unit), after.Text(out.Unit), difference(after, before, out.Unit)
	for i := range out.Hit {
		v := then.Map.Loss(out.Hit[i].Ref, p.At)
		if _, ok := v.In(out.Unit); !ok {
			out.Unranked = append(out.Unranked, out.Hit[i].Ref)
		}
		out.Hit[i].PerHour = v.Text(out.Unit)
	}
	return out, nil
}

// above returns the services that rest on any of the parts, sorted.
func above(p *picture.Picture, parts []manifest.Ref) []manifest.Ref {
	var out []manifest.Ref
	for _, ref := range parts {
		out = append(out, p.Map.Graph().ServicesAbove(ref)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func bad(p *picture.Picture) []manifest.Ref {
	return slices.DeleteFunc(slices.Clone(p.Map.Graph().Services()), func(ref manifest.Ref) bool {
		r, _ := p.Map.Range(ref)
		return r.Low < health.Warning
	})
}

func difference(a, b servicemap.Value, unit string) string {
	if unit == servicemap.UnitPoints {
		x := servicemap.Value{Ranked: true, Pointed: true, Points: a.Points - b.Points}
		return x.Text(unit)
	}
	return (a.Money - b.Money).String()
}
