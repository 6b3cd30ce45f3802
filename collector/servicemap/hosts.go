package servicemap

import (
	"maps"
	"slices"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// applyTemplates adds the labels of the set's host templates. Each template sees a host as it is without any of them, so that
// their order decides nothing but who names a label first.
func (b *builder) applyTemplates() {
	bare := map[string]map[string]string{} // of hosts that a template changed
	for _, t := range manifest.Of[manifest.HostTemplate](b.set) {
		for name, labels := range b.hosts {
			seen, changed := bare[name]
			if !changed {
				seen = labels
			}
			if !t.Hosts.Matches(name, seen) {
				continue
			}
			if !changed {
				bare[name] = maps.Clone(labels)
			}
			for k, v := range t.Labels {
				if _, has := labels[k]; !has {
					labels[k] = v
				}
			}
		}
	}
}

type label struct{ name, value string }

// listLabels lists the hosts by their labels, so that a component looks at few of them.
func (b *builder) listLabels() {
	b.with = map[label][]string{}
	for _, host := range b.names {
		for k, v := range b.hosts[host] {
			l := label{k, v}
			b.with[l] = append(b.with[l], host)
		}
	}
}

// pick returns the hosts of a selector, sorted; those that it names whether they are known or not.
func (b *builder) pick(h *manifest.Hosts) []string {
	var few []string
	first := true
	for k, v := range h.MatchLabels {
		if list := b.with[label{k, v}]; first || len(list) < len(few) {
			few, first = list, false
		}
	}
	var out []string
	for _, host := range few {
		if h.Matches(host, b.hosts[host]) {
			out = append(out, host)
		}
	}
	out = append(out, h.Names...)
	slices.Sort(out)
	return slices.Compact(out)
}
