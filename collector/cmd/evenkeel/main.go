// Command evenkeel is the operator's command. Its verbs are in pkg/ctl.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/evenkeel/evenkeel/pkg/ctl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}
