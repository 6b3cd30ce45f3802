// Package servicemap is the map of what the business depends on: a graph of services, components, their members on hosts
// and the hosts, made from the reviewed model; the health of every node of it, kept up to date from what changed; and
// immutable snapshots that anybody may read.
//
// It is pure: no I/O, no clock, no goroutine. A Graph and a Snapshot are never changed and may be shared; a State belongs
// to one goroutine. Missing data makes a health a range here and is never read as good.
package servicemap

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Host is a host as the collector knows it: from enrolment, or from a document. Labels include those of the token.
type Host struct {
	Name   string
	Labels map[string]string
}

// Graph is the map. Nodes are numbered so that what a node rests on has a lower number than the node.
type Graph struct {
	nodes  []node
	index  map[manifest.Ref]int32
	byHost map[string][]Member
	hosts  []Host

	services []manifest.Ref // sorted
	works    []work

	wellOnce sync.Once
	well     *Snapshot // with everything well; made when it is first asked for
}

type node struct {
	ref         manifest.Ref
	title       string
	layer       string
	criticality int
	owner       manifest.Ref
	worth       Value // a service's own
	rule        health.Rule
	inputs      []edge
	parents     []int32
	indicators  []manifest.Indicator
	component   *manifest.Component // of components and members
	unmatched   string              // why a component has no member
}

type edge struct {
	to        int32
	how       health.EdgeMap
	weight    int
	essential bool
}

// Member is a component on a host: the leaf component/web@h1.
type Member struct {
	Ref       manifest.Ref // component/web@h1
	Component manifest.Ref // component/web
	Host      string
	Spec      *manifest.Component // shared, not to be changed
}

// MemberRef returns the reference of a component's member on a host.
func MemberRef(component manifest.Ref, host string) manifest.Ref {
	return component + manifest.Ref("@"+host)
}

