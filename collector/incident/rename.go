package incident

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Rename has incidents follow resources that were renamed: name returns what a reference is called now. Those that are over keep the names of
// their time, but for one that may still be opened again, since its cause is now called otherwise. It returns copies of those that changed.
func (b *Book) Rename(at time.Time, name func(ref string) string) []Incident {
	var out []Incident
	for _, id := range slices.Sorted(maps.Keys(b.byID)) {
		i := b.byID[id]
		if i.State == Resolved && at.Sub(i.ResolvedAt) > b.cfg.Reopen {
			continue
		}
		if i.rename(at, b, name) {
			out = append(out, i.clone())
		}
	}
	return out
}

func (i *Incident) rename(at time.Time, b *Book, name func(ref string) string) bool {
	var told []string
	follow := func(ref string) string {
		now := name(ref)
		if now != ref {
			if what := ref + " is called " + now + " now"; !slices.Contains(told, what) {
				told = append(told, what)
			}
		}
		return now
	}
	was := i.Cause
	i.Cause = follow(was)
	services, impacts := slices.Clone(i.Services), slices.Clone(i.Impacts)
	for k, s := range services {
		services[k] = follow(s)
	}
	slices.Sort(services)
	i.Services = slices.Compact(services)
	for k := range impacts {
		impacts[k].Service = follow(impacts[k].Service)
	}
	i.Impacts = impacts
	if len(told) == 0 {
		return false
	}
	if i.Cause != was {
		i.Title = retitle(i.Title, was, i.Cause)
		if b.cause[was] == i {
			delete(b.cause, was)
		}
		// An incident of the new name can only be older, or have been opened before anybody knew that the two are one.
		if other := b.cause[i.Cause]; other == nil || other.OpenedAt.Before(i.OpenedAt) || other.State == Resolved {
			b.cause[i.Cause] = i
		}
	}
	for _, what := range told {
		i.note(at, "collector", what)
	}
	return true
}

// retitle puts the new name of a cause where a title has the old one as a word of its own.
func retitle(title, was, is string) string {
	words := strings.Split(title, " ")
	for k, w := range words {
		if bare := strings.TrimRight(w, ",:;."); bare == was {
			words[k] = is + w[len(bare):]
		}
	}
	return strings.Join(words, " ")
}

// Withdraw resolves incidents of components and services that are on the map no longer: nobody will ever say that they are well. Those for
// which something is under way wait for its end. It returns copies of those that changed.
func (b *Book) Withdraw(at time.Time, on func(ref string) bool) []Incident {
	var out []Incident
	for _, key := range slices.Sorted(maps.Keys(b.cause)) {
		i := b.cause[key]
		mapped := strings.HasPrefix(i.Cause, "component/") || strings.HasPrefix(i.Cause, "service/")
		if i.State == Resolved || !mapped || len(i.Active) > 0 || on(i.Cause) {
			continue
		}
		i.accrue(at)
		i.State, i.ResolvedAt, i.Impacts = Resolved, at, nil
		i.resume(at)
		i.note(at, "collector", "resolved: "+i.Cause+" is not on the map any more")
		out = append(out, i.clone())
	}
	return out
}
