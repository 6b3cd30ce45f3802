// Package traffic changes where requests go and how many come in, with the way back kept from the start: one package
// below for each system that steers traffic.
//
// Such a system is a Knob: one setting that is read and set as text in native units. Actuator makes of it what
// agent/actor needs: the prior state, a write that is believed only when it is read back, compare-and-restore, and
// tending. A system that forgets its settings when it is reloaded has an epoch; a setting that was lost with its epoch
// is set again, and what the new epoch brought is then what will be restored; unless that is something on which no
// action would be taken. The package judges nothing, owns no goroutine, and must be called from one at a time.
package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// ErrGone says that what a setting belongs to does not exist, or does not run: its runtime settings ended with it.
var ErrGone = errors.New("the target is gone")

// Reading is a setting as it stands.
type Reading struct {
	Native string `json:"native"`          // in native units, one text for one state
	Value  int64  `json:"value"`           // in the action's unit, as near as that allows
	Epoch  string `json:"epoch,omitempty"` // changes when the system may have forgotten what was set at runtime
	// Behind says that the setting is written down and not in effect.
	Behind bool `json:"-"`
}

// Knob is one setting of one kind of target.
type Knob interface {
	// Able says why the knob cannot be had on this host at all, nil if it may.
	Able() error
	// Name names the setting itself: two actions that turn the same setting return the same name.
	Name(t command.Target) string
	// Permit says why the setting could not be changed and put back, nil if it can. It is asked before the first write.
	Permit(ctx context.Context, t command.Target, now Reading) error
	// Read returns the present setting. The error is ErrGone where there is none.
	Read(ctx context.Context, t command.Target) (Reading, error)
	// Native turns a value of the action into native text; prior is what stood before.
	Native(value int64, prior string) (string, error)
	// Set makes the setting so. That it succeeded means nothing until it is read back.
	Set(ctx context.Context, t command.Target, native string) error
}

// Forgetter is a knob of a system that may forget, at once, everything that was set at runtime.
type Forgetter interface {
	// Epoch is that of a reading, had for less: it is asked for several times a second.
	Epoch(ctx context.Context, t command.Target) (string, error)
}

// Keeper is a knob whose settings end by themselves unless they are kept.
type Keeper interface {
	// Keep is called several times a second with the setting that is wanted and the one that is found. It reports an error
	// only where a person should hear of it.
	Keep(ctx context.Context, t command.Target, wanted string, now Reading) error
	// Forget is called when the setting is no longer wanted.
	Forget(t command.Target)
}

// Actuator is a knob that can be acted with.
type Actuator struct{ Knob }

// Prior reads the setting and makes sure that it can be put back.
func (a Actuator) Prior(ctx context.Context, t command.Target) (actuator.State, error) {
	if err := a.Able(); err != nil {
		return actuator.State{}, err
	}
	now, err := a.Read(ctx, t)
	if errors.Is(err, ErrGone) {
		return actuator.State{}, command.Refuse(command.ReasonNoTarget, "%v", err)
	} else if err != nil {
		return actuator.State{}, err
	}
	if now.Behind {
		return actuator.State{}, command.Refuse(command.ReasonPriorDiffers, "%s says %s, which is not in effect yet: somebody is at work there", t, now.Native)
	}
	if err := a.Permit(ctx, t, now); err != nil {
		return actuator.State{}, err
	}
	data, err := json.Marshal(now)
	if err != nil {
		return actuator.State{}, err
	}
	return actuator.State{Text: now.Native, Value: now.Value, Knobs: []string{a.Name(t)}, Data: data}, nil
}

// Write sets the newest value and reads it back.
func (a Actuator) Write(ctx context.Context, c actuator.Change) (actuator.State, string, error) {
	native, err := a.Native(c.Value(), c.State.Text)
	if err != nil {
		return c.State, "", err
	}
	return c.State, native, a.set(ctx, c.Target, native)
}

