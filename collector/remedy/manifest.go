package remedy

import (
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// FromManifest turns a policy and its runbook, as they were written, into what the planner reads.
func FromManifest(name string, p *manifest.RemediationPolicy, r *manifest.Runbook) Policy {
	t := p.Times()
	out := Policy{
		Name: name, Runbook: p.Runbook.Name(), Detector: p.When.Detector.Name(), Level: p.When.LeastLevel(), Mode: Mode(p.ModeInForce()), Choose: Choose(p.Choose),
		Times: Times{
			Dwell: t.Dwell, Outcome: t.Outcome, Cooldown: t.Cooldown, Lease: t.Lease, Steps: t.EpisodeSteps, Every: t.EpisodeEvery,
			Release: command.Release{Step: t.Release.Percent, Every: t.Release.Every},
		},
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		out.Steps = append(out.Steps, Step{
			Action: s.Action, Value: s.Value(), On: command.Target{Sysctl: s.Sysctl, Place: s.Place}, Verify: verifyFrom(s.Verify),
		})
	}
	return out
}

// verifyFrom fills in what every step is judged by where nothing was written: what the protected component waits for.
func verifyFrom(v *manifest.Verify) Verify {
	if v == nil {
		below := suffersFrom
		return Verify{Signal: "runqueue.delay", Of: "protected", Below: &below}
	}
	out := Verify{Signal: v.Signal, Of: v.Of}
	if out.Of == "" {
		out.Of = "protected"
	}
	if v.Below != nil {
		x := v.Below.Value()
		out.Below = &x
	}
	if v.Above != nil {
		x := v.Above.Value()
		out.Above = &x
	}
	return out
}
