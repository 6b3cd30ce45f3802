package manifest

import (
	"fmt"

	"github.com/evenkeel/evenkeel/pkg/health"
)

func checkDetector(c *checker, d *Detector) {
	c.signal("spec.signal", d.Signal)
	if d.Act == nil && d.Warn == nil {
		c.problem("spec", "a detector needs act, warn or both", "")
	}
	for _, x := range []struct {
		name string
		cond *Condition
	}{{"act", d.Act}, {"warn", d.Warn}, {"leave", d.Leave}} {
		if x.cond == nil {
			continue
		}
		at := "spec." + x.name
		if x.cond.Signal != "" {
			c.problem(at+".signal", "the signal of "+x.name+" is the detector's own", "leave it out, or put it under and")
		}
		c.condition(at, x.cond)
	}
	if d.Level != nil && *d.Level == health.OK {
		c.problem("spec.level", "an overload at level ok says nothing", "")
	}
	if a, w := d.Act, d.Warn; a != nil && w != nil {
		if a.Above != nil && w.Above != nil && a.Above.Value() < w.Above.Value() ||
			a.Below != nil && w.Below != nil && a.Below.Value() > w.Below.Value() {
			c.problem("spec.warn", "warn is beyond act: it would never be seen", "")
		}
	}
	enter := d.Warn
	if enter == nil {
		enter = d.Act
	}
	if l := d.Leave; l != nil && enter != nil {
		switch {
		case enter.Above != nil && l.Below == nil || enter.Below != nil && l.Above == nil:
			c.problem("spec.leave", "leave must look the other way than what it leaves", "above is left by below, and below by above")
		case enter.Above != nil && l.Below.Value() > enter.Above.Value(), enter.Below != nil && l.Above.Value() < enter.Below.Value():
			c.problem("spec.leave", "leave overlaps with what it leaves: the verdict would flap", "")
		}
	}
}

func (c *checker) signal(at, s string) {
	bad := s != "" && !(s[0] >= 'a' && s[0] <= 'z')
	for i := range len(s) {
		if ch := s[i]; !(ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9' || ch == '.' || ch == '_') {
			bad = true
		}
	}
	if bad {
		c.problem(at, fmt.Sprintf("%q is not a signal", s), "lower-case words joined by dots, such as cpu.pressure.some")
	}
}

func (c *checker) condition(at string, x *Condition) {
	c.exactlyOne(at, "above and below", x.Above != nil, x.Below != nil)
	if x.Of != nil && x.For != 0 {
		c.problem(at, at+" takes one of of and for", "of: 10/10 is for: 10s at one tick a second")
	}
	if x.And != nil {
		if x.And.Signal == "" {
			c.problem(at+".and", at+".and.signal is missing", "")
		}
		c.signal(at+".and.signal", x.And.Signal)
		c.condition(at+".and", x.And)
	}
}

func checkPolicy(c *checker, p *RemediationPolicy) {
	c.hosts("spec.hosts", p.Hosts)
	if p.When.Level != nil && *p.When.Level == health.OK {
		c.problem("spec.when.level", "a policy that answers ok would always act", "")
	}
	for name, d := range map[string]*Duration{"outcome": p.Timing.Outcome, "lease": p.Timing.Lease} {
		if d != nil && *d == 0 {
			c.problemf("spec.timing."+name, "%s of 0s leaves no time", name)
		}
	}
	t := p.Times()
	if t.Lease < t.Outcome {
		c.problemf("spec.timing.lease", "the lease of %s ends before the outcome is judged after %s", Duration(t.Lease), Duration(t.Outcome))
	}
	if t.EpisodeEvery == 0 {
		c.problem("spec.episode.every", "steps without any time between them cannot be judged", "")
	}
}
