package recovery

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// loss is what the broken parts of a map cost, made into needs and terms. It counts as the report on causes does: a
// service that is bad loses by its level, but nothing where a service above it that blames it loses already.
type loss struct {
	snap  *servicemap.Snapshot // in the maintenance of from
	from  time.Duration        // this holds from then on, up to until; counted from the start of the plan
	until time.Duration
	at    time.Time
	lasts time.Duration // no plan lasts longer: all repairs, one after the other
	read  map[*calendar.Calendar]*hours
	known map[string]*hours

	trial *servicemap.Trial
	parts []Part
	needs []Need
	terms []Term
	right []bool    // parts that are put right in the trial
	worth [][]int64 // by node: of a service with value, its loss by level in an hour of factor 1
	under []Set     // by node, the parts beneath it
	above [][]int   // by node, those that rest on it and are, or are beneath, a service with value
	hit   []bool    // for rate
}

// claim is what one service with value loses, which depends also on those with value above it.
type claim struct {
	node  int
	parts []int
	span  []int // the nodes above it that can blame it for a loss, from the top down
	phase       // in which this holds
}

// turnsUpTo is how often the beginning or end of maintenance is followed; from then on it is taken to stay.
const turnsUpTo = 16

// surveys returns what broken parts cost, one after the other as maintenance begins and ends: what is worked on does not count while it lasts.
func surveys(snap *servicemap.Snapshot, opt Options) []*loss {
	parts := broken(snap, opt)
	var lasts time.Duration
	refs := make([]manifest.Ref, len(parts))
	for i := range parts {
		lasts += parts[i].Takes
		refs[i] = parts[i].Ref
	}
	from, known := time.Duration(0), map[string]*hours{}
	var out []*loss
	for _, turn := range append(snap.Graph().Turns(opt.At, opt.At.Add(lasts), turnsUpTo, refs...), time.Time{}) {
		until := time.Duration(math.MaxInt64)
		if !turn.IsZero() {
			until = turn.Sub(opt.At)
		}
		m := &loss{
			snap: snap.When(opt.At.Add(from)), from: from, until: until, at: opt.At, lasts: lasts, parts: parts,
			read: map[*calendar.Calendar]*hours{}, known: known,
		}
		m.survey(opt)
		out = append(out, m)
		from = until
	}
	return out
}

func (m *loss) survey(opt Options) {
	snap := m.snap
	var refs, others []manifest.Ref
	for i := range m.parts {
		refs = append(refs, m.parts[i].Ref)
	}
	for _, s := range snap.Graph().Services() {
		if r, _ := snap.Range(s); r.Low >= health.Warning {
			others = append(others, s)
		}
	}
	m.trial = snap.Trial(refs, others)
	m.right = make([]bool, len(m.parts))
	m.hit = make([]bool, m.trial.Len())
	m.worth = make([][]int64, m.trial.Len())
	for node := range m.worth {
		if _, planned := snap.Maintenance(m.trial.Ref(node)); !planned { // it is as it was planned to be
			m.worth[node] = worthOf(snap.Graph(), m.trial.Ref(node), opt)
		}
	}
	m.settle()
	var claims []*claim
	for node := range m.worth {
		if m.worth[node] == nil {
			continue
		}
		c := m.claim(node)
		if len(c.parts) == 0 {
			continue
		}
		for _, c.phase = range m.phases(c) {
			if len(c.span) == 0 && m.plain(node) {
				m.alone(c)
				continue
			}
			one := *c
			one.parts = slices.Clone(c.parts) // terms sort them
			claims = append(claims, &one)
		}
	}
	for len(claims) > 0 {
		var same, rest []*claim
		for _, c := range claims {
			if c.curve == claims[0].curve {
				same = append(same, c)
			} else {
				rest = append(rest, c)
			}
		}
		m.join(same)
		claims = rest
	}
}

// join makes claims of one curve into terms: one each, but for those that rest on so many parts that it takes less to ask all of them at
// once for every set of parts than each of them for its own sets.
func (m *loss) join(claims []*claim) {
	slices.SortStableFunc(claims, func(a, b *claim) int { return cmp.Compare(len(a.parts), len(b.parts)) })
	from := len(claims)
	if len(m.parts) <= exactUpTo {
		asked := 0
		for from = 0; from < len(claims) && asked < 1<<len(m.parts)/4; from++ {
			asked += 1 << len(claims[from].parts)
		}
	}
	for _, c := range claims[:from] {
		m.term(c.parts, c)
	}
	if from == len(claims) {
		return
	}
	all := NewSet(len(m.parts))
	for _, c := range claims[from:] {
		for _, i := range c.parts {
			all.Add(i)
		}
	}
	m.term(members(all), claims[from:]...)
}

// worthOf returns what an hour of factor 1 of a service costs by level, in millionths; nil where that is nothing at any level.
func worthOf(g *servicemap.Graph, ref manifest.Ref, opt Options) []int64 {
	if ref.Kind() != "service" {
		return nil
	}
	var worth []int64
	for level := health.OK; level <= health.Critical; level++ {
		v := g.BaseValue(ref).LossAt(level)
		n, ok := v.In(opt.Unit)
		if !ok || n <= 0 || level < health.Warning {
			worth = append(worth, 0)
			continue
		}
		d, err := manifest.ParseDecimal(v.Text(opt.Unit))
		if err != nil {
			panic("BUG: recovery: a value that is no decimal: " + err.Error())
		}
		worth = append(worth, int64(d))
	}
	if slices.Max(worth) == 0 {
		return nil
	}
	return worth
}

