// Package portfolio is all services at a glance: what is at risk now, what this month has cost and whether that is more than the last
// one by the same day, what is left of the error budgets, and where support is missing. The parts of each amount add up to the whole.
//
// It is pure and works out nothing of its own that another package has: costs are those of package cost, budgets those of the report
// on objectives, hours those of package coverage.
package portfolio

import (
	"cmp"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/coverage"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Portfolio is the answer. Amounts are by unit: money in its currency, and points for everything with a criticality. They are two ways to
// tell the same loss and are never added.
type Portfolio struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	At         string `json:"at"`
	Timezone   string `json:"timezone"` // that of the months
	Month      Period `json:"month"`    // so far
	Last       Period `json:"last"`     // the month before, until the same day and time of day
	// Services are all of them, the one that costs most this month first.
	Services []Service `json:"services"`
	Total    Figures   `json:"total"` // the exact sums over Services
	// WorstCoverage are the services that are worth something for longest in the week to come with nobody there; none where all are covered.
	WorstCoverage []manifest.Ref `json:"worstCoverage"`
	// Unknown are services without any history in this month: their costs are not known and are taken as nothing.
	Unknown []manifest.Ref `json:"unknown"`
}

// Period is a stretch of time.
type Period struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Figures are amounts of a service or of all.
type Figures struct {
	// AtRisk is what an hour of what is known to be bad is worth now, Losing what it loses in an hour. Both are counted at the uppermost
	// service that is bad.
	AtRisk cost.Amounts `json:"atRisk"`
	Losing cost.Amounts `json:"losing"`
	// Cost is that of this month so far, LastCost that of the last month by the same day, Trend the difference.
	Cost     cost.Amounts `json:"cost"`
	LastCost cost.Amounts `json:"lastCost"`
	Trend    cost.Amounts `json:"trend"`
}

// Service is one of them.
type Service struct {
	Ref         manifest.Ref `json:"ref"`
	Title       string       `json:"title,omitempty"`
	Owner       manifest.Ref `json:"owner"`
	Criticality int          `json:"criticality"` // 0: none was stated
	Low         health.Level `json:"low"`
	High        health.Level `json:"high"`
	Figures
	SLOs []SLO `json:"slos"`
	// Uncovered is for how long it is worth something in the week to come and nobody is there; empty for one without a value.
	Uncovered string `json:"uncovered"`
}

// SLO is what is left of an error budget; Left and Outcome are empty where there is no history.
type SLO struct {
	Ref     manifest.Ref   `json:"ref"`
	Budget  string         `json:"budget"`
	Left    *report.Spread `json:"left"`
	Outcome string         `json:"outcome"`
}

// Of draws the portfolio, with months in a zone. Its error is about a calendar that cannot be read.
func Of(p *picture.Picture, zone *time.Location) (Portfolio, []manifest.Problem, error) {
	objectives, problems := report.Of(p)
	if len(problems) > 0 {
		return Portfolio{}, problems, nil
	}
	support, err := coverage.Of(p)
	if err != nil {
		return Portfolio{}, nil, err
	}
	month, last, by := months(p.At, zone)
	out := Portfolio{
		APIVersion: manifest.APIVersion, Kind: "Portfolio", At: stamp(p.At), Timezone: zone.String(),
		Month: Period{stamp(month), stamp(p.At)}, Last: Period{stamp(last), stamp(by)}, Services: []Service{}, Unknown: []manifest.Ref{}, WorstCoverage: worst(&support),
		Total: Figures{cost.Amounts{}, cost.Amounts{}, cost.Amounts{}, cost.Amounts{}, cost.Amounts{}},
	}
	g := p.Map.Graph()
	now, before := cost.History(g, p.History, month, p.At), cost.History(g, p.History, last, by)
	bills, lastBills := cost.Bills(g, now, p.At), cost.Bills(g, before, by)
	above := cause.Above(p.Map)
	for _, ref := range g.Services() {
		n, _ := p.Map.Node(ref)
		s := Service{
			Ref: ref, Title: n.Title, Owner: n.Owner, Criticality: n.Criticality, Low: n.Range.Low, High: n.Range.High, SLOs: []SLO{},
			Figures: Figures{
				AtRisk: counted(p, ref, above[ref], p.Map.Worth), Losing: counted(p, ref, above[ref], p.Map.Loss),
				Cost: cost.OfService(bills, ref), LastCost: cost.OfService(lastBills, ref),
			},
		}
		s.Trend = s.Cost.Minus(s.LastCost)
		for _, o := range objectives.SLOs {
			if o.Service == ref {
				s.SLOs = append(s.SLOs, budget(&o))
			}
		}
		for _, c := range support.Services {
			if c.Ref == ref {
				s.Uncovered = c.Week.Uncovered
			}
		}
		if !slices.ContainsFunc(now, func(x cost.Segment) bool { return x.Ref == ref }) {
			out.Unknown = append(out.Unknown, ref)
		}
		out.Total.add(&s.Figures)
		out.Services = append(out.Services, s)
	}
	rank(out.Services, g)
	return out, nil, nil
}

