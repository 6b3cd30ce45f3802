package reason

import (
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/agreement"
	"github.com/evenkeel/evenkeel/collector/coverage"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/portfolio"
	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func supportCoverage(p *picture.Picture, _ Args) (any, []manifest.Problem, error) {
	out, err := coverage.Of(p)
	return out, nil, err
}

// portfolioOf takes the zone of the months, UTC where it is missing, and form: document for the portfolio as a reader sees it.
func portfolioOf(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	zone, err := zoneOf(a)
	if err != nil {
		return nil, nil, err
	}
	document, err := asDocument(a)
	if err != nil {
		return nil, nil, err
	}
	out, problems, err := portfolio.Of(p, zone)
	if err != nil || len(problems) > 0 || !document {
		return out, problems, err
	}
	return out.Document(), nil, nil
}

// asDocument reports whether the answer is wanted as a document.
func asDocument(a Args) (bool, error) {
	switch form := a["form"]; form {
	case "":
		return false, nil
	case "document":
		return true, nil
	default:
		return false, fmt.Errorf("form: %q is not a form: expected document, or nothing", form)
	}
}

func zoneOf(a Args) (*time.Location, error) {
	if a["timezone"] == "" {
		return time.UTC, nil
	}
	zone, err := civil.Zone(a["timezone"])
	if err != nil {
		return nil, fmt.Errorf("timezone: %w", err)
	}
	return zone, nil
}

// agreements takes incidents as CSV; those on record where there is none.
func agreements(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	incidents, problems := incidentsOf(p, a)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	out, err := agreement.Of(p, incidents)
	return out, nil, err
}

func incidentsOf(p *picture.Picture, a Args) ([]agreement.Incident, []manifest.Problem) {
	name, text, ok := file(a, "incidents")
	if !ok {
		return agreement.Known(p), nil
	}
	return agreement.Read(p, name, text)
}

// file returns the text of a file that an argument holds, and what to call it: NAME.file says, or else the argument.
func file(a Args, arg string) (name string, text []byte, ok bool) {
	s, ok := a[arg]
	if name = a[arg+".file"]; name == "" {
		name = arg
	}
	return name, []byte(s), ok
}
