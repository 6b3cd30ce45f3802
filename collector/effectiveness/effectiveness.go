// Package effectiveness says which detectors, runbooks, policies and edges of the map still do what they are for, and which are due
// for a review, with the reason. Evidence gets old: an outcome counts half after each half-life, and less after each change of what it is
// about.
//
// It is pure. It takes no outcome that was not handed in: what nobody has looked at is thin evidence, not bad evidence.
package effectiveness

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/explain"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/table"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The events of an item.
const (
	Good      = "good"      // it did what it is for: the alert was acted on, the runbook mended it, the edge was seen
	Bad       = "bad"       // it did not
	Change    = "change"    // something changed that it depends on: a release, an owner, a host, its threshold
	Confirmed = "confirmed" // somebody reviewed it and found it right
)

// Event is one thing that happened to an item: a reference, or an edge of the map "service/a>component/b". By and Note are those of a
// confirmation, where they are known.
type Event struct {
	Item     string
	At       time.Time
	What     string
	By, Note string
}

// Reviewed says in words what can be reviewed.
const Reviewed = "detector/NAME, runbook/NAME, remediationpolicy/NAME, an edge such as service/shop>component/web, or service/NAME for a gap of the map"

// May reports whether what a reference names can be reviewed.
func May(ref manifest.Ref) bool { return slices.Contains(kinds, ref.Kind()) }

var kinds = []string{"detector", "runbook", "remediationpolicy", service}

// service is the kind of which gaps are reviewed, and nothing else.
const service = "service"

// Options say how evidence is weighed. All are above 0.
type Options struct {
	HalfLife time.Duration // after which an outcome counts half
	Factor   float64       // by which a change lowers the weight of what was before it; up to 1
	Thin     float64       // the weight of evidence below which it is thin
	Changes  int           // how many changes since the last confirmation make a review due
}

// Defaults returns 90 days, 0.5, 5 and 3.
func Defaults() Options {
	return Options{HalfLife: 90 * 24 * time.Hour, Factor: 0.5, Thin: 5, Changes: 3}
}

// The zones of effectiveness, from 0.8 and from 0.5 on.
const (
	Effective   = "effective"
	Partly      = "partly"
	Ineffective = "ineffective"
	Untold      = "unknown" // there is no evidence
)

// Review is the answer.
type Review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	At         string `json:"at"`
	Items      []Item `json:"items"` // all of them: those that are due first, the worst first
	// Gaps are services that are or were bad while nothing that they rest on is to blame: something is missing on the map. A gap stays until
	// somebody confirms its service.
	Gaps []Gap `json:"gaps"`
}

// Item is one thing that can be effective or not.
type Item struct {
	Item string `json:"item"`
	// Effectiveness is the weighted share of good outcomes, Least its Wilson lower bound at 95 %; both null without evidence.
	Effectiveness *float64 `json:"effectiveness"`
	Least         *float64 `json:"least"`
	// Evidence is the weight of all outcomes together: an outcome of this moment counts 1.
	Evidence  float64 `json:"evidence"`
	Outcomes  int     `json:"outcomes"`
	Zone      string  `json:"zone"`
	Confirmed string  `json:"confirmed"` // when it was last; empty for never
	By        string  `json:"by"`        // who did, and what was found; empty where it is not known
	Note      string  `json:"note"`
	Changes   int     `json:"changes"` // since then
	Due       bool    `json:"due"`
	// Why says why it is due, one sentence each.
	Why []string `json:"why"`
}

// Gap is a hole in the map.
type Gap struct {
	Service  manifest.Ref `json:"service"`
	Text     string       `json:"text"`
	Now      bool         `json:"now"`      // the service is bad at this moment
	Seen     string       `json:"seen"`     // when it was last noted, RFC 3339; empty where no incident is known
	Incident string       `json:"incident"` // of that time; empty where none is known
}

