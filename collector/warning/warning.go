// Package warning tells of trouble before it is there: from when parts will run out of something, each a range of time, through the rules
// of the map, to when each service will be breached, as a range too.
//
// It is pure. It draws a line through what was measured and says how sure it is; it does not know what nobody measured. All rules get
// no better when an input gets worse, so the soonest times give the soonest breach and the latest the latest.
package warning

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Forecast says that a part becomes critical in between Lo and Hi from now; either may be Never.
type Forecast struct {
	Ref    manifest.Ref
	Lo, Hi time.Duration
}

// Series is what was measured of a part, and the limit at which the part is critical.
type Series struct {
	Ref    manifest.Ref
	Name   string
	Limit  float64
	Above  bool // the limit is reached from below
	Points []Point
}

// Report is the answer. Spans of time are decimal strings of seconds, or never.
type Report struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	At         string    `json:"at"`
	Series     []Line    `json:"series"`
	Parts      []Part    `json:"parts"`    // the soonest first
	Services   []Service `json:"services"` // that will be breached or are, the soonest first
}

// Line is the trend of a series. It is null where there are too few points.
type Line struct {
	Ref    manifest.Ref `json:"ref"`
	Series string       `json:"series"`
	Points int          `json:"points"`
	Limit  float64      `json:"limit"`
	Trend  *Slope       `json:"trend"`
}

