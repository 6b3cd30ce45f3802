package remedy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Random outages, restarts, lost writes, duplicated and delayed results, approvals and kills. Whatever their order: no
// step is signed or executed twice, nothing is signed while the host is unknown or its verdict is, two actions never run
// on the host at once, no lease outlives its length without a renewal, and in the end nothing is held. What needs an
// approver's key never reaches the host without it.
func TestExecutorProperties(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{
			"pass", "pass", "pass", "pass", "long", "cut", "mend", "restart", "dead", "alive", "relief", "pain", "calm", "overload", "unknown",
			"unseen", "seen", "lose before", "ledger back", "lose after", "ledger back", "ledger slow", "ledger fast", "duplicate", "kill", "lift", "cancel", "batch ends", "batch begins", "sign", "sign",
		}), 1, 40).Draw(t, "steps")
		action := rapid.SampledFrom([]string{"", "", "unit.stop", "unit.restart"}).Draw(t, "action")
		mode := rapid.SampledFrom([]remedy.Mode{remedy.Auto, remedy.Auto, remedy.Approve}).Draw(t, "mode")
		if err := scenario(outer, steps, mode, action); err != "" {
			t.Fatal(err)
		}
	})
}

// scenario plays the steps in a bubble and returns what went wrong.
func scenario(t *testing.T, steps []string, mode remedy.Mode, action string) (wrong string) {
	synctest.Test(t, func(*testing.T) { wrong = play(steps, mode, action) })
	return wrong
}

// play takes the runbook's steps, or one action that needs an approver's key.
func play(steps []string, mode remedy.Mode, action string) string {
	ledger := &flaky{Store: state.NewMemory()}
	r := &watchful{rig: newRig(ledger)}
	r.since = time.Now()
	if action != "" {
		r.rig.key = r.keyed(action, false)
	}
	fail := func(a ...any) { panic(a) }
	r.begin(fail)
	var old []command.Result
	for _, s := range steps {
		ctx := context.Background()
		switch s {
		case "pass":
			r.step(2, mode)
		case "long":
			r.step(25, mode)
		case "cut", "mend":
			r.set(func() { r.connected = s == "mend" })
			if s == "mend" {
				_ = r.exec.HostConnected(ctx, "a")
			}
		case "restart":
			r.stop(fail)
			r.begin(fail)
		case "dead", "alive":
			r.set(func() { r.dead = s == "dead" })
		case "relief":
			r.set(func() { r.delay = 0 })
		case "pain":
			r.set(func() { r.delay += 3 })
		case "calm":
			r.set(func() { r.verdict = overload.Healthy })
		case "overload":
			r.set(func() { r.verdict, r.since = overload.Overloaded, time.Now() })
		case "unknown":
			r.set(func() { r.verdict = overload.Unknown })
		case "unseen", "seen":
			r.set(func() { r.unseen = s == "unseen" })
		case "lose before":
			ledger.fail(true, false)
		case "lose after":
			ledger.fail(false, true)
		case "ledger back":
			ledger.fail(false, false)
		case "ledger slow":
			ledger.slow(2700 * time.Millisecond)
		case "ledger fast":
			ledger.slow(0)
		case "duplicate":
			for _, o := range old {
				_ = r.exec.Result(ctx, "a", o)
			}
		case "sign":
			for _, a := range r.exec.Actions() {
				if body := a.Body(); body != nil && r.key != nil {
					_, _ = r.exec.ApproveWithKey(ctx, a.ID, a.Hash, "ann", public(r.key), command.Approve(body, r.key).Sig)
				}
			}
		case "kill", "lift":
			_, _ = r.exec.SetKillSwitch(ctx, s == "kill", "ann", "test")
		case "cancel":
			if as := r.exec.Actions(); len(as) > 0 {
				_, _ = r.exec.Cancel(ctx, as[0].ID, "ann", "test")
			}
		case "batch ends":
			r.set(func() { r.running, r.batch = 0, 0 })
		case "batch begins":
			r.set(func() { r.running, r.batch = 8, 9 })
		}
		r.set(func() { old = append(old, r.results...) })
		if mode == remedy.Approve {
			if as := r.exec.Actions(); len(as) > 0 && as[0].State == remedy.AwaitingApproval {
				_, _ = r.exec.Approve(ctx, as[0].ID, as[0].Hash, "ann")
			}
		}
		if w := r.check(); w != "" {
			r.stop(fail)
			return s + ": " + w
		}
	}
	// Peace: everything works again and the overload is over.
	ledger.fail(false, false)
	ledger.slow(0)
	r.set(func() {
		r.connected, r.dead, r.unseen, r.verdict, r.running, r.batch, r.delay = true, false, false, overload.Healthy, 0, 0, 0
	})
	r.step(400, mode)
	defer r.stop(fail)
	if w := r.check(); w != "" {
		return "at the end: " + w
	}
	if len(r.leases) != 0 {
		return "a lease is left"
	}
	for _, a := range r.exec.Actions() {
		if !a.State.Terminal() {
			return "at the end " + a.ID + " is " + string(a.State)
		}
	}
	permits, _, _ := ledger.List(context.Background(), "permit/")
	if len(permits) != 0 {
		return "a permit is left"
	}
	return ""
}

// watchful is a rig that notes what must never be.
type watchful struct {
	*rig
	wrong string
	seen  map[string]remedy.State
}

func (w *watchful) begin(fail func(...any)) {
	w.start(fail)
	synctest.Wait()
}

func (w *watchful) step(n int, mode remedy.Mode) {
	for range n {
		w.mu.Lock()
		unknown := !w.connected || w.verdict == overload.Unknown
		before := len(w.signed)
		w.mu.Unlock()
		w.pass(1, mode)
		w.mu.Lock()
		if unknown && len(w.signed) > before {
			w.wrong = "signed while the host or its verdict was unknown"
		}
		if len(w.leases) > 1 {
			w.wrong = "two leases at once"
		}
		for id, until := range w.leases {
			if time.Until(until) > 20*time.Second {
				w.wrong = "a lease longer than the policy's: " + id
			}
		}
		w.mu.Unlock()
	}
}

func (w *watchful) check() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.signed {
		if n > 1 {
			return "signed twice: " + id
		}
	}
	for id, n := range w.applies {
		if n > 1 {
			return "executed twice: " + id
		}
	}
	if w.bare != "" {
		return "applied without its approver: " + w.bare
	}
	if w.seen == nil {
		w.seen = map[string]remedy.State{}
	}
	for _, a := range w.exec.Actions() {
		if old, ok := w.seen[a.ID]; ok && old.Terminal() && old != a.State {
			return "a terminal action changed: " + string(old) + " to " + string(a.State)
		}
		w.seen[a.ID] = a.State
	}
	return w.wrong
}
