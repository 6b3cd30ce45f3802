// Command evenkeel is the operator's command. Its verbs are in pkg/ctl; the reasoning that runs on files alone is the
// collector's own, and is handed in here.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // calendars mean the same on a machine without a database of time zones

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/pkg/ctl"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, os.Args[1:], ctl.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Reason: answer})
	stop()
	os.Exit(code)
}

func answer(question string, files []manifest.File, o ctl.ReasonOptions) ([]byte, []manifest.Problem, error) {
	opt := picture.Options{At: o.At, Default: o.Default, Set: map[string]string{}, History: o.History}
	for _, s := range o.Set {
		opt.Set[s.Ref], opt.Broke = s.Level, append(opt.Broke, s.Ref)
	}
	return reason.FromFiles(question, files, opt, o.Args)
}
