package servicemap

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Snapshot is the map at one moment. It is never changed and may be read from many goroutines.
type Snapshot struct {
	graph    *Graph
	pages    []*page
	at       time.Time
	away     away
	assumeOK bool
}

// Node is one node of a snapshot, with all that people ask of it.
type Node struct {
	Ref         manifest.Ref
	Title       string
	Layer       string
	Range       health.Range
	Own         health.Range // of its own signals; exactly ok where it has none and rests on others
	Score       *float64     // of the rule score, one decimal
	Why         Why
	Value       Value // of a service: the base value, which its calendar's factor is for
	Criticality int
	Owner       manifest.Ref
	Signals     []Signal
}

// Why is how a level came about.
type Why struct {
	Rule   string     `json:"rule"`
	Inputs []WhyInput `json:"inputs"`
	Text   string     `json:"text"`
}

// WhyInput is one input of a node: of a leaf, one of its sources. Level is that at the far end, Mapped what arrives.
type WhyInput struct {
	Ref     string `json:"ref"`
	Level   string `json:"level"`
	Mapped  string `json:"mapped"`
	Weight  int    `json:"weight"`
	Counted bool   `json:"counted"`
}

// LevelText writes a range in one word: the level where it is known, "unknown" where nothing is, and both ends otherwise.
func LevelText(r health.Range) string {
	switch {
	case r.Low == r.High:
		return r.Low.String()
	case r == health.Unknown:
		return "unknown"
	default:
		return r.Low.String() + ".." + r.High.String()
	}
}

// State returns a state of its own that goes on from the snapshot, which stays as it is: for what is only supposed.
func (s *Snapshot) State() *State {
	return &State{
		graph: s.graph, opt: Options{AssumeOK: s.assumeOK}, pages: slices.Clone(s.pages), mine: make([]bool, len(s.pages)),
		dirty: newRanks(len(s.graph.nodes)), at: s.at, away: s.away,
	}
}

