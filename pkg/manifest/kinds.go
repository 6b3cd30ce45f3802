package manifest

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/health"
)

// Service is something that the business names.
type Service struct {
	Title string `json:"title,omitempty"`
	// Layer is business, application or infrastructure.
	Layer string `json:"layer,omitempty" manifest:"enum=business|application|infrastructure"`
	// Criticality is 1 (highest) to 4; 0 means that none was stated.
	Criticality  int          `json:"criticality,omitempty" manifest:"min=1,max=4"`
	Owner        Ref          `json:"owner,omitempty" manifest:"ref=team"`
	Vendor       Ref          `json:"vendor,omitempty" manifest:"ref=vendor"`
	SupportHours Ref          `json:"supportHours,omitempty" manifest:"ref=calendar"`
	Value        *Value       `json:"value,omitempty"`
	DependsOn    []Dependency `json:"dependsOn,omitempty"`
	Indicators   []Indicator  `json:"indicators,omitempty"`
	Health       *Health      `json:"health,omitempty"`
}

// Value is what an hour of a service is worth, where a business owner has priced it.
type Value struct {
	PerHour  Decimal `json:"perHour" manifest:"required"`
	Currency string  `json:"currency" manifest:"required"` // three capital letters
	Calendar Ref     `json:"calendar,omitempty" manifest:"ref=calendar"`
	// Loss is the fraction of the value that is lost at a level and above; empty means all of it at critical.
	Loss map[health.Level]Decimal `json:"loss,omitempty"`
	// Author is who priced it, and Date the day on which they did. Where they are not stated, the collector knows who applied
	// the value and when.
	Author string     `json:"author,omitempty"`
	Date   *civil.Day `json:"date,omitempty"`
}

// Dependency is one edge of the map.
type Dependency struct {
	Ref       Ref             `json:"ref" manifest:"required,ref=component|service|host|device"`
	Weight    *int            `json:"weight,omitempty" manifest:"min=0,max=1000000"` // 1 where not stated
	Propagate *health.EdgeMap `json:"propagate,omitempty"`                           // asIs where not stated
	Essential bool            `json:"essential,omitempty"`
}

// Indicator is a measure of the service itself.
type Indicator struct {
	Name      string                  `json:"name" manifest:"required"`
	PromQL    string                  `json:"promql" manifest:"required"`
	Levels    map[health.Level]Bounds `json:"levels" manifest:"required"`
	Essential bool                    `json:"essential,omitempty"`
}

// Health is the rule by which the health of many becomes the health of one. Rule is worst where the block is absent.
type Health struct {
	Rule        string       `json:"rule,omitempty" manifest:"enum=worst|best|quorum|threshold|exponential|score|alwaysOk"`
	Quorum      *Quorum      `json:"quorum,omitempty"`
	Threshold   *Threshold   `json:"threshold,omitempty"`
	Exponential *Exponential `json:"exponential,omitempty"`
	Also        []Also       `json:"also,omitempty"`
}

// Quorum needs Need inputs, or that Share of them.
type Quorum struct {
	Need  int    `json:"need,omitempty" manifest:"min=1,max=1000000"`
	Share *Share `json:"share,omitempty"`
}

// Threshold reaches a level when that share of the weight does.
type Threshold struct {
	Share Share `json:"share" manifest:"required"`
}

// Exponential adds up Base to the power of the level of each input.
type Exponential struct {
	Base Decimal `json:"base" manifest:"required"`
}

// Also is an extra rule: where it fires, the node is at least at Then.
type Also struct {
	When     string       `json:"when" manifest:"required,enum=count|percent|weight|weightPercent"`
	AtLeast  *int         `json:"atLeast,omitempty" manifest:"min=1,max=1000000"`
	LessThan *int         `json:"lessThan,omitempty" manifest:"min=1,max=1000000"`
	Level    health.Level `json:"level" manifest:"required"`
	Then     health.Level `json:"then" manifest:"required"`
}

