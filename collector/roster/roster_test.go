package roster_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/roster"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/identity"
)

type world struct {
	*testing.T
	now   time.Time
	store *state.Memory
	r     *roster.Roster
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, now: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), store: state.NewMemory()}
	w.reopen()
	return w
}

func (w *world) reopen() {
	w.Helper()
	sealer, err := identity.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		w.Fatal(err)
	}
	r, err := roster.Open(w.Context(), roster.Config{Store: w.store, Sealer: sealer, Cluster: "0123456789abcdef0123456789abcdef", Clock: func() time.Time { return w.now }})
	if err != nil {
		w.Fatal(err)
	}
	w.r = r
}

func (w *world) token(spec identity.TokenSpec) string {
	w.Helper()
	_, text, err := w.r.CreateToken(w.Context(), spec)
	if err != nil {
		w.Fatal(err)
	}
	return text
}

func (w *world) csr(host string) []byte {
	w.Helper()
	key, err := identity.NewKey()
	if err != nil {
		w.Fatal(err)
	}
	csr, err := identity.MakeCSR(key, host)
	if err != nil {
		w.Fatal(err)
	}
	return csr
}

func (w *world) verified(i identity.Issued, name string) identity.Verified {
	return identity.Verified{Peer: identity.Peer{Role: identity.RoleAgent, Name: name}, Serial: i.Serial}
}

func TestEnrolmentIsIdempotentAndUsesATokenOnce(t *testing.T) {
	w := newWorld(t)
	token, csr := w.token(identity.TokenSpec{Admit: true, Labels: map[string]string{"role": "web"}}), w.csr("a")
	first, err := w.r.Enrol(t.Context(), token, "a", csr, w.now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.r.Enrol(t.Context(), token, "a", csr, w.now)
	if err != nil || second.Serial == first.Serial {
		t.Fatalf("the same key again: %v", err)
	}
	if _, err := w.r.Enrol(t.Context(), token, "b", w.csr("b"), w.now); !errors.Is(err, identity.ErrTokenUsedUp) {
		t.Errorf("a second host with a token for one: %v", err)
	}
	h, err := w.r.Host("a")
	if err != nil || h.State != roster.Admitted || h.Labels["role"] != "web" {
		t.Errorf("got %+v, %v", h, err)
	}
	w.reopen()
	if err := w.r.Admit(t.Context(), w.verified(second, "a")); err != nil {
		t.Errorf("after reopening: %v", err)
	}
}

func TestRefusalsOfEnrolment(t *testing.T) {
	w := newWorld(t)
	if _, err := w.r.Enrol(t.Context(), w.token(identity.TokenSpec{Admit: true}), "a", w.csr("a"), w.now); err != nil {
		t.Fatal(err)
	}
	old := w.token(identity.TokenSpec{TTL: time.Minute})
	revoked := w.token(identity.TokenSpec{})
	id, _ := identity.TokenID(revoked)
	if err := w.r.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	good := w.token(identity.TokenSpec{Uses: 10})
	w.now = w.now.Add(2 * time.Minute)
	for name, c := range map[string]struct {
		token, host string
		at          time.Time
		want        error
		says        string
	}{
		"expired token": {old, "b", w.now, identity.ErrTokenExpired, "make a new one"},
		"revoked token": {revoked, "b", w.now, identity.ErrTokenRevoked, "make a new one"},
		"no token":      {"nonsense", "b", w.now, identity.ErrTokenUnknown, ""},
		"taken name":    {good, "a", w.now, roster.ErrRefused, "--replace"},
		"clock off":     {good, "b", w.now.Add(-5 * time.Hour), identity.ErrClock, "clock"},
	} {
		_, err := w.r.Enrol(t.Context(), c.token, c.host, w.csr("b"), c.at)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), c.token) && c.token != "nonsense" {
			t.Errorf("%s: the error shows the token", name)
		}
	}
	if _, err := w.r.Enrol(t.Context(), good, "bad name", w.csr("b"), w.now); err == nil {
		t.Error("a name with a blank was accepted")
	}
}

