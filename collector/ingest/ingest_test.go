package ingest_test

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

func TestTicksAreStoredWithTheirValues(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a := newAgent(1, 5)
	s := w.open("web-1", a, newSink())
	for i := range 30 {
		w.clock.Set(t0.Add(time.Duration(i) * time.Second))
		w.push(s, a.tick(w.clock.Now(), i == 0))
	}
	if n := w.count(`x{instance="web-1"}`, w.clock.Now()); n != 150 {
		t.Fatalf("%d samples, want 150", n)
	}
	if v, ok := w.value(`x{i="3"}`, t0.Add(9*time.Second)); !ok || v != 10.03 {
		t.Fatalf("value %v, %v, want 10.03", v, ok)
	}
	if st := w.in.Stats(); st.Batches != 30 || st.Samples != 150 || st.Streams != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestBatchesAreTakenOnceInWhateverOrderTheyCome(t *testing.T) {
	for seed := range uint64(8) {
		w := newWorld(t, store.Config{}, ingest.Config{})
		a := newAgent(1, 4)
		s := w.open("web-1", a, newSink())
		const ticks = 40
		for i := range ticks {
			a.tick(t0.Add(time.Duration(i)*time.Second), i%10 == 0)
		}
		w.clock.Set(t0.Add(ticks * time.Second))
		for i := 20; i < ticks; i++ { // live from a key frame on
			w.push(s, &a.spool[i])
		}
		// The rest as backfill, in runs from a key frame on, and then all of it again in any order.
		for _, run := range append([]int{0, 1}, shuffled(4, seed)...) {
			for i := 10 * run; i < 10*run+10; i++ {
				w.push(s, a.again(uint64(i+1)))
			}
		}
		if n := w.count("x", w.clock.Now()); n != 4*ticks {
			t.Fatalf("seed %d: %d samples, want %d", seed, n, 4*ticks)
		}
		if st := w.in.Stats(); st.Batches != ticks {
			t.Errorf("%d batches taken, want %d", st.Batches, ticks)
		}
	}
}

func TestAckOnlyAfterFsync(t *testing.T) {
	hold, entered := make(chan struct{}), make(chan struct{}, 64)
	var held atomic.Bool
	w := newWorld(t, store.Config{Fsync: func(f *os.File) error {
		if held.Load() {
			entered <- struct{}{}
			<-hold
		}
		return f.Sync()
	}}, ingest.Config{})
	held.Store(true)
	a, k := newAgent(1, 3), newSink()
	s := w.open("web-1", a, k)
	w.run()
	w.push(s, a.tick(t0, true))
	<-entered // the first batch asks for an fsync
	k.mu.Lock()
	if k.acks != 0 {
		t.Fatal("acked before the fsync returned")
	}
	k.mu.Unlock()
	held.Store(false)
	close(hold)
	k.until(func() bool { return k.acked[a.boot] == 1 })

	// Further batches are acked when five seconds have passed, or when the agent asks.
	w.push(s, a.tick(t0.Add(time.Second), false))
	w.sync()
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 2 })
}

func TestAcksAreCoalesced(t *testing.T) {
	w := newWorld(t, store.Config{SyncEvery: 20 * time.Millisecond, CommitEvery: 5 * time.Millisecond}, ingest.Config{})
	a, k := newAgent(1, 2), newSink()
	s := w.open("web-1", a, k)
	w.run()
	w.push(s, a.tick(t0, true))
	k.until(func() bool { return k.acked[a.boot] == 1 })
	for i := 1; i <= 20; i++ {
		w.push(s, a.tick(t0.Add(time.Duration(i)*time.Second), false))
		w.sync()
	}
	k.mu.Lock()
	if k.acks != 1 {
		t.Errorf("%d acks though no time has passed", k.acks)
	}
	k.mu.Unlock()
	w.clock.Set(t0.Add(21 * time.Second))
	k.until(func() bool { return k.acked[a.boot] == 21 })
}

