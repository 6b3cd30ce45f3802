package reason

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Ledger is how the objectives stood when months ended, as it was sealed then.
type Ledger struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	At         string        `json:"at"`
	Months     []LedgerMonth `json:"months"` // oldest first
	// Report is how each objective stood at the end of the month that was asked for, as the question slo tells it; null where none was.
	Report *report.Report `json:"report"`
}

// LedgerMonth is one month.
type LedgerMonth struct {
	Month string `json:"month"`
	// Objectives are counted, and by their outcome: met, missed, or unknown.
	Objectives int `json:"objectives"`
	Met        int `json:"met"`
	Missed     int `json:"missed"`
	Unknown    int `json:"unknown"`
	// Intact says that the record and the history beneath it are those whose sums the audit log has; Fault what is not.
	Intact bool   `json:"intact"`
	Fault  string `json:"fault"`
}

// ledger takes month (2026-10); without it, all are listed.
func ledger(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	if p.Months == nil {
		return nil, nil, errors.New("the ledger is kept by the collector: ask it without -f")
	}
	out := Ledger{APIVersion: manifest.APIVersion, Kind: "Ledger", At: p.At.UTC().Format(time.RFC3339), Months: []LedgerMonth{}}
	asked := a["month"]
	for _, m := range p.Months {
		if asked != "" && m.Name != asked {
			continue
		}
		row := LedgerMonth{Month: m.Name, Intact: m.Fault == "", Fault: m.Fault}
		var r report.Report
		if len(m.Report) > 0 {
			if err := json.Unmarshal(m.Report, &r); err != nil {
				row.Intact, row.Fault = false, "its record cannot be read: "+err.Error()
			}
		}
		for _, s := range r.SLOs {
			row.Objectives++
			switch {
			case s.Evaluation == nil, s.Evaluation.Outcome == slo.Undecided:
				row.Unknown++
			case s.Evaluation.Outcome == slo.Met:
				row.Met++
			default:
				row.Missed++
			}
		}
		out.Months = append(out.Months, row)
		if asked != "" && len(m.Report) > 0 {
			out.Report = &r
		}
	}
	if asked != "" && len(out.Months) == 0 {
		return nil, nil, fmt.Errorf("month: %q is not in the ledger: expected a month that is over, such as 2026-10", asked)
	}
	return out, nil, nil
}