// months returns when the month of a moment began, when the one before it did, and where that was at the same day and time of day: at its
// end where it was shorter.
func months(at time.Time, zone *time.Location) (month, last, by time.Time) {
	local := at.In(zone)
	y, m, d := local.Date()
	month, last = time.Date(y, m, 1, 0, 0, 0, 0, zone), time.Date(y, m-1, 1, 0, 0, 0, 0, zone)
	by = time.Date(y, m-1, d, local.Hour(), local.Minute(), local.Second(), local.Nanosecond(), zone)
	if by.After(month) {
		by = month
	}
	return month, last, by
}

// counted returns what a service that is bad adds to the whole in each unit: nothing where one above it that is hit by it counts.
func counted(p *picture.Picture, ref manifest.Ref, above []manifest.Ref, value func(manifest.Ref, time.Time) servicemap.Value) cost.Amounts {
	out := cost.Amounts{}
	r, _ := p.Map.Range(ref)
	for _, unit := range cost.Units(p.Map.Graph()) {
		if _, has := p.Map.Graph().BaseValue(ref).In(unit); !has {
			continue
		}
		out[unit] = 0
		if r.Low < health.Warning || slices.ContainsFunc(above, func(up manifest.Ref) bool {
			n, ok := value(up, p.At).In(unit)
			return ok && n > 0
		}) {
			continue
		}
		d, err := manifest.ParseDecimal(value(ref, p.At).Text(unit))
		if err != nil {
			panic("BUG: portfolio: a value that is no decimal: " + err.Error())
		}
		out[unit] = d
	}
	return out
}

func budget(o *report.SLO) SLO {
	out := SLO{Ref: o.Ref, Budget: o.Budget}
	if e := o.Evaluation; e != nil {
		f := e.Up
		if o.Excluded == "leftOut" {
			f = e.LeftOut
		}
		out.Left, out.Outcome = &f.Left, e.Outcome
	}
	return out
}

func (f *Figures) add(o *Figures) {
	for _, x := range []struct{ sum, part cost.Amounts }{
		{f.AtRisk, o.AtRisk},
		{f.Losing, o.Losing},
		{f.Cost, o.Cost},
		{f.LastCost, o.LastCost},
		{f.Trend, o.Trend},
	} {
		for unit, d := range x.part {
			x.sum[unit] += d
		}
	}
}

// worst returns the services with most uncovered time in the week, sorted.
func worst(c *coverage.Report) []manifest.Ref {
	out := []manifest.Ref{}
	most := time.Duration(0)
	for i := range c.Services {
		d, err := time.ParseDuration(c.Services[i].Week.Uncovered)
		if err != nil {
			panic("BUG: portfolio: a span that is none: " + err.Error())
		}
		if d > most {
			most, out = d, out[:0]
		}
		if d == most && d > 0 {
			out = append(out, c.Services[i].Ref)
		}
	}
	slices.Sort(out)
	return out
}

// rank puts first what costs most this month, then what loses most now, in the unit that all can be compared in.
func rank(services []Service, g *servicemap.Graph) {
	values := make([]servicemap.Value, len(services))
	for i := range services {
		values[i] = g.BaseValue(services[i].Ref)
	}
	unit := servicemap.CommonUnit(values...)
	slices.SortStableFunc(services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(b.Cost[unit], a.Cost[unit]), cmp.Compare(b.Losing[unit], a.Losing[unit]))
	})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
