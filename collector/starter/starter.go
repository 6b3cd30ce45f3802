// Package starter draws a first map of hosts that are on no map yet: a component for each role that their labels tell, a service
// for each application, and a list of what labels cannot tell: who owns it, what it is worth, what it needs.
//
// It guesses from labels alone and says so; it never changes what is on the map already. It is pure.
package starter

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/importer"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Options name the labels to go by; empty takes the first of the usual ones that any host has.
type Options struct{ Role, App, Owner string }

// Map is the answer.
type Map struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"` // StarterMap
	Labels     Labels               `json:"labels"`
	Resources  []*manifest.Resource `json:"resources"` // by kind and name
	Gaps       []importer.Gap       `json:"gaps"`
}

// Labels are those that were gone by; empty where no host has such a label.
type Labels struct {
	Role  string `json:"role"`
	App   string `json:"app"`
	Owner string `json:"owner"`
}

// The usual names of labels, the likeliest first. Each may also be what an agent says of itself, with the prefix agent/.
var (
	roles  = []string{"role", "tier", "component", "function"}
	apps   = []string{"app", "application", "service", "product", "system"}
	owners = []string{"owner", "team"}
)

// Of draws a map of the hosts of a picture that carry no component yet. It fails where there is no such host.
func Of(p *picture.Picture, opt Options) (Map, error) {
	g := p.Map.Graph()
	b := &builder{set: p.Set, all: g.Hosts(), taken: map[manifest.Ref]bool{}, out: []*manifest.Resource{}, gaps: []importer.Gap{}}
	for _, h := range b.all {
		if len(g.OnHost(h.Name)) == 0 {
			b.hosts = append(b.hosts, h)
		}
	}
	if len(b.hosts) == 0 {
		return Map{}, fmt.Errorf("there is no host that is on no map yet: evenkeel host list shows those that have enrolled")
	}
	b.labels = Labels{b.label(opt.Role, roles), b.label(opt.App, apps), b.label(opt.Owner, owners)}
	b.draw()
	slices.SortStableFunc(b.out, func(x, y *manifest.Resource) int { return cmp.Compare(x.Ref(), y.Ref()) })
	slices.SortStableFunc(b.gaps, func(x, y importer.Gap) int { return cmp.Compare(x.Ref, y.Ref) })
	return Map{APIVersion: manifest.APIVersion, Kind: "StarterMap", Labels: b.labels, Resources: b.out, Gaps: b.gaps}, nil
}

type builder struct {
	set    *manifest.Set
	all    []servicemap.Host
	hosts  []servicemap.Host // on no map yet
	labels Labels
	out    []*manifest.Resource
	gaps   []importer.Gap
	taken  map[manifest.Ref]bool
}

// label returns the label to go by.
func (b *builder) label(stated string, usual []string) string {
	if stated != "" {
		return stated
	}
	for _, prefix := range []string{"", "agent/"} {
		for _, name := range usual {
			if slices.ContainsFunc(b.hosts, func(h servicemap.Host) bool { return h.Labels[prefix+name] != "" }) {
				return prefix + name
			}
		}
	}
	return ""
}

// group is the hosts of one role in one application; one of both may be empty.
type group struct{ app, role string }

func (b *builder) draw() {
	groups := map[group][]servicemap.Host{}
	for _, h := range b.hosts {
		k := group{h.Labels[b.labels.App], h.Labels[b.labels.Role]}
		if importer.NameOf(k.app+" "+k.role) == "" {
			b.gap(manifest.RefOf(manifest.KindHost, h.Name), b.unlabelled())
			continue
		}
		groups[k] = append(groups[k], h)
	}
	parts := map[string][]manifest.Ref{} // by application
	members := map[string][]servicemap.Host{}
	for _, k := range slices.SortedFunc(maps.Keys(groups), func(x, y group) int { return cmp.Or(cmp.Compare(x.app, y.app), cmp.Compare(x.role, y.role)) }) {
		ref := b.component(k, groups[k])
		if importer.NameOf(k.app) == "" {
			b.gap(ref, "no service rests on it: nobody knows what it is for")
			continue
		}
		parts[k.app] = append(parts[k.app], ref)
		members[k.app] = append(members[k.app], groups[k]...)
	}
	for _, app := range slices.Sorted(maps.Keys(parts)) {
		b.service(app, parts[app], members[app])
	}
}