func TestFutureAndPastAreDroppedAndCounted(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a, k := newAgent(1, 3), newSink()
	s := w.open("fast", a, k)
	w.push(s, a.tick(t0.Add(61*time.Second), true))
	w.push(s, a.tick(t0.Add(6*time.Hour), false))
	w.push(s, a.tick(t0.Add(-7*time.Hour), false))
	w.push(s, a.tick(t0.Add(59*time.Second), false)) // within bounds
	other := newAgent(2, 1)
	w.push(w.open("good", other, newSink()), other.tick(t0, true))

	if n := w.count(`x{instance="fast"}`, t0.Add(time.Minute)); n != 3 {
		t.Errorf("%d samples of the host with the wrong clock, want those of one tick", n)
	}
	if n := w.count(`x{instance="good"}`, t0.Add(time.Minute)); n != 1 {
		t.Errorf("the other host was harmed: %d samples", n)
	}
	if st := w.in.Stats(); st.Future != 6 || st.Past != 3 || st.Batches != 5 {
		t.Errorf("stats %+v", st)
	}
	got := k.refused(ingest.Drop)
	if len(got) != 2 || got[0].Samples != 3 || got[0].Seq != 1 || !strings.Contains(got[0].Reason, "ahead") {
		t.Errorf("the agent was told %+v", got)
	}
	// What is dropped is dealt with: it is acked like the rest.
	w.run()
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 4 })
}

func TestSeriesCapHurtsOnlyTheExcess(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{Series: 10})
	a, k := newAgent(1, 14), newSink()
	s := w.open("greedy", a, k)
	for i := range 3 {
		w.push(s, a.tick(t0.Add(time.Duration(i)*time.Second), i == 0))
	}
	at := t0.Add(time.Minute)
	if n := w.count("x", at); n != 30 {
		t.Errorf("%d samples, want those of 10 series", n)
	}
	if st := w.in.Stats(); st.OverCap != 12 {
		t.Errorf("%d samples over the cap, want 12", st.OverCap)
	}
	if got := k.refused(ingest.Drop); len(got) != 1 || got[0].Samples != 4 {
		t.Errorf("told %+v", got)
	}
	// A series that ends makes room.
	a.table.End(a.slots[0])
	w.push(s, a.tick(t0.Add(4*time.Second), false))
	a.add("new")
	w.push(s, a.tick(t0.Add(5*time.Second), false))
	if n := w.count(`x{i="new"}`, at); n != 1 {
		t.Error("there was no room for a new series")
	}
}

func TestNodeCapIsTriedAgain(t *testing.T) {
	w := newWorld(t, store.Config{MaxSeries: 3}, ingest.Config{})
	a := newAgent(1, 5)
	s := w.open("web-1", a, newSink())
	w.push(s, a.tick(t0, true))
	w.push(s, a.tick(t0.Add(time.Second), false))
	if n := w.count("x", t0.Add(time.Minute)); n != 6 {
		t.Errorf("%d samples, want those of 3 series", n)
	}
	if st := w.in.Stats(); st.NodeCap != 4 {
		t.Errorf("%d samples over the node's cap, want 4", st.NodeCap)
	}
}

func TestSeriesThatEndsGoesStaleAndItsSlotIsUsedAgain(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a := newAgent(1, 3)
	s := w.open("web-1", a, newSink())
	w.push(s, a.tick(t0, true))
	a.table.End(a.slots[1])
	w.push(s, a.tick(t0.Add(time.Second), false))
	if _, ok := w.value(`x{i="1"}`, t0.Add(2*time.Second)); ok {
		t.Error("a series that ended is still seen")
	}
	a.slots[1] = a.table.Add(metric.Desc{Name: "y"})
	w.push(s, a.tick(t0.Add(2*time.Second), false))
	if v, ok := w.value("y", t0.Add(2*time.Second)); !ok || v != 301 {
		t.Errorf("the new series reads %v, %v", v, ok)
	}
	if _, ok := w.value(`x{i="1"}`, t0.Add(2*time.Second)); ok {
		t.Error("the new series fell to the old one")
	}
}

