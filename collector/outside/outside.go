// Package outside turns what is said of the map from outside into signals of its nodes: signals that are posted, the alerts of an
// Alertmanager, the problems of a Zabbix, measures that were asked of a Prometheus, checks of what somebody else runs, and levels
// that an operator set by hand.
//
// Every word has an end. After it the node is unknown, with the reason, and never ok by itself: a sender that fell silent does not
// make a map green. Only what was set by hand just ends, since it stood in the place of what is measured.
//
// It is pure: no I/O, no clock, no goroutine. A Board belongs to one goroutine. It refuses what it cannot place, in words for the
// sender, and holds no more than its bounds.
package outside

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The bounds of what a Board holds. What goes beyond is refused, and the sender may try again.
const (
	MaxSignals = 20_000
	MaxAlerts  = 20_000
)

// ErrFull is wrapped by refusals that are about a bound and not about what was said.
var ErrFull = fmt.Errorf("no room for more")

// The sources that a node's signals have, as a why tree names them. A posted signal has "signal/" and the name of its sender.
const (
	sourceSignal = "signal/"
	sourcePromQL = "promql"
	sourceCheck  = "check"
)

// Board is what was said and still counts.
type Board struct {
	// Of the map, by Draw.
	has     func(manifest.Ref) bool
	refs    []string // of the map, for the hint on a reference that is not there
	alerts  map[manifest.Ref]*alertSource
	index   map[Sender]map[pair][]*alertSource
	named   map[string][]manifest.Ref // components by the name of the signal that they listen to
	listens map[manifest.Ref]string   // the same the other way round
	queries map[manifest.Ref][]Query

	// What was said.
	signals map[string]map[string]Signal // by target, then by source
	count   int                          // of signals
	open    map[Sender]map[string]*Alert // by id; those resolved stay for a while, see tombstone
	heard   map[Sender]time.Time
	hands   map[manifest.Ref]Hand
	polled  map[place]answer
	back    map[manifest.Ref]bool // of which something was taken back, or what was set has ended

	// What the map was told, and what is to be looked at again.
	told    map[manifest.Ref]map[string]servicemap.Signal
	dirty   map[manifest.Ref]bool
	due     map[manifest.Ref]time.Time // when time alone changes what is said of a node
	resend  bool
	sources []manifest.Ref // what Sources returned; nil after it changed
	cleaned time.Time
	firing  map[Sender]int // how many of open fire
	over    map[place]bool // words that are over and are held still
	counts  *Counts
	changed map[string]any // records that are to be written; nil for one that is to be deleted
}

// place is one source of one node.
type place struct {
	ref    manifest.Ref
	source string
}

// answer is what came of asking: of a query, or of a check.
type answer struct {
	rng  health.Range
	text string
}

// Query is something that is to be asked from time to time: an expression, or a check.
type Query struct {
	Ref    manifest.Ref
	Source string // "indicator/NAME", "promql" or "check"
	PromQL string // empty for a check
	Levels map[health.Level]manifest.Bounds
	Every  time.Duration // 0: as the collector is configured
	Check  *manifest.Check
}

// NewBoard returns an empty one, which knows of no map yet.
func NewBoard() *Board {
	return &Board{
		has: func(manifest.Ref) bool { return false }, signals: map[string]map[string]Signal{}, open: map[Sender]map[string]*Alert{},
		heard: map[Sender]time.Time{}, hands: map[manifest.Ref]Hand{}, polled: map[place]answer{}, back: map[manifest.Ref]bool{},
		told: map[manifest.Ref]map[string]servicemap.Signal{}, dirty: map[manifest.Ref]bool{}, due: map[manifest.Ref]time.Time{}, changed: map[string]any{},
		firing: map[Sender]int{}, over: map[place]bool{}, counts: newCounts(),
	}
}

// Draw takes in another map. The next Flush tells it all that counts, whether it was told before or not.
func (b *Board) Draw(set *manifest.Set, g *servicemap.Graph) {
	b.has = g.Has
	b.refs = nil
	for _, r := range g.Refs() {
		b.refs = append(b.refs, string(r))
	}
	b.alerts, b.index = map[manifest.Ref]*alertSource{}, map[Sender]map[pair][]*alertSource{}
	b.named, b.listens, b.queries = map[string][]manifest.Ref{}, map[manifest.Ref]string{}, map[manifest.Ref][]Query{}
	for r, c := range manifest.Of[manifest.Component](set) {
		b.component(r.Ref(), c)
	}
	for r, s := range manifest.Of[manifest.Service](set) {
		for _, i := range s.Indicators {
			b.ask(Query{Ref: r.Ref(), Source: servicemap.IndicatorSource(i.Name), PromQL: i.PromQL, Levels: i.Levels})
		}
	}
	for at := range b.polled {
		if !b.asked(at) {
			delete(b.polled, at)
		}
	}
	for _, sender := range senders {
		for _, a := range b.open[sender] {
			b.match(a)
		}
	}
	b.resend, b.sources = true, nil
}

