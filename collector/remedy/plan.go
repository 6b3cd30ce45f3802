// Package remedy decides what is done about an overload and sees it through: plan, gates, ledger, delivery, verification,
// lease, revert.
//
// Three parts, in the order of reading. Plan is pure: it chooses a step and a victim, or says why not. Action with its
// Handle is a pure state machine: events in, effects out. Executor is the edge: it owns one goroutine, keeps the ledger in
// the state engine, signs, sends, and drives the actions of this collector. It refuses to act on what is unknown, on what
// is on no map, and while a kill switch is on. DESIGN.md tells the protocol.
package remedy

import (
	"cmp"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/governor"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/health"
)

// Mode is how freely a policy acts.
type Mode string

// The modes, from the least free.
const (
	Observe Mode = "observe" // records what it would have done
	Suggest Mode = "suggest" // tells people
	Approve Mode = "approve" // acts when somebody agrees
	Auto    Mode = "auto"
)

// Choose is how a policy chooses among those who may be squeezed.
type Choose string

// The ways to choose.
const (
	LeastLoss  Choose = "least-loss"              // who loses least, through the map, for what it frees
	LeastValue Choose = "least-value-contributor" // whose services are worth least
)

// Policy is a RemediationPolicy with its runbook, made ready.
type Policy struct {
	Name     string
	Runbook  string
	Detector string       // name of the detector whose verdict it answers
	Level    health.Level // the least level of that verdict
	Mode     Mode
	Choose   Choose // LeastLoss where empty
	Steps    []Step
	Times    Times
}

// Times are the times and limits of a policy.
type Times struct {
	Dwell    time.Duration   `json:"dwell"`    // least time that an action stays applied
	Outcome  time.Duration   `json:"outcome"`  // from applied to the judgement of its effect
	Cooldown time.Duration   `json:"cooldown"` // between the end of an action and the same in another episode
	Lease    time.Duration   `json:"lease"`
	Release  command.Release `json:"release"`
	Steps    int             `json:"steps"` // most actions in one overload
	Every    time.Duration   `json:"every"` // least time between two of them
}

// Step is one step of a runbook.
type Step struct {
	Action string
	Value  int64
	On     command.Target // what it acts on where that is no part of the host's load: a kernel parameter or a place
	Verify Verify
}

// Verify says when a step has worked: Signal of the protected component, of the target, or of the host.
type Verify struct {
	Signal string   `json:"signal"`
	Of     string   `json:"of"` // protected | target | host
	Below  *float64 `json:"below,omitempty"`
	Above  *float64 `json:"above,omitempty"`
}

// Met reports whether a value is what the step is meant to bring about.
func (v Verify) Met(x float64) bool {
	if v.Above != nil {
		return x >= *v.Above
	}
	return v.Below != nil && x <= *v.Below
}

// Value is what an hour of the services of a component is worth at this moment. The zero Value is unranked.
type Value struct {
	Points   float64 `json:"points"`
	Money    float64 `json:"money,omitempty"`
	Currency string  `json:"currency,omitempty"` // empty unless every service is priced in it
}

// Ranked reports whether there is any value to compare.
func (v Value) Ranked() bool { return v.Points > 0 || v.Currency != "" && v.Money > 0 }

// in returns the amount in a unit, 0 where it has none.
func (v Value) in(unit string) float64 {
	if unit == points {
		return v.Points
	}
	return v.Money
}

// lost writes a loss, which unlike a value may be nothing.
func (v Value) lost(unit string) string {
	if unit == points {
		return fmt.Sprintf("%g points/h", v.Points)
	}
	return fmt.Sprintf("%g %s/h", v.Money, unit)
}

func (v Value) text(unit string) string {
	switch {
	case !v.Ranked():
		return "unranked"
	case unit == points:
		return fmt.Sprintf("%g points/h", v.Points)
	}
	return fmt.Sprintf("%g %s/h", v.Money, unit)
}

