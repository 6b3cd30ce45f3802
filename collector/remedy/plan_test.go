package remedy_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/governor"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func below(v float64) remedy.Verify {
	return remedy.Verify{Signal: "runqueue.delay", Of: "protected", Below: &v}
}

func policy(mode remedy.Mode) remedy.Policy {
	return remedy.Policy{
		Name: "relieve-host", Runbook: "relieve-cpu", Detector: "host-cpu", Level: health.Major, Mode: mode,
		Steps: []remedy.Step{
			{Action: "cpu.weight", Value: 10, Verify: below(0.2)},
			{Action: "process.affinity", Value: 50, Verify: below(0.2)},
		},
		Times: remedy.Times{
			Dwell: 5 * time.Second, Outcome: 5 * time.Second, Cooldown: time.Minute, Lease: 20 * time.Second,
			Release: command.Release{Step: 50, Every: time.Second}, Steps: 6, Every: 5 * time.Second,
		},
	}
}

func unit(name string) command.Target { return command.Target{Unit: name} }

// two is the usual case: a valuable server that waits, and a batch job that takes the CPU.
func two() remedy.Situation {
	return remedy.Situation{
		At: start, Host: "a", CPUs: 2, Incident: "incident-1", HostKnown: true, Policy: policy(remedy.Auto),
		Verdict: overload.Verdict{Host: "a", Detector: "host-cpu", State: overload.Overloaded, Level: health.Major, Since: start, At: start},
		Contenders: []remedy.Contender{
			{
				Component: "component/web", Target: unit("web.service"), Cgroup: "/system.slice/web.service", Services: []string{"service/checkout"},
				Value: remedy.Value{Points: 1000}, Cores: 0.4, Share: 0.2, Delay: 1.2, Known: true,
			},
			{
				Component: "component/batch", Target: unit("batch.service"), Cgroup: "/system.slice/batch.service", Services: []string{"service/reports"},
				Value: remedy.Value{Points: 1}, Cores: 1.6, Share: 0.8, Delay: 9, Known: true,
			},
		},
		Actor: command.ActorReport{
			Present: true, Incarnation: "inc", MaxRisk: command.R2, PermissionsHash: make([]byte, 32),
			Permissions: []command.Permission{
				{Action: "cpu.weight", Targets: []command.Target{unit("batch.service")}, Min: 5, Max: 100, MaxLease: 10 * time.Minute},
				{Action: "process.affinity", Targets: []command.Target{unit("batch.service")}, Min: 10, Max: 100, MaxLease: 10 * time.Minute},
			},
		},
	}
}

func TestPlanSqueezesTheLeastValuableContributor(t *testing.T) {
	p := remedy.MakePlan(two())
	if p.Proposal == nil {
		t.Fatal(p.Refusal)
	}
	a := p.Proposal
	if a.Component != "component/batch" || a.Protects != "component/web" || a.Action.Name != "cpu.weight" || a.Action.Value != 10 ||
		a.Action.Target.Unit != "batch.service" || a.Lease != 20*time.Second || a.Risk != command.R1 {
		t.Fatalf("%+v", a)
	}
	if len(p.Candidates) != 2 || !p.Candidates[0].Chosen || p.Candidates[0].Contribution() != "1.60 cores, 80 %" ||
		p.Candidates[1].Why != "it is the one to be protected" {
		t.Fatalf("%+v", p.Candidates)
	}
}

