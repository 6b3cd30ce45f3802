package remedy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

const (
	actionPrefix = "action/"
	permitPrefix = "permit/host/"
	killKey      = "cluster/killswitch"

	// Records that have ended are kept this long, and no more than so many.
	keepFor  = 30 * 24 * time.Hour
	keepMost = 1000
	// A record is cut down to fit a value of the state engine.
	maxRecord = 60 << 10
)

// load reads the ledger and picks up what was under way. Permits that no live action holds are given back.
func (e *Executor) load(ctx context.Context) error {
	kill, err := e.cfg.Store.Get(ctx, killKey)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(kill.Value, &e.kill); err != nil {
			return fmt.Errorf("%s: %w", killKey, err)
		}
		e.killRev = kill.Changed
	}
	e.hold(e.kill)
	records, _, err := e.cfg.Store.List(ctx, actionPrefix)
	if err != nil {
		return err
	}
	for _, kv := range records {
		a, err := decode(kv.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", kv.Key, err)
		}
		e.add(&entry{Action: a, rev: kv.Changed})
	}
	permits, _, err := e.cfg.Store.List(ctx, permitPrefix)
	if err != nil {
		return err
	}
	for _, kv := range permits {
		if en := e.entries[string(kv.Value)]; en != nil && !en.State.Terminal() {
			en.permit = kv.Changed
			continue
		}
		if _, _, err := e.cfg.Store.Txn(ctx, []state.Compare{{Key: kv.Key, Changed: kv.Changed}}, []state.Op{{Key: kv.Key, Delete: true}}); err != nil {
			return err
		}
	}
	for _, en := range e.sorted() {
		e.feed(en, Recovered{})
		if e.kill.On && !en.State.Terminal() {
			e.feed(en, CancelledBy{e.kill.By, e.kill.Reason, ReasonKillSwitch})
		}
	}
	return nil
}

func decode(b []byte) (*Action, error) {
	var a Action
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	if a.Version != Version {
		return nil, fmt.Errorf("format %d of an action is not known: this program knows %d", a.Version, Version)
	}
	return &a, nil
}

func (a *Action) encode() ([]byte, error) {
	b, err := json.Marshal(a)
	if err == nil && len(b) > maxRecord {
		// What explains may go, what acts may not.
		c := *a
		c.Plan = nil
		b, err = json.Marshal(&c)
	}
	return b, err
}

func (e *Executor) add(en *entry) {
	e.entries[en.ID] = en
	for _, o := range en.Orders {
		e.byOrder[o] = en
	}
	e.publish(en.Action)
}

// sorted returns the entries by id, which is by age.
func (e *Executor) sorted() []*entry {
	out := make([]*entry, 0, len(e.entries))
	for _, id := range slices.Sorted(maps.Keys(e.entries)) {
		out = append(out, e.entries[id])
	}
	return out
}

// writeIntent writes INTENT and takes the host's permit in one transaction. Its revision is the fence.
func (e *Executor) writeIntent(en *entry) {
	value, err := en.encode()
	if err != nil {
		en.answer(SigningFailed{err.Error()})
		return
	}
	key, permit := actionPrefix+en.ID, permitPrefix+en.Host
	conditions := []state.Compare{{Key: key, Changed: en.rev}, {Key: permit}}
	ops := []state.Op{{Key: key, Value: value}, {Key: permit, Value: []byte(en.ID)}}
	e.await(en, func() func() {
		held, rev, err := e.cfg.Store.Txn(e.ctx, conditions, ops)
		by := ""
		if err == nil && !held {
			if kv, err := e.cfg.Store.Get(e.ctx, permit); err == nil {
				by = string(kv.Value)
			}
		}
		return func() {
			switch {
			case err != nil:
				// Whether it was written is not known. It was not signed, so it may be cancelled either way; save finds out.
				e.cfg.Log.Warn("cannot write intent", "action", en.ID, "err", err)
				en.answer(CancelledBy{"remedy", "the ledger could not be written", ReasonCancelled})
			case !held:
				en.answer(PermitTaken{by})
			default:
				en.rev, en.permit = rev, rev
				en.answer(IntentWritten{command.Fence{Incarnation: e.cfg.Incarnation, Revision: uint64(rev)}})
			}
		}
	})
}

