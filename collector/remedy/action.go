package remedy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/governor"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// State is the fine state of an action.
type State string

// The states of an action. Those after Cancelled in this list never change again.
const (
	AwaitingApproval State = "awaiting-approval"
	Queued           State = "queued"     // INTENT is, or is being, written
	Dispatched       State = "dispatched" // SIGNED is written; sent until the actor answers
	Accepted         State = "accepted"
	Applied          State = "applied" // written and read back; its outcome is not judged yet
	Active           State = "active"  // it works, the lease is kept up
	Reverting        State = "reverting"

	Cancelled       State = "cancelled"
	Shadow          State = "shadow"    // observe: what would have been done
	Suggested       State = "suggested" // suggest: told to people
	Denied          State = "denied"
	TimedOut        State = "timed-out"
	Deferred        State = "deferred" // no permit; judged anew, not queued
	Rejected        State = "rejected" // by the actor
	Expired         State = "expired"  // never applied in time
	Failed          State = "failed"
	MechanismFailed State = "mechanism-failed" // the write did not bite
	Indeterminate   State = "indeterminate"
	Done            State = "done" // cannot be taken back, and was done
	Reverted        State = "reverted"
	Drifted         State = "drifted" // somebody else's value was found, and left alone
	RevertFailed    State = "revert-failed"
)

// Terminal reports whether a state never changes again.
func (s State) Terminal() bool {
	switch s {
	case AwaitingApproval, Queued, Dispatched, Accepted, Applied, Active, Reverting:
		return false
	}
	return true
}

// Phase is what people see of a state.
type Phase string

// The phases, as the API writes them.
const (
	PhaseProposed  Phase = "proposed"
	PhaseAwaiting  Phase = "awaiting approval"
	PhaseRunning   Phase = "running"
	PhaseActive    Phase = "active"
	PhaseReverted  Phase = "reverted"
	PhaseRefused   Phase = "refused"
	PhaseFailed    Phase = "failed"
	PhaseDone      Phase = "done"
	phaseNoneKnown Phase = ""
)

// Phase returns the phase that the state belongs to.
func (s State) Phase() Phase {
	switch s {
	case Shadow, Suggested:
		return PhaseProposed
	case AwaitingApproval:
		return PhaseAwaiting
	case Queued, Dispatched, Accepted, Applied:
		return PhaseRunning
	case Active, Reverting:
		return PhaseActive
	case Reverted, Drifted:
		return PhaseReverted
	case Cancelled, Denied, TimedOut, Deferred, Rejected, Expired:
		return PhaseRefused
	case Failed, MechanismFailed, Indeterminate, RevertFailed:
		return PhaseFailed
	case Done:
		return PhaseDone
	}
	return phaseNoneKnown
}

// Why an action ended or is being taken back, beside the reasons of pkg/command.
const (
	ReasonHarmful       = "harmful"
	ReasonIneffective   = "ineffective"
	ReasonDemandFell    = "demand-fell"
	ReasonTrialRelease  = "trial-release"
	ReasonCancelled     = "cancelled"
	ReasonKillSwitch    = "kill-switch"
	ReasonConditionGone = "condition-gone"
	ReasonNotJudged     = "not-judged"
	ReasonNoAnswer      = "no-answer"
	ReasonNoPermit      = "no-permit"
	ReasonNotSigned     = "not-signed"
	ReasonHostLost      = "host-lost"
	ReasonLeaseEnded    = "lease-ended"
	ReasonRestart       = "collector-restart"
)

// Event is one entry of an action's timeline.
type Event struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	What string    `json:"what"`
}

// Order is a renewal or a revert under way.
type Order struct {
	ID       string       `json:"id"`
	Kind     command.Kind `json:"kind"`
	Counter  uint32       `json:"counter"`
	Gradual  bool         `json:"gradual,omitempty"`
	Envelope []byte       `json:"envelope,omitempty"`
	Expires  time.Time    `json:"expires,omitzero"`
	SentAt   time.Time    `json:"sentAt,omitzero"`
}

