package servicemap

import (
	"maps"

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