// save writes the record, and gives the permit back with one that is terminal. The record is dirty until that succeeds: it
// is written again on a later input, and no effect is carried out before. Where it was signed, the audit log must have
// that too.
func (e *Executor) save(en *entry, tries int) {
	value, err := en.encode()
	if err != nil {
		e.cfg.Log.Warn("cannot encode action", "action", en.ID, "err", err)
		return
	}
	key := actionPrefix + en.ID
	conditions := []state.Compare{{Key: key, Changed: en.rev}}
	ops := []state.Op{{Key: key, Value: value}}
	if en.State.Terminal() && en.permit != 0 {
		permit := permitPrefix + en.Host
		conditions = append(conditions, state.Compare{Key: permit, Changed: en.permit})
		ops = append(ops, state.Op{Key: permit, Delete: true})
	}
	signed := en.signed
	e.await(en, func() func() {
		held, rev, err := e.cfg.Store.Txn(e.ctx, conditions, ops)
		if signed != nil {
			<-signed
		}
		var stands standing
		if err == nil && !held {
			stands, err = e.stands(en.ID, en.Host)
		}
		return func() {
			en.signed = nil
			switch {
			case err != nil:
				e.cfg.Log.Warn("cannot write action", "action", en.ID, "err", err)
			case held:
				en.rev, en.dirty = rev, false
				if en.State.Terminal() {
					en.permit = 0
				}
				e.publish(en.Action)
			default:
				en.adopt(stands)
				if tries > 1 {
					e.save(en, tries-1)
				}
			}
		}
	})
}

// standing is how an action stands in the ledger.
type standing struct {
	rev, permit int64   // of its record and of the permit, where it holds one; 0: there is none
	ended       *Action // the record, where it has ended
}

// stands reads how the ledger stands, after a write whose outcome was not known or after another collector wrote.
func (e *Executor) stands(id, host string) (standing, error) {
	var s standing
	kv, err := e.cfg.Store.Get(e.ctx, actionPrefix+id)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return s, err
	default:
		s.rev = kv.Changed
		if stored, err := decode(kv.Value); err == nil && stored.State.Terminal() {
			s.ended = stored
		}
	}
	kv, err = e.cfg.Store.Get(e.ctx, permitPrefix+host)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return s, err
	case string(kv.Value) == id:
		s.permit = kv.Changed
	}
	return s, nil
}

// adopt takes over how the ledger stands. A record that has ended there has ended.
func (en *entry) adopt(s standing) {
	en.rev, en.permit = s.rev, s.permit
	if s.ended != nil {
		*en.Action = *s.ended
		en.after = nil
	}
}

// prune forgets records that ended long ago, here and in the ledger.
func (e *Executor) prune() {
	var ended []*entry
	for _, en := range e.entries {
		if en.State.Terminal() && !en.dirty && !en.waiting {
			ended = append(ended, en)
		}
	}
	slices.SortFunc(ended, func(a, b *entry) int { return strings.Compare(b.ID, a.ID) }) // newest first
	for i, en := range ended {
		if i < keepMost && e.now.Sub(en.EndedAt) < keepFor {
			continue
		}
		key := actionPrefix + en.ID
		conditions := []state.Compare{{Key: key, Changed: en.rev}}
		e.await(en, func() func() {
			_, _, err := e.cfg.Store.Txn(e.ctx, conditions, []state.Op{{Key: key, Delete: true}})
			return func() {
				if err == nil {
					e.forget(en)
				}
			}
		})
	}
}

func (e *Executor) forget(en *entry) {
	delete(e.entries, en.ID)
	for _, o := range en.Orders {
		delete(e.byOrder, o)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.view, en.ID)
}

// setKill writes the kill switch, takes every action back, and tells every actor. Its revision is the order's fence.
func (e *Executor) setKill(ctx context.Context, k KillSwitch) error {
	value, err := json.Marshal(k)
	if err != nil {
		return err
	}
	rev, err := state.Put(ctx, e.cfg.Store, killKey, value)
	if err != nil && !k.On {
		return fmt.Errorf("cannot write the kill switch: %w", err)
	}
	// On holds here even where it could not be written: whoever asked sees the error and asks again.
	e.kill = k
	e.hold(k)
	kind := command.Lift
	if k.On {
		kind = command.Kill
		for _, en := range e.sorted() {
			e.feed(en, CancelledBy{k.By, k.Reason, ReasonKillSwitch})
		}
	}
	if err != nil {
		return fmt.Errorf("the kill switch holds on this collector and could not be written: %w", err)
	}
	e.killRev = rev
	for _, host := range e.cfg.Roster.Hosts() {
		e.sendKill(host, kind)
	}
	return nil
}

func (e *Executor) sendKill(host string, kind command.Kind) {
	actor, ok := e.cfg.Roster.Actor(host)
	if !ok || !actor.Present {
		return
	}
	env, err := e.cfg.Sign(command.Command{
		ID: e.cfg.NewID(e.now), Kind: kind, Host: host, ActorIncarnation: actor.Incarnation,
		Fence:  command.Fence{Incarnation: e.cfg.Incarnation, Revision: uint64(e.killRev)},
		Issued: e.now, Expires: e.now.Add(validFor(command.R1)), Reason: clip(e.kill.Reason),
	})
	if err == nil {
		err = e.cfg.Sender.Send(host, env)
	}
	if err != nil {
		e.cfg.Log.Warn("kill order is not sent", "host", host, "err", err)
	}
}
