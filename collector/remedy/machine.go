package remedy

import (
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Input is something that happens to an action: one of the types below.
type Input interface{ input() }

type (
	// Approved is a person's consent to what Hash names. Key and Envelope are those of an approver's key: its id, and the
	// command with its signature.
	Approved struct {
		Who, Hash, Key string
		Envelope       []byte
	}
	// DeniedBy is a person's refusal.
	DeniedBy struct{ Who, Why string }
	// IntentWritten says that INTENT and the permit stand in the ledger, at that revision.
	IntentWritten struct{ Fence command.Fence }
	// PermitTaken says that another action holds the host's permit.
	PermitTaken struct{ By string }
	// SignedAs brings the final bytes of the command.
	SignedAs struct {
		Envelope []byte
		Hash     string
		Expires  time.Time
	}
	// SigningFailed says that there is no signature to be had.
	SigningFailed struct{ Why string }
	// ResultCame is the word of the actor on the command or on one of its orders.
	ResultCame struct{ Result command.Result }
	// OrderReady brings the final bytes of a renewal or revert.
	OrderReady struct{ Order Order }
	// Looked is the state of things, about once a second.
	Looked struct{ Look Look }
	// CancelledBy takes an action back, whatever its state.
	CancelledBy struct{ Who, Why, Reason string }
	// Recovered is the first input after a start: the record came from the ledger.
	Recovered struct{}
)

func (Approved) input()      {}
func (DeniedBy) input()      {}
func (IntentWritten) input() {}
func (PermitTaken) input()   {}
func (SignedAs) input()      {}
func (SigningFailed) input() {}
func (ResultCame) input()    {}
func (OrderReady) input()    {}
func (Looked) input()        {}
func (CancelledBy) input()   {}
func (Recovered) input()     {}

// Reading is a value that may be missing.
type Reading struct {
	Value float64
	Known bool
}

// Look is what can be seen of an action's surroundings.
type Look struct {
	HostKnown bool
	Trigger   overload.State // of the verdict that it answers
	Verify    Reading        // the step's verify signal
	// Demand is use plus waiting, in cores; Delay its waiting alone; Running the number of its processes.
	SqueezedCores, SqueezedDelay, SqueezedRunning Reading
	ProtectedCores, ProtectedDemand               Reading
}

// Effect is what is to be done after the record has been written.
type Effect uint8

// The effects.
const (
	WriteIntent  Effect = iota + 1 // write INTENT and take the permit, then answer IntentWritten or PermitTaken
	SignCommand                    // sign, then answer SignedAs or SigningFailed
	SendCommand                    // send the record's Envelope
	MakeRenewal                    // sign a renewal, then answer OrderReady
	MakeRevert                     // sign a revert, then answer OrderReady
	SendOrder                      // send Order.Envelope
	NoteStarted                    // tell the incident: under way
	NoteEnded                      // tell the incident: over
	NoteProgress                   // tell the incident the last line of the timeline
)

const (
	approvalTime = 5 * time.Minute
	resendAfter  = 2 * time.Second
	// After a command's expiry its actor has so long to answer before it is taken back on suspicion.
	answerTime = 5 * time.Second
	revertTime = 2 * time.Minute
	// A lease that was not seen to end counts as unknown so long after it must have ended.
	lapseTime = 10 * time.Minute
	// Readings that must agree before something is believed of them.
	agree = 3
)

// wants reports whether an effect is still called for. Effects wait for the ledger, and the action may have moved on
// meanwhile: it may have been cancelled before its intent could be written.
func (a *Action) wants(f Effect) bool {
	switch f {
	case WriteIntent:
		return a.State == Queued && a.Fence == (command.Fence{})
	case SignCommand:
		return a.State == Queued && len(a.Envelope) == 0
	case SendCommand:
		return a.State == Dispatched || a.State == Accepted
	case MakeRenewal:
		return a.State == Applied || a.State == Active
	case MakeRevert:
		return a.State == Reverting
	}
	return true
}

// begin sets the first state of a new record and returns what follows from its mode.
func (a *Action) begin(at time.Time) []Effect {
	if a.NeedsKey && (a.Mode == Auto || a.Mode == Approve) {
		return a.beginForKey(at)
	}
	switch a.Mode {
	case Auto:
		a.State = Queued
		a.note(at, "remedy", "proposed: "+a.Proposal.Text)
		return []Effect{WriteIntent}
	case Approve:
		a.State, a.ApproveBy = AwaitingApproval, at.Add(approvalTime)
		a.note(at, "remedy", "waits for approval: "+a.Proposal.Text)
	case Suggest:
		a.State, a.EndedAt = Suggested, at
		a.note(at, "remedy", "suggested: "+a.Proposal.Text)
	default:
		a.State, a.EndedAt = Shadow, at
		a.note(at, "remedy", "would have done: "+a.Proposal.Text)
	}
	return []Effect{NoteProgress}
}

// Handle takes one input and returns the effects, to be carried out in order once the record is written; changed says
// whether it differs from what is in the ledger. It has no clock of its own. A terminal record never changes.
func (a *Action) Handle(at time.Time, in Input) (effects []Effect, changed bool) {
	if a.State.Terminal() {
		return nil, false
	}
	switch in := in.(type) {
	case Approved:
		if a.State != AwaitingApproval || in.Hash != a.Hash || !at.Before(a.ApproveBy) {
			return nil, false
		}
		if a.NeedsKey {
			return a.approvedByKey(at, in)
		}
		a.State = Queued
		a.note(at, in.Who, "approved")
		return []Effect{WriteIntent}, true
	case DeniedBy:
		if a.State != AwaitingApproval {
			return nil, false
		}
		return a.end(at, Denied, "denied", in.Why, in.Who, "denied: "+in.Why)
	case IntentWritten:
		if a.State != Queued {
			return nil, false
		}
		a.Fence = in.Fence
		return []Effect{SignCommand}, false
	case PermitTaken:
		if a.State != Queued {
			return nil, false
		}
		return a.end(at, Deferred, ReasonNoPermit, in.By, "remedy", "another action holds the host's permit")
	case SigningFailed:
		if a.State != Queued {
			return nil, false
		}
		return a.end(at, Failed, ReasonNotSigned, in.Why, "remedy", "no signature: "+in.Why)
	case SignedAs:
		if a.State != Queued || len(a.Envelope) > 0 {
			return nil, false
		}
		if a.NeedsKey {
			return a.awaitKey(at, in)
		}
		a.State, a.Envelope, a.CommandHash, a.Expires, a.SentAt = Dispatched, in.Envelope, in.Hash, in.Expires, at
		a.note(at, "remedy", "signed, with fence "+a.Fence.String())
		return []Effect{SendCommand, NoteStarted}, true
	case OrderReady:
		o := in.Order
		a.Order = &o
		a.Counter = max(a.Counter, o.Counter)
		if a.Orders = append(a.Orders, o.ID); len(a.Orders) > maxOrders {
			a.Orders = a.Orders[1:]
		}
		return []Effect{SendOrder}, true
	case CancelledBy:
		return a.cancel(at, in)
	case Recovered:
		return a.recover(at)
	case ResultCame:
		return a.result(at, in.Result)
	case Looked:
		return a.look(at, in.Look)
	}
	return nil, false
}

func (a *Action) end(at time.Time, s State, reason, detail, who, what string) ([]Effect, bool) {
	started := !a.SentAt.IsZero()
	a.State, a.Reason, a.Detail, a.EndedAt, a.Order = s, reason, detail, at, nil
	a.note(at, who, what)
	if started {
		return []Effect{NoteEnded}, true
	}
	return []Effect{NoteProgress}, true
}

// revert begins to take the action back.
func (a *Action) revert(at time.Time, reason, who, what string) ([]Effect, bool) {
	if a.State == Reverting {
		return nil, false
	}
	a.State, a.Reason, a.RevertAt, a.Order = Reverting, reason, at, nil
	a.note(at, who, what)
	return []Effect{MakeRevert, NoteProgress}, true
}

func (a *Action) cancel(at time.Time, in CancelledBy) ([]Effect, bool) {
	what := in.Reason
	if in.Why != "" {
		what += ": " + in.Why
	}
	switch a.State {
	case AwaitingApproval, Queued:
		return a.end(at, Cancelled, in.Reason, in.Why, in.Who, what)
	}
	return a.revert(at, in.Reason, in.Who, "taken back, "+what)
}

// recover picks up a record after a start. INTENT without SIGNED was never sent.
func (a *Action) recover(at time.Time) ([]Effect, bool) {
	switch a.State {
	case Queued:
		return a.end(at, Cancelled, ReasonRestart, "", "remedy", "never sent: the collector ended between intent and signature")
	case Dispatched, Accepted:
		a.SentAt = at
		return []Effect{SendCommand}, false
	case Reverting:
		if a.Order == nil || !at.Before(a.Order.Expires) {
			return []Effect{MakeRevert}, false
		}
		return []Effect{SendOrder}, false
	}
	return nil, false
}

// result takes the word of the actor. Results come at least once and in any order, so each is taken only in the states
// that it can move.
func (a *Action) result(at time.Time, r command.Result) ([]Effect, bool) {
	order := r.ID != a.ID
	who := "actor"
	switch r.Phase {
	case command.Accepted:
		if order || a.State != Dispatched {
			return nil, false
		}
		a.State = Accepted
		a.note(at, who, "accepted")
		return nil, true
	case command.Applied:
		if order || a.State != Dispatched && a.State != Accepted && a.State != Reverting || !a.AppliedAt.IsZero() {
			return nil, false
		}
		a.AppliedAt, a.Prior, a.Value = at, r.Prior, r.Value
		a.LeaseUntil = at.Add(leaseLeft(r, a.Proposal.Lease))
		if a.once() {
			return a.end(at, Done, "", r.Detail, who, fmt.Sprintf("done: %s, was %s", r.Value, r.Prior))
		}
		a.note(at, who, fmt.Sprintf("applied: %s, was %s", r.Value, r.Prior))
		if a.State == Reverting {
			return nil, true
		}
		a.State = Applied
		return []Effect{NoteProgress}, true
	case command.Renewed:
		if a.AppliedAt.IsZero() {
			a.AppliedAt = at
		}
		a.LeaseUntil = at.Add(leaseLeft(r, a.Proposal.Lease))
		if a.Order != nil && a.Order.ID == r.ID {
			a.Order = nil
		}
		if a.State == Dispatched || a.State == Accepted {
			a.State = Applied
		}
		return nil, true
	case command.Refused:
		return a.refused(at, r, order)
	case command.Failed, command.NotApplied:
		if order {
			return nil, false // it is asked again
		}
		if a.State == Reverting && a.AppliedAt.IsZero() || a.State == Dispatched || a.State == Accepted {
			s := Failed
			if r.Reason == command.ReasonNoEffect {
				s = MechanismFailed
			}
			return a.end(at, s, string(r.Reason), r.Detail, who, "failed: "+r.Detail)
		}
	case command.Indeterminate:
		return a.revert(at, "indeterminate", who, "it is not known whether it was applied: taken back")
	case command.Releasing:
		if a.State != Reverting {
			a.State, a.RevertAt = Reverting, at
			a.Reason = ReasonLeaseEnded
		}
		a.Value = r.Value
		a.note(at, who, "gives way: "+r.Value)
		return nil, true
	case command.Reverted:
		if a.State != Reverting {
			a.Reason = ReasonLeaseEnded
			if r.Reason != "" {
				a.Reason = string(r.Reason)
			}
		}
		a.Value = r.Value
		return a.end(at, Reverted, a.Reason, r.Detail, who, "reverted to "+r.Value)
	case command.Drifted:
		a.Value = r.Value
		return a.end(at, Drifted, a.Reason, r.Detail, who, "somebody else's value was found and left alone: "+r.Value)
	case command.RevertFailed:
		return a.end(at, RevertFailed, a.Reason, r.Detail, who, "could not be taken back: "+r.Detail)
	}
	return nil, false
}

// refused takes a refusal: of the command itself it ends the action, of an order it says that there is nothing to order.
func (a *Action) refused(at time.Time, r command.Result, order bool) ([]Effect, bool) {
	if !order {
		if a.State != Dispatched && a.State != Reverting || !a.AppliedAt.IsZero() {
			return nil, false
		}
		return a.end(at, Rejected, string(r.Reason), r.Detail, "actor", "refused: "+string(r.Reason)+" "+r.Detail)
	}
	if a.Order == nil || a.Order.ID != r.ID {
		return nil, false
	}
	kind := a.Order.Kind
	a.Order = nil
	switch {
	case transient(r.Reason):
		return nil, true // asked again
	case kind == command.Renew:
		return a.revert(at, string(r.Reason), "actor", "the lease was not renewed: "+string(r.Reason)+" "+r.Detail)
	case r.Reason != command.ReasonUnknownCommand:
		return nil, true // asked again
	case a.AppliedAt.IsZero():
		return a.end(at, Expired, ReasonNoAnswer, r.Detail, "actor", "it was never applied")
	}
	return a.end(at, Reverted, a.Reason, r.Detail, "actor", "nothing is left of it on the host")
}

// transient reports whether a refusal may be another one a moment later.
func transient(r command.Reason) bool {
	switch r {
	case command.ReasonClockSkew, command.ReasonNotYetValid, command.ReasonExpired, command.ReasonBusy, command.ReasonReplayed:
		return true
	}
	return false
}

func leaseLeft(r command.Result, lease time.Duration) time.Duration {
	if r.LeaseLeft > 0 {
		return min(r.LeaseLeft, lease)
	}
	return lease
}
