package picture

import (
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Out returns what is out when parts are taken out: the parts themselves, and of a host all that runs on it; sorted. It fails on
// what is not on the map.
func (p *Picture) Out(parts ...manifest.Ref) ([]manifest.Ref, error) {
	g := p.Map.Graph()
	var out []manifest.Ref
	for _, ref := range parts {
		var running []servicemap.Member // a host that only components name is no node, but they run on it
		if ref.Kind() == "host" {
			running = g.OnHost(ref.Name())
		}
		switch {
		case g.Has(ref):
			out = append(out, ref)
		case len(running) == 0:
			hint := manifest.Nearest(string(ref), manifest.Texts(g.Refs()))
			if hint != "" {
				hint = " (" + hint + ")"
			}
			return nil, fmt.Errorf("%s is not on the map%s", ref, hint)
		}
		for _, m := range running {
			out = append(out, m.Ref)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Critical returns another picture in which parts are critical by themselves, at the moment of p.
func (p *Picture) Critical(parts ...manifest.Ref) (*Picture, []manifest.Problem) {
	opt := Options{At: p.At, Set: map[string]string{}}
	for _, ref := range parts {
		opt.Set[string(ref)] = health.Critical.String()
	}
	return p.With(opt)
}

// BadSince returns since when a service has been known to be bad without a break, by the history; what was planned is another matter. It is false where
// the history does not show it bad at At.
func (p *Picture) BadSince(service manifest.Ref) (since time.Time, ok bool) {
	for _, r := range p.History {
		switch {
		case r.Ref != service || r.At.After(p.At):
		case r.Health.Low < health.Warning, r.Origin == slo.Planned:
			ok = false
		case !ok:
			since, ok = r.At, true
		}
	}
	return since, ok
}
