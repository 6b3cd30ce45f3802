package actor

import (
	"context"
	"fmt"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// What cannot be taken back stands in the journal as a lease until its outcome does, so that a crash between the two is
// seen; it is never run again and never reverted.

// doneOnce notes how an action that cannot be taken back went.
func (e *engine) doneOnce(l lease, reason, text string, err error) {
	r := e.result(l.ID, command.Applied, "", reason, l.State.Text, text)
	if err != nil {
		e.log.Warn("command failed", "id", l.ID, "resource", l.Resource, "error", err)
		r = e.result(l.ID, command.Failed, command.ReasonOf(err), plainDetail(err), l.State.Text, text)
	} else {
		e.log.Info("command done", "id", l.ID, "resource", l.Resource, "value", text, "prior", l.State.Text)
	}
	e.drop(l, r)
}

// recoverOnce settles an action that the journal saw begin and not end. Where the host does not tell, a person has to.
func (e *engine) recoverOnce(ctx context.Context, l lease) {
	a := e.actuators[l.Action.Name]
	if a == nil {
		e.drop(l, e.result(l.ID, command.Indeterminate, "", "this actor cannot do "+l.Action.Name+", so it cannot tell whether it was done", l.State.Text, ""))
		return
	}
	standing, text, err := a.Look(ctx, l.change())
	var r command.Result
	switch {
	case err != nil:
		r = e.result(l.ID, command.Indeterminate, command.ReasonOf(err), "the actor was interrupted: "+plainDetail(err), l.State.Text, text)
	case standing == actuator.Ours:
		r = e.result(l.ID, command.Applied, "", "recovered: the actor was interrupted after it was done", l.State.Text, text)
	case standing == actuator.Before:
		r = e.result(l.ID, command.NotApplied, "", "the actor was interrupted before it was done", l.State.Text, text)
	default:
		r = e.result(l.ID, command.Indeterminate, "", fmt.Sprintf("the actor was interrupted and %s is found: it is not run again", standing), l.State.Text, text)
	}
	e.drop(l, r)
}

// revoke takes trust from a key for good. What that key had signed before stays in force until its lease ends.
func (e *engine) revoke(c command.Verified, env command.Envelope) {
	gone := revocation{c.Of, c.Collector.KeyID}
	r := e.result(c.ID, command.Revoked, "", "key "+c.Of+" is believed no more", "", "")
	if err := e.commit(entry{Kind: "revoked", Revoked: &gone, Seen: sight(c.Command, env), Results: []command.Result{r}}, true); err != nil {
		e.unsaved(c.Command, env, err)
		// Trust less rather than more, also where it may be forgotten: the collector sees the failure and says it again.
		e.s.fold(entry{Revoked: &gone})
		return
	}
	e.log.Warn("key revoked", "key", c.Of, "why", c.Reason)
}
