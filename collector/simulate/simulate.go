// Package simulate reasons on files: from manifests and a few assumed levels to the health of every node, the causes,
// and the recovery plan, without a collector. It is how a map is reviewed before it is applied.
//
// It is pure: the same files and options always give the same bytes.
package simulate

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/recovery"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Options say what is assumed.
type Options = picture.Options

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
	p, problems := picture.FromFiles(files, opt)
	if len(problems) > 0 {
		return refuse(opt.At, problems)
	}
	return Of(p)
}

// Of works out the simulation of a picture.
func Of(p *picture.Picture) (Simulation, []manifest.Problem) {
	out := empty(p.At)
	for _, n := range p.Map.Nodes() {
		out.Nodes = append(out.Nodes, Node{
			Ref: string(n.Ref), Low: n.Range.Low, High: n.Range.High, Own: servicemap.LevelText(n.Own), Score: n.Score, Why: n.Why,
		})
	}
	report := cause.Find(p.Map, p.At)
	for i := range report.Causes {
		c := &report.Causes[i]
		out.Causes = append(out.Causes, Cause{string(c.Ref), c.Level, manifest.Texts(c.Services), report.PerHour(c), report.Unit})
	}
	plan, err := Recover(p)
	if err != nil {
		return refuse(p.At, []manifest.Problem{{Text: err.Error()}})
	}
	for _, r := range plan.Steps {
		out.Order = append(out.Order, Step{r.Ref, r.Start, r.End, r.Reinstates})
	}
	return out, nil
}

// Recover plans the recovery of what is broken in a picture. How long a repair takes of which the map does not say is the median of the
// incidents of the same cause that are over, where there are at least three.
func Recover(p *picture.Picture) (recovery.Plan, error) {
	learnt := map[manifest.Ref]time.Duration{}
	for _, t := range incident.ByCause(p.Incidents) {
		if t.Restored >= 3 {
			learnt[manifest.Ref(t.Ref)] = max(t.Median.Round(time.Second), time.Second)
		}
	}
	return recovery.Of(p.Map, recovery.Options{At: p.At, Unit: cause.Find(p.Map, p.At).Unit, Since: p.Since, Learnt: learnt})
}

func empty(at time.Time) Simulation {
	return Simulation{
		APIVersion: manifest.APIVersion, Kind: "Simulation", At: at.UTC().Format(time.RFC3339),
		Nodes: []Node{}, Causes: []Cause{}, Order: []Step{}, Problems: []manifest.Problem{},
	}
}

func refuse(at time.Time, problems []manifest.Problem) (Simulation, []manifest.Problem) {
	s := empty(at)
	s.Problems = problems
	return s, problems
}

// JSON returns the canonical encoding, with a newline at its end.
func (s Simulation) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode simulation: %w", err)
	}
	return append(b, '\n'), nil
}