// Slope is a change an hour with a 95 % range, and the value of the line now.
type Slope struct {
	PerHour float64 `json:"perHour"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Now     float64 `json:"now"`
	In      Span    `json:"in"` // until the limit
}

// Span is a time to come: at the soonest, and at the latest.
type Span struct {
	Low  string `json:"low"`
	High string `json:"high"`
}

// Part is when a part becomes critical: by the first of all that is known of it.
type Part struct {
	Ref manifest.Ref `json:"ref"`
	In  Span         `json:"in"`
}

// Service is when a service is breached.
type Service struct {
	Ref   manifest.Ref `json:"ref"`
	Title string       `json:"title,omitempty"`
	// Breach is the level at which it counts as breached: the least of what its objectives call bad, or major.
	Breach health.Level `json:"breach"`
	Now    bool         `json:"now"` // it is breached already
	In     Span         `json:"in"`
	// Earliest and Latest are the moments of In, RFC 3339; empty for never.
	Earliest string `json:"earliest"`
	Latest   string `json:"latest"`
	// Because are the parts to blame at the soonest time.
	Because []manifest.Ref `json:"because"`
	// PerHour is what the service by itself loses in an hour then, by unit.
	PerHour cost.Amounts `json:"perHour"`
}

// Of tells which services of a picture will be breached, when parts become critical as series and forecasts say. What is in maintenance now
// is taken to stay so. Its error is about a part that is not on the map.
func Of(p *picture.Picture, series []Series, forecasts []Forecast) (Report, error) {
	out := Report{APIVersion: manifest.APIVersion, Kind: "Warnings", At: stamp(p.At), Series: []Line{}, Parts: []Part{}, Services: []Service{}}
	parts := map[manifest.Ref]Forecast{}
	add := func(f Forecast) {
		old, ok := parts[f.Ref]
		if !ok {
			old = Forecast{f.Ref, Never, Never}
		}
		parts[f.Ref] = Forecast{f.Ref, min(old.Lo, f.Lo), min(old.Hi, f.Hi)}
	}
	for _, f := range forecasts {
		if f.Lo < 0 || f.Hi < f.Lo {
			return Report{}, fmt.Errorf("%s: from %s to %s is no time to come", f.Ref, f.Lo, f.Hi)
		}
		add(f)
	}
	for i := range series {
		line, f, ok := lineOf(&series[i], p.At)
		out.Series = append(out.Series, line)
		if ok {
			add(f)
		}
	}
	list := slices.SortedFunc(maps.Values(parts), func(a, b Forecast) int {
		return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi), cmp.Compare(a.Ref, b.Ref))
	})
	for _, f := range list {
		if !p.Map.Graph().Has(f.Ref) {
			return Report{}, errors.New(string(f.Ref) + " is not on the map")
		}
		out.Parts = append(out.Parts, Part{f.Ref, span(f.Lo, f.Hi)})
	}
	level := breachLevels(p)
	soon := push(p, list, level, func(f Forecast) time.Duration { return f.Lo })
	late := push(p, list, level, func(f Forecast) time.Duration { return f.Hi })
	for ref, b := range soon {
		out.Services = append(out.Services, service(p, ref, level[ref], b, late))
	}
	slices.SortFunc(out.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(soon[a.Ref].in, soon[b.Ref].in), cmp.Compare(a.Ref, b.Ref))
	})
	return out, nil
}

func lineOf(s *Series, now time.Time) (Line, Forecast, bool) {
	out := Line{Ref: s.Ref, Series: s.Name, Points: len(s.Points), Limit: s.Limit}
	t, ok := TrendOf(s.Points, now)
	if !ok {
		return out, Forecast{}, false
	}
	lo, hi := t.Until(s.Limit, s.Above)
	out.Trend = &Slope{round(t.Slope * 3600), round(t.Low * 3600), round(t.High * 3600), round(t.Now), span(lo, hi)}
	return out, Forecast{s.Ref, lo, hi}, true
}

// breachLevels returns the level at which each service counts as breached.
func breachLevels(p *picture.Picture) map[manifest.Ref]health.Level {
	out := map[manifest.Ref]health.Level{}
	for _, ref := range p.Map.Graph().Services() {
		out[ref] = health.Major
	}
	stated := map[manifest.Ref]bool{}
	for _, m := range manifest.Of[manifest.SLO](p.Set) {
		if l := m.BadFrom(); !stated[m.Service] || l < out[m.Service] {
			out[m.Service], stated[m.Service] = l, true
		}
	}
	return out
}

// breach is when a service is breached, and the map then.
type breach struct {
	in  time.Duration
	now bool
	at  *servicemap.Snapshot
}

// push makes the parts critical one after the other, and returns when each service is breached first. The map is brought up to date upwards
// from each part alone.
func push(p *picture.Picture, parts []Forecast, level map[manifest.Ref]health.Level, when func(Forecast) time.Duration) map[manifest.Ref]breach {
	out := map[manifest.Ref]breach{}
	for ref, l := range level {
		if r, _ := p.Map.Range(ref); r.Low >= l {
			out[ref] = breach{0, true, p.Map}
		}
	}
	parts = slices.DeleteFunc(slices.Clone(parts), func(f Forecast) bool { return when(f) == Never })
	slices.SortStableFunc(parts, func(a, b Forecast) int { return cmp.Compare(when(a), when(b)) })
	state := p.Map.State()
	for i := 0; i < len(parts); {
		in := when(parts[i])
		var signals []servicemap.Signal
		for ; i < len(parts) && when(parts[i]) == in; i++ {
			signals = append(signals, servicemap.Signal{Ref: parts[i].Ref, Source: servicemap.ByHand, Range: health.Exactly(health.Critical)})
		}
		changed := state.Update(p.At, signals...)
		var snap *servicemap.Snapshot
		for _, ref := range changed {
			l, service := level[ref]
			if _, known := out[ref]; !service || known {
				continue
			}
			if snap == nil {
				snap = state.Snapshot()
			}
			if r, _ := snap.Range(ref); r.Low >= l {
				out[ref] = breach{in, false, snap}
			}
		}
	}
	return out
}

func service(p *picture.Picture, ref manifest.Ref, level health.Level, b breach, late map[manifest.Ref]breach) Service {
	n, _ := p.Map.Node(ref)
	latest := Never
	if l, ok := late[ref]; ok {
		latest = l.in
	}
	out := Service{
		Ref: ref, Title: n.Title, Breach: level, Now: b.now, In: span(b.in, latest), Earliest: moment(p.At, b.in), Latest: moment(p.At, latest),
		Because: []manifest.Ref{}, PerHour: cost.Amounts{},
	}
	for _, c := range cause.Of(b.at, ref, p.At).Causes {
		out.Because = append(out.Because, c.Ref)
	}
	slices.Sort(out.Because)
	loss := b.at.Loss(ref, p.At.Add(b.in))
	for _, unit := range cost.Units(p.Map.Graph()) {
		if _, ok := loss.In(unit); ok {
			d, err := manifest.ParseDecimal(loss.Text(unit))
			if err != nil {
				panic("BUG: warning: a loss that is no decimal: " + err.Error())
			}
			out.PerHour[unit] = d
		}
	}
	return out
}

func span(lo, hi time.Duration) Span { return Span{seconds(lo), seconds(hi)} }

func seconds(d time.Duration) string {
	if d == Never {
		return "never"
	}
	return slo.Seconds(d.Truncate(time.Second))
}

func moment(at time.Time, in time.Duration) string {
	if in == Never {
		return ""
	}
	return stamp(at.Add(in))
}

func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
