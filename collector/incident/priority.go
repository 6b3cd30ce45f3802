package incident

import (
	"errors"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// Priority says how soon somebody should look, from 1 (at once) to 4.
type Priority int

// Lowest is the priority of an incident that hits no service.
const Lowest Priority = 4

// String returns "P1" to "P4".
func (p Priority) String() string { return fmt.Sprintf("P%d", int(p)) }

// PriorityOf is the highest that any of the services hit asks for: its criticality, and one less for each step by which it falls short of
// losing half its value. It loses half or more: none; some of it: one; nothing of its value, but its level is major or worse: one;
// minor: two; otherwise: three. A service without a criticality counts as of the lowest.
func PriorityOf(impacts []Impact) Priority {
	out := Lowest
	for k := range impacts {
		i := &impacts[k]
		p := Priority(i.Criticality)
		if p == 0 {
			p = Lowest
		}
		switch f := i.Fraction(); {
		case f >= 0.5:
		case f > 0, i.Level >= health.Major:
			p++
		case i.Level >= health.Minor:
			p += 2
		default:
			p += 3
		}
		out = min(out, p)
	}
	return out
}

// rank raises the priority where what is hit now, or an objective that spoke of it, asks for it. It never falls while the incident lasts.
func (i *Incident) rank() {
	p := PriorityOf(i.Impacts)
	for _, c := range i.Calls {
		p = min(p, c.Priority)
	}
	if i.Priority == 0 || p < i.Priority {
		i.Priority = p
	}
}

// Hold is a stretch during which an incident waits for somebody else; its time counts for no target. To is zero while it lasts.
type Hold struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// OnHold reports whether the incident waits now.
func (i *Incident) OnHold() bool { return len(i.Holds) > 0 && i.Holds[len(i.Holds)-1].To.IsZero() }

func (i *Incident) resume(at time.Time) {
	if i.OnHold() {
		i.Holds[len(i.Holds)-1].To = at
	}
}

// Held returns how long the incident waited in [from, to).
func (i *Incident) Held(from, to time.Time) time.Duration {
	var sum time.Duration
	for _, h := range i.Holds {
		a, b := h.From, h.To
		if b.IsZero() || b.After(to) {
			b = to
		}
		if a.Before(from) {
			a = from
		}
		if a.Before(b) {
			sum += b.Sub(a)
		}
	}
	return sum
}

// ErrOnHold and ErrNotOnHold are returned for a hold of what waits already, and for the end of one that does not.
var (
	ErrOnHold    = errors.New("the incident is on hold already")
	ErrNotOnHold = errors.New("the incident is not on hold")
)

// Hold says that the incident waits for somebody else, Resume that it does not any more.
func (b *Book) Hold(at time.Time, id, who, reason string) (Incident, error) {
	switch i := b.byID[id]; {
	case i != nil && i.State == Resolved:
		return Incident{}, ErrResolved
	case i != nil && i.OnHold():
		return Incident{}, ErrOnHold
	}
	return b.change(id, func(i *Incident) {
		i.Holds = append(i.Holds, Hold{From: at, By: who, Reason: reason})
		i.note(at, who, "on hold: "+reason)
	})
}

// Resume ends a hold; see Hold.
func (b *Book) Resume(at time.Time, id, who string) (Incident, error) {
	if i := b.byID[id]; i != nil && !i.OnHold() {
		return Incident{}, ErrNotOnHold
	}
	return b.change(id, func(i *Incident) {
		i.resume(at)
		i.note(at, who, "no longer on hold")
	})
}

// Link notes the ticket that stands for the incident elsewhere; empty takes it away.
func (b *Book) Link(at time.Time, id, who, ticket string) (Incident, error) {
	return b.change(id, func(i *Incident) {
		i.External = ticket
		what := "ticket " + ticket
		if ticket == "" {
			what = "no ticket any more"
		}
		i.note(at, who, what)
	})
}