func TestReplacingAHostRevokesTheFormerHolder(t *testing.T) {
	w := newWorld(t)
	first, err := w.r.Enrol(t.Context(), w.token(identity.TokenSpec{Admit: true}), "a", w.csr("a"), w.now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.r.Enrol(t.Context(), w.token(identity.TokenSpec{Admit: true, Replace: true}), "a", w.csr("a"), w.now)
	if err != nil {
		t.Fatal(err)
	}
	if !w.r.IsRevoked(first.Serial) || w.r.IsRevoked(second.Serial) {
		t.Error("the former certificate must be revoked, the new one not")
	}
	if _, err := w.r.Renew(t.Context(), w.verified(first, "a"), w.csr("a")); !errors.Is(err, roster.ErrRefused) {
		t.Errorf("renewal of the former: %v", err)
	}
}

func TestRenewalAndRevocation(t *testing.T) {
	w := newWorld(t)
	first, err := w.r.Enrol(t.Context(), w.token(identity.TokenSpec{Admit: true}), "a", w.csr("a"), w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(12 * time.Hour)
	second, err := w.r.Renew(t.Context(), w.verified(first, "a"), w.csr("a"))
	if err != nil || !second.NotAfter.After(first.NotAfter) {
		t.Fatalf("renewal: %v", err)
	}
	if _, err := w.r.RevokeHost(t.Context(), "a", "stolen"); err != nil {
		t.Fatal(err)
	}
	for _, serial := range []string{first.Serial, second.Serial} {
		if !w.r.IsRevoked(serial) {
			t.Errorf("certificate %s lives on", serial)
		}
	}
	if err := w.r.Admit(t.Context(), w.verified(second, "a")); !errors.Is(err, roster.ErrRefused) {
		t.Errorf("session of a revoked host: %v", err)
	}
	if _, err := w.r.AdmitHost(t.Context(), "a"); !errors.Is(err, roster.ErrRefused) {
		t.Errorf("admitting a revoked host: %v", err)
	}
}

func TestPendingHostWaits(t *testing.T) {
	w := newWorld(t)
	i, err := w.r.Enrol(t.Context(), w.token(identity.TokenSpec{}), "a", w.csr("a"), w.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.r.Admit(t.Context(), w.verified(i, "a")); err == nil || !strings.Contains(err.Error(), "evenkeel host admit a") {
		t.Errorf("pending: %v", err)
	}
	if _, err := w.r.AdmitHost(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := w.r.Admit(t.Context(), w.verified(i, "a")); err != nil {
		t.Errorf("admitted: %v", err)
	}
}

func TestOperators(t *testing.T) {
	w := newWorld(t)
	o, text, err := w.r.CreateOperator(t.Context(), "ann", identity.AccessAdmin, time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.r.Operator(t.Context(), text); err != nil || got.Name != "ann" {
		t.Errorf("got %+v, %v", got, err)
	}
	w.now = w.now.Add(time.Hour)
	if _, err := w.r.Operator(t.Context(), text); !errors.Is(err, identity.ErrTokenExpired) {
		t.Errorf("after an hour: %v", err)
	}
	w.now = w.now.Add(-time.Minute)
	if err := w.r.RevokeToken(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.r.Operator(t.Context(), text); !errors.Is(err, identity.ErrTokenRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if err := w.r.RevokeToken(t.Context(), "nothing"); !errors.Is(err, roster.ErrUnknownToken) {
		t.Errorf("revoking what is not there: %v", err)
	}
}

func TestSecretsAreSealedAtRest(t *testing.T) {
	w := newWorld(t)
	token := w.token(identity.TokenSpec{})
	root := w.r.SigningRoot()
	all, _, err := w.store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	secret := token[strings.LastIndex(token, "_")+1:]
	for _, kv := range all {
		if bytes.Contains(kv.Value, []byte("PRIVATE KEY")) || bytes.Contains(kv.Value, []byte(secret)) {
			t.Errorf("%s holds a secret in the clear", kv.Key)
		}
	}
	w.reopen()
	if w.r.SigningRoot() != root {
		t.Error("the signing root changed on reopening")
	}
}
