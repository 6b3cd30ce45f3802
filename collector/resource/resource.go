// Package resource keeps the reviewed text: every resource that operators applied, in the state engine, and the set of all
// of them in memory for those who reason.
//
// It checks before it writes: one mistake in what was handed in, and nothing changes. A resource that others still refer
// to is not deleted. What the project ships (its detectors) is there from the start, cannot be deleted, and gives way to
// an applied resource of the same name. A Keeper may be used from many goroutines and owns none.
package resource

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The errors of a Keeper.
var (
	ErrNotFound = errors.New("no such resource")
	ErrReferred = errors.New("others still refer to it")
	ErrShipped  = errors.New("it is shipped with Evenkeel")
	ErrConflict = errors.New("somebody else changed the resources at the same moment: try again")
)

const prefix = "resource/"

// record is a stored resource.
type record struct {
	Version   int             `json:"version"`
	Resource  json.RawMessage `json:"resource"`
	ChangedAt time.Time       `json:"changedAt"`
	ChangedBy string          `json:"changedBy"`
	PricedAt  time.Time       `json:"pricedAt,omitzero"`
	PricedBy  string          `json:"pricedBy,omitempty"`
	Former    []manifest.Ref  `json:"former,omitempty"`
}

const version = 1

// Stored is a resource with what is known of its last change. ChangedAt is zero for what is shipped.
type Stored struct {
	Resource  *manifest.Resource
	Revision  int64
	ChangedAt time.Time
	ChangedBy string
	// PricedAt and PricedBy say when the value of a service became what it is, and who applied that; zero where there is none.
	PricedAt time.Time
	PricedBy string
	// Former are the names that it had before, the first one first. It is not to be changed.
	Former []manifest.Ref
}

// Config is what a Keeper needs.
type Config struct {
	Store state.Store
	// Shipped is what is there without having been applied.
	Shipped *manifest.Set
	Clock   func() time.Time
	// Judge says what is wrong with a set that is well formed, in the eyes of those who reason with it. May be nil.
	Judge func(*manifest.Set) []manifest.Problem
	// Changed is called with the new set after each change, on the goroutine of the one who made it, which waits: it must not
	// call the Keeper but for Set. May be nil.
	Changed func(*manifest.Set)
}

// Keeper keeps the resources.
type Keeper struct {
	cfg Config

	mu     sync.Mutex // one writer at a time
	stored map[manifest.Ref]Stored
	set    atomic.Pointer[manifest.Set]
}

// Open reads every resource.
func Open(ctx context.Context, cfg Config) (*Keeper, error) {
	if cfg.Changed == nil {
		cfg.Changed = func(*manifest.Set) {}
	}
	if cfg.Judge == nil {
		cfg.Judge = func(*manifest.Set) []manifest.Problem { return nil }
	}
	k := &Keeper{cfg: cfg, stored: map[manifest.Ref]Stored{}}
	all, _, err := cfg.Store.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot read resources: %w", err)
	}
	for _, kv := range all {
		var rec record
		if err := json.Unmarshal(kv.Value, &rec); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
		if rec.Version != version {
			return nil, fmt.Errorf("cannot read %s: its format %d is not known to this version, which writes %d", kv.Key, rec.Version, version)
		}
		r, err := manifest.Decode(rec.Resource)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
		k.stored[r.Ref()] = Stored{r, kv.Changed, rec.ChangedAt, rec.ChangedBy, rec.PricedAt, rec.PricedBy, rec.Former}
	}
	k.publishLocked()
	return k, nil
}

// Set returns all resources, shipped ones included. It is never changed.
func (k *Keeper) Set() *manifest.Set { return k.set.Load() }

func (k *Keeper) publishLocked() {
	all := make([]*manifest.Resource, 0, len(k.stored))
	for _, s := range k.stored {
		all = append(all, s.Resource)
	}
	k.set.Store(k.cfg.Shipped.Merge(manifest.NewSet(all...)))
}

// check parses files and says what is wrong with them against what is there. hosts are the names of hosts that are not
// resources but may be referred to.
func (k *Keeper) check(files []manifest.File, hosts []string) (*manifest.Set, []manifest.Problem) {
	set, problems := manifest.CheckFiles(files, k.Set(), hosts...)
	if len(problems) == 0 && set.Len() == 0 {
		problems = []manifest.Problem{{Text: "there is no document in what was handed in"}}
	}
	// Tests lie beside a map, and are for those who write it.
	var kept []*manifest.Resource
	for r := range set.All() {
		if r.Kind != manifest.KindMapTest {
			kept = append(kept, r)
		}
	}
	set = manifest.NewSet(kept...)
	if len(problems) == 0 {
		problems = k.cfg.Judge(set)
	}
	return set, problems
}

// changes returns what applying set does; applying deletes nothing.
func (k *Keeper) changes(set *manifest.Set) []manifest.Change {
	var out []manifest.Change
	for _, c := range manifest.Diff(k.Set(), k.Set().Merge(set)) {
		if _, ours := set.Get(c.Ref); ours {
			out = append(out, c)
		}
	}
	return out
}