// The guard-rails beyond the host speak last: for one who is barred the next is asked, and the plan shows their verdicts.
func TestPlanAsksTheGuardRails(t *testing.T) {
	gate := func(p remedy.Plan, name string) (open, there bool) {
		for _, g := range p.Gates {
			if g.Name == name {
				return g.Open, true
			}
		}
		return false, false
	}
	p := remedy.MakePlan(two())
	if open, there := gate(p, "storm"); !open || !there || p.Proposal == nil {
		t.Errorf("%+v", p.Gates)
	}
	s := two()
	s.Fleet.Storm = "9 of 20 hosts are silent or down"
	if p := remedy.MakePlan(s); p.Proposal != nil || !strings.Contains(p.Refusal, "9 of 20") || p.Candidates[0].Chosen {
		t.Errorf("in a storm: %+v %s", p.Proposal, p.Refusal)
	} else if open, there := gate(p, "storm"); open || !there {
		t.Errorf("in a storm: %+v", p.Gates)
	}

	// The cheapest may only be capped, which costs service, and its like on another host is held back already.
	s = crowd("", func(s *remedy.Situation) {
		s.Policy.Steps = append([]remedy.Step{{Action: "cpu.quota", Value: 10, Verify: below(0.2)}}, s.Policy.Steps...)
		s.Actor.Permissions = append(s.Actor.Permissions[:1:1], command.Permission{Action: "cpu.quota", Targets: []command.Target{unit("batch.service")}, Min: 5, Max: 100})
		s.Actor.Permissions[0].Targets = []command.Target{unit("index.service")}
		s.Contenders[1].Group = governor.Group{Members: 2, Well: 1}
		s.Fleet.Records = []governor.Record{{
			Act:   governor.Act{Policy: "other", Host: "b", Component: "component/batch", Risk: governor.R2},
			Began: start.Add(-5 * time.Minute), Verified: true,
		}}
	})
	p = remedy.MakePlan(s)
	if p.Proposal == nil || p.Proposal.Component != "component/index" {
		t.Fatalf("%+v %s", p.Proposal, p.Refusal)
	}
	for _, c := range p.Candidates {
		if c.Component == "component/batch" && !strings.Contains(c.Why, "1 of 2 members of component/batch are held back") {
			t.Errorf("%+v", c)
		}
	}
	for _, g := range p.Gates {
		if !g.Open {
			t.Errorf("a plan that acts shows %+v", g)
		}
	}
}

// crowd is a situation in which several may be squeezed for the server.
func crowd(choose remedy.Choose, change func(s *remedy.Situation)) remedy.Situation {
	s := two()
	s.Policy.Choose = choose
	s.Contenders = append(s.Contenders, remedy.Contender{
		Component: "component/index", Target: unit("index.service"), Cgroup: "/system.slice/index.service", Services: []string{"service/search"},
		Value: remedy.Value{Points: 10}, Cores: 1, Share: 0.4, Delay: 2, Known: true,
	})
	s.Actor.Permissions[0].Targets = append(s.Actor.Permissions[0].Targets, unit("index.service"))
	change(&s)
	return s
}

func TestPlanChoosesTheLeastLoss(t *testing.T) {
	loss := func(v float64) *remedy.Value { return &remedy.Value{Points: v} }
	for _, c := range []struct {
		name   string
		choose remedy.Choose
		change func(s *remedy.Situation)
		want   string
	}{
		{"by loss", "", func(*remedy.Situation) {}, "component/batch"},
		{"for what is freed", "", func(s *remedy.Situation) { s.Contenders[1].Cores, s.Contenders[1].Value.Points = 0.3, 5 }, "component/index"},
		{"least value is named", remedy.LeastValue, func(s *remedy.Situation) { s.Contenders[1].Cores, s.Contenders[1].Value.Points = 0.3, 5 }, "component/batch"},
		{"a spare replica costs nothing", "", func(s *remedy.Situation) { s.Contenders[2].Value.Points, s.Contenders[2].Loss = 900, loss(0) }, "component/index"},
		{"a shared database costs what rests on it", "", func(s *remedy.Situation) { s.Contenders[1].Loss = loss(1001) }, "component/index"},
		{"what a guarantee leaves", "", func(s *remedy.Situation) { s.Contenders[1].Guarantee, s.Contenders[1].Value.Points = 1.5, 2 }, "component/index"},
		{"the same services", "", func(s *remedy.Situation) {
			s.Contenders[2].Services, s.Contenders[2].Loss = s.Contenders[0].Services, loss(0)
		}, "component/batch"},
	} {
		p := remedy.MakePlan(crowd(c.choose, c.change))
		if p.Proposal == nil || p.Proposal.Component != c.want {
			t.Errorf("%s: %+v %s, want %s", c.name, p.Proposal, p.Refusal, c.want)
		}
		for _, cand := range p.Candidates {
			if cand.Chosen != (cand.Component == c.want) || cand.Why == "" {
				t.Errorf("%s: %+v", c.name, cand)
			}
		}
	}
}

func TestPlanRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*remedy.Situation)
		want   string
	}{
		"kill switch":      {func(s *remedy.Situation) { s.KillSwitch = true }, "the kill switch is on"},
		"silent":           {func(s *remedy.Situation) { s.HostKnown = false }, "the host is silent"},
		"unknown verdict":  {func(s *remedy.Situation) { s.Verdict.State = overload.Unknown }, "host-cpu says unknown"},
		"at risk":          {func(s *remedy.Situation) { s.Verdict.State = overload.AtRisk }, "host-cpu says at risk"},
		"no actor":         {func(s *remedy.Situation) { s.Actor.Present = false }, "no actor is installed"},
		"kill file":        {func(s *remedy.Situation) { s.Actor.Killed = true }, "kill file"},
		"bad permissions":  {func(s *remedy.Situation) { s.Actor.Problem = "writable by others" }, "denies everything"},
		"busy":             {func(s *remedy.Situation) { s.Busy = "x" }, "action x is under way"},
		"steal":            {func(s *remedy.Situation) { s.Steal = true }, "hypervisor"},
		"maintenance":      {func(s *remedy.Situation) { s.Maintenance = true }, "maintenance"},
		"nobody suffers":   {func(s *remedy.Situation) { s.Contenders[0].Delay = 0.1; s.Contenders[1].Value = remedy.Value{} }, "no component with a value waits"},
		"unranked":         {func(s *remedy.Situation) { s.Contenders[1].Value = remedy.Value{} }, "unranked is never a target"},
		"not on map":       {func(s *remedy.Situation) { s.Contenders[1].Component, s.Contenders[1].Name = "", "unit/batch.service" }, "largest contributor, not on the map"},
		"equal value":      {func(s *remedy.Situation) { s.Contenders[1].Value.Points = 1000; s.Contenders[1].Delay = 0 }, "its value is not lower"},
		"not permitted":    {func(s *remedy.Situation) { s.Actor.Permissions = nil }, "not listed in the host's permissions"},
		"small":            {func(s *remedy.Situation) { s.Contenders[1].Share = 0.05 }, "nothing on the host contributes enough"},
		"unknown use":      {func(s *remedy.Situation) { s.Contenders[1].Known = false }, "nothing is known of what it uses"},
		"guaranteed":       {func(s *remedy.Situation) { s.Contenders[1].Guarantee = 1.8 }, "guaranteed"},
		"risk":             {func(s *remedy.Situation) { s.Actor.MaxRisk = command.R0 }, "no more than R0"},
		"steps are used":   {func(s *remedy.Situation) { s.Policy.Times.Steps = 0 }, "it is for people now"},
		"taken before":     {func(s *remedy.Situation) { s.Episode = tried("cpu.weight", "process.affinity") }, "taken before"},
		"cooling":          {func(s *remedy.Situation) { s.Cooldowns = cooling("cpu.weight", "process.affinity") }, "cooling down"},
		"too soon":         {func(s *remedy.Situation) { s.Episode = tried("x"); s.Episode[0].At = start.Add(-time.Second) }, "less than 5s ago"},
		"other detector":   {func(s *remedy.Situation) { s.Policy.Detector = "other" }, "the policy answers other"},
		"level too low":    {func(s *remedy.Situation) { s.Policy.Level = health.Critical }, "from critical on"},
		"own maintenance":  {func(s *remedy.Situation) { s.Contenders[1].Maintenance = true }, "it is in maintenance"},
		"somebody refused": {func(s *remedy.Situation) { s.Denied = "ann" }, "ann has denied"},
	} {
		s := two()
		c.change(&s)
		p := remedy.MakePlan(s)
		if p.Proposal != nil || !strings.Contains(p.Refusal, c.want) {
			t.Errorf("%s: proposal %+v, refusal %q, want %q", name, p.Proposal, p.Refusal, c.want)
		}
		for _, cand := range p.Candidates {
			if cand.Chosen {
				t.Errorf("%s: a refused plan has a chosen candidate", name)
			}
		}
	}
}

