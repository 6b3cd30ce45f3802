package recovery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Plan is what to mend in which order, as the API's JSON. Costs are in Unit, a currency or points, and count from now until
// the last repair ends, without what no repair ends.
type Plan struct {
	Steps []Repair `json:"steps"` // by start
	// Cost is what is lost with this plan, LowerBound what would be lost at least with any other one.
	Cost       manifest.Decimal `json:"cost"`
	LowerBound manifest.Decimal `json:"lowerBound"`
	// Exact says that no other order costs less.
	Exact bool `json:"exact"`
	// FirstComeCost is that of mending what broke first, first; SeverityCost that of mending the worst first.
	FirstComeCost manifest.Decimal `json:"firstComeCost"`
	SeverityCost  manifest.Decimal `json:"severityCost"`
	Unit          string           `json:"unit"`
}

// Repair is one step of a plan.
type Repair struct {
	Ref        string   `json:"ref"`
	Start      string   `json:"start"` // RFC 3339
	End        string   `json:"end"`
	Team       string   `json:"team"`       // who mends it; empty where the map does not say
	Contact    string   `json:"contact"`    // whom to ask: the vendor of what others run, else its owner, else the team
	Reinstates []string `json:"reinstates"` // services that are well again when it is done
}

// JSON returns the canonical encoding, with a newline at its end.
func (p Plan) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode plan: %w", err)
	}
	return append(b, '\n'), nil
}

// Options say what a snapshot does not.
type Options struct {
	// At is when repair begins. Values are read from then on, as the hours go by.
	At time.Time
	// Unit is that in which losses are compared, as the report on causes has it.
	Unit string
	// Since says when parts broke; those that it leaves out count as broken before all others.
	Since map[manifest.Ref]time.Time
	// Learnt is how long repairs of a part took before, for parts of which the map does not say: by the part, or by the component that
	// it is a member of.
	Learnt map[manifest.Ref]time.Duration
}

// AssumedRepair is how long a repair takes of which the map does not say.
const AssumedRepair = time.Hour

// Of plans the repair of all that is bad by itself in a snapshot. What is only unknown is not broken.
func Of(snap *servicemap.Snapshot, opt Options) (Plan, error) {
	all := surveys(snap, opt)
	problem := problemOf(all)
	solution, err := Solve(problem)
	if err != nil {
		return Plan{}, fmt.Errorf("cannot plan the recovery: %w", err)
	}
	plan := Plan{
		Steps: []Repair{}, Cost: solution.Cost, LowerBound: solution.LowerBound, Exact: solution.Exact,
		FirstComeCost: solution.FirstCome, SeverityCost: solution.Severity, Unit: opt.Unit,
	}
	for _, s := range solution.Steps {
		part := &problem.Parts[s.Part]
		plan.Steps = append(plan.Steps, Repair{
			Ref: string(part.Ref), Team: part.Team, Contact: contact(snap.Graph(), part.Ref),
			Start: opt.At.Add(s.Start).UTC().Format(time.RFC3339), End: opt.At.Add(s.End).UTC().Format(time.RFC3339),
			Reinstates: []string{},
		})
	}
	reinstate(all, solution.Steps, plan.Steps)
	return plan, nil
}

func problemOf(all []*loss) *Problem {
	p := &Problem{Parts: all[0].parts}
	for _, m := range all {
		p.Needs, p.Terms = append(p.Needs, m.needs...), append(p.Terms, m.terms...)
	}
	return p
}

// contact returns who is asked about a part.
func contact(g *servicemap.Graph, ref manifest.Ref) string {
	if vendor := g.Vendor(ref); vendor != "" {
		return string(vendor)
	}
	if owner := g.Owner(ref); owner != "" {
		return string(owner)
	}
	if r := g.Repair(ref); r != nil {
		return string(r.Team)
	}
	return ""
}

// broken lists the parts that are bad by themselves, sorted, with what has to be mended before each.
func broken(snap *servicemap.Snapshot, opt Options) []Part {
	g := snap.Graph()
	var parts []Part
	of := map[manifest.Ref][]int{}
	for _, ref := range g.Refs() {
		level := snap.Own(ref).Low
		if level < health.Warning || ref.Kind() == "service" {
			continue
		}
		p := Part{Ref: ref, Takes: AssumedRepair, Severity: level, Since: opt.Since[ref]}
		component, _ := ref.Member()
		if took := cmp.Or(opt.Learnt[ref], opt.Learnt[component]); took > 0 {
			p.Takes = took
		}
		if r := g.Repair(ref); r != nil {
			p.Team = string(r.Team)
			if r.Expected > 0 {
				p.Takes = r.Expected.Std()
			}
		}
		of[component] = append(of[component], len(parts))
		parts = append(parts, p)
	}
	for i := range parts {
		if r := g.Repair(parts[i].Ref); r != nil {
			for _, after := range r.After {
				parts[i].Before = append(parts[i].Before, of[after]...)
			}
		}
	}
	return parts
}

// reinstate goes through the repairs as they end and notes which services are well after each, each once, in the maintenance of that moment.
func reinstate(all []*loss, steps []Step, repairs []Repair) {
	for _, m := range all {
		for i := range m.parts {
			m.put(i, false)
		}
	}
	order := make([]int, len(steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(steps[a].End, steps[b].End) })
	done := map[manifest.Ref]bool{}
	for _, i := range order {
		now := all[len(all)-1]
		for _, m := range all {
			if steps[i].End < m.until {
				now = m
				break
			}
		}
		before := now.bad()
		for _, m := range all {
			m.put(steps[i].Part, true)
		}
		for _, node := range before {
			if ref := now.trial.Ref(node); now.trial.Level(node) < health.Warning && !done[ref] {
				done[ref] = true
				repairs[i].Reinstates = append(repairs[i].Reinstates, string(ref))
			}
		}
		slices.Sort(repairs[i].Reinstates)
	}
}

// bad returns the nodes of the services that are bad as things stand in the trial.
func (m *loss) bad() (out []int) {
	for node := range m.trial.Len() {
		if m.trial.Ref(node).Kind() == "service" && m.trial.Level(node) >= health.Warning {
			out = append(out, node)
		}
	}
	return out
}
