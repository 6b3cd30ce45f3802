package remedy

import (
	"context"
	"sync"
)

// trail appends to the audit log, in order, on a goroutine of its own: log and ledger are on their way to the disk at the
// same time, and the record of one host's result delays no other host's command. Whoever must not act without a record
// waits for it. It is used from the executor's goroutine.
type trail struct {
	lines chan line // at most trailQueue; when full the executor waits, since nothing may go unrecorded
	done  sync.WaitGroup
}

// line is an entry of the log that is being written.
type line struct {
	who, what, subject, outcome, detail string
	written                             chan struct{}
}

const trailQueue = 64

// start begins to write; stop returns when everything is written.
func (t *trail) start(ctx context.Context, log Auditor, failed func(subject string, err error)) {
	t.lines = make(chan line, trailQueue)
	ctx = context.WithoutCancel(ctx) // what was done is recorded, also while stopping
	t.done.Go(func() {
		for l := range t.lines {
			if err := log.Append(ctx, l.who, l.what, l.subject, l.outcome, l.detail); err != nil {
				failed(l.subject, err)
			}
			close(l.written)
		}
	})
}

func (t *trail) stop() {
	close(t.lines)
	t.done.Wait()
}

// put hands in an entry and returns what is closed once it has been written, or could not be.
func (t *trail) put(who, what, subject, outcome, detail string) <-chan struct{} {
	l := line{who, what, subject, outcome, detail, make(chan struct{})}
	t.lines <- l
	return l.written
}