func tried(actions ...string) []remedy.Tried {
	var out []remedy.Tried
	for _, a := range actions {
		out = append(out, remedy.Tried{Component: "component/batch", Action: a, At: start.Add(-time.Minute), Ended: true})
	}
	return out
}

func cooling(actions ...string) map[string]time.Time {
	out := map[string]time.Time{}
	for _, a := range actions {
		out["component/batch "+a] = start.Add(time.Minute)
	}
	return out
}

func TestPlanFallsThroughToTheNextStep(t *testing.T) {
	for name, change := range map[string]func(*remedy.Situation){
		"weight not permitted": func(s *remedy.Situation) { s.Actor.Permissions = s.Actor.Permissions[1:] },
		"weight taken before":  func(s *remedy.Situation) { s.Episode = tried("cpu.weight") },
		"same cgroup": func(s *remedy.Situation) {
			for i, exe := range []string{"/opt/web", "/opt/batch"} {
				s.Contenders[i].Cgroup = "/user.slice/session-1.scope"
				s.Contenders[i].Target = command.Target{Process: &command.Process{Exe: exe}}
			}
			s.Actor.Permissions[1].Targets = []command.Target{{Process: &command.Process{Exe: "/opt/batch"}}}
		},
		"weight within its guarantee means nothing": func(s *remedy.Situation) { s.Contenders[1].Guarantee = 1.2 },
	} {
		s := two()
		change(&s)
		p := remedy.MakePlan(s)
		if p.Proposal == nil || p.Proposal.Action.Name != "process.affinity" {
			t.Errorf("%s: %+v %s", name, p.Proposal, p.Refusal)
		}
	}
}

// What is declared by its port and worth least gets fewer new connections, and what has no port does not.
func TestNewConnectionsAreBoundedAtThePort(t *testing.T) {
	s := two()
	s.Policy.Steps = []remedy.Step{{Action: "nft.limit", Value: 20}}
	s.Actor.Permissions = []command.Permission{{Action: "nft.limit", Targets: []command.Target{{Port: "8080/tcp"}}, Min: 50, Max: 1000, MaxLease: 10 * time.Minute}}
	if p := remedy.MakePlan(s); p.Proposal != nil {
		t.Fatalf("a unit is bounded at a port: %+v", p.Proposal)
	}
	s.Contenders[1].Target = command.Target{Port: "8080/tcp"}
	p := remedy.MakePlan(s)
	if p.Proposal == nil {
		t.Fatal(p.Refusal)
	}
	if a := p.Proposal; a.Component != "component/batch" || a.Action.Target.Port != "8080/tcp" || a.Action.Value != 50 || a.Risk != command.R2 {
		t.Fatalf("%+v", a)
	}
}

