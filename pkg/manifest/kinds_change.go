package manifest

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
)

// The kinds that say what is going to be done, and to what.
const (
	KindMaintenance = "Maintenance"
	KindChange      = "Change"
)

// Maintenance is a time in which parts are worked on. Its effect is fixed: what is in maintenance mutes, leaves the SLO, is
// never shed, and is not counted in the health of what rests on it. Exactly one of Refs and MatchLabels is set.
type Maintenance struct {
	Title string `json:"title,omitempty"`
	Refs  []Ref  `json:"refs,omitempty" manifest:"ref=service|component|host"`
	// MatchLabels picks every service, component and host that has all of these labels.
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	Window      Window            `json:"window" manifest:"required"`
	Reason      string            `json:"reason" manifest:"required"`
	Owner       Ref               `json:"owner" manifest:"required,ref=team"`
}

// ChangeRecord is the spec of kind Change: something that is, or was, changed on purpose.
type ChangeRecord struct {
	Title string `json:"title" manifest:"required"`
	Refs  []Ref  `json:"refs" manifest:"required,ref=service|component|host"`
	// Window is when it is, or was, done; it does not recur.
	Window Window `json:"window" manifest:"required"`
	Owner  Ref    `json:"owner" manifest:"required,ref=team"`
	// ExternalID is the number of the change in another system.
	ExternalID string `json:"externalId,omitempty"`
	// State says how far it is; planned where not stated.
	State string `json:"state,omitempty" manifest:"enum=planned|running|done|failed|rolledBack"`
	// Risk is how likely its owner thinks that it does harm; medium where not stated.
	Risk string `json:"risk,omitempty" manifest:"enum=low|medium|high"`
}

// StateInForce returns State, planned where none was stated.
func (c *ChangeRecord) StateInForce() string {
	if c.State == "" {
		return "planned"
	}
	return c.State
}

// RiskInForce returns Risk, medium where none was stated.
func (c *ChangeRecord) RiskInForce() string {
	if c.Risk == "" {
		return "medium"
	}
	return c.Risk
}

// Window is a stretch on the wall clock of a zone: from Start up to, and without, End, or for Duration. With RRule, a
// recurrence rule of RFC 5545, it comes back at Start's time of day on each day of the rule from Start's day on.
type Window struct {
	Timezone string      `json:"timezone" manifest:"required"` // IANA name
	Start    civil.Time  `json:"start" manifest:"required"`
	End      *civil.Time `json:"end,omitempty"`
	Duration Duration    `json:"duration,omitempty"` // on the wall clock; up to 31d where the window recurs, else 366d
	RRule    string      `json:"rrule,omitempty"`
}

// Calendar returns a calendar that is open in the window and at no other time.
func (w *Window) Calendar() *Calendar {
	closed, open := Decimal(0), Decimal(micro)
	c := &Calendar{Timezone: w.Timezone, Default: &closed}
	if w.RRule != "" {
		day := w.Start.Day()
		c.Rules = []CalendarRule{{RRule: w.RRule, Start: &day, From: w.Start.Clock(), Length: w.Duration, Factor: &open}}
		return c
	}
	end := w.Start + civil.Time(w.Duration.Std()/time.Second)
	if w.End != nil {
		end = *w.End
	}
	c.Peaks = []Peak{{From: w.Start, To: end, Factor: &open}}
	return c
}