// Of reviews the items of events, and the detectors, runbooks and policies of a picture that have none. Events after its moment are left out.
func Of(p *picture.Picture, events []Event, opt Options) Review {
	out := Review{APIVersion: manifest.APIVersion, Kind: "Review", At: p.At.UTC().Format(time.RFC3339), Items: []Item{}, Gaps: []Gap{}}
	by, confirmed := map[string][]Event{}, map[manifest.Ref]time.Time{}
	for r := range p.Set.All() {
		switch r.Kind {
		case manifest.KindDetector, manifest.KindRunbook, manifest.KindRemediationPolicy:
			by[string(r.Ref())] = nil
		}
	}
	for _, e := range events {
		switch ref := manifest.Ref(e.Item); {
		case e.At.After(p.At):
		case ref.Kind() != service || strings.Contains(e.Item, ">"):
			by[e.Item] = append(by[e.Item], e)
		case e.What == Confirmed && e.At.After(confirmed[ref]):
			confirmed[ref] = e.At
		}
	}
	for item, list := range by {
		slices.SortStableFunc(list, func(a, b Event) int { return a.At.Compare(b.At) })
		out.Items = append(out.Items, judge(item, list, p.At, opt))
	}
	slices.SortFunc(out.Items, func(a, b Item) int {
		return cmp.Or(order(b.Due)-order(a.Due), cmp.Compare(zones[a.Zone], zones[b.Zone]), cmp.Compare(known(a.Least), known(b.Least)), cmp.Compare(a.Item, b.Item))
	})
	out.Gaps = gaps(p, confirmed)
	return out
}

// gaps returns the holes in the map that nobody has reviewed since they were seen: those of this moment first, then the latest.
func gaps(p *picture.Picture, confirmed map[manifest.Ref]time.Time) []Gap {
	out := []Gap{}
	at := map[manifest.Ref]int{}
	causes := explain.Of(p)
	for i := range causes.Causes {
		if c := &causes.Causes[i]; c.NotOnMap {
			at[c.Ref] = len(out)
			out = append(out, Gap{Service: c.Ref, Now: true, Text: fmt.Sprintf("it is %s and nothing that it rests on is to blame: what is wrong is not on the map", c.Level)})
		}
	}
	seen := map[manifest.Ref]bool{}
	settled := map[manifest.Ref]bool{}
	for i := range p.Incidents { // the newest first
		n := &p.Incidents[i]
		ref := manifest.Ref(n.Cause)
		if _, there := p.Set.Get(ref); n.GapAt.IsZero() || n.GapAt.After(p.At) || seen[ref] || !there {
			continue
		}
		seen[ref] = true
		if !confirmed[ref].Before(n.GapAt) {
			settled[ref] = true
			continue
		}
		k, now := at[ref]
		if !now {
			k = len(out)
			out = append(out, Gap{Service: ref, Text: fmt.Sprintf("it was %s and nothing that it rests on was to blame: what was wrong is not on the map", n.Level)})
		}
		out[k].Seen, out[k].Incident = n.GapAt.UTC().Format(time.RFC3339), n.ID
	}
	return slices.DeleteFunc(out, func(g Gap) bool { return settled[g.Service] })
}

var zones = map[string]int{Ineffective: 0, Partly: 1, Untold: 2, Effective: 3}

func order(due bool) int {
	if due {
		return 1
	}
	return 0
}

func known(x *float64) float64 {
	if x == nil {
		return 0
	}
	return *x
}

// tally is the weight of outcomes at a moment.
type tally struct{ good, all float64 }

// weigh adds up the outcomes of events in order, as of a moment that is not before the last of them.
func weigh(events []Event, at time.Time, opt Options) (t tally) {
	// Backwards, so that the changes after an outcome are known.
	factor := 1.0
	for _, e := range slices.Backward(events) {
		switch e.What {
		case Change:
			factor *= opt.Factor
		case Good, Bad:
			w := factor * math.Exp2(-float64(at.Sub(e.At))/float64(opt.HalfLife))
			t.all += w
			if e.What == Good {
				t.good += w
			}
		}
	}
	return t
}

func (t tally) zone() string {
	switch e := t.good / t.all; {
	case t.all == 0:
		return Untold
	case e >= 0.8-1e-12:
		return Effective
	case e >= 0.5-1e-12:
		return Partly
	}
	return Ineffective
}

