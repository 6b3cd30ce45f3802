// Package agreement judges what was promised for services against the incidents that were: for each one whether somebody responded, and
// whether it worked again, in time by the hours of the agreement; and what is owed for those that were not.
//
// It is pure: incidents are handed in. What is still open is missed only once its time is over, and while it is on hold no time runs.
package agreement

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Incident is one that an agreement is judged by. A zero time has not been yet.
type Incident struct {
	ID       string
	Service  manifest.Ref
	Priority int // 1 the highest
	Opened   time.Time
	// Acknowledged is when somebody responded; where it is zero, the restoration counts.
	Acknowledged time.Time
	Resolved     time.Time
	OnHold       []Hold // in order, without overlap
}

// Hold is time in which the provider waits for somebody else; a zero To is still going on.
type Hold struct{ From, To time.Time }

// Report is the answer. Spans of time are decimal strings of seconds in the hours of the agreement.
type Report struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	At         string      `json:"at"`
	Agreements []Agreement `json:"agreements"`
	// Uncovered are services with incidents for which nothing was promised.
	Uncovered []manifest.Ref `json:"uncovered"`
}

// Agreement is one, judged.
type Agreement struct {
	Ref      manifest.Ref   `json:"ref"`
	Title    string         `json:"title,omitempty"`
	Provider manifest.Ref   `json:"provider"`
	Services []manifest.Ref `json:"services"`
	Hours    manifest.Ref   `json:"hours"`    // empty: around the clock
	ReviewBy string         `json:"reviewBy"` // a date
	// ReviewDue says that this day has come.
	ReviewDue bool     `json:"reviewDue"`
	Kept      int      `json:"kept"`
	Missed    int      `json:"missed"`
	Open      int      `json:"open"`
	Verdicts  []Target `json:"verdicts"` // by the time at which they were opened
	Credit    *Credit  `json:"credit"`   // null where none was agreed on or nothing was missed
}

// Credit is what is owed for all that was missed: an amount, or a share of the fee for each breach.
type Credit struct {
	Breaches int    `json:"breaches"`
	Amount   string `json:"amount,omitempty"`
	Currency string `json:"currency,omitempty"`
	// Percent is for each breach, of the fee of its month, which is not known here.
	Percent string `json:"percent,omitempty"`
}

// The outcomes of a target.
const (
	Kept   = "kept"
	Missed = "missed"
	Open   = "open" // it is still to come, and its time is not over
)

// Target is one promise held against one incident.
type Target struct {
	Incident string       `json:"incident"`
	Service  manifest.Ref `json:"service"`
	Priority int          `json:"priority"`
	Promise  string       `json:"promise"` // response or restore
	Opened   string       `json:"opened"`
	Within   string       `json:"within"` // what was promised
	Took     string       `json:"took"`   // until it was done, or until now
	// Due is when the time is over, by the holds that are known; empty where that does not come.
	Due     string `json:"due"`
	Outcome string `json:"outcome"`
}

// around is hours without an end.
type around struct{}

func (around) Spans(from, to time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(from, to time.Time) bool) {
		if from.Before(to) {
			yield(from, to)
		}
	}
}

// Of judges the agreements of a picture by incidents. Incidents that were opened after its moment are left out. Its error is about a
// calendar that cannot be read.
func Of(p *picture.Picture, incidents []Incident) (Report, error) {
	out := Report{APIVersion: manifest.APIVersion, Kind: "Agreements", At: stamp(p.At), Agreements: []Agreement{}, Uncovered: []manifest.Ref{}}
	incidents = slices.DeleteFunc(slices.Clone(incidents), func(i Incident) bool { return i.Opened.After(p.At) })
	slices.SortStableFunc(incidents, func(a, b Incident) int { return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID)) })
	promised := map[manifest.Ref]bool{}
	for r, m := range manifest.Of[manifest.Agreement](p.Set) {
		a, err := judge(p, r.Ref(), m, incidents)
		if err != nil {
			return Report{}, err
		}
		for _, s := range m.Services {
			promised[s] = true
		}
		out.Agreements = append(out.Agreements, a)
	}
	for i := range incidents {
		if s := incidents[i].Service; !promised[s] {
			promised[s] = true
			out.Uncovered = append(out.Uncovered, s)
		}
	}
	slices.Sort(out.Uncovered)
	return out, nil
}

