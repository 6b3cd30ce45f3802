// Package reason is the list of the questions that can be asked of a picture: the name of each, what it takes, and the
// answer as the API's JSON. The operator's command asks it of files and the collector of what it sees, so that an answer is
// the same either way.
//
// It works out nothing itself: that is done by the packages that it names. It is pure.
package reason

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/contact"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/simulate"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Args are what a question takes, by name. A question that does not know one of them refuses.
type Args map[string]string

// question answers out of a picture. Problems are mistakes in what the picture was drawn from, the error is one in the arguments.
type question struct {
	takes []string
	ask   func(p *picture.Picture, a Args) (any, []manifest.Problem, error)
}

var questions = map[string]question{
	"simulate":      {nil, simulation},
	"recovery-plan": {nil, recoveryPlan},
	"slo":           {nil, objectives},
	"contacts":      {[]string{"of"}, contacts},
	"times":         {nil, times},
}

// Answer returns the answer to a question as JSON, or what is wrong with what the picture was drawn from. Its error is about the name
// of the question or its arguments, in words for the asker.
func Answer(name string, p *picture.Picture, a Args) ([]byte, []manifest.Problem, error) {
	q, ok := questions[name]
	if !ok {
		return nil, nil, fmt.Errorf("%q is not a question: expected one of %s", name, strings.Join(slices.Sorted(maps.Keys(questions)), ", "))
	}
	for _, arg := range slices.Sorted(maps.Keys(a)) {
		if !slices.Contains(q.takes, arg) {
			return nil, nil, fmt.Errorf("%s: %q is not known here%s", name, arg, expected(q.takes))
		}
	}
	out, problems, err := q.ask(p, a)
	if err != nil || len(problems) > 0 {
		return nil, problems, err
	}
	b, err := json.Marshal(out)
	return b, nil, err
}

func expected(takes []string) string {
	if len(takes) == 0 {
		return ": it takes nothing"
	}
	return ": expected " + strings.Join(takes, ", ")
}

// FromFiles draws the picture of files and answers out of it.
func FromFiles(name string, files []manifest.File, opt picture.Options, a Args) ([]byte, []manifest.Problem, error) {
	p, problems := picture.FromFiles(files, opt)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	return Answer(name, p, a)
}

func simulation(p *picture.Picture, _ Args) (any, []manifest.Problem, error) {
	s, problems := simulate.Of(p)
	return s, problems, nil
}

func recoveryPlan(p *picture.Picture, _ Args) (any, []manifest.Problem, error) {
	plan, err := simulate.Recover(p)
	return plan, nil, err
}

func objectives(p *picture.Picture, _ Args) (any, []manifest.Problem, error) {
	r, problems := report.Of(p)
	return r, problems, nil
}

func contacts(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	if a["of"] == "" {
		return nil, nil, fmt.Errorf("of: say what is bad, such as component/web or host/web-1")
	}
	answer, err := contact.Who(p.Set, manifest.Ref(a["of"]), p.At, func(ref manifest.Ref) (contact.Hours, error) { return p.Calendar(ref) })
	if err != nil {
		return nil, nil, fmt.Errorf("of: %w", err)
	}
	return answer, nil, nil
}

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
