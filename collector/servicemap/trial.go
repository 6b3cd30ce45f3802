package servicemap

import (
	"math/bits"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Trial tries out, millions of times, what the map would look like if some bad nodes were put right: it holds only what
// rests on them and brings only that up to date. It belongs to one goroutine and leaves the snapshot as it is.
//
// Its nodes are numbered so that what a node rests on has a lower number than the node.
type Trial struct {
	nodes []trialNode
	parts []int32 // by part, its node
	dirty []uint64
}

type trialNode struct {
	ref     manifest.Ref
	rule    health.Rule
	inputs  []health.Input // those that are not in the trial keep their health
	from    []int32        // by input, its node in the trial, or -1
	parents []feed
	own     health.Range // as it is, or ok once put right
	broken  health.Range // as it is
	result  health.Range
	bare    bool // without inputs or a rule over nothing
}

// feed is an input of a node above.
type feed struct{ node, input int32 }

// Trial returns a trial of putting parts right. It holds all that rests on them or on one of the others. Nodes that are not
// on the map are a mistake of the caller.
func (s *Snapshot) Trial(parts, others []manifest.Ref) *Trial {
	in := map[int32]bool{}
	for _, refs := range [][]manifest.Ref{parts, others} {
		for _, ref := range refs {
			if i, ok := s.graph.index[ref]; !ok {
				panic("BUG: servicemap: a trial of " + ref + ", which is not on the map")
			} else if !in[i] {
				for _, up := range s.graph.above(ref) {
					in[up] = true
				}
			}
		}
	}
	order := make([]int32, 0, len(in))
	for i := range in {
		order = append(order, i)
	}
	slices.Sort(order)
	at := make(map[int32]int32, len(order))
	for k, i := range order {
		at[i] = int32(k)
	}
	t := &Trial{nodes: make([]trialNode, len(order)), dirty: make([]uint64, (len(order)+63)/64)}
	for k, i := range order {
		n := &s.graph.nodes[i]
		x := trialNode{
			ref: n.ref, rule: n.rule, inputs: s.inputs(i), own: s.own(i), broken: s.own(i), result: s.result(i).Range,
			bare: len(n.inputs) == 0 && !n.hasRuleOverNothing(),
		}
		for input, e := range n.inputs {
			from, ok := at[e.to]
			if !ok {
				x.from = append(x.from, -1)
				continue
			}
			x.from = append(x.from, from)
			t.nodes[from].parents = append(t.nodes[from].parents, feed{int32(k), int32(input)})
		}
		t.nodes[k] = x
	}
	for _, ref := range parts {
		t.parts = append(t.parts, at[s.graph.index[ref]])
	}
	return t
}

// Put puts a part right, or makes it as bad again as it is, and brings up to date what rests on it.
func (t *Trial) Put(part int, right bool) {
	own := t.nodes[t.parts[part]].broken
	if right {
		own = health.Exactly(health.OK)
	}
	t.set(part, own)
}

// set gives a part a health of its own and brings up to date what rests on it.
func (t *Trial) set(part int, own health.Range) {
	i := int(t.parts[part])
	if own == t.nodes[i].own {
		return
	}
	t.nodes[i].own = own
	t.dirty[i/64] |= 1 << (i % 64)
	for word := i / 64; word < len(t.dirty); word++ {
		for t.dirty[word] != 0 {
			k := word<<6 | bits.TrailingZeros64(t.dirty[word])
			t.dirty[word] &= t.dirty[word] - 1
			t.reduce(k)
		}
	}
}

// reduce brings one node up to date and marks those above it where it changed.
func (t *Trial) reduce(k int) {
	n := &t.nodes[k]
	r := n.own
	if !n.bare {
		r = n.rule.Reduce(n.inputs, n.own).Range
	}
	if r == n.result {
		return
	}
	n.result = r
	for _, up := range n.parents {
		t.nodes[up.node].inputs[up.input].Range = r
		t.dirty[up.node/64] |= 1 << (up.node % 64)
	}
}

// Len returns how many nodes there are.
func (t *Trial) Len() int { return len(t.nodes) }

// Ref returns what a node is.
func (t *Trial) Ref(node int) manifest.Ref { return t.nodes[node].ref }

// Part returns the node of a part.
func (t *Trial) Part(part int) int { return int(t.parts[part]) }

// Level returns the level of a node now, what is unknown being taken as ok.
func (t *Trial) Level(node int) health.Level { return t.nodes[node].result.Low }

// Inputs returns the nodes of the trial that a node rests on; -1 stands for one that is not in it.
func (t *Trial) Inputs(node int) []int32 { return t.nodes[node].from }

// IsWorst reports whether a node is exactly as bad as the worst of its inputs and itself.
func (t *Trial) IsWorst(node int) bool {
	n := &t.nodes[node]
	return n.bare || n.rule.Kind == health.Worst && len(n.rule.Also) == 0
}

// Blame calls f with each node of the trial that makes a node as bad as it is now, among those that it rests on.
func (t *Trial) Blame(node int, f func(input int)) {
	n := &t.nodes[node]
	if n.bare {
		return
	}
	for _, k := range n.rule.Blame(n.inputs, n.own).Inputs {
		if n.from[k] >= 0 {
			f(int(n.from[k]))
		}
	}
}

// LossAt returns what an hour of a service costs at a level; unranked for everything else.
func (g *Graph) LossAt(service manifest.Ref, level health.Level, at time.Time) Value {
	i, ok := g.index[service]
	if !ok {
		return Value{}
	}
	return g.nodes[i].worth.At(at).LossAt(level)
}
