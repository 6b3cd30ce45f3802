// Package coverage holds support against value: the hours in which a service is worth something and nobody is there to mend it, and
// those in which it is supported and worth nothing; exactly, over the week and the year to come.
//
// It is pure and reads manifests only. It asks for hours and contracts, not for whether people do answer.
package coverage

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Report is the answer. Spans of time are decimal strings of seconds, times RFC 3339.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	From       string `json:"from"`
	Week       string `json:"week"` // the end of the week from then
	Year       string `json:"year"` // the end of the year from then
	// Services are those with a value, the one with most uncovered hours in the year first.
	Services []Service      `json:"services"`
	Unvalued []manifest.Ref `json:"unvalued"` // services without a value
}

// Service is one service.
type Service struct {
	Ref          manifest.Ref `json:"ref"`
	Title        string       `json:"title,omitempty"`
	Owner        manifest.Ref `json:"owner"`        // empty: nobody owns it
	SupportHours manifest.Ref `json:"supportHours"` // empty: none are stated, and only its contacts decide
	Week         Figures      `json:"week"`
	Year         Figures      `json:"year"`
	// Gaps are the next stretches in which it is worth something and nobody is there, the fallback apart; ten at most.
	Gaps []Gap `json:"gaps"`
}

// Figures are those of a week or a year. Covered, FallbackOnly and Uncovered add up to Valued.
type Figures struct {
	Valued string `json:"valued"` // it is worth something
	// Covered is valued time within the support hours in which a contact of the owner, one that it escalates to, or the vendor is there.
	Covered string `json:"covered"`
	// FallbackOnly is valued time in which only the fallback of the owner can be called.
	FallbackOnly string `json:"fallbackOnly"`
	Uncovered    string `json:"uncovered"` // valued time in which nobody is there
	Idle         string `json:"idle"`      // it is covered and worth nothing
	// Value is what the uncovered time is worth, by unit.
	Value cost.Amounts `json:"value"`
}

// Gap is a stretch in which a valued service has nobody on duty.
type Gap struct {
	From     string       `json:"from"`
	To       string       `json:"to"`
	Fallback bool         `json:"fallback"` // the fallback of its owner can be called
	Value    cost.Amounts `json:"value"`
	Why      string       `json:"why"`
}

// mostGaps is how many gaps of a service are listed.
const mostGaps = 10

// Of holds support against value in a picture, from its moment on. Its error is about a calendar that cannot be read.
func Of(p *picture.Picture) (Report, error) {
	week, year := p.At.Add(7*24*time.Hour), p.At.AddDate(1, 0, 0)
	out := Report{
		APIVersion: manifest.APIVersion, Kind: "Coverage", From: stamp(p.At), Week: stamp(week), Year: stamp(year),
		Services: []Service{}, Unvalued: []manifest.Ref{},
	}
	missing := map[manifest.Ref]time.Duration{}
	for r, s := range manifest.Of[manifest.Service](p.Set) {
		if !p.Map.Graph().BaseValue(r.Ref()).Ranked {
			out.Unvalued = append(out.Unvalued, r.Ref())
			continue
		}
		k, err := lookAt(p, r.Ref(), s, year)
		if err != nil {
			return Report{}, err
		}
		missing[r.Ref()] = k.uncovered.length()
		out.Services = append(out.Services, Service{
			Ref: r.Ref(), Title: s.Title, Owner: s.Owner, SupportHours: s.SupportHours,
			Week: k.figures(span{p.At, week}), Year: k.figures(span{p.At, year}), Gaps: k.gaps(),
		})
	}
	slices.SortStableFunc(out.Services, func(a, b Service) int { return cmp.Compare(missing[b.Ref], missing[a.Ref]) })
	return out, nil
}

// known is what a year holds for one service.
type known struct {
	valued, covered, fallback, uncovered, idle spans

	graph    *servicemap.Graph
	ref      manifest.Ref
	support  spans
	why, off string // why nobody is there within the support hours, and outside them
}

