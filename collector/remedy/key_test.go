package remedy_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/pkg/command"
)

func approver(b byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = b
	return ed25519.NewKeyFromSeed(seed)
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// keyed is a rig whose host lists an approver and permits an action that needs one.
func (r *rig) keyed(action string, without bool) ed25519.PrivateKey {
	key := approver(1)
	a := two().Actor
	a.MaxRisk, a.Approvers = command.R3, []string{command.FormatPublicKey(public(key))}
	a.Permissions = []command.Permission{{Action: action, Targets: []command.Target{unit("batch.service")}, Min: 1, Max: 1, MaxLease: 10 * time.Minute, WithoutApprover: without}}
	r.set(func() { r.report, r.steps = &a, []remedy.Step{{Action: action, Value: 1, Verify: below(0.2)}} })
	return key
}

// What needs a key is signed by the collector, waits with its final bytes, and is sent only with an approver's signature on
// exactly those.
func TestApprovalByKey(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		ctx := context.Background()
		key := r.keyed("unit.stop", false)
		r.pass(3, remedy.Auto) // auto waits for a key all the same
		expect(t, r, "unit.stop awaiting-approval")
		a := r.exec.Actions()[0]
		if len(r.bodies) != 0 || !a.NeedsKey || a.Body() == nil || a.Hash != command.HashBody(a.Body()) || a.Fence.Revision == 0 {
			t.Fatalf("sent %d, %+v", len(r.bodies), a)
		}
		sig := command.Approve(a.Body(), key).Sig
		stranger := approver(2)
		for name, try := range map[string]func() error{
			"without a key": func() error { _, err := r.exec.Approve(ctx, a.ID, a.Hash, "ann"); return err },
			"another hash":  func() error { _, err := r.exec.ApproveWithKey(ctx, a.ID, "00", "ann", public(key), sig); return err },
			"unlisted key": func() error {
				_, err := r.exec.ApproveWithKey(ctx, a.ID, a.Hash, "ann", public(stranger), command.Approve(a.Body(), stranger).Sig)
				return err
			},
			"stranger's bytes": func() error {
				_, err := r.exec.ApproveWithKey(ctx, a.ID, a.Hash, "ann", public(key), command.Approve(a.Body(), stranger).Sig)
				return err
			},
			"another command's": func() error {
				_, err := r.exec.ApproveWithKey(ctx, a.ID, a.Hash, "ann", public(key), command.Approve([]byte("x"), key).Sig)
				return err
			},
		} {
			if err := try(); !errors.Is(err, remedy.ErrNotNow) && !errors.Is(err, remedy.ErrNotAllowed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r.pass(1, remedy.Auto)
		expect(t, r, "unit.stop awaiting-approval")
		if _, err := r.exec.ApproveWithKey(ctx, a.ID, a.Hash, "ann", public(key), sig); err != nil {
			t.Fatal(err)
		}
		r.pass(1, remedy.Auto)
		expect(t, r, "unit.stop applied")
		if r.bodies[a.ID] != string(a.Body()) || r.signed[a.ID] != 1 {
			t.Fatal("other bytes were sent than were approved")
		}
		// Nobody renews the lease that was approved: it ends by itself.
		r.set(func() { r.delay = 0.1 })
		r.pass(10, remedy.Auto)
		expect(t, r, "unit.stop active")
		r.pass(15, remedy.Auto)
		if got := r.states(); !strings.HasPrefix(got, "unit.stop reverted (lease-ended)") || r.applies[a.ID] != 1 {
			t.Fatal(got)
		}
	})
}

// A host that forgoes the approver has the action as any other; nothing of R3 can be forgone.
func TestWithoutApprover(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.keyed("unit.stop", true)
		r.pass(2, remedy.Auto)
		expect(t, r, "unit.stop applied")
	})
	run(t, func(t *testing.T, r *rig) {
		key := r.keyed("unit.restart", true)
		r.pass(2, remedy.Auto)
		expect(t, r, "unit.restart awaiting-approval")
		a := r.exec.Actions()[0]
		c, err := command.ParseBody(a.Body())
		if err != nil || c.Lease != 0 || c.Risk != command.R3 {
			t.Fatalf("%+v %v", c, err)
		}
		if _, err := r.exec.ApproveWithKey(context.Background(), a.ID, a.Hash, "ann", public(key), command.Approve(a.Body(), key).Sig); err != nil {
			t.Fatal(err)
		}
		r.pass(2, remedy.Auto)
		if got := r.states(); !strings.HasPrefix(got, "unit.restart done") || r.exec.Actions()[len(r.exec.Actions())-1].State.Phase() != remedy.PhaseDone {
			t.Fatal(got)
		}
		kvs, _, _ := r.store.List(context.Background(), "permit/")
		if len(kvs) != 0 && len(r.exec.Actions()) == 1 {
			t.Fatal("the permit is still held")
		}
	})
}

// Nobody signs in time, or the collector starts anew meanwhile: nothing is ever sent.
func TestKeyTooLate(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		key := r.keyed("unit.stop", false)
		r.pass(2, remedy.Auto)
		a := r.exec.Actions()[0]
		r.stop(t.Fatal)
		r.start(t.Fatal)
		r.pass(1, remedy.Auto)
		expect(t, r, "unit.stop awaiting-approval") // the bytes are in the ledger and good until they expire
		r.pass(int(a.Expires.Sub(a.CreatedAt)/time.Second)+1, remedy.Auto)
		if got := r.exec.Actions()[len(r.exec.Actions())-1]; got.State != remedy.TimedOut {
			t.Fatal(r.states())
		}
		if _, err := r.exec.ApproveWithKey(context.Background(), a.ID, a.Hash, "ann", public(key), command.Approve(a.Body(), key).Sig); !errors.Is(err, remedy.ErrNotNow) {
			t.Fatal(err)
		}
		if len(r.bodies) != 0 {
			t.Fatal("something was sent")
		}
	})
}
