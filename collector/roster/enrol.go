package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/identity"
)

// Enrol exchanges a join token and a certificate request for a certificate in the name of host. hostTime is the host's
// clock. The same key and name may enrol again with the same token without using it once more. Every error is a sentence
// that says what to do.
func (r *Roster) Enrol(ctx context.Context, token, name string, csr []byte, hostTime time.Time) (identity.Issued, error) {
	if err := identity.CheckName(name); err != nil {
		return identity.Issued{}, err
	}
	now := r.cfg.Clock()
	if err := identity.CheckSkew(hostTime, now); err != nil {
		return identity.Issued{}, err
	}
	key, err := identity.ParseCSR(csr)
	if err != nil {
		return identity.Issued{}, err
	}
	keyHash, err := identity.KeyHash(key)
	if err != nil {
		return identity.Issued{}, err
	}
	id, err := identity.TokenID(token)
	if err != nil {
		return identity.Issued{}, err
	}
	for {
		t, revision, err := r.token(ctx, id)
		if err != nil {
			return identity.Issued{}, err
		}
		if err := t.Matches(token); err != nil {
			return identity.Issued{}, err
		}
		r.mu.RLock()
		before, known := r.hosts[name]
		r.mu.RUnlock()
		again := known && before.host.KeyHash == keyHash && before.host.State != Revoked
		if err := t.Usable(now); err != nil && (!again || !errors.Is(err, identity.ErrTokenUsedUp)) {
			return identity.Issued{}, err
		}
		if known && !again && !t.Replace {
			return identity.Issued{}, fmt.Errorf("%w: there is a host %s already: choose another --name, or make a token with --replace", ErrRefused, name)
		}
		issued, err := r.ca.IssueAgent(csr, name, now)
		if err != nil {
			return identity.Issued{}, err
		}
		h := Host{
			Version: version, Name: name, State: Pending, Labels: maps.Clone(t.Labels), KeyHash: keyHash, Enrolled: now.UTC(), Token: id,
		}
		if t.Admit {
			h.State = Admitted
		}
		if again {
			h = before.host.clone()
		} else if known {
			// The former holder of the name must not come back with its own certificates.
			h.Revoked = append(slices.Clone(before.host.Revoked), before.host.Serials...)
		}
		h.issued(issued)
		var use []state.Op
		conditions := []state.Compare{{Key: tokenPrefix + id, Changed: revision}, {Key: hostPrefix + name, Changed: before.revision}}
		if !again {
			value, err := json.Marshal(t.Use())
			if err != nil {
				return identity.Issued{}, err
			}
			use = append(use, state.Op{Key: tokenPrefix + id, Value: value})
		}
		value, err := json.Marshal(h)
		if err != nil {
			return identity.Issued{}, err
		}
		held, rev, err := r.cfg.Store.Txn(ctx, conditions, append(use, state.Op{Key: hostPrefix + name, Value: value}))
		if err != nil {
			return identity.Issued{}, fmt.Errorf("cannot enrol %s now: %w", name, err)
		}
		if held {
			r.keep(h, rev)
			return issued, nil
		}
		if err := r.refresh(ctx, name); err != nil && !errors.Is(err, state.ErrNotFound) {
			return identity.Issued{}, err
		}
	}
}

// issued notes a new certificate of the host.
func (h *Host) issued(i identity.Issued) {
	h.Serials = append(h.Serials, i.Serial)
	if n := len(h.Serials) - keptSerials; n > 0 {
		h.Serials = slices.Clone(h.Serials[n:])
	}
	h.Expires = i.NotAfter.UTC()
}

// Renew makes a fresh certificate for the holder of a good or lately expired one.
func (r *Roster) Renew(ctx context.Context, who identity.Verified, csr []byte) (identity.Issued, error) {
	key, err := identity.ParseCSR(csr)
	if err != nil {
		return identity.Issued{}, err
	}
	keyHash, err := identity.KeyHash(key)
	if err != nil {
		return identity.Issued{}, err
	}
	if r.IsRevoked(who.Serial) {
		return identity.Issued{}, fmt.Errorf("%w: host %s was revoked: enrol it again with a token made with --replace", ErrRefused, who.Name)
	}
	issued, err := r.ca.IssueAgent(csr, who.Name, r.cfg.Clock())
	if err != nil {
		return identity.Issued{}, err
	}
	_, err = r.change(ctx, who.Name, func(h *Host) error {
		if h.State == Revoked {
			return fmt.Errorf("%w: host %s was revoked: enrol it again with a token made with --replace", ErrRefused, h.Name)
		}
		h.KeyHash = keyHash
		h.issued(issued)
		return nil
	})
	return issued, err
}