// ServicesSince returns the services whose health is not what it was in an older snapshot, or whose maintenance began or ended
// since, sorted; all of them where that is nil or of another map. It looks only at what changed.
func (s *Snapshot) ServicesSince(old *Snapshot) []manifest.Ref {
	if old == nil || old.graph != s.graph {
		return s.graph.services
	}
	var out []manifest.Ref
	for n, p := range s.pages {
		if p == old.pages[n] {
			continue
		}
		for i := n * pageSize; i < min((n+1)*pageSize, len(s.graph.nodes)); i++ {
			if ref := s.graph.nodes[i].ref; ref.Kind() == "service" && s.result(int32(i)) != old.result(int32(i)) {
				out = append(out, ref)
			}
		}
	}
	for i := range s.away.turned(&old.away) {
		if ref := s.graph.nodes[i].ref; ref.Kind() == "service" {
			out = append(out, ref)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Graph returns the map that the snapshot is of.
func (s *Snapshot) Graph() *Graph { return s.graph }

// At returns the moment of the latest signal that is in it.
func (s *Snapshot) At() time.Time { return s.at }

func (s *Snapshot) result(i int32) health.Result { return s.pages[i/pageSize].results[i%pageSize] }
func (s *Snapshot) own(i int32) health.Range     { return s.pages[i/pageSize].own[i%pageSize] }

// Range returns the health of a node; ok is false where there is no such node.
func (s *Snapshot) Range(ref manifest.Ref) (r health.Range, ok bool) {
	i, ok := s.graph.index[ref]
	if !ok {
		return health.Unknown, false
	}
	return s.result(i).Range, true
}

// Own returns a node's own level, of the signals about itself.
func (s *Snapshot) Own(ref manifest.Ref) health.Range {
	i, ok := s.graph.index[ref]
	if !ok {
		return health.Unknown
	}
	return s.own(i)
}

// IsLeaf reports whether a node rests on nothing.
func (s *Snapshot) IsLeaf(ref manifest.Ref) bool {
	i, ok := s.graph.index[ref]
	return ok && len(s.graph.nodes[i].inputs) == 0
}

// Node returns one node; ok is false where there is none of that name.
func (s *Snapshot) Node(ref manifest.Ref) (Node, bool) {
	i, ok := s.graph.index[ref]
	if !ok {
		return Node{}, false
	}
	return s.node(i), true
}

// Nodes returns every node, sorted by reference.
func (s *Snapshot) Nodes() []Node {
	out := make([]Node, len(s.graph.nodes))
	for i := range out {
		out[i] = s.node(int32(i))
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(string(a.Ref), string(b.Ref)) })
	return out
}

func (s *Snapshot) node(i int32) Node {
	n := &s.graph.nodes[i]
	r := s.result(i)
	out := Node{
		Ref: n.ref, Title: n.title, Layer: n.layer, Range: r.Range, Own: s.own(i), Why: s.why(i),
		Criticality: n.criticality, Owner: n.owner, Signals: s.pages[i/pageSize].signals[i%pageSize],
	}
	if n.ref.Kind() == "service" {
		out.Value = n.worth.plain()
	}
	if r.Scored {
		score := health.RoundScore(r.Score)
		out.Score = &score
	}
	return out
}

// inputs returns the inputs of a node as its rule sees them.
func (s *Snapshot) inputs(i int32) []health.Input {
	n := &s.graph.nodes[i]
	in := make([]health.Input, len(n.inputs))
	for k, e := range n.inputs {
		in[k] = health.Input{Range: s.result(e.to).Range, Edge: e.how, Weight: e.weight, Essential: e.essential, Away: s.away.has(e.to)}
	}
	return in
}

// Blame says which inputs of a node make it as bad as it is, and whether the node itself does.
func (s *Snapshot) Blame(ref manifest.Ref) (inputs []manifest.Ref, itself, partial bool) {
	i, ok := s.graph.index[ref]
	if !ok {
		return nil, false, false
	}
	n := &s.graph.nodes[i]
	b := n.rule.Blame(s.inputs(i), s.own(i))
	for _, k := range b.Inputs {
		inputs = append(inputs, s.graph.nodes[n.inputs[k].to].ref)
	}
	return inputs, b.Own || b.Shape, b.Partial
}

// Loss returns what an hour of a service costs at its present health, taking what is unknown as ok.
func (s *Snapshot) Loss(service manifest.Ref, at time.Time) Value {
	i, ok := s.graph.index[service]
	if !ok {
		return Value{}
	}
	return s.graph.LossAt(service, s.result(i).Low, at)
}

// Worth returns a service's own value, whatever its health; unranked for everything else.
func (s *Snapshot) Worth(service manifest.Ref, at time.Time) Value {
	i, ok := s.graph.index[service]
	if !ok {
		return Value{}
	}
	return s.graph.nodes[i].worth.At(at).plain()
}

func (s *Snapshot) why(i int32) Why {
	w := s.whatIs(i)
	if m, ok := s.Maintenance(s.graph.nodes[i].ref); ok {
		w.Text = m.String() + "; " + w.Text
	}
	return w
}

func (s *Snapshot) whatIs(i int32) Why {
	n := &s.graph.nodes[i]
	signals := s.pages[i/pageSize].signals[i%pageSize]
	if len(n.inputs) == 0 && !n.hasRuleOverNothing() {
		w := Why{Rule: "own", Inputs: []WhyInput{}, Text: s.leafText(n, s.own(i), signals)}
		for _, sig := range signals {
			w.Inputs = append(w.Inputs, WhyInput{sig.Source, LevelText(sig.Range), LevelText(sig.Range), 1, true})
		}
		return w
	}
	w := Why{Rule: n.rule.Kind.String(), Inputs: []WhyInput{}}
	in := s.inputs(i)
	for k, e := range n.inputs {
		mapped := LevelText(e.how.ApplyRange(in[k].Range))
		counted := in[k].Counted()
		if counted && n.rule.Kind == health.Score && e.weight < health.EssentialWeight && !e.essential {
			counted = e.how.ApplyRange(in[k].Range) != health.Exactly(health.Info)
		}
		w.Inputs = append(w.Inputs, WhyInput{string(s.graph.nodes[e.to].ref), LevelText(in[k].Range), mapped, e.weight, counted})
	}
	w.Text = s.ruleText(n, in) + s.awayText(n, in)
	if own := s.own(i); len(signals) > 0 || own != health.Exactly(health.OK) {
		w.Inputs = append(w.Inputs, WhyInput{string(n.ref), LevelText(own), LevelText(own), 1, true})
		w.Text += "; the node itself: " + s.leafText(n, own, signals)
	}
	if s.NotInMap(n.ref) {
		w.Text += "; " + s.NotInMapText(n.ref)
	}
	return w
}

func (s *Snapshot) leafText(n *node, own health.Range, signals []Signal) string {
	switch {
	case n.unmatched != "" && len(signals) == 0:
		return n.unmatched
	case len(signals) == 0 && s.assumeOK:
		return "no data, taken as ok"
	case len(signals) == 0 && len(n.indicators) > 0:
		return "no data of its indicators"
	case len(signals) == 0:
		return "no data"
	}
	var parts []string
	fixed := ""
	for _, sig := range signals {
		if sig.Source == ByHand && sig.Text != "" {
			fixed = sig.Text // in its own words
			continue
		}
		if len(signals) > 1 && worse(own, sig.Range) == own && sig.Range == health.Exactly(health.OK) && own != sig.Range {
			continue // what is well is no reason
		}
		text := sig.Source + " says " + LevelText(sig.Range)
		if sig.Text != "" {
			text += " (" + sig.Text + ")"
		}
		parts = append(parts, text)
	}
	text := strings.Join(parts, ", ")
	switch {
	case fixed == "":
		return text
	case text == "":
		return fixed
	case len(n.inputs) == 0:
		return fixed + "; without it: " + text
	}
	return fixed + ", " + text
}

// ruleText says in words what the rule made of the inputs.
func (s *Snapshot) ruleText(n *node, in []health.Input) string {
	counted, unknown := 0, 0
	worst, worstAt := health.OK, -1
	for k := range in {
		if !in[k].Counted() {
			continue
		}
		counted++
		m := in[k].Edge.ApplyRange(in[k].Range)
		if m.Low != m.High {
			unknown++
		}
		if worstAt < 0 || m.Low > worst {
			worst, worstAt = m.Low, k
		}
	}
	r := n.rule.Reduce(in, health.Exactly(health.OK))
	level := LevelText(r.Range)
	var text string
	switch k := n.rule.Kind; {
	case counted == 0 && k != health.Quorum:
		text = "no input counts"
	case k == health.Worst && worst == health.OK && unknown == 0:
		text = fmt.Sprintf("worst of %s: ok", plural(counted, "input"))
	case k == health.Worst && worst == health.OK:
		text = fmt.Sprintf("worst of %s: none is known to be worse than ok", plural(counted, "input"))
	case k == health.Worst:
		text = fmt.Sprintf("worst of %s: %s is %s", plural(counted, "input"), s.graph.nodes[n.inputs[worstAt].to].ref, worst)
	case k == health.Best:
		text = fmt.Sprintf("best of %s is %s", plural(counted, "input"), level)
	case k == health.Quorum:
		need := n.rule.Needed(counted)
		if counted < need {
			text = fmt.Sprintf("%d needed and only %s: critical", need, plural(counted, "input"))
		} else {
			text = fmt.Sprintf("%d of %s needed: the %s best is %s", need, plural(counted, "input"), ordinal(need), level)
		}
	case k == health.Threshold:
		text = fmt.Sprintf("the worst level that %s of the weight of %s reaches is %s", percent(n.rule.Share), plural(counted, "input"), level)
	case k == health.Exponential:
		text = fmt.Sprintf("powers of %s summed over %s give %s", strconv.FormatFloat(n.rule.Base, 'g', 6, 64), plural(counted, "input"), level)
	case k == health.Score:
		text = fmt.Sprintf("score %s of %s gives %s", strconv.FormatFloat(health.RoundScore(r.Score), 'f', -1, 64), plural(counted, "input"), level)
	default:
		text = "always ok"
	}
	bare := n.rule
	bare.Also = nil
	if len(n.rule.Also) > 0 {
		if b := bare.Reduce(in, health.Exactly(health.OK)); b.Range != r.Range {
			text += fmt.Sprintf(", with the extra rules %s", level)
		}
	}
	if unknown > 0 {
		text += fmt.Sprintf(" (%s unknown)", plural(unknown, "input"))
	}
	return text
}

func percent(share int64) string {
	return (manifest.Decimal(share) * 100).String() + " %"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
