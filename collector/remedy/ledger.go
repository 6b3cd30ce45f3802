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
func (e *Executor) writeIntent(en *entry) Input {
	value, err := en.encode()
	if err != nil {
		return SigningFailed{err.Error()}
	}
	key, permit := actionPrefix+en.ID, permitPrefix+en.Host
	held, rev, err := e.cfg.Store.Txn(e.ctx,
		[]state.Compare{{Key: key, Changed: en.rev}, {Key: permit}},
		[]state.Op{{Key: key, Value: value}, {Key: permit, Value: []byte(en.ID)}})
	switch {
	case err != nil:
		// Whether it was written is not known. It was not signed, so it may be cancelled either way; save finds out.
		e.cfg.Log.Warn("cannot write intent", "action", en.ID, "err", err)
		return CancelledBy{"remedy", "the ledger could not be written", ReasonCancelled}
	case !held:
		by := ""
		if kv, err := e.cfg.Store.Get(e.ctx, permit); err == nil {
			by = string(kv.Value)
		}
		return PermitTaken{by}
	}
	en.rev, en.permit = rev, rev
	return IntentWritten{command.Fence{Incarnation: e.cfg.Incarnation, Revision: uint64(rev)}}
}

// save writes the record, and gives the permit back with one that is terminal. It is false where that did not succeed:
// the record stays dirty and is written on a later look, and no effect is carried out before.
func (e *Executor) save(en *entry) bool {
	for range 3 {
		value, err := en.encode()
		if err != nil {
			e.cfg.Log.Warn("cannot encode action", "action", en.ID, "err", err)
			return false
		}
		key := actionPrefix + en.ID
		conditions := []state.Compare{{Key: key, Changed: en.rev}}
		ops := []state.Op{{Key: key, Value: value}}
		if en.State.Terminal() && en.permit != 0 {
			permit := permitPrefix + en.Host
			conditions = append(conditions, state.Compare{Key: permit, Changed: en.permit})
			ops = append(ops, state.Op{Key: permit, Delete: true})
		}
		held, rev, err := e.cfg.Store.Txn(e.ctx, conditions, ops)
		if err != nil {
			e.cfg.Log.Warn("cannot write action", "action", en.ID, "err", err)
			return false
		}
		if held {
			en.rev, en.dirty = rev, false
			if en.State.Terminal() {
				en.permit = 0
			}
			return true
		}
		if !e.refresh(en) {
			return false
		}
	}
	return false
}

// refresh learns how the ledger stands after a write whose outcome was not known, or after another collector wrote. A
// record that has ended there has ended.
func (e *Executor) refresh(en *entry) bool {
	kv, err := e.cfg.Store.Get(e.ctx, actionPrefix+en.ID)
	switch {
	case errors.Is(err, state.ErrNotFound):
		en.rev = 0
	case err != nil:
		return false
	default:
		en.rev = kv.Changed
		if stored, err := decode(kv.Value); err == nil && stored.State.Terminal() {
			*en.Action = *stored
			en.after = nil
		}
	}
	en.permit = 0
	kv, err = e.cfg.Store.Get(e.ctx, permitPrefix+en.Host)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return false
	case string(kv.Value) == en.ID:
		en.permit = kv.Changed
	}
	return true
}

// prune forgets records that ended long ago, here and in the ledger.
func (e *Executor) prune() {
	var ended []*entry
	for _, en := range e.entries {
		if en.State.Terminal() && !en.dirty {
			ended = append(ended, en)
		}
	}
	slices.SortFunc(ended, func(a, b *entry) int { return strings.Compare(b.ID, a.ID) }) // newest first
	for i, en := range ended {
		if i < keepMost && e.now.Sub(en.EndedAt) < keepFor {
			continue
		}
		key := actionPrefix + en.ID
		if _, _, err := e.cfg.Store.Txn(e.ctx, []state.Compare{{Key: key, Changed: en.rev}}, []state.Op{{Key: key, Delete: true}}); err != nil {
			return
		}
		delete(e.entries, en.ID)
		for _, o := range en.Orders {
			delete(e.byOrder, o)
		}
		e.mu.Lock()
		delete(e.view, en.ID)
		e.mu.Unlock()
	}
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
