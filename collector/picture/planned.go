package picture

import (
	"slices"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// States returns what the history has of a service up to the moment of the picture, in order, with what was planned for it. The last
// state holds on.
func (p *Picture) States(service manifest.Ref) []slo.Segment {
	return planned(slo.Segments(p.History, service, p.At), p.Map.Graph(), service)
}

// Rows returns the history up to the moment of the picture with what was planned, of each service in the order of time.
func (p *Picture) Rows() []slo.Row {
	by := map[manifest.Ref][]slo.Row{}
	var refs []manifest.Ref
	for _, r := range p.History {
		if by[r.Ref] == nil {
			refs = append(refs, r.Ref)
		}
		by[r.Ref] = append(by[r.Ref], r)
	}
	slices.Sort(refs)
	out := make([]slo.Row, 0, len(p.History))
	for _, ref := range refs {
		for _, s := range planned(slo.Segments(by[ref], ref, p.At), p.Map.Graph(), ref) {
			out = append(out, slo.Row{Ref: ref, At: s.From, State: s.State})
		}
	}
	return out
}

// planned cuts a history at the maintenance of the service, which is by nobody's fault; and, where nobody has said why it was bad, at that of what
// it rests on, where that alone would make it as bad.
func planned(history []slo.Segment, g *servicemap.Graph, service manifest.Ref) []slo.Segment {
	var out []slo.Segment
	for _, h := range history {
		for _, s := range cut(h, g.Planned(service, h.From, h.To)) {
			if s.Origin == slo.Unknown && s.Health.Low > health.Info {
				out = append(out, cut(s, g.Out(service, s.Health.Low, s.From, s.To))...)
			} else {
				out = append(out, s)
			}
		}
	}
	return out
}

// cut makes those parts of a segment planned that lie in spans.
func cut(rest slo.Segment, spans []servicemap.Span) []slo.Segment {
	var out []slo.Segment
	for _, m := range spans {
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
	return out
}
