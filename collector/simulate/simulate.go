// Package simulate reasons on files: from manifests and a few assumed levels to the health of every node, the causes,
// and an order of repair, without a collector. It is how a map is reviewed before it is applied.
//
// It is pure: the same files and options always give the same bytes.
package simulate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/overload"
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

// Step is one repair of the order; steps follow each other without a gap.
type Step struct {
	Ref        string   `json:"ref"`
	Start      string   `json:"start"`
	End        string   `json:"end"`
	Reinstates []string `json:"reinstates"`
}

// Run reads the files and works out the simulation. Where there are problems, it is empty but for them.
func Run(files []manifest.File, opt Options) (Simulation, []manifest.Problem) {
	// Policies may refer to the detectors that every collector starts with.
	shipped, err := overload.Defaults()
	if err != nil {
		panic("BUG: simulate: " + err.Error())
	}
	set, problems := manifest.CheckFiles(files, shipped)
	if len(problems) > 0 {
		return refuse(opt, problems)
	}
	return Of(set, nil, opt)
}

// Of works out the simulation of a set that is valid already, on these hosts and those that it declares.
func Of(set *manifest.Set, hosts []servicemap.Host, opt Options) (Simulation, []manifest.Problem) {
	graph, err := servicemap.New(set, hosts)
	if err != nil {
		return refuse(opt, []manifest.Problem{{Text: err.Error()}})
	}
	signals, problems := assumed(graph, opt)
	if len(problems) > 0 {
		return refuse(opt, problems)
	}
	state := servicemap.NewState(graph, servicemap.Options{AssumeOK: opt.Default != "unknown"})
	state.Update(opt.At, signals...)
	snap := state.Snapshot()
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
	out.Order = order(state, &report, opt.At)
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

// assumedRepair is how long a repair takes of which the map does not say.
const assumedRepair = time.Hour

// tryUpTo is the number of broken parts up to which each next repair is tried out on the map; beyond, causes are taken
// at their loss.
const tryUpTo = 24

type job struct {
	ref    manifest.Ref
	takes  time.Duration
	before []int // jobs that have to be done first
	loss   float64
	done   bool
}

// order puts the broken parts in an order of repair by one crew: always the part, with all that must be mended before
// it, that saves most per hour of work. It keeps repair.after; it is not proven to be the best order.
func order(state *servicemap.State, report *cause.Report, at time.Time) []Step {
	jobs := broken(state, report)
	steps := []Step{}
	clock := at
	for range jobs {
		next := best(state, jobs, report.Unit, at)
		j := &jobs[next]
		j.done = true
		before := bad(state)
		mend(state, j.ref, at)
		step := Step{Ref: string(j.ref), Start: clock.UTC().Format(time.RFC3339), Reinstates: []string{}}
		clock = clock.Add(j.takes)
		step.End = clock.UTC().Format(time.RFC3339)
		after := bad(state)
		for _, s := range before {
			if !slices.Contains(after, s) {
				step.Reinstates = append(step.Reinstates, string(s))
			}
		}
		steps = append(steps, step)
	}
	return steps
}

// broken lists the parts that are bad by themselves, with what has to be mended before each.
func broken(state *servicemap.State, report *cause.Report) []job {
	g, snap := state.Graph(), state.Snapshot()
	var jobs []job
	of := map[manifest.Ref][]int{}
	for _, ref := range g.Refs() {
		if snap.Own(ref).Low < health.Warning || ref.Kind() == "service" {
			continue
		}
		j := job{ref: ref, takes: assumedRepair}
		if r := g.Repair(ref); r != nil && r.Expected > 0 {
			j.takes = r.Expected.Std()
		}
		for i := range report.Causes {
			if c := &report.Causes[i]; c.Ref == ref {
				j.loss, _ = c.Loss.In(report.Unit)
			}
		}
		component, _ := ref.Member()
		of[component] = append(of[component], len(jobs))
		jobs = append(jobs, j)
	}
	for i := range jobs {
		if r := g.Repair(jobs[i].ref); r != nil {
			for _, after := range r.After {
				jobs[i].before = append(jobs[i].before, of[after]...)
			}
		}
	}
	return jobs
}

// best picks the job to do now: of the open job that saves most per hour together with all that must come before it, the
// first one of these that can be done.
func best(state *servicemap.State, jobs []job, unit string, at time.Time) int {
	open := 0
	for i := range jobs {
		if !jobs[i].done {
			open++
		}
	}
	type choice struct {
		first      int
		gain, loss float64 // per hour of work
		takes      time.Duration
		ref        manifest.Ref
	}
	var choices []choice
	for i := range jobs {
		if jobs[i].done {
			continue
		}
		need := needs(jobs, i)
		c := choice{first: need[0], ref: jobs[i].ref}
		for _, n := range need {
			c.takes += jobs[n].takes
			c.loss += jobs[n].loss
		}
		if open <= tryUpTo {
			c.gain = gain(state, jobs, need, unit, at) / c.takes.Hours()
		}
		c.loss /= c.takes.Hours()
		choices = append(choices, c)
	}
	return slices.MinFunc(choices, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.gain, a.gain), cmp.Compare(b.loss, a.loss), cmp.Compare(a.takes, b.takes), cmp.Compare(a.ref, b.ref))
	}).first
}

// needs returns a job and the open ones that have to come before it, each after what it needs itself.
func needs(jobs []job, i int) []int {
	var out []int
	seen := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		if seen[i] || jobs[i].done {
			return
		}
		seen[i] = true
		for _, b := range jobs[i].before {
			visit(b)
		}
		out = append(out, i)
	}
	visit(i)
	return out
}

// gain tries a number of repairs on the map and returns by how much the loss per hour falls; the map is as before
// afterwards.
func gain(state *servicemap.State, jobs []job, which []int, unit string, at time.Time) float64 {
	before := loss(state, unit, at)
	var undo []servicemap.Signal
	for _, i := range which {
		undo = append(undo, servicemap.Signal{Ref: jobs[i].ref, Source: byHand, Range: state.Snapshot().Own(jobs[i].ref)})
		mend(state, jobs[i].ref, at)
	}
	saved := before - loss(state, unit, at)
	state.Update(at, undo...)
	return saved
}

func mend(state *servicemap.State, ref manifest.Ref, at time.Time) {
	state.Update(at, servicemap.Signal{Ref: ref, Source: byHand, Range: health.Exactly(health.OK)})
}

// loss sums up what the services lose per hour, each loss counted once.
func loss(state *servicemap.State, unit string, at time.Time) float64 {
	n, _ := cause.Loss(state.Snapshot(), unit, at).In(unit)
	return n
}

func bad(state *servicemap.State) []manifest.Ref {
	snap := state.Snapshot()
	var out []manifest.Ref
	for _, ref := range state.Graph().Services() {
		if r, _ := snap.Range(ref); r.Low >= health.Warning {
			out = append(out, ref)
		}
	}
	return out
}