// New builds the graph of a set on these hosts; those that the set declares are added. The set must be valid; a loop is
// an error all the same. Hosts that a component names are its members whether they are known or not.
func New(set *manifest.Set, hosts []Host) (*Graph, error) {
	b := &builder{
		set: set, index: make(map[manifest.Ref]int, 2*set.Len()), nodes: make([]node, 0, 2*set.Len()), wants: make([][]wanted, 0, 2*set.Len()), hosts: map[string]map[string]string{}, calendars: map[manifest.Ref]*calendar.Calendar{},
	}
	for _, h := range hosts {
		b.hosts[h.Name] = maps.Clone(h.Labels)
		if b.hosts[h.Name] == nil {
			b.hosts[h.Name] = map[string]string{}
		}
	}
	for r, h := range manifest.Of[manifest.Host](set) {
		if b.hosts[r.Metadata.Name] == nil {
			b.hosts[r.Metadata.Name] = map[string]string{}
		}
		maps.Copy(b.hosts[r.Metadata.Name], r.Metadata.Labels)
		maps.Copy(b.hosts[r.Metadata.Name], h.Labels)
	}
	b.applyTemplates()
	for r, spec := range manifest.Of[manifest.Calendar](set) {
		c, err := calendar.New(spec)
		if err != nil {
			return nil, fmt.Errorf("cannot build the map: %s: %w", r.Ref(), err)
		}
		b.calendars[r.Ref()] = c
	}
	b.names = slices.Sorted(maps.Keys(b.hosts))
	b.listLabels()
	for _, name := range b.names {
		b.add(node{ref: manifest.RefOf(manifest.KindHost, name), layer: "infrastructure"})
	}
	for r, c := range manifest.Of[manifest.Component](set) {
		if err := b.component(r, c); err != nil {
			return nil, err
		}
	}
	for r, s := range manifest.Of[manifest.Service](set) {
		if err := b.service(r, s); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

type builder struct {
	set   *manifest.Set
	hosts map[string]map[string]string
	names []string
	with  map[label][]string // by label, the hosts that have it; sorted
	nodes []node
	wants [][]wanted // by node
	index map[manifest.Ref]int

	calendars map[manifest.Ref]*calendar.Calendar
}

type wanted struct {
	ref  manifest.Ref
	edge edge
}

func (b *builder) add(n node, inputs ...wanted) {
	b.index[n.ref] = len(b.nodes)
	b.nodes = append(b.nodes, n)
	b.wants = append(b.wants, inputs)
}

func (b *builder) component(r *manifest.Resource, c *manifest.Component) error {
	rule, err := c.Health.RuleInForce()
	if err != nil {
		return fmt.Errorf("cannot build the map: %s: %w", r.Ref(), err)
	}
	n := node{ref: r.Ref(), title: c.Title, layer: "application", owner: c.Owner, rule: rule, component: c}
	if c.Hosts == nil {
		b.add(n)
		return nil
	}
	picked := b.pick(c.Hosts)
	var inputs []wanted
	for _, host := range picked {
		m := node{ref: MemberRef(r.Ref(), host), title: c.Title, layer: "application", owner: c.Owner, component: c}
		if c.OnHostItself() {
			b.add(m, wanted{manifest.RefOf(manifest.KindHost, host), edge{weight: 1}})
		} else {
			b.add(m)
		}
		inputs = append(inputs, wanted{m.ref, edge{weight: 1}})
	}
	if len(picked) == 0 {
		n.unmatched = "no host matches " + c.Hosts.String()
	}
	b.add(n, inputs...)
	return nil
}

func (b *builder) service(r *manifest.Resource, s *manifest.Service) error {
	rule, err := s.Health.RuleInForce()
	if err != nil {
		return fmt.Errorf("cannot build the map: %s: %w", r.Ref(), err)
	}
	n := node{
		ref: r.Ref(), title: s.Title, layer: s.Layer, criticality: s.Criticality, owner: s.Owner, rule: rule,
		indicators: s.Indicators, worth: worthOf(s, b.calendarOf(s)),
	}
	var inputs []wanted
	for _, d := range s.DependsOn {
		e := edge{weight: 1, essential: d.Essential}
		if d.Weight != nil {
			e.weight = *d.Weight
		}
		if d.Propagate != nil {
			e.how = *d.Propagate
		}
		inputs = append(inputs, wanted{d.Ref, e})
	}
	b.add(n, inputs...)
	return nil
}

// calendarOf returns the calendar of a service's value. One that is not in the set counts every hour alike: Validate refuses such a
// set, but a stored one may be older than calendars are.
func (b *builder) calendarOf(s *manifest.Service) *calendar.Calendar {
	if s.Value == nil {
		return nil
	}
	return b.calendars[s.Value.Calendar]
}

// finish resolves what nodes rest on and numbers them from the ground up. What is referred to and not declared, such as
// a device of a later version or a host that has not enrolled, is a leaf of which nothing is known.
func (b *builder) finish() (*Graph, error) {
	for i := 0; i < len(b.wants); i++ {
		for _, w := range b.wants[i] {
			if _, ok := b.index[w.ref]; !ok {
				b.add(node{ref: w.ref, layer: "infrastructure"})
			}
		}
	}
	order, err := b.order()
	if err != nil {
		return nil, err
	}
	g := &Graph{nodes: make([]node, len(order)), index: make(map[manifest.Ref]int32, len(order)), byHost: map[string][]Member{}}
	for at, i := range order {
		g.index[b.nodes[i].ref] = int32(at)
	}
	for at, i := range order {
		n := b.nodes[i]
		for _, w := range b.wants[i] {
			w.edge.to = g.index[w.ref]
			n.inputs = append(n.inputs, w.edge)
			child := &g.nodes[w.edge.to]
			if k := len(child.parents); k == 0 || child.parents[k-1] != int32(at) {
				child.parents = append(child.parents, int32(at))
			}
		}
		g.nodes[at] = n
		if of, host := n.ref.Member(); host != "" {
			g.byHost[host] = append(g.byHost[host], Member{n.ref, of, host, n.component})
		}
	}
	for i := range g.nodes {
		if g.nodes[i].ref.Kind() == "service" {
			g.services = append(g.services, g.nodes[i].ref)
		}
	}
	slices.Sort(g.services)
	for _, members := range g.byHost {
		slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Ref, b.Ref) })
	}
	for _, name := range b.names {
		g.hosts = append(g.hosts, Host{name, b.hosts[name]})
	}
	return g, b.works(g)
}

// order returns the nodes from the ground up (depth first, without recursion: a chain may be as long as the map).
func (b *builder) order() ([]int, error) {
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(b.nodes))
	next := make([]int, len(b.nodes))
	order := make([]int, 0, len(b.nodes))
	for root := range b.nodes {
		if state[root] != fresh {
			continue
		}
		state[root] = open
		for stack := []int{root}; len(stack) > 0; {
			at := stack[len(stack)-1]
			if next[at] == len(b.wants[at]) {
				state[at] = done
				order = append(order, at)
				stack = stack[:len(stack)-1]
				continue
			}
			to := b.index[b.wants[at][next[at]].ref]
			next[at]++
			switch state[to] {
			case open:
				return nil, fmt.Errorf("cannot build the map: %s leads back to %s", b.nodes[at].ref, b.nodes[to].ref)
			case fresh:
				state[to] = open
				stack = append(stack, to)
			}
		}
	}
	return order, nil
}

// Len returns how many nodes there are.
func (g *Graph) Len() int { return len(g.nodes) }

// Has reports whether there is such a node.
func (g *Graph) Has(ref manifest.Ref) bool {
	_, ok := g.index[ref]
	return ok
}

// Refs returns every node, sorted.
func (g *Graph) Refs() []manifest.Ref { return slices.Sorted(maps.Keys(g.index)) }

// Services returns the services, sorted.
func (g *Graph) Services() []manifest.Ref { return g.services }

// Hosts returns the hosts with the labels that selectors see, sorted by name.
func (g *Graph) Hosts() []Host { return g.hosts }

// OnHost returns the components on a host, sorted. What is on no map is not among them and is never a target.
func (g *Graph) OnHost(host string) []Member { return g.byHost[host] }