func (a Actuator) set(ctx context.Context, t command.Target, native string) error {
	setErr := a.Set(ctx, t, native)
	now, err := a.Read(ctx, t)
	switch {
	case setErr != nil:
		return setErr
	case err != nil:
		return err
	case now.Native != native:
		return command.Refuse(command.ReasonNoEffect, "%s reads %s after %s was set", t, now.Native, native)
	case now.Behind:
		return command.Refuse(command.ReasonNoEffect, "%s says %s, which has not come into effect", t, native)
	}
	return nil
}

// Look reads the setting and compares.
func (a Actuator) Look(ctx context.Context, c actuator.Change) (actuator.Standing, string, error) {
	now, err := a.Read(ctx, c.Target)
	if errors.Is(err, ErrGone) {
		return actuator.Gone, "", nil
	} else if err != nil {
		return 0, "", err
	}
	s, err := a.compare(c, now)
	return s, now.Native, err
}

func (a Actuator) compare(c actuator.Change, now Reading) (actuator.Standing, error) {
	for i, v := range slices.Backward(c.Values) {
		native, err := a.Native(v, c.State.Text)
		if err != nil {
			return 0, err
		}
		switch {
		case native != now.Native:
		case now.Behind:
			return actuator.Mixed, nil
		case i == len(c.Values)-1:
			return actuator.Ours, nil
		case now.Native != c.State.Text:
			return actuator.Older, nil
		}
	}
	switch {
	case now.Native == c.State.Text && now.Behind:
		return actuator.Mixed, nil
	case now.Native == c.State.Text:
		return actuator.Before, nil
	}
	return actuator.Other, nil
}

// Restore puts the prior setting back if what is found is ours.
func (a Actuator) Restore(ctx context.Context, c actuator.Change) (actuator.Standing, string, error) {
	standing, now, err := a.Look(ctx, c)
	if err != nil {
		return standing, now, err
	}
	if k, ok := a.Knob.(Keeper); ok {
		k.Forget(c.Target)
	}
	if standing == actuator.Gone || standing == actuator.Other || standing == actuator.Before {
		return standing, now, nil
	}
	if err := a.set(ctx, c.Target, c.State.Text); errors.Is(err, ErrGone) {
		return actuator.Gone, "", nil
	} else if err != nil {
		return standing, now, err
	}
	return actuator.Before, c.State.Text, nil
}

// Tend sets again what a new epoch has forgotten, and keeps what would end by itself. A system that cannot be read now is
// looked at again later; one that neither forgets nor ends is not looked at.
func (a Actuator) Tend(ctx context.Context, c actuator.Change) (actuator.State, bool, error) {
	wanted, err := a.Native(c.Value(), c.State.Text)
	if err != nil {
		return c.State, false, err
	}
	if k, ok := a.Knob.(Keeper); ok {
		if now, err := a.Read(ctx, c.Target); err == nil {
			return c.State, false, k.Keep(ctx, c.Target, wanted, now)
		}
		return c.State, false, nil
	}
	f, ok := a.Knob.(Forgetter)
	if !ok {
		return c.State, false, nil
	}
	var was Reading
	if err := json.Unmarshal(c.State.Data, &was); err != nil {
		return c.State, false, fmt.Errorf("cannot read a kept setting: %w", err)
	}
	epoch, err := f.Epoch(ctx, c.Target)
	if err != nil || epoch == was.Epoch {
		return c.State, false, nil
	}
	now, err := a.Read(ctx, c.Target)
	if err != nil {
		return c.State, false, nil
	}
	standing, err := a.compare(c, now)
	if err != nil {
		return c.State, false, err
	}
	state := c.State
	if state.Data, err = json.Marshal(now); err != nil {
		return c.State, false, err
	}
	if standing == actuator.Other {
		if err := a.Permit(ctx, c.Target, now); err != nil {
			return state, true, nil // as a new command would be: the lease ends with what was found left alone
		}
		// Everything that was set at runtime ended with the epoch: what stands now is what the system started from.
		state.Text, state.Value = now.Native, now.Value
	}
	if standing != actuator.Ours {
		if wanted, err = a.Native(c.Value(), state.Text); err == nil {
			err = a.set(ctx, c.Target, wanted)
		}
	}
	return state, true, err
}