// settle works out what is beneath and above each node.
func (m *loss) settle() {
	n := m.trial.Len()
	m.under, m.above = make([]Set, n), make([][]int, n)
	for node := range n {
		m.under[node] = NewSet(len(m.parts))
	}
	for i := range m.parts {
		m.under[m.trial.Part(i)].Add(i)
	}
	for node := range n {
		for _, in := range m.trial.Inputs(node) {
			if in >= 0 {
				m.under[node].Union(m.under[in])
			}
		}
	}
	for node := n - 1; node >= 0; node-- {
		if m.worth[node] == nil && len(m.above[node]) == 0 {
			continue
		}
		for _, in := range m.trial.Inputs(node) {
			if in < 0 {
				continue
			}
			if up := m.above[in]; len(up) == 0 || up[len(up)-1] != node {
				m.above[in] = append(up, node)
			}
		}
	}
}

// claim says what the loss of a service depends on.
func (m *loss) claim(node int) *claim {
	c := &claim{node: node}
	all := slices.Clone(m.under[node])
	seen := map[int]bool{}
	for queue := slices.Clone(m.above[node]); len(queue) > 0; queue = queue[1:] {
		if up := queue[0]; !seen[up] {
			seen[up] = true
			c.span = append(c.span, up)
			queue = append(queue, m.above[up]...)
			if m.worth[up] != nil {
				all.Union(m.under[up])
			}
		}
	}
	slices.Sort(c.span)
	slices.Reverse(c.span)
	c.parts = members(all)
	return c
}

func members(s Set) (out []int) {
	s.Each(func(i int) { out = append(out, i) })
	return out
}

// plain reports whether a service is as bad as the worst of what is beneath it, all the way down.
func (m *loss) plain(service int) bool {
	seen := map[int]bool{}
	queue := []int{service}
	for ; len(queue) > 0; queue = queue[1:] {
		node := queue[0]
		if seen[node] {
			continue
		}
		seen[node] = true
		if !m.trial.IsWorst(node) {
			return false
		}
		for _, in := range m.trial.Inputs(node) {
			if in >= 0 && m.under[in].Len() > 0 {
				queue = append(queue, int(in))
			}
		}
	}
	return true
}

// alone makes the loss of a plain service into needs. It is the greatest of what each of its parts would cause if it were
// the only one that is broken: so each step up from one of these to the next ends once all parts are mended that cause
// as much.
func (m *loss) alone(c *claim) {
	for _, i := range c.parts {
		m.put(i, true)
	}
	cause := make([]int64, len(c.parts))
	last := m.rate(c)
	for k, i := range c.parts {
		m.put(i, false)
		cause[k] = m.rate(c)
		m.put(i, true)
	}
	steps := slices.Clone(cause)
	slices.Sort(steps)
	for _, up := range slices.Compact(steps) {
		if up <= last {
			continue
		}
		n := Need{Rate: up - last, Curve: c.curve}
		for k, i := range c.parts {
			if cause[k] >= up {
				n.Parts = append(n.Parts, i)
			}
		}
		m.needs = append(m.needs, n)
		last = up
	}
}

// term adds what some services lose as a term of these parts. Those on which least rests come first: they are put right and
// spoilt most often when all sets are gone over.
func (m *loss) term(parts []int, claims ...*claim) {
	rests := make([]int, len(m.parts))
	for node := range m.under {
		m.under[node].Each(func(i int) { rests[i]++ })
	}
	slices.SortStableFunc(parts, func(a, b int) int { return cmp.Compare(rests[a], rests[b]) })
	m.terms = append(m.terms, Term{Parts: parts, Curve: claims[0].curve, Rate: func(mended Set) (rate int64) {
		for at, i := range parts {
			m.put(i, mended.Has(at))
		}
		for _, c := range claims {
			rate += m.rate(c)
		}
		return rate
	}})
}

func (m *loss) put(part int, right bool) {
	if m.right[part] != right {
		m.right[part] = right
		m.trial.Put(part, right)
	}
}

// rate returns what a service loses an hour as things stand in the trial.
func (m *loss) rate(c *claim) int64 {
	lost := int64(manifest.Decimal(m.losing(c.node)).Times(c.factor))
	if lost == 0 || len(c.span) == 0 {
		return lost
	}
	m.hit[c.node] = false
	for _, node := range c.span {
		m.hit[node] = false
	}
	for _, node := range c.span {
		if m.hit[node] || m.losing(node) > 0 && !slices.Contains(c.dark, node) {
			// Marks beside the span are put on nodes that nobody reads before they are taken off.
			m.trial.Blame(node, func(in int) { m.hit[in] = true })
		}
	}
	if m.hit[c.node] {
		return 0
	}
	return lost
}

func (m *loss) losing(node int) int64 {
	if m.worth[node] == nil {
		return 0
	}
	return m.worth[node][m.trial.Level(node)]
}