// Members returns the members of a component, sorted.
func (g *Graph) Members(component manifest.Ref) []Member {
	var out []Member
	i, ok := g.index[component]
	if !ok || g.nodes[i].component == nil {
		return nil
	}
	for _, e := range g.nodes[i].inputs {
		if of, host := g.nodes[e.to].ref.Member(); of == component && host != "" {
			out = append(out, Member{g.nodes[e.to].ref, of, host, g.nodes[e.to].component})
		}
	}
	return out
}

// Needs returns how many members of a component must stay well by its own rule: what its quorum needs, else one.
func (g *Graph) Needs(component manifest.Ref) int {
	i, ok := g.index[component]
	if !ok || g.nodes[i].rule.Kind != health.Quorum {
		return 1
	}
	return g.nodes[i].rule.Needed(len(g.nodes[i].inputs))
}

// Indicators returns the measures that a service has of itself. Each is fed to State as a signal of the source
// "indicator/NAME".
func (g *Graph) Indicators(ref manifest.Ref) []manifest.Indicator {
	if i, ok := g.index[ref]; ok {
		return g.nodes[i].indicators
	}
	return nil
}

// ServicesAbove returns the services that rest on a node, directly or not, the node itself included where it is one;
// sorted.
func (g *Graph) ServicesAbove(ref manifest.Ref) []manifest.Ref {
	var out []manifest.Ref
	for _, i := range g.above(ref) {
		if g.nodes[i].ref.Kind() == "service" {
			out = append(out, g.nodes[i].ref)
		}
	}
	slices.Sort(out)
	return out
}

// Above returns a node and all that rests on it, directly or not; nothing where there is no such node.
func (g *Graph) Above(ref manifest.Ref) []manifest.Ref {
	nodes := g.above(ref)
	out := make([]manifest.Ref, len(nodes))
	for k, i := range nodes {
		out[k] = g.nodes[i].ref
	}
	return out
}

// above returns the node and all that rests on it.
func (g *Graph) above(ref manifest.Ref) []int32 {
	start, ok := g.index[ref]
	if !ok {
		return nil
	}
	seen := map[int32]bool{start: true}
	out := []int32{start}
	for at := 0; at < len(out); at++ {
		for _, p := range g.nodes[out[at]].parents {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// BaseValue returns a service's own value before its calendar; unranked for everything else.
func (g *Graph) BaseValue(service manifest.Ref) Value {
	if i, ok := g.index[service]; ok {
		return g.nodes[i].worth
	}
	return Value{}
}

// Value returns what an hour of a node is worth at a moment: a service's own value, or that of the services which rest
// on the node. A value is counted where the loss reaches the business: of two services with value, one of which rests on
// the other, only the upper one counts.
func (g *Graph) Value(ref manifest.Ref, at time.Time) Value {
	i, ok := g.index[ref]
	if !ok {
		return Value{}
	}
	if n := &g.nodes[i]; n.ref.Kind() == "service" && n.worth.Ranked {
		return n.worth.At(at)
	}
	var valued []int32
	for _, i := range g.above(ref) {
		if g.nodes[i].worth.Ranked {
			valued = append(valued, i)
		}
	}
	var sum Value
	for _, i := range g.topmost(valued) {
		sum = sum.Plus(g.nodes[i].worth.At(at))
	}
	return sum
}

// topmost leaves out every node above which there is another one of them.
func (g *Graph) topmost(nodes []int32) []int32 {
	in := make(map[int32]bool, len(nodes))
	for _, i := range nodes {
		in[i] = true
	}
	covered := map[int32]bool{}
	for _, i := range nodes {
		for _, up := range g.above(g.nodes[i].ref)[1:] {
			if in[up] {
				covered[i] = true
				break
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(nodes), func(i int32) bool { return covered[i] })
}

// Owner returns who answers for a node.
func (g *Graph) Owner(ref manifest.Ref) manifest.Ref {
	if i, ok := g.index[ref]; ok {
		return g.nodes[i].owner
	}
	return ""
}

// Repair returns how a component is mended, where the map says so; also asked of a member.
func (g *Graph) Repair(ref manifest.Ref) *manifest.Repair {
	if i, ok := g.index[ref]; ok && g.nodes[i].component != nil {
		return g.nodes[i].component.Repair
	}
	return nil
}

// Vendor returns who runs a component that somebody else runs.
func (g *Graph) Vendor(ref manifest.Ref) manifest.Ref {
	if i, ok := g.index[ref]; ok && g.nodes[i].component != nil && g.nodes[i].component.External != nil {
		return g.nodes[i].component.External.Vendor
	}
	return ""
}

// RestsOn returns what a node rests on directly, sorted.
func (g *Graph) RestsOn(ref manifest.Ref) []manifest.Ref {
	var out []manifest.Ref
	if i, ok := g.index[ref]; ok {
		for _, e := range g.nodes[i].inputs {
			out = append(out, g.nodes[e.to].ref)
		}
	}
	slices.Sort(out)
	return out
}
