// Command evenkeel is the operator's command. Its verbs are in pkg/ctl; the reasoning that runs on files alone is the
// collector's own, and is handed in here.
package main

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"syscall"

	"github.com/evenkeel/evenkeel/collector/simulate"
	"github.com/evenkeel/evenkeel/pkg/ctl"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, os.Args[1:], ctl.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Offline: offline()})
	stop()
	os.Exit(code)
}

func offline() ctl.Offline { return ctl.Offline{Simulate: run, RecoveryPlan: recoveryPlan} }

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
