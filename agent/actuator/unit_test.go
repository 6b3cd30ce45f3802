package actuator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// fakeRunner is systemd as far as services go.
type fakeRunner struct {
	fakeSystemd
	status UnitStatus
	serial int
	result string // of the next job; "" for done
	lazy   bool   // jobs are done and change nothing
	jobs   []Verb
	err    error
}

func (f *fakeRunner) Status(context.Context, string) (UnitStatus, error) { return f.status, nil }

func (f *fakeRunner) Job(_ context.Context, verb Verb, _ string) (string, error) {
	f.jobs = append(f.jobs, verb)
	if f.err != nil {
		return "", f.err
	}
	if f.result != "" {
		return f.result, nil
	}
	if f.lazy {
		return "done", nil
	}
	if verb == Stop {
		f.status.Active = "inactive"
		return "done", nil
	}
	f.serial++
	f.status.Active, f.status.Invocation = "active", fmt.Sprint("run-", f.serial)
	return "done", nil
}

func running() *fakeRunner {
	return &fakeRunner{status: UnitStatus{Load: "loaded", Active: "active", Invocation: "run-0", CanStart: true, CanStop: true}}
}

func stopped() *fakeRunner {
	f := running()
	f.status.Active = "inactive"
	return f
}

func TestUnits(t *testing.T) {
	unit := command.Target{Unit: "batch.service"}
	t.Run("stop", func(t *testing.T) {
		f := running()
		u := New(Config{Proc: t.TempDir(), Systemd: f})["unit.stop"].(*Unit)
		c := apply(t, u, unit, 1)
		if f.status.Active != "inactive" {
			t.Fatal(f.status)
		}
		restore(t, u, c, Before)
		if f.status.Active != "active" || len(f.jobs) != 2 {
			t.Fatal(f.status, f.jobs)
		}
		// That it runs under a new invocation is the revert's doing, also when asked again.
		restore(t, u, c, Before)
	})
	t.Run("stop, then somebody starts it", func(t *testing.T) {
		f := running()
		u := New(Config{Proc: t.TempDir(), Systemd: f})["unit.stop"].(*Unit)
		c := apply(t, u, unit, 1)
		f.status.Active, f.status.Invocation = "active", "theirs"
		restore(t, u, c, Other)
		if len(f.jobs) != 1 {
			t.Fatal(f.jobs)
		}
	})
	t.Run("start", func(t *testing.T) {
		f := stopped()
		u := New(Config{Proc: t.TempDir(), Systemd: f})["unit.start"].(*Unit)
		c := apply(t, u, unit, 1)
		restore(t, u, c, Before)
		if f.status.Active != "inactive" {
			t.Fatal(f.status)
		}
	})
	t.Run("start, then somebody restarts it", func(t *testing.T) {
		f := stopped()
		u := New(Config{Proc: t.TempDir(), Systemd: f})["unit.start"].(*Unit)
		c := apply(t, u, unit, 1)
		f.status.Invocation = "theirs"
		restore(t, u, c, Other)
		if f.status.Active != "active" {
			t.Fatal("somebody else's start was taken back")
		}
	})
	t.Run("restart", func(t *testing.T) {
		f := running()
		u := New(Config{Proc: t.TempDir(), Systemd: f})["unit.restart"].(*Unit)
		c := apply(t, u, unit, 1)
		if f.status.Invocation != "run-1" {
			t.Fatal(f.status)
		}
		restore(t, u, c, Ours)
		if len(f.jobs) != 1 {
			t.Fatal("a restart was taken back")
		}
	})
	t.Run("a job that is done and changes nothing", func(t *testing.T) {
		for _, f := range []*fakeRunner{running(), stopped()} {
			f.lazy = true
			s := New(Config{Proc: t.TempDir(), Systemd: f})
			all := []string{"unit.stop", "unit.restart"}
			if f.status.stopped() {
				all = []string{"unit.start"}
			}
			for _, name := range all {
				u := s[name].(*Unit)
				state, err := u.Prior(t.Context(), unit)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := u.Write(t.Context(), Change{Target: unit, State: state, Values: []int64{1}}); command.ReasonOf(err) != command.ReasonNoEffect {
					t.Errorf("%s: %v", u.verb, err)
				}
			}
		}
	})
	t.Run("a job that fails", func(t *testing.T) {
		f := running()
		u := New(Config{Proc: t.TempDir(), Systemd: f})["unit.restart"].(*Unit)
		state, err := u.Prior(t.Context(), unit)
		if err != nil {
			t.Fatal(err)
		}
		f.result = "failed"
		if _, _, err := u.Write(t.Context(), Change{Target: unit, State: state, Values: []int64{1}}); command.ReasonOf(err) != command.ReasonNoEffect || !strings.Contains(err.Error(), `"failed"`) {
			t.Error(err)
		}
		f.err = context.DeadlineExceeded
		if _, _, err := u.Write(t.Context(), Change{Target: unit, State: state, Values: []int64{1}}); err == nil || !strings.Contains(err.Error(), "it goes on") {
			t.Error(err)
		}
	})
}

