// Package roster keeps who belongs: hosts and their certificates, join tokens, operators, and the cluster's two roots, the CA
// and the signing root, sealed before they enter the state engine.
//
// It decides enrolment, renewal, admission and revocation, and nothing about what an operator may do: that is the table of
// collector/api. Secrets are made here and shown once; only their hashes are kept. A Roster may be used from many
// goroutines and owns none.
package roster

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/identity"
)

// The errors of a Roster, beside those of pkg/identity.
var (
	ErrUnknownHost  = errors.New("no such host")
	ErrUnknownToken = errors.New("no such token")
	ErrRefused      = errors.New("refused")
)

// The states of a host.
const (
	Pending  = "pending"
	Admitted = "admitted"
	Revoked  = "revoked"
)

const (
	hostPrefix     = "host/"
	tokenPrefix    = "token/"
	operatorPrefix = "operator/"
	caKey          = "ca/root"
	signingKey     = "ca/signing"

	version = 1
	// keptSerials is how many certificates of a host are remembered, so that all that still live can be revoked: renewed
	// at half life, at most three do.
	keptSerials = 8
)

// Host is the record of a host.
type Host struct {
	Version  int               `json:"version"`
	Name     string            `json:"name"`
	State    string            `json:"state"`
	Labels   map[string]string `json:"labels,omitempty"` // from the token
	KeyHash  string            `json:"keyHash"`
	Serials  []string          `json:"serials"` // newest last
	Revoked  []string          `json:"revoked,omitempty"`
	Expires  time.Time         `json:"expires"` // of the newest certificate
	Enrolled time.Time         `json:"enrolled"`
	Token    string            `json:"token"` // id
	Reason   string            `json:"reason,omitempty"`
}

type kept struct {
	host     Host
	revision int64
}

// Config is what a Roster needs.
type Config struct {
	Store  state.Store
	Sealer *identity.Sealer
	// Cluster is the id of the cluster.
	Cluster string
	Clock   func() time.Time
	// Changed is called with the name of a host whose record changed, on the goroutine of the one who changed it; it may
	// be nil.
	Changed func(host string)
}

// Roster keeps who belongs.
type Roster struct {
	cfg     Config
	ca      *identity.CA
	signing ed25519.PrivateKey

	mu      sync.RWMutex
	hosts   map[string]kept
	revoked map[string]bool // serials
}

