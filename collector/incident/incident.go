// Package incident keeps the life of incidents: one for each cause, from the first bad verdict until it has been well for
// a while, with a timeline, whom it hits and what it costs.
//
// It is pure: records in, records out; no I/O, no clock, no goroutine. Ids come from the caller. Missing data neither
// opens nor resolves anything. A Book belongs to one goroutine; the records that it returns are copies.
package incident

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// State is where an incident stands.
type State string

// The states of an incident.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged"
	Mitigating   State = "mitigating"
	Resolved     State = "resolved"
)

// Condition is what is known of a cause at the moment.
type Condition uint8

// The conditions of a cause.
const (
	// Unknown leaves an incident as it is: there is no data to open or resolve it on.
	Unknown Condition = iota
	Bad
	Good
)

// Impact is one service that a cause hits, and what an hour of it is worth at this moment.
type Impact struct {
	Service string       `json:"service"`
	Level   health.Level `json:"level"` // the low end of its range
	// Criticality is that of the service, from 1 (highest) to 4; 0 where nobody has stated it.
	Criticality int `json:"criticality,omitempty"`
	// Within says that the loss is counted at a service above that is hit too, and not here.
	Within bool `json:"within,omitempty"`
	// Spared says that the service loses nothing by this cause: it goes on in spite of it, or is bad by somebody else's doing.
	Spared bool    `json:"spared,omitempty"`
	Points float64 `json:"points"`
	// Money is in Currency; an empty Currency means that nobody has priced the service.
	Money    float64 `json:"money,omitempty"`
	Currency string  `json:"currency,omitempty"`
	// Loss is the fraction of the value lost at a level and above; nil means all of it at critical.
	Loss map[health.Level]float64 `json:"loss,omitempty"`
}

// Fraction returns which part of its value the service loses at its level.
func (i *Impact) Fraction() float64 {
	if i.Spared {
		return 0
	}
	if i.Loss == nil {
		if i.Level >= health.Critical {
			return 1
		}
		return 0
	}
	for l := i.Level; l > health.OK; l-- {
		if f, ok := i.Loss[l]; ok {
			return f
		}
	}
	return 0
}

// Loses reports whether any of the service's value is lost at its level.
func (i *Impact) Loses() bool { return i.Fraction() > 0 && (i.Points > 0 || i.Money > 0) }

// Cause is one cause as the collector sees it now. Verdicts that share Ref and Host are one cause.
type Cause struct {
	Ref       string // "host/a", "component/web@a"
	Host      string
	Condition Condition
	Level     health.Level
	Title     string // "host a is overloaded"
	Detail    string // the evidence, for the timeline
	Impacts   []Impact
	Detector  string    // that sees it; empty where none does
	Began     time.Time // of the first sign of it; zero where that is not known
	Call      *Call     // of the objective that speaks of it; nil where it is bad by itself
}

// Call is an objective whose error budget burns too fast over one of its pairs of windows.
type Call struct {
	Objective string `json:"objective"` // "slo/checkout"
	Over      string `json:"over"`      // the length of the long window, "1h"
	// Priority is how urgent it is, whatever is lost at the moment: what was lost before is why it calls.
	Priority Priority `json:"priority"`
}

func (c *Cause) key() string { return c.Ref }

// Edge is an edge of the map by which the incident was foretold to hit a service that is measured itself.
type Edge struct {
	Edge  string    `json:"edge"` // "service/shop>component/web"
	Since time.Time `json:"since"`
	Seen  bool      `json:"seen"` // the service's own measure said so too, at some moment
}

// Event is one entry of a timeline.
type Event struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	What string    `json:"what"`
}

// Cost is an amount that has been lost, in points and in each currency. The two are never added.
type Cost struct {
	Points float64            `json:"points"`
	Money  map[string]float64 `json:"money,omitempty"`
}

// Incident is the record of one cause's time. It is stored as JSON.
type Incident struct {
	Version        int          `json:"version"`
	ID             string       `json:"id"`
	State          State        `json:"state"`
	Title          string       `json:"title"`
	Level          health.Level `json:"level"`    // the worst so far
	Priority       Priority     `json:"priority"` // the highest so far
	Cause          string       `json:"cause"`
	Host           string       `json:"host,omitempty"`
	Detector       string       `json:"detector,omitempty"` // that saw it first; empty where none did
	Services       []string     `json:"services,omitempty"` // every service hit so far
	Impacts        []Impact     `json:"impacts,omitempty"`  // at this moment
	Cost           Cost         `json:"cost"`
	Unpriced       bool         `json:"unpriced,omitempty"` // a part of Cost was lost by services that nobody has priced, so points tell it
	CostAt         time.Time    `json:"costAt"`             // up to when Cost is counted
	Known          bool         `json:"known"`              // the cause is seen now; false while its data is missing
	OpenedAt       time.Time    `json:"openedAt"`
	GoodSince      time.Time    `json:"goodSince,omitzero"`
	ResolvedAt     time.Time    `json:"resolvedAt,omitzero"`
	AcknowledgedBy string       `json:"acknowledgedBy,omitempty"`
	AcknowledgedAt time.Time    `json:"acknowledgedAt,omitzero"`
	BeganAt        time.Time    `json:"beganAt,omitzero"` // when the first sign of it was seen; zero where that is not known
	Holds          []Hold       `json:"holds,omitempty"`
	External       string       `json:"external,omitempty"` // the ticket elsewhere
	Calls          []Call       `json:"calls,omitempty"`    // the objectives that spoke of it, each pair of windows once
	// Budget says that nothing but objectives spoke of it so far: the service is no fault of its own.
	Budget   bool      `json:"budget,omitempty"`
	GapAt    time.Time `json:"gapAt,omitzero"` // when it was seen that its cause is not in the map; zero where it is
	Edges    []Edge    `json:"edges,omitempty"`
	Actions  []string  `json:"actions,omitempty"`
	Active   []string  `json:"active,omitempty"` // actions that are under way
	Reopened int       `json:"reopened,omitempty"`
	Timeline []Event   `json:"timeline"`
	Dropped  int       `json:"dropped,omitempty"` // events that were left out of the middle of the timeline
}