func TestStoredAtTheIntervalUnlessDetailIsAsked(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{Interval: 15 * time.Second})
	a := newAgent(1, 2)
	s := w.open("web-1", a, newSink())
	for i := range 60 {
		w.clock.Set(t0.Add(time.Duration(i) * time.Second))
		w.push(s, a.tick(w.clock.Now(), i == 0))
	}
	if n := w.count("x", w.clock.Now()); n != 8 {
		t.Errorf("%d samples of 2 series in a minute, want 8", n)
	}
	w.in.SetDetail("web-1", t0.Add(80*time.Second))
	for i := 60; i < 120; i++ {
		w.clock.Set(t0.Add(time.Duration(i) * time.Second))
		w.push(s, a.tick(w.clock.Now(), false))
	}
	// 20 ticks in detail, then one at 90 and one at 105 s.
	if n := w.count("x", w.clock.Now()); n != 8+2*(20+2) {
		t.Errorf("%d samples, want %d", n, 8+2*22)
	}
	if st := w.in.Stats(); st.Thinned+st.Samples != 240 {
		t.Errorf("thinned %d and stored %d do not add up to 240", st.Thinned, st.Samples)
	}
}

func TestBrokenLiveChainAsksForAKeyFrame(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a, k := newAgent(1, 2), newSink()
	s := w.open("web-1", a, k)
	for i := range 10 {
		a.tick(t0.Add(time.Duration(i)*time.Second), i == 0 || i == 5)
	}
	w.push(s, &a.spool[0])
	w.push(s, &a.spool[2]) // one is left out
	w.push(s, &a.spool[3])
	if k.keys != 1 {
		t.Errorf("asked %d times for a key frame, want once", k.keys)
	}
	bad := a.spool[5]
	bad.Frame = append([]byte{0xff, 0xff}, bad.Frame...)
	w.push(s, &bad)
	if st := w.in.Stats(); st.Malformed != 1 {
		t.Errorf("malformed %d", st.Malformed)
	}
	w.push(s, &a.spool[5])
	w.push(s, &a.spool[6])
	for i := range uint64(5) { // what was missed, as backfill
		w.push(s, a.again(i+1))
	}
	if n := w.count("x", t0.Add(time.Minute)); n != 14 {
		t.Errorf("%d samples, want 14", n)
	}
	w.run()
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 7 })
}

func TestUnreadableSpoolIsPassedOver(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a, k := newAgent(1, 2), newSink()
	for i := range 9 {
		a.tick(t0.Add(time.Duration(i)*time.Second), i%3 == 0)
	}
	s := w.open("web-1", a, k)
	for i := range uint64(9) {
		b := a.again(i + 1)
		if i == 1 {
			b.Frame = []byte{0xff}
		}
		w.push(s, b)
	}
	w.run()
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 9 })
	if n := w.count("x", t0.Add(time.Minute)); n != 14 { // 2 and 3 are lost, up to the key frame at 4
		t.Errorf("%d samples, want 14", n)
	}
	if got := k.refused(ingest.Drop); len(got) != 1 || got[0].Seq != 2 {
		t.Errorf("told %+v", got)
	}
}

func TestSpoolGapsDoNotHoldAcksBack(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a, k := newAgent(1, 2), newSink()
	for i := range 12 {
		a.tick(t0.Add(time.Duration(i)*time.Second), true)
	}
	s, acked := w.in.Open("web-1", ingest.Hello{Range: ingest.Range{Boot: a.boot, First: 4, Last: 12}}, k)
	if len(acked) != 1 || acked[0].Seq != 3 {
		t.Fatalf("an agent whose spool begins at 4 has everything up to 3 acked, got %+v", acked)
	}
	w.push(s, &a.spool[11])
	for _, seq := range []uint64{5, 6, 9, 11} { // 4, 7, 8 and 10 cannot be read from its spool
		w.push(s, a.again(seq))
	}
	w.run()
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 12 })
}