func (b *builder) unlabelled() string {
	var names []string
	for _, x := range []struct {
		chosen string
		usual  []string
	}{{b.labels.App, apps}, {b.labels.Role, roles}} {
		if x.chosen != "" {
			names = append(names, x.chosen)
		} else {
			names = append(names, x.usual...)
		}
	}
	return "it is on no map: it has none of the labels " + strings.Join(names, ", ")
}

func (b *builder) gap(ref manifest.Ref, text string) {
	b.gaps = append(b.gaps, importer.Gap{Ref: ref, Text: text})
}

func (b *builder) add(kind, name string, spec any) manifest.Ref {
	r := &manifest.Resource{APIVersion: manifest.APIVersion, Kind: kind, Metadata: manifest.Metadata{Name: name}, Spec: spec}
	b.out = append(b.out, r)
	b.taken[r.Ref()] = true
	return r.Ref()
}

// free returns a name that is not taken, with a number at its end where it has to be.
func (b *builder) free(kind, name string) string {
	for n, try := 2, name; ; n++ {
		ref := manifest.RefOf(kind, try)
		if _, there := b.set.Get(ref); !there && !b.taken[ref] {
			return try
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

func (b *builder) component(k group, hosts []servicemap.Host) manifest.Ref {
	c := &manifest.Component{Hosts: &manifest.Hosts{MatchLabels: map[string]string{}}, Owner: b.owner(hosts)}
	for label, value := range map[string]string{b.labels.App: k.app, b.labels.Role: k.role} {
		if label != "" && value != "" {
			c.Hosts.MatchLabels[label] = value
		}
	}
	picked := 0
	for _, h := range b.all {
		if c.Hosts.Matches(h.Name, h.Labels) {
			picked++
		}
	}
	ref := b.add(manifest.KindComponent, b.free(manifest.KindComponent, importer.NameOf(k.app+" "+k.role)), c)
	if picked != len(hosts) {
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name)
		}
		slices.Sort(names)
		c.Hosts = &manifest.Hosts{Names: names}
		b.gap(ref, "its hosts are named: their labels would pick others too")
	}
	if c.Owner == "" {
		b.gap(ref, "no owner: nobody is called when it fails")
	}
	b.gap(ref, "it is its hosts as a whole: say which unit, process or port it is on them")
	if n := len(hosts); n > 1 {
		b.gap(ref, fmt.Sprintf("the worst of its %d hosts counts: say how many of them are needed, in health", n))
	}
	return ref
}

func (b *builder) service(app string, parts []manifest.Ref, hosts []servicemap.Host) {
	name := importer.NameOf(app)
	if there := manifest.RefOf(manifest.KindService, name); b.taken[there] || b.has(there) {
		for _, p := range parts {
			b.gap(p, fmt.Sprintf("%s is there already: let it depend on this", there))
		}
		return
	}
	s := &manifest.Service{Owner: b.owner(hosts)}
	if name != app {
		s.Title = app
	}
	for _, p := range parts {
		s.DependsOn = append(s.DependsOn, manifest.Dependency{Ref: p})
	}
	ref := b.add(manifest.KindService, name, s)
	if s.Owner == "" {
		b.gap(ref, "no owner: nobody is called when it fails")
	}
	b.gap(ref, "neither criticality nor value: it is unranked")
	b.gap(ref, "no support hours: it is not known when somebody has to answer")
	b.gap(ref, "labels tell nothing of other services that it needs")
}

func (b *builder) has(ref manifest.Ref) bool {
	_, there := b.set.Get(ref)
	return there
}

// owner returns the team that all of the hosts name, and declares it where it is not there.
func (b *builder) owner(hosts []servicemap.Host) manifest.Ref {
	if b.labels.Owner == "" {
		return ""
	}
	name := importer.NameOf(hosts[0].Labels[b.labels.Owner])
	for _, h := range hosts[1:] {
		if importer.NameOf(h.Labels[b.labels.Owner]) != name {
			return ""
		}
	}
	if name == "" {
		return ""
	}
	ref := manifest.RefOf(manifest.KindTeam, name)
	if !b.taken[ref] && !b.has(ref) {
		b.add(manifest.KindTeam, name, &manifest.Team{})
		b.gap(ref, "no contact: neither phone nor email")
	}
	return ref
}
