package servicemap

import (
	"fmt"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// NotInMap reports whether a service is bad while all that it is known to depend on is known to be well: then it depends on something
// that is not in the map. One that rests on nothing and measures nothing of itself is only a name, and no such case. Where some part is
// unknown, so is whether it is one.
func (s *Snapshot) NotInMap(service manifest.Ref) bool {
	i, ok := s.graph.index[service]
	if !ok || service.Kind() != "service" {
		return false
	}
	n := &s.graph.nodes[i]
	if s.own(i).Low < health.Warning || len(n.inputs) == 0 && len(n.indicators) == 0 {
		return false
	}
	for _, e := range n.inputs {
		if s.result(e.to).High > health.Info {
			return false
		}
	}
	return true
}

// NotInMapText says so in one clause for people: "the cause is not in the map: all 3 parts of service/shop are well".
func (s *Snapshot) NotInMapText(service manifest.Ref) string {
	n := &s.graph.nodes[s.graph.index[service]]
	switch len(n.inputs) {
	case 0:
		return fmt.Sprintf("the cause is not in the map: %s rests on nothing there", service)
	case 1:
		return fmt.Sprintf("the cause is not in the map: the one part of %s, %s, is well", service, s.graph.nodes[n.inputs[0].to].ref)
	}
	return fmt.Sprintf("the cause is not in the map: all %d parts of %s are well", len(n.inputs), service)
}

// Measured returns what a node says of itself by what is measured of it, without what somebody set by hand; false where nothing is measured.
func (s *Snapshot) Measured(ref manifest.Ref) (r health.Range, ok bool) {
	i, there := s.graph.index[ref]
	if !there {
		return health.Unknown, false
	}
	for _, sig := range s.pages[i/pageSize].signals[i%pageSize] {
		if sig.Source != ByHand {
			r, ok = worse(r, sig.Range), true
		}
	}
	return r, ok
}

// Foretells returns the inputs of a node that are to blame for the level that the map foretells of it, whatever it says of itself; none where
// that is better than a level.
func (s *Snapshot) Foretells(ref manifest.Ref, level health.Level) []manifest.Ref {
	i, ok := s.graph.index[ref]
	if !ok {
		return nil
	}
	n := &s.graph.nodes[i]
	in, well := s.inputs(i), health.Exactly(health.OK)
	if len(in) == 0 || n.rule.Reduce(in, well).Range.Low < level {
		return nil
	}
	var out []manifest.Ref
	for _, k := range n.rule.Blame(in, well).Inputs {
		out = append(out, s.graph.nodes[n.inputs[k].to].ref)
	}
	return out
}

// Worst returns the signals about a node itself that are as bad as any of them, in words; empty where all is well.
func (s *Snapshot) Worst(ref manifest.Ref) string {
	i, ok := s.graph.index[ref]
	if !ok {
		return ""
	}
	var parts []string
	for _, sig := range s.pages[i/pageSize].signals[i%pageSize] {
		if sig.Range.Low < health.Warning || sig.Range.Low < s.own(i).Low {
			continue
		}
		text := sig.Source + " says " + LevelText(sig.Range)
		switch {
		case sig.Source == ByHand && sig.Text != "":
			text = sig.Text
		case sig.Text != "":
			text += " (" + sig.Text + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}
