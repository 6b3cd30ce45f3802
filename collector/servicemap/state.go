package servicemap

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Signal is what one source says of one node itself. A source has one word on a node: a later signal replaces it.
type Signal struct {
	Ref    manifest.Ref
	Source string // "detector/host-cpu@h1", "indicator/orders", ByHand
	Range  health.Range
	Text   string // what it saw, for people
	Gone   bool   // the source has nothing to say any more
}

// ByHand is the source of a level that somebody fixed: of a leaf it takes the place of all that is measured, and on what rests on others
// it is one more input and hides nothing.
const ByHand = "set"

// IndicatorSource returns the source of what an indicator of a service says.
func IndicatorSource(name string) string { return "indicator/" + name }

// Options say how a State reads what it was not told.
type Options struct {
	// AssumeOK reads a leaf without any signal as ok: for maps that are judged on files, without data. Otherwise such a
	// leaf is unknown.
	AssumeOK bool
}

// page is a run of nodes; pages that a snapshot shares are copied before they are written.
const pageSize = 256

type page struct {
	results [pageSize]health.Result
	own     [pageSize]health.Range
	signals [pageSize][]Signal // sorted by source; replaced, never changed
}

// State keeps the health of every node up to date. It belongs to one goroutine.
type State struct {
	graph *Graph
	opt   Options
	pages []*page
	mine  []bool // pages that no snapshot shares
	dirty ranks
	at    time.Time
	away  away
}

// NewState returns the state of a map of which nothing was told yet.
func NewState(g *Graph, opt Options) *State {
	n := (len(g.nodes) + pageSize - 1) / pageSize
	s := &State{graph: g, opt: opt, pages: make([]*page, n), mine: make([]bool, n), dirty: newRanks(len(g.nodes))}
	for i := range s.pages {
		s.pages[i], s.mine[i] = new(page), true
	}
	for i := range g.nodes {
		s.pages[i/pageSize].own[i%pageSize] = s.ownOf(int32(i), nil)
		s.pages[i/pageSize].results[i%pageSize] = s.reduce(int32(i))
	}
	return s
}

// Rebase returns a state of another map with all that s was told of the nodes that are in it too.
func (s *State) Rebase(g *Graph) *State {
	out := NewState(g, s.opt)
	var keep []Signal
	for i := range s.graph.nodes {
		for _, sig := range s.signals(int32(i)) {
			if g.Has(sig.Ref) {
				keep = append(keep, sig)
			}
		}
	}
	out.Update(s.at, keep...)
	return out
}

// Graph returns the map.
func (s *State) Graph() *Graph { return s.graph }

// Update takes in signals, and the maintenance that begins or ends by a moment, and brings everything above them up to date.
// It returns the nodes whose health changed, in the order of their numbers, from the ground up. Signals about nodes that are
// not on the map are dropped.
func (s *State) Update(at time.Time, signals ...Signal) []manifest.Ref {
	if at.After(s.at) {
		s.at = at
	}
	s.turn(at)
	for _, sig := range signals {
		i, ok := s.graph.index[sig.Ref]
		if !ok || !s.tell(i, sig) {
			continue
		}
		if own := s.ownOf(i, s.signals(i)); own != s.own(i) {
			s.write(i).own[i%pageSize] = own
			s.dirty.push(i)
		}
	}
	var changed []manifest.Ref
	for i, ok := s.dirty.pop(); ok; i, ok = s.dirty.pop() {
		r := s.reduce(i)
		if r == s.result(i) {
			continue
		}
		s.write(i).results[i%pageSize] = r
		changed = append(changed, s.graph.nodes[i].ref)
		for _, p := range s.graph.nodes[i].parents {
			s.dirty.push(p)
		}
	}
	return changed
}

func (s *State) result(i int32) health.Result { return s.pages[i/pageSize].results[i%pageSize] }
func (s *State) own(i int32) health.Range     { return s.pages[i/pageSize].own[i%pageSize] }
func (s *State) signals(i int32) []Signal     { return s.pages[i/pageSize].signals[i%pageSize] }

// write returns the page of a node, fit to be written to.
func (s *State) write(i int32) *page {
	n := i / pageSize
	if !s.mine[n] {
		p := *s.pages[n]
		s.pages[n], s.mine[n] = &p, true
	}
	return s.pages[n]
}

// tell keeps a signal and reports whether anything about it is new.
func (s *State) tell(i int32, sig Signal) bool {
	have := s.signals(i)
	at, found := slices.BinarySearchFunc(have, sig.Source, func(x Signal, source string) int { return strings.Compare(x.Source, source) })
	var next []Signal
	switch {
	case sig.Gone && !found, found && have[at] == sig:
		return false
	case sig.Gone:
		if len(have) > 1 {
			next = slices.Delete(slices.Clone(have), at, at+1)
		}
	case found:
		next = slices.Clone(have)
		next[at] = sig
	default:
		next = slices.Insert(slices.Clone(have), at, sig)
	}
	s.write(i).signals[i%pageSize] = next
	return true
}

