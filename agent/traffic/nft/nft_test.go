package nft

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// fake keeps bounds as the kernel does: each ends by itself.
type fake struct {
	now   time.Duration
	rate  map[port]uint64
	ends  map[port]time.Duration
	wrote int
}

func newFake() *fake { return &fake{rate: map[port]uint64{}, ends: map[port]time.Duration{}} }

func (f *fake) clock() time.Duration { return f.now }

func (f *fake) get(p port) (uint64, error) {
	if f.now >= f.ends[p] {
		return 0, nil
	}
	return f.rate[p], nil
}

func (f *fake) put(p port, rate uint64) error {
	f.rate[p], f.ends[p] = rate, f.now+Timeout
	f.wrote++
	return nil
}

func (f *fake) remove(p port) error {
	delete(f.rate, p)
	delete(f.ends, p)
	return nil
}

func held(t *testing.T, a traffic.Actuator, target command.Target, v int64) actuator.Change {
	t.Helper()
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{Target: target, State: state, Values: []int64{v}}
	if c.State, _, err = a.Write(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// unprivileged lets the tests run without the right that the real thing needs.
type unprivileged struct{ limit }

func (unprivileged) Able() error { return nil }

func on(f *fake) traffic.Actuator {
	return traffic.Actuator{Knob: unprivileged{limitOn(f, f.clock).Knob.(limit)}}
}

func TestBoundIsKeptAndEndsWithItsKeeper(t *testing.T) {
	f := newFake()
	a := on(f)
	target := command.Target{Port: "8080/tcp"}
	p, err := portOf(target)
	if err != nil {
		t.Fatal(err)
	}
	c := held(t, a, target, 50)
	if f.rate[p] != 50 || c.State.Text != none {
		t.Fatalf("%v %+v", f.rate, c.State)
	}
	for range 600 { // two minutes at the actor's pace
		f.now += 200 * time.Millisecond
		if _, changed, err := a.Tend(t.Context(), c); err != nil || changed {
			t.Fatal(changed, err)
		}
		if got, _ := f.get(p); got != 50 {
			t.Fatalf("%s into the lease the bound is %d", f.now, got)
		}
	}
	if f.wrote > 14 {
		t.Errorf("the kernel was written to %d times in two minutes", f.wrote)
	}
	f.now += Timeout
	if got, _ := f.get(p); got != 0 {
		t.Error("a bound outlives its keeper")
	}
	// The actor is back, the lease goes on.
	a = on(f)
	if _, _, err := a.Tend(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.get(p); got != 50 {
		t.Errorf("the bound is %d after the actor came back", got)
	}
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Before || err != nil || len(f.rate) != 0 {
		t.Errorf("%s %v, left %v", s, err, f.rate)
	}
}

func TestAnothersHandIsLeftAlone(t *testing.T) {
	f := newFake()
	a := on(f)
	target := command.Target{Port: "53/udp"}
	p, _ := portOf(target)
	c := held(t, a, target, 50)
	f.rate[p] = 7
	f.now += 15 * time.Second
	if _, _, err := a.Tend(t.Context(), c); err != nil || f.rate[p] != 7 {
		t.Errorf("another's rate became %d: %v", f.rate[p], err)
	}
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Other || err != nil || f.rate[p] != 7 {
		t.Errorf("%s %v %v", s, err, f.rate)
	}
	_ = f.remove(p)
	c = held(t, a, target, 50)
	_ = f.remove(p) // somebody takes the bound away
	for range 10 {
		f.now += 10 * time.Second
		if _, _, err := a.Tend(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := f.get(p); got != 0 {
		t.Error("a bound that somebody took away came back")
	}
	_ = f.put(p, 9)
	if _, err := a.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonBusy {
		t.Errorf("a bound that nobody holds: %v", err)
	}
}
