package outside

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
)

// Counts are numbers of what a Board has taken in since it was made, and of what it holds. Any goroutine may read them at any time; a reader
// of several may see them of different moments.
type Counts struct {
	families []Family
	cells    map[cell]*atomic.Uint64 // fixed when it was made
}

// Family is one number for each of some sets of labels.
type Family struct {
	Name, Help string
	Gauge      bool     // it may fall; otherwise it only grows
	Labels     []string // `source="signal"`, one number each; one empty string where there are none
	Scale      float64  // by which a value is multiplied when it is read
}

type cell struct{ family, labels string }

// The families.
const (
	countSignals   = "evenkeel_outside_signals_total"
	countAlerts    = "evenkeel_outside_alerts_total"
	countUnmatched = "evenkeel_outside_unmatched_alerts_total"
	countAnswers   = "evenkeel_outside_answers_total"
	countSet       = "evenkeel_outside_set_levels_total"
	countExpired   = "evenkeel_outside_expired_total"
	countHeld      = "evenkeel_outside_held"
	countHeard     = "evenkeel_outside_heard_time_seconds"
)

// What a source is called in the counts, beside the senders' own names.
const (
	ofSignals    = "signal"
	ofPromQL     = "promql"
	ofIndicators = "indicator"
	ofChecks     = "check"
)

func newCounts() *Counts {
	sender := labels("sender", string(Alertmanager), string(Zabbix))
	words := labels("source", ofSignals, string(Alertmanager), string(Zabbix), servicemap.ByHand)
	c := &Counts{cells: map[cell]*atomic.Uint64{}, families: []Family{
		{Name: countSignals, Help: "Posted signals since the start: taken, refused as they could not be placed or read, refused for want of room.", Labels: labels("result", "taken", "refused", "full")},
		{Name: countAlerts, Help: "Alerts in webhooks since the start; late ones were told of as beginning after their end, and full ones came when there was no room.", Labels: cross(sender, labels("result", "firing", "resolved", "late", "full"))},
		{Name: countUnmatched, Help: "Alerts that fired and that no component listens to, since the start.", Labels: sender},
		{Name: countAnswers, Help: "Answers to queries, indicators and checks since the start: those that said something, and those that left the part unknown.", Labels: cross(labels("source", ofPromQL, ofIndicators, ofChecks), labels("result", "said", "unknown"))},
		{Name: countSet, Help: "Levels set by hand since the start.", Labels: []string{""}},
		{Name: countExpired, Help: "Words that came to their end without another one since the start, by what said them; a silent sender of alerts counts once for each component.", Labels: words},
		{Name: countHeld, Help: "Words that are held, by what said them: signals, alerts that fire, levels set by hand.", Gauge: true, Labels: words},
		{Name: countHeard, Help: "When a sender of alerts was last heard of, in seconds since 1970; 0 for never.", Gauge: true, Labels: sender, Scale: 0.001},
	}}
	for i := range c.families {
		if c.families[i].Scale == 0 {
			c.families[i].Scale = 1
		}
		for _, l := range c.families[i].Labels {
			c.cells[cell{c.families[i].Name, l}] = &atomic.Uint64{}
		}
	}
	return c
}

// Families returns what there is to be read.
func (c *Counts) Families() []Family { return slices.Clone(c.families) }

// Read returns the value of one number of a family; 0 where there is none.
func (c *Counts) Read(f Family, labels string) float64 {
	n, ok := c.cells[cell{f.Name, labels}]
	if !ok {
		return 0
	}
	return float64(n.Load()) * f.Scale
}

// add adds to a counter; pairs are label and value in turn.
func (c *Counts) add(family string, n int, pairs ...string) { c.at(family, pairs).Add(uint64(n)) }

func (c *Counts) set(family string, n int, pairs ...string) { c.at(family, pairs).Store(uint64(n)) }

func (c *Counts) heard(sender Sender, at time.Time) {
	c.set(countHeard, int(at.UnixMilli()), "sender", string(sender))
}

func (c *Counts) at(family string, pairs []string) *atomic.Uint64 {
	var all []string
	for i := 0; i+1 < len(pairs); i += 2 {
		all = append(all, label(pairs[i], pairs[i+1]))
	}
	n, ok := c.cells[cell{family, strings.Join(all, ",")}]
	if !ok {
		panic("BUG: no such count: " + family + " " + strings.Join(all, ","))
	}
	return n
}

func label(name, value string) string { return name + `="` + value + `"` }

func labels(name string, values ...string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = label(name, v)
	}
	return out
}

func cross(a, b []string) []string {
	var out []string
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+","+y)
		}
	}
	return out
}

// kindOf is what a source of a node is called in the counts.
func kindOf(source string) string {
	switch kind, _, _ := strings.Cut(source, "/"); kind {
	case "indicator":
		return ofIndicators
	case sourceCheck:
		return ofChecks
	case sourcePromQL:
		return ofPromQL
	case "signal":
		return ofSignals
	default:
		return kind // a sender of alerts, or by hand
	}
}

// countSignal notes what came of a posted signal.
func (b *Board) countSignal(err error) {
	switch {
	case err == nil:
		b.counts.add(countSignals, 1, "result", "taken")
	case errors.Is(err, ErrFull):
		b.counts.add(countSignals, 1, "result", "full")
	default:
		b.counts.add(countSignals, 1, "result", "refused")
	}
}

// countAlerts notes what came of a message of alerts.
func (b *Board) countAlerts(sender Sender, t Taken, all int, err error) {
	from := []string{"sender", string(sender), "result"}
	if err != nil {
		b.counts.add(countAlerts, all, append(from, "full")...)
		return
	}
	b.counts.add(countAlerts, t.Firing, append(from, "firing")...)
	b.counts.add(countAlerts, t.Resolved, append(from, "resolved")...)
	b.counts.add(countAlerts, t.Late, append(from, "late")...)
	b.counts.add(countUnmatched, t.Unmatched, "sender", string(sender))
}

// countHeld notes what is held now.
func (b *Board) countHeld() {
	b.counts.set(countHeld, b.count, "source", ofSignals)
	for _, sender := range senders {
		b.counts.set(countHeld, b.firing[sender], "source", string(sender))
		if at, ok := b.heard[sender]; ok {
			b.counts.heard(sender, at)
		}
	}
	b.counts.set(countHeld, len(b.hands), "source", servicemap.ByHand)
}

// countEnds notes which of the words on a node have come to their end, each once.
func (b *Board) countEnds(at place, over bool) {
	switch {
	case !over:
		delete(b.over, at)
	case !b.over[at]:
		b.over[at] = true
		b.counts.add(countExpired, 1, "source", kindOf(at.source))
	}
}

// Counts are read by others; see Counts.
func (b *Board) Counts() *Counts { return b.counts }
