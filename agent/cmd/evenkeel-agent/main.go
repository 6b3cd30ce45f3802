// Command evenkeel-agent measures a host and streams what it reads to its collector. It cannot act on the host: that is
// evenkeel-actor's part, and the test of this program's imports holds it to it.
//
// It opens no listening port. The exit codes are 0 done, 1 failed, 2 bad input or usage, 3 cannot reach the collector or
// the agent, 4 refused.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	if os.Getenv("GOMAXPROCS") == "" {
		// One after the other is what an agent has to do. More would only wake each other, and it never takes more than
		// one CPU from its host.
		runtime.GOMAXPROCS(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
