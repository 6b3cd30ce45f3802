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
	"slices"
	"strings"
	"time"

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

// Policy is a RemediationPolicy with its runbook, made ready.
type Policy struct {
	Name     string
	Runbook  string
	Detector string       // name of the detector whose verdict it answers
	Level    health.Level // the least level of that verdict
	Mode     Mode
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
	Value       Value
	Cores       float64 // mean use over the window of the verdict
	Share       float64 // of what is used on the host
	Delay       float64 // run-queue delay, s/s
	Known       bool    // Cores and Delay rest on samples
	Guarantee   float64 // cores that may never be taken away
	Memory      float64 // bytes that may never be taken away
	Maintenance bool
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
	Services  []string       `json:"services"` // that are protected
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

// choose judges every contender and picks the least valuable one on which a step can be taken.
func choose(s *Situation, p *Plan) (*Proposal, string) {
	unit := unitOf(s.Contenders)
	worth := func(c *Contender) float64 {
		if unit == points {
			return c.Value.Points
		}
		return c.Value.Money
	}
	order := make([]*Contender, len(s.Contenders))
	for i := range s.Contenders {
		order[i] = &s.Contenders[i]
	}
	slices.SortFunc(order, func(a, b *Contender) int {
		return cmp.Or(cmp.Compare(b.Cores, a.Cores), strings.Compare(a.label(), b.label()))
	})
	protected := sufferer(order, worth)

	// By value first; of equals the larger contributor, then the name.
	byValue := slices.Clone(order)
	slices.SortStableFunc(byValue, func(a, b *Contender) int { return cmp.Compare(worth(a), worth(b)) })
	judged := map[*Contender]Candidate{}
	var chosen *Proposal
	for _, c := range byValue {
		cand := Candidate{
			Component: c.label(), OnMap: c.Component != "", Services: c.Services, Value: c.Value.text(unit), Cores: c.Cores, Share: c.Share, Delay: c.Delay,
		}
		why := eligible(c, protected, worth)
		proposal, limitable, stepWhy := firstStep(s, c, protected)
		cand.Limitable = limitable
		switch {
		case why != "":
			cand.Why = why
		case proposal == nil:
			cand.Why = stepWhy
		case chosen != nil:
			cand.Why = fmt.Sprintf("%s is worth less", chosen.Component)
			if v := byValueOf(byValue, chosen.Component); v != nil && worth(v) == worth(c) {
				cand.Why = fmt.Sprintf("%s is worth as little and contributes more", chosen.Component)
			}
		default:
			chosen = proposal
			cand.Chosen = true
			cand.Action = fmt.Sprintf("%s %d on %s", proposal.Action.Name, proposal.Action.Value, proposal.Action.Target)
			cand.Why = fmt.Sprintf("the least valuable contributor that the host lists as limitable (%s; protects %s, %s)",
				c.Value.text(unit), protected.Component, protected.Value.text(unit))
			if stepWhy != "" {
				cand.Why += "; " + stepWhy
			}
			proposal.Text = fmt.Sprintf("%s %d on %s (%s, %s) for %s (%s)", proposal.Action.Name, proposal.Action.Value, c.Component,
				c.Value.text(unit), cand.Contribution(), protected.Component, protected.Value.text(unit))
		}
		judged[c] = cand
	}
	largest := true
	for _, c := range order {
		cand := judged[c]
		if c.Component == "" && largest && contributes(c) {
			cand.Why = "largest contributor, not on the map: never a target"
		}
		largest = largest && !contributes(c)
		if len(p.Candidates) < maxCandidates || cand.Chosen {
			p.Candidates = append(p.Candidates, cand)
		}
	}
	if chosen != nil {
		return chosen, ""
	}
	if protected == nil {
		return nil, "no component with a value waits for the CPU"
	}
	return nil, "no contributor may be squeezed for " + protected.Component + ": " + reasons(p.Candidates, protected.Component)
}

func byValueOf(all []*Contender, component string) *Contender {
	for _, c := range all {
		if c.Component == component {
			return c
		}
	}
	return nil
}

// reasons sums up why nobody was chosen, contributors only.
func reasons(cs []Candidate, protected string) string {
	var out []string
	for _, c := range cs {
		if c.Share >= leastShare && c.Component != protected && len(out) < 3 {
			out = append(out, c.Component+": "+c.Why)
		}
	}
	if len(out) == 0 {
		return "nothing on the host contributes enough"
	}
	return strings.Join(out, "; ")
}

// unitOf is money where every ranked contender is priced in one currency, else points.
func unitOf(cs []Contender) string {
	unit := ""
	for i := range cs {
		v := cs[i].Value
		if !v.Ranked() {
			continue
		}
		if v.Currency == "" || unit != "" && unit != v.Currency {
			return points
		}
		unit = v.Currency
	}
	return cmp.Or(unit, points)
}

// sufferer returns the most valuable component that waits for the CPU; of equals the one that waits most.
func sufferer(order []*Contender, worth func(*Contender) float64) *Contender {
	var best *Contender
	for _, c := range order {
		if c.Component == "" || !c.Known || !c.Value.Ranked() || c.Delay < suffersFrom {
			continue
		}
		if best == nil || worth(c) > worth(best) || worth(c) == worth(best) && c.Delay > best.Delay {
			best = c
		}
	}
	return best
}

func contributes(c *Contender) bool {
	return c.Known && c.Share >= leastShare && c.Cores > leastCores
}

// eligible says why a contender may not be squeezed, or "".
func eligible(c, protected *Contender, worth func(*Contender) float64) string {
	switch {
	case c.Component == "":
		return "not on the map: never a target"
	case !c.Known:
		return "nothing is known of what it uses"
	case !c.Value.Ranked():
		return "no service with a value depends on it: unranked is never a target"
	case c == protected:
		return "it is the one to be protected"
	case !contributes(c):
		return "it does not contribute to the pressure"
	case protected == nil:
		return "nothing of value waits for the CPU"
	case worth(c) >= worth(protected):
		return "its value is not lower than that of " + protected.Component
	case c.Maintenance:
		return "it is in maintenance"
	case c.Guarantee > 0 && c.Cores <= c.Guarantee:
		return fmt.Sprintf("it uses no more than the %g cores that are guaranteed to it", c.Guarantee)
	}
	return ""
}
