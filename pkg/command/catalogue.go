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
	OnSysctl  TargetKind = "sysctl"
	OnPlace   TargetKind = "place"
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
	case t.Sysctl != "":
		return OnSysctl
	case t.Place != "":
		return OnPlace
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

var catalogue = slices.Concat(hostActions, trafficActions)

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
		Name: "cgroup.freeze", Risk: R2, Unit: "1 = frozen", Min: 1, Max: 1,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "stop a unit or cgroup where it stands, until it is let go on",
	},
	{
		Name: "cgroup.kill", Risk: R3, Unit: "1 = killed", Min: 1, Max: 1,
		Targets: []TargetKind{OnUnit, OnCgroup}, Title: "kill every process of a unit or cgroup",
	},
	{
		Name: "cpu.idle", Risk: R1, Unit: "1 = idle class", Min: 1, Max: 1,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "run a unit or cgroup only while none of its siblings wants the CPU",
	},
	{
		Name: "cpuset.cpus", Risk: R2, Unit: "percent of the CPUs allowed", Min: 1, Max: 100, Neutral: 100,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "keep a unit or cgroup on some of the CPUs that it may use",
	},
	{
		Name: "file.relief", Risk: R3, Unit: "MiB", Min: 1, Max: 1 << 20,
		Targets: []TargetKind{OnPlace}, Title: "delete or empty old files of a declared place, oldest first, until so much is free",
	},
	{
		Name: "io.limit", Risk: R2, Unit: "KiB/s", Min: 64, Max: 1 << 24,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "hold a unit or cgroup to so much reading, and so much writing, on each disk",
	},
	{
		Name: "memory.high", Risk: R1, Unit: "MiB", Min: 1, Max: 1 << 24,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "have a unit or cgroup reclaim its own memory above so much",
	},
	{
		Name: "memory.limit", Risk: R2, Unit: "MiB", Min: 1, Max: 1 << 24,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "let a unit or cgroup have no more memory than that",
	},
	{
		Name: "memory.low", Risk: R1, Unit: "MiB", Min: 1, Max: 1 << 24,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "keep the memory of a unit or cgroup, up to so much, from being reclaimed for others",
	},
	{
		Name: "pids.max", Risk: R2, Unit: "processes and threads", Min: 1, Max: 4194304,
		Targets: []TargetKind{OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "let a unit or cgroup have no more processes and threads than that",
	},
	{
		Name: "process.ionice", Risk: R1, Unit: "best-effort level, 8 is idle", Min: 0, Max: 8,
		Targets: []TargetKind{OnProcess, OnUnit, OnCgroup}, Title: "put a process tree behind others at the disk",
	},
	{
		Name: "process.nice", Risk: R1, Unit: "nice value", Min: 1, Max: 19,
		Targets: []TargetKind{OnProcess, OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "put a process tree behind others at the CPU",
	},
	{
		Name: "process.oom", Risk: R1, Unit: "oom_score_adj", Min: 1, Max: 1000,
		Targets: []TargetKind{OnProcess, OnUnit, OnCgroup}, Title: "have the kernel take a process tree first when memory runs out",
	},
	{
		Name: "process.sched", Risk: R1, Unit: "1 = batch, 2 = idle", Min: 1, Max: 2,
		Targets: []TargetKind{OnProcess, OnUnit, OnCgroup}, PrivilegedRevert: true, Title: "put a process tree into a scheduling class that gives way",
	},
	{
		Name: "sysctl", Risk: R2, Unit: "as the kernel counts it", Min: 0, Max: 1<<31 - 1,
		Targets: []TargetKind{OnSysctl}, PrivilegedRevert: true, Title: "set a kernel parameter of a closed list",
	},
	{
		Name: "process.affinity", Risk: R1, Unit: "percent of the CPUs allowed", Min: 1, Max: 100, Neutral: 100,
		Targets: []TargetKind{OnProcess, OnUnit, OnCgroup}, Title: "keep a process tree on some of the CPUs that it may use",
	},
	{
		Name: "unit.restart", Risk: R3, Unit: "time", Min: 1, Max: 1,
		Targets: []TargetKind{OnUnit}, Title: "restart a service, once",
	},
	{
		Name: "unit.start", Risk: R2, Unit: "time", Min: 1, Max: 1,
		Targets: []TargetKind{OnUnit}, Title: "start a service that is not running, and stop it again when the lease ends",
	},
	{
		Name: "unit.stop", Risk: R2, Unit: "time", Min: 1, Max: 1,
		Targets: []TargetKind{OnUnit}, Title: "stop a service, and start it again when the lease ends",
	},
}

// needApprover are names that a collector's key alone may not sign, whatever risk the body claims, unless the host grants
// them so: each takes something out of service.
var needApprover = []string{"cgroup.freeze", "haproxy.drain", "haproxy.maint", "unit.restart", "unit.stop"}

// Lookup returns the row of an action.
func Lookup(name string) (Spec, bool) {
	if program, is := Plugin(name); is {
		return plugin(program), true
	}
	for _, s := range catalogue {
		if s.Name == name {
			return s.clone(), true
		}
	}
	return Spec{}, false
}

// Catalogue returns every known action, sorted by name. What a host declares for itself, plugin:NAME, is not among them.
func Catalogue() []Spec {
	out := make([]Spec, len(catalogue))
	for i, s := range catalogue {
		out[i] = s.clone()
	}
	slices.SortFunc(out, func(a, b Spec) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// On reports whether the action can hold on to that kind of target.
func (s Spec) On(k TargetKind) bool { return slices.Contains(s.Targets, k) }

func (s Spec) clone() Spec {
	s.Targets = slices.Clone(s.Targets)
	return s
}

// Once reports whether the action cannot be taken back: it carries no lease and is never run again.
func (s Spec) Once() bool { return s.Risk >= R3 }

// NeedsApprover reports whether a command needs an approver's signature beside the collector's where the host grants
// nothing else. The risk counts as the larger of what the body claims and what the catalogue knows.
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