func TestUnitsRefuse(t *testing.T) {
	unit := command.Target{Unit: "batch.service"}
	for name, x := range map[string]struct {
		action string
		change func(*UnitStatus)
		target command.Target
		want   command.Reason
	}{
		"stop what does not run":       {"unit.stop", func(u *UnitStatus) { u.Active = "failed" }, unit, command.ReasonNoTarget},
		"restart what does not run":    {"unit.restart", func(u *UnitStatus) { u.Active = "inactive" }, unit, command.ReasonNoTarget},
		"restart while it starts":      {"unit.restart", func(u *UnitStatus) { u.Active = "activating" }, unit, command.ReasonNoTarget},
		"start what runs":              {"unit.start", func(*UnitStatus) {}, unit, command.ReasonNoTarget},
		"stop what may not be stopped": {"unit.stop", func(u *UnitStatus) { u.CanStop = false }, unit, command.ReasonNotReversible},
		"stop what could not start":    {"unit.stop", func(u *UnitStatus) { u.CanStart = false }, unit, command.ReasonNotReversible},
		"start what could not stop":    {"unit.start", func(u *UnitStatus) { u.Active, u.CanStop = "inactive", false }, unit, command.ReasonNotReversible},
		"stop what would be gone":      {"unit.stop", func(u *UnitStatus) { u.Transient = true }, unit, command.ReasonNotReversible},
		"no such unit":                 {"unit.stop", func(u *UnitStatus) { u.Load = "not-found" }, unit, command.ReasonNoTarget},
		"masked":                       {"unit.restart", func(u *UnitStatus) { u.Load = "masked" }, unit, command.ReasonNoTarget},
		"a slice":                      {"unit.stop", func(*UnitStatus) {}, command.Target{Unit: "system.slice"}, command.ReasonDenied},
		"our own":                      {"unit.stop", func(*UnitStatus) {}, command.Target{Unit: "evenkeel-actor.service"}, command.ReasonDenied},
	} {
		f := running()
		x.change(&f.status)
		if _, err := New(Config{Proc: t.TempDir(), Systemd: f})[x.action].Prior(t.Context(), x.target); command.ReasonOf(err) != x.want {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
		if len(f.jobs) != 0 {
			t.Errorf("%s: jobs %v", name, f.jobs)
		}
	}
	none := New(Config{Proc: t.TempDir()})
	for _, name := range []string{"unit.start", "unit.stop", "unit.restart"} {
		u := none[name].(*Unit)
		if _, err := u.Prior(t.Context(), unit); u.Able() == nil || command.ReasonOf(err) != command.ReasonNotReversible {
			t.Errorf("%s without systemd: %v", u.verb, err)
		}
	}
}

// propSystemd writes the kernel's file of a property, or accepts and does nothing.
type propSystemd struct {
	fakeSystemd
	file string
}

func (p *propSystemd) SetProperty(_ context.Context, unit, name string, v uint64) error {
	p.props[name] = v
	if p.lazy {
		return nil
	}
	text := "max"
	if v != unset {
		text = fmt.Sprint(v)
	}
	return os.WriteFile(filepath.Join(p.root, "system.slice", unit, p.file), []byte(text+"\n"), 0o644)
}

func TestUnitProperties(t *testing.T) {
	unit := command.Target{Unit: "batch.service"}
	for _, x := range []struct {
		file, property string
		value          int64
		native         string
	}{
		{"pids.max", "TasksMax", 50, "50"},
		{"memory.high", "MemoryHigh", 64, "67108864"},
	} {
		root := fakeV2(t, "system.slice/batch.service")
		file := filepath.Join(root, "system.slice/batch.service", x.file)
		if err := os.WriteFile(file, []byte("max\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		sd := &propSystemd{fakeSystemd{root: root, props: map[string]uint64{}}, x.file}
		u := New(Config{Cgroup: root, Systemd: sd})[x.file]
		c := apply(t, u, unit, x.value)
		if get(t, file) != x.native || fmt.Sprint(sd.props[x.property]) != x.native {
			t.Errorf("%s reads %s, %v", x.file, get(t, file), sd.props)
		}
		restore(t, u, c, Before)
		if get(t, file) != "max" || sd.props[x.property] != unset {
			t.Errorf("%s reads %s, %v", x.file, get(t, file), sd.props)
		}
		c = apply(t, u, unit, x.value)
		if err := os.WriteFile(file, []byte("7\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		restore(t, u, c, Other)
		sd.lazy = true
		if err := os.WriteFile(file, []byte("max\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		state, err := u.Prior(t.Context(), unit)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := u.Write(t.Context(), Change{Target: unit, State: state, Values: []int64{x.value}}); command.ReasonOf(err) != command.ReasonNoEffect {
			t.Errorf("an accepted call that changes no file: %v", err)
		}
	}
}