func (b *Board) component(ref manifest.Ref, c *manifest.Component) {
	switch s := c.Source; {
	case c.External != nil && c.External.Check != nil:
		b.ask(Query{Ref: ref, Source: sourceCheck, Check: c.External.Check})
	case s == nil:
	case s.Signal != "":
		b.named[s.Signal], b.listens[ref] = append(b.named[s.Signal], ref), s.Signal
	case s.PromQL != nil:
		q := Query{Ref: ref, Source: sourcePromQL, PromQL: s.PromQL.Query, Levels: s.PromQL.Levels}
		if s.PromQL.Every != nil {
			q.Every = s.PromQL.Every.Std()
		}
		b.ask(q)
	case s.Alertmanager != nil:
		b.listen(Alertmanager, ref, s.Alertmanager)
	case s.Zabbix != nil:
		b.listen(Zabbix, ref, s.Zabbix)
	}
}

func (b *Board) ask(q Query) { b.queries[q.Ref] = append(b.queries[q.Ref], q) }

func (b *Board) asked(at place) bool {
	return slices.ContainsFunc(b.queries[at.ref], func(q Query) bool { return q.Source == at.source })
}

// Queries returns what is to be asked, in the order of references.
func (b *Board) Queries() []Query {
	var out []Query
	for _, ref := range slices.Sorted(maps.Keys(b.queries)) {
		out = append(out, b.queries[ref]...)
	}
	return out
}

// Answer takes in what came of a query. One that is no longer to be asked is dropped.
func (b *Board) Answer(ref manifest.Ref, source string, rng health.Range, text string) {
	if at := (place{ref, source}); b.asked(at) {
		b.polled[at] = answer{rng, clean(text)}
		result := "said"
		if rng == health.Unknown {
			result = "unknown"
		}
		b.counts.add(countAnswers, 1, "source", kindOf(source), "result", result)
		b.dirty[ref] = true
	}
}

// Sources returns the nodes of which something is said from outside, sorted: those that have a source, and those that somebody has
// signalled or set.
func (b *Board) Sources() []manifest.Ref {
	if b.sources == nil {
		all := map[manifest.Ref]bool{}
		b.eachRef(func(ref manifest.Ref) { all[ref] = b.has(ref) })
		maps.DeleteFunc(all, func(_ manifest.Ref, on bool) bool { return !on })
		b.sources = slices.AppendSeq([]manifest.Ref{}, maps.Keys(all))
		slices.Sort(b.sources)
	}
	return b.sources
}

// TakenBack returns the nodes of which nothing is said any more because it was taken back, or because what was set by hand has ended;
// sorted. Forget leaves one out from then on.
func (b *Board) TakenBack() []manifest.Ref {
	if len(b.back) == 0 {
		return nil
	}
	var out []manifest.Ref
	for ref := range b.back {
		if _, found := slices.BinarySearch(b.Sources(), ref); !found {
			out = append(out, ref)
		}
	}
	slices.Sort(out)
	return out
}

// WasTakenBack reports whether something that was said of a node was taken back, or what was set by hand has ended, since the last Forget.
func (b *Board) WasTakenBack(ref manifest.Ref) bool { return b.back[ref] }

// Forget leaves a node out of TakenBack.
func (b *Board) Forget(ref manifest.Ref) { delete(b.back, ref) }

// Said returns what the map was told of a node from outside: the worst of it, and that in words; unknown where nothing was told yet. What was
// set by hand on a leaf stands for all of it.
func (b *Board) Said(ref manifest.Ref, leaf bool) (rng health.Range, source, text string) {
	if len(b.told[ref]) == 0 {
		return health.Unknown, "", ""
	}
	for s, x := range b.told[ref] {
		if leaf && s == servicemap.ByHand {
			return x.Range, s, x.Text
		}
		if source == "" || x.Range.Low > rng.Low || x.Range.Low == rng.Low && s < source {
			source, text = s, x.Text
		}
		rng.Low, rng.High = max(rng.Low, x.Range.Low), max(rng.High, x.Range.High)
	}
	return rng, source, text
}

