// Package report is the account of a month, for one service or for all: how available each was and by whose doing it was not, its
// objectives, what it cost and which causes did, its incidents, who supports it, what was promised; and what is not known.
//
// It is pure and works out nothing of its own that another package has. It never fills a gap with a guess: what is missing is named.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/agreement"
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/coverage"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	objectives "github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/document"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Options say what the report is of.
type Options struct {
	// Service is the one that it is about; empty for all.
	Service manifest.Ref
	// Month is a moment in the month; that of the picture where it is zero.
	Month time.Time
	Zone  *time.Location
	// Incidents are those that are known, Faults what was bad by itself; nil where nobody knows.
	Incidents []agreement.Incident
	Faults    []cost.Fault
}

// Report is the answer. Spans are decimal strings of seconds, times RFC 3339, amounts decimal strings by unit.
type Report struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	At         string       `json:"at"` // the moment up to which it reaches
	Service    manifest.Ref `json:"service"`
	Month      string       `json:"month"` // 2026-11
	Timezone   string       `json:"timezone"`
	From       string       `json:"from"`
	To         string       `json:"to"`
	Complete   bool         `json:"complete"` // the month is over
	Services   []Service    `json:"services"`
	// Cost is that of the services together, each loss counted once at the uppermost service that has it.
	Cost   cost.Amounts `json:"cost"`
	Causes []Causes     `json:"causes"` // by unit; empty where no faults are known
	// Agreements and Coverage are as the verbs of that name tell them; the latter looks ahead from the moment of the question.
	Agreements []agreement.Agreement `json:"agreements"`
	Coverage   []coverage.Service    `json:"coverage"`
	Incidents  []Incident            `json:"incidents"`
	Unknown    []string              `json:"unknown"`
}

// Service is one service in the month.
type Service struct {
	Ref          manifest.Ref     `json:"ref"`
	Title        string           `json:"title,omitempty"`
	Owner        manifest.Ref     `json:"owner"`
	Criticality  int              `json:"criticality"`
	Availability *Availability    `json:"availability"` // null where there is no history of it
	SLOs         []objectives.SLO `json:"slos"`
	Cost         cost.Amounts     `json:"cost"` // what is counted at it
	Incidents    int              `json:"incidents"`
	// Repair is the mean time from the opening to the resolution of its incidents that are over; empty where there is none.
	Repair string `json:"repair"`
}

// Availability is where the time of a service went. Good, the parts of Bad, and Unsure add up to Counted.
type Availability struct {
	Since   string             `json:"since"` // the first that is known of it
	Counted string             `json:"counted"`
	Good    string             `json:"good"`
	Bad     map[string]string  `json:"bad"`    // own, upstream, vendor, planned, unknown: at major or worse
	Unsure  string             `json:"unsure"` // not known whether it was bad
	Up      *objectives.Spread `json:"up"`     // percent of the time, maintenance as time up: unsure read as bad, and as good
}

// Causes is the cost of a month by cause, in one unit.
type Causes struct {
	Unit   string  `json:"unit"`
	Method string  `json:"method"` // shapley or repair order
	Total  string  `json:"total"`
	Shares []Share `json:"shares"` // the costliest first
	// Planned is what the history cost in planned time, which belongs to no cause.
	Planned string `json:"planned"`
	// Unexplained is what the history cost beyond both: below 0 where the faults should have cost more than was seen.
	Unexplained string `json:"unexplained"`
}

// Share is what one cause cost.
type Share struct {
	Ref  manifest.Ref `json:"ref"`
	Cost string       `json:"cost"`
}

// Incident is one that was opened in the month; Acknowledged and Resolved are empty where that has not been.
type Incident struct {
	ID           string         `json:"id"`
	Services     []manifest.Ref `json:"services"`
	Priority     int            `json:"priority"`
	Opened       string         `json:"opened"`
	Acknowledged string         `json:"acknowledged"`
	Resolved     string         `json:"resolved"`
}

