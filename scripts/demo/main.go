// Command evenkeel-demo shows the whole loop on this machine: two services of different value share it, the cheap one takes
// every CPU, and Evenkeel sees it, weighs it, squeezes the cheap one, proves the effect and takes the squeeze back.
//
// It starts real processes only: evenkeel-collector dev (which starts an agent and an actor), a request server and a
// batch job. It exits 0 only if the batch job at least doubled the server's p95, the p95 came back, and everything was
// taken back. KEEP=1 leaves it running at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/scripts/demo/stage"
)

func main() {
	d := &demo{out: os.Stdout, keep: os.Getenv("KEEP") == "1"}
	flag.StringVar(&d.State, "state", "", "folder for everything that the demo writes (default: a new one under .state)")
	flag.StringVar(&d.sabotage, "break", "", "break the demo on purpose, to see it fail: permissions, batch or actor")
	flag.BoolVar(&d.session, "session", false, "do as if not root: one session and process.affinity")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := d.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo failed: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// limit is how long the demo may take, whatever happens.
const limit = 85 * time.Second

// run is the demo from beginning to end. Whatever was started is stopped on every way out.
func (d *demo) run(ctx context.Context) (err error) {
	// Processes die with the thread that started them, so that one must live as long as this does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	bounded, cancel := context.WithTimeoutCause(ctx, limit, errors.New("it took longer than 85 seconds"))
	defer cancel()
	switch d.sabotage {
	case "", "permissions", "batch", "actor":
	default:
		return fmt.Errorf("--break %s: expected permissions, batch or actor", d.sabotage)
	}
	if d.Bin, err = stage.Binaries(); err != nil {
		return err
	}
	if d.State == "" {
		if err := os.MkdirAll(".state", 0o755); err != nil {
			return err
		}
		if d.State, err = os.MkdirTemp(".state", "demo-"); err != nil {
			return err
		}
	}
	if d.State, err = filepath.Abs(d.State); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if err := d.tour(bounded); err != nil {
		if cause := context.Cause(bounded); bounded.Err() != nil && ctx.Err() == nil {
			return errors.Join(cause, err)
		}
		return err
	}
	if d.keep {
		fmt.Fprintf(d.out, "\nKEEP=1: it goes on running until you press Ctrl-C. Ask it with\n  export EVENKEEL_CONTEXT=%s\n  %s map\n",
			d.ContextFile(), filepath.Join(d.Bin, "evenkeel"))
		<-ctx.Done()
	}
	return nil
}