func TestWeightBelongsToTheSiblingThatHoldsTheContributor(t *testing.T) {
	s := two()
	s.Contenders[0].Cgroup = "/business.slice/web.service"
	s.Contenders[1].Cgroup = "/bulk.slice/jobs/batch.service"
	s.Actor.Permissions = []command.Permission{{Action: "cpu.weight", Targets: []command.Target{{Cgroup: "/bulk.slice"}}, Min: 1, Max: 100, MaxLease: time.Minute}}
	p := remedy.MakePlan(s)
	if p.Proposal == nil || p.Proposal.Action.Target.Cgroup != "/bulk.slice" {
		t.Fatalf("%+v %s", p.Proposal, p.Refusal)
	}
	// Another valued component under the same slice would be squeezed with it.
	s.Contenders = append(s.Contenders, remedy.Contender{
		Component: "component/mail", Cgroup: "/bulk.slice/mail.service", Value: remedy.Value{Points: 10}, Known: true,
	})
	p = remedy.MakePlan(s)
	if p.Proposal != nil || !strings.Contains(p.Refusal, "also holds component/mail") {
		t.Fatalf("%+v %q", p.Proposal, p.Refusal)
	}
}

func TestMoneyAndPointsAreNeverMixed(t *testing.T) {
	s := two()
	// By points batch is worth less, by money alone web is: both are priced, in one currency, so money decides.
	s.Contenders[0].Value = remedy.Value{Points: 1, Money: 5000, Currency: "EUR"}
	s.Contenders[1].Value = remedy.Value{Points: 1000, Money: 50, Currency: "EUR"}
	if p := remedy.MakePlan(s); p.Proposal == nil || p.Proposal.Component != "component/batch" {
		t.Fatal(p.Refusal)
	}
	s.Contenders[1].Value.Currency = "USD"
	if p := remedy.MakePlan(s); p.Proposal != nil && p.Proposal.Component == "component/batch" {
		t.Fatal("amounts of two currencies were compared")
	}
}

func TestValuesAreClampedToHostAndGuarantee(t *testing.T) {
	s := two()
	s.Actor.Permissions[0].Min = 20
	if p := remedy.MakePlan(s); p.Proposal.Action.Value != 20 {
		t.Fatal(p.Proposal)
	}
	s = two()
	s.Contenders[1].Guarantee = 0.5 // a third of the other's share of two CPUs
	if p := remedy.MakePlan(s); p.Proposal.Action.Name != "cpu.weight" || p.Proposal.Action.Value != 34 {
		t.Fatal(p.Proposal)
	}
	s = two()
	s.Policy.Steps = []remedy.Step{{Action: "cpu.quota", Value: 10, Verify: below(0.2)}}
	s.Contenders[1].Guarantee = 0.5
	s.Actor.Permissions = []command.Permission{{Action: "cpu.quota", Targets: []command.Target{unit("batch.service")}, Min: 5, Max: 200, MaxLease: 10 * time.Second}}
	if p := remedy.MakePlan(s); p.Proposal == nil || p.Proposal.Action.Value != 50 || p.Proposal.Lease != 10*time.Second || p.Proposal.Risk != command.R2 {
		t.Fatal(p.Proposal, p.Refusal)
	}
}

