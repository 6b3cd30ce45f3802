package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/effectiveness"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const (
	reviewPrefix = "review/"
	// keptConfirmations is how many confirmations are held; the oldest go first, but for the newest of each item.
	keptConfirmations = 2000
)

// reviewLog keeps who confirmed what. A confirmation is written before it counts.
type reviewLog struct {
	store state.Store
	ids   *ids

	writing sync.Mutex // held over a write, so that what is kept is in the order of its ids
	mu      sync.Mutex
	all     []picture.Confirmation // oldest first
}

// openLogs reads what was changed, and what was reviewed.
func (d *decider) openLogs(ctx context.Context, store state.Store) (err error) {
	if d.changes, err = openChanges(ctx, store, d.ids, d.log); err != nil {
		return err
	}
	d.reviews, err = openReviews(ctx, store, d.ids)
	return err
}

func openReviews(ctx context.Context, store state.Store, ids *ids) (*reviewLog, error) {
	l := &reviewLog{store: store, ids: ids}
	all, _, err := store.List(ctx, reviewPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot read confirmations: %w", err)
	}
	for _, kv := range all {
		var one picture.Confirmation
		if err := json.Unmarshal(kv.Value, &one); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
		l.all = append(l.all, one)
	}
	slices.SortFunc(l.all, func(a, b picture.Confirmation) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return l, nil
}

// list returns all confirmations, oldest first.
func (l *reviewLog) list() []picture.Confirmation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *reviewLog) add(ctx context.Context, one picture.Confirmation) error {
	value, err := json.Marshal(one)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	next := append(l.list(), one)
	ops := []state.Op{{Key: reviewPrefix + one.ID, Value: value}}
	if len(next) > keptConfirmations {
		if old := slices.IndexFunc(next, func(c picture.Confirmation) bool { return newest(next, c.Item) != c.ID }); old >= 0 {
			ops = append(ops, state.Op{Key: reviewPrefix + next[old].ID, Delete: true})
			next = slices.Delete(next, old, old+1)
		}
	}
	if _, _, err := l.store.Txn(ctx, nil, ops); err != nil {
		return err
	}
	l.mu.Lock()
	l.all = next
	l.mu.Unlock()
	return nil
}

// newest returns the id of the last confirmation of an item.
func newest(all []picture.Confirmation, item manifest.Ref) string {
	for _, c := range slices.Backward(all) {
		if c.Item == item {
			return c.ID
		}
	}
	return ""
}

// reviews is what the API asks.
type reviews struct{ *backend }

// Check says why an item cannot be reviewed.
func (b reviews) Check(_ context.Context, item string) error {
	set, graph := b.keeper.Set(), b.decider.snapshot.Load().Graph()
	if item == "" {
		return fmt.Errorf("%w: item is missing: expected %s", api.ErrInvalid, effectiveness.Reviewed)
	}
	if from, to, edge := strings.Cut(item, ">"); edge {
		for _, ref := range []string{from, to} {
			if !graph.Has(manifest.Ref(ref)) {
				return b.stranger(ref, "on the map", manifest.Texts(graph.Refs()))
			}
		}
		if below := graph.RestsOn(manifest.Ref(from)); !slices.Contains(below, manifest.Ref(to)) {
			return fmt.Errorf("%w: %s does not rest on %s: expected one of %s", api.ErrInvalid, from, to, strings.Join(manifest.Texts(below), ", "))
		}
		return nil
	}
	ref := manifest.Ref(item)
	if !effectiveness.May(ref) {
		return fmt.Errorf("%w: %q is nothing that is reviewed: expected %s", api.ErrInvalid, item, effectiveness.Reviewed)
	}
	if _, ok := set.Get(ref); !ok {
		var known []string
		for r := range set.All() {
			if r.Ref().Kind() == ref.Kind() {
				known = append(known, string(r.Ref()))
			}
		}
		return b.stranger(item, "there", known)
	}
	return nil
}

func (b reviews) stranger(ref, where string, known []string) error {
	text := ref + " is not " + where
	if near := manifest.Nearest(ref, known); near != "" {
		text += " (" + near + ")"
	}
	return fmt.Errorf("%w: %s", api.ErrInvalid, text)
}

// Confirm keeps that somebody reviewed an item.
func (b reviews) Confirm(ctx context.Context, item, by, note string) (picture.Confirmation, error) {
	now := b.decider.clock()
	one := picture.Confirmation{ID: b.decider.ids.new(now), Item: manifest.Ref(item), At: now.UTC(), By: by, Note: note}
	return one, b.decider.reviews.add(ctx, one)
}

// Confirmations returns what was confirmed, oldest first.
func (b reviews) Confirmations(context.Context) ([]picture.Confirmation, error) {
	return b.decider.reviews.list(), nil
}