// Action is one record of the ledger, under action/<id>. The id is that of its command.
type Action struct {
	Version  int      `json:"version"`
	ID       string   `json:"id"`
	State    State    `json:"state"`
	Reason   string   `json:"reason,omitempty"` // of a refusal, a failure or a revert
	Detail   string   `json:"detail,omitempty"`
	Incident string   `json:"incident,omitempty"`
	Policy   string   `json:"policy"`
	Runbook  string   `json:"runbook"`
	Detector string   `json:"detector"`
	Host     string   `json:"host"`
	Mode     Mode     `json:"mode"`
	Times    Times    `json:"times"`
	Proposal Proposal `json:"proposal"`
	Hash     string   `json:"hash"` // of what is proposed; an approval names it

	// NeedsKey says that the host wants an approver's signature on the command: it is then signed by the collector first,
	// waits with its final bytes, and is sent once an approver's signature stands beside the collector's.
	NeedsKey bool `json:"needsKey,omitempty"`

	// Overload is since when the verdict that it answers has held: actions with the same are one episode.
	Overload time.Time `json:"overload"`

	Fence            command.Fence `json:"fence,omitzero"`
	ActorIncarnation string        `json:"actorIncarnation,omitempty"`
	PermissionsHash  []byte        `json:"permissionsHash,omitempty"`
	Envelope         []byte        `json:"envelope,omitempty"` // SIGNED: the final bytes
	CommandHash      string        `json:"commandHash,omitempty"`
	Expires          time.Time     `json:"expires,omitzero"`
	SentAt           time.Time     `json:"sentAt,omitzero"`

	CreatedAt  time.Time `json:"createdAt"`
	ApproveBy  time.Time `json:"approveBy,omitzero"`
	AppliedAt  time.Time `json:"appliedAt,omitzero"`
	ActiveAt   time.Time `json:"activeAt,omitzero"`
	RevertAt   time.Time `json:"revertAt,omitzero"` // when taking back began
	EndedAt    time.Time `json:"endedAt,omitzero"`
	LeaseUntil time.Time `json:"leaseUntil,omitzero"`

	Prior   string `json:"prior,omitempty"`
	Value   string `json:"value,omitempty"` // as read back
	Counter uint32 `json:"counter,omitempty"`
	Order   *Order `json:"order,omitempty"`
	// Orders are the ids of all orders, so that late answers find their action.
	Orders []string `json:"orders,omitempty"`

	Effect   string  `json:"effect,omitempty"`
	Worst    float64 `json:"worst"` // of the protected one's signal before it was applied
	Timeline []Event `json:"timeline"`
	Plan     *Plan   `json:"plan,omitempty"`

	watch watch
}

// watch is what Handle keeps between ticks. It is not stored: after a restart it starts anew, which only delays.
type watch struct {
	recent    []float64 // newest readings of the verify signal since it was applied
	harm      int
	easySince time.Time // the squeezed one's demand has been low since
	wellSince time.Time // the overload, or the protected one's demand, has been gone since
	blind     time.Time // no reading since
}

// Version is the format of a record.
const Version = 1

const (
	maxTimeline = 60
	maxOrders   = 32
)

// newAction makes the record of a plan's proposal.
func newAction(id string, s *Situation, p *Plan) *Action {
	a := &Action{
		Version: Version, ID: id, Incident: s.Incident, Policy: s.Policy.Name, Runbook: s.Policy.Runbook, Detector: s.Policy.Detector,
		Host: s.Host, Mode: s.Policy.Mode, Times: s.Policy.Times, Proposal: *p.Proposal, Overload: s.Verdict.Since,
		ActorIncarnation: s.Actor.Incarnation, PermissionsHash: slices.Clone(s.Actor.PermissionsHash), CreatedAt: s.At, Plan: p,
		Worst: p.Proposal.Former.ProtectedDelay,
	}
	a.NeedsKey = needsKey(s.Actor, a.Proposal.Action)
	if a.once() {
		a.Proposal.Lease, a.Proposal.Release = 0, command.Release{} // there is nothing to give back
	}
	a.Hash = a.proposalHash()
	return a
}

// proposalHash names what would be done: an approval of one proposal is good for no other.
func (a *Action) proposalHash() string {
	text, err := json.Marshal(struct {
		ID, Host, Incident, Policy string
		Proposal                   Proposal
		Permissions                []byte
		Actor                      string
	}{a.ID, a.Host, a.Incident, a.Policy, a.Proposal, a.PermissionsHash, a.ActorIncarnation})
	if err != nil {
		panic("BUG: a proposal cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (a *Action) note(at time.Time, who, what string) {
	if len(a.Timeline) >= maxTimeline {
		a.Timeline = slices.Delete(a.Timeline, maxTimeline/2, maxTimeline/2+1)
	}
	a.Timeline = append(a.Timeline, Event{at, who, what})
}

// clone is a copy that shares nothing that changes.
func (a *Action) clone() Action {
	c := *a
	c.Orders = slices.Clone(a.Orders)
	c.Timeline = slices.Clone(a.Timeline)
	if a.Order != nil {
		o := *a.Order
		c.Order = &o
	}
	c.watch = watch{}
	return c
}

// record is the action as the guard-rails see it; false for one that never began.
func (a *Action) record() (governor.Record, bool) {
	switch a.State {
	case AwaitingApproval, Cancelled, Shadow, Suggested, Denied, TimedOut, Deferred, Rejected:
		return governor.Record{}, false
	}
	return governor.Record{
		Act: actOf(a.Policy, a.Host, &a.Proposal), Began: a.CreatedAt, Ended: a.EndedAt, Verified: !a.ActiveAt.IsZero(),
		Harmful: a.State.Terminal() && a.Reason == ReasonHarmful,
		Wrong:   a.State == Failed || a.State == MechanismFailed || a.State == Indeterminate || a.State == RevertFailed,
	}, true
}

// Holds reports whether the action is, as far as is known, in force on the host.
func (a *Action) Holds() bool { return a.State == Active }

// worked reports whether the action did its work and ended for no fault of its own.
func (a *Action) worked() bool {
	if a.State != Reverted || a.ActiveAt.IsZero() {
		return false
	}
	switch a.Reason {
	case ReasonHarmful, ReasonCancelled, ReasonKillSwitch, ReasonIneffective, ReasonNotJudged:
		return false
	}
	return true
}