// Whatever the situation, a plan squeezes only what is known, on the map, ranked, permitted, contributing, and worth less
// than the one it protects, and nothing eligible is worth less than the chosen one.
func TestPlanProperties(t *testing.T) {
	groups := []string{"", "/", "/s", "/s/a", "/s/b", "/s/b/c", "/t"}
	rapid.Check(t, func(t *rapid.T) {
		s := two()
		s.Contenders = nil
		s.Actor.Permissions = nil
		for i := range rapid.IntRange(0, 6).Draw(t, "n") {
			name := string(rune('a' + i))
			c := remedy.Contender{
				Component: rapid.SampledFrom([]string{"", "component/" + name, "component/" + name}).Draw(t, "component"), Name: "unit/" + name,
				Target: unit(name + ".service"), Cgroup: rapid.SampledFrom(groups).Draw(t, "cgroup"),
				Value: remedy.Value{Points: float64(rapid.SampledFrom([]int{0, 1, 10, 100}).Draw(t, "points"))},
				Cores: rapid.Float64Range(0, 2).Draw(t, "cores"),
				Delay: rapid.Float64Range(0, 1).Draw(t, "delay"),
				Known: rapid.Bool().Draw(t, "known"),
				Share: rapid.Float64Range(0, 1).Draw(t, "share"),
			}
			s.Contenders = append(s.Contenders, c)
			if rapid.Bool().Draw(t, "permitted") {
				s.Actor.Permissions = append(s.Actor.Permissions, command.Permission{
					Action: rapid.SampledFrom([]string{"cpu.weight", "process.affinity"}).Draw(t, "action"), Min: 1, Max: 1000, MaxLease: time.Hour,
					Targets: []command.Target{c.Target, {Cgroup: c.Cgroup}},
				})
			}
		}
		s.HostKnown = rapid.Bool().Draw(t, "host known")
		p := remedy.MakePlan(s)
		if (p.Proposal == nil) == (p.Refusal == "") {
			t.Fatalf("proposal %v with refusal %q", p.Proposal, p.Refusal)
		}
		if p.Proposal == nil {
			return
		}
		if !s.HostKnown {
			t.Fatal("acts on a host that is not known")
		}
		find := func(ref string) remedy.Contender {
			for _, c := range s.Contenders {
				if c.Component == ref {
					return c
				}
			}
			t.Fatalf("no contender %q", ref)
			return remedy.Contender{}
		}
		v, w := find(p.Proposal.Component), find(p.Proposal.Protects)
		if v.Component == "" || !v.Known || !v.Value.Ranked() || v.Share < 0.1 || v.Value.Points >= w.Value.Points || w.Delay < 0.2 || !w.Known {
			t.Fatalf("squeezes %+v for %+v", v, w)
		}
		if _, ok := s.Actor.Permits(p.Proposal.Action); !ok {
			t.Fatalf("%v is not permitted", p.Proposal.Action)
		}
		for _, c := range s.Contenders {
			if c.Delay >= 0.2 && c.Known && c.Component != "" && c.Value.Points > w.Value.Points {
				t.Fatalf("protects %s, and %s is worth more", w.Component, c.Component)
			}
		}
		chosen := 0
		for _, c := range p.Candidates {
			if c.Chosen {
				chosen++
			}
			if c.Why == "" {
				t.Fatalf("no reason for %s", c.Component)
			}
		}
		if chosen != 1 {
			t.Fatalf("%d chosen", chosen)
		}
	})
}