// wilson returns the lower end of the score interval at 95 %, with the weight as the number of trials.
func (t tally) wilson() float64 {
	const z = 1.959964
	n, p := t.all, t.good/t.all
	mid := p + z*z/(2*n)
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max((mid-half)/(1+z*z/n), 0)
}

func judge(item string, events []Event, at time.Time, opt Options) Item {
	t := weigh(events, at, opt)
	out := Item{Item: item, Evidence: round(t.all), Zone: t.zone(), Why: []string{}}
	best, bestAt := "", time.Time{} // the best zone that it had since it was confirmed, and when
	for i, e := range events {
		switch e.What {
		case Good, Bad:
			out.Outcomes++
		case Change:
			out.Changes++
		case Confirmed:
			out.Changes, out.Confirmed, best = 0, e.At.UTC().Format(time.RFC3339), ""
			out.By, out.Note = e.By, e.Note
		}
		then := weigh(events[:i+1], e.At, opt)
		if z := then.zone(); then.all >= opt.Thin && (best == "" || zones[z] > zones[best]) {
			best, bestAt = z, e.At
		}
	}
	if t.all > 0 {
		e, least := round(t.good/t.all), round(t.wilson())
		out.Effectiveness, out.Least = &e, &least
	}
	why := func(format string, args ...any) { out.Why = append(out.Why, fmt.Sprintf(format, args...)) }
	// Somebody has looked: what was known then asks for nobody, and thin evidence not before a half-life is over.
	var looked, last time.Time
	for _, e := range events {
		switch e.What {
		case Confirmed:
			looked = e.At
		case Good, Bad:
			last = e.At
		}
	}
	nothingNew := !looked.IsZero() && !last.After(looked)
	fresh := !looked.IsZero() && at.Sub(looked) < opt.HalfLife
	switch {
	case nothingNew:
	case out.Zone == Ineffective:
		why("it is ineffective: %s of the weight of its outcomes is good", percent(t.good/t.all))
	case best != "" && zones[out.Zone] < zones[best]:
		why("it was %s at %s and is %s now", best, bestAt.UTC().Format(time.RFC3339), out.Zone)
	}
	switch {
	case fresh:
	case out.Outcomes == 0:
		why("no outcome of it is known")
	case t.all < opt.Thin:
		why("its evidence is thin: a weight of %.1f, of %.1f that are wanted", t.all, opt.Thin)
	}
	if out.Changes >= opt.Changes {
		since := "ever"
		if out.Confirmed != "" {
			since = "since it was confirmed at " + out.Confirmed
		}
		why("%d changes %s", out.Changes, since)
	}
	out.Due = len(out.Why) > 0
	return out
}

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// Read reads events out of CSV, with the first line item,at,event. An item is a detector, runbook or policy, or an edge of the map such as
// service/shop>component/web; an event is good, bad, change or confirmed. A service, of which the map had a gap, can only be confirmed. What
// the picture does not know is a mistake.
func Read(p *picture.Picture, file string, text []byte) ([]Event, []manifest.Problem) {
	var out []Event
	problems := table.Read(file, text, []string{"item", "at", "event"}, func(r *table.Row) {
		e := Event{Item: r.Needed("item"), At: r.Time("at"), What: r.OneOf("event", Good, Bad, Change, Confirmed)}
		r.Needed("at")
		if from, to, edge := strings.Cut(e.Item, ">"); edge {
			if !slices.Contains(p.Map.Graph().RestsOn(manifest.Ref(from)), manifest.Ref(to)) {
				r.Mistake("item", fmt.Sprintf("%s does not rest on %s", from, to), "")
			}
		} else if ref := r.Ref("item", kinds...); ref != "" {
			if ref.Kind() == service && e.What != "" && e.What != Confirmed {
				r.Mistake("event", e.What+" is not an event of a service: expected "+Confirmed+", of a gap of the map", "")
			}
			if _, ok := p.Set.Get(ref); !ok {
				r.Mistake("item", string(ref)+" is not among the manifests", "")
			}
		}
		out = append(out, e)
	})
	return out, problems
}
