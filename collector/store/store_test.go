package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

var t0 = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Ballast = -1
	if cfg.Free == nil {
		cfg.Free = func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }
	}
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func run(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func desc(name string, labels ...string) *metric.Desc {
	d := &metric.Desc{Name: name}
	for i := 0; i < len(labels); i += 2 {
		d.Labels = append(d.Labels, metric.Label{Name: labels[i], Value: labels[i+1]})
	}
	return d
}

// put appends one sample by identity and returns its ref, its mark and the first error.
func put(s *Store, d *metric.Desc, at time.Time, v float64) (Ref, Mark, error) {
	l, err := s.Begin(0)
	if err != nil {
		return 0, Mark{}, err
	}
	ref, err := l.Create("web-1", d, at.UnixMilli(), v)
	m, err2 := l.End()
	return ref, m, errors.Join(err, err2)
}

func values(t testing.TB, s *Store, expr string, at time.Time) []Series {
	t.Helper()
	r, err := s.Query(context.Background(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	return r.Series
}

func TestQuerySeesWhatWasAppended(t *testing.T) {
	s := open(t, Config{})
	d := desc("node_load1")
	ref, _, err := put(s, d, t0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 60; i++ {
		l, err := s.Begin(7)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Append(ref, t0.Add(time.Duration(i)*time.Second).UnixMilli(), float64(i)); err != nil {
			t.Fatal(err)
		}
		l.End()
	}
	got := values(t, s, "node_load1", t0.Add(time.Minute))
	if len(got) != 1 || got[0].Points[0].Value != 60 || got[0].Labels["instance"] != "web-1" || got[0].Labels["job"] != "node" {
		t.Fatalf("got %+v", got)
	}
	r, err := s.QueryRange(context.Background(), "sum(node_load1)", t0, t0.Add(time.Minute), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if r.Type != "matrix" || len(r.Series) != 1 || len(r.Series[0].Points) != 7 || r.Series[0].Points[3].Value != 30 {
		t.Fatalf("got %+v", r)
	}
	if r, err = s.Query(context.Background(), "scalar(node_load1)", t0.Add(time.Minute)); err != nil || r.Type != "scalar" || r.Series[0].Points[0].Value != 60 {
		t.Fatalf("got %+v, %v", r, err)
	}
	names, err := s.LabelValues(context.Background(), "__name__", `{instance="web-1"}`, t0, t0.Add(time.Hour))
	if err != nil || len(names) != 1 || names[0] != "node_load1" {
		t.Fatalf("names %v, %v", names, err)
	}
	if names, err = s.LabelNames(context.Background(), "", t0, t0.Add(time.Hour)); err != nil || len(names) != 3 {
		t.Fatalf("label names %v, %v", names, err)
	}
}

func TestQueryRefusals(t *testing.T) {
	s := open(t, Config{QuerySamples: 3})
	d := desc("up")
	for i := range 10 {
		if _, _, err := put(s, d, t0.Add(time.Duration(i)*time.Second), 1); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	if _, err := s.Query(ctx, "sum(", t0); !errors.Is(err, ErrBadQuery) {
		t.Errorf("a broken expression gave %v", err)
	}
	if _, err := s.Query(ctx, "up[1m]", t0.Add(time.Minute)); !errors.Is(err, ErrQueryLimit) {
		t.Errorf("too many samples gave %v", err)
	}
	if _, err := s.QueryRange(ctx, "up", t0, t0.Add(24*time.Hour), time.Second); !errors.Is(err, ErrQueryLimit) {
		t.Errorf("too many steps gave %v", err)
	}
	if _, err := s.QueryRange(ctx, "up", t0, t0.Add(-time.Hour), time.Second); !errors.Is(err, ErrBadQuery) {
		t.Errorf("an end before the start gave %v", err)
	}
	if _, err := s.QueryRange(ctx, "up", t0, t0, 0); !errors.Is(err, ErrBadQuery) {
		t.Errorf("no step gave %v", err)
	}
}

func TestLateSamplesAndDuplicates(t *testing.T) {
	s := open(t, Config{})
	d := desc("x")
	for _, c := range []struct {
		at   time.Duration
		v    float64
		want error
	}{
		{0, 1, nil},
		{-time.Hour, 2, nil},     // late, within the window
		{-5 * time.Hour, 3, nil}, // later still
		{-7 * time.Hour, 4, ErrTooOld},
		{0, 1, nil},          // the same again
		{0, 9, ErrConflict},  // another value
		{-time.Hour, 2, nil}, // a late one again
	} {
		if _, _, err := put(s, d, t0.Add(c.at), c.v); !errors.Is(err, c.want) {
			t.Errorf("sample at %s, %v: got %v, want %v", c.at, c.v, err, c.want)
		}
		s.Flush()
	}
	got := values(t, s, "x[12h]", t0)
	if len(got) != 1 || len(got[0].Points) != 3 || got[0].Points[0].Value != 3 || got[0].Points[2].Value != 1 {
		t.Fatalf("stored %+v", got)
	}
	if st := s.Stats(); st.TooOld != 1 || st.Conflicts != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestStaleSeriesDisappears(t *testing.T) {
	s := open(t, Config{})
	d := desc("x")
	put(s, d, t0, 1)
	put(s, d, t0.Add(time.Second), Stale())
	if got := values(t, s, "x", t0.Add(2*time.Second)); len(got) != 0 {
		t.Fatalf("still there: %+v", got)
	}
	if got := values(t, s, "x", t0); len(got) != 1 {
		t.Fatal("its past is gone")
	}
}

func TestNodeCapRefusesNewSeriesOnly(t *testing.T) {
	s := open(t, Config{MaxSeries: 3})
	for i := range 3 {
		if _, _, err := put(s, desc("x", "i", fmt.Sprint(i)), t0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := put(s, desc("x", "i", "9"), t0, 1); !errors.Is(err, ErrTooManySeries) {
		t.Fatalf("the fourth series gave %v", err)
	}
	if _, _, err := put(s, desc("x", "i", "2"), t0.Add(time.Second), 1); err != nil {
		t.Fatalf("a known series gave %v", err)
	}
}

func TestBadSeries(t *testing.T) {
	s := open(t, Config{})
	long := string(make([]byte, maxSeries+1))
	for name, d := range map[string]*metric.Desc{
		"no name":          desc(""),
		"long name":        desc(long),
		"not UTF-8":        desc("x", "a", "\xff"),
		"forged instance":  desc("x", "instance", "other"),
		"forged job":       desc("x", "job", "other"),
		"forged name":      desc("x", "__name__", "y"),
		"unsorted":         desc("x", "b", "1", "a", "1"),
		"twice":            desc("x", "a", "1", "a", "2"),
		"empty label name": desc("x", "", "1"),
		"huge":             desc("x", "a", long),
	} {
		if _, _, err := put(s, d, t0, 1); !errors.Is(err, ErrBadSeries) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	l, _ := s.Begin(0)
	defer l.End()
	if err := l.Append(12345, t0.UnixMilli(), 1); !errors.Is(err, ErrUnknownRef) {
		t.Errorf("an unknown ref gave %v", err)
	}
}

func TestNoSpaceHoldsAppends(t *testing.T) {
	var free atomic.Uint64
	free.Store(10 << 30)
	s := open(t, Config{MinFree: 1 << 30, Free: func(string) (uint64, uint64, error) { return free.Load(), 1 << 40, nil }})
	free.Store(1 << 29)
	s.guard()
	if _, _, err := put(s, desc("x"), t0, 1); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	free.Store(1<<30 + 1) // at the limit: not yet
	s.guard()
	if !s.Stats().Short {
		t.Error("flaps at the limit")
	}
	free.Store(10 << 30)
	s.guard()
	if _, _, err := put(s, desc("x"), t0, 1); err != nil {
		t.Fatalf("space is back, but %v", err)
	}
}

func TestNothingIsDurableBeforeItsFsync(t *testing.T) {
	hold := make(chan struct{})
	entered := make(chan struct{}, 64)
	var held atomic.Bool
	s := open(t, Config{Fsync: func(f *os.File) error {
		if held.Load() {
			entered <- struct{}{}
			<-hold
		}
		return f.Sync()
	}})
	if err := s.SyncNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	held.Store(true)
	_, m, err := put(s, desc("x"), t0, 1)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	s.Sync()
	<-entered
	if s.Durable().Covers(m) {
		t.Fatal("durable before the fsync returned")
	}
	if got := values(t, s, "x", t0); len(got) != 1 {
		t.Error("a query must not wait for the fsync")
	}
	held.Store(false)
	close(hold)
	for d := s.Durable(); !d.Covers(m); {
		if d, err = s.Wait(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

// copyTree takes what a process that is killed now would leave behind.
func copyTree(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestDurableSamplesSurviveAKill(t *testing.T) {
	s := open(t, Config{})
	const series, ticks = 50, 300
	refs := make([]Ref, series)
	for i := range ticks {
		l, err := s.Begin(0)
		if err != nil {
			t.Fatal(err)
		}
		at := t0.Add(time.Duration(i) * time.Second).UnixMilli()
		for j := range refs {
			if refs[j] == 0 {
				refs[j], err = l.Create("web-1", desc("x", "j", fmt.Sprint(j)), at, float64(i*j))
			} else {
				err = l.Append(refs[j], at, float64(i*j))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.End(); err != nil {
			t.Fatal(err)
		}
	}
	// One late sample, which goes to the other log.
	if _, _, err := put(s, desc("x", "j", "7"), t0.Add(-time.Hour), 77); err != nil {
		t.Fatal(err)
	}
	if err := s.SyncNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := open(t, Config{Dir: copyTree(t, s.Dir())})
	at := t0.Add(ticks * time.Second)
	got := values(t, again, "sum(count_over_time(x[1h]))", at)
	if len(got) != 1 || got[0].Points[0].Value != series*ticks {
		t.Fatalf("found %+v, want %d samples", got, series*ticks)
	}
	if got = values(t, again, `x{j="7"}`, t0.Add(-time.Hour)); len(got) != 1 || got[0].Points[0].Value != 77 {
		t.Fatalf("the late sample: %+v", got)
	}
}

// faults lists ways in which the log fails; each is called once on a store that holds one durable sample.
var faults = map[string]func(s *Store, failFsync *atomic.Bool){
	"fsync fails":    func(_ *Store, failFsync *atomic.Bool) { failFsync.Store(true) },
	"commit fails":   func(s *Store, _ *atomic.Bool) { s.db.Close() }, // closes the log behind the store's back
	"late log fails": func(s *Store, _ *atomic.Bool) { s.logs.failed.Store(true) },
}

func TestLogFailureOpensAgainAndLosesNothingDurable(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			var failFsync atomic.Bool
			s := open(t, Config{CommitEvery: time.Hour, Fsync: func(f *os.File) error {
				if failFsync.Swap(false) {
					return errors.New("input/output error")
				}
				return f.Sync()
			}})
			run(t, s)
			_, first, err := put(s, desc("x"), t0, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SyncNow(t.Context()); err != nil || !s.Durable().Covers(first) {
				t.Fatalf("first sample is not durable: %v", err)
			}
			fault(s, &failFsync)
			_, second, err := put(s, desc("x"), t0.Add(time.Second), 2)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SyncNow(t.Context()); err == nil {
				t.Fatal("the failure went unnoticed")
			}
			d := s.Durable()
			for !d.Lost(second) {
				if d, err = s.Wait(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			if d.Covers(second) {
				t.Fatal("a lost sample counts as durable")
			}
			if s.Stats().Failures != 1 {
				t.Errorf("failures %d", s.Stats().Failures)
			}
			// Sent again, it is stored, and the first is still there.
			_, again, err := put(s, desc("x"), t0.Add(time.Second), 2)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SyncNow(t.Context()); err != nil || !s.Durable().Covers(again) {
				t.Fatalf("not durable after opening again: %v", err)
			}
			got := values(t, s, "x[1m]", t0.Add(2*time.Second))
			if len(got) != 1 || len(got[0].Points) != 2 || got[0].Points[1].Value != 2 {
				t.Fatalf("stored %+v", got)
			}
		})
	}
}

func TestSegmentsStartedBetweenFsyncsAreSyncedToo(t *testing.T) {
	synced := map[string]int{}
	s := open(t, Config{Segment: 1 << 20, CommitSamples: 10_000, Fsync: func(f *os.File) error {
		synced[filepath.Base(f.Name())]++
		return f.Sync()
	}})
	// A segment holds about a hundred thousand samples.
	refs := make([]Ref, 1_000)
	for i := range 400 {
		l, _ := s.Begin(0)
		at := t0.Add(time.Duration(i) * time.Second).UnixMilli()
		for j := range refs {
			var err error
			if refs[j] == 0 {
				refs[j], err = l.Create("web-1", desc("x", "j", fmt.Sprint(j)), at, 1)
			} else {
				err = l.Append(refs[j], at, math.Sqrt(float64(i*j)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		l.End()
	}
	if err := s.SyncNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(filepath.Join(s.Dir(), "tsdb", "wal"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	for _, n := range names {
		if synced[n.Name()] == 0 {
			t.Errorf("segment %s was not synced", n.Name())
		}
	}
}

func TestBallastIsMadeAndGivenUp(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir, Ballast: 1 << 20, Free: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	st, err := os.Stat(filepath.Join(dir, "ballast"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("this file system cannot set space aside")
		return
	}
	if err != nil || st.Size() != 1<<20 {
		t.Fatalf("ballast: %v, %v", st, err)
	}
	s.dropBallast()
	if _, err := os.Stat(filepath.Join(dir, "ballast")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("ballast is still there")
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, commit := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("commit=%d", commit), func(b *testing.B) {
			s := open(b, Config{CommitSamples: commit})
			const hosts, series = 1_000, 100
			refs := make([]Ref, hosts*series)
			at := t0
			tick := func() {
				at = at.Add(time.Second)
				ms := at.UnixMilli()
				for h := range hosts {
					l, err := s.Begin(uint32(h))
					if err != nil {
						b.Fatal(err)
					}
					for j := h * series; j < (h+1)*series; j++ {
						if refs[j] == 0 {
							refs[j], err = l.Create("web-1", desc("x", "j", fmt.Sprint(j)), ms, 1)
						} else {
							err = l.Append(refs[j], ms, float64(ms%int64(j+1)))
						}
						if err != nil {
							b.Fatal(err)
						}
					}
					l.End()
				}
			}
			tick()
			b.ReportAllocs()
			for b.Loop() {
				tick()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(hosts*series), "ns/sample")
		})
	}
}
