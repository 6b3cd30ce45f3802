// Package simulate reasons on files: from manifests and a few assumed levels to the health of every node, the causes,
// and the recovery plan, without a collector. It is how a map is reviewed before it is applied.
//
// It is pure: the same files and options always give the same bytes.
package simulate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Options say what is assumed.
type Options struct {
	// Set fixes levels: reference to level, or "unknown". On what rests on others it adds an input and hides nothing.
	Set map[string]string
	// At is the moment at which values are read and repair begins.
	At time.Time
	// Default is "ok" (also when empty) or "unknown": how a leaf without data is read.
	Default string
	// Broke names parts in the order in which they broke, for what Recover compares its plan with. It may be empty.
	Broke []string
}

// Simulation is the answer. Its JSON is canonical: nodes are sorted by reference, and nothing depends on the order of
// files or options.
type Simulation struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	At         string             `json:"at"`
	Nodes      []Node             `json:"nodes"`
	Causes     []Cause            `json:"causes"`
	Order      []Step             `json:"order"`
	Problems   []manifest.Problem `json:"problems"`
}

// Node is the health of one node.
type Node struct {
	Ref   string         `json:"ref"`
	Low   health.Level   `json:"low"`
	High  health.Level   `json:"high"`
	Own   string         `json:"own"` // a level, "unknown", or both ends of a range
	Score *float64       `json:"score"`
	Why   servicemap.Why `json:"why"`
}

// Cause is one thing to which bad services go back, the costliest first.
type Cause struct {
	Ref      string       `json:"ref"`
	Level    health.Level `json:"level"`
	Services []string     `json:"services"`
	PerHour  string       `json:"perHour"`
	Unit     string       `json:"unit"`
}

// Step is one repair of the recovery plan, by start; teams work side by side.
type Step struct {
	Ref        string   `json:"ref"`
	Start      string   `json:"start"`
	End        string   `json:"end"`
	Reinstates []string `json:"reinstates"`
}

// Run reads the files and works out the simulation. Where there are problems, it is empty but for them.
func Run(files []manifest.File, opt Options) (Simulation, []manifest.Problem) {
	set, problems := overload.CheckFiles(files)
	if len(problems) > 0 {
		return refuse(opt, problems)
	}
	return Of(set, nil, opt)
}

// Recover reads the files and plans the recovery of what is assumed to be broken. Where there are problems, there is no plan.
func Recover(files []manifest.File, opt Options) (recovery.Plan, []manifest.Problem) {
	set, problems := overload.CheckFiles(files)
	if len(problems) > 0 {
		return recovery.Plan{}, problems
	}
	snap, problems := picture(set, nil, opt)
	if len(problems) > 0 {
		return recovery.Plan{}, problems
	}
	since := map[manifest.Ref]time.Time{}
	for i, ref := range opt.Broke {
		since[manifest.Ref(ref)] = opt.At.Add(time.Duration(i-len(opt.Broke)) * time.Second)
	}
	plan, err := recovery.Of(snap, recovery.Options{At: opt.At, Unit: cause.Find(snap, opt.At).Unit, Since: since})
	if err != nil {
		return recovery.Plan{}, []manifest.Problem{{Text: err.Error()}}
	}
	return plan, nil
}

// picture returns the map of a set as it is assumed to be.
func picture(set *manifest.Set, hosts []servicemap.Host, opt Options) (*servicemap.Snapshot, []manifest.Problem) {
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
	return state.Snapshot(), nil
}

// Of works out the simulation of a set that is valid already, on these hosts and those that it declares.
func Of(set *manifest.Set, hosts []servicemap.Host, opt Options) (Simulation, []manifest.Problem) {
	snap, problems := picture(set, hosts, opt)
	if len(problems) > 0 {
		return refuse(opt, problems)
	}
	out := empty(opt)
	for _, n := range snap.Nodes() {
		out.Nodes = append(out.Nodes, Node{
			Ref: string(n.Ref), Low: n.Range.Low, High: n.Range.High, Own: servicemap.LevelText(n.Own), Score: n.Score, Why: n.Why,
		})
	}
	report := cause.Find(snap, opt.At)
	for i := range report.Causes {
		c := &report.Causes[i]
		out.Causes = append(out.Causes, Cause{string(c.Ref), c.Level, texts(c.Services), report.PerHour(c), report.Unit})
	}
	plan, err := recovery.Of(snap, recovery.Options{At: opt.At, Unit: report.Unit})
	if err != nil {
		return refuse(opt, []manifest.Problem{{Text: err.Error()}})
	}
	for _, r := range plan.Steps {
		out.Order = append(out.Order, Step{r.Ref, r.Start, r.End, r.Reinstates})
	}
	return out, nil
}

func empty(opt Options) Simulation {
	return Simulation{
		APIVersion: manifest.APIVersion, Kind: "Simulation", At: opt.At.UTC().Format(time.RFC3339),
		Nodes: []Node{}, Causes: []Cause{}, Order: []Step{}, Problems: []manifest.Problem{},
	}
}

func refuse(opt Options, problems []manifest.Problem) (Simulation, []manifest.Problem) {
	s := empty(opt)
	s.Problems = problems
	return s, problems
}

func texts(refs []manifest.Ref) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = string(r)
	}
	return out
}

// JSON returns the canonical encoding, with a newline at its end.
func (s Simulation) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode simulation: %w", err)
	}
	return append(b, '\n'), nil
}

// byHand is the source of what was set.
const byHand = "set"

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
			problems = append(problems, manifest.Problem{Path: path, Text: fmt.Sprintf("%s is not on the map", ref), Hint: manifest.Nearest(ref, texts(g.Refs()))})
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
		signals = append(signals, servicemap.Signal{Ref: manifest.Ref(ref), Source: byHand, Range: r})
	}
	return signals, problems
}
