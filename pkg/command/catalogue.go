package command

import (
	"slices"
	"strings"
)

// TargetKind names one field of Target in lower case: "unit", "cgroup", "process", "port", "check" or "host".
type TargetKind string

// The kinds of target.
const (
	OnHost    TargetKind = "host"
	OnUnit    TargetKind = "unit"
	OnCgroup  TargetKind = "cgroup"
	OnProcess TargetKind = "process"
	OnPort    TargetKind = "port"
	OnCheck   TargetKind = "check"
)

// Kind says which field of the target is set.
func (t Target) Kind() TargetKind {
	switch {
	case t.Unit != "":
		return OnUnit
	case t.Cgroup != "":
		return OnCgroup
	case t.Process != nil:
		return OnProcess
	case t.Port != "":
		return OnPort
	case t.Check != nil:
		return OnCheck
	}
	return t.trafficKind()
}

// Spec is what is known of an action by its name. The planner and the actor read the same row; the actor's permissions
// may narrow it and never widen it.
type Spec struct {
	Name     string
	Risk     Risk
	Unit     string // of Value, as people read it
	Min, Max int64  // the legal range of Value, both included
	Neutral  int64  // the value that constrains nothing, 0 where there is none
	// Targets are the kinds of target that the action can hold on to.
	Targets []TargetKind
	// PrivilegedRevert says that taking the action back needs more than owning the processes: an actuator without that
	// privilege must refuse to act.
	PrivilegedRevert bool
	// Title is what the action does, in words that follow "will".
	Title string
}

var catalogue = slices.SortedFunc(slices.Values(slices.Concat(hostActions, trafficActions)), func(a, b Spec) int {
	return strings.Compare(a.Name, b.Name)
})

var hostActions = []Spec{
	{
		Name: "cpu.quota", Risk: R2, Unit: "percent of one CPU", Min: 1, Max: 102400,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "cap the CPU time of a unit or cgroup",
	},
	{
		Name: "cpu.weight", Risk: R1, Unit: "weight", Min: 1, Max: 10000, Neutral: 100,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "set the share of CPU time of a unit or cgroup among its siblings",
	},
	{
		Name: "process.affinity", Risk: R1, Unit: "percent of the CPUs allowed", Min: 1, Max: 100, Neutral: 100,
		Targets: []TargetKind{OnProcess, OnUnit, OnCgroup}, Title: "keep a process tree on some of the CPUs that it may use",
	},
}

// needApprover are names that a collector's key alone may not sign, whatever risk the body claims: each takes something
// out of service.
var needApprover = []string{"cgroup.freeze", "haproxy.drain", "haproxy.maint", "unit.restart", "unit.stop"}

// Lookup returns the row of an action.
func Lookup(name string) (Spec, bool) {
	for _, s := range catalogue {
		if s.Name == name {
			return s.clone(), true
		}
	}
	return Spec{}, false
}

// Catalogue returns every known action, sorted by name.
func Catalogue() []Spec {
	out := make([]Spec, len(catalogue))
	for i, s := range catalogue {
		out[i] = s.clone()
	}
	return out
}

// On reports whether the action can hold on to that kind of target.
func (s Spec) On(k TargetKind) bool { return slices.Contains(s.Targets, k) }

func (s Spec) clone() Spec {
	s.Targets = slices.Clone(s.Targets)
	return s
}

// NeedsApprover reports whether a command needs an approver's signature beside the collector's. The risk counts as the
// larger of what the body claims and what the catalogue knows.
func NeedsApprover(c Command) bool {
	return EffectiveRisk(c) >= R3 || c.Kind == Apply && slices.Contains(needApprover, c.Action.Name)
}

// EffectiveRisk returns the larger of the claimed and the known risk of a command.
func EffectiveRisk(c Command) Risk {
	if c.Kind == Apply {
		if s, ok := Lookup(c.Action.Name); ok {
			return max(c.Risk, s.Risk)
		}
	}
	return c.Risk
}
