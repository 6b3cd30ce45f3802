package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/state"
)

// closer is what every engine also is.
type closer interface {
	state.Store
	Close() error
}

// contract runs the one suite that says what a Store is. begin is the revision of the empty store: each test works under
// a prefix of its own, so one engine serves all.
func contract(t *testing.T, open func(t *testing.T) closer) {
	shared := open(t)
	run := func(name string, test func(t *testing.T, s state.Store, p string)) {
		t.Run(name, func(t *testing.T) { test(t, shared, strings.ReplaceAll(name, " ", "-")+"/") })
	}

	run("get", func(t *testing.T, s state.Store, p string) {
		if _, err := s.Get(t.Context(), p+"a"); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("absent key: %v", err)
		}
		r1 := put(t, s, p+"a", "one")
		r2 := put(t, s, p+"a", "two")
		if r2 <= r1 {
			t.Errorf("revisions %d then %d", r1, r2)
		}
		got, err := s.Get(t.Context(), p+"a")
		want := state.KV{Key: p + "a", Value: []byte("two"), Created: r1, Changed: r2}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})

	run("a value can be empty", func(t *testing.T, s state.Store, p string) {
		put(t, s, p+"a", "")
		if kv, err := s.Get(t.Context(), p+"a"); err != nil || len(kv.Value) != 0 || kv.Changed == 0 {
			t.Errorf("%+v, %v", kv, err)
		}
	})

	run("values are copies", func(t *testing.T, s state.Store, p string) {
		mine := []byte("mine")
		if _, err := state.Put(t.Context(), s, p+"a", mine); err != nil {
			t.Fatal(err)
		}
		mine[0] = 'X'
		kv, _ := s.Get(t.Context(), p+"a")
		kv.Value[1] = 'Y'
		if again, _ := s.Get(t.Context(), p+"a"); string(again.Value) != "mine" {
			t.Errorf("the store holds %q", again.Value)
		}
	})

	run("list", func(t *testing.T, s state.Store, p string) {
		for _, k := range []string{"b", "a/2", "a/1", "a", "c"} {
			put(t, s, p+k, k)
		}
		last := put(t, s, p+"a/3", "a/3")
		kvs, rev, err := s.List(t.Context(), p+"a/")
		if err != nil || rev != last {
			t.Errorf("revision %d, %v, want %d", rev, err, last)
		}
		if got, want := keys(kvs, p), "a/1 a/2 a/3"; got != want {
			t.Errorf("keys %q, want %q", got, want)
		}
		if kvs, _, err := s.List(t.Context(), p+"nothing"); err != nil || len(kvs) != 0 {
			t.Errorf("%v, %v", kvs, err)
		}
		all, _, err := s.List(t.Context(), "")
		if err != nil || len(all) < 6 {
			t.Errorf("all: %d keys, %v", len(all), err)
		}
	})

	run("conditions", func(t *testing.T, s state.Store, p string) {
		r := put(t, s, p+"a", "1")
		tests := map[string]struct {
			conditions []state.Compare
			held       bool
		}{
			"none":                    {nil, true},
			"current":                 {[]state.Compare{{Key: p + "a", Changed: r}}, true},
			"older":                   {[]state.Compare{{Key: p + "a", Changed: r - 1}}, false},
			"newer":                   {[]state.Compare{{Key: p + "a", Changed: r + 1}}, false},
			"absent and is":           {[]state.Compare{{Key: p + "none"}}, true},
			"absent but is there":     {[]state.Compare{{Key: p + "a"}}, false},
			"there but is absent":     {[]state.Compare{{Key: p + "none", Changed: 1}}, false},
			"all must hold":           {[]state.Compare{{Key: p + "a", Changed: r}, {Key: p + "a", Changed: r - 1}}, false},
			"several that hold":       {[]state.Compare{{Key: p + "a", Changed: r}, {Key: p + "none"}}, true},
			"a prefix is not the key": {[]state.Compare{{Key: p}}, true},
		}
		i := 0
		for name, tt := range tests {
			i++
			mark := fmt.Sprintf("%smark/%d", p, i)
			held, rev, err := s.Txn(t.Context(), tt.conditions, []state.Op{{Key: mark, Value: []byte("x")}})
			if err != nil || held != tt.held {
				t.Errorf("%s: held %v, %v, want %v", name, held, err, tt.held)
			}
			kv, err := s.Get(t.Context(), mark)
			if written := err == nil; written != tt.held || written && kv.Changed != rev {
				t.Errorf("%s: written %v (%v) at %d, said %d", name, written, err, kv.Changed, rev)
			}
		}
	})

	run("conditions see the store before the writes", func(t *testing.T, s state.Store, p string) {
		held, _, err := s.Txn(t.Context(), []state.Compare{{Key: p + "a"}}, []state.Op{{Key: p + "a", Value: []byte("1")}})
		if err != nil || !held {
			t.Errorf("%v, %v", held, err)
		}
	})

	run("all writes of a transaction have one revision", func(t *testing.T, s state.Store, p string) {
		put(t, s, p+"old", "x")
		_, rev, err := s.Txn(t.Context(), nil, []state.Op{
			{Key: p + "b", Value: []byte("1")}, {Key: p + "old", Delete: true}, {Key: p + "a", Value: []byte("2")},
		})
		if err != nil {
			t.Fatal(err)
		}
		kvs, at, err := s.List(t.Context(), p)
		if err != nil || at != rev || keys(kvs, p) != "a b" || kvs[0].Changed != rev || kvs[1].Changed != rev {
			t.Errorf("%+v at %d, %v, want revision %d", kvs, at, err, rev)
		}
	})

	run("delete", func(t *testing.T, s state.Store, p string) {
		r1 := put(t, s, p+"a", "1")
		_, r2, err := s.Txn(t.Context(), nil, []state.Op{{Key: p + "a", Delete: true}})
		if err != nil || r2 <= r1 {
			t.Fatalf("revision %d after %d, %v", r2, r1, err)
		}
		if _, err := s.Get(t.Context(), p+"a"); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("deleted key: %v", err)
		}
		_, r3, err := s.Txn(t.Context(), nil, []state.Op{{Key: p + "a", Delete: true}})
		if err != nil || r3 != r2 {
			t.Errorf("deleting nothing: revision %d, %v, want %d", r3, err, r2)
		}
		r4 := put(t, s, p+"a", "2")
		if kv, err := s.Get(t.Context(), p+"a"); err != nil || kv.Created != r4 {
			t.Errorf("a key that came back: %+v, %v, want created %d", kv, err, r4)
		}
	})

	run("a transaction without writes reads the revision", func(t *testing.T, s state.Store, p string) {
		want := put(t, s, p+"a", "1")
		held, rev, err := s.Txn(t.Context(), []state.Compare{{Key: p + "a", Changed: want}}, nil)
		if err != nil || !held || rev != want {
			t.Errorf("%v at %d, %v, want %d", held, rev, err, want)
		}
	})

	run("limits", func(t *testing.T, s state.Store, p string) {
		big := bytes.Repeat([]byte("v"), state.MaxValue)
		if _, err := state.Put(t.Context(), s, p+"big", big); err != nil {
			t.Fatal(err)
		}
		if kv, err := s.Get(t.Context(), p+"big"); err != nil || !bytes.Equal(kv.Value, big) {
			t.Errorf("large value: %d bytes, %v", len(kv.Value), err)
		}
		many := make([]state.Op, state.MaxTxnOps)
		for i := range many {
			many[i] = state.Op{Key: fmt.Sprintf("%smany/%d", p, i), Value: []byte("x")}
		}
		if held, _, err := s.Txn(t.Context(), nil, many); err != nil || !held {
			t.Errorf("%d writes: %v, %v", len(many), held, err)
		}
		full := make([]state.Op, 15)
		for i := range full {
			full[i] = state.Op{Key: fmt.Sprintf("%sfull/%d", p, i), Value: big}
		}
		if held, _, err := s.Txn(t.Context(), nil, full); err != nil || !held {
			t.Errorf("nearly 1 MiB: %v, %v", held, err)
		}
		refused := map[string][]state.Op{
			"value too large":       {{Key: p + "x", Value: append(big, 'v')}},
			"empty key":             {{Value: []byte("x")}},
			"key too long":          {{Key: strings.Repeat("k", state.MaxKey+1)}},
			"written twice":         {{Key: p + "x"}, {Key: p + "x", Delete: true}},
			"too many writes":       append(many, state.Op{Key: p + "one more"}),
			"transaction too large": append(full, state.Op{Key: p + "y", Value: big}, state.Op{Key: p + "z", Value: big}),
		}
		for name, ops := range refused {
			if _, _, err := s.Txn(t.Context(), nil, ops); !errors.Is(err, state.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := s.Get(t.Context(), ""); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("get of the empty key: %v", err)
		}
	})

	run("an ended context", func(t *testing.T, s state.Store, p string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Get(ctx, p+"a"); !errors.Is(err, context.Canceled) {
			t.Errorf("get: %v", err)
		}
		if _, _, err := s.List(ctx, p); !errors.Is(err, context.Canceled) {
			t.Errorf("list: %v", err)
		}
		if _, err := state.Put(ctx, s, p+"a", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("put: %v", err)
		}
		for range s.Watch(ctx, p, 0) {
			t.Error("an event")
		}
	})

	run("watch", func(t *testing.T, s state.Store, p string) {
		put(t, s, p+"a", "before")
		_, after, err := s.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		r1 := put(t, s, p+"a", "missed")
		ctx, cancel := context.WithCancel(t.Context())
		events := s.Watch(ctx, p, after)
		put(t, s, "elsewhere/"+p, "not ours")
		_, r2, err := s.Txn(t.Context(), nil, []state.Op{{Key: p + "c", Value: []byte("c")}, {Key: p + "a", Delete: true}, {Key: p + "b", Value: []byte("b")}})
		if err != nil {
			t.Fatal(err)
		}
		r3 := put(t, s, p+"a", "again")
		want := []state.Event{
			{KV: state.KV{Key: p + "a", Value: []byte("missed"), Created: after, Changed: r1}, Revision: r1},
			{KV: state.KV{Key: p + "c", Value: []byte("c"), Created: r2, Changed: r2}, Revision: r2},
			{KV: state.KV{Key: p + "a", Changed: r2}, Deleted: true, Revision: r2},
			{KV: state.KV{Key: p + "b", Value: []byte("b"), Created: r2, Changed: r2}, Revision: r2},
			{KV: state.KV{Key: p + "a", Value: []byte("again"), Created: r3, Changed: r3}, Revision: r3},
		}
		var got []state.Event
		for range want {
			got = append(got, <-events)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		cancel()
		for e := range events {
			t.Errorf("after the end: %+v", e)
		}
	})

	run("watch keeps order among many writers and readers", func(t *testing.T, s state.Store, p string) {
		const writers, each, readers = 4, 100, 3
		_, after, err := s.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var seen [readers][]state.Event
		var wg sync.WaitGroup
		for i := range readers {
			events := s.Watch(ctx, p, after)
			wg.Go(func() {
				for range writers * each {
					seen[i] = append(seen[i], <-events)
				}
			})
		}
		for w := range writers {
			wg.Go(func() {
				for range each { // each adds 1 to a shared count: lost updates would show
					for {
						var c state.Compare
						n := 0
						kv, err := s.Get(ctx, p+"n")
						if err == nil {
							c.Changed = kv.Changed
							_, _ = fmt.Sscan(string(kv.Value), &n)
						} else if !errors.Is(err, state.ErrNotFound) {
							t.Errorf("writer %d: %v", w, err)
							return
						}
						c.Key = p + "n"
						held, _, err := s.Txn(ctx, []state.Compare{c}, []state.Op{{Key: p + "n", Value: fmt.Append(nil, n+1)}})
						if err != nil {
							t.Errorf("writer %d: %v", w, err)
							return
						}
						if held {
							break
						}
					}
				}
			})
		}
		wg.Wait()
		for i := range readers {
			for n, e := range seen[i] {
				if string(e.Value) != fmt.Sprint(n+1) {
					t.Fatalf("reader %d: event %d holds %s", i, n, e.Value)
				}
			}
		}
	})

	run("watch of what comes much later", func(t *testing.T, s state.Store, p string) {
		r := put(t, s, p+"a", "1")
		events := s.Watch(t.Context(), p, r+2)
		put(t, s, p+"a", "2")
		put(t, s, p+"a", "3")
		last := put(t, s, p+"a", "4")
		if e := <-events; string(e.Value) != "4" || e.Revision != last {
			t.Errorf("%+v, want revision %d", e, last)
		}
	})

	run("incarnation", func(t *testing.T, s state.Store, _ string) {
		const callers = 4
		var ids [callers]string
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				id, inc, err := state.Incarnation(t.Context(), s)
				if err != nil || inc != 1 || id == "" {
					t.Errorf("%q, %d, %v", id, inc, err)
				}
				ids[i] = id
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("ids %q differ", ids)
			}
		}
		if _, _, err := s.Txn(t.Context(), nil, []state.Op{{Key: "cluster/incarnation", Delete: true}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := state.Incarnation(t.Context(), s); err == nil {
			t.Error("half of the pair was taken for whole")
		}
	})

	t.Run("close", func(t *testing.T) {
		s := open(t)
		put(t, s, "a", "1")
		events := s.Watch(t.Context(), "", 0)
		full := s.Watch(t.Context(), "", 0) // nobody reads
		if e := <-events; e.Key != "a" {
			t.Errorf("first event %+v", e)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for e := range events {
			t.Errorf("after close: %+v", e)
		}
		for range full {
		}
		if _, err := s.Get(t.Context(), "a"); !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("get: %v", err)
		}
		if _, _, err := s.List(t.Context(), ""); !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("list: %v", err)
		}
		if _, err := state.Put(t.Context(), s, "a", nil); !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("put: %v", err)
		}
		for range s.Watch(t.Context(), "", 0) {
			t.Error("an event from a closed store")
		}
		if err := s.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func put(t *testing.T, s state.Store, key, value string) int64 {
	t.Helper()
	rev, err := state.Put(t.Context(), s, key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func keys(kvs []state.KV, prefix string) string {
	var out []string
	for _, kv := range kvs {
		out = append(out, strings.TrimPrefix(kv.Key, prefix))
	}
	return strings.Join(out, " ")
}

func TestMemory(t *testing.T) {
	contract(t, func(*testing.T) closer { return state.NewMemory() })
}

// A watch of the twin that was overtaken by the history it keeps breaks, and one from now goes on.
func TestMemoryForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := state.NewMemory()
		defer s.Close()
		slow := s.Watch(t.Context(), "", 0)
		for range 200_000 {
			put(t, s, "a", "x")
		}
		synctest.Wait()
		n := 0
		for range slow {
			n++
		}
		if n >= 200_000 || n < 1024 {
			t.Errorf("the slow watch saw %d events", n)
		}
		for range s.Watch(t.Context(), "", 5) {
			t.Error("an event from a revision that is gone")
		}
		_, rev, _ := s.List(t.Context(), "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		events := s.Watch(ctx, "", rev)
		put(t, s, "b", "y")
		if e := <-events; e.Key != "b" {
			t.Errorf("%+v", e)
		}
	})
}
