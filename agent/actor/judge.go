package actor

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// MaxSkew is how far this host's clock may stand from the collector's before time-bound commands are refused.
const MaxSkew = 2 * time.Second

// MaxValid is the longest time from a command's issue to its expiry. A command that somebody holds back must not stay good.
const MaxValid = 10 * time.Minute

// killKey is the resource of kill and lift commands.
const killKey = "actor:kill"

// MostRevoked bounds how many keys are revoked by command, and MostRevokedBy how many on the word of one key: whoever has a
// stolen one must not be able to use up the room in which it would be revoked.
const (
	MostRevoked   = 1024
	MostRevokedBy = 128
)

// Moment is one instant on both clocks. Boot does not jump when somebody sets the time.
type Moment struct {
	Wall time.Time
	Boot time.Duration // CLOCK_BOOTTIME
}

// View is everything that a judgement depends on. Judge changes nothing in it.
type View struct {
	Host        string
	Incarnation string
	Now         Moment
	Received    Moment        // when the envelope came in
	Stepped     time.Duration // by how much the wall clock was set lately; 0 when it has been steady
	Permissions Permissions
	Problem     string // why the permissions cannot be used; "" when they can
	Killed      string // why everything is stopped; "" when it is not
	Seen        func(id string) (Seen, bool)
	Fence       func(resource string) command.Fence
	Lease       func(id string) (LeaseView, bool) // an active lease by the id of its command
	Applied     func(g Grant, since time.Time) int
	Leases      int
	Revoked     map[string]string // ids of keys that were revoked by command -> of those that did; they add to the permissions'
	// Unable says why an action that is permitted cannot be carried out by this process, "" where it can.
	Unable func(action string) string
}

// LeaseView is what a judgement needs of a lease.
type LeaseView struct {
	Action    command.Action
	Counter   uint32
	Releasing bool
}

// Seen is a command that was judged before.
type Seen struct {
	Hash    string
	Expires time.Time
	Result  *command.Result // the answer that it got last
}

// Verdict says what to do with a command that was not refused.
type Verdict uint8

// The verdicts.
const (
	Do     Verdict = iota + 1
	Repeat         // the same bytes came before: send the stored result again
)

// MostLeases bounds how much is held at one time.
const MostLeases = 256

// Judge decides on an envelope: authority first, then address, then whether it was seen before, then time, then the
// host owner's permissions, then order. Every refusal carries its reason; nothing is parsed before the signature holds.
// A refusal before the signature held returns a zero command.
func Judge(v View, e command.Envelope) (command.Verified, Verdict, *command.Refusal) {
	if v.Problem != "" {
		return command.Verified{}, 0, command.Refuse(command.ReasonPermissionsBad, "everything is denied: %s", v.Problem)
	}
	trust := v.Permissions.Trust
	trust.Revoked = slices.AppendSeq(slices.Clone(trust.Revoked), maps.Keys(v.Revoked))
	c, err := trust.Verify(e, v.Received.Wall)
	if err != nil {
		return command.Verified{}, 0, refusal(err)
	}
	if r := v.address(c.Command); r != nil {
		return c, 0, r
	}
	if seen, ok := v.Seen(c.ID); ok {
		if seen.Hash != e.Hash() {
			return c, 0, command.Refuse(command.ReasonReplayed, "command %s was seen before with other contents", c.ID)
		}
		return c, Repeat, nil
	}
	if r := v.time(c.Command); r != nil {
		return c, 0, r
	}
	var r *command.Refusal
	switch c.Kind {
	case command.Apply:
		r = v.apply(c.Command)
	case command.Renew:
		r = v.renew(c, trust)
	case command.Revert:
		if _, ok := v.Lease(c.Of); !ok {
			r = command.Refuse(command.ReasonUnknownCommand, "command %s holds nothing here", c.Of)
		}
	case command.Kill, command.Lift:
		r = v.order(killKey, c.Fence)
	case command.Revoke:
		r = v.revoke(c)
	}
	if r != nil {
		return c, 0, r
	}
	return c, Do, nil
}