func (b *Board) eachRef(f func(manifest.Ref)) {
	for ref := range b.alerts {
		f(ref)
	}
	for _, refs := range b.named {
		for _, ref := range refs {
			f(ref)
		}
	}
	for ref := range b.queries {
		f(ref)
	}
	for ref := range b.hands {
		f(ref)
	}
	for target := range b.signals {
		if ref, ok := targetRef(target); ok {
			f(ref)
		}
	}
}

// Flush returns the signals that the map has not been told yet, those that time alone has changed among them.
func (b *Board) Flush(now time.Time) []servicemap.Signal {
	b.clean(now)
	if b.resend {
		b.eachRef(func(ref manifest.Ref) { b.dirty[ref] = true })
		for ref := range b.told {
			b.dirty[ref] = true
		}
	}
	for ref, at := range b.due {
		if !at.After(now) {
			b.dirty[ref] = true
		}
	}
	var out []servicemap.Signal
	for _, ref := range slices.Sorted(maps.Keys(b.dirty)) {
		if h, set := b.hands[ref]; set && !h.Until.After(now) {
			b.endHand(ref)
		}
		says, next := b.say(ref, now)
		delete(b.due, ref)
		if !next.IsZero() {
			b.due[ref] = next
		}
		was := b.told[ref]
		is := make(map[string]servicemap.Signal, len(says))
		for _, s := range says {
			is[s.Source] = s
			if b.resend || was[s.Source] != s {
				out = append(out, s)
			}
		}
		for _, source := range slices.Sorted(maps.Keys(was)) {
			if _, still := is[source]; !still {
				delete(b.over, place{ref, source})
				out = append(out, servicemap.Signal{Ref: ref, Source: source, Gone: true})
			}
		}
		if b.told[ref] = is; len(is) == 0 {
			delete(b.told, ref)
		}
	}
	clear(b.dirty)
	b.resend = false
	b.countHeld()
	return out
}

// say returns all that counts of one node, and when time alone changes it next.
func (b *Board) say(ref manifest.Ref, now time.Time) (out []servicemap.Signal, next time.Time) {
	add := func(source string, rng health.Range, text string, until time.Time) {
		out = append(out, servicemap.Signal{Ref: ref, Source: source, Range: rng, Text: text})
		if !until.IsZero() && until.After(now) && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	said := map[string]Signal{}
	maps.Copy(said, b.signals[string(ref)])
	if name := b.listens[ref]; name != "" {
		for source, s := range b.signals[nameTarget(name)] {
			if old, ok := said[source]; !ok || s.At.After(old.At) {
				said[source] = s
			}
		}
	}
	for _, source := range slices.Sorted(maps.Keys(said)) {
		s := said[source]
		rng, text := s.now(now)
		add(sourceSignal+source, rng, text, s.Until)
		b.countEnds(place{ref, sourceSignal + source}, !s.Until.After(now))
	}
	if src := b.alerts[ref]; src != nil {
		rng, text, until := b.alarm(src, now)
		add(string(src.sender), rng, text, until)
		heard, ever := b.heard[src.sender]
		b.countEnds(place{ref, string(src.sender)}, ever && !heard.Add(src.within).After(now))
	}
	for _, q := range b.queries[ref] {
		if a, ok := b.polled[place{ref, q.Source}]; ok {
			add(q.Source, a.rng, a.text, time.Time{})
		}
	}
	if h, ok := b.hands[ref]; ok && h.Until.After(now) {
		add(servicemap.ByHand, h.rng(), h.text(), h.Until)
	}
	return out, next
}

// clean drops once a minute what is over: signals and alerts of which no word came for long, what was set and has ended.
func (b *Board) clean(now time.Time) {
	if now.Sub(b.cleaned) < time.Minute {
		return
	}
	b.cleaned = now
	for target, sources := range b.signals {
		for source, s := range sources {
			if now.Sub(s.Until) > forgetSignal {
				b.drop(target, source)
			}
		}
	}
	for ref, h := range b.hands {
		if !h.Until.After(now) {
			b.endHand(ref)
		}
	}
	b.cleanAlerts(now)
}

// endHand ends what was set by hand on a node, as its time is over.
func (b *Board) endHand(ref manifest.Ref) {
	b.Unset(ref)
	b.write(handKey(ref), nil)
	b.counts.add(countExpired, 1, "source", servicemap.ByHand)
}

// clean makes a text from outside fit for a line: without control characters, and not too long.
func clean(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	const most = 300
	if r := []rune(text); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return text
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