func (r *Roster) token(ctx context.Context, id string) (identity.Token, int64, error) {
	kv, err := r.cfg.Store.Get(ctx, tokenPrefix+id)
	if errors.Is(err, state.ErrNotFound) {
		return identity.Token{}, 0, fmt.Errorf("%w: the join token is not known here: make a new one with \"evenkeel token create\"", identity.ErrTokenUnknown)
	}
	if err != nil {
		return identity.Token{}, 0, fmt.Errorf("cannot check the token now: %w", err)
	}
	var t identity.Token
	if err := json.Unmarshal(kv.Value, &t); err != nil {
		return identity.Token{}, 0, fmt.Errorf("cannot read %s: %w", kv.Key, err)
	}
	return t, kv.Changed, nil
}

// CreateToken makes a join token and returns its text, which is kept nowhere.
func (r *Roster) CreateToken(ctx context.Context, spec identity.TokenSpec) (identity.Token, string, error) {
	t, text, err := identity.NewToken(spec, r.cfg.Clock())
	if err != nil {
		return identity.Token{}, "", err
	}
	value, err := json.Marshal(t)
	if err != nil {
		return identity.Token{}, "", err
	}
	if _, err := state.Put(ctx, r.cfg.Store, tokenPrefix+t.ID, value); err != nil {
		return identity.Token{}, "", fmt.Errorf("cannot keep the token: %w", err)
	}
	return t, text, nil
}

// CreateOperator makes an operator's token; ttl 0 is for good.
func (r *Roster) CreateOperator(ctx context.Context, name string, role identity.Access, ttl time.Duration, by string) (identity.Operator, string, error) {
	o, text, err := identity.NewOperator(name, role, ttl, by, r.cfg.Clock())
	if err != nil {
		return identity.Operator{}, "", err
	}
	value, err := json.Marshal(o)
	if err != nil {
		return identity.Operator{}, "", err
	}
	if _, err := state.Put(ctx, r.cfg.Store, operatorPrefix+o.ID, value); err != nil {
		return identity.Operator{}, "", fmt.Errorf("cannot keep the token: %w", err)
	}
	return o, text, nil
}

// Operator returns whose token this is. Errors wrap identity's where the token is at fault.
func (r *Roster) Operator(ctx context.Context, token string) (identity.Operator, error) {
	id, err := identity.OperatorID(token)
	if err != nil {
		return identity.Operator{}, err
	}
	kv, err := r.cfg.Store.Get(ctx, operatorPrefix+id)
	if errors.Is(err, state.ErrNotFound) {
		return identity.Operator{}, fmt.Errorf("%w: the operator's token is not known here", identity.ErrTokenUnknown)
	}
	if err != nil {
		return identity.Operator{}, fmt.Errorf("cannot check the token now: %w", err)
	}
	var o identity.Operator
	if err := json.Unmarshal(kv.Value, &o); err != nil {
		return identity.Operator{}, fmt.Errorf("cannot read %s: %w", kv.Key, err)
	}
	return o, o.Check(token, r.cfg.Clock())
}

// Tokens returns all join tokens and operators' tokens, each kind in the order of its ids.
func (r *Roster) Tokens(ctx context.Context) ([]identity.Token, []identity.Operator, error) {
	tokens, err := list[identity.Token](ctx, r.cfg.Store, tokenPrefix)
	if err != nil {
		return nil, nil, err
	}
	operators, err := list[identity.Operator](ctx, r.cfg.Store, operatorPrefix)
	return tokens, operators, err
}

func list[T any](ctx context.Context, store state.Store, prefix string) ([]T, error) {
	all, _, err := store.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list tokens: %w", err)
	}
	out := make([]T, len(all))
	for i, kv := range all {
		if err := json.Unmarshal(kv.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
	}
	return out, nil
}

// RevokeToken makes a join token or an operator's token useless.
func (r *Roster) RevokeToken(ctx context.Context, id string) error {
	for _, key := range []string{tokenPrefix + id, operatorPrefix + id} {
		for {
			kv, err := r.cfg.Store.Get(ctx, key)
			if errors.Is(err, state.ErrNotFound) {
				break
			}
			if err != nil {
				return fmt.Errorf("cannot revoke the token now: %w", err)
			}
			var record map[string]any
			if err := json.Unmarshal(kv.Value, &record); err != nil {
				return fmt.Errorf("cannot read %s: %w", key, err)
			}
			record["revoked"] = true
			value, err := json.Marshal(record)
			if err != nil {
				return err
			}
			held, _, err := r.cfg.Store.Txn(ctx, []state.Compare{{Key: key, Changed: kv.Changed}}, []state.Op{{Key: key, Value: value}})
			if err != nil {
				return fmt.Errorf("cannot revoke the token now: %w", err)
			}
			if held {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: %s", ErrUnknownToken, id)
}
