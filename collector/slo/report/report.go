// Package report reasons on files: from the SLOs among manifests, and a history where there is one, to what each of them
// promises, the burn rates that call, and how it stands. It is how an objective is reviewed before it is agreed on.
//
// It is pure: the same files and options always give the same bytes. It asks no collector, and it makes up no history.
package report

import (
	"fmt"
	"math"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Report is the answer. Spans of time are decimal strings of seconds, "2419.2s", exact to the nanosecond.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	At         string `json:"at"`
	SLOs       []SLO  `json:"slos"`
}

// SLO is one objective.
type SLO struct {
	Ref       manifest.Ref `json:"ref"`
	Title     string       `json:"title,omitempty"`
	Service   manifest.Ref `json:"service"`
	Objective string       `json:"objective"`
	Window    Window       `json:"window"`
	Method    string       `json:"method"`
	Slice     *Slice       `json:"slice"`
	Bad       string       `json:"bad"`
	Hours     manifest.Ref `json:"hours"` // empty: around the clock
	Excluded  string       `json:"excluded"`
	// Budget is the bad time that a whole window may hold if there is no maintenance in it.
	Budget     string      `json:"budget"`
	Burns      []Burn      `json:"burns"`
	Evaluation *Evaluation `json:"evaluation"` // null without history of the service
}

// Window is the one that holds the moment asked for; Period is its scheduled time.
type Window struct {
	Text   string `json:"text"` // rolling 28d, or month in Europe/Berlin
	From   string `json:"from"`
	To     string `json:"to"`
	Period string `json:"period"`
}

// Slice is how time is cut for the methods that count slices; Target is empty for the mean of them.
type Slice struct {
	Length string `json:"length"`
	Target string `json:"target,omitempty"`
}

// Spread is a value that is not known exactly: its two ends.
type Spread struct {
	Low  string `json:"low"`
	High string `json:"high"`
}

// Rate is a burn rate with both its ends.
type Rate struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Burn is one pair of windows. The last four are null without history.
type Burn struct {
	Long      string  `json:"long"`
	Short     string  `json:"short"`
	Share     string  `json:"share"` // of the budget that is gone when the long window calls
	Factor    float64 `json:"factor"`
	Call      string  `json:"call"`
	Reachable bool    `json:"reachable"`
	InLong    *Rate   `json:"inLong"`
	InShort   *Rate   `json:"inShort"`
	Firing    *string `json:"firing"`    // yes, no, or unknown
	Exhausted *Spread `json:"exhausted"` // scheduled time, or never
}

// Evaluation is how an objective stands.
type Evaluation struct {
	Since           string            `json:"since"` // the first that is known of the service: before it, it did not exist
	Scheduled       string            `json:"scheduled"`
	Good            string            `json:"good"`
	Bad             map[string]string `json:"bad"`
	Unsure          string            `json:"unsure"`
	Excluded        string            `json:"excluded"`
	BeforeExistence string            `json:"beforeExistence"`
	ToCome          string            `json:"toCome"`
	Up              Figures           `json:"up"`
	LeftOut         Figures           `json:"leftOut"`
	Outcome         string            `json:"outcome"` // under the convention in force
	Stretches       []Stretch         `json:"stretches"`
}

// Figures are those of one convention about maintenance; SLI is null where nothing counted yet.
type Figures struct {
	Counted string  `json:"counted"`
	SLI     *Spread `json:"sli"`
	Budget  string  `json:"budget"`
	Spent   Spread  `json:"spent"`
	Left    Spread  `json:"left"`
}

// Stretch is a bad or unsure stretch of the window.
type Stretch struct {
	From string `json:"from"`
	To   string `json:"to"`
	Part string `json:"part"`
}

// Of reports on every SLO of a picture. Where there are problems, the report is empty.
func Of(p *picture.Picture) (Report, []manifest.Problem) { return all(p, slo.Evaluate) }

// End is Of, but at the first moment of a calendar window it is about the one that has just ended.
func End(p *picture.Picture) (Report, []manifest.Problem) { return all(p, slo.EvaluateEnd) }

// evaluator is how an objective is evaluated.
type evaluator func(slo.Spec, slo.Hours, time.Time, []slo.Segment, time.Time) (slo.Result, []slo.Stretch, error)

func all(p *picture.Picture, evaluate evaluator) (Report, []manifest.Problem) {
	out := Report{APIVersion: manifest.APIVersion, Kind: "SLOReport", At: stamp(p.At), SLOs: []SLO{}}
	var problems []manifest.Problem
	for r, m := range manifest.Of[manifest.SLO](p.Set) {
		one, problem := of(p, r, m, evaluate)
		if problem != nil {
			problems = append(problems, *problem)
			continue
		}
		out.SLOs = append(out.SLOs, one)
	}
	if len(problems) > 0 {
		out.SLOs = []SLO{}
	}
	return out, problems
}

