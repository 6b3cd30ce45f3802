package remedy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/collector/governor"
	"github.com/evenkeel/evenkeel/collector/shed"
)

// choose judges every contender and picks the one on which a step can be taken and that loses least for what it frees.
func choose(s *Situation, p *Plan) (*Proposal, string) {
	unit := unitOf(s.Contenders)
	order := make([]*Contender, len(s.Contenders))
	for i := range s.Contenders {
		order[i] = &s.Contenders[i]
	}
	slices.SortFunc(order, func(a, b *Contender) int {
		return cmp.Or(cmp.Compare(b.Cores, a.Cores), strings.Compare(a.label(), b.label()))
	})
	protected := sufferer(order, unit)
	judged := make([]judgement, len(order))
	for i, c := range order {
		judged[i] = judge(s, c, protected, unit)
	}
	chosen := -1
	var rails []Gate // on the proposal that is made, or on the first that was not allowed
	for protected != nil {
		if chosen = pickOne(s.Policy.Choose, judged, protected.Delay, unit); chosen < 0 {
			break
		}
		gates, allowed := judged[chosen].allowed(s)
		if allowed || rails == nil {
			rails = gates
		}
		if allowed {
			break
		}
	}
	p.Gates = append(p.Gates, rails...)
	for i := range judged {
		j := &judged[i]
		switch {
		case j.cand.Why != "":
		case i == chosen:
			j.pick(s.Policy.Choose, protected, unit)
		default:
			j.cand.Why = passedOver(s.Policy.Choose, j, &judged[chosen], unit)
		}
	}
	largest := true
	for i, c := range order {
		cand := judged[i].cand
		if c.Component == "" && largest && contributes(c) {
			cand.Why = "largest contributor, not on the map: never a target"
		}
		largest = largest && !contributes(c)
		if len(p.Candidates) < maxCandidates || cand.Chosen {
			p.Candidates = append(p.Candidates, cand)
		}
	}
	if chosen >= 0 {
		return judged[chosen].proposal, ""
	}
	if protected == nil {
		return nil, "no component with a value waits for the CPU"
	}
	return nil, "no contributor may be squeezed for " + protected.Component + ": " + reasons(p.Candidates, protected.Component)
}

// pickOne returns the judgement to act on, or -1.
func pickOne(by Choose, judged []judgement, need float64, unit string) int {
	if by == LeastValue {
		return leastValuable(judged, unit)
	}
	return cheapest(judged, need)
}

// allowed asks the guard-rails beyond the host about a proposal. One that they do not allow is taken off the list.
func (j *judgement) allowed(s *Situation) (gates []Gate, ok bool) {
	verdicts := governor.Judge(s.around(j.contender), actOf(s.Policy.Name, s.Host, j.proposal))
	for _, v := range verdicts {
		gates = append(gates, Gate{v.Rule, v.Open, v.Text})
	}
	why := governor.Refusal(verdicts)
	if why != "" {
		j.cand.Why, j.proposal, j.free = why, nil, shed.Unit{}
	}
	return gates, why == ""
}

// around is the fleet as it stands around a contender.
func (s *Situation) around(c *Contender) *governor.Fleet {
	f := s.Fleet
	f.At, f.Group = s.At, c.Group
	return &f
}

// actOf is a proposal as the guard-rails see it.
func actOf(policy, host string, p *Proposal) governor.Act {
	return governor.Act{
		Policy: policy, Host: host, Component: p.Component, Services: p.Hits, Action: p.Action.Name, Target: p.Action.Target.String(), Risk: governor.Risk(p.Risk),
		Out: slices.Contains(wholly, p.Action.Name),
	}
}

// wholly are the actions under which a component goes without everything.
var wholly = []string{"cgroup.freeze", "cgroup.kill", "unit.stop"}

// judgement is what was found of a contender.
type judgement struct {
	contender *Contender
	cand      Candidate
	proposal  *Proposal // nil where no step can be taken
	passed    string    // why the steps before it were passed over
	free      shed.Unit // what the step frees, and what that costs
}