// Diff says what Apply would do, or what is wrong.
func (k *Keeper) Diff(_ context.Context, files []manifest.File, hosts []string) ([]manifest.Change, []manifest.Problem) {
	set, problems := k.check(files, hosts)
	if len(problems) > 0 {
		return nil, problems
	}
	return k.changes(set), nil
}

// Apply makes what files say so, in one transaction, or says what is wrong and changes nothing.
func (k *Keeper) Apply(ctx context.Context, files []manifest.File, hosts []string, by string) ([]manifest.Change, []manifest.Problem, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set, problems := k.check(files, hosts)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	changes := k.changes(set)
	var conditions []state.Compare
	var ops []state.Op
	next := map[manifest.Ref]*Stored{}
	now := k.cfg.Clock().UTC()
	for _, c := range changes {
		if c.Verb == manifest.Unchanged {
			continue
		}
		r, _ := set.Get(c.Ref)
		before, known := k.stored[cmp.Or(c.From, c.Ref)]
		s := follow(before, known, Stored{Resource: r, ChangedAt: now, ChangedBy: by})
		value, err := encode(s)
		if err != nil {
			return nil, nil, err
		}
		conditions = append(conditions, state.Compare{Key: key(c.Ref), Changed: k.stored[c.Ref].Revision})
		ops = append(ops, state.Op{Key: key(c.Ref), Value: value})
		next[c.Ref] = &s
		if c.From != "" {
			conditions = append(conditions, state.Compare{Key: key(c.From), Changed: k.stored[c.From].Revision})
			ops = append(ops, state.Op{Key: key(c.From), Delete: true})
			next[c.From] = nil
		}
	}
	if err := k.commitLocked(ctx, conditions, ops, next); err != nil {
		return nil, nil, err
	}
	return changes, nil, nil
}

func (k *Keeper) commitLocked(ctx context.Context, conditions []state.Compare, ops []state.Op, next map[manifest.Ref]*Stored) error {
	if len(ops) == 0 {
		return nil
	}
	held, revision, err := k.cfg.Store.Txn(ctx, conditions, ops)
	if err != nil {
		return fmt.Errorf("cannot change resources: %w", err)
	}
	if !held {
		return ErrConflict
	}
	for ref, s := range next {
		if s == nil {
			delete(k.stored, ref)
			continue
		}
		s.Revision = revision
		k.stored[ref] = *s
	}
	k.publishLocked()
	k.cfg.Changed(k.Set())
	return nil
}

func encode(s Stored) ([]byte, error) {
	doc, err := manifest.Encode(s.Resource)
	if err != nil {
		return nil, err
	}
	return json.Marshal(record{version, doc, s.ChangedAt, s.ChangedBy, s.PricedAt, s.PricedBy, s.Former})
}

func key(ref manifest.Ref) string { return prefix + string(ref) }

// Get returns one resource, or ErrNotFound.
func (k *Keeper) Get(kind, name string) (Stored, error) {
	ref := manifest.RefOf(singular(kind), name)
	r, ok := k.Set().Get(ref)
	if !ok {
		return Stored{}, fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	return k.with(r), nil
}

func (k *Keeper) with(r *manifest.Resource) Stored {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.stored[r.Ref()]; ok {
		return s
	}
	return Stored{Resource: r, ChangedBy: "shipped"}
}

// List returns the resources of a kind, or all, whose labels match, in the order of their references.
func (k *Keeper) List(kind string, match func(labels map[string]string) bool) []Stored {
	var out []Stored
	for r := range k.Set().All() {
		if (kind == "" || strings.EqualFold(r.Kind, singular(kind))) && match(r.Metadata.Labels) {
			out = append(out, k.with(r))
		}
	}
	return out
}

// singular lets people write "services" and "remediationpolicies".
func singular(kind string) string {
	kind = strings.ToLower(kind)
	if s, ok := strings.CutSuffix(kind, "policies"); ok {
		return s + "policy"
	}
	return strings.TrimSuffix(kind, "s")
}

// Delete takes one resource away, unless others refer to it.
func (k *Keeper) Delete(ctx context.Context, kind, name string) (manifest.Ref, error) {
	ref := manifest.RefOf(singular(kind), name)
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.stored[ref]
	if !ok {
		if _, shipped := k.cfg.Shipped.Get(ref); shipped {
			return ref, fmt.Errorf("cannot delete %s: %w; apply one of the same name to change it", ref, ErrShipped)
		}
		return ref, fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	if _, shipped := k.cfg.Shipped.Get(ref); !shipped {
		if by := k.Set().Referrers(ref); len(by) > 0 {
			return ref, fmt.Errorf("cannot delete %s: %w: %s", ref, ErrReferred, refs(by))
		}
	}
	return ref, k.commitLocked(ctx, []state.Compare{{Key: key(ref), Changed: s.Revision}}, []state.Op{{Key: key(ref), Delete: true}},
		map[manifest.Ref]*Stored{ref: nil})
}

func refs(all []manifest.Ref) string {
	s := make([]string, len(all))
	for i, r := range all {
		s[i] = string(r)
	}
	return strings.Join(s, ", ")
}