func of(p *picture.Picture, r *manifest.Resource, m *manifest.SLO, evaluate evaluator) (SLO, *manifest.Problem) {
	refuse := func(path, text string) (SLO, *manifest.Problem) {
		problem := r.ProblemAt(path, text, "")
		return SLO{}, &problem
	}
	spec, err := slo.Of(m)
	if err != nil {
		return refuse("spec", err.Error())
	}
	var hours slo.Hours
	if m.Hours != "" {
		if hours, err = p.Calendar(m.Hours); err != nil {
			return refuse("spec.hours", err.Error())
		}
	}
	history := p.States(m.Service)
	since := p.At
	if len(history) > 0 {
		since = history[0].From
	}
	res, stretches, err := evaluate(spec, hours, since, history, p.At)
	if err != nil {
		return refuse("spec", err.Error())
	}
	out := SLO{
		Ref: r.Ref(), Title: m.Title, Service: m.Service, Objective: text(m.Objective), Method: m.MethodInForce(), Bad: m.BadFrom().String(),
		Hours: m.Hours, Excluded: m.ExcludedInForce(), Budget: slo.Seconds(spec.Allowance(res.Period)), Burns: []Burn{},
		Window: Window{Text: window(m.Window), From: stamp(res.From), To: stamp(res.To), Period: slo.Seconds(res.Period)},
	}
	if m.Slice != nil {
		out.Slice = &Slice{Length: slo.Seconds(m.Slice.Length.Std())}
		if m.Slice.Target != nil {
			out.Slice.Target = text(*m.Slice.Target)
		}
	}
	for i := range res.Burns {
		out.Burns = append(out.Burns, burn(&res.Burns[i], len(history) > 0))
	}
	if len(history) > 0 {
		out.Evaluation = evaluation(&res, since, stretches)
	}
	return out, nil
}

func burn(b *slo.Burn, known bool) Burn {
	out := Burn{
		Long: slo.Seconds(b.Long), Short: slo.Seconds(b.Short), Share: fmt.Sprintf("%d%%", b.Share), Factor: round(b.Factor), Call: b.Call, Reachable: b.Reachable,
	}
	if !known {
		return out
	}
	firing := "no"
	switch {
	case b.Firing:
		firing = "yes"
	case b.MayFire:
		firing = "unknown"
	}
	out.Firing = &firing
	out.InLong, out.InShort = &Rate{round(b.InLong.Low), round(b.InLong.High)}, &Rate{round(b.InShort.Low), round(b.InShort.High)}
	out.Exhausted = &Spread{orNever(b.Exhausted.Low), orNever(b.Exhausted.High)}
	return out
}

func evaluation(res *slo.Result, since time.Time, stretches []slo.Stretch) *Evaluation {
	t := res.Time
	out := &Evaluation{
		Since: stamp(since), Scheduled: slo.Seconds(t.Scheduled), Good: slo.Seconds(t.Good), Unsure: slo.Seconds(t.Unsure), Excluded: slo.Seconds(t.Excluded),
		Bad: map[string]string{
			"own": slo.Seconds(t.Bad.Own), "upstream": slo.Seconds(t.Bad.Upstream), "vendor": slo.Seconds(t.Bad.Vendor),
			"planned": slo.Seconds(t.Bad.Planned), "unknown": slo.Seconds(t.Bad.Unknown),
		},
		BeforeExistence: slo.Seconds(t.BeforeExistence), ToCome: slo.Seconds(res.ToCome),
		Up: figures(res.Up), LeftOut: figures(res.LeftOut), Outcome: res.InForce().Outcome, Stretches: []Stretch{},
	}
	for _, s := range stretches {
		out.Stretches = append(out.Stretches, Stretch{stamp(s.From), stamp(s.To), s.Part})
	}
	return out
}

func figures(f slo.Figures) Figures {
	out := Figures{Counted: slo.Seconds(f.Counted), Budget: slo.Seconds(f.Budget), Spent: spread(f.Spent), Left: spread(f.Left)}
	if f.Counted > 0 {
		out.SLI = &Spread{f.SLILow.String() + "%", f.SLIHigh.String() + "%"}
	}
	return out
}

func spread(s slo.Spread) Spread { return Spread{slo.Seconds(s.Low), slo.Seconds(s.High)} }

func window(w manifest.SLOWindow) string {
	if w.Calendar == "" {
		return "rolling " + w.Rolling.String()
	}
	if w.Timezone == "" {
		return w.Calendar + " in UTC"
	}
	return w.Calendar + " in " + w.Timezone
}

func text(s manifest.Share) string {
	b, _ := s.MarshalText() // it has no error
	return string(b)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }

func orNever(d time.Duration) string {
	if d == slo.Never {
		return "never"
	}
	return slo.Seconds(d)
}