// Of makes the report of a picture. Problems are mistakes in the manifests, the error is one in the options, in words for the asker.
func Of(p *picture.Picture, opt Options) (Report, []manifest.Problem, error) {
	if opt.Month.IsZero() {
		opt.Month = p.At
	}
	y, m, _ := opt.Month.In(opt.Zone).Date()
	from, end := time.Date(y, m, 1, 0, 0, 0, 0, opt.Zone), time.Date(y, m+1, 1, 0, 0, 0, 0, opt.Zone)
	if !from.Before(p.At) {
		return Report{}, nil, fmt.Errorf("month: %s has not begun", from.Format("2006-01"))
	}
	if opt.Service != "" {
		if _, ok := manifest.SpecOf[manifest.Service](p.Set, opt.Service); !ok {
			return Report{}, nil, fmt.Errorf("service: %s is not there", opt.Service)
		}
	}
	q := *p // as things stood when the month ended
	if end.Before(p.At) {
		q.At = end
	}
	w := &work{p: p, q: &q, opt: opt, from: from}
	out := Report{
		APIVersion: manifest.APIVersion, Kind: "ServiceReport", At: stamp(q.At), Service: opt.Service, Month: from.Format("2006-01"),
		Timezone: opt.Zone.String(), From: stamp(from), To: stamp(end), Complete: !end.After(p.At),
		Services: []Service{}, Causes: []Causes{}, Incidents: []Incident{}, Unknown: []string{},
	}
	problems, err := w.fill(&out)
	return out, problems, err
}

type work struct {
	p, q      *picture.Picture // now, and at the end of the month or now
	opt       Options
	from      time.Time
	incidents []agreement.Incident // of the month and of the services that the report is about
}

// about reports whether a service is one that the report is of.
func (w *work) about(ref manifest.Ref) bool { return w.opt.Service == "" || ref == w.opt.Service }

func (w *work) fill(out *Report) ([]manifest.Problem, error) {
	slos, problems := objectives.End(w.q)
	if len(problems) > 0 {
		return problems, nil
	}
	for _, i := range w.opt.Incidents {
		if w.about(i.Service) && !i.Opened.Before(w.from) && i.Opened.Before(w.q.At) {
			w.incidents = append(w.incidents, i)
		}
	}
	g := w.p.Map.Graph()
	bills := cost.Bills(g, cost.History(g, w.q.Rows(), w.from, w.q.At), w.q.At)
	for r, spec := range manifest.Of[manifest.Service](w.p.Set) {
		if !w.about(r.Ref()) {
			continue
		}
		s, err := w.service(r.Ref(), spec, slos.SLOs)
		if err != nil {
			return nil, err
		}
		s.Cost = cost.OfService(bills, r.Ref())
		out.Services = append(out.Services, s)
	}
	out.Cost = cost.Totals(bills)
	if w.opt.Service != "" {
		out.Cost = out.Services[0].Cost
	}
	w.causes(out, bills)
	w.listed(out)
	judged, err := agreement.Of(w.q, w.incidents)
	if err != nil {
		return nil, err
	}
	out.Agreements = slices.DeleteFunc(judged.Agreements, func(a agreement.Agreement) bool { return !slices.ContainsFunc(a.Services, w.about) })
	support, err := coverage.Of(w.p)
	if err != nil {
		return nil, err
	}
	out.Coverage = slices.DeleteFunc(support.Services, func(s coverage.Service) bool { return !w.about(s.Ref) })
	w.unknown(out, judged.Uncovered)
	return nil, nil
}

func (w *work) service(ref manifest.Ref, spec *manifest.Service, slos []objectives.SLO) (Service, error) {
	s := Service{Ref: ref, Title: spec.Title, Owner: spec.Owner, Criticality: spec.Criticality, SLOs: []objectives.SLO{}}
	for _, o := range slos {
		if o.Service == ref {
			s.SLOs = append(s.SLOs, o)
		}
	}
	var sum time.Duration
	over := 0
	for _, i := range w.incidents {
		if i.Service != ref {
			continue
		}
		s.Incidents++
		if !i.Resolved.IsZero() && !i.Resolved.After(w.q.At) {
			over++
			sum += i.Resolved.Sub(i.Opened)
		}
	}
	if over > 0 {
		s.Repair = slo.Seconds((sum / time.Duration(over)).Round(time.Second))
	}
	var err error
	s.Availability, err = w.availability(ref)
	return s, err
}