// judge says what could be done with a contender, or why nothing is.
func judge(s *Situation, c, protected *Contender, unit string) judgement {
	j := judgement{contender: c, cand: Candidate{
		Component: c.label(), OnMap: c.Component != "", Services: c.Services, Value: c.Value.text(unit), Loss: c.loss().lost(unit),
		Cores: c.Cores, Share: c.Share, Delay: c.Delay,
	}}
	j.cand.Why = eligible(c, protected, unit)
	j.proposal, j.cand.Limitable, j.passed = firstStep(s, c, protected)
	switch {
	case j.cand.Why != "":
		j.proposal = nil
	case j.proposal == nil:
		j.cand.Why = j.passed
	default:
		j.free = shed.Unit{Free: c.Cores - c.Guarantee, Loss: c.loss().in(unit), Whole: slices.Contains(wholly, j.proposal.Action.Name)}
	}
	return j
}

// cheapest returns the one to begin with: of those who together free what the protected one waits for at the least loss,
// the one that loses least for what it frees. One step is taken at a time, and its effect measured before the next. -1 is
// none.
func cheapest(judged []judgement, need float64) int {
	units := make([]shed.Unit, len(judged))
	for i := range judged {
		units[i] = judged[i].free
	}
	answer := shed.Solve(units, need)
	for _, i := range shed.Order(units) {
		if answer.Share[i] > 0 {
			return i
		}
	}
	return -1
}

// passedOver says why another one was chosen.
func passedOver(by Choose, j, chosen *judgement, unit string) string {
	name := chosen.cand.Component
	switch {
	case by == LeastValue && j.contender.Value.in(unit) == chosen.contender.Value.in(unit):
		return name + " is worth as little and contributes more"
	case by == LeastValue:
		return name + " is worth less"
	case chosen.free.Loss*j.free.Free == j.free.Loss*chosen.free.Free:
		return name + " loses as little for what it frees, and frees more"
	}
	return name + " loses less for what it frees"
}

// leastValuable returns the one with the least value; of equals the one that contributes more. -1 is none.
func leastValuable(judged []judgement, unit string) int {
	best := -1
	for i := range judged { // the largest contributor first
		if judged[i].proposal == nil {
			continue
		}
		if best < 0 || judged[i].contender.Value.in(unit) < judged[best].contender.Value.in(unit) {
			best = i
		}
	}
	return best
}

// pick makes a judgement the choice.
func (j *judgement) pick(by Choose, protected *Contender, unit string) {
	c, a := j.contender, &j.proposal.Action
	j.cand.Chosen = true
	j.cand.Action = fmt.Sprintf("%s %d on %s", a.Name, a.Value, a.Target)
	switch by {
	case LeastValue:
		j.cand.Why = fmt.Sprintf("the least valuable contributor that the host lists as limitable (%s; protects %s, %s)",
			c.Value.text(unit), protected.Component, protected.Value.text(unit))
	default:
		j.cand.Why = fmt.Sprintf("of the contributors that the host lists as limitable it loses least for what it frees (%s for %.2f cores; protects %s, %s)",
			j.cand.Loss, j.free.Free, protected.Component, protected.Value.text(unit))
	}
	if j.passed != "" {
		j.cand.Why += "; " + j.passed
	}
	j.proposal.Text = fmt.Sprintf("%s %d on %s (%s, %s) for %s (%s)", a.Name, a.Value, c.Component, c.Value.text(unit), j.cand.Contribution(),
		protected.Component, protected.Value.text(unit))
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
	slices.Sort(out) // candidates stand in the order of what they use, which changes from tick to tick
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
func sufferer(order []*Contender, unit string) *Contender {
	var best *Contender
	for _, c := range order {
		if c.Component == "" || !c.Known || !c.Value.Ranked() || c.Delay < suffersFrom {
			continue
		}
		if best == nil || c.Value.in(unit) > best.Value.in(unit) || c.Value.in(unit) == best.Value.in(unit) && c.Delay > best.Delay {
			best = c
		}
	}
	return best
}

func contributes(c *Contender) bool {
	return c.Known && c.Share >= leastShare && c.Cores > leastCores
}

// eligible says why a contender may not be squeezed, or "".
func eligible(c, protected *Contender, unit string) string {
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
	case c.loss().in(unit) >= protected.Value.in(unit):
		return "its value is not lower than that of " + protected.Component
	case len(c.Services) > 0 && slices.Equal(c.Services, protected.Services):
		return "it carries the same services as " + protected.Component
	case c.Maintenance:
		return "it is in maintenance"
	case c.Guarantee > 0 && c.Cores <= c.Guarantee:
		return fmt.Sprintf("it uses no more than the %g cores that are guaranteed to it", c.Guarantee)
	}
	return ""
}