func (v View) address(c command.Command) *command.Refusal {
	if c.Host != v.Host {
		return command.Refuse(command.ReasonWrongHost, "command is for host %q, this is %q", c.Host, v.Host)
	}
	if c.ActorIncarnation != v.Incarnation {
		return command.Refuse(command.ReasonWrongIncarnation, "command is for incarnation %q of this actor, which is %q", c.ActorIncarnation, v.Incarnation)
	}
	return nil
}

// time checks the signed times against the wall clock, and the wait since receipt against the boot clock. A clock that
// was just set does not stand in the way of taking something back.
func (v View) time(c command.Command) *command.Refusal {
	if v.Stepped != 0 && c.Kind != command.Revert && c.Kind != command.Kill && c.Kind != command.Revoke {
		return command.Refuse(command.ReasonClockSkew, "this host's clock was set by %s a moment ago: waiting until it is steady", v.Stepped.Round(time.Millisecond))
	}
	if ahead := c.Issued.Sub(v.Received.Wall); ahead > MaxSkew {
		return command.Refuse(command.ReasonNotYetValid, "command was issued %s ahead of this host's clock", ahead.Round(time.Millisecond))
	}
	if valid := c.Expires.Sub(c.Issued); valid > MaxValid {
		return command.Refuse(command.ReasonDenied, "command is good for %s from its issue: this actor takes at most %s", valid, shortDuration(MaxValid))
	}
	waited := v.Now.Boot - v.Received.Boot
	if late := v.Now.Wall.Sub(c.Expires); late >= 0 {
		return command.Refuse(command.ReasonExpired, "command expired %s ago", late.Round(time.Millisecond))
	}
	if waited >= c.Expires.Sub(v.Received.Wall) {
		return command.Refuse(command.ReasonExpired, "command waited %s and expired by the boot clock", waited.Round(time.Millisecond))
	}
	return nil
}

func (v View) apply(c command.Command) *command.Refusal {
	if v.Killed != "" {
		return command.Refuse(command.ReasonKilled, "%s", v.Killed)
	}
	if !bytes.Equal(c.PermissionsHash, v.Permissions.Hash) {
		return command.Refuse(command.ReasonPermissionsChanged, "the decision saw other permissions than stand here now")
	}
	spec, ok := command.Lookup(c.Action.Name)
	if !ok {
		return command.Refuse(command.ReasonDenied, "action %q is not known here", c.Action.Name)
	}
	if !spec.On(c.Action.Target.Kind()) {
		return command.Refuse(command.ReasonDenied, "%s cannot hold on to a %s", spec.Name, c.Action.Target.Kind())
	}
	if c.Action.Value < spec.Min || c.Action.Value > spec.Max {
		return command.Refuse(command.ReasonDenied, "%s takes %d to %d %s, not %d", spec.Name, spec.Min, spec.Max, spec.Unit, c.Action.Value)
	}
	if risk := command.EffectiveRisk(c); risk > v.Permissions.MaxRisk {
		return command.Refuse(command.ReasonDenied, "risk %s is over this host's limit %s", risk, v.Permissions.MaxRisk)
	}
	g, ok := v.Permissions.Grant(c.Action)
	if !ok {
		return command.Refuse(command.ReasonDenied, "this host does not permit %s on %s", c.Action.Name, c.Action.Target)
	}
	if c.Action.Value < g.Min || c.Action.Value > g.Max {
		return command.Refuse(command.ReasonDenied, "this host permits %d to %d for %s on %s, not %d", g.Min, g.Max, g.Action, c.Action.Target, c.Action.Value)
	}
	if spec.Once() != (c.Lease == 0) {
		return command.Refuse(command.ReasonDenied, "a lease of %s makes no sense for %s of risk %s: what can be taken back has one, what cannot has none", c.Lease, spec.Name, spec.Risk)
	}
	if r := withinLease(g, c.Lease, c.Release); r != nil {
		return r
	}
	if v.Unable != nil {
		if why := v.Unable(spec.Name); why != "" {
			return command.Refuse(command.ReasonDenied, "%s", why)
		}
	}
	if r := v.order(c.Action.Resource(), c.Fence); r != nil {
		return r
	}
	if v.Applied(g, v.Now.Wall.Add(-g.Per)) >= g.Times {
		return command.Refuse(command.ReasonRateLimited, "this host permits %s %s", g.Action, g.Rate())
	}
	if v.Leases >= MostLeases {
		return command.Refuse(command.ReasonBusy, "%d leases are held already", v.Leases)
	}
	return nil
}