// Open reads the roster, and makes the roots of a new cluster.
func Open(ctx context.Context, cfg Config) (*Roster, error) {
	if cfg.Changed == nil {
		cfg.Changed = func(string) {}
	}
	r := &Roster{cfg: cfg, hosts: map[string]kept{}, revoked: map[string]bool{}}
	ca, err := r.secret(ctx, caKey, func() ([]byte, error) {
		ca, err := identity.NewCA(cfg.Cluster, cfg.Clock())
		if err != nil {
			return nil, err
		}
		return ca.Marshal()
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the cluster's CA: %w", err)
	}
	if r.ca, err = identity.ParseCA(ca); err != nil {
		return nil, fmt.Errorf("cannot open the cluster's CA: %w", err)
	}
	signing, err := r.secret(ctx, signingKey, func() ([]byte, error) {
		key, err := identity.NewSigningKey()
		if err != nil {
			return nil, err
		}
		return identity.MarshalSigningKey(key)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the signing root: %w", err)
	}
	if r.signing, err = identity.ParseSigningKey(signing); err != nil {
		return nil, fmt.Errorf("cannot open the signing root: %w", err)
	}
	all, _, err := cfg.Store.List(ctx, hostPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot read hosts: %w", err)
	}
	for _, kv := range all {
		var h Host
		if err := json.Unmarshal(kv.Value, &h); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
		if h.Version != version {
			return nil, fmt.Errorf("cannot read %s: its format %d is not known to this version, which writes %d", kv.Key, h.Version, version)
		}
		r.keepLocked(h, kv.Changed)
	}
	return r, nil
}

// secret reads a sealed secret, or makes it; of two collectors that make one at once, the first wins.
func (r *Roster) secret(ctx context.Context, key string, make func() ([]byte, error)) ([]byte, error) {
	kv, err := r.cfg.Store.Get(ctx, key)
	if errors.Is(err, state.ErrNotFound) {
		fresh, err := make()
		if err != nil {
			return nil, err
		}
		held, _, err := r.cfg.Store.Txn(ctx, []state.Compare{{Key: key}}, []state.Op{{Key: key, Value: r.cfg.Sealer.Seal(key, fresh)}})
		if err != nil {
			return nil, err
		}
		if held {
			return fresh, nil
		}
		kv, err = r.cfg.Store.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		return r.cfg.Sealer.Open(key, kv.Value)
	}
	if err != nil {
		return nil, err
	}
	return r.cfg.Sealer.Open(key, kv.Value)
}

func (r *Roster) keepLocked(h Host, revision int64) {
	r.hosts[h.Name] = kept{h, revision}
	for _, s := range h.Revoked {
		r.revoked[s] = true
	}
	if h.State == Revoked {
		for _, s := range h.Serials {
			r.revoked[s] = true
		}
	}
}

// CA returns the cluster's CA.
func (r *Roster) CA() *identity.CA { return r.ca }

// SigningKey returns the private signing root. It certifies this collector's command key and signs nothing else.
func (r *Roster) SigningKey() ed25519.PrivateKey { return r.signing }

// SigningRoot returns the public half as a permissions file names it: "ed25519:BASE64".
func (r *Roster) SigningRoot() string {
	return "ed25519:" + base64.StdEncoding.EncodeToString(r.signing.Public().(ed25519.PublicKey))
}

// IsRevoked reports, from memory, whether the certificate of that serial was revoked.
func (r *Roster) IsRevoked(serial string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.revoked[serial]
}

// Host returns one host, or ErrUnknownHost.
func (r *Roster) Host(name string) (Host, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.hosts[name]
	if !ok {
		return Host{}, fmt.Errorf("%w: %s", ErrUnknownHost, name)
	}
	return k.host.clone(), nil
}

func (h Host) clone() Host {
	h.Labels, h.Serials, h.Revoked = maps.Clone(h.Labels), slices.Clone(h.Serials), slices.Clone(h.Revoked)
	return h
}

// Hosts returns all hosts by name.
func (r *Roster) Hosts() []Host {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]Host, 0, len(r.hosts))
	for _, k := range r.hosts {
		out = append(out, k.host.clone())
	}
	slices.SortFunc(out, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Admit reports why the holder of a good certificate may not open a session now; nil if it may.
func (r *Roster) Admit(_ context.Context, who identity.Verified) error {
	h, err := r.Host(who.Name)
	switch {
	case err != nil:
		return fmt.Errorf("%w: host %s is not on the roster of this cluster: enrol it with a new token", ErrRefused, who.Name)
	case h.State == Pending:
		return fmt.Errorf("%w: host %s waits to be admitted: an admin runs \"evenkeel host admit %s\"", ErrRefused, h.Name, h.Name)
	case h.State == Revoked || r.IsRevoked(who.Serial):
		return fmt.Errorf("%w: host %s was revoked: enrol it again with a token made with --replace", ErrRefused, h.Name)
	}
	return nil
}

// change rewrites one host's record, unless somebody else does at the same moment; then it tries again.
func (r *Roster) change(ctx context.Context, name string, edit func(*Host) error) (Host, error) {
	for {
		r.mu.RLock()
		k, ok := r.hosts[name]
		r.mu.RUnlock()
		if !ok {
			return Host{}, fmt.Errorf("%w: %s", ErrUnknownHost, name)
		}
		h := k.host.clone()
		if err := edit(&h); err != nil {
			return Host{}, err
		}
		revision, held, err := r.write(ctx, h, k.revision)
		if err != nil {
			return Host{}, err
		}
		if held {
			r.keep(h, revision)
			return h, nil
		}
		if err := r.refresh(ctx, name); err != nil {
			return Host{}, err
		}
	}
}

func (r *Roster) keep(h Host, revision int64) {
	r.mu.Lock()
	r.keepLocked(h, revision)
	r.mu.Unlock()
	r.cfg.Changed(h.Name)
}

func (r *Roster) write(ctx context.Context, h Host, revision int64) (int64, bool, error) {
	value, err := json.Marshal(h)
	if err != nil {
		return 0, false, err
	}
	key := hostPrefix + h.Name
	held, rev, err := r.cfg.Store.Txn(ctx, []state.Compare{{Key: key, Changed: revision}}, []state.Op{{Key: key, Value: value}})
	return rev, held, err
}

// refresh reads one host again after another writer was first.
func (r *Roster) refresh(ctx context.Context, name string) error {
	kv, err := r.cfg.Store.Get(ctx, hostPrefix+name)
	if err != nil {
		return err
	}
	var h Host
	if err := json.Unmarshal(kv.Value, &h); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(h, kv.Changed)
	return nil
}

// AdmitHost lets a pending host in.
func (r *Roster) AdmitHost(ctx context.Context, name string) (Host, error) {
	return r.change(ctx, name, func(h *Host) error {
		if h.State == Revoked {
			return fmt.Errorf("%w: host %s was revoked: enrol it again with a token made with --replace", ErrRefused, name)
		}
		h.State = Admitted
		return nil
	})
}

// RevokeHost makes every certificate of a host useless.
func (r *Roster) RevokeHost(ctx context.Context, name, reason string) (Host, error) {
	return r.change(ctx, name, func(h *Host) error {
		h.State, h.Reason = Revoked, reason
		return nil
	})
}
