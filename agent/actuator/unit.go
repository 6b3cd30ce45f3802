package actuator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// UnitRunner is the part of systemd that starts and stops services. Where a Config's Systemd has it too, services can be
// started, stopped and restarted.
type UnitRunner interface {
	// Status says how a unit stands; one that is not there has Load "not-found".
	Status(ctx context.Context, unit string) (UnitStatus, error)
	// Job has systemd do something and waits for the job's result: "done", "failed", "timeout", "dependency" ...
	Job(ctx context.Context, verb Verb, unit string) (string, error)
}

// UnitStatus is how a unit stands.
type UnitStatus struct {
	Load, Active, Sub string // as systemctl show has them
	Invocation        string // hex; a new one for each time that it runs
	CanStart, CanStop bool
	Transient         bool // made at run time: once stopped it is no longer there
}

// Verb is what a job does.
type Verb string

// The verbs.
const (
	Start   Verb = "start"
	Stop    Verb = "stop"
	Restart Verb = "restart"
)

// jobPatience is how long a job is waited for. An actor does nothing else meanwhile, but a kill file calls it off.
const jobPatience = 10 * time.Second

// Unit is unit.start, unit.stop or unit.restart. systemd's answer is not believed: what counts is that the service then
// stands as it should, under a new invocation where it was started.
type Unit struct {
	run  UnitRunner // nil: systemd does not run here
	verb Verb
	// returned are the units that a revert has begun to start: that they run under a new invocation is then our doing.
	returned map[string]bool
}

// ran is the Data of a Unit's State.
type ran struct {
	Invocation string `json:"invocation"`     // before
	Ours       string `json:"ours,omitempty"` // after a start of ours
}

func newUnit(cfg Config, verb Verb) *Unit {
	u := &Unit{verb: verb, returned: map[string]bool{}}
	u.run, _ = cfg.Systemd.(UnitRunner)
	return u
}

// Able says why no service can be started or stopped here, nil if one can.
func (u *Unit) Able() error {
	if u.run == nil {
		return command.Refuse(command.ReasonNotReversible, "systemd does not run on this host")
	}
	return nil
}

// Prior sees that the unit stands so that the action changes something and can be taken back.
func (u *Unit) Prior(ctx context.Context, target command.Target) (State, error) {
	if err := u.Able(); err != nil {
		return State{}, err
	}
	unit := target.Unit
	switch {
	case !strings.HasSuffix(unit, ".service"):
		return State{}, command.Refuse(command.ReasonDenied, "%s is no service: only those are started and stopped", target)
	case strings.HasPrefix(unit, "evenkeel-") || unit == "dbus.service":
		return State{}, command.Refuse(command.ReasonDenied, "%s is needed to take anything back", unit)
	}
	s, err := u.run.Status(ctx, unit)
	if err != nil {
		return State{}, fmt.Errorf("cannot ask systemd for unit %s: %w", unit, err)
	}
	switch {
	case s.Load != "loaded":
		return State{}, command.Refuse(command.ReasonNoTarget, "unit %s is %s", unit, s.Load)
	case u.verb == Start && !s.stopped():
		return State{}, command.Refuse(command.ReasonNoTarget, "unit %s is %s: there is nothing to start", unit, s.Active)
	case u.verb != Start && s.Active != "active":
		return State{}, command.Refuse(command.ReasonNoTarget, "unit %s is %s: there is nothing to %s", unit, s.Active, u.verb)
	case !s.CanStart || u.verb != Start && !s.CanStop:
		return State{}, command.Refuse(command.ReasonNotReversible, "unit %s refuses to be started or stopped by hand", unit)
	case u.verb == Start && !s.CanStop:
		return State{}, command.Refuse(command.ReasonNotReversible, "unit %s refuses to be stopped by hand", unit)
	case u.verb == Stop && s.Transient:
		return State{}, command.Refuse(command.ReasonNotReversible, "unit %s was made at run time: stopped, it is gone", unit)
	}
	data, err := json.Marshal(ran{Invocation: s.Invocation})
	delete(u.returned, unit)
	return State{Text: s.Active, Knobs: []string{"unit/" + unit}, Data: data}, err
}

func (s UnitStatus) stopped() bool { return s.Active == "inactive" || s.Active == "failed" }

