package collector

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/state"
)

// feed passes changes of things with ids to any number of readers. A reader that lags loses older versions of a thing,
// never the newest; nothing waits for a reader.
type feed[T any] struct {
	mu      sync.Mutex
	readers map[*reader[T]]struct{}
}

type reader[T any] struct {
	wake   chan struct{} // room for one
	order  []string
	newest map[string]T
}

func newFeed[T any]() *feed[T] { return &feed[T]{readers: map[*reader[T]]struct{}{}} }

func (f *feed[T]) publish(id string, v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.put(id, v)
	}
}

func (r *reader[T]) put(id string, v T) {
	if _, waiting := r.newest[id]; !waiting {
		r.order = append(r.order, id)
	}
	r.newest[id] = v
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// watch sends first what it is given, then every change, until ctx ends; it then closes the channel.
func (f *feed[T]) watch(ctx context.Context, first map[string]T) <-chan T {
	r := &reader[T]{wake: make(chan struct{}, 1), newest: map[string]T{}}
	f.mu.Lock()
	f.readers[r] = struct{}{}
	for id, v := range first {
		r.put(id, v)
	}
	f.mu.Unlock()
	out := make(chan T)
	go func() {
		defer close(out)
		defer func() {
			f.mu.Lock()
			delete(f.readers, r)
			f.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
			}
			for {
				f.mu.Lock()
				if len(r.order) == 0 {
					f.mu.Unlock()
					break
				}
				id := r.order[0]
				v := r.newest[id]
				r.order = r.order[1:]
				delete(r.newest, id)
				f.mu.Unlock()
				select {
				case out <- v:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// bell wakes everybody who waits for something to change.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func newBell() *bell { return &bell{ch: make(chan struct{})} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}

// next returns a channel that is closed when the bell rings next.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

const incidentPrefix = "incident/"

// records writes incidents to the state engine, the newest version of each, on a goroutine of its own, a moment after they
// changed: a decision does not wait for the record of what it is about, nor does its command queue behind it.
type records struct {
	store state.Store
	log   *slog.Logger

	mu      sync.Mutex
	pending map[string]incident.Incident
	wake    chan struct{} // room for one
}

func newRecords(store state.Store, log *slog.Logger) *records {
	return &records{store: store, log: log, pending: map[string]incident.Incident{}, wake: make(chan struct{}, 1)}
}

func (r *records) put(i incident.Incident) {
	r.mu.Lock()
	r.pending[i.ID] = i
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what is left.
func (r *records) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			r.flush(last)
			return nil
		case <-r.wake:
			select {
			case <-ctx.Done():
				continue
			case <-time.After(settle):
			}
			r.flush(ctx)
		}
	}
}

// settle is how long after its first change an incident is written. Its opening and the command that answers it are a few
// milliseconds apart, and the state engine writes in turn.
const settle = 100 * time.Millisecond

func (r *records) flush(ctx context.Context) {
	r.mu.Lock()
	pending := r.pending
	r.pending = map[string]incident.Incident{}
	r.mu.Unlock()
	for id, i := range pending {
		value, err := json.Marshal(i)
		if err == nil {
			_, err = state.Put(ctx, r.store, incidentPrefix+id, value)
		}
		if err == nil {
			continue
		}
		r.log.Warn("incident was not written, it will be tried again", "incident", id, "error", err)
		r.mu.Lock()
		if _, newer := r.pending[id]; !newer {
			r.pending[id] = i
		}
		r.mu.Unlock()
		time.AfterFunc(time.Second, func() {
			select {
			case r.wake <- struct{}{}:
			default:
			}
		})
	}
}