// Version is the format of a stored record.
const Version = 1

const maxEvents = 200

// PerHour returns what the incident costs an hour at this moment, and its unit: a currency where every service hit is
// priced in the same one, else "points".
func (i *Incident) PerHour() (float64, string) {
	unit := unitOf(i.Impacts)
	sum := 0.0
	for k := range i.Impacts {
		m := &i.Impacts[k]
		if m.Within {
			continue
		}
		if unit == Points {
			sum += m.Points * m.Fraction()
		} else {
			sum += m.Money * m.Fraction()
		}
	}
	return sum, unit
}

// Lost returns what the incident has cost so far, and its unit: a currency where all of it was lost by services that are priced in it, else
// points.
func (i *Incident) Lost() (float64, string) {
	switch {
	case i.Unpriced || len(i.Cost.Money) > 1:
	case len(i.Cost.Money) == 1:
		for currency, sum := range i.Cost.Money {
			return sum, currency
		}
	case i.Cost.Points == 0:
		return 0, unitOf(i.Impacts) // nothing was lost yet
	}
	return i.Cost.Points, Points
}

// Points is the unit of value where no money is set.
const Points = "points"

// unitOf is a currency where every service that has a value is priced in it. One without any value has no say.
func unitOf(impacts []Impact) string {
	unit := ""
	for k := range impacts {
		c := impacts[k].Currency
		if c == "" && impacts[k].Points == 0 {
			continue
		}
		if c == "" || unit != "" && c != unit {
			return Points
		}
		unit = c
	}
	return cmp.Or(unit, Points)
}

// FormatCost writes an amount as the API does: "12.50 EUR", "3.10 points".
func FormatCost(v float64, unit string) string {
	return strconv.FormatFloat(v, 'f', 2, 64) + " " + unit
}

// accrue adds the loss since the last time. The impacts that held until now are those of the record.
func (i *Incident) accrue(at time.Time) {
	hours := at.Sub(i.CostAt).Hours()
	if hours <= 0 {
		return
	}
	i.CostAt = at
	if !i.Known {
		return // what it costs while nobody sees is not made up
	}
	for k := range i.Impacts {
		m := &i.Impacts[k]
		lost := m.Fraction() * hours
		if lost == 0 || m.Within {
			continue
		}
		i.Cost.Points += m.Points * lost
		if m.Currency == "" {
			i.Unpriced = i.Unpriced || m.Points > 0
		} else {
			if i.Cost.Money == nil {
				i.Cost.Money = map[string]float64{}
			}
			i.Cost.Money[m.Currency] += m.Money * lost
		}
	}
}

func (i *Incident) note(at time.Time, who, what string) {
	if len(i.Timeline) >= maxEvents {
		// The beginning tells how it came about and the end where it stands: the middle goes.
		i.Timeline = slices.Delete(i.Timeline, maxEvents/2, maxEvents/2+1)
		i.Dropped++
	}
	i.Timeline = append(i.Timeline, Event{at, who, what})
}

func (i *Incident) clone() Incident {
	c := *i
	c.Services = slices.Clone(i.Services)
	c.Impacts = slices.Clone(i.Impacts)
	c.Actions = slices.Clone(i.Actions)
	c.Active = slices.Clone(i.Active)
	c.Timeline = slices.Clone(i.Timeline)
	c.Holds = slices.Clone(i.Holds)
	c.Calls = slices.Clone(i.Calls)
	c.Edges = slices.Clone(i.Edges)
	if i.Cost.Money != nil {
		c.Cost.Money = map[string]float64{}
		for k, v := range i.Cost.Money {
			c.Cost.Money[k] = v
		}
	}
	return c
}

// Summary is one line for people.
func (i *Incident) Summary() string {
	lost, unit := i.Lost()
	text := fmt.Sprintf("%s: %s, %s, %s lost", i.ID, i.Title, i.State, FormatCost(lost, unit))
	if rate, u := i.PerHour(); rate > 0 && i.State != Resolved {
		text += fmt.Sprintf(", %s an hour", FormatCost(rate, u))
	}
	if !i.Known && i.State != Resolved {
		text += "; nothing is known of the cause at the moment"
	}
	return text
}
