package reason

import (
	"errors"
	"slices"

	"github.com/evenkeel/evenkeel/collector/change"
	"github.com/evenkeel/evenkeel/collector/effectiveness"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/warning"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// review takes outcomes as CSV.
func review(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	var events []effectiveness.Event
	if name, text, ok := file(a, "outcomes"); ok {
		var problems []manifest.Problem
		if events, problems = effectiveness.Read(p, name, text); len(problems) > 0 {
			return nil, problems, nil
		}
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
	if !measured && !told {
		return nil, nil, errors.New("series: say what was measured, or what is foreseen")
	}
	out, err := warning.Of(p, series, forecasts)
	return out, nil, err
}