// Each action of the catalogue that a step can name is planned on what it acts on: what gives way, what is protected, or what
// the step itself names.
func TestPlanTakesEveryAction(t *testing.T) {
	batch, web := unit("batch.service"), unit("web.service")
	for _, c := range []struct {
		step   remedy.Step
		target command.Target
		want   int64
		change func(*remedy.Situation)
		why    string // of a refusal
	}{
		{step: remedy.Step{Action: "cpu.idle", Value: 1}, target: batch},
		{step: remedy.Step{Action: "cpu.idle", Value: 1}, target: batch, change: func(s *remedy.Situation) { s.Contenders[1].Guarantee = 0.5 }, why: "0.5 cores are guaranteed to it"},
		{step: remedy.Step{Action: "cpuset.cpus", Value: 50}, target: batch},
		{step: remedy.Step{Action: "cpuset.cpus", Value: 25}, target: batch, want: 50, change: func(s *remedy.Situation) { s.Contenders[1].Guarantee = 1 }},
		{step: remedy.Step{Action: "memory.high", Value: 512}, target: batch},
		{step: remedy.Step{Action: "memory.high", Value: 512}, target: batch, want: 600, change: func(s *remedy.Situation) { s.Contenders[1].Memory = 600 << 20 }},
		{step: remedy.Step{Action: "memory.limit", Value: 512}, target: batch, want: 513, change: func(s *remedy.Situation) { s.Contenders[1].Memory = 512<<20 + 1 }},
		{step: remedy.Step{Action: "memory.low", Value: 512}, target: web},
		{step: remedy.Step{Action: "io.limit", Value: 1024}, target: batch},
		{step: remedy.Step{Action: "pids.max", Value: 100}, target: batch},
		{step: remedy.Step{Action: "cgroup.freeze", Value: 1}, target: batch},
		{step: remedy.Step{Action: "cgroup.freeze", Value: 1}, target: batch, change: func(s *remedy.Situation) { s.Contenders[1].Guarantee = 0.5 }, why: "guaranteed"},
		{step: remedy.Step{Action: "process.nice", Value: 10}, target: batch},
		{step: remedy.Step{Action: "process.ionice", Value: 8}, target: batch},
		{step: remedy.Step{Action: "process.sched", Value: 2}, target: batch},
		{step: remedy.Step{Action: "process.oom", Value: 500}, target: batch},
		{step: remedy.Step{Action: "sysctl", Value: 4096, On: command.Target{Sysctl: "net.core.somaxconn"}}, target: command.Target{Sysctl: "net.core.somaxconn"}},
		{step: remedy.Step{Action: "sysctl", Value: 4096, On: command.Target{Sysctl: "kernel.core_pattern"}}, target: command.Target{Sysctl: "net.core.somaxconn"}, why: "not one that can be set"},
		{step: remedy.Step{Action: "plugin:shed", Value: 40}, target: batch},
		{step: remedy.Step{Action: "plugin:shed", Value: 40}, target: command.Target{}},
		{step: remedy.Step{Action: "cgroup.kill", Value: 1}, target: batch},
		{step: remedy.Step{Action: "file.relief", Value: 100, On: command.Target{Place: "old-logs"}}, target: command.Target{Place: "old-logs"}},
	} {
		s := two()
		s.Policy.Steps = []remedy.Step{c.step}
		s.Actor.MaxRisk = command.R3
		s.Actor.Permissions = []command.Permission{{Action: c.step.Action, Targets: []command.Target{c.target}, Min: 0, Max: 1 << 20, MaxLease: time.Hour}}
		if c.change != nil {
			c.change(&s)
		}
		p := remedy.MakePlan(s)
		if c.why != "" {
			if p.Proposal != nil || !strings.Contains(p.Refusal, c.why) {
				t.Errorf("%s: %+v, refusal %q, want %q", c.step.Action, p.Proposal, p.Refusal, c.why)
			}
			continue
		}
		if p.Proposal == nil {
			t.Errorf("%s: %s", c.step.Action, p.Refusal)
			continue
		}
		spec, _ := command.Lookup(c.step.Action)
		want := c.step.Value
		if c.want != 0 {
			want = c.want
		}
		if a := p.Proposal.Action; !a.Target.Equal(c.target) || a.Value != want || p.Proposal.Risk != spec.Risk || (p.Proposal.Lease == 0) != spec.Once() ||
			(p.Proposal.Release == command.Release{}) != (spec.Min == spec.Max || spec.Once()) {
			t.Errorf("%s: %+v, want %s and %d", c.step.Action, p.Proposal, c.target, want)
		}
	}
}

// What a manifest may say of an action is what the catalogue has of it.
func TestManifestAgreesWithTheCatalogue(t *testing.T) {
	named := 0
	for _, spec := range append(command.Catalogue(), mustLookup(t, "plugin:shed")) {
		least, most, ok := manifest.ActionRange(spec.Name)
		if !ok {
			t.Logf("no step names %s", spec.Name)
			continue
		}
		named++
		if least != spec.Min || most != spec.Max {
			t.Errorf("%s: a step takes %d to %d, an actor %d to %d", spec.Name, least, most, spec.Min, spec.Max)
		}
	}
	if named < 19 {
		t.Errorf("steps name %d actions only", named)
	}
}

func mustLookup(t *testing.T, name string) command.Spec {
	t.Helper()
	s, ok := command.Lookup(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return s
}
