package collector

import (
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// calledNow returns what a reference is called now, by the names that resources had before.
func calledNow(names map[manifest.Ref][]manifest.Ref) func(manifest.Ref) manifest.Ref {
	one := func(ref manifest.Ref) manifest.Ref {
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
	return func(ref manifest.Ref) manifest.Ref {
		if from, to, edge := strings.Cut(string(ref), ">"); edge {
			return one(manifest.Ref(from)) + ">" + one(manifest.Ref(to))
		}
		return one(ref)
	}
}

// follow has the open incidents, and what is said from outside, follow resources that were renamed.
func (d *decider) follow(now time.Time) {
	names := d.keeper.Names()
	if len(names) == 0 {
		return
	}
	called := calledNow(names)
	for _, i := range d.book.Rename(now, func(ref string) string { return string(called(manifest.Ref(ref))) }) {
		d.changed(i)
	}
	d.outside.board.Rename(called)
}

// mayBeOn reports whether a node is on the map, or may be: which members a component has can depend on labels that an agent declares, and those
// are not known before it is connected.
func (d *decider) mayBeOn(g *servicemap.Graph, ref manifest.Ref) bool {
	of, host := ref.Member()
	if g.Has(ref) || host == "" || !g.Has(of) || !slices.ContainsFunc(g.Hosts(), func(h servicemap.Host) bool { return h.Name == host }) {
		return g.Has(ref)
	}
	h := d.fleet.known(host)
	if h == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.connected
}

// followNames hands on to a resource what is on record of it under the names that it had before. The history of a former name ends
// where that of a later one begins.
func followNames(p *picture.Picture, names map[manifest.Ref][]manifest.Ref) {
	if len(names) == 0 {
		return
	}
	now := calledNow(names)
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
	p.Changes = slices.Clone(p.Changes)
	for k := range p.Changes {
		refs := slices.Clone(p.Changes[k].Refs)
		for n, ref := range refs {
			refs[n] = now(ref)
		}
		p.Changes[k].Refs = refs
	}
	p.Outcomes = slices.Clone(p.Outcomes)
	for k := range p.Outcomes {
		p.Outcomes[k].Item = now(p.Outcomes[k].Item)
	}
	p.Confirmations = slices.Clone(p.Confirmations)
	for k := range p.Confirmations {
		p.Confirmations[k].Item = now(p.Confirmations[k].Item)
	}
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
