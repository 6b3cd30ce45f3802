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
	code := ctl.Run(ctx, os.Args[1:], ctl.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Offline: ctl.Offline{Simulate: run}})
	stop()
	os.Exit(code)
}

func run(files []manifest.File, o ctl.SimulateOptions) ([]byte, []manifest.Problem, error) {
	options := simulate.Options{Set: o.Set, At: o.At, Default: "ok"}
	if o.Unknown {
		options.Default = "unknown"
	}
	s, problems := simulate.Run(files, options)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	out, err := json.Marshal(s)
	return out, nil, err
}
