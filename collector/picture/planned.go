package picture

import (
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// States returns what the history has of a service up to the moment of the picture, in order, with what was planned for it. The last
// state holds on.
func (p *Picture) States(service manifest.Ref) []slo.Segment {
	return planned(slo.Segments(p.History, service, p.At), p.Map.Graph(), service)
}

// planned cuts a history at the maintenance of the service, which is by nobody's fault.
func planned(history []slo.Segment, g *servicemap.Graph, service manifest.Ref) []slo.Segment {
	var out []slo.Segment
	for _, h := range history {
		rest := h
		for _, m := range g.Planned(service, h.From, h.To) {
			if rest.From.Before(m.From) {
				before := rest
				before.To = m.From
				out = append(out, before)
			}
			during := rest
			during.From, during.To, during.State.Origin = m.From, m.To, slo.Planned
			out = append(out, during)
			rest.From = m.To
		}
		if rest.From.Before(rest.To) {
			out = append(out, rest)
		}
	}
	return out
}
