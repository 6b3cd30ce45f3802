package reason

import (
	"errors"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/change"
	"github.com/evenkeel/evenkeel/collector/effectiveness"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/warning"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// review takes outcomes as CSV.
func review(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	var events []effectiveness.Event
	for _, o := range p.Outcomes {
		events = append(events, effectiveness.Event{Item: string(o.Item), At: o.At, What: o.What})
	}
	for _, c := range p.Confirmations {
		events = append(events, effectiveness.Event{Item: string(c.Item), At: c.At, What: effectiveness.Confirmed, By: c.By, Note: c.Note})
	}
	if name, text, ok := file(a, "outcomes"); ok {
		var problems []manifest.Problem
		var more []effectiveness.Event
		if more, problems = effectiveness.Read(p, name, text); len(problems) > 0 {
			return nil, problems, nil
		}
		events = append(events, more...)
	}
	return effectiveness.Of(p, events, effectiveness.Defaults()), nil, nil
}

// changes takes those that were declared or observed as CSV, beside those on record.
func changes(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	if name, text, ok := file(a, "changes"); ok {
		more, problems := change.Read(p, name, text)
		if len(problems) > 0 {
			return nil, problems, nil
		}
		q := *p
		q.Changes = slices.Concat(p.Changes, more)
		p = &q
	}
	out, err := change.Of(p)
	return out, nil, err
}

// Early is how far ahead the collector's own trends warn.
const early = 7 * 24 * time.Hour

// running returns the trends of a picture that lead to their limits for sure: with 95 % certainty, and by a week from now.
func running(p *picture.Picture) []warning.Series {
	var out []warning.Series
	for _, t := range p.Trends {
		s := warning.Series{Ref: t.Ref, Name: t.Name, Limit: t.Limit, Above: t.Above}
		for _, r := range t.Points {
			s.Points = append(s.Points, warning.Point{At: r.At, Value: r.Value})
		}
		trend, ok := warning.TrendOf(s.Points, p.At)
		if !ok {
			continue
		}
		if _, hi := trend.Until(s.Limit, s.Above); hi <= early {
			out = append(out, s)
		}
	}
	return out
}

// warnings takes series and forecasts as CSV, at least one of them.
func warnings(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	var series []warning.Series
	var forecasts []warning.Forecast
	var problems, more []manifest.Problem
	name, text, measured := file(a, "series")
	if measured {
		series, problems = warning.ReadSeries(p, name, text)
	}
	name, text, told := file(a, "forecasts")
	if told {
		forecasts, more = warning.ReadForecasts(p, name, text)
	}
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, problems, nil
	}
	switch {
	case measured || told:
	case p.Trends == nil:
		return nil, nil, errors.New("series: say what was measured, or what is foreseen")
	default:
		series = running(p)
	}
	out, err := warning.Of(p, series, forecasts)
	return out, nil, err
}
