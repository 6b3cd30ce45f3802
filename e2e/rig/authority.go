package rig

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Authority signs commands as a cluster does: a root that certifies a collector's key.
type Authority struct {
	root, key ed25519.PrivateKey
	Key       command.Key // good for R2, for an hour
	fence     atomic.Uint64
}

// NewAuthority makes the keys.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{root: NewKey(t), key: NewKey(t)}
	now := time.Now()
	a.Key = a.Certify(t, a.key, now.Add(-time.Minute), now.Add(time.Hour), command.R2)
	return a
}

// NewKey makes a private key.
func NewKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// Root returns the public root as a permissions file has it.
func (a *Authority) Root() string {
	return command.FormatPublicKey(a.root.Public().(ed25519.PublicKey))
}

// Certify has the root vouch for a key.
func (a *Authority) Certify(t testing.TB, key ed25519.PrivateKey, from, to time.Time, most command.Risk) command.Key {
	t.Helper()
	c, err := command.CertifyKey(a.root, command.CertifiedKey{
		Public: key.Public().(ed25519.PublicKey), Collector: "collector-1", NotBefore: from, NotAfter: to, MaxRisk: most,
	})
	if err != nil {
		t.Fatal(err)
	}
	return command.Key{Private: key, Certificate: c}
}

// Apply returns a command that the actor of h would carry out: the next fence, good for 20 seconds.
func (a *Authority) Apply(t testing.TB, h *Actor, incarnation string, action command.Action, lease time.Duration) command.Command {
	t.Helper()
	text, err := os.ReadFile(h.Permissions)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	spec, ok := command.Lookup(action.Name)
	if !ok {
		t.Fatalf("there is no action %s", action.Name)
	}
	now := time.Now()
	return command.Command{
		ID: ulid.Make().String(), Kind: command.Apply, Host: h.Host, ActorIncarnation: incarnation,
		Fence: command.Fence{Incarnation: 1, Revision: a.fence.Add(1)}, Action: action,
		Issued: now, Expires: now.Add(20 * time.Second), Lease: lease, Risk: spec.Risk, Reason: "end-to-end test", PermissionsHash: sum[:],
	}
}

// Sign signs with the collector's key.
func (a *Authority) Sign(t testing.TB, c command.Command) command.Envelope {
	t.Helper()
	e, err := command.Sign(c, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
