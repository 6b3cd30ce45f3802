// Package whatif says what a change costs before it is made: parts taken out or levels set over a window, and what becomes of the
// services, of the value of each hour, and of the error budgets; and the cheapest window in a horizon in which it can be done.
//
// It is pure and works on copies: the picture that it is asked about stays as it is. It supposes that what is bad now stays so, that
// nothing else breaks, and that maintenance takes place as declared.
package whatif

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// MaxHorizon is how far ahead a window is looked for, and how long one may be.
const MaxHorizon = 366 * 24 * time.Hour

// Options say what is done, and when.
type Options struct {
	// Take are parts that are out for the window; a host takes with it what runs on it.
	Take []manifest.Ref
	// Set fixes levels for the window, as picture.Options has it.
	Set map[string]string
	// From is when it begins, For how long it lasts.
	From time.Time
	For  time.Duration
	// Horizon is how far ahead of the moment of the picture a better window is looked for; 0 looks for none.
	Horizon time.Duration
	// Change is the declared change that this is about; it is no conflict with itself. Empty where there is none.
	Change manifest.Ref
}

// Answer is what a change does. Times are RFC 3339, spans decimal strings of seconds.
type Answer struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	At         string            `json:"at"`
	From       string            `json:"from"`
	To         string            `json:"to"`
	Out        []manifest.Ref    `json:"out"` // what is critical for the window, a host's components included
	Set        map[string]string `json:"set"`
	Services   []Service         `json:"services"` // those whose health changes, sorted
	Window                       // the one that was asked about
	// Cheapest is the feasible window in the horizon that costs least, the earliest of several; null where none was looked for or none
	// is feasible. Horizon tells which.
	Cheapest *Cheapest `json:"cheapest"`
	Horizon  string    `json:"horizon"` // empty where none was looked for
}

// Window is what the change does in one window.
type Window struct {
	// Lost is what is lost on top of what is lost anyway, by unit; a loss is counted once, where it reaches the business.
	Lost cost.Amounts `json:"lost"`
	// Anyway is what is lost in the window without the change.
	Anyway    cost.Amounts `json:"anyway"`
	Budgets   []Budget     `json:"budgets"`
	Conflicts []Conflict   `json:"conflicts"`
	// Feasible says that there is no conflict and no error budget is overspent by it; Why not stands in Reasons.
	Feasible bool     `json:"feasible"`
	Reasons  []string `json:"reasons"`
}

// Service is what becomes of one.
type Service struct {
	Ref    manifest.Ref `json:"ref"`
	Title  string       `json:"title,omitempty"`
	States []State      `json:"states"` // in order; more than one where maintenance begins or ends in the window
	// Lost is what is counted at this service on top of what is lost anyway; below 0 where a service above it now counts it.
	Lost cost.Amounts `json:"lost"`
}

// State is a stretch of the window: Before is the health without the change, During with it.
type State struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Before Span   `json:"before"`
	During Span   `json:"during"`
	Why    string `json:"why"`
}

// Span is a health: both ends.
type Span struct {
	Low  health.Level `json:"low"`
	High health.Level `json:"high"`
}

// Conflict is something planned that touches the same parts or services at the same time.
type Conflict struct {
	Ref  manifest.Ref `json:"ref"`
	From string       `json:"from"`
	To   string       `json:"to"`
	Text string       `json:"text"`
}

// Cheapest is the cheapest window.
type Cheapest struct {
	From string `json:"from"`
	To   string `json:"to"`
	Window
	// Saves is what it saves against the window that was asked about.
	Saves cost.Amounts `json:"saves"`
	// Unit is that in which windows were compared.
	Unit string `json:"unit"`
	// Exact says that no feasible start costs less. It is false where an objective counts time slices, whose budget was looked at at the
	// starts at which something changes.
	Exact bool `json:"exact"`
}

// Of answers. Its error is one in the options, in words for the asker.
func Of(p *picture.Picture, opt Options) (Answer, error) {
	w, err := newWork(p, opt)
	if err != nil {
		return Answer{}, err
	}
	out := Answer{
		APIVersion: manifest.APIVersion, Kind: "WhatIf", At: stamp(p.At), From: stamp(opt.From), To: stamp(opt.From.Add(opt.For)),
		Out: w.out, Set: opt.Set, Services: []Service{},
	}
	if out.Set == nil {
		out.Set = map[string]string{}
	}
	var during, base map[string]cost.Bill
	if out.Window, during, base, err = w.window(opt.From); err != nil {
		return Answer{}, err
	}
	for _, ref := range w.changed {
		states := w.states(ref)
		if len(states) == 0 {
			continue
		}
		out.Services = append(out.Services, Service{
			Ref: ref, Title: w.title(ref), States: states, Lost: cost.OfService(during, ref).Minus(cost.OfService(base, ref)),
		})
	}
	if opt.Horizon == 0 {
		return out, nil
	}
	out.Horizon = stamp(p.At.Add(opt.Horizon))
	out.Cheapest, err = w.cheapest(&out.Window)
	return out, err
}

