package remedy

import (
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// firstStep returns the first step of the runbook that can be taken on c to protect p, whether the host permits any step
// on it, and why the steps before were passed over.
func firstStep(s *Situation, c, p *Contender) (proposal *Proposal, limitable bool, why string) {
	if c.Component == "" {
		return nil, false, ""
	}
	var passed []string
	for _, step := range s.Policy.Steps {
		action, permission, reason := knob(s, step, c, p)
		if permission != nil {
			limitable = true
		}
		if reason == "" {
			if reason = barred(s, step, c); reason == "" {
				spec, _ := command.Lookup(step.Action)
				lease := s.Policy.Times.Lease
				if permission.MaxLease > 0 {
					lease = min(lease, permission.MaxLease)
				}
				if spec.Once() {
					lease = 0 // there is nothing to end
				}
				out := &Proposal{
					Action: action, Component: c.Component, Hits: c.Services, Risk: spec.Risk, Lease: lease, Verify: step.Verify,
					Former: Former{Cores: c.Cores, Delay: c.Delay},
				}
				// A host bounds the length of a release as it bounds a lease: one that would be too long is given up. What has
				// one value only has no way between that and nothing.
				out.Release = s.Policy.Times.Release
				if r := out.Release; r.Step <= 0 || spec.Min == spec.Max || spec.Once() || permission.MaxLease > 0 && r.Every > permission.MaxLease/time.Duration((100+r.Step-1)/r.Step) {
					out.Release = command.Release{}
				}
				if p != nil {
					out.Protects, out.Services = p.Component, p.Services
					out.Former.ProtectedCores, out.Former.ProtectedDelay = p.Cores, p.Delay
				}
				return out, true, strings.Join(passed, "; ")
			}
		}
		passed = append(passed, step.Action+": "+reason)
	}
	if len(passed) == 0 {
		return nil, false, "the runbook has no steps"
	}
	return nil, limitable, strings.Join(passed, "; ")
}

// barred says why a step that is possible is not taken now.
func barred(s *Situation, step Step, c *Contender) string {
	spec, ok := command.Lookup(step.Action)
	switch {
	case !ok:
		return "no such action"
	case spec.Risk > s.Actor.MaxRisk:
		return fmt.Sprintf("the host permits no more than %s, this is %s", s.Actor.MaxRisk, spec.Risk)
	}
	for _, t := range s.Episode {
		if t.Component == c.Component && t.Action == step.Action {
			return "taken before in this overload"
		}
	}
	if until, ok := s.Cooldowns[c.Component+" "+step.Action]; ok && s.At.Before(until) {
		return "cooling down until " + until.UTC().Format("15:04:05")
	}
	return ""
}

// knob finds what a step would turn: the target that the kernel obeys and the host permits, and a value within the
// permission and the guarantee. permission is nil where the host permits the action on none of the possible targets.
func knob(s *Situation, step Step, c, p *Contender) (command.Action, *command.Permission, string) {
	a := command.Action{Name: step.Action, Value: step.Value}
	spec, ok := command.Lookup(step.Action)
	if !ok {
		return a, nil, "no such action"
	}
	targets, reason := stepTargets(s, step, c, p)
	if reason != "" {
		return a, permitted(s, spec, &a, []command.Target{c.Target}), reason
	}
	permission := permitted(s, spec, &a, targets)
	if permission == nil {
		return a, nil, "not listed in the host's permissions"
	}
	return a, permission, within(s, spec, &a, c, permission)
}

// stepTargets are the names under which a host may list what a step acts on, or why it has none.
func stepTargets(s *Situation, step Step, c, p *Contender) ([]command.Target, string) {
	if _, is := command.Plugin(step.Action); is {
		return []command.Target{c.Target, {}}, "" // the program may know the component, or the host as a whole
	}
	switch step.Action {
	case "cpu.weight", "cpu.idle":
		return weightTargets(s, c, p)
	case "memory.low":
		// The one action on the protected itself.
		if p == nil {
			return nil, "nothing to protect"
		}
		return groupTargets(s, p, p.Cgroup)
	case "cpu.quota", "cpuset.cpus", "memory.high", "memory.limit", "io.limit", "pids.max", "cgroup.freeze", "cgroup.kill":
		return groupTargets(s, c, c.Cgroup)
	case "process.affinity":
		if s.CPUs < 2 {
			return nil, "the host has fewer than two CPUs"
		}
		return treeTargets(s, c)
	case "unit.stop", "unit.restart":
		return unitTargets(s, c)
	case "process.nice", "process.ionice", "process.sched", "process.oom":
		return treeTargets(s, c)
	case "nft.limit":
		if c.Target.Kind() != command.OnPort {
			return nil, "it is not declared by its port"
		}
		return []command.Target{c.Target}, ""
	case "sysctl", "file.relief":
		if err := step.On.Validate(); err != nil {
			return nil, err.Error()
		}
		return []command.Target{step.On}, ""
	}
	return nil, "this planner does not know how to take it"
}

// permitted sets the action's target to the first that the host permits.
func permitted(s *Situation, spec command.Spec, a *command.Action, targets []command.Target) *command.Permission {
	for _, t := range targets {
		if !spec.On(t.Kind()) {
			continue
		}
		try := *a
		try.Target = t
		if p, ok := s.Actor.Permits(try); ok {
			a.Target = t
			return &p
		}
	}
	return nil
}

// weightTargets are the names of the cgroup whose weight decides between c and p: weights act among siblings, so it is
// the child of their lowest common ancestor that holds c.
func weightTargets(s *Situation, c, p *Contender) ([]command.Target, string) {
	if p == nil {
		return nil, "nothing to protect"
	}
	if c.Cgroup == "" || p.Cgroup == "" {
		return nil, "where it runs is not known"
	}
	child, why := siblingOf(c.Cgroup, p.Cgroup)
	if why != "" {
		return nil, why
	}
	return groupTargets(s, c, child)
}

// siblingOf returns the child of the lowest common ancestor of contributor and protected that holds the contributor.
func siblingOf(contributor, protected string) (string, string) {
	c, p := path.Clean(contributor), path.Clean(protected)
	if c == p {
		return "", "it shares a cgroup with the one to be protected, so a weight would not tell them apart"
	}
	if within := p == "/" || strings.HasPrefix(c, p+"/"); within {
		// The protected one runs in the ancestor itself: its child on the way to the contributor competes with it.
		rest := strings.TrimPrefix(c, strings.TrimSuffix(p, "/")+"/")
		first, _, _ := strings.Cut(rest, "/")
		return path.Join(p, first), ""
	}
	if c == "/" || strings.HasPrefix(p, c+"/") {
		return "", "its cgroup also holds the one to be protected"
	}
	cs, ps := strings.Split(c, "/"), strings.Split(p, "/")
	n := 0
	for n < len(cs) && n < len(ps) && cs[n] == ps[n] {
		n++
	}
	return strings.Join(cs[:n+1], "/"), ""
}

// groupTargets are the names under which a host may list the cgroup at dir. It is refused where the cgroup holds another
// component with a value.
func groupTargets(s *Situation, c *Contender, dir string) ([]command.Target, string) {
	if dir == "" {
		return nil, "where it runs is not known"
	}
	dir = path.Clean(dir)
	if dir == "/" {
		return nil, "it runs in the root cgroup"
	}
	for i := range s.Contenders {
		o := &s.Contenders[i]
		if o.Component == "" || o.Component == c.Component || !o.Value.Ranked() || o.Cgroup == "" {
			continue
		}
		if g := path.Clean(o.Cgroup); g == dir || strings.HasPrefix(g, dir+"/") {
			return nil, fmt.Sprintf("cgroup %s also holds %s, which has a value", dir, o.Component)
		}
	}
	var out []command.Target
	if dir == path.Clean(c.Cgroup) && (c.Target.Kind() == command.OnUnit || c.Target.Kind() == command.OnCgroup) {
		out = append(out, c.Target)
	}
	switch base := path.Base(dir); path.Ext(base) {
	case ".service", ".scope", ".slice":
		out = append(out, command.Target{Unit: base})
	}
	return append(out, command.Target{Cgroup: dir}), ""
}

// unitTargets is the component's own unit: what is done to it must reach nothing else.
func unitTargets(s *Situation, c *Contender) ([]command.Target, string) {
	if c.Target.Kind() != command.OnUnit {
		return nil, "it is not a unit of systemd"
	}
	if c.Guarantee > 0 {
		return nil, fmt.Sprintf("%g cores are guaranteed to it", c.Guarantee)
	}
	if c.Cgroup != "" {
		if _, why := groupTargets(s, c, c.Cgroup); why != "" {
			return nil, why
		}
	}
	return []command.Target{c.Target}, ""
}

// treeTargets are the names of the processes of a contender.
func treeTargets(s *Situation, c *Contender) ([]command.Target, string) {
	if c.Target.Kind() == command.OnProcess {
		for i := range s.Contenders {
			o := &s.Contenders[i]
			if o.Component != c.Component && o.Component != "" && o.Target.Kind() == command.OnProcess && o.Value.Ranked() &&
				o.Target.Process.Exe == c.Target.Process.Exe && (o.Target.Process.User == "" || c.Target.Process.User == "" || o.Target.Process.User == c.Target.Process.User) {
				return nil, "its processes cannot be told from those of " + o.Component
			}
		}
		return []command.Target{c.Target}, ""
	}
	return groupTargets(s, c, c.Cgroup)
}

// within brings the value into the host's range and above the component's guarantee, or says why that cannot be.
func within(s *Situation, spec command.Spec, a *command.Action, c *Contender, p *command.Permission) string {
	low, high := max(spec.Min, p.Min), spec.Max
	if p.Max > 0 {
		high = min(high, p.Max)
	}
	if a.Name == "memory.high" || a.Name == "memory.limit" {
		low = max(low, int64(math.Ceil(c.Memory/(1<<20))))
	}
	if g := c.Guarantee; g > 0 {
		least := int64(0)
		cpus := float64(s.CPUs)
		switch a.Name {
		case "cpu.quota":
			least = int64(math.Ceil(g * 100))
		case "cpu.idle", "process.sched", "cgroup.freeze", "cgroup.kill":
			return fmt.Sprintf("%g cores are guaranteed to it, and this leaves it with none while others want them", g)
		case "process.affinity", "cpuset.cpus":
			if cpus > 0 {
				least = int64(math.Ceil(g / cpus * 100))
			}
		case "cpu.weight":
			// Against one busy sibling of neutral weight, the worst that the pair can do to it.
			if g >= cpus {
				return fmt.Sprintf("%g cores are guaranteed to it, as many as there are", g)
			}
			least = int64(math.Ceil(100 * g / (cpus - g)))
		}
		low = max(low, least)
	}
	a.Value = max(a.Value, low)
	if a.Value > high {
		return fmt.Sprintf("the host permits at most %d, and its guarantee needs %d", high, a.Value)
	}
	if spec.Neutral > 0 && a.Value >= spec.Neutral {
		return fmt.Sprintf("with what the host and the guarantee allow it would be %d, which constrains nothing", a.Value)
	}
	return ""
}
