// Package picture is what reasoning starts from: the reviewed text, the health of the map at one moment, and the history of
// the services as far as it is known. It is drawn from files, or by the collector from what it sees; the answers about it are
// worked out by the same functions either way.
//
// It is pure, and a picture does not change: what-if draws another one. It makes up nothing that is not known.
package picture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Picture is one.
type Picture struct {
	// At is the moment: values are read at it, and repair begins at it.
	At time.Time
	// Set is the reviewed text. It has no mistakes.
	Set *manifest.Set
	// Map is the health of every node.
	Map *servicemap.Snapshot
	// Since is when parts broke, as far as it is known.
	Since map[manifest.Ref]time.Time
	// History is what is known of the health of services up to At: for each service in the order of time. It may be empty.
	History []slo.Row
	// Changes are those that were observed on hosts or declared, oldest first.
	Changes []Change
	// Outcomes are what became of detectors, runbooks and policies, in no order.
	Outcomes []Outcome
	// Confirmations are of reviews, oldest first.
	Confirmations []Confirmation
	// Trends are what was measured of parts that can run out of something. They are gathered for the questions that need them.
	Trends []Trend
	// Months are those that are over and sealed, oldest first. They are gathered for the questions that need them.
	Months []Month
	// Incidents are those on record, newest first. From files there are none.
	Incidents []incident.Incident
}

// Observed and declared changes: the kinds of Change.
const (
	ChangeDeclared = "declared"
	ChangeBoot     = "boot"
	ChangePackage  = "package"
	ChangeUnit     = "unit"
	ChangeBinary   = "binary"
)

// Change is one thing that is not as it was. It is stored as JSON.
type Change struct {
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	// Host is where it was observed; empty for one that was declared.
	Host string `json:"host,omitempty"`
	// Refs are what it touched: services, components, hosts.
	Refs     []manifest.Ref `json:"refs,omitempty"`
	What     string         `json:"what"`
	Before   string         `json:"before,omitempty"`
	After    string         `json:"after,omitempty"`
	By       string         `json:"by,omitempty"`
	External string         `json:"external,omitempty"` // its id elsewhere
	State    string         `json:"state,omitempty"`    // of one that was declared: done (also when empty), failed or rolledBack
}

// Options say what is assumed of a map that is drawn from text.
type Options struct {
	// Set fixes levels: reference to level, or "unknown". On what rests on others it adds an input and hides nothing.
	Set map[string]string
	// At is the moment of the picture.
	At time.Time
	// Default is "ok" (also when empty) or "unknown": how a leaf without data is read.
	Default string
	// Broke names parts in the order in which they broke, a second apart, the last of them a second before At. It may be empty.
	Broke []string
	// History is a file of states, as slo.ReadHistory reads it; nil where there is none.
	History *manifest.File
}

// FromFiles draws the picture of manifests, or tells all that is wrong with them and with the options.
func FromFiles(files []manifest.File, opt Options) (*Picture, []manifest.Problem) {
	set, problems := overload.CheckFiles(files)
	var rows []slo.Row
	if opt.History != nil {
		var more []manifest.Problem
		rows, more = slo.ReadHistory(opt.History.Name, opt.History.Text)
		problems = append(problems, more...)
		problems = append(problems, strangers(set, rows, opt.History.Name)...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	p, problems := Of(set, nil, opt)
	if len(problems) > 0 {
		return nil, problems
	}
	p.History = rows
	return p, nil
}

// Of draws the picture of a set that is valid already, on these hosts and those that it declares. It reads no history.
func Of(set *manifest.Set, hosts []servicemap.Host, opt Options) (*Picture, []manifest.Problem) {
	graph, err := servicemap.New(set, hosts)
	if err != nil {
		return nil, []manifest.Problem{{Text: err.Error()}}
	}
	signals, problems := assumed(graph, opt)
	if len(problems) > 0 {
		return nil, problems
	}
	state := servicemap.NewState(graph, servicemap.Options{AssumeOK: opt.Default != "unknown"})
	state.Update(opt.At, signals...)
	return &Picture{At: opt.At, Set: set, Map: state.Snapshot(), Since: since(opt)}, nil
}

// With returns another picture, in which the levels of the options are set on top of what p shows, at their moment. Default and
// History of the options are not for it.
func (p *Picture) With(opt Options) (*Picture, []manifest.Problem) {
	signals, problems := assumed(p.Map.Graph(), opt)
	if len(problems) > 0 {
		return nil, problems
	}
	state := p.Map.State()
	state.Update(opt.At, signals...)
	out := *p
	out.At, out.Map, out.Since = opt.At, state.Snapshot(), maps.Clone(p.Since)
	maps.Copy(out.Since, since(opt))
	return &out, nil
}

func since(opt Options) map[manifest.Ref]time.Time {
	out := map[manifest.Ref]time.Time{}
	for i, ref := range opt.Broke {
		out[manifest.Ref(ref)] = opt.At.Add(time.Duration(i-len(opt.Broke)) * time.Second)
	}
	return out
}

// Calendar returns a calendar of the set.
func (p *Picture) Calendar(ref manifest.Ref) (*calendar.Calendar, error) {
	spec, ok := manifest.SpecOf[manifest.Calendar](p.Set, ref)
	if !ok {
		return nil, fmt.Errorf("%s is not there", ref)
	}
	return calendar.New(spec)
}

// strangers tells of the services of a history that the manifests do not know, each once.
func strangers(set *manifest.Set, rows []slo.Row, file string) []manifest.Problem {
	var out []manifest.Problem
	var known []string
	for r := range manifest.Of[manifest.Service](set) {
		known = append(known, string(r.Ref()))
	}
	told := map[manifest.Ref]bool{}
	for _, row := range rows {
		if _, ok := set.Get(row.Ref); ok || told[row.Ref] {
			continue
		}
		told[row.Ref] = true
		out = append(out, manifest.Problem{
			File: file, Line: row.Line, Column: row.Column,
			Text: fmt.Sprintf("%s is not among the manifests", row.Ref), Hint: manifest.Nearest(string(row.Ref), known),
		})
	}
	return out
}

// assumed turns the options into signals, or tells all that is wrong with them.
func assumed(g *servicemap.Graph, opt Options) ([]servicemap.Signal, []manifest.Problem) {
	var signals []servicemap.Signal
	var problems []manifest.Problem
	if d := opt.Default; d != "" && d != "ok" && d != "unknown" {
		problems = append(problems, manifest.Problem{Path: "default", Text: fmt.Sprintf("%q is not a default: expected ok or unknown", d)})
	}
	for _, ref := range slices.Sorted(maps.Keys(opt.Set)) {
		word := opt.Set[ref]
		path := "set." + ref
		if !g.Has(manifest.Ref(ref)) {
			problems = append(problems, manifest.Problem{Path: path, Text: fmt.Sprintf("%s is not on the map", ref), Hint: manifest.Nearest(ref, manifest.Texts(g.Refs()))})
			continue
		}
		r := health.Unknown
		if word != "unknown" {
			l, err := health.ParseLevel(word)
			if err != nil {
				problems = append(problems, manifest.Problem{Path: path, Text: strings.Replace(err.Error(), " or critical", ", critical or unknown", 1)})
				continue
			}
			r = health.Exactly(l)
		}
		signals = append(signals, servicemap.Signal{Ref: manifest.Ref(ref), Source: servicemap.ByHand, Range: r})
	}
	return signals, problems
}