// Contender is something on the host that uses or wants the CPU. What is on no map has no Component and a Name instead.
type Contender struct {
	Component   string // "component/batch"
	Name        string
	Target      command.Target
	Cgroup      string // path in the cpu hierarchy; empty where not known
	Services    []string
	Value       Value   // what rests on it is worth
	Loss        *Value  // what an hour without it alone would cost, through the map: nothing for a spare replica; nil: Value
	Cores       float64 // mean use over the window of the verdict
	Share       float64 // of what is used on the host
	Delay       float64 // run-queue delay, s/s
	Known       bool    // Cores and Delay rest on samples
	Guarantee   float64 // cores that may never be taken away
	Memory      float64 // bytes that may never be taken away
	Maintenance bool
	Group       governor.Group // it and its like on other hosts
}

// loss is what an hour without it alone costs; what it is worth where that is not known.
func (c *Contender) loss() Value {
	if c.Loss != nil {
		return *c.Loss
	}
	return c.Value
}

func (c *Contender) label() string { return cmp.Or(c.Component, c.Name) }

// Tried is a step of this episode that was taken before.
type Tried struct {
	Component string
	Action    string
	At        time.Time
	Ended     bool
}

// Situation is everything that a plan rests on.
type Situation struct {
	At          time.Time
	Host        string
	CPUs        int
	Incident    string
	Verdict     overload.Verdict
	HostKnown   bool // connected, and samples are fresh
	Maintenance bool // of the host
	Steal       bool // the hypervisor takes the CPU: squeezing others on the host would not bring it back
	Policy      Policy
	Contenders  []Contender
	Actor       command.ActorReport
	// Fleet is how things stand beyond the host; its Records and Group are filled in here.
	Fleet governor.Fleet

	// The executor fills in the rest.
	KillSwitch bool
	Denied     string               // who denied a step in this overload
	Recorded   string               // id of the record of this overload, where the mode only records
	Busy       string               // id of the action that is under way on the host
	Episode    []Tried              // steps taken in this overload
	Cooldowns  map[string]time.Time // component + " " + action -> until
}

// Gate is one condition for acting at all.
type Gate struct {
	Name string `json:"name"`
	Open bool   `json:"open"`
	Text string `json:"text"`
}

// Candidate is a contender as the planner saw it.
type Candidate struct {
	Component string   `json:"component"`
	OnMap     bool     `json:"onMap"`
	Services  []string `json:"services,omitempty"`
	Value     string   `json:"value"`
	Loss      string   `json:"loss"` // an hour without it alone
	Cores     float64  `json:"cores"`
	Share     float64  `json:"share"`
	Delay     float64  `json:"delay"`
	Limitable bool     `json:"limitable"` // some step of the runbook is permitted on it
	Chosen    bool     `json:"chosen"`
	Action    string   `json:"action,omitempty"`
	Why       string   `json:"why"`
}

// Contribution is a candidate's part of the load as the API writes it: "1.42 cores, 71 %".
func (c *Candidate) Contribution() string {
	return fmt.Sprintf("%.2f cores, %.0f %%", c.Cores, c.Share*100)
}

// Proposal is a step that the planner would take.
type Proposal struct {
	Action    command.Action `json:"action"`
	Component string         `json:"component"` // whom it squeezes
	Protects  string         `json:"protects"`
	Services  []string       `json:"services"`       // that are protected
	Hits      []string       `json:"hits,omitempty"` // the services of whom it squeezes
	Risk      command.Risk   `json:"risk"`
	Lease     time.Duration  `json:"lease"`
	// Release is how the actor gives it back when the lease ends by itself.
	Release command.Release `json:"release,omitzero"`
	Verify  Verify          `json:"verify"`
	Former  Former          `json:"former"`
	Text    string          `json:"text"`
}

// Former is how things stood when the step was chosen.
type Former struct {
	Cores          float64 `json:"cores"` // of the squeezed
	Delay          float64 `json:"delay"`
	ProtectedCores float64 `json:"protectedCores"`
	ProtectedDelay float64 `json:"protectedDelay"`
}

