package collector

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// causes is everything that is wrong on its own account, and what is no longer.
func (d *decider) causes(snapshot *servicemap.Snapshot, now time.Time) []incident.Cause {
	var out []incident.Cause
	graph := snapshot.Graph()
	reach := map[string]overload.ReachChange{}
	if p := d.reach.Load(); p != nil {
		reach = *p
	}
	for _, h := range d.fleet.all() {
		hostRef := string(manifest.RefOf(manifest.KindHost, h.name))
		c := incident.Cause{Ref: hostRef, Host: h.name, Condition: incident.Good, Title: "host " + h.name + " is well"}
		r, seen := reach[h.name]
		members := map[string]overload.Verdict{} // component -> its worst verdict
		h.mu.Lock()
		heard := h.heard
		if len(h.verdicts) == 0 {
			c.Condition = incident.Unknown
		}
		for _, key := range sortedKeys(h.verdicts) {
			v := h.verdicts[key]
			if strings.HasPrefix(v.Subject, "component/") {
				if old, ok := members[v.Subject]; !ok || v.State > old.State || v.State == old.State && v.Level > old.Level {
					members[v.Subject] = v
				}
				continue
			}
			switch {
			case v.State == overload.Overloaded && (c.Condition != incident.Bad || v.Level > c.Level):
				c.Condition, c.Level = incident.Bad, v.Level
				c.Title = fmt.Sprintf("host %s is overloaded: %s", h.name, strings.TrimSpace(v.Detector+" "+v.Subject))
				c.Detail, c.Detector, c.Began = evidence(&v), v.Detector, v.Began
			case v.State == overload.Unknown && c.Condition == incident.Good:
				c.Condition = incident.Unknown
			}
		}
		h.mu.Unlock()
		switch {
		case seen && r.Reach == overload.Down && !r.Shared:
			c.Condition, c.Level = incident.Bad, health.Critical
			c.Title, c.Detail, c.Began = "host "+h.name+" is down", r.Text, heard
		case seen && r.Reach != overload.Connected:
			c.Condition = incident.Unknown
		}
		if c.Condition == incident.Bad {
			var on []manifest.Ref
			for _, m := range graph.OnHost(h.name) {
				on = append(on, m.Ref)
			}
			c.Impacts = d.impacts(snapshot, now, manifest.Ref(hostRef), on...)
		}
		out = append(out, c)
		// What a crowded host does to a component is the host's, and opens no second incident; one that is open stays its own.
		for _, component := range sortedKeys(members) {
			v := members[component]
			ref := servicemap.MemberRef(manifest.Ref(component), h.name)
			if !graph.Has(ref) {
				continue // it was renamed or deleted, and its agent has not heard of it yet
			}
			m := incident.Cause{Ref: string(ref), Host: h.name, Condition: incident.Good}
			_, open := d.book.Of(now, m.Ref)
			switch {
			case v.State == overload.Unknown:
				m.Condition = incident.Unknown
			case v.State == overload.Overloaded && (open || c.Condition != incident.Bad || v.Detector != waitsForCPU):
				m.Condition, m.Level = incident.Bad, v.Level
				m.Title, m.Detail = fmt.Sprintf("%s is unwell: %s", ref, v.Detector), evidence(&v)
				m.Detector, m.Began = v.Detector, v.Began
				m.Impacts = d.impacts(snapshot, now, ref)
			}
			out = append(out, m)
		}
	}
	return append(out, d.outsideCauses(snapshot, now)...)
}

// waitsForCPU is the shipped detector of what a component suffers on a crowded host.
const waitsForCPU = "component-cpu-delay"

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func evidence(v *overload.Verdict) string {
	var texts []string
	for _, e := range v.Evidence {
		texts = append(texts, e.Text)
	}
	return strings.Join(texts, "; ")
}

// hitsOf traces a snapshot, once for all causes of a moment.
func (d *decider) hitsOf(snapshot *servicemap.Snapshot) *cause.Hits {
	if d.traced.of != snapshot {
		d.traced.of, d.traced.hits = snapshot, cause.Trace(snapshot)
	}
	return d.traced.hits
}

// impacts returns the services that a cause hits by the rules of the map, each once, and says which of them count within another. Of a host
// with what runs on it these are all services above it: it is crowded for each of them; but those that go on in spite of it, or are bad by
// somebody else's doing, lose nothing by it.
func (d *decider) impacts(snapshot *servicemap.Snapshot, now time.Time, ref manifest.Ref, on ...manifest.Ref) []incident.Impact {
	graph := snapshot.Graph()
	var services []manifest.Ref
	hit := map[manifest.Ref]bool{}
	add := func(all []manifest.Ref) {
		for _, service := range all {
			if !slices.Contains(services, service) {
				services = append(services, service)
			}
		}
	}
	hits := d.hitsOf(snapshot)
	for _, part := range append(on, ref) {
		by := hits.Of(part)
		for _, service := range by {
			hit[service] = true
		}
		if add(by); ref.Kind() == "host" {
			add(graph.ServicesAbove(part))
		}
	}
	slices.Sort(services)
	var out []incident.Impact
	for _, service := range services {
		r, _ := snapshot.Range(service)
		worth := snapshot.Worth(service, now)
		i := incident.Impact{Service: string(service), Level: r.Low, Points: worth.Points, Spared: !hit[service]}
		if worth.Priced {
			i.Money, i.Currency = worth.Money.Float(), worth.Currency
		}
		if s, ok := manifest.SpecOf[manifest.Service](d.keeper.Set(), service); ok {
			i.Criticality = s.Criticality
			if s.Value != nil && s.Value.Loss != nil {
				i.Loss = map[health.Level]float64{}
				for l, f := range s.Value.Loss {
					i.Loss[l] = f.Float()
				}
			}
		}
		out = append(out, i)
	}
	for k := range out {
		i := &out[k]
		above := graph.ServicesAbove(manifest.Ref(i.Service))
		i.Within = slices.ContainsFunc(out, func(o incident.Impact) bool {
			return o.Service != i.Service && o.Loses() && slices.Contains(above, manifest.Ref(o.Service))
		})
	}
	return out
}
