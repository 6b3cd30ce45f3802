package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const (
	revokedPrefix = "cluster/revoked/" // + key id
	revokeFor     = 30 * time.Second   // how long an order to revoke may be on its way
	revokeAgain   = 5 * time.Second    // before it is sent again to a host that does not confirm it
)

// revocation is one key that is believed no more, as it is kept.
type revocation struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

// keyring knows which keys sign commands and which of all keys are revoked, and tells every host until its actor says that
// it knows. There is no way back: a host's owner alone can believe a key again. It may be used from many goroutines.
type keyring struct {
	signer *signer
	hosts  *fleet
	store  state.Store
	send   func(host string, e command.Envelope) error
	newID  func(time.Time) string
	clock  func() time.Time
	log    *slog.Logger
	fence  uint64 // incarnation of the cluster

	mu      sync.Mutex
	revoked map[string]revocation // by key id
	told    map[string]time.Time  // by host and key id
}

// load reads what was revoked before.
func (k *keyring) load(ctx context.Context) error {
	all, _, err := k.store.List(ctx, revokedPrefix)
	if err != nil {
		return fmt.Errorf("cannot read the revoked keys: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked, k.told = map[string]revocation{}, map[string]time.Time{}
	for _, kv := range all {
		var r revocation
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			return fmt.Errorf("%s: %w", kv.Key, err)
		}
		k.revoked[strings.TrimPrefix(kv.Key, revokedPrefix)] = r
	}
	return nil
}

// run tells hosts, about once a second, what they do not know yet: those that connect later included.
func (k *keyring) run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			k.tell()
		}
	}
}

func (k *keyring) tell() {
	now := k.clock()
	k.mu.Lock()
	ids := slices.Sorted(maps.Keys(k.revoked))
	k.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	for _, host := range k.hosts.Hosts() {
		actor, present := k.hosts.Actor(host)
		if !present {
			continue
		}
		for _, id := range ids {
			if slices.Contains(actor.Revoked, id) || !k.due(host, id, now) {
				continue
			}
			if err := k.order(host, actor.Incarnation, id, now); err != nil {
				k.log.Warn("a revocation is not sent yet", "host", host, "key", id, "error", err)
			}
		}
	}
}

func (k *keyring) due(host, id string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.told[host+" "+id]
	if ok && now.Sub(at) < revokeAgain {
		return false
	}
	k.told[host+" "+id] = now
	return true
}

func (k *keyring) order(host, incarnation, id string, now time.Time) error {
	k.mu.Lock()
	reason := k.revoked[id].Reason
	k.mu.Unlock()
	if len(reason) > 1000 {
		reason = strings.ToValidUTF8(reason[:1000], "")
	}
	env, err := k.signer.sign(command.Command{
		ID: k.newID(now), Kind: command.Revoke, Host: host, ActorIncarnation: incarnation, Fence: command.Fence{Incarnation: k.fence},
		Issued: now, Expires: now.Add(revokeFor), Risk: command.R1, Reason: reason, Of: id,
	})
	if err != nil {
		return err
	}
	return k.send(host, env)
}

// Keys lists the key that signs now, the approvers' keys that hosts list, and every key that was revoked.
func (k *keyring) Keys(context.Context) ([]api.Key, error) {
	id, from, until, err := k.signer.current()
	if err != nil {
		return nil, err
	}
	found := map[string]*api.Key{id: {ID: id, Use: "collector", Owner: k.signer.name, NotBefore: from, NotAfter: until}}
	entry := func(id, use string) *api.Key {
		if found[id] == nil {
			found[id] = &api.Key{ID: id, Use: use}
		}
		return found[id]
	}
	for _, host := range k.hosts.Hosts() {
		actor, present := k.hosts.Actor(host)
		if !present {
			continue
		}
		for _, text := range actor.Approvers {
			if public, err := command.ParsePublicKey(text); err == nil {
				entry(command.KeyID(public), "approver").Use = "approver"
			}
		}
		for _, id := range actor.Revoked {
			e := entry(id, "unknown")
			e.Hosts = append(e.Hosts, host)
		}
	}
	k.mu.Lock()
	for id, r := range k.revoked {
		e := entry(id, "unknown")
		e.RevokedAt, e.RevokedBy, e.Reason = r.At, r.By, r.Reason
	}
	k.mu.Unlock()
	var out []api.Key
	for _, id := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[id].Hosts)
		out = append(out, *found[id])
	}
	return out, nil
}

// Revoke has every host believe a key no more. Where it is this collector's own, another one signs from here on.
func (k *keyring) Revoke(ctx context.Context, id, by, reason string) (api.Key, error) {
	if err := command.CheckKeyID(id); err != nil {
		return api.Key{}, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	k.mu.Lock()
	_, known := k.revoked[id]
	k.mu.Unlock()
	if !known {
		r := revocation{At: k.clock(), By: by, Reason: reason}
		b, err := json.Marshal(r)
		if err != nil {
			return api.Key{}, err
		}
		if _, err := state.Put(ctx, k.store, revokedPrefix+id, b); err != nil {
			return api.Key{}, fmt.Errorf("cannot keep the revocation: %w", err)
		}
		k.mu.Lock()
		k.revoked[id] = r
		k.mu.Unlock()
	}
	if current, _, _, err := k.signer.current(); err == nil && current == id {
		if err := k.signer.rotate(); err != nil {
			return api.Key{}, err
		}
	}
	k.tell()
	return k.one(ctx, id)
}

// Rotate has this collector sign with a new key from here on; the former one stays good until it expires or is revoked.
func (k *keyring) Rotate(ctx context.Context) (api.Key, error) {
	if err := k.signer.rotate(); err != nil {
		return api.Key{}, err
	}
	id, _, _, err := k.signer.current()
	if err != nil {
		return api.Key{}, err
	}
	return k.one(ctx, id)
}

func (k *keyring) one(ctx context.Context, id string) (api.Key, error) {
	all, err := k.Keys(ctx)
	if err != nil {
		return api.Key{}, err
	}
	for _, key := range all {
		if key.ID == id {
			return key, nil
		}
	}
	return api.Key{}, errors.New("the key is not listed")
}

// Approve passes a person's yes on. Whoever wrote the policy has said yes already: the other one must come from somebody else.
func (b actions) Approve(ctx context.Context, id string, yes api.Approval) (api.Action, error) {
	a, err := b.executor.Action(id)
	if err != nil {
		return api.Action{}, translate(err)
	}
	if policy, err := b.keeper.Get(string(manifest.KindRemediationPolicy), a.Policy); err == nil && policy.ChangedBy == yes.By {
		return api.Action{}, fmt.Errorf("%w: %s applied policy %s, so somebody else has to approve what it asks for: evenkeel token create --role approver --name NAME gives another person access",
			api.ErrRefused, yes.By, a.Policy)
	}
	if yes.Key == "" {
		return b.one(b.executor.Approve(ctx, id, yes.Hash, yes.By))
	}
	key, err := command.ParsePublicKey(yes.Key)
	if err != nil {
		return api.Action{}, fmt.Errorf("%w: key: %w", api.ErrInvalid, err)
	}
	return b.one(b.executor.ApproveWithKey(ctx, id, yes.Hash, yes.By, key, yes.Signature))
}