// Write has systemd do it, waits for the job, and looks how the unit then stands.
func (u *Unit) Write(ctx context.Context, c Change) (State, string, error) {
	if err := u.Able(); err != nil {
		return c.State, "", err
	}
	was, err := readRan(c)
	if err != nil {
		return c.State, "", err
	}
	s, err := u.job(ctx, u.verb, c.Target.Unit)
	if err != nil {
		return c.State, s.Active, err
	}
	switch {
	case u.verb == Stop && !s.stopped():
		return c.State, s.Active, command.Refuse(command.ReasonNoEffect, "unit %s is %s after it was stopped", c.Target.Unit, s.Active)
	case u.verb == Stop:
		return c.State, s.Active, nil
	case s.Active != "active" || s.Invocation == "" || s.Invocation == was.Invocation:
		return c.State, s.Active, command.Refuse(command.ReasonNoEffect, "unit %s is %s (%s) after its %s: it does not run anew", c.Target.Unit, s.Active, s.Sub, u.verb)
	}
	was.Ours = s.Invocation
	if c.State.Data, err = json.Marshal(was); err != nil {
		return c.State, "", err
	}
	return c.State, fmt.Sprintf("%s, invocation %s", s.Active, s.Invocation), nil
}

// job runs one job to its end and returns how the unit stands then.
func (u *Unit) job(ctx context.Context, verb Verb, unit string) (UnitStatus, error) {
	limited, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	result, err := u.run.Job(limited, verb, unit)
	switch {
	case errors.Is(err, context.Canceled):
		return UnitStatus{}, fmt.Errorf("the %s of unit %s was called off while systemd was at it", verb, unit)
	case errors.Is(err, context.DeadlineExceeded):
		return UnitStatus{}, fmt.Errorf("systemd has not ended the %s of unit %s within %s; it goes on", verb, unit, jobPatience)
	case err != nil:
		return UnitStatus{}, fmt.Errorf("cannot %s unit %s: %w", verb, unit, err)
	}
	s, err := u.run.Status(ctx, unit)
	if err != nil {
		return UnitStatus{}, fmt.Errorf("cannot ask systemd for unit %s: %w", unit, err)
	}
	if result != "done" {
		return s, command.Refuse(command.ReasonNoEffect, "systemd says %q of the %s of unit %s, which is %s", result, verb, unit, s.Active)
	}
	return s, nil
}

func readRan(c Change) (ran, error) {
	var r ran
	if err := json.Unmarshal(c.State.Data, &r); err != nil {
		return r, fmt.Errorf("cannot read the kept state of a unit: %w", err)
	}
	return r, nil
}

// Look compares how the unit stands with how it stood.
func (u *Unit) Look(ctx context.Context, c Change) (Standing, string, error) {
	if err := u.Able(); err != nil {
		return 0, "", err
	}
	was, err := readRan(c)
	if err != nil {
		return 0, "", err
	}
	s, err := u.run.Status(ctx, c.Target.Unit)
	if err != nil {
		return 0, "", fmt.Errorf("cannot ask systemd for unit %s: %w", c.Target.Unit, err)
	}
	return u.compare(c.Target.Unit, was, s), s.Active, nil
}

func (u *Unit) compare(unit string, was ran, s UnitStatus) Standing {
	running := !s.stopped() && s.Active != "deactivating"
	switch {
	case s.Load != "loaded":
		return Gone
	case u.verb == Stop:
		switch {
		case !running:
			return Ours
		case s.Invocation == was.Invocation || u.returned[unit]:
			return Before
		}
		return Other // somebody wants it to run
	case u.verb == Start && !running:
		return Before
	case s.Invocation == was.Invocation:
		return Before
	case running && (was.Ours == "" || s.Invocation == was.Ours):
		return Ours
	}
	return Other
}

// Restore starts again what was stopped, and stops what was started. A restart is never taken back.
func (u *Unit) Restore(ctx context.Context, c Change) (Standing, string, error) {
	standing, now, err := u.Look(ctx, c)
	if err != nil || standing != Ours || u.verb == Restart {
		return standing, now, err
	}
	back := Start
	if u.verb == Start {
		back = Stop
	}
	u.returned[c.Target.Unit] = true
	s, err := u.job(ctx, back, c.Target.Unit)
	if err != nil {
		return 0, s.Active, err
	}
	if (back == Start) == s.stopped() {
		return 0, s.Active, command.Refuse(command.ReasonNoEffect, "unit %s is %s after its %s", c.Target.Unit, s.Active, back)
	}
	return Before, s.Active, nil
}

// Tend does nothing: a unit is one thing.
func (u *Unit) Tend(_ context.Context, c Change) (State, bool, error) { return c.State, false, nil }