// Plan is the planner's answer. Proposal is nil where nothing is to be done, and Refusal then says why.
type Plan struct {
	At         time.Time   `json:"at"`
	Host       string      `json:"host"`
	Policy     string      `json:"policy"`
	Proposal   *Proposal   `json:"proposal,omitempty"`
	Refusal    string      `json:"refusal,omitempty"`
	Gates      []Gate      `json:"gates"`
	Candidates []Candidate `json:"candidates"`
}

const (
	points = "points"
	// A contributor uses at least a tenth of what is used on the host, and more than a twentieth of a CPU.
	leastShare = 0.1
	leastCores = 0.05
	// A component suffers from a fifth of a second of waiting a second on.
	suffersFrom = 0.2
	// At most so many candidates are kept in a plan, the largest contributors first.
	maxCandidates = 24
)

// MakePlan chooses the step to take, or says why none is taken. It is pure and deterministic. Candidates are judged even
// where a gate is closed, so that an explanation is complete.
func MakePlan(s Situation) Plan {
	p := Plan{At: s.At, Host: s.Host, Policy: s.Policy.Name, Gates: gates(&s)}
	for _, g := range p.Gates {
		if !g.Open && p.Refusal == "" {
			p.Refusal = g.Text
		}
	}
	proposal, why := choose(&s, &p)
	switch {
	case p.Refusal != "":
	case proposal == nil:
		p.Refusal = why
	default:
		p.Proposal = proposal
	}
	if p.Proposal == nil {
		for i := range p.Candidates {
			p.Candidates[i].Chosen = false
		}
	}
	return p
}

func gates(s *Situation) []Gate {
	var out []Gate
	gate := func(name string, open bool, yes, no string) {
		text := no
		if open {
			text = yes
		}
		out = append(out, Gate{name, open, text})
	}
	gate("kill-switch", !s.KillSwitch, "the kill switch is off", "the kill switch is on")
	gate("data", s.HostKnown, "the host is connected and its samples are fresh", "the host is silent: nothing is done on what is not known")
	v := &s.Verdict
	gate("verdict", v.State == overload.Overloaded && v.Detector == s.Policy.Detector && v.Level >= s.Policy.Level,
		fmt.Sprintf("%s says %s, %s", v.Detector, v.State, v.Level),
		fmt.Sprintf("%s says %s, %s; the policy answers %s from %s on", v.Detector, v.State, v.Level, s.Policy.Detector, s.Policy.Level))
	gate("maintenance", !s.Maintenance, "no maintenance is declared", "the host is in maintenance")
	gate("steal", !s.Steal, "the hypervisor does not take the CPU away", "the hypervisor takes the CPU away: nothing on this host can give it back")
	actor := "no actor is installed on the host"
	switch {
	case s.Actor.Present && s.Actor.Killed:
		actor = "the host's kill file or a kill order is in force"
	case s.Actor.Present && s.Actor.Problem != "":
		actor = "the actor denies everything: " + s.Actor.Problem
	}
	gate("actor", s.Actor.Present && !s.Actor.Killed && s.Actor.Problem == "", "the host has an actor that permits actions", actor)
	gate("people", s.Denied == "", "nobody has denied a step in this overload", s.Denied+" has denied a step in this overload")
	gate("recorded", s.Recorded == "", "this overload is not recorded yet", "recorded for this overload as "+s.Recorded)
	gate("one-action", s.Busy == "", "no other action is under way on the host", "action "+s.Busy+" is under way on the host")
	gate("episode-steps", len(s.Episode) < s.Policy.Times.Steps,
		fmt.Sprintf("%d of %d steps taken in this overload", len(s.Episode), s.Policy.Times.Steps),
		fmt.Sprintf("all %d steps of this overload are taken: it is for people now", s.Policy.Times.Steps))
	var last time.Time
	for _, t := range s.Episode {
		if t.At.After(last) {
			last = t.At
		}
	}
	gate("episode-pace", last.IsZero() || s.At.Sub(last) >= s.Policy.Times.Every, "the last step is long enough ago",
		fmt.Sprintf("the last step is less than %s ago", s.Policy.Times.Every))
	return out
}
