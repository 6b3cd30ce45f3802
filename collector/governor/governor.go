// Package governor judges whether an action may begin now, whatever the planner thinks of it: the guard-rails that look
// beyond one host.
//
// It is pure. It chooses nothing, it knows no detector and no value; it is told what is to be done, what is under way and
// was done, and how the fleet is, and answers with every rule's verdict, so that each can be shown. A rule that lacks what
// it needs to know is closed. Reverts are never asked about: they need no leave.
//
// Source: guard-rails G6, G8, G9 and G10 of reference/remediation.md section 4a, whose numbers these are.
package governor

import (
	"fmt"
	"slices"
	"time"
)

// Risk is the class of an action, R0 (looks only) to R3 (cannot be taken back), numbered as in pkg/command.
type Risk uint8

// The risk classes.
const (
	R0 Risk = iota
	R1      // reversible, costs no service
	R2      // reversible, costs service
	R3      // cannot be taken back
)

// String returns "R2".
func (r Risk) String() string { return fmt.Sprintf("R%d", uint8(r)) }

// Act is something that is to be done, or was.
type Act struct {
	Policy    string
	Host      string
	Component string // "component/web"
	Services  []string
	Action    string
	Target    string
	Risk      Risk
	// Out says that it takes the component out of service: a drain, a freeze, a stop, a restart, a kill.
	Out bool
	// Beyond says that its effect leaves the host that reports the overload.
	Beyond bool
}

// Record is an act of before, or one that is under way.
type Record struct {
	Act
	Began    time.Time
	Ended    time.Time // zero while it is under way
	Verified bool      // its outcome was seen to be good
	Harmful  bool      // its outcome was seen to be bad
	Wrong    bool      // it failed, or nobody knows how it ended
}

func (r *Record) live() bool { return r.Ended.IsZero() }

// Group is the members of one component: the hosts that do the same work.
type Group struct {
	Members int
	Well    int // members that are known to be well, the one in question not counted
	Need    int // members that must stay well by the component's own rule, at least 1
	// Spare is what the others can carry over what is carried now, and 0 where that is not known: 1.5 is half as much again.
	Spare float64
}

// Fleet is how things stand around an act.
type Fleet struct {
	At time.Time
	// Since is when this collector began to decide: its start, or its election.
	Since time.Time
	// Expected are the hosts that are admitted and were heard of lately, Reported those whose samples are fresh.
	Expected, Reported int
	// Storm says why so little is known of the fleet that nothing is begun; empty: enough is.
	Storm string
	// Overloaded are the hosts of Expected that are overloaded.
	Overloaded int
	// Records are what was begun within a day, and everything that is under way.
	Records []Record
	// Group is of the act's component.
	Group Group
	// Observers are how many independent ones see the overload.
	Observers int
}

// Verdict is what a rule says.
type Verdict struct {
	Rule string
	Open bool
	Text string
}

// The numbers of the rules.
const (
	startWait     = 5 * time.Second  // for R1, unless reportedShare is there before
	startWaitR2   = 30 * time.Second // for R2 and above
	reportedShare = 90               // percent

	groupShare   = 10 // percent of a component's members that may be held back at once, one at least
	fleetR2      = 5  // new acts of R2 and above within fleetSpan
	fleetSpan    = time.Minute
	healthyFloor = 51  // percent of a component's members that stay well
	spareFactor  = 1.2 // what the rest must be able to carry of what is carried now
	targetR3     = 3   // acts of R3 on one target within a day
	rampSpan     = 10 * time.Minute
	loadShare    = 30 // percent of the fleet that is overloaded
)

// Judge returns the verdict of every rule that concerns an act, in a fixed order. What is local to a host and costs no
// service (R1) is bounded by what is known and by harm alone: where a whole fleet is overloaded, each host needs it.
func Judge(f *Fleet, a Act) []Verdict {
	var out []Verdict
	say := func(rule string, open bool, yes, no string) {
		text := no
		if open {
			text = yes
		}
		out = append(out, Verdict{rule, open, text})
	}
	f.quiet(a, say)
	say("storm", f.Storm == "", "the fleet is in sight", "nothing is begun until the fleet is in sight again: "+f.Storm)
	f.harm(a, say)
	if a.Risk >= R2 {
		f.load(say)
		f.group(a, say)
		f.rate(a, say)
		f.ramp(a, say)
	}
	if a.Out && f.Group.Members > 1 {
		f.outOfService(a, say)
	}
	if a.Beyond {
		say("observers", f.Observers >= 2, fmt.Sprintf("%d independent observers see it", f.Observers),
			fmt.Sprintf("its effect leaves the host, and %s sees the overload: two must", observers(f.Observers)))
	}
	return out
}

// Refusal returns the first closed verdict's text, or "".
func Refusal(vs []Verdict) string {
	for _, v := range vs {
		if !v.Open {
			return v.Text
		}
	}
	return ""
}

type say func(rule string, open bool, yes, no string)

// quiet holds back what a collector that has just begun cannot judge yet.
func (f *Fleet) quiet(a Act, say say) {
	age := f.At.Sub(f.Since)
	if a.Risk >= R2 {
		say("start-quiet", age >= startWaitR2, fmt.Sprintf("this collector decides for more than %s", startWaitR2),
			fmt.Sprintf("this collector decides for %s only: %s waits %s", age.Truncate(time.Second), a.Risk, startWaitR2))
		return
	}
	heard := f.Reported*100 >= f.Expected*reportedShare
	say("start-quiet", heard || age >= startWait, fmt.Sprintf("%d of %d hosts have reported", f.Reported, f.Expected),
		fmt.Sprintf("%d of %d hosts have reported %s after this collector began: it waits for %d %%, or for %s", f.Reported, f.Expected,
			age.Truncate(time.Second), reportedShare, startWait))
}