// ownOf returns a node's own level: the worst of its signals. Where one of them is unknown, so is how bad it may be. An
// indicator of which nothing was told is unknown too; a leaf of which nothing was told is as the options say.
func (s *State) ownOf(i int32, signals []Signal) health.Range {
	n := &s.graph.nodes[i]
	if fixed, ok := byHand(signals); ok && len(n.inputs) == 0 {
		return fixed.Range
	}
	own := health.Exactly(health.OK)
	for _, sig := range signals {
		own = worse(own, sig.Range)
	}
	if n.unmatched != "" {
		return worse(own, health.Unknown)
	}
	if s.opt.AssumeOK {
		return own
	}
	for _, ind := range n.indicators {
		if !told(signals, IndicatorSource(ind.Name)) {
			own = worse(own, health.Unknown)
		}
	}
	if len(n.inputs) == 0 && len(signals) == 0 {
		own = health.Unknown
	}
	return own
}

func byHand(signals []Signal) (Signal, bool) {
	for _, sig := range signals {
		if sig.Source == ByHand {
			return sig, true
		}
	}
	return Signal{}, false
}

func told(signals []Signal, source string) bool {
	return slices.ContainsFunc(signals, func(s Signal) bool { return s.Source == source })
}

func worse(a, b health.Range) health.Range {
	return health.Range{Low: max(a.Low, b.Low), High: max(a.High, b.High)}
}

func (s *State) reduce(i int32) health.Result {
	n := &s.graph.nodes[i]
	if len(n.inputs) == 0 && !n.hasRuleOverNothing() {
		return health.Result{Range: s.own(i)}
	}
	var few [16]health.Input
	in := few[:0]
	for _, e := range n.inputs {
		in = append(in, health.Input{Range: s.result(e.to).Range, Edge: e.how, Weight: e.weight, Essential: e.essential, Away: s.away.has(e.to)})
	}
	return n.rule.Reduce(in, s.own(i))
}

// hasRuleOverNothing reports whether a node without inputs is judged by its rule all the same: a service that declares a
// quorum and nothing to make it up is critical, while a component without a member is unknown.
func (n *node) hasRuleOverNothing() bool {
	return n.rule.Kind == health.Quorum && n.ref.Kind() == "service"
}

// Snapshot returns the map as it is now. It shares with the state all that does not change afterwards; it costs a few
// hundred words for a hundred thousand nodes.
func (s *State) Snapshot() *Snapshot {
	clear(s.mine)
	return &Snapshot{graph: s.graph, pages: slices.Clone(s.pages), at: s.at, away: s.away, assumeOK: s.opt.AssumeOK}
}

// SignalsOf returns what a verdict says of the nodes of the map: of its host; of the component that is its subject, as a
// member on that host; and, where its detector applies to components, of every component on the host.
func (g *Graph) SignalsOf(v *overload.Verdict) []Signal {
	sig := Signal{Source: string(manifest.RefOf(manifest.KindDetector, v.Detector)), Range: health.Exactly(v.Level), Gone: v.Gone}
	switch v.State {
	case overload.Unknown:
		sig.Range = health.Unknown
	case overload.Healthy:
		sig.Range = health.Exactly(health.OK)
	}
	var seen []string
	for _, e := range v.Evidence {
		seen = append(seen, e.Text)
	}
	sig.Text = v.State.String()
	if len(seen) > 0 {
		sig.Text += ": " + strings.Join(seen, "; ")
	}
	var out []Signal
	add := func(ref manifest.Ref) {
		if g.Has(ref) && !slices.ContainsFunc(out, func(x Signal) bool { return x.Ref == ref }) {
			x := sig
			x.Ref = ref
			if v.Subject != "" {
				x.Source = fmt.Sprintf("%s %s", sig.Source, v.Subject)
			}
			out = append(out, x)
		}
	}
	of, host := manifest.Ref(v.Subject).Member()
	onComponent := of.Kind() == "component"
	switch {
	case onComponent && host == "":
		add(MemberRef(of, v.Host))
	case onComponent:
		add(manifest.Ref(v.Subject))
	default:
		add(manifest.RefOf(manifest.KindHost, v.Host))
	}
	if v.AppliesTo == "components" && !onComponent {
		for _, m := range g.OnHost(v.Host) {
			add(m.Ref)
		}
	}
	return out
}

// ranks is a queue of nodes by number, each at most once: what a node rests on is brought up to date before the node.
type ranks struct {
	heap   []int32
	queued []bool
}

func newRanks(n int) ranks { return ranks{queued: make([]bool, n)} }

func (q *ranks) push(i int32) {
	if q.queued[i] {
		return
	}
	q.queued[i] = true
	q.heap = append(q.heap, i)
	for at := len(q.heap) - 1; at > 0; {
		up := (at - 1) / 2
		if q.heap[up] <= q.heap[at] {
			break
		}
		q.heap[up], q.heap[at] = q.heap[at], q.heap[up]
		at = up
	}
}

func (q *ranks) pop() (int32, bool) {
	if len(q.heap) == 0 {
		return 0, false
	}
	top := q.heap[0]
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap = q.heap[:last]
	for at := 0; ; {
		down := 2*at + 1
		if down >= last {
			break
		}
		if down+1 < last && q.heap[down+1] < q.heap[down] {
			down++
		}
		if q.heap[at] <= q.heap[down] {
			break
		}
		q.heap[at], q.heap[down] = q.heap[down], q.heap[at]
		at = down
	}
	q.queued[top] = false
	return top, true
}