// work is one question.
type work struct {
	p          *picture.Picture
	opt        Options
	out        []manifest.Ref
	phases     []phase
	changed    []manifest.Ref // services whose health differs in some phase, sorted
	objectives []objective
	busy       []busy
}

func newWork(p *picture.Picture, opt Options) (*work, error) {
	switch {
	case len(opt.Take) == 0 && len(opt.Set) == 0:
		return nil, errors.New("take: say what is taken out, such as component/web@web-1, or set a level")
	case opt.For <= 0 || opt.For > MaxHorizon:
		return nil, fmt.Errorf("for: expected more than nothing and up to %s", manifest.Duration(MaxHorizon))
	case opt.From.Before(p.At):
		return nil, fmt.Errorf("from: %s lies before the moment of the question, %s", stamp(opt.From), stamp(p.At))
	case opt.From.Sub(p.At) > MaxHorizon:
		return nil, fmt.Errorf("from: %s lies more than %s ahead", stamp(opt.From), manifest.Duration(MaxHorizon))
	case opt.Horizon != 0 && (opt.Horizon < opt.For || opt.Horizon > MaxHorizon):
		return nil, fmt.Errorf("horizon: expected at least the length of the window, %s, and up to %s", manifest.Duration(opt.For), manifest.Duration(MaxHorizon))
	}
	w := &work{p: p, opt: opt}
	var err error
	if w.out, err = p.Out(opt.Take...); err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	levels := maps.Clone(opt.Set)
	if levels == nil {
		levels = map[string]string{}
	}
	for _, ref := range w.out {
		if word, twice := levels[string(ref)]; twice {
			return nil, fmt.Errorf("levels: %s is taken out and set to %s: say one of both", ref, word)
		}
		levels[string(ref)] = health.Critical.String()
	}
	if err := w.cut(levels); err != nil {
		return nil, err
	}
	if w.objectives, err = w.affected(); err != nil {
		return nil, err
	}
	w.busy, err = w.planned(levels)
	return w, err
}

// window works out one start in full.
func (w *work) window(start time.Time) (out Window, during, base map[string]cost.Bill, err error) {
	g, end := w.p.Map.Graph(), start.Add(w.opt.For)
	during, base = cost.Bills(g, w.segments(true, start, end), end), cost.Bills(g, w.segments(false, start, end), end)
	out = Window{Budgets: []Budget{}, Conflicts: []Conflict{}, Reasons: []string{}}
	out.Anyway = cost.Totals(base)
	out.Lost = cost.Totals(during).Minus(out.Anyway)
	for i := range w.objectives {
		o := &w.objectives[i]
		stands, err := w.stand(o, start)
		if err != nil {
			return Window{}, nil, nil, err
		}
		for _, s := range stands {
			out.Budgets = append(out.Budgets, s.budget(o))
			if s.spent().High > 0 && s.with.InForce().Left.Low < 0 {
				out.Reasons = append(out.Reasons, fmt.Sprintf("the error budget of %s would be overspent", o.ref))
			}
		}
	}
	for _, b := range w.busy {
		if b.from.Before(end) && b.to.After(start) {
			out.Conflicts = append(out.Conflicts, Conflict{b.ref, stamp(b.from), stamp(b.to), b.text})
			out.Reasons = append(out.Reasons, fmt.Sprintf("it meets %s: %s", b.ref, b.text))
		}
	}
	out.Feasible = len(out.Reasons) == 0
	return out, during, base, nil
}

// unit returns that in which windows are compared.
func (w *work) unit() string {
	var values []servicemap.Value
	for _, ref := range w.changed {
		values = append(values, w.p.Map.Graph().BaseValue(ref))
	}
	return servicemap.CommonUnit(values...)
}

// loss returns what is lost on top of what is lost anyway when it begins at a moment.
func (w *work) loss(start time.Time, unit string) manifest.Decimal {
	g, end := w.p.Map.Graph(), start.Add(w.opt.For)
	rates := func(ref manifest.Ref) (cost.Rate, bool) { return cost.RateOf(g.BaseValue(ref), unit) }
	return cost.Of(w.segments(true, start, end), end, rates).Total - cost.Of(w.segments(false, start, end), end, rates).Total
}

// calendars returns those of the value of everything that is bad with or without the change.
func (w *work) calendars() []*calendar.Calendar {
	var out []*calendar.Calendar
	if len(w.phases) == 0 {
		return nil
	}
	for _, s := range w.phases[0].with { // the services are the same in all of them
		if c := w.p.Map.Graph().BaseValue(s.Ref).Calendar(); c != nil && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
