package remedy_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// slowLedger is a store whose writes can be held up, and that notes which actions were written.
type slowLedger struct {
	state.Store

	mu    sync.Mutex
	gate  chan struct{} // closed: writes pass
	wrote []string
}

func (s *slowLedger) Txn(ctx context.Context, conditions []state.Compare, ops []state.Op) (bool, int64, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	<-gate
	held, rev, err := s.Store.Txn(ctx, conditions, ops)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		if id, ok := strings.CutPrefix(op.Key, "action/"); ok {
			s.wrote = append(s.wrote, id)
		}
	}
	return held, rev, err
}

func TestADecisionDoesNotWaitForReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		close(open)
		ledger := &slowLedger{Store: state.NewMemory(), gate: open}
		r := newRig(ledger)
		r.dead = true
		r.start(t.Fatal)
		defer r.stop(t.Fatal)
		r.exec.Consider(two())
		synctest.Wait()
		first := r.exec.Actions()[0].ID

		held := make(chan struct{})
		ledger.mu.Lock()
		ledger.gate, ledger.wrote = held, nil
		ledger.mu.Unlock()
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
		close(held)
		reports.Wait()
		synctest.Wait()

		var second string
		for _, a := range r.exec.Actions() {
			if a.Host == "b" {
				second = a.ID
				if a.State != remedy.Dispatched {
					t.Errorf("the second action is %s", a.State)
				}
			}
		}
		ledger.mu.Lock()
		defer ledger.mu.Unlock()
		if want := []string{first, second, second, first}; !slices.Equal(ledger.wrote, want) {
			t.Errorf("the ledger was written in the order %v, want %v", ledger.wrote, want)
		}
	})
}