// Component is a running part, on each of the hosts that it selects. Exactly one of Unit, Cgroup, Process, Port, Check
// and Interface is set, or none: then it is the host itself.
type Component struct {
	Title     string     `json:"title,omitempty"`
	Owner     Ref        `json:"owner,omitempty" manifest:"ref=team"`
	Hosts     *Hosts     `json:"hosts,omitempty"`
	Unit      string     `json:"unit,omitempty"`   // nginx.service
	Cgroup    string     `json:"cgroup,omitempty"` // path below the hierarchy's root, "/" first
	Process   *Process   `json:"process,omitempty"`
	Port      string     `json:"port,omitempty"` // 8080/tcp
	Check     *Check     `json:"check,omitempty"`
	Interface string     `json:"interface,omitempty"`
	Source    *Source    `json:"source,omitempty"`
	External  *External  `json:"external,omitempty"`
	Repair    *Repair    `json:"repair,omitempty"`
	Guarantee *Guarantee `json:"guarantee,omitempty"`
	Health    *Health    `json:"health,omitempty"` // over the members
}

// Hosts selects hosts, by labels or by name; exactly one is set.
type Hosts struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	Names       []string          `json:"names,omitempty"`
}

// Matches reports whether the selector picks a host of that name and labels.
func (h *Hosts) Matches(name string, labels map[string]string) bool {
	if h == nil {
		return false
	}
	for _, n := range h.Names {
		if n == name {
			return true
		}
	}
	if len(h.MatchLabels) == 0 {
		return false
	}
	for k, v := range h.MatchLabels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Process names running programs by executable and, where User is not empty, owner.
type Process struct {
	Exe  string `json:"exe" manifest:"required"` // absolute path
	User string `json:"user,omitempty"`
}

// Check is a judgement that the agent passes; exactly one field is set. In a manifest it may be written as one word: a
// URL, host:port, or the name of a check in the agent's own files.
type Check struct {
	HTTP string `json:"http,omitempty"` // URL
	TCP  string `json:"tcp,omitempty"`  // host:port
	Name string `json:"name,omitempty"`
}

// Source takes a component's health from elsewhere; exactly one field is set.
type Source struct {
	Alertmanager *AlertSource `json:"alertmanager,omitempty"`
	Zabbix       *AlertSource `json:"zabbix,omitempty"`
	// Signal is the name of a signal that is posted to /api/v1/signals.
	Signal string        `json:"signal,omitempty"`
	PromQL *PromQLSource `json:"promql,omitempty"`
}

// AlertSource picks the alerts of an Alertmanager, or the problems of a Zabbix, by their labels: all of MatchLabels must be there. The
// component is as bad as the worst of them that fires, ok while none does, and unknown while the sender is silent.
type AlertSource struct {
	MatchLabels map[string]string `json:"matchLabels" manifest:"required"`
	// Severity is the label that holds the severity: "severity" where not stated.
	Severity string `json:"severity,omitempty"`
	// Levels is what a severity means, by its word; it goes before the table of docs/signals.md.
	Levels map[string]health.Level `json:"levels,omitempty"`
	// Otherwise is the level of an alert whose severity is in neither, or that has none: major where not stated.
	Otherwise *health.Level `json:"otherwise,omitempty"`
	// Within is how long the sender may be silent: 10m where not stated, 1m to 24h.
	Within *Duration `json:"within,omitempty"`
}

// PromQLSource is an expression with one value, and what the value means. It is asked of the Prometheus that the collector is
// configured with, or of its own store where it is with none.
type PromQLSource struct {
	Query  string                  `json:"query" manifest:"required"`
	Levels map[health.Level]Bounds `json:"levels" manifest:"required"`
	// Every is how often it is asked, 5s to 1h: as the collector is configured where not stated.
	Every *Duration `json:"every,omitempty"`
}

// External is a part that somebody else runs. The collector itself makes its Check, from where it stands.
type External struct {
	Vendor Ref    `json:"vendor,omitempty" manifest:"ref=vendor"`
	Check  *Check `json:"check,omitempty"`
}

// Repair is how long it takes to mend a component, who does, and what has to be mended before.
type Repair struct {
	Expected Duration `json:"expected,omitempty"`
	Team     Ref      `json:"team,omitempty" manifest:"ref=team"`
	After    []Ref    `json:"after,omitempty" manifest:"ref=component"`
}

// Guarantee is what load adjustment may never take away.
type Guarantee struct {
	CPU    Decimal `json:"cpu,omitempty"` // cores
	Memory Bytes   `json:"memory,omitempty"`
}

// Host is a machine. Its labels are joined with those of metadata; names that begin with "agent/" belong to agents.
type Host struct {
	Labels  map[string]string `json:"labels,omitempty"`
	Address string            `json:"address,omitempty"`
}

// HostTemplate adds labels to hosts. It sees the labels that hosts have without any template; a label that a host has already
// stays, and of two templates that add one the first by name does.
type HostTemplate struct {
	Hosts  *Hosts            `json:"hosts" manifest:"required"`
	Labels map[string]string `json:"labels" manifest:"required"`
}

// Detector turns a signal into verdicts.
type Detector struct {
	Title  string `json:"title,omitempty"`
	Signal string `json:"signal" manifest:"required"`
	Scope  string `json:"scope" manifest:"required,enum=host|unit|process|device|check"`
	// Act enters overloaded, Warn enters at risk, Leave returns to healthy. Leave defaults to the opposite of Warn, or of
	// Act where there is no Warn.
	Act   *Condition `json:"act,omitempty"`
	Warn  *Condition `json:"warn,omitempty"`
	Leave *Condition `json:"leave,omitempty"`
	// Level is that of a leaf that the detector applies to when overloaded.
	Level *health.Level `json:"level,omitempty"`
	// AppliesTo is host, or components: then the verdict counts for the components on the host too.
	AppliesTo string `json:"appliesTo,omitempty" manifest:"enum=host|components"`
}

// OverloadLevel returns Level, major where none was stated.
func (d *Detector) OverloadLevel() health.Level {
	if d.Level == nil {
		return health.Major
	}
	return *d.Level
}

// Applies returns AppliesTo, "host" where none was stated.
func (d *Detector) Applies() string {
	if d.AppliesTo == "" {
		return "host"
	}
	return d.AppliesTo
}

// Condition holds when the signal is above or below a bound: exactly one of both is set. In a manifest Subject may be
// written as a second "of", beside that of ticks: {signal: runqueue.delay, of: valued, above: 0.5, of: 2/3}.
type Condition struct {
	// Signal is empty in act, warn and leave, which speak of the detector's own; in "and" it may be another.
	Signal string `json:"signal,omitempty"`
	// Subject says whose signal: valued (of a component that a service with value depends on), protected, target, any.
	Subject string     `json:"subject,omitempty" manifest:"enum=valued|protected|target|any"`
	Above   *Quantity  `json:"above,omitempty"`
	Below   *Quantity  `json:"below,omitempty"`
	Of      *Ticks     `json:"of,omitempty"` // 2/3: in 2 of the last 3 ticks; 1/1 where neither Of nor For is stated
	For     Duration   `json:"for,omitempty"`
	And     *Condition `json:"and,omitempty"`
}

// Holds reports whether a value satisfies the bound, leaving Of, For and And aside.
func (c *Condition) Holds(v float64) bool {
	if c.Above != nil {
		return v >= c.Above.Value()
	}
	return c.Below != nil && v <= c.Below.Value()
}

// Runbook is a list of steps, mildest first.
type Runbook struct {
	Title string `json:"title,omitempty"`
	Steps []Step `json:"steps" manifest:"required"`
}

// Step is one action. CPUs is the value of cpuset.cpus and process.affinity, percent of the CPUs allowed; To is that of the
// others, as docs/actions.md has it: a number, percents of one CPU, or an amount of bytes; unit.stop and unit.restart take none.
type Step struct {
	Action string    `json:"action" manifest:"required,enum=cgroup.freeze|cgroup.kill|cpu.idle|cpu.quota|cpu.weight|cpuset.cpus|file.relief|io.limit|memory.high|memory.limit|memory.low|nft.limit|pids.max|process.affinity|process.ionice|process.nice|process.oom|process.sched|sysctl|unit.restart|unit.stop|plugin:*"`
	To     *Quantity `json:"to,omitempty"`
	CPUs   *Quantity `json:"cpus,omitempty"`
	Sysctl string    `json:"sysctl,omitempty"` // of sysctl: the kernel parameter
	Place  string    `json:"place,omitempty"`  // of file.relief: the place, as the hosts' permissions name it
	Verify *Verify   `json:"verify,omitempty"`
}

// Verify is how the outcome of a step is judged; exactly one of Above and Below is set.
type Verify struct {
	Signal string    `json:"signal" manifest:"required"`
	Of     string    `json:"of,omitempty" manifest:"enum=protected|target|host"` // protected where not stated
	Below  *Quantity `json:"below,omitempty"`
	Above  *Quantity `json:"above,omitempty"`
}

// RemediationPolicy says when to do what on which hosts, and how freely.
type RemediationPolicy struct {
	Title   string  `json:"title,omitempty"`
	When    When    `json:"when" manifest:"required"`
	Hosts   *Hosts  `json:"hosts" manifest:"required"`
	Choose  string  `json:"choose,omitempty" manifest:"enum=least-loss|least-value-contributor"` // who loses least, through the map, for what it frees, or whose services are worth least; least-loss where not stated
	Runbook Ref     `json:"runbook" manifest:"required,ref=runbook"`
	Mode    string  `json:"mode,omitempty" manifest:"enum=observe|suggest|approve|auto"` // observe where not stated
	Timing  Timing  `json:"timing,omitzero"`
	Episode Episode `json:"episode,omitzero"`
}

// When names the verdict that a policy answers. Level is the least one; major where none was stated.
type When struct {
	Detector Ref           `json:"detector" manifest:"required,ref=detector"`
	Level    *health.Level `json:"level,omitempty"`
}

// LeastLevel returns Level, major where none was stated.
func (w When) LeastLevel() health.Level {
	if w.Level == nil {
		return health.Major
	}
	return *w.Level
}

// Timing is what was written of a policy's times; Times answers with the defaults filled in.
type Timing struct {
	Dwell    *Duration `json:"dwell,omitempty"`
	Outcome  *Duration `json:"outcome,omitempty"`
	Cooldown *Duration `json:"cooldown,omitempty"`
	Lease    *Duration `json:"lease,omitempty"`
	Release  *Release  `json:"release,omitempty"`
}

// Episode is what was written of a policy's limits on one overload; Times answers with the defaults filled in.
type Episode struct {
	Steps *int      `json:"steps,omitempty" manifest:"min=1,max=1000"`
	Every *Duration `json:"every,omitempty"`
}

// Times are the times and limits of a policy in force.
type Times struct {
	// Dwell is the least time that an action stays applied before it is released or replaced.
	Dwell time.Duration
	// Outcome is how long after it was applied the effect of an action is judged.
	Outcome time.Duration
	// Cooldown is the least time between the end of one action of the policy on a host and the next.
	Cooldown time.Duration
	// Lease is how long an action outlives the last word of the collector.
	Lease time.Duration
	// Release is how fast an action is given back while the host is still overloaded.
	Release Release
	// EpisodeSteps is how many actions one overload may see, EpisodeEvery the least time between two of them.
	EpisodeSteps int
	EpisodeEvery time.Duration
}

// Times returns the times in force: those written, and the defaults 30s dwell, 15s outcome, 5m cooldown, 10m lease,
// 10%/5s release, 6 steps every 5s.
func (p *RemediationPolicy) Times() Times {
	t := Times{
		Dwell: 30 * time.Second, Outcome: 15 * time.Second, Cooldown: 5 * time.Minute, Lease: 10 * time.Minute,
		Release: Release{Percent: 10, Every: 5 * time.Second}, EpisodeSteps: 6, EpisodeEvery: 5 * time.Second,
	}
	for _, f := range []struct {
		from *Duration
		to   *time.Duration
	}{
		{p.Timing.Dwell, &t.Dwell},
		{p.Timing.Outcome, &t.Outcome},
		{p.Timing.Cooldown, &t.Cooldown},
		{p.Timing.Lease, &t.Lease},
		{p.Episode.Every, &t.EpisodeEvery},
	} {
		if f.from != nil {
			*f.to = time.Duration(*f.from)
		}
	}
	if p.Timing.Release != nil {
		t.Release = *p.Timing.Release
	}
	if p.Episode.Steps != nil {
		t.EpisodeSteps = *p.Episode.Steps
	}
	return t
}

// ModeInForce returns Mode, observe where none was stated.
func (p *RemediationPolicy) ModeInForce() string {
	if p.Mode == "" {
		return "observe"
	}
	return p.Mode
}
