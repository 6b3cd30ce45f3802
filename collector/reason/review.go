package reason

import (
	"cmp"
	"errors"
	"fmt"

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

// changes takes observed changes as CSV, beside those of the picture.
func changes(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	var seen []change.Observed
	for _, c := range p.Changes {
		what := c.What
		if c.Before != "" || c.After != "" {
			what = fmt.Sprintf("%s: %s to %s", c.What, cmp.Or(c.Before, "nothing"), cmp.Or(c.After, "nothing"))
		}
		for _, ref := range c.Refs {
			seen = append(seen, change.Observed{On: ref, Kind: c.Kind, At: c.At, What: what})
		}
	}
	if name, text, ok := file(a, "changes"); ok {
		var problems []manifest.Problem
		var more []change.Observed
		if more, problems = change.Read(p, name, text); len(problems) > 0 {
			return nil, problems, nil
		}
		seen = append(seen, more...)
	}
	out, err := change.Of(p, seen)
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
