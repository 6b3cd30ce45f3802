package ingest_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

var t0 = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// world is a collector's sample path.
type world struct {
	t     testing.TB
	clock *clock
	store *store.Store
	in    *ingest.Ingest
}

func newWorld(t testing.TB, sc store.Config, ic ingest.Config) *world {
	t.Helper()
	if sc.Dir == "" {
		sc.Dir = t.TempDir()
	}
	sc.Ballast = -1
	sc.Free = func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }
	s, err := store.Open(context.Background(), sc)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, clock: &clock{now: t0}, store: s}
	ic.Store = s
	if ic.Now == nil {
		ic.Now = w.clock.Now
	}
	if ic.Interval == 0 {
		ic.Interval = time.Second
	}
	if ic.Rate == 0 {
		ic.Rate = -1
	}
	if w.in, err = ingest.New(ic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return w
}

// run starts the store's and the ingest's goroutines.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.store.Run(ctx) })
	wg.Go(func() { w.in.Run(ctx) })
	w.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (w *world) sync() {
	w.t.Helper()
	if err := w.store.SyncNow(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// count returns how many samples the store has for a selector of the hour before at.
func (w *world) count(selector string, at time.Time) int {
	w.t.Helper()
	r, err := w.store.Query(context.Background(), "sum(count_over_time("+selector+"[1h]))", at)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(r.Series) == 0 {
		return 0
	}
	return int(r.Series[0].Points[0].Value)
}

// value returns the value of a selector at a time, and whether there is one.
func (w *world) value(selector string, at time.Time) (float64, bool) {
	w.t.Helper()
	r, err := w.store.Query(context.Background(), selector, at)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(r.Series) != 1 {
		return 0, false
	}
	return r.Series[0].Points[0].Value, true
}

// agent makes the batches of one boot as a real agent does.
type agent struct {
	boot  ingest.Boot
	table metric.Table
	enc   chain.Encoder
	slots []metric.Slot
	seq   uint64
	spool []ingest.Batch // all of them, as live batches
}

func newAgent(boot byte, series int) *agent {
	a := &agent{boot: ingest.Boot{boot}}
	for i := range series {
		a.add(fmt.Sprint(i))
	}
	return a
}

func (a *agent) add(label string) metric.Slot {
	s := a.table.Add(metric.Desc{
		Name: "x", Labels: []metric.Label{{Name: "i", Value: label}}, Scale: metric.Scale{Div: 100}, Group: metric.Group(len(a.slots) % 2),
	})
	a.slots = append(a.slots, s)
	return s
}

// tick reads every series, as 100 times the sequence plus its number, and returns the batch.
func (a *agent) tick(at time.Time, key bool) *ingest.Batch {
	a.seq++
	for i, s := range a.slots {
		if a.table.Live(s) {
			a.table.Set(s, int64(100*a.seq)+int64(i))
		}
	}
	a.table.Ran(0)
	a.table.Ran(1)
	frame := a.enc.Append(nil, &a.table, at.UnixMilli(), key)
	a.table.Next()
	a.spool = append(a.spool, ingest.Batch{Seq: a.seq, Frame: frame})
	return &a.spool[len(a.spool)-1]
}

// again returns a spooled batch as backfill.
func (a *agent) again(seq uint64) *ingest.Batch {
	b := a.spool[seq-1]
	b.Backfill, b.Boot, b.Named = true, a.boot, true
	return &b
}

// sink keeps what a stream answers.
type sink struct {
	mu       sync.Mutex
	acked    map[ingest.Boot]uint64
	acks     int
	refusals []ingest.Refusal
	keys     int
	news     chan struct{}
}

func newSink() *sink { return &sink{acked: map[ingest.Boot]uint64{}, news: make(chan struct{}, 1)} }

func (k *sink) note(f func()) {
	k.mu.Lock()
	f()
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

func (k *sink) Ack(b ingest.Boot, seq uint64) { k.note(func() { k.acked[b] = seq; k.acks++ }) }
func (k *sink) Refuse(r ingest.Refusal)       { k.note(func() { k.refusals = append(k.refusals, r) }) }
func (k *sink) WantKey(string)                { k.note(func() { k.keys++ }) }

// until waits for answers until ok holds.
func (k *sink) until(ok func() bool) {
	for {
		k.mu.Lock()
		done := ok()
		k.mu.Unlock()
		if done {
			return
		}
		<-k.news
	}
}

func (k *sink) refused(c ingest.Class) []ingest.Refusal {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []ingest.Refusal
	for _, r := range k.refusals {
		if r.Class == c {
			out = append(out, r)
		}
	}
	return out
}

func (w *world) open(host string, a *agent, k *sink) *ingest.Stream {
	s, _ := w.in.Open(host, ingest.Hello{Range: ingest.Range{Boot: a.boot, First: 1, Last: a.seq}}, k)
	return s
}

func (w *world) push(s *ingest.Stream, b *ingest.Batch) {
	w.t.Helper()
	if err := s.Push(b); err != nil {
		w.t.Fatal(err)
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

func shuffled(n int, seed uint64) []int { return rand.New(rand.NewPCG(seed, 1)).Perm(n) }
