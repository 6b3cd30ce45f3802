package remedy_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// slowLedger is a store in which the writes of one action can be held up.
type slowLedger struct {
	state.Store

	mu   sync.Mutex
	held string        // id of the action
	gate chan struct{} // closed: its writes pass
}

func (s *slowLedger) Txn(ctx context.Context, conditions []state.Compare, ops []state.Op) (bool, int64, error) {
	s.mu.Lock()
	held, gate := s.held, s.gate
	s.mu.Unlock()
	if held != "" && slices.ContainsFunc(ops, func(op state.Op) bool { return op.Key == "action/"+held }) {
		<-gate
	}
	return s.Store.Txn(ctx, conditions, ops)
}

func (s *slowLedger) hold(action string) (free func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.held, s.gate = action, gate
	return func() { close(gate) }
}

// While the record of one host's action is on its way to the disk, a command for another host is decided, signed and sent,
// and what comes for the first waits its turn.
func TestNoHostWaitsForTheRecordsOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &slowLedger{Store: state.NewMemory()}
		r := newRig(ledger)
		r.dead = true
		r.start(t.Fatal)
		defer r.stop(t.Fatal)
		r.exec.Consider(two())
		synctest.Wait()
		first := r.exec.Actions()[0].ID

		free := ledger.hold(first)
		var reports sync.WaitGroup
		for _, p := range []command.Phase{command.Accepted, command.Applied} {
			reports.Go(func() {
				if err := r.exec.Result(context.Background(), "a", command.Result{ID: first, Phase: p, Value: "10"}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // the first is being written, the second waits behind it
		}
		s := two()
		s.Host, s.Incident = "b", "incident-2"
		r.exec.Consider(s)
		synctest.Wait()
		states := func() map[string]remedy.State {
			out := map[string]remedy.State{}
			for _, a := range r.exec.Actions() {
				out[a.Host] = a.State
			}
			return out
		}
		if got := states(); got["a"] != remedy.Dispatched || got["b"] != remedy.Dispatched {
			t.Errorf("while a's record is being written: %v", got)
		}
		free()
		reports.Wait()
		if got := states(); got["a"] != remedy.Applied {
			t.Errorf("in the end: %v", got)
		}
	})
}

// A person takes an action back while its signed record is on its way to the disk: it is never sent.
func TestWhatIsTakenBackBeforeItIsSentNeverIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &slowLedger{Store: state.NewMemory()}
		r := newRig(ledger)
		r.start(t.Fatal)
		defer r.stop(t.Fatal)
		first := nextID(r)
		free := ledger.hold(first)
		r.exec.Consider(two())
		synctest.Wait()
		cancelled := make(chan error, 1)
		go func() {
			_, err := r.exec.Cancel(context.Background(), first, "ann", "not now")
			cancelled <- err
		}()
		synctest.Wait()
		free()
		if err := <-cancelled; err != nil {
			t.Fatal(err)
		}
		expect(t, r, "cpu.weight cancelled (cancelled)")
		if len(r.bodies) != 0 || len(r.signed) != 0 {
			t.Fatalf("signed %v, sent %v", r.signed, r.bodies)
		}
	})
}

// Intents take a while to be written. What was overloaded then and is not any more, or is no longer known, is not acted on.
func TestNothingIsSignedForAnOverloadThatIsOver(t *testing.T) {
	for _, now := range []overload.State{overload.Healthy, overload.Unknown} {
		synctest.Test(t, func(t *testing.T) {
			ledger := &slowLedger{Store: state.NewMemory()}
			r := newRig(ledger)
			r.start(t.Fatal)
			defer r.stop(t.Fatal)
			free := ledger.hold(nextID(r))
			r.exec.Consider(two())
			synctest.Wait()
			r.set(func() { r.verdict = now })
			free()
			synctest.Wait()
			expect(t, r, "cpu.weight cancelled (condition-gone)")
			if len(r.signed) != 0 {
				t.Fatalf("signed %v", r.signed)
			}
		})
	}
}

// nextID is the id that the next action will get.
func nextID(r *rig) string {
	r.mu.Lock()
	n := r.ids
	r.mu.Unlock()
	id := r.newID(time.Now())
	r.set(func() { r.ids = n })
	return id
}
