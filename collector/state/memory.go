package state

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// memoryHistory bounds the changes that a Memory keeps for watches. A watch from before that, or one that falls so far
// behind, breaks, as one on compacted revisions of etcd does.
const memoryHistory = 64 << 10

// Memory is a Store in memory, for tests and for reasoning on files. It forgets all when the process ends. It owns one
// goroutine per watch. Use NewMemory; in a synctest bubble it must be made inside the bubble.
type Memory struct {
	mu       sync.Mutex
	closed   bool
	revision int64
	data     map[string]KV
	history  []Event       // in order; the oldest may have been dropped
	dropped  int           // how many were
	dropRev  int64         // revision of the last one that was
	changed  chan struct{} // closed and replaced by each write
	done     chan struct{} // closed by Close
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{revision: 1, data: map[string]KV{}, changed: make(chan struct{}), done: make(chan struct{})}
}

// Close ends every watch; later calls return ErrUnavailable.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		close(m.done)
	}
	return nil
}

// readyLocked reports why the store cannot answer.
func (m *Memory) readyLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed {
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	return nil
}

// Get returns the key, or ErrNotFound.
func (m *Memory) Get(ctx context.Context, key string) (KV, error) {
	if err := checkKey(key); err != nil {
		return KV{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.readyLocked(ctx); err != nil {
		return KV{}, err
	}
	kv, ok := m.data[key]
	if !ok {
		return KV{}, ErrNotFound
	}
	return kv.clone(), nil
}

// List returns the keys under prefix in order, and the revision at which they were read.
func (m *Memory) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.readyLocked(ctx); err != nil {
		return nil, 0, err
	}
	var kvs []KV
	for _, key := range slices.Sorted(maps.Keys(m.data)) {
		if strings.HasPrefix(key, prefix) {
			kvs = append(kvs, m.data[key].clone())
		}
	}
	return kvs, m.revision, nil
}

// Txn writes ops if every condition holds.
func (m *Memory) Txn(ctx context.Context, conditions []Compare, ops []Op) (held bool, revision int64, err error) {
	if err := checkTxn(conditions, ops); err != nil {
		return false, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.readyLocked(ctx); err != nil {
		return false, 0, err
	}
	for _, c := range conditions {
		if m.data[c.Key].Changed != c.Changed {
			return false, m.revision, nil
		}
	}
	next := m.revision + 1
	for _, o := range ops {
		old, exists := m.data[o.Key]
		switch {
		case o.Delete && exists:
			delete(m.data, o.Key)
			m.history = append(m.history, Event{KV: KV{Key: o.Key, Changed: next}, Deleted: true, Revision: next})
		case !o.Delete:
			kv := KV{Key: o.Key, Value: bytes.Clone(o.Value), Created: next, Changed: next}
			if exists {
				kv.Created = old.Created
			}
			m.data[o.Key] = kv
			m.history = append(m.history, Event{KV: kv, Revision: next})
		default:
			continue // deleting nothing changes nothing
		}
		m.revision = next
	}
	if m.revision == next {
		if over := len(m.history) - memoryHistory; over > memoryHistory {
			m.dropRev = m.history[over-1].Revision
			m.history = slices.Clone(m.history[over:])
			m.dropped += over
		}
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return true, m.revision, nil
}

// Watch sends the changes under prefix after revision, in order, until ctx ends, the store closes, or the watch falls
// further behind than the history that is kept.
func (m *Memory) Watch(ctx context.Context, prefix string, after int64) <-chan Event {
	out := make(chan Event, watchBuffer)
	go func() {
		defer close(out)
		at := 0 // place in all of history, dropped ones included
		for {
			m.mu.Lock()
			if m.closed || at < m.dropped && m.dropRev > after {
				m.mu.Unlock()
				return
			}
			at = max(at, m.dropped)
			batch, changed := m.history[at-m.dropped:], m.changed // elements are never written again
			m.mu.Unlock()
			for _, e := range batch {
				at++
				if e.Revision <= after || !strings.HasPrefix(e.Key, prefix) {
					continue
				}
				e.KV = e.clone()
				select {
				case out <- e:
				case <-ctx.Done():
					return
				case <-m.done:
					return
				}
			}
			if len(batch) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-m.done:
				return
			}
		}
	}()
	return out
}

func (kv KV) clone() KV {
	kv.Value = bytes.Clone(kv.Value)
	return kv
}