func lookAt(p *picture.Picture, ref manifest.Ref, s *manifest.Service, until time.Time) (*known, error) {
	k := &known{graph: p.Map.Graph(), ref: ref}
	whole := spans{{p.At, until}}
	k.valued = whole
	if c := k.graph.BaseValue(ref).Calendar(); c != nil {
		k.valued = open(c, p.At, until)
	}
	k.support = whole
	if s.SupportHours != "" {
		c, err := p.Calendar(s.SupportHours)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.SupportHours, err)
		}
		k.support, k.off = open(c, p.At, until), "outside "+string(s.SupportHours)
	}
	d := duty{p: p, whole: whole[0]}
	there, err := d.of(s)
	if err != nil {
		return nil, err
	}
	k.why = "no contact is there"
	team, owned := manifest.SpecOf[manifest.Team](p.Set, s.Owner)
	if !owned {
		k.why = "it has no owner"
	}
	on := k.support.and(there)
	k.covered, k.idle = k.valued.and(on), on.without(k.valued)
	rest := k.valued.without(on)
	if owned && team.Fallback != nil {
		k.fallback = rest
	} else {
		k.uncovered = rest
	}
	return k, nil
}

// duty knows who is there when.
type duty struct {
	p     *picture.Picture
	whole span
}

// of returns when somebody is there for a service: its owner, whom the owner escalates to, or its vendor.
func (d *duty) of(s *manifest.Service) (out spans, err error) {
	join := func(more spans, e error) {
		out, err = out.or(more), cmp.Or(err, e)
	}
	if t, ok := manifest.SpecOf[manifest.Team](d.p.Set, s.Owner); ok {
		join(d.contacts(t.Contacts))
		for _, e := range t.Escalation {
			if up, ok := manifest.SpecOf[manifest.Team](d.p.Set, e.To); ok {
				join(d.contacts(up.Contacts))
			}
			join(d.vendor(e.To))
		}
	}
	join(d.vendor(s.Vendor))
	return out, err
}

func (d *duty) contacts(list []manifest.Contact) (out spans, err error) {
	for _, c := range list {
		there, e := d.hours(c.Hours)
		out, err = out.or(there), cmp.Or(err, e)
	}
	return out, err
}

// vendor returns when a contact of a vendor is bound to answer.
func (d *duty) vendor(ref manifest.Ref) (spans, error) {
	v, ok := manifest.SpecOf[manifest.Vendor](d.p.Set, ref)
	if !ok {
		return nil, nil
	}
	there, err := d.contacts(v.Contacts)
	bound, e := d.hours(v.Hours)
	return bound.and(there), cmp.Or(err, e)
}

func (d *duty) hours(ref manifest.Ref) (spans, error) {
	if ref == "" {
		return spans{d.whole}, nil
	}
	c, err := d.p.Calendar(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return open(c, d.whole.from, d.whole.to), nil
}

func (k *known) figures(in span) Figures {
	within := spans{in}
	seconds := func(s spans) string { return slo.Seconds(s.and(within).length()) }
	return Figures{
		Valued: seconds(k.valued), Covered: seconds(k.covered), FallbackOnly: seconds(k.fallback), Uncovered: seconds(k.uncovered),
		Idle: seconds(k.idle), Value: k.worth(k.uncovered.and(within)),
	}
}

// worth returns what an amount of time is worth, all of it lost.
func (k *known) worth(list spans) cost.Amounts {
	out := cost.Amounts{}
	for _, unit := range cost.Units(k.graph) {
		r, ok := cost.RateOf(k.graph.BaseValue(k.ref), unit)
		if !ok {
			continue
		}
		r.Loss[health.Critical] = 1_000_000
		runs := make([]cost.Run, 0, 2*len(list))
		end := time.Time{}
		for _, s := range list {
			runs = append(runs, cost.Run{From: s.from, Level: health.Critical}, cost.Run{From: s.to, Level: health.OK})
			end = s.to
		}
		out[unit] = r.Runs(runs, end)
	}
	return out
}

func (k *known) gaps() []Gap {
	out := []Gap{}
	none := k.fallback.or(k.uncovered)
	type piece struct {
		span
		why string
	}
	var pieces []piece
	for _, s := range none.and(k.support) {
		pieces = append(pieces, piece{s, k.why})
	}
	for _, s := range none.without(k.support) {
		pieces = append(pieces, piece{s, k.off})
	}
	slices.SortFunc(pieces, func(a, b piece) int { return a.from.Compare(b.from) })
	for _, x := range pieces[:min(len(pieces), mostGaps)] {
		out = append(out, Gap{stamp(x.from), stamp(x.to), len(k.fallback) > 0, k.worth(spans{x.span}), x.why})
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