func TestNewerStreamTakesOver(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a := newAgent(1, 2)
	old := w.open("web-1", a, newSink())
	w.push(old, a.tick(t0, true))
	s := w.open("web-1", a, newSink())
	if err := old.Push(a.tick(t0.Add(time.Second), false)); !errors.Is(err, ingest.ErrClosed) {
		t.Fatalf("the old stream got %v", err)
	}
	for seq := range uint64(2) {
		w.push(s, a.again(seq+1))
	}
	old.Close()
	s.Close()
	if n := w.count("x", t0.Add(time.Minute)); n != 4 {
		t.Errorf("%d samples, want 4", n)
	}
	if st := w.in.Stats(); st.Streams != 0 || st.Hosts != 1 || st.Duplicates != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestProtocolErrors(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a := newAgent(1, 1)
	s := w.open("web-1", a, newSink())
	good := a.tick(t0, true)
	for name, b := range map[string]ingest.Batch{
		"sequence 0":       {Frame: good.Frame},
		"huge sequence":    {Seq: 1 << 63, Frame: good.Frame},
		"live, other boot": {Seq: 1, Frame: good.Frame, Named: true, Boot: ingest.Boot{9}},
		"back, other boot": {Seq: 1, Frame: good.Frame, Named: true, Boot: ingest.Boot{9}, Backfill: true},
	} {
		if err := s.Push(&b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	var err error
	for range 100 {
		if err = s.Push(&ingest.Batch{Seq: 1, Frame: []byte("rubbish")}); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("a stream of rubbish goes on for ever")
	}
}

func TestKilledCollectorLosesNothingAcked(t *testing.T) {
	w := newWorld(t, store.Config{}, ingest.Config{})
	a, k := newAgent(1, 5), newSink()
	s := w.open("web-1", a, k)
	for i := range 50 {
		w.push(s, a.tick(t0.Add(time.Duration(i)*time.Second), i%10 == 0))
	}
	w.run()
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 50 })
	for i := 50; i < 60; i++ { // never acked
		w.push(s, a.tick(t0.Add(time.Duration(i)*time.Second), i%10 == 0))
	}

	again := newWorld(t, store.Config{Dir: copyTree(t, w.store.Dir())}, ingest.Config{})
	at := t0.Add(2 * time.Minute)
	if n := again.count("x", at); n < 250 {
		t.Fatalf("%d samples after the kill, 250 were acked", n)
	}
	// The agent comes back and sends from its last ack, beginning with the key frame before it.
	s, _ = again.in.Open("web-1", ingest.Hello{Range: ingest.Range{Boot: a.boot, First: 51, Last: 60}}, newSink())
	for seq := uint64(41); seq <= 60; seq++ {
		again.push(s, a.again(seq))
	}
	if n := again.count("x", at); n != 300 {
		t.Errorf("%d samples in the end, want 300", n)
	}
	if v, ok := again.value(`x{i="4"}`, t0.Add(54*time.Second)); !ok || v != 55.04 {
		t.Errorf("value %v, %v", v, ok)
	}
}

func TestStoreFailureMakesTheAgentSendAgain(t *testing.T) {
	var fail atomic.Bool
	w := newWorld(t, store.Config{Fsync: func(f *os.File) error {
		if fail.Swap(false) {
			return errors.New("input/output error")
		}
		return f.Sync()
	}}, ingest.Config{})
	a, k := newAgent(1, 3), newSink()
	s := w.open("web-1", a, k)
	w.run()
	w.push(s, a.tick(t0, true))
	k.until(func() bool { return k.acked[a.boot] == 1 })
	fail.Store(true)
	w.push(s, a.tick(t0.Add(time.Second), false))
	w.push(s, a.tick(t0.Add(2*time.Second), false))
	s.AckWanted()
	k.until(func() bool {
		for _, r := range k.refusals {
			if r.Class == ingest.RetryAfter && r.Seq == 2 && r.Boot == a.boot && r.After > 0 {
				return true
			}
		}
		return false
	})
	k.mu.Lock()
	if k.acked[a.boot] != 1 {
		t.Fatalf("acked %d though the fsync failed", k.acked[a.boot])
	}
	k.mu.Unlock()
	// It goes back to its key frame.
	for seq := range uint64(3) {
		w.push(s, a.again(seq+1))
	}
	w.push(s, a.tick(t0.Add(3*time.Second), true))
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 4 })
	if n := w.count("x", t0.Add(time.Minute)); n != 12 {
		t.Errorf("%d samples, want 12", n)
	}
}

