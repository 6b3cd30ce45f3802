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

	"github.com/evenkeel/evenkeel/collector/explain"
	"github.com/evenkeel/evenkeel/collector/maptest"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/simulate"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/collector/starter"
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
	"ledger":        {[]string{"month"}, ledger},
	"contacts":      {[]string{"of"}, contacts},
	"times":         {nil, times},
	"cause":         {nil, causes},
	"impact":        {[]string{"of"}, impact},
	"report": {
		[]string{"service", "month", "timezone", "incidents", "incidents.file", "faults", "faults.file", "form"}, reportOf,
	},
	"portfolio":  {[]string{"timezone", "form"}, portfolioOf},
	"review":     {[]string{"outcomes", "outcomes.file"}, review},
	"changes":    {[]string{"changes", "changes.file"}, changes},
	"coverage":   {nil, supportCoverage},
	"agreements": {[]string{"incidents", "incidents.file"}, agreements},
	"whatif":     {[]string{"take", "levels", "from", "for", "horizon", "change"}, whatIf},
	"warning":    {[]string{"series", "series.file", "forecasts", "forecasts.file"}, warnings},
	"map-init":   {[]string{"role", "app", "owner"}, starterMap},
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

// test is a question of files alone: it draws a picture for each of the cases that they hold.
const test = "test"

// FromFiles draws the picture of files and answers out of it.
func FromFiles(name string, files []manifest.File, opt picture.Options, a Args) ([]byte, []manifest.Problem, error) {
	if name == test {
		report, problems := maptest.Run(files)
		if len(problems) > 0 {
			return nil, problems, nil
		}
		b, err := json.Marshal(report)
		return b, nil, err
	}
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

func causes(p *picture.Picture, _ Args) (any, []manifest.Problem, error) {
	return explain.Of(p), nil, nil
}

func impact(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	if a["of"] == "" {
		return nil, nil, fmt.Errorf("of: say which part, such as component/web@web-1 or host/web-1")
	}
	out, err := explain.ImpactOf(p, manifest.Ref(a["of"]))
	return out, nil, err
}

func starterMap(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	m, err := starter.Of(p, starter.Options{Role: a["role"], App: a["app"], Owner: a["owner"]})
	return m, nil, err
}
