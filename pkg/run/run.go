// Package run starts the long-lived parts of a daemon together and stops them in a known order.
//
// A Group owns one goroutine per part while Run is going. It restarts nothing: the end of one part is the end of all,
// and whoever started the process decides what comes next. A part that ignores its stop is named in the log and in the
// error, and then left behind, since waiting for it would keep the parts below it from flushing.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// DefaultStopTimeout bounds each part's stop where Group.StopTimeout is 0.
const DefaultStopTimeout = 10 * time.Second

// Group runs parts. The zero Group is ready for use; it may be Run once.
type Group struct {
	// Log receives one line per start and stop. Default: discard.
	Log *slog.Logger
	// StopTimeout is how long each part may take to end after it was told to. Default DefaultStopTimeout.
	StopTimeout time.Duration

	parts []*part
	began bool
}

type part struct {
	name   string
	run    func(ctx context.Context) error
	cancel context.CancelFunc
	done   chan struct{} // closed after err is set
	err    error
}

// Add appends a part. Its run must block until ctx ends or the part cannot go on, and must return only after every
// goroutine that it started has ended. A part may rely on those added before it for as long as it runs. Add must not be
// called once Run was.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	if g.began {
		panic("BUG: run: Add after Run")
	}
	g.parts = append(g.parts, &part{name: name, run: run, done: make(chan struct{})})
}

// Run starts every part in the order of Add and blocks until all have ended or were given up on. The first part to end,
// with or without an error, or the end of ctx, stops the rest: last added first, one at a time, each within StopTimeout.
// It returns the errors of the parts, each with its part's name, joined; nil if the only reason was ctx or a part that
// ended without an error.
func (g *Group) Run(ctx context.Context) error {
	if g.began {
		panic("BUG: run: Run called twice")
	}
	g.began = true
	log := g.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	timeout := g.StopTimeout
	if timeout <= 0 {
		timeout = DefaultStopTimeout
	}
	if len(g.parts) == 0 {
		<-ctx.Done()
		return nil
	}

	// Parts do not see the end of ctx by themselves: all would stop at once, in no order.
	base := context.WithoutCancel(ctx)
	ended := make(chan *part, len(g.parts)) // room for all: a part never waits to report its end
	for _, p := range g.parts {
		var own context.Context
		own, p.cancel = context.WithCancel(base)
		defer p.cancel()
		log.Info("starting", "part", p.name)
		go func() {
			defer func() {
				close(p.done)
				ended <- p
			}()
			p.err = p.run(own)
		}()
	}

	select {
	case <-ctx.Done():
		log.Info("stopping", "cause", "asked")
	case p := <-ended:
		if p.err != nil {
			log.Error("stopping", "cause", "part ended", "part", p.name, "error", p.err)
		} else {
			log.Info("stopping", "cause", "part ended", "part", p.name)
		}
	}

	var errs []error
	for i := len(g.parts) - 1; i >= 0; i-- {
		if err := g.parts[i].stop(log, timeout); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stop ends one part and returns what is to be said of it.
func (p *part) stop(log *slog.Logger, timeout time.Duration) error {
	select {
	case <-p.done: // ended by itself, so even "context canceled" is news
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.name, p.err)
		}
		return nil
	default:
	}
	began := time.Now()
	p.cancel()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		log.Error("part did not stop in time and is left behind", "part", p.name, "timeout", timeout)
		return fmt.Errorf("%s: did not stop within %v", p.name, timeout)
	}
	log.Info("stopped", "part", p.name, "took", time.Since(began))
	if p.err != nil && !errors.Is(p.err, context.Canceled) {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}
