package reason

import (
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/contact"
	"github.com/evenkeel/evenkeel/collector/explain"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// CallList says whom to call about each cause of a moment.
type CallList struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	At         string `json:"at"`
	// Causes are in the order in which causes are ranked: the costliest first.
	Causes []Call `json:"causes"`
}

// Call is one cause of a CallList.
type Call struct {
	Level    string         `json:"level"`
	Services []manifest.Ref `json:"services"` // that it hits
	PerHour  string         `json:"perHour"`  // what they lose in an hour, in Unit
	Unit     string         `json:"unit"`
	contact.Answer
}

// contacts answers about one reference, or about every cause of the moment where none is named.
func contacts(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	hours := func(ref manifest.Ref) (contact.Hours, error) { return p.Calendar(ref) }
	if of, named := a["of"]; named && of != "" {
		answer, err := contact.Who(p.Set, manifest.Ref(of), p.At, hours)
		if err != nil {
			return nil, nil, fmt.Errorf("of: %w", err)
		}
		return answer, nil, nil
	}
	out := CallList{APIVersion: manifest.APIVersion, Kind: "CallList", At: p.At.UTC().Format(time.RFC3339), Causes: []Call{}}
	causes := explain.Of(p)
	for i := range causes.Causes {
		c := &causes.Causes[i]
		answer, err := contact.Who(p.Set, c.Ref, p.At, hours)
		if err != nil {
			return nil, nil, err
		}
		one := Call{Level: c.Level.String(), Services: []manifest.Ref{}, PerHour: c.PerHour, Unit: causes.Unit, Answer: answer}
		for _, s := range c.Services {
			one.Services = append(one.Services, s.Ref)
		}
		out.Causes = append(out.Causes, one)
	}
	return out, nil, nil
}
