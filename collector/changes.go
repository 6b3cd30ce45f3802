package collector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const (
	changePrefix = "change/"
	// keptChanges is how many changes are held; the oldest go first.
	keptChanges = 5000
)

// changeLog keeps what was changed, as declared and as observed on hosts. What is declared is written before it is answered; what is
// observed a moment later, on a goroutine of its own: no agent waits for a disk.
type changeLog struct {
	store state.Store
	ids   *ids
	log   *slog.Logger

	mu      sync.Mutex
	all     []picture.Change // by At, then by ID
	pending []picture.Change
	wake    chan struct{} // room for one
}

func openChanges(ctx context.Context, store state.Store, ids *ids, log *slog.Logger) (*changeLog, error) {
	c := &changeLog{store: store, ids: ids, log: log, wake: make(chan struct{}, 1)}
	all, _, err := store.List(ctx, changePrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot read changes: %w", err)
	}
	for _, kv := range all {
		var one picture.Change
		if err := json.Unmarshal(kv.Value, &one); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
		c.all = append(c.all, one)
	}
	slices.SortFunc(c.all, inTime)
	return c, nil
}

func inTime(a, b picture.Change) int {
	if c := a.At.Compare(b.At); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// list returns all changes, oldest first.
func (c *changeLog) list() []picture.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// observed takes in a change that an agent saw.
func (c *changeLog) observed(host string, e session.HostChange) {
	one := picture.Change{
		ID: c.ids.new(e.At), At: e.Made, Kind: e.Kind, Host: host, What: e.What, Before: e.Before, After: e.After,
		Refs: []manifest.Ref{manifest.RefOf(manifest.KindHost, host)},
	}
	if one.At.After(e.At) {
		one.At = e.At // a clock that is ahead
	}
	if component := manifest.Ref(e.Component); component.Kind() == "component" {
		one.Refs = []manifest.Ref{servicemap.MemberRef(component, host)}
	}
	c.mu.Lock()
	// An agent that was cut off may say the same again.
	again := slices.ContainsFunc(c.all, func(o picture.Change) bool {
		return o.Host == host && o.Kind == one.Kind && o.What == one.What && o.Before == one.Before && o.After == one.After && o.At.Equal(one.At)
	})
	if !again {
		c.add(one)
		c.pending = append(c.pending, one)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// add keeps a change in its place. The caller holds mu.
func (c *changeLog) add(one picture.Change) {
	at, _ := slices.BinarySearchFunc(c.all, one, inTime)
	c.all = slices.Insert(c.all, at, one)
}

// run writes what was observed until ctx ends, and lets go of the oldest.
func (c *changeLog) run(ctx context.Context) error {
	retry := time.NewTicker(10 * time.Second)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			c.flush(last)
			return nil
		case <-c.wake:
		case <-retry.C:
		}
		c.flush(ctx)
	}
}

func (c *changeLog) flush(ctx context.Context) {
	c.mu.Lock()
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	for len(pending) > 0 {
		n := min(len(pending), oneWrite)
		if err := c.write(ctx, pending[:n]); err != nil {
			c.log.Warn("changes were not written, it will be tried again", "changes", len(pending), "error", err)
			c.mu.Lock()
			c.pending = append(pending, c.pending...)
			c.mu.Unlock()
			return
		}
		pending = pending[n:]
	}
	c.mu.Lock()
	old := slices.Clone(c.all[:max(0, len(c.all)-keptChanges)])
	c.mu.Unlock()
	for len(old) > 0 {
		n := min(len(old), oneWrite)
		ops := make([]state.Op, n)
		for i, one := range old[:n] {
			ops[i] = state.Op{Key: changePrefix + one.ID, Delete: true}
		}
		if _, _, err := c.store.Txn(ctx, nil, ops); err != nil {
			return // on the next occasion
		}
		c.mu.Lock()
		c.all = slices.DeleteFunc(c.all, func(o picture.Change) bool {
			return slices.ContainsFunc(old[:n], func(gone picture.Change) bool { return gone.ID == o.ID })
		})
		c.mu.Unlock()
		old = old[n:]
	}
}

// oneWrite is how many changes are written at once.
const oneWrite = 64

func (c *changeLog) write(ctx context.Context, some []picture.Change) error {
	ops := make([]state.Op, len(some))
	for i, one := range some {
		value, err := json.Marshal(one)
		if err != nil {
			return err
		}
		ops[i] = state.Op{Key: changePrefix + one.ID, Value: value}
	}
	_, _, err := c.store.Txn(ctx, nil, ops)
	return err
}

// changes is what the API asks.
type changes struct{ *backend }

// Record takes in declared changes: all of them, or none.
func (b changes) Record(ctx context.Context, some []picture.Change) ([]picture.Change, error) {
	graph := b.decider.snapshot.Load().Graph()
	now := b.decider.clock()
	for i := range some {
		one := &some[i]
		if one.At.IsZero() {
			one.At = now
		}
		if one.At.After(now.Add(5 * time.Minute)) {
			return nil, fmt.Errorf("%w: changes[%d].at: %s is in the future; what is planned is a resource of kind Change", api.ErrInvalid, i, one.At.Format(time.RFC3339))
		}
		for _, ref := range one.Refs {
			if !graph.Has(ref) {
				text := fmt.Sprintf("changes[%d].refs: %s is not on the map", i, ref)
				if near := manifest.Nearest(string(ref), manifest.Texts(graph.Refs())); near != "" {
					text += " (" + near + ")"
				}
				return nil, fmt.Errorf("%w: %s", api.ErrInvalid, text)
			}
		}
		one.ID, one.Kind, one.Host, one.At = b.decider.ids.new(now), picture.ChangeDeclared, "", one.At.UTC()
	}
	log := b.decider.changes
	for at := 0; at < len(some); at += oneWrite {
		if err := log.write(ctx, some[at:min(at+oneWrite, len(some))]); err != nil {
			return nil, err
		}
	}
	log.mu.Lock()
	for _, one := range some {
		log.add(one)
	}
	log.mu.Unlock()
	return some, nil
}

// List returns the changes, oldest first.
func (b changes) List(context.Context) ([]picture.Change, error) {
	return b.decider.changes.list(), nil
}
