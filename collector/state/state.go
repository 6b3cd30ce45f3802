// Package state keeps what the collectors must agree on: resources, incidents, the command ledger, permits, tokens, the
// sealed CA, the audit head. It never holds samples, heartbeats or leases of agents.
//
// Two engines stand behind one Store: an embedded etcd (all etcd imports of the project are here), and an in-memory twin
// for tests. One contract suite runs against both.
package state

import (
	"context"
	"errors"
)

// ErrNotFound is returned by Get for a key that is not there.
var ErrNotFound = errors.New("no such key")

// ErrUnavailable is wrapped by errors that say the engine cannot answer now: stopped, without quorum, or out of space.
var ErrUnavailable = errors.New("state engine is not available")

// KV is one key with its value and the revisions at which it was created and last changed.
type KV struct {
	Key     string
	Value   []byte
	Created int64
	Changed int64
}

// Compare is one condition of a transaction.
type Compare struct {
	Key string
	// Changed is the wanted revision of the last change; 0 demands that the key is absent.
	Changed int64
}

// Op is one write of a transaction: a put, or a delete where Delete is set.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Event is one change seen by a watch.
type Event struct {
	KV
	Deleted  bool
	Revision int64
}

// Store is a linearizable key-value store. Keys are text such as "incident/01J..."; values are at most 64 KiB.
// Implementations may be used from many goroutines.
type Store interface {
	// Get returns the key, or ErrNotFound.
	Get(ctx context.Context, key string) (KV, error)
	// List returns the keys under prefix in order, and the revision at which they were read.
	List(ctx context.Context, prefix string) ([]KV, int64, error)
	// Txn writes ops if every condition holds and returns the revision of the store after it; held is false, and
	// nothing is written, where one does not.
	Txn(ctx context.Context, conditions []Compare, ops []Op) (held bool, revision int64, err error)
	// Watch sends the changes under prefix after revision, in order, until ctx ends or the watch breaks; it then
	// closes the channel. A caller that sees it closed lists again.
	Watch(ctx context.Context, prefix string, after int64) <-chan Event
}

// Put writes one key without a condition and returns the revision.
func Put(ctx context.Context, s Store, key string, value []byte) (int64, error) {
	_, rev, err := s.Txn(ctx, nil, []Op{{Key: key, Value: value}})
	return rev, err
}
