package collector

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
)

// ringWorld is a keyring with hosts whose actors confirm what they are told.
type ringWorld struct {
	t     *testing.T
	ring  *keyring
	root  ed25519.PrivateKey
	fleet *fleet
	mu    sync.Mutex
	heard []command.Verified // guarded by mu, as all that follows
	trust command.Trust
}

// orders is what was heard so far.
func (w *ringWorld) orders() []command.Verified {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.heard)
}

func (w *ringWorld) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func newRingWorld(t *testing.T, store state.Store) *ringWorld {
	root, err := identity.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &ringWorld{t: t, root: root, trust: command.Trust{SigningRoot: root.Public().(ed25519.PublicKey)}}
	w.fleet = newFleet(time.Now, nil, slog.New(slog.DiscardHandler))
	w.ring = &keyring{
		signer: newSigner(root, "c1", time.Now), hosts: w.fleet, store: store, send: w.send, newID: newIDs().new, clock: time.Now, log: slog.New(slog.DiscardHandler), fence: 3,
	}
	if err := w.ring.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *ringWorld) connect(host string) {
	w.fleet.Event(host, session.Connected{})
	w.report(host)
}

func (w *ringWorld) report(host string, revoked ...string) {
	w.fleet.Event(host, session.Actor{Report: command.ActorReport{Present: true, Incarnation: "inc", Revoked: revoked}})
}

func (w *ringWorld) send(host string, e command.Envelope) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.trust.Verify(e, time.Now())
	if err != nil {
		w.t.Errorf("an order that no host would believe: %v", err)
		return nil
	}
	w.heard = append(w.heard, v)
	return nil
}

// A revoked key is told to every host until its actor confirms it, also to those that come later and after a restart; a
// collector that revokes its own key signs the order with the next one.
func TestKeyring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newRingWorld(t, store)
		w.connect("a")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.ring.run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		own, _, _, err := w.ring.signer.current()
		if err != nil {
			t.Fatal(err)
		}
		w.set(func() { w.trust.Revoked = []string{own} }) // no order may be signed by it any more
		key, err := w.ring.Revoke(t.Context(), own, "ada", "laptop lost")
		if err != nil || key.RevokedBy != "ada" || key.RevokedAt.IsZero() {
			t.Fatalf("%+v %v", key, err)
		}
		if now, _, _, _ := w.ring.signer.current(); now == own {
			t.Fatal("it goes on signing")
		}
		if len(w.orders()) != 1 || w.orders()[0].Kind != command.Revoke || w.orders()[0].Of != own || w.orders()[0].Host != "a" || w.orders()[0].Reason != "laptop lost" {
			t.Fatalf("%+v", w.orders())
		}
		<-time.After(11 * time.Second)
		synctest.Wait()
		if n := len(w.orders()); n < 2 || n > 4 {
			t.Fatalf("told %d times in 11 s without a word", n)
		}
		w.report("a", own)
		told := len(w.orders())
		<-time.After(30 * time.Second)
		synctest.Wait()
		if len(w.orders()) != told {
			t.Error("a host that has confirmed is told again")
		}
		w.connect("b")
		<-time.After(2 * time.Second)
		synctest.Wait()
		if len(w.orders()) != told+1 || w.orders()[told].Host != "b" {
			t.Errorf("a host that connects later: %d orders", len(w.orders())-told)
		}
		if _, err := w.ring.Revoke(t.Context(), "nonsense", "ada", ""); !errors.Is(err, api.ErrInvalid) {
			t.Error(err)
		}
		keys, err := w.ring.Keys(t.Context())
		i := slices.IndexFunc(keys, func(k api.Key) bool { return k.ID == own })
		if err != nil || len(keys) != 2 || i < 0 || !slices.Equal(keys[i].Hosts, []string{"a"}) {
			t.Errorf("%+v %v", keys, err)
		}
		rotated, err := w.ring.Rotate(t.Context())
		if err != nil || rotated.Use != "collector" || rotated.Owner != "c1" || rotated.ID == keys[1-i].ID {
			t.Errorf("%+v %v", rotated, err)
		}

		again := newRingWorld(t, store)
		again.connect("c")
		again.ring.tell()
		if len(again.orders()) != 1 || again.orders()[0].Of != own {
			t.Errorf("after a restart: %+v", again.orders())
		}
	})
}

// From a runbook in the map to a command that the host believes: what needs an approver's key is proposed, waits with the
// bytes that the API shows, and goes out with the signature of somebody other than the policy's author.
func TestApprovalByKeyThroughTheCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Replace(shopMap, "{hosts: {names: [a]}, cgroup: /demo/batch}", "{hosts: {names: [a]}, unit: batch.service}", 1)
		text = strings.Replace(text, "{action: cpu.weight, to: 10, verify:", "{action: unit.stop, verify:", 1)
		w := newWorld(t, state.NewMemory(), text)
		defer w.stop()
		key, err := identity.NewSigningKey()
		if err != nil {
			t.Fatal(err)
		}
		public := key.Public().(ed25519.PublicKey)
		w.approvers = []ed25519.PublicKey{public}
		b, ctx := actions{w.backend()}, t.Context()
		a := w.shop()
		w.fleet.Event("a", session.Actor{At: time.Now(), Report: command.ActorReport{
			Present: true, Incarnation: "inc-a", PermissionsHash: make([]byte, 32), MaxRisk: command.R2, Approvers: []string{command.FormatPublicKey(public)},
			Permissions: []command.Permission{{Action: "unit.stop", Targets: []command.Target{{Unit: "batch.service"}}, Min: 1, Max: 1, MaxLease: time.Minute, Rate: "20/5m"}},
		}})
		a.run(35) // what costs service waits until the collector has decided for half a minute
		a.crowded()
		a.run(4)
		list, err := b.List(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		x := list[0]
		if x.Phase != "awaiting approval" || !x.NeedsKey || command.HashBody(x.CommandBody) != x.CommandHash || len(x.Approvers) != 1 || len(w.commands(command.Apply)) != 0 {
			t.Fatalf("%+v", x)
		}
		yes := api.Approval{Hash: x.CommandHash, By: "ada", Key: command.FormatPublicKey(public), Signature: command.Approve(x.CommandBody, key).Sig}
		for name, wrong := range map[string]api.Approval{
			"no key":      {Hash: yes.Hash, By: yes.By},
			"the author":  {Hash: yes.Hash, By: "test", Key: yes.Key, Signature: yes.Signature},
			"other bytes": {Hash: yes.Hash, By: yes.By, Key: yes.Key, Signature: command.Approve([]byte("x"), key).Sig},
		} {
			if _, err := b.Approve(ctx, x.ID, wrong); !errors.Is(err, api.ErrRefused) && !errors.Is(err, api.ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if x, err = b.Approve(ctx, x.ID, yes); err != nil || x.Phase != "running" || x.CommandBody != nil {
			t.Fatalf("%+v, %v", x, err)
		}
		synctest.Wait()
		sent := w.commands(command.Apply) // the world believes no command without its approver
		if len(sent) != 1 || sent[0].ID != x.ID || sent[0].Action.Name != "unit.stop" {
			t.Fatalf("%+v", sent)
		}
	})
}
