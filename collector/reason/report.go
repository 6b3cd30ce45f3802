package reason

import (
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/report"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// reportOf takes service, month (2026-11), timezone, incidents and faults as CSV (those on record where they are missing), and form: document
// for the report as a reader sees it.
func reportOf(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	zone, err := zoneOf(a)
	if err != nil {
		return nil, nil, err
	}
	opt := report.Options{Service: manifest.Ref(a["service"]), Zone: zone, Faults: report.KnownFaults(p)}
	if a["month"] != "" {
		if opt.Month, err = time.ParseInLocation("2006-01", a["month"], zone); err != nil {
			return nil, nil, fmt.Errorf("month: %q is not a month: expected such as 2026-11", a["month"])
		}
	}
	document, err := asDocument(a)
	if err != nil {
		return nil, nil, err
	}
	var problems, more []manifest.Problem
	opt.Incidents, problems = incidentsOf(p, a)
	if name, text, ok := file(a, "faults"); ok {
		opt.Faults, more = report.ReadFaults(p, name, text)
	}
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, problems, nil
	}
	out, problems, err := report.Of(p, opt)
	if err != nil || len(problems) > 0 || !document {
		return out, problems, err
	}
	return out.Document(), nil, nil
}
