package remedy

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// ErrNotAllowed is wrapped where what was asked is not for this person or key.
var ErrNotAllowed = errors.New("not allowed")

// What needs an approver's key goes another way to its host: INTENT, so that there is a fence; SIGNED by the collector,
// so that there are final bytes; then AwaitingApproval, until somebody's key has signed exactly those bytes or they have
// expired; only then it is sent. The bytes carry their own expiry, so an approval is never good for longer.

// needsKey reports whether a host wants an approver's signature on an action.
func needsKey(actor command.ActorReport, a command.Action) bool {
	if !command.NeedsApprover(command.Command{Kind: command.Apply, Action: a}) {
		return false
	}
	spec, _ := command.Lookup(a.Name)
	p, ok := actor.Permits(a)
	return spec.Once() || !ok || !p.WithoutApprover
}

// once reports whether the action cannot be taken back.
func (a *Action) once() bool {
	spec, ok := command.Lookup(a.Proposal.Action.Name)
	return ok && spec.Once()
}

func (a *Action) beginForKey(at time.Time) []Effect {
	a.State = Queued
	a.note(at, "remedy", "proposed, for an approver's key: "+a.Proposal.Text)
	return []Effect{WriteIntent}
}

// awaitKey holds the signed command back. From here on the action's hash is that of its bytes.
func (a *Action) awaitKey(at time.Time, in SignedAs) ([]Effect, bool) {
	a.State, a.Envelope, a.CommandHash, a.Hash, a.Expires, a.ApproveBy = AwaitingApproval, in.Envelope, in.Hash, in.Hash, in.Expires, in.Expires
	a.note(at, "remedy", "waits for the signature of an approver's key, with fence "+a.Fence.String())
	return []Effect{NoteProgress}, true
}

func (a *Action) approvedByKey(at time.Time, in Approved) ([]Effect, bool) {
	if len(in.Envelope) == 0 {
		return nil, false
	}
	a.State, a.Envelope, a.SentAt = Dispatched, in.Envelope, at
	a.note(at, in.Who, "approved with key "+in.Key)
	return []Effect{SendCommand, NoteStarted}, true
}

// validFor is how long the action's command may wait to be executed: for its approver, and then on its way.
func (a *Action) validFor() time.Duration {
	if a.NeedsKey {
		return approvalTime + validFor(a.Proposal.Risk)
	}
	return validFor(a.Proposal.Risk)
}

// Body returns the exact bytes that an approver's key signs, nil where the action waits for none.
func (a *Action) Body() []byte {
	if !a.NeedsKey || a.State != AwaitingApproval {
		return nil
	}
	e, err := command.ParseEnvelope(a.Envelope)
	if err != nil {
		return nil
	}
	return e.Body
}

// ApproveWithKey lets an action begin that needs an approver's key: sig is that key's signature over the action's Body. The
// host must list the key, and be as the action found it.
func (e *Executor) ApproveWithKey(ctx context.Context, id, hash, who string, key ed25519.PublicKey, sig []byte) (Action, error) {
	return e.decide(ctx, id, who, "approve with key "+command.KeyID(key), func(en *entry) (Input, error) {
		actor, err := e.approvable(en, id, hash)
		switch {
		case err != nil:
			return nil, err
		case !en.NeedsKey:
			return nil, fmt.Errorf("%w: action %s needs no key: approve it without", ErrNotNow, id)
		case !slices.Contains(actor.Approvers, command.FormatPublicKey(key)):
			return nil, fmt.Errorf("%w: host %s does not list key %s among its approvers", ErrNotAllowed, en.Host, command.KeyID(key))
		case slices.Contains(actor.Revoked, command.KeyID(key)):
			return nil, fmt.Errorf("%w: key %s is revoked on host %s", ErrNotAllowed, command.KeyID(key), en.Host)
		}
		env, err := command.ParseEnvelope(en.Envelope)
		if err != nil {
			return nil, err
		}
		if env, err = env.WithApproval(key, sig); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		b, err := env.Marshal()
		if err != nil {
			return nil, err
		}
		return Approved{Who: who, Hash: hash, Key: command.KeyID(key), Envelope: b}, nil
	})
}

// approvable reports whether an action can still be approved as it was shown.
func (e *Executor) approvable(en *entry, id, hash string) (command.ActorReport, error) {
	actor, ok := e.cfg.Roster.Actor(en.Host)
	switch {
	case en.State != AwaitingApproval:
		return actor, fmt.Errorf("%w: action %s is %s", ErrNotNow, id, en.State)
	case hash != en.Hash:
		return actor, fmt.Errorf("%w: the hash is not that of action %s", ErrNotNow, id)
	case e.kill.On:
		return actor, fmt.Errorf("%w: the kill switch is on", ErrNotNow)
	case !e.cfg.Signals.Known(en.Host) || !ok:
		return actor, fmt.Errorf("%w: host %s is silent", ErrNotNow, en.Host)
	case e.cfg.Signals.Verdict(en.Host, en.Detector) != overload.Overloaded:
		return actor, fmt.Errorf("%w: %s does not say overloaded any more", ErrNotNow, en.Detector)
	case !e.now.Before(en.ApproveBy):
		return actor, fmt.Errorf("%w: the time for approval is over", ErrNotNow)
	case actor.Incarnation != en.ActorIncarnation || string(actor.PermissionsHash) != string(en.PermissionsHash):
		return actor, fmt.Errorf("%w: the actor of host %s or its permissions have changed since", ErrNotNow, en.Host)
	}
	return actor, nil
}
