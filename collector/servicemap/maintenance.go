package servicemap

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Maintenance is one in which a node is at some moment.
type Maintenance struct {
	Ref    manifest.Ref
	Reason string
	Owner  manifest.Ref
	Until  time.Time
}

// String writes it as people read it.
func (m *Maintenance) String() string {
	return fmt.Sprintf("in maintenance until %s (%s: %s)", m.Until.UTC().Format(time.RFC3339), m.Ref, m.Reason)
}

// work is a maintenance of the model, with the nodes that it takes away from what rests on them.
type work struct {
	ref   manifest.Ref
	spec  *manifest.Maintenance
	open  *calendar.Calendar
	nodes []int32
}

// lookAhead is how far the next change of a window is looked for; beyond, it is looked for again.
const lookAhead = 400 * 24 * time.Hour

// works finds the nodes of each maintenance. What runs on a host is away with the host; the members of a component are not, so
// that the component itself shows how it does.
func (b *builder) works(g *Graph) error {
	for r, m := range manifest.Of[manifest.Maintenance](b.set) {
		open, err := calendar.New(m.Window.Calendar())
		if err != nil {
			return fmt.Errorf("cannot build the map: %s: %w", r.Ref(), err)
		}
		w := work{ref: r.Ref(), spec: m, open: open}
		for _, ref := range b.worked(m) {
			if i, ok := g.index[ref]; ok {
				w.nodes = append(w.nodes, i)
			}
			if ref.Kind() == "host" {
				for _, member := range g.byHost[ref.Name()] {
					w.nodes = append(w.nodes, g.index[member.Ref])
				}
			}
		}
		g.works = append(g.works, w)
	}
	return nil
}

func (b *builder) worked(m *manifest.Maintenance) []manifest.Ref {
	if len(m.MatchLabels) == 0 {
		return m.Refs
	}
	var out []manifest.Ref
	like := manifest.Hosts{MatchLabels: m.MatchLabels}
	for r := range b.set.All() {
		if (r.Kind == manifest.KindService || r.Kind == manifest.KindComponent) && like.Matches("", r.Metadata.Labels) {
			out = append(out, r.Ref())
		}
	}
	for _, name := range b.names {
		if like.Matches("", b.hosts[name]) {
			out = append(out, manifest.RefOf(manifest.KindHost, name))
		}
	}
	return out
}

// away says which nodes are in maintenance at the moments in [from, until). It is replaced, never changed; the zero one holds
// for no moment.
type away struct {
	nodes       map[int32]Maintenance
	from, until time.Time
}

// awayAt works out what is in maintenance at a moment. Of several at once, the one that ends last counts.
func (g *Graph) awayAt(at time.Time) away {
	out := away{from: at, until: at.Add(lookAhead)}
	for i := range g.works {
		w := &g.works[i]
		for s := range w.open.Segments(at, at.Add(lookAhead)) {
			if s.End.Before(out.until) {
				out.until = s.End
			}
			if s.Factor > 0 {
				out.add(w, s.End)
			}
			break
		}
	}
	return out
}

func (a *away) add(w *work, until time.Time) {
	if a.nodes == nil {
		a.nodes = map[int32]Maintenance{}
	}
	for _, n := range w.nodes {
		if old, ok := a.nodes[n]; !ok || old.Until.Before(until) {
			a.nodes[n] = Maintenance{Ref: w.ref, Reason: w.spec.Reason, Owner: w.spec.Owner, Until: until}
		}
	}
}

func (a *away) holds(at time.Time) bool { return !at.Before(a.from) && at.Before(a.until) }

func (a *away) has(node int32) bool {
	if len(a.nodes) == 0 {
		return false
	}
	_, ok := a.nodes[node]
	return ok
}

// turn brings the state to the maintenance of a moment, and marks what rests on nodes that went or came back.
func (s *State) turn(at time.Time) {
	if len(s.graph.works) == 0 || at.IsZero() || s.away.holds(at) {
		return
	}
	before := s.away
	s.away = s.graph.awayAt(at)
	for n := range s.away.turned(&before) {
		for _, p := range s.graph.nodes[n].parents {
			s.dirty.push(p)
		}
	}
}

