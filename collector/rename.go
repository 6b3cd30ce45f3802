package collector

import (
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// followNames hands on to a resource what is on record of it under the names that it had before. The history of a former name ends
// where that of a later one begins.
func followNames(p *picture.Picture, names map[manifest.Ref][]manifest.Ref) {
	if len(names) == 0 {
		return
	}
	now := func(ref manifest.Ref) manifest.Ref {
		of, host := ref.Member()
		later, renamed := names[of]
		if !renamed {
			return ref
		}
		to := later[len(later)-1]
		if host != "" {
			return servicemap.MemberRef(to, host)
		}
		return to
	}
	first := map[manifest.Ref]time.Time{}
	for _, r := range p.History {
		if _, has := first[r.Ref]; !has {
			first[r.Ref] = r.At
		}
	}
	p.History = slices.DeleteFunc(slices.Clone(p.History), func(r slo.Row) bool {
		return slices.ContainsFunc(names[r.Ref], func(later manifest.Ref) bool {
			began, has := first[later]
			return has && !r.At.Before(began)
		})
	})
	for i := range p.History {
		p.History[i].Ref = now(p.History[i].Ref)
	}
	since := make(map[manifest.Ref]time.Time, len(p.Since))
	for ref, at := range p.Since {
		if old, has := since[now(ref)]; !has || at.Before(old) {
			since[now(ref)] = at
		}
	}
	p.Since = since
	p.Incidents = slices.Clone(p.Incidents)
	for k := range p.Incidents {
		i := &p.Incidents[k]
		i.Cause = string(now(manifest.Ref(i.Cause)))
		i.Services = slices.Clone(i.Services)
		for n, s := range i.Services {
			i.Services[n] = string(now(manifest.Ref(s)))
		}
		i.Impacts = slices.Clone(i.Impacts)
		for n := range i.Impacts {
			i.Impacts[n].Service = string(now(manifest.Ref(i.Impacts[n].Service)))
		}
	}
}