// availability is that of the month as a window, bad from major on.
func (w *work) availability(ref manifest.Ref) (*Availability, error) {
	history := w.q.States(ref)
	if len(history) == 0 || !history[0].From.Before(w.q.At) {
		return nil, nil
	}
	spec := slo.Spec{Objective: 500_000, Rolling: w.q.At.Sub(w.from), Bad: health.Major} // of the objective nothing is told
	r, _, err := slo.Evaluate(spec, nil, history[0].From, history, w.q.At)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	t := r.Time
	out := &Availability{
		Since: stamp(history[0].From), Counted: slo.Seconds(t.Scheduled), Good: slo.Seconds(t.Good), Unsure: slo.Seconds(t.Unsure),
		Bad: map[string]string{
			"own": slo.Seconds(t.Bad.Own), "upstream": slo.Seconds(t.Bad.Upstream), "vendor": slo.Seconds(t.Bad.Vendor),
			"planned": slo.Seconds(t.Bad.Planned), "unknown": slo.Seconds(t.Bad.Unknown),
		},
	}
	if r.Up.Counted > 0 {
		out.Up = &objectives.Spread{Low: r.Up.SLILow.String() + "%", High: r.Up.SLIHigh.String() + "%"}
	}
	return out, nil
}

// causes divides the cost among the faults that are known, in each unit.
func (w *work) causes(out *Report, bills map[string]cost.Bill) {
	if len(w.opt.Faults) == 0 || w.opt.Service != "" {
		return
	}
	g := w.p.Map.Graph()
	for _, unit := range cost.Units(g) {
		a := cost.Attribute(g, w.opt.Faults, w.from, w.q.At, unit)
		planned := bills[unit].Planned
		c := Causes{
			Unit: unit, Method: a.Method, Total: a.Total.String(), Shares: []Share{},
			Planned: planned.String(), Unexplained: (out.Cost[unit] - a.Total - planned).String(),
		}
		slices.SortStableFunc(a.Shares, func(x, y cost.Item) int { return cmp.Compare(y.Cost, x.Cost) })
		for _, x := range a.Shares {
			c.Shares = append(c.Shares, Share{x.Ref, x.Cost.String()})
		}
		out.Causes = append(out.Causes, c)
	}
}

// listed lists the incidents, each once with all its services.
func (w *work) listed(out *Report) {
	at := map[string]int{}
	for _, i := range w.incidents {
		k, seen := at[i.ID]
		if !seen {
			k = len(out.Incidents)
			at[i.ID] = k
			out.Incidents = append(out.Incidents, Incident{
				ID: i.ID, Priority: i.Priority, Opened: stamp(i.Opened), Acknowledged: orEmpty(i.Acknowledged), Resolved: orEmpty(i.Resolved),
			})
		}
		out.Incidents[k].Services = append(out.Incidents[k].Services, i.Service)
		out.Incidents[k].Priority = min(out.Incidents[k].Priority, i.Priority)
	}
	slices.SortStableFunc(out.Incidents, func(a, b Incident) int { return cmp.Or(cmp.Compare(a.Opened, b.Opened), cmp.Compare(a.ID, b.ID)) })
}

// unknown names what the report does not know.
func (w *work) unknown(out *Report, unpromised []manifest.Ref) {
	tell := func(format string, args ...any) { out.Unknown = append(out.Unknown, fmt.Sprintf(format, args...)) }
	for i := range out.Services {
		s := &out.Services[i]
		switch a := s.Availability; {
		case a == nil:
			tell("%s has no history: its availability and its cost are not known, and nothing was counted for it", s.Ref)
		case a.Since > out.From:
			tell("%s is first heard of at %s: before, nothing was counted for it", s.Ref, a.Since)
		}
		if a := s.Availability; a != nil && a.Unsure != "0s" {
			tell("for %s in all it is not known whether %s was bad: that cost nothing here", human(a.Unsure), s.Ref)
		}
		if a := s.Availability; a != nil && a.Bad["unknown"] != "0s" {
			tell("for %s %s was bad and nobody knows by whose doing", human(a.Bad["unknown"]), s.Ref)
		}
		if !w.p.Map.Graph().BaseValue(s.Ref).Ranked {
			tell("%s has neither a value nor a criticality: what it costs is not known", s.Ref)
		}
		if s.Owner == "" {
			tell("%s has no owner", s.Ref)
		}
	}
	if len(w.opt.Faults) == 0 && w.opt.Service == "" {
		tell("no faults are known, so the cost is not divided among causes")
	}
	if w.opt.Incidents == nil {
		tell("no incidents are known")
	}
	for _, ref := range unpromised {
		tell("%s had incidents, and nothing was promised for it", ref)
	}
}

func human(seconds string) string { return document.Span(seconds) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func orEmpty(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
