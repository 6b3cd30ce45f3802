// Command evenkeel-soak kills Evenkeel at random moments, again and again, and then proves that nothing was lost, nothing
// was done twice and everything was taken back.
//
// It runs the real programs from bin/ in a folder of their own: a collector, an agent, an actor under strace, a small
// request server and a batch job that overloads it. Each round it ends one to three of collector, agent and actor with
// SIGKILL, at a moment drawn by a seed or in the very moment after something happened, and starts them again.
//
// Three witnesses, none of which believes a program's own word. A process that is never killed speaks the agents'
// protocol itself, and keeps in a file that it fsyncs what it sent and what was acked: each acked sample must be found by
// query, with its value. The agent's spool holds what the real agent read, and must be found likewise. strace, outside
// the actor, counts what was written to the cgroup: once for each command, and back again for each. The exit code is 1
// when any of it does not hold. It needs root, a writable cpu hierarchy and strace.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// options is what a run is asked for.
type options struct {
	rounds int
	length time.Duration
	seed   uint64
	state  string
	bin    string
	keep   bool
	action string
}

func main() {
	var o options
	var witness string
	flag.IntVar(&o.rounds, "rounds", 50, "rounds of kills")
	flag.DurationVar(&o.length, "duration", 10*time.Minute, "at most this long; rounds that do not fit in are left out, and counted as missing")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of every random choice")
	flag.StringVar(&o.state, "state", "", "new folder for everything (default: one under /tmp)")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.StringVar(&o.action, "action", weight, "what commands do: cpu.weight or process.affinity")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder also when all is well")
	flag.StringVar(&witness, "witness", "", "be the witness, with its files in this folder; the join string comes by standard input")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if witness != "" {
		err = bearWitness(ctx, witness, os.Stdin)
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// settling is about how long the last word takes once the rounds are over: leases end, everything is looked up.
const settling = 90 * time.Second

// run is one soak from beginning to end. Whatever was started is ended on every way out.
func run(ctx context.Context, o options) (err error) {
	// Programs die with the thread that started them, so that one must live as long as this does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if o.action != weight && o.action != affinity {
		return fmt.Errorf("--action %s: expected %s or %s", o.action, weight, affinity)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, o.length+3*settling, errors.New("the soak took too long"))
	defer cancel()
	fmt.Printf("soak: %d rounds of %s in at most %s, seed %d\n", o.rounds, o.action, o.length, o.seed)
	w, err := newWorld(o)
	if err != nil {
		return err
	}
	defer func() {
		w.close()
		if err != nil || o.keep {
			fmt.Printf("soak: logs, traces and states are kept in %s\n", w.dir)
		} else {
			err = os.RemoveAll(w.dir)
		}
	}()
	if err := w.start(ctx); err != nil {
		return fmt.Errorf("cannot begin: %w", err)
	}
	fmt.Printf("soak: everything runs after %s, in %s\n", since(began), w.dir)
	kills, err := w.rounds(ctx, o.rounds, began.Add(o.length))
	if err != nil {
		return err
	}
	r, err := w.judge(ctx)
	if err != nil {
		return err
	}
	r.kills, r.wanted, r.took = kills, o.rounds, time.Since(began)
	return r.print(o.seed)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until tries until the condition gives nil, at most for patience; the last error is what it fails with.
func until(ctx context.Context, patience time.Duration, what string, condition func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: %w", what, patience, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
