package reason

import (
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Times is how long incidents took, by service and by cause. Spans are those of Go, "1h2m3s"; empty where there is none to tell.
type Times struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	At         string `json:"at"`
	Services   []Took `json:"services"`
	Causes     []Took `json:"causes"`
}

// Took is how long the incidents of one service or cause took.
type Took struct {
	Ref         string `json:"ref"`
	Incidents   int    `json:"incidents"`
	Detect      string `json:"detect"`      // mean from the first sign to the opening
	Acknowledge string `json:"acknowledge"` // mean from there until somebody took it on
	Restore     string `json:"restore"`     // mean until it was over, without the time on hold
	Median      string `json:"median"`      // of the same; what the planner of repairs takes from three on
}

func times(p *picture.Picture, _ Args) (any, []manifest.Problem, error) {
	return Times{manifest.APIVersion, "IncidentTimes", p.At.UTC().Format(time.RFC3339), took(incident.ByService(p.Incidents)), took(incident.ByCause(p.Incidents))}, nil, nil
}

func took(all []incident.Times) []Took {
	out := make([]Took, len(all))
	for i, t := range all {
		out[i] = Took{t.Ref, t.Count, span(t.Detect, t.Detected), span(t.Acknowledge, t.Acknowledged), span(t.Restore, t.Restored), span(t.Median, t.Restored)}
	}
	return out
}

func span(d time.Duration, of int) string {
	if of == 0 {
		return ""
	}
	return d.Round(time.Millisecond).String()
}
