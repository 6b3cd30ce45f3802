package remedy

import (
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// look moves an action on with time and with what is seen. Nothing is concluded from what is missing, except that an
// order must be sent again.
func (a *Action) look(at time.Time, l Look) ([]Effect, bool) {
	switch a.State {
	case AwaitingApproval:
		switch {
		case !at.Before(a.ApproveBy):
			return a.end(at, TimedOut, "timed-out", "", "remedy", "nobody approved in time")
		case l.HostKnown && l.Trigger == overload.Healthy:
			return a.end(at, Cancelled, ReasonConditionGone, "", "remedy", "the overload is over")
		}
	case Queued:
		// The ledger could not be written so far. What is not certain any more is not done late.
		if !l.HostKnown || l.Trigger != overload.Overloaded {
			return a.end(at, Cancelled, ReasonConditionGone, "", "remedy", "the overload is over or no longer seen, and nothing was sent yet")
		}
	case Dispatched, Accepted:
		return a.await(at, l)
	case Applied:
		if e, changed := a.judge(at, l); len(e) > 0 || changed {
			return e, changed
		}
		return a.keep(at, l)
	case Active:
		if e, changed := a.holds(at, l); len(e) > 0 || changed {
			return e, changed
		}
		return a.keep(at, l)
	case Reverting:
		return a.reverting(at, l)
	}
	return nil, false
}

// await sends the command again until the actor answers, and takes it back on suspicion where it never does.
func (a *Action) await(at time.Time, l Look) ([]Effect, bool) {
	if l.Verify.Known {
		a.Worst = max(a.Worst, l.Verify.Value)
	}
	if at.Before(a.Expires) {
		if a.State == Dispatched && l.HostKnown && at.Sub(a.SentAt) >= resendAfter {
			a.SentAt = at
			return []Effect{SendCommand}, false
		}
		return nil, false
	}
	if l.HostKnown && at.Sub(a.Expires) >= answerTime {
		return a.revert(at, ReasonNoAnswer, "remedy", "no answer before it expired: taken back in case it was applied")
	}
	return a.lost(at, a.Expires.Add(a.Proposal.Lease))
}

// lost ends an action of which nothing has been heard since its lease must have ended.
func (a *Action) lost(at, ended time.Time) ([]Effect, bool) {
	if at.Sub(ended) < lapseTime {
		return nil, false
	}
	return a.end(at, Indeterminate, ReasonHostLost, "", "remedy", "the host did not come back; the lease there has ended by itself")
}

// judge decides whether an applied step has worked, by the protected component's own signal.
func (a *Action) judge(at time.Time, l Look) ([]Effect, bool) {
	w := &a.watch
	since := at.Sub(a.AppliedAt)
	if l.HostKnown && l.Verify.Known {
		w.blind = time.Time{}
		if w.recent = append(w.recent, l.Verify.Value); len(w.recent) > agree {
			w.recent = w.recent[1:]
		}
		if e, changed := a.harmful(at, l, since); changed {
			return e, changed
		}
	} else if w.blind.IsZero() {
		w.blind = at
	}
	if since < a.Times.Outcome {
		return nil, false
	}
	if len(w.recent) < min(agree, 1+int(a.Times.Outcome/time.Second)) || !w.blind.IsZero() {
		if l.HostKnown && since >= 3*a.Times.Outcome+lookSlack {
			return a.revert(at, ReasonNotJudged, "remedy", "its effect cannot be judged: "+a.Proposal.Verify.Signal+" has no samples")
		}
		return nil, false
	}
	mean := 0.0
	for _, v := range w.recent {
		mean += v / float64(len(w.recent))
	}
	v := a.Proposal.Verify
	a.Effect = fmt.Sprintf("%s of %s went from %.2f to %.2f", v.Signal, a.subject(), a.Worst, mean)
	switch {
	case v.Met(mean):
	case v.Below != nil && mean <= a.Worst*eased:
		a.Effect += fmt.Sprintf(", not below %.2f yet", *v.Below)
	case a.catchingUp(l) && since < 3*a.Times.Outcome:
		return nil, false
	default:
		return a.revert(at, ReasonIneffective, "remedy", "it did not help: "+a.Effect)
	}
	a.State, a.ActiveAt = Active, at
	a.note(at, "remedy", "it works: "+a.Effect)
	return []Effect{NoteProgress}, true
}

const (
	lookSlack = 5 * time.Second
	// A step that takes away half of the waiting has worked, even short of its aim.
	eased = 0.5
	// Harm is a signal half as bad again as at its worst before, and by more than noise.
	harmFactor = 1.5
	harmMargin = 0.25
	// Who uses a tenth more CPU than it got in the overload is being helped.
	fedFactor = 1.1
)

// catchingUp reports whether the protected one, judged by its waiting for CPU, gets clearly more CPU than in the overload.
// What it still waits for is then what had piled up: a server that works through its backlog has as many threads waiting as
// before, and more than at the onset.
func (a *Action) catchingUp(l Look) bool {
	v, before := a.Proposal.Verify, a.Proposal.Former.ProtectedCores
	ofProtected := v.Of != "target" && v.Of != "host"
	return ofProtected && v.Signal == "runqueue.delay" && before > 0 && l.ProtectedCores.Known && l.ProtectedCores.Value >= before*fedFactor
}

func (a *Action) subject() string {
	switch a.Proposal.Verify.Of {
	case "target":
		return a.Proposal.Component
	case "host":
		return a.Host
	}
	return a.Proposal.Protects
}

// harmful takes an action back at once where the protected one fares worse than before. What happens in the first third
// of the outcome time still belongs to the onset.
func (a *Action) harmful(at time.Time, l Look, since time.Duration) ([]Effect, bool) {
	w := &a.watch
	v := a.Proposal.Verify
	if since < a.Times.Outcome/3 || v.Below == nil {
		if v.Below != nil && a.State == Applied {
			a.Worst = max(a.Worst, l.Verify.Value)
		}
		return nil, false
	}
	if l.Verify.Value > max(a.Worst*harmFactor, a.Worst+harmMargin) && !a.catchingUp(l) {
		w.harm++
	} else {
		w.harm = 0
	}
	if w.harm < agree {
		return nil, false
	}
	a.Effect = fmt.Sprintf("%s of %s rose from %.2f to %.2f", v.Signal, a.subject(), a.Worst, l.Verify.Value)
	return a.revert(at, ReasonHarmful, "remedy", "it does harm: "+a.Effect)
}

// holds decides whether an active step is still needed.
func (a *Action) holds(at time.Time, l Look) ([]Effect, bool) {
	w := &a.watch
	if !l.HostKnown {
		w.easySince, w.wellSince = time.Time{}, time.Time{}
		return nil, false
	}
	if l.Verify.Known {
		if e, changed := a.harmful(at, l, at.Sub(a.AppliedAt)); changed {
			return e, changed
		}
	}
	a.hold(&w.easySince, at, a.demandFell(l))
	// What it waited for in the overload says nothing of what it needs: a queue of many threads waits many times over.
	demandGone := l.ProtectedDemand.Known && l.ProtectedDemand.Value < a.Proposal.Former.ProtectedCores/4
	a.hold(&w.wellSince, at, l.Trigger == overload.Healthy || demandGone)
	if at.Sub(a.AppliedAt) < a.Times.Dwell {
		return nil, false
	}
	if !w.easySince.IsZero() && at.Sub(w.easySince) >= easyFor {
		return a.revert(at, ReasonDemandFell, "remedy", a.Proposal.Component+" no longer wants what it was held back from")
	}
	if !w.wellSince.IsZero() && at.Sub(w.wellSince) >= max(a.Times.Dwell, easyFor) {
		return a.revert(at, ReasonTrialRelease, "remedy", "released on trial: "+a.Proposal.Protects+" seems to do without it")
	}
	return nil, false
}

const (
	easyFor = 3 * time.Second
	// Waiting of less than a twentieth of a second a second is none.
	idleDelay = 0.05
)

func (a *Action) hold(since *time.Time, at time.Time, is bool) {
	switch {
	case !is:
		*since = time.Time{}
	case since.IsZero():
		*since = at
	}
}

// demandFell says whether the squeezed component wants less than it took before. A squeeze lowers its use by itself, so
// use alone says nothing: what it waits for counts as well.
func (a *Action) demandFell(l Look) bool {
	if l.SqueezedRunning.Known && l.SqueezedRunning.Value < 1 {
		return true
	}
	if !l.SqueezedCores.Known || !l.SqueezedDelay.Known {
		return false
	}
	return l.SqueezedDelay.Value < idleDelay && l.SqueezedCores.Value < a.Proposal.Former.Cores*0.9
}

// keep renews the lease at a third of it, while the host can be seen, and sends an order again that was not answered.
func (a *Action) keep(at time.Time, l Look) ([]Effect, bool) {
	if !l.HostKnown {
		return a.lost(at, a.LeaseUntil)
	}
	lease := a.Proposal.Lease
	if at.After(a.LeaseUntil.Add(answerTime)) {
		return a.revert(at, ReasonLeaseEnded, "remedy", "the lease ended without a word: taken back to be sure")
	}
	if a.Order != nil && at.Before(a.Order.Expires) {
		if at.Sub(a.Order.SentAt) < resendAfter {
			return nil, false
		}
		a.Order.SentAt = at
		return []Effect{SendOrder}, false
	}
	// An approver signed for one lease; a longer one would be another action.
	if a.NeedsKey || a.LeaseUntil.Sub(at) > lease-lease/3 {
		return nil, false
	}
	return []Effect{MakeRenewal}, false
}

// reverting asks again until the actor confirms.
func (a *Action) reverting(at time.Time, l Look) ([]Effect, bool) {
	limit := revertTime
	if r := a.Proposal.Release; a.Order != nil && a.Order.Gradual && r.Step > 0 {
		limit += time.Duration((100+r.Step-1)/r.Step) * r.Every
	}
	if !l.HostKnown {
		return a.lost(at, later(a.LeaseUntil, a.RevertAt.Add(limit)))
	}
	if at.Sub(a.RevertAt) >= limit {
		return a.end(at, RevertFailed, a.Reason, "no confirmation", "remedy", "the host does not confirm that it was taken back")
	}
	switch {
	case a.Order == nil || a.Order.Kind != command.Revert || !at.Before(a.Order.Expires):
		return []Effect{MakeRevert}, false
	case at.Sub(a.Order.SentAt) >= resendAfter:
		a.Order.SentAt = at
		return []Effect{SendOrder}, false
	}
	return nil, false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