// withinLease bounds the lease and, apart from it, the length of a gradual release, which would otherwise be a way
// around the bound.
func withinLease(g Grant, lease time.Duration, r command.Release) *command.Refusal {
	if lease > g.MaxLease {
		return command.Refuse(command.ReasonDenied, "this host permits leases of %s, not %s", shortDuration(g.MaxLease), lease)
	}
	if r.Step > 0 {
		steps := time.Duration((100 + r.Step - 1) / r.Step)
		if r.Every > g.MaxLease/steps {
			return command.Refuse(command.ReasonDenied, "a release of %d%% each %s takes longer than %s", r.Step, r.Every, shortDuration(g.MaxLease))
		}
	}
	return nil
}

func (v View) renew(c command.Verified, trust command.Trust) *command.Refusal {
	if v.Killed != "" {
		return command.Refuse(command.ReasonKilled, "%s", v.Killed)
	}
	l, ok := v.Lease(c.Of)
	if !ok || l.Releasing {
		return command.Refuse(command.ReasonUnknownCommand, "command %s holds no lease that could be renewed", c.Of)
	}
	if len(c.PermissionsHash) != 0 && !bytes.Equal(c.PermissionsHash, v.Permissions.Hash) {
		return command.Refuse(command.ReasonPermissionsChanged, "the decision saw other permissions than stand here now")
	}
	g, ok := v.Permissions.Grant(l.Action)
	if !ok {
		return command.Refuse(command.ReasonDenied, "this host no longer permits %s on %s", l.Action.Name, l.Action.Target)
	}
	if l.Action.Value < g.Min || l.Action.Value > g.Max {
		return command.Refuse(command.ReasonDenied, "this host no longer permits the value %d for %s on %s", l.Action.Value, l.Action.Name, l.Action.Target)
	}
	// What an approver signed for is a lease of that length: nobody else may make it longer.
	if of := (command.Command{Kind: command.Apply, Action: l.Action}); trust.NeedsApprover(of) && len(c.Approvers) == 0 {
		return command.Refuse(command.ReasonRiskNeedsApprover, "the lease of %s was approved by a key, and so must be a longer one", l.Action.Name)
	}
	if r := withinLease(g, c.Lease, command.Release{}); r != nil {
		return r
	}
	if c.Counter <= l.Counter {
		return command.Refuse(command.ReasonReplayed, "renewal %d of command %s came after renewal %d", c.Counter, c.Of, l.Counter)
	}
	return nil
}

func (v View) revoke(c command.Verified) *command.Refusal {
	if v.Revoked[c.Of] != "" {
		return nil
	}
	by := 0
	for _, signer := range v.Revoked {
		if signer == c.Collector.KeyID {
			by++
		}
	}
	if by >= MostRevokedBy || len(v.Revoked) >= MostRevoked {
		return command.Refuse(command.ReasonBusy, "%d keys are revoked by command already, %d of them by this one: list more under revoked in the permissions file", len(v.Revoked), by)
	}
	return nil
}

func (v View) order(resource string, f command.Fence) *command.Refusal {
	if have := v.Fence(resource); f.Compare(have) <= 0 {
		return command.Refuse(command.ReasonOldFence, "fence %s of %s is not newer than %s", f, resource, have)
	}
	return nil
}

// JudgePrior compares what the decision expected to find with what is there.
func JudgePrior(c command.Command, found string) *command.Refusal {
	if c.ExpectedPrior != "" && c.ExpectedPrior != found {
		return command.Refuse(command.ReasonPriorDiffers, "%s reads %q, the decision saw %q", c.Action.Resource(), found, c.ExpectedPrior)
	}
	return nil
}
