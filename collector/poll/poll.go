// Package poll asks the outside from time to time: queries of a Prometheus, and whether a part that somebody else runs answers.
//
// Each item has a phase of its own, so that a thousand of them are spread over their period; a few are asked at once, each within
// a timeout, and of an answer a bounded part is read. What goes wrong is an answer like any other, with the reason in words. It
// judges no values: that is done by who asked.
//
// Run owns all goroutines.
package poll

import (
	"context"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"
)

const (
	workers    = 8
	maxAnswer  = 1 << 20 // bytes of an answer that are read
	firstAsked = 2 * time.Second
)

// Item is something to ask. Of Query, HTTP and TCP exactly one is set.
type Item struct {
	Key   string        // names it in answers
	Query string        // an expression
	HTTP  string        // a URL
	TCP   string        // host:port
	Every time.Duration // above 0
}

// Answer is what came of asking.
type Answer struct {
	Values []float64 // of a query
	Err    error     // of a query: why there is no answer
	State  State     // of a check
	Text   string    // of a check: what was seen
}

// Querier evaluates an expression now: one value of a scalar, one of each series of a vector.
type Querier interface {
	Query(ctx context.Context, expr string) ([]float64, error)
}

// Config of a Poller. All fields are needed.
type Config struct {
	Querier Querier
	Checker Checker
	Timeout time.Duration // of one question
	Now     func() time.Time
	// Tell takes an answer. It is called from several goroutines and must not wait.
	Tell func(key string, a Answer)
	Log  *slog.Logger
}

// Checker finds out whether a part answers; it returns within the context's time.
type Checker interface {
	Check(ctx context.Context, item Item) (up bool, detail string)
}

// Poller asks. Its methods may be called from many goroutines.
type Poller struct {
	cfg  Config
	wake chan struct{} // room for one: the items have changed

	mu      sync.Mutex
	items   map[string]*task
	strikes strikes
}

type task struct {
	Item
	next time.Time
	busy bool
}

// New returns a Poller of nothing; Use gives it something to ask.
func New(cfg Config) *Poller {
	return &Poller{cfg: cfg, wake: make(chan struct{}, 1), items: map[string]*task{}, strikes: strikes{}}
}

// Use replaces the items. Those that are as they were keep their time; new ones are asked within two seconds.
func (p *Poller) Use(items []Item) {
	now := p.cfg.Now()
	p.mu.Lock()
	next := make(map[string]*task, len(items))
	for _, i := range items {
		if old := p.items[i.Key]; old != nil && old.Item == i {
			next[i.Key] = old
			continue
		}
		next[i.Key] = &task{Item: i, next: now.Add(phase(i.Key, min(firstAsked, i.Every)))}
	}
	p.items = next
	p.strikes.keep(next)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// phase spreads keys over a period, always in the same way.
func phase(key string, period time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return time.Duration(h.Sum64() % uint64(period))
}

// Run asks until ctx ends.
func (p *Poller) Run(ctx context.Context) error {
	work := make(chan *task)
	var all sync.WaitGroup
	defer all.Wait()
	defer close(work)
	for range workers {
		all.Go(func() {
			for t := range work {
				p.ask(ctx, t)
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
		}
		due, next := p.due()
		for _, t := range due {
			select {
			case work <- t:
			case <-ctx.Done():
				return nil
			}
		}
		timer.Reset(next)
	}
}

// due returns what is to be asked now, marked as such, and how long nothing else is.
func (p *Poller) due() (due []*task, next time.Duration) {
	now := p.cfg.Now()
	next = time.Minute
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.items {
		if t.next.After(now) {
			next = min(next, t.next.Sub(now))
			continue
		}
		// The next time is at the item's own phase, so that a delay does not bunch them up.
		at := now.Truncate(t.Every).Add(phase(t.Key, t.Every))
		if !at.After(now) {
			at = at.Add(t.Every)
		}
		t.next = at
		next = min(next, at.Sub(now))
		if !t.busy {
			t.busy = true
			due = append(due, t)
		}
	}
	return due, next
}

func (p *Poller) ask(ctx context.Context, t *task) {
	within, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	var a Answer
	if t.Query != "" {
		a.Values, a.Err = p.cfg.Querier.Query(within, t.Query)
		if a.Err != nil {
			p.cfg.Log.Debug("a query has no answer", "key", t.Key, "error", a.Err)
		}
	} else {
		up, detail := p.cfg.Checker.Check(within, t.Item)
		p.mu.Lock()
		a.State, a.Text = p.strikes.judge(t.Key, up, detail, p.cfg.Now())
		p.mu.Unlock()
	}
	p.mu.Lock()
	t.busy = false
	still := p.items[t.Key] == t
	p.mu.Unlock()
	if still && ctx.Err() == nil {
		p.cfg.Tell(t.Key, a)
	}
}