// harm stops a policy everywhere for a while once it has done harm anywhere else.
func (f *Fleet) harm(a Act, say say) {
	for i := range f.Records {
		r := &f.Records[i]
		if r.Policy == a.Policy && r.Host != a.Host && r.Harmful && f.At.Sub(r.Ended) < rampSpan {
			say("harm", false, "", fmt.Sprintf("the policy did harm on host %s %s ago: it stops everywhere for %s", r.Host, f.At.Sub(r.Ended).Truncate(time.Second), rampSpan))
			return
		}
	}
	say("harm", true, "the policy has done no harm on another host of late", "")
}

// load keeps what costs service away from a fleet that is overloaded as a whole: taking from one there gives to nobody.
func (f *Fleet) load(say say) {
	few := f.Expected < stormFleet || f.Overloaded*100 <= f.Expected*loadShare
	say("fleet-load", few, fmt.Sprintf("%d of %d hosts are overloaded", f.Overloaded, f.Expected),
		fmt.Sprintf("%d of %d hosts are overloaded: nothing that costs service is begun in a fleet without room", f.Overloaded, f.Expected))
}

// group bounds how much of a component, and of each service that rests on it, is held back at once.
func (f *Fleet) group(a Act, say say) {
	most := max(1, f.Group.Members*groupShare/100)
	held := f.count(func(r *Record) bool { return r.live() && r.Component == a.Component && r.Host != a.Host })
	say("group", held < most, fmt.Sprintf("%d of %d members of %s are held back, %d may be", held, f.Group.Members, a.Component, most),
		fmt.Sprintf("%d of %d members of %s are held back: more than %d at once would be too many", held, f.Group.Members, a.Component, most))
	for _, s := range a.Services {
		n := f.count(func(r *Record) bool {
			return r.live() && r.Host != a.Host && r.Risk >= R2 && r.Component != a.Component && slices.Contains(r.Services, s)
		})
		if n > 0 {
			say("service", false, "", fmt.Sprintf("another part of %s is held back already: one at a time", s))
			return
		}
	}
	say("service", true, "no other part of a service above is held back", "")
}

// rate bounds what is begun across the fleet.
func (f *Fleet) rate(a Act, say say) {
	recent := f.count(func(r *Record) bool { return r.Risk >= R2 && f.At.Sub(r.Began) < fleetSpan })
	say("fleet-rate", recent < fleetR2, fmt.Sprintf("%d of %d acts of R2 or more within a minute", recent, fleetR2),
		fmt.Sprintf("%d acts of R2 or more were begun within a minute: that is enough for one fleet", recent))
	if a.Risk < R3 {
		return
	}
	running := f.count(func(r *Record) bool { return r.Risk >= R3 && r.live() })
	say("one-r3", running == 0, "no other act of R3 is under way", "another act of R3 is under way: one at a time")
	today := f.count(func(r *Record) bool {
		return r.Risk >= R3 && r.Host == a.Host && r.Target == a.Target && f.At.Sub(r.Began) < 24*time.Hour
	})
	say("target-day", today < targetR3, fmt.Sprintf("%d of %d acts of R3 on this target within a day", today, targetR3),
		fmt.Sprintf("%d acts of R3 on %s within a day: what did not help then is for people now", today, a.Target))
}

// ramp lets a policy that acts on many hosts begin with one, and go on with two, four and so on as each is seen to help.
// A failure stops what cannot be taken back.
func (f *Fleet) ramp(a Act, say say) {
	helped, open := 0, 0
	for i := range f.Records {
		r := &f.Records[i]
		if r.Policy != a.Policy || r.Host == a.Host || !r.live() && f.At.Sub(r.Ended) >= rampSpan {
			continue
		}
		switch {
		case r.Wrong && a.Risk >= R3:
			say("ramp", false, "", fmt.Sprintf("the policy's act on host %s failed: nothing that cannot be taken back follows", r.Host))
			return
		case r.Verified:
			helped++
		case r.live():
			open++
		}
	}
	most := 1 << min(helped, 20)
	say("ramp", open < most, fmt.Sprintf("seen to help on %d other hosts of late, %d under way, %d may be", helped, open, most),
		fmt.Sprintf("under way on %d other hosts and seen to help on %d: no more than %d at once until it has helped", open, helped, most))
}

// outOfService asks whether the others can do without. A component with one member is no group: what it costs to go
// without it was weighed against what it protects.
func (f *Fleet) outOfService(a Act, say say) {
	g := f.Group
	need := max(1, g.Need)
	say("last-member", g.Well >= need, fmt.Sprintf("%d other members of %s are well, %d are needed", g.Well, a.Component, need),
		fmt.Sprintf("%d other members of %s are known to be well and %d are needed: it is the last that can go, or one of a quorum", g.Well, a.Component, need))
	share := 0
	if g.Members > 0 {
		share = g.Well * 100 / g.Members
	}
	say("healthy-floor", share >= healthyFloor, fmt.Sprintf("%d %% of %s stay well", share, a.Component),
		fmt.Sprintf("only %d %% of %s would stay well, %d %% must", share, a.Component, healthyFloor))
	unknown := "what the others can carry is not known"
	if g.Spare > 0 {
		unknown = fmt.Sprintf("the others can carry %.1f times what is carried now, %.1f is the least", g.Spare, spareFactor)
	}
	say("capacity", g.Spare >= spareFactor, fmt.Sprintf("the others can carry %.1f times what is carried now", g.Spare), unknown)
}

func (f *Fleet) count(which func(*Record) bool) int {
	n := 0
	for i := range f.Records {
		if which(&f.Records[i]) {
			n++
		}
	}
	return n
}

func observers(n int) string {
	if n == 1 {
		return "one observer"
	}
	return "no observer"
}
