package traffic_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// fake is a system with one setting, which it forgets with each epoch.
type fake struct {
	value, file int64
	epoch       int
	gone, deaf  bool
}

func (f *fake) Able() error                                                   { return nil }
func (f *fake) Name(t command.Target) string                                  { return t.String() }
func (f *fake) Permit(context.Context, command.Target, traffic.Reading) error { return nil }
func (f *fake) Native(v int64, _ string) (string, error)                      { return strconv.FormatInt(v, 10), nil }

func (f *fake) Read(context.Context, command.Target) (r traffic.Reading, err error) {
	if f.gone {
		return r, fmt.Errorf("%w: not there", traffic.ErrGone)
	}
	return traffic.Reading{Native: strconv.FormatInt(f.value, 10), Value: f.value, Epoch: strconv.Itoa(f.epoch)}, nil
}

func (f *fake) Epoch(context.Context, command.Target) (string, error) {
	return strconv.Itoa(f.epoch), nil
}

func (f *fake) Set(_ context.Context, _ command.Target, native string) (err error) {
	if !f.deaf {
		f.value, err = strconv.ParseInt(native, 10, 64)
	}
	return err
}

// Whatever happens between a change and its end, in whatever order: what is found at the end is what the system would
// have without us, or what somebody else put there; and never is somebody's value overwritten in the epoch in which it was put.
func TestWhatIsLeftIsNotOurs(t *testing.T) {
	target := command.Target{Interface: "x"}
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Int64Range(1, 5) // few, so that they meet
		f := &fake{}
		f.file = value.Draw(t, "file")
		f.value = f.file
		a := traffic.Actuator{Knob: f}
		state, err := a.Prior(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		c := actuator.Change{Target: target, State: state}
		hand := int64(0) // what somebody else set in this epoch; 0 nobody
		write := func() {
			c.Values = append(c.Values, value.Draw(t, "ours"))
			if c.State, _, err = a.Write(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			hand = 0 // the engine looks before it writes again: see below
		}
		ours := func(v int64) bool {
			for _, x := range c.Values {
				if x == v {
					return true
				}
			}
			return false
		}
		write()
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				if s, _, err := a.Look(t.Context(), c); err != nil {
					t.Fatal(err)
				} else if s != actuator.Other {
					write()
				}
			case 1:
				v := value.Draw(t, "hand")
				f.value = v
				if hand = v; ours(v) || v == c.State.Value {
					hand = 0 // nobody can tell
				}
			case 2:
				f.epoch++
				f.file = value.Draw(t, "new file")
				f.value, hand = f.file, 0
				state, changed, err := a.Tend(t.Context(), c)
				if err != nil || !changed {
					t.Fatalf("a new epoch is not noticed: %v", err)
				}
				if !ours(f.file) && state.Value != f.file {
					t.Fatalf("the epoch began with %d, the baseline is %d", f.file, state.Value)
				}
				if f.value != c.Value() {
					t.Fatalf("the new epoch has %d, ours is %d", f.value, c.Value())
				}
				c.State = state
			case 3:
				before := f.value
				state, changed, err := a.Tend(t.Context(), c)
				if err != nil || changed || f.value != before || state.Text != c.State.Text {
					t.Fatalf("tending changed something within an epoch: %v", err)
				}
			}
		}
		before := f.value
		s, _, err := a.Restore(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case hand != 0 && (s != actuator.Other || f.value != hand):
			t.Fatalf("somebody's %d was found as %s and became %d", hand, s, f.value)
		case hand == 0 && f.value != c.State.Value:
			t.Fatalf("%d was found, %d is left, %d stood before (%s)", before, f.value, c.State.Value, s)
		}
		again, _, err := a.Restore(t.Context(), c)
		if err != nil || again != s && again != actuator.Before {
			t.Fatalf("a second restore finds %s after %s: %v", again, s, err)
		}
	})
}

func TestNothingCountsThatIsNotReadBack(t *testing.T) {
	f := &fake{value: 7, deaf: true}
	a := traffic.Actuator{Knob: f}
	state, err := a.Prior(t.Context(), command.Target{})
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{State: state, Values: []int64{3}}
	if _, _, err := a.Write(t.Context(), c); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Errorf("a setting that was not made counts: %v", err)
	}
	f.gone = true
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Gone || err != nil {
		t.Errorf("%s %v", s, err)
	}
	if _, err := a.Prior(t.Context(), command.Target{}); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Errorf("%v", err)
	}
}

func TestDeadman(t *testing.T) {
	now := time.Duration(0)
	d := traffic.Deadman{TTL: 30, Every: 10, Now: func() time.Duration { return now }}
	if !d.Due("a", false, true) || !d.Due("a", true, false) || d.Due("a", false, false) {
		t.Error("after a start what ended is made again, what is there is renewed, another's is left")
	}
	d.Kept("a")
	now = 9
	if d.Due("a", true, false) {
		t.Error("renewed too early")
	}
	now = 10
	if !d.Due("a", true, false) {
		t.Error("not renewed in time")
	}
	d.Kept("a")
	now = 39
	if d.Due("a", false, true) {
		t.Error("what somebody took away was made again")
	}
	now = 100
	if d.Due("a", false, true) {
		t.Error("what somebody took away was made again when its time was over")
	}
	d.Kept("a")
	now = 200
	if !d.Due("a", false, true) {
		t.Error("what ended by itself was not made again")
	}
	d.Forget("a")
	if d.Due("a", false, false) {
		t.Error("another's was taken for ours")
	}
}
