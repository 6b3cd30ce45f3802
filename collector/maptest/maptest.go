// Package maptest holds a map to what its authors wrote down of it: kind MapTest says which states go in, and which health, causes,
// costs and order of repair come out. It is how a map is tested in a review, before it is applied.
//
// It reasons with the very functions that answer on the live map, and is pure.
package maptest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/simulate"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Report is the outcome of every case, in the order of the tests and of the cases in them.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // MapTestReport
	Passed     int    `json:"passed"`
	Failed     int    `json:"failed"`
	Cases      []Case `json:"cases"`
}

// Case is the outcome of one.
type Case struct {
	Test   manifest.Ref `json:"test"`
	Name   string       `json:"name"`
	Passed bool         `json:"passed"`
	// Failures are what came out otherwise, in the order health, causes, perHour, order.
	Failures []Failure `json:"failures"`
}

// Failure is one expectation that was not met.
type Failure struct {
	Of       string `json:"of"` // "health of service/checkout", "causes", "order", "perHour of component/san"
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// Run holds the map of these files to the tests in them. Where there are problems with either, the report is empty.
func Run(files []manifest.File) (Report, []manifest.Problem) {
	set, problems := overload.CheckFiles(files)
	if len(problems) > 0 {
		return Report{}, problems
	}
	r := runner{set: set, bases: map[string]*picture.Picture{}}
	out := Report{APIVersion: manifest.APIVersion, Kind: "MapTestReport", Cases: []Case{}}
	for res, test := range manifest.Of[manifest.MapTest](set) {
		for i := range test.Cases {
			c, more := r.run(res, i, &test.Cases[i])
			problems = append(problems, more...)
			if c.Passed {
				out.Passed++
			} else {
				out.Failed++
			}
			out.Cases = append(out.Cases, c)
		}
	}
	if len(out.Cases) == 0 {
		problems = append(problems, manifest.Problem{Text: "there is no kind: MapTest in these files"})
	}
	if len(problems) > 0 {
		return Report{}, problems
	}
	return out, nil
}

type runner struct {
	set   *manifest.Set
	bases map[string]*picture.Picture // by default: the map without anything set
}

// base returns the map with nothing set.
func (r *runner) base(byDefault string, at time.Time) (*picture.Picture, []manifest.Problem) {
	if p, ok := r.bases[byDefault]; ok {
		return p, nil
	}
	p, problems := picture.Of(r.set, nil, picture.Options{At: at, Default: byDefault})
	if len(problems) == 0 {
		r.bases[byDefault] = p
	}
	return p, problems
}

func (r *runner) run(res *manifest.Resource, i int, c *manifest.MapTestCase) (Case, []manifest.Problem) {
	out := Case{Test: res.Ref(), Name: c.Name, Failures: []Failure{}}
	at := fmt.Sprintf("spec.cases[%d].", i)
	p, problems := r.base(c.Default, c.At.Time)
	if len(problems) > 0 {
		return out, problems
	}
	if problems = strangers(res, at, p, c); len(problems) > 0 {
		return out, problems
	}
	p, problems = p.With(picture.Options{At: c.At.Time, Set: c.Set, Broke: slices.Sorted(maps.Keys(c.Set))})
	for k := range problems { // they name the field as the options do: set.REF
		problems[k] = res.ProblemAt(at+problems[k].Path, problems[k].Text, problems[k].Hint)
	}
	if len(problems) > 0 {
		return out, problems
	}
	s, problems := simulate.Of(p)
	if len(problems) > 0 {
		return out, problems
	}
	out.Failures = append(out.Failures, compare(&c.Expect, &s)...)
	out.Passed = len(out.Failures) == 0
	return out, nil
}

// strangers tells of expectations of what is not on the map.
func strangers(res *manifest.Resource, at string, p *picture.Picture, c *manifest.MapTestCase) []manifest.Problem {
	var known []string
	for _, ref := range p.Map.Graph().Refs() {
		known = append(known, string(ref))
	}
	var out []manifest.Problem
	look := func(path, ref string) {
		if !p.Map.Graph().Has(manifest.Ref(ref)) {
			out = append(out, res.ProblemAt(at+path, fmt.Sprintf("%s is not on the map", ref), manifest.Nearest(ref, known)))
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(c.Expect.Health)) {
		look("expect.health."+ref, ref)
	}
	for _, ref := range slices.Sorted(maps.Keys(c.Expect.PerHour)) {
		look("expect.perHour."+ref, ref)
	}
	for name, list := range map[string]*[]string{"causes": c.Expect.Causes, "order": c.Expect.Order} {
		if list != nil {
			for i, ref := range *list {
				look(fmt.Sprintf("expect.%s[%d]", name, i), ref)
			}
		}
	}
	return out
}

// compare lists what came out otherwise than expected.
func compare(e *manifest.Expectation, s *simulate.Simulation) []Failure {
	var out []Failure
	same := func(of, expected, got string) {
		if expected != got {
			out = append(out, Failure{of, expected, got})
		}
	}
	got := map[string]manifest.HealthRange{}
	for _, n := range s.Nodes {
		got[n.Ref] = manifest.HealthRange{Range: health.Range{Low: n.Low, High: n.High}}
	}
	for _, ref := range slices.Sorted(maps.Keys(e.Health)) {
		same("health of "+ref, e.Health[ref].String(), got[ref].String())
	}
	var causes, order []string
	perHour := map[string]string{}
	for _, c := range s.Causes {
		causes = append(causes, c.Ref)
		perHour[c.Ref] = "unranked"
		if c.PerHour != "" {
			perHour[c.Ref] = c.PerHour + " " + c.Unit
		}
	}
	for _, step := range s.Order {
		order = append(order, step.Ref)
	}
	if e.Causes != nil {
		same("causes", list(*e.Causes), list(causes))
	}
	for _, ref := range slices.Sorted(maps.Keys(e.PerHour)) {
		is, ok := perHour[ref]
		if !ok {
			is = "it is no cause"
		}
		same("perHour of "+ref, e.PerHour[ref].String(), is)
	}
	if e.Order != nil {
		same("order", list(*e.Order), list(order))
	}
	return out
}

func list(refs []string) string {
	if len(refs) == 0 {
		return "none"
	}
	return strings.Join(refs, ", ")
}
