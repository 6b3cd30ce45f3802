// Command evenkeel is the operator's command. Its verbs are in pkg/ctl; the reasoning that runs on files alone is the
// collector's own, and is handed in here.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // calendars mean the same on a machine without a database of time zones

	"github.com/evenkeel/evenkeel/collector/contact"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/simulate"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/ctl"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, os.Args[1:], ctl.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Offline: offline()})
	stop()
	os.Exit(code)
}

func offline() ctl.Offline {
	return ctl.Offline{Simulate: run, RecoveryPlan: recoveryPlan, SLO: objectives, Contacts: contacts}
}

func options(o ctl.SimulateOptions) simulate.Options {
	out := simulate.Options{Set: o.Set, Broke: o.Order, At: o.At, Default: "ok"}
	if o.Unknown {
		out.Default = "unknown"
	}
	return out
}

func run(files []manifest.File, o ctl.SimulateOptions) ([]byte, []manifest.Problem, error) {
	s, problems := simulate.Run(files, options(o))
	if len(problems) > 0 {
		return nil, problems, nil
	}
	out, err := json.Marshal(s)
	return out, nil, err
}

func recoveryPlan(files []manifest.File, o ctl.SimulateOptions) ([]byte, []manifest.Problem, error) {
	p, problems := simulate.Recover(files, options(o))
	if len(problems) > 0 {
		return nil, problems, nil
	}
	out, err := json.Marshal(p)
	return out, nil, err
}

func objectives(files []manifest.File, o ctl.SLOOptions) ([]byte, []manifest.Problem, error) {
	r, problems := report.Run(files, report.Options{At: o.At, History: o.History, Hours: hours})
	if len(problems) > 0 {
		return nil, problems, nil
	}
	out, err := json.Marshal(r)
	return out, nil, err
}

// hours returns the business hours of a calendar of the set.
func hours(set *manifest.Set, ref manifest.Ref) (slo.Hours, error) {
	spec, ok := manifest.SpecOf[manifest.Calendar](set, ref)
	if !ok {
		return nil, fmt.Errorf("%s is not there", ref)
	}
	return calendar.New(spec)
}

func contacts(files []manifest.File, o ctl.ContactsOptions) ([]byte, []manifest.Problem, error) {
	set, problems := overload.CheckFiles(files)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	a, err := contact.Who(set, manifest.Ref(o.Of), o.At, func(ref manifest.Ref) (contact.Hours, error) { return hours(set, ref) })
	if err != nil {
		return nil, nil, err
	}
	out, err := json.Marshal(a)
	return out, nil, err
}