func TestFullDiskHoldsAgentsOff(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 40)
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Config{Dir: dir, Ballast: -1, MinFree: 1 << 30, Free: func(string) (uint64, uint64, error) { return 1, 1 << 40, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := ingest.New(ingest.Config{Store: s, Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	a, k := newAgent(1, 3), newSink()
	st, _ := in.Open("web-1", ingest.Hello{Range: ingest.Range{Boot: a.boot, First: 1}}, k)
	if err := st.Push(a.tick(t0, true)); err != nil {
		t.Fatal(err)
	}
	if got := k.refused(ingest.RetryAfter); len(got) != 1 || got[0].Seq != 1 || got[0].After == 0 || !strings.Contains(got[0].Reason, "disk") {
		t.Fatalf("told %+v", got)
	}
	if err := st.Push(a.tick(t0.Add(time.Second), false)); err != nil || len(k.refusals) != 1 || k.keys != 0 {
		t.Errorf("what is on its way already must be passed over in silence: %v, %+v", err, k.refusals)
	}
}

// seen is an observer that keeps what it saw.
type seen struct {
	t     *testing.T
	ticks []time.Time
	fresh int
	last  []int64
}

func (o *seen) Observe(k ingest.Tick) {
	if k.Host != "web-1" {
		o.t.Errorf("tick of %s", k.Host)
	}
	o.ticks = append(o.ticks, k.At)
	if k.Fresh {
		o.fresh++
	}
	o.last = append(o.last[:0], k.State.Raw()...)
}

func TestObserverSeesLiveTicksOnly(t *testing.T) {
	o := &seen{t: t}
	w := newWorld(t, store.Config{}, ingest.Config{Observer: o})
	a := newAgent(1, 2)
	for i := range 6 {
		a.tick(t0.Add(time.Duration(i)*time.Second), i%3 == 0)
	}
	s := w.open("web-1", a, newSink())
	for i := 3; i < 6; i++ {
		w.push(s, &a.spool[i])
		if i < 4 {
			w.push(s, a.again(uint64(i)-2))
		}
	}
	if len(o.ticks) != 3 || !o.ticks[0].Equal(t0.Add(3*time.Second)) || o.fresh != 1 || o.last[0] != 600 {
		t.Errorf("saw %v, %d fresh, last %v", o.ticks, o.fresh, o.last)
	}
}

func TestRateHoldsOnlyTheOffender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, store.Config{Dir: t.TempDir()}, ingest.Config{Rate: 10, Now: time.Now})
		defer w.store.Close()
		a := newAgent(1, 1)
		s := w.open("busy", a, newSink())
		start := time.Now()
		for i := range 140 {
			w.push(s, a.tick(start, i == 0))
		}
		if d := time.Since(start); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("140 batches at 10/s over a burst of 40 took %s, want 10 s", d)
		}
	})
}

// Backfill that was on its way when the store lost what had come must not be read as a gap of the agent's own.
func TestBackfillOnItsWayAfterALoss(t *testing.T) {
	var fail atomic.Bool
	w := newWorld(t, store.Config{Fsync: func(f *os.File) error {
		if fail.Swap(false) {
			return errors.New("input/output error")
		}
		return f.Sync()
	}}, ingest.Config{})
	a, k := newAgent(1, 3), newSink()
	for i := range 10 {
		a.tick(t0.Add(time.Duration(i)*time.Second), i == 0)
	}
	s := w.open("web-1", a, k)
	w.run()
	for seq := range uint64(3) {
		w.push(s, a.again(seq+1))
	}
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 3 })
	for seq := uint64(4); seq <= 6; seq++ {
		w.push(s, a.again(seq))
	}
	fail.Store(true)
	s.AckWanted()
	k.until(func() bool { return len(k.refusals) > 0 })
	for seq := uint64(7); seq <= 8; seq++ {
		w.push(s, a.again(seq)) // the agent has not heard yet
	}
	for seq := uint64(1); seq <= 10; seq++ {
		w.push(s, a.again(seq)) // and now it goes back to its key frame
	}
	s.AckWanted()
	k.until(func() bool { return k.acked[a.boot] == 10 })
	if n := w.count("x", t0.Add(time.Minute)); n != 30 {
		t.Errorf("%d samples, want 30", n)
	}
	// 4 to 6 were taken once more: an ack of them rests on the second time, not on a guess that they were never there.
	if got := w.in.Stats().Batches; got != 13 {
		t.Errorf("%d batches were taken, want 13", got)
	}
}