// When returns the map in the maintenance of another moment, with all else as it is.
func (s *Snapshot) When(at time.Time) *Snapshot {
	if len(s.graph.works) == 0 || s.away.holds(at) {
		return s
	}
	t := s.State()
	t.Update(at)
	return t.Snapshot()
}

// Turns returns the first moments in (from, to), up to most of them, at which maintenance begins or ends that bears on what some parts
// do to what rests on them, in order.
func (g *Graph) Turns(from, to time.Time, most int, parts ...manifest.Ref) []time.Time {
	if len(g.works) == 0 {
		return nil
	}
	bears := map[int32]bool{}
	for _, ref := range parts {
		for _, up := range g.above(ref) {
			bears[up] = true
			for _, in := range g.nodes[up].inputs {
				bears[in.to] = true
			}
		}
	}
	var out []time.Time
	nodes := g.awayAt(from)
	for nodes.until.Before(to) && len(out) < most {
		next := g.awayAt(nodes.until)
		for n := range next.turned(&nodes) {
			if bears[n] {
				out = append(out, nodes.until)
				break
			}
		}
		nodes = next
	}
	return out
}

// turned yields the nodes that are in maintenance in one of both and not in the other.
func (a *away) turned(old *away) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for _, pair := range [][2]*away{{a, old}, {old, a}} {
			for n := range pair[0].nodes {
				if !pair[1].has(n) && !yield(n) {
					return
				}
			}
		}
	}
}

// Planned returns the times in [from, to) in which a node is in maintenance, in order, without overlap.
func (g *Graph) Planned(ref manifest.Ref, from, to time.Time) []Span {
	var all []Span
	i, ok := g.index[ref]
	if !ok {
		return nil
	}
	for k := range g.works {
		if !slices.Contains(g.works[k].nodes, i) {
			continue
		}
		for start, end := range g.works[k].open.Spans(from, to) {
			all = append(all, Span{start, end})
		}
	}
	slices.SortFunc(all, func(a, b Span) int { return a.From.Compare(b.From) })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && !out[n-1].To.Before(s.From) {
			if s.To.After(out[n-1].To) {
				out[n-1].To = s.To
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// Span is a stretch of time: From up to, and without, To.
type Span struct{ From, To time.Time }

// Maintenance returns the maintenance that a node is in: its own, or for a member of a component that of the component.
func (s *Snapshot) Maintenance(ref manifest.Ref) (Maintenance, bool) {
	i, ok := s.graph.index[ref]
	if !ok {
		return Maintenance{}, false
	}
	if m, ok := s.away.nodes[i]; ok {
		return m, true
	}
	if of, host := ref.Member(); host != "" {
		m, ok := s.away.nodes[s.graph.index[of]]
		return m, ok
	}
	return Maintenance{}, false
}

// mostNamed is how many inputs a text names before it only counts.
const mostNamed = 5

// awayText names the inputs that maintenance takes away.
func (s *Snapshot) awayText(n *node, in []health.Input) string {
	var names []string
	more := 0
	for k := range in {
		switch {
		case !in[k].Away:
		case len(names) < mostNamed:
			m := s.away.nodes[n.inputs[k].to]
			names = append(names, fmt.Sprintf("%s, %s", s.graph.nodes[n.inputs[k].to].ref, m.String()))
		default:
			more++
		}
	}
	if len(names) == 0 {
		return ""
	}
	text := "; not counted: " + strings.Join(names, "; ")
	if more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Worked returns the nodes that a maintenance takes away, sorted; nothing where there is none of that name.
func (g *Graph) Worked(maintenance manifest.Ref) []manifest.Ref {
	var out []manifest.Ref
	for i := range g.works {
		if g.works[i].ref != maintenance {
			continue
		}
		for _, n := range g.works[i].nodes {
			out = append(out, g.nodes[n].ref)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