func judge(p *picture.Picture, ref manifest.Ref, m *manifest.Agreement, incidents []Incident) (Agreement, error) {
	zone, hours := time.UTC, slo.Hours(around{})
	if m.Hours != "" {
		c, err := p.Calendar(m.Hours)
		if err != nil {
			return Agreement{}, fmt.Errorf("%s: %w", m.Hours, err)
		}
		zone, hours = c.Zone(), c
	}
	out := Agreement{
		Ref: ref, Title: m.Title, Provider: m.Provider, Services: m.Services, Hours: m.Hours, ReviewBy: m.ReviewBy.String(),
		ReviewDue: civil.At(p.At.In(zone)).Day() >= m.ReviewBy, Verdicts: []Target{},
	}
	for i := range incidents {
		in := &incidents[i]
		at := slices.IndexFunc(m.Targets, func(t manifest.Target) bool { return t.Priority == in.Priority })
		if at < 0 || !slices.Contains(m.Services, in.Service) || civil.At(in.Opened.In(zone)).Day() < m.Signed {
			continue
		}
		t := m.Targets[at]
		for _, x := range []struct {
			promise string
			within  manifest.Duration
			done    time.Time
		}{{"response", t.Response, first(in.Acknowledged, in.Resolved)}, {"restore", t.Restore, in.Resolved}} {
			if x.within == 0 {
				continue
			}
			v := verdict(p.At, hours, in, x.within.Std(), x.done)
			v.Promise = x.promise
			switch v.Outcome {
			case Kept:
				out.Kept++
			case Missed:
				out.Missed++
			default:
				out.Open++
			}
			out.Verdicts = append(out.Verdicts, v)
		}
	}
	out.Credit = owed(m.Credit, out.Missed)
	return out, nil
}

func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// verdict measures an incident until it was done, or until at.
func verdict(at time.Time, hours slo.Hours, in *Incident, within time.Duration, done time.Time) Target {
	until := at
	if !done.IsZero() && done.Before(at) {
		until = done
	}
	var took, ran time.Duration // until it was done; in all
	var due time.Time
	for a, b := range running(hours, in, at) {
		if ran += b.Sub(a); ran >= within && due.IsZero() {
			due = b.Add(within - ran)
		}
		switch {
		case b.Before(until):
			took += b.Sub(a)
		case a.Before(until):
			took += until.Sub(a)
		}
		if !b.Before(until) && !due.IsZero() {
			break
		}
	}
	v := Target{
		Incident: in.ID, Service: in.Service, Priority: in.Priority, Opened: stamp(in.Opened), Within: slo.Seconds(within), Took: slo.Seconds(took), Outcome: Kept,
	}
	if !due.IsZero() {
		v.Due = stamp(due)
	}
	switch {
	case took > within:
		v.Outcome = Missed
	case done.IsZero() || done.After(at):
		v.Outcome = Open
	}
	return v
}

// running yields the stretches in which the time of an incident runs, as far as hours are looked ahead. One that is on hold now stays so.
func running(hours slo.Hours, in *Incident, at time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(from, to time.Time) bool) {
		end := at.Add(calendar.Horizon / 50)
		for a, b := range hours.Spans(in.Opened, end) {
			for _, h := range in.OnHold {
				to := h.To
				if to.IsZero() {
					to = end
				}
				if !to.After(a) || !h.From.Before(b) {
					continue
				}
				if a.Before(h.From) && !yield(a, h.From) {
					return
				}
				a = to
			}
			if a.Before(b) && !yield(a, b) {
				return
			}
		}
	}
}

func owed(c *manifest.Credit, missed int) *Credit {
	if c == nil || missed == 0 {
		return nil
	}
	out := &Credit{Breaches: missed}
	if c.Percent != nil {
		b, _ := c.Percent.MarshalText() // it has no error
		out.Percent = string(b)
		return out
	}
	out.Amount, out.Currency = (c.Amount * manifest.Decimal(missed)).String(), c.Currency
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
