package spool_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/agent/spool"
)

var (
	boot1 = spool.BootID{1}
	boot2 = spool.BootID{2}
)

func open(tb testing.TB, cfg spool.Config) *spool.Queue {
	tb.Helper()
	q, err := spool.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = q.Close() })
	return q
}

// frame is what batch seq carries: of a length and content of its own.
func frame(boot spool.BootID, seq uint64) []byte {
	b := fmt.Appendf(nil, "boot %d batch %d ", boot[0], seq)
	for i := range int(seq * 7 % 50) {
		b = append(b, byte(i)*byte(seq))
	}
	return b
}

func isKey(seq uint64) bool { return seq%10 == 1 }

// fill appends batches first to last, one a second.
func fill(tb testing.TB, q *spool.Queue, boot spool.BootID, first, last uint64) {
	tb.Helper()
	for seq := first; seq <= last; seq++ {
		if err := q.Append(seq, int64(seq)*1000, isKey(seq) || q.NeedsKey(), frame(boot, seq)); err != nil {
			tb.Fatal(err)
		}
	}
}

// drain reads all that a reader has and checks each batch.
func drain(tb testing.TB, r *spool.Reader) []uint64 {
	tb.Helper()
	var seqs []uint64
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return seqs
		}
		if err != nil {
			tb.Fatal(err)
		}
		if string(rec.Frame) != string(frame(rec.Boot, rec.Seq)) || rec.At != int64(rec.Seq)*1000 {
			tb.Fatalf("batch %d at %d: %q", rec.Seq, rec.At, rec.Frame)
		}
		seqs = append(seqs, rec.Seq)
	}
}

func iterate(tb testing.TB, q *spool.Queue, boot spool.BootID, from uint64) []uint64 {
	tb.Helper()
	r, err := q.Iterate(boot, from)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	return drain(tb, r)
}

func span(first, last uint64) []uint64 {
	var all []uint64
	for s := first; s <= last; s++ {
		all = append(all, s)
	}
	return all
}

func wantSeqs(tb testing.TB, got []uint64, first, last uint64) {
	tb.Helper()
	if !slices.Equal(got, span(first, last)) {
		tb.Fatalf("got %v, want %d to %d", got, first, last)
	}
}

func wantRanges(tb testing.TB, q *spool.Queue, want ...spool.Range) {
	tb.Helper()
	if got := q.Ranges(); !slices.Equal(got, want) {
		tb.Fatalf("ranges %v, want %v", got, want)
	}
}

func files(tb testing.TB, dir string) []string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

func TestQueue(t *testing.T) {
	for name, memory := range map[string]int{"from memory": 0, "from disk": 1, "from both": 2000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := open(t, spool.Config{Dir: dir, Boot: boot1, SegmentBytes: 4096, MaxBytes: 1 << 20, MemoryBytes: memory})
			if !q.NeedsKey() {
				t.Error("the first batch needs no key frame")
			}
			wantRanges(t, q, spool.Range{Boot: boot1, First: 1, Last: 0})
			fill(t, q, boot1, 1, 300)
			wantRanges(t, q, spool.Range{Boot: boot1, First: 1, Last: 300})
			wantSeqs(t, iterate(t, q, boot1, 1), 1, 300)
			wantSeqs(t, iterate(t, q, boot1, 0), 1, 300)
			from := iterate(t, q, boot1, 157)
			if from[0] > 157 || from[0] < 151 {
				t.Errorf("reading for 157 starts at %d", from[0])
			}
			wantSeqs(t, from, from[0], 300)
			if got := iterate(t, q, boot2, 1); got != nil {
				t.Errorf("another boot has %v", got)
			}
			q.Ack(boot1, 250)
			q.Ack(boot1, 200)
			q.Ack(boot2, 9)
			wantRanges(t, q, spool.Range{Boot: boot1, First: 251, Last: 300})
			q.Ack(boot1, 999)
			wantRanges(t, q, spool.Range{Boot: boot1, First: 301, Last: 300})
			if len(files(t, dir)) < 4 {
				t.Errorf("%d segments", len(files(t, dir)))
			}
			if err := q.Append(300, 0, true, nil); err == nil {
				t.Error("batch 300 was taken twice")
			}
			if err := q.Append(301, 0, true, make([]byte, 1<<20+1)); err == nil {
				t.Error("a frame beyond all limits was taken")
			}
		})
	}
}

// A reader that reached the end goes on when there is more.
func TestReaderGoesOn(t *testing.T) {
	for name, memory := range map[string]int{"memory": 0, "disk": 1} {
		t.Run(name, func(t *testing.T) {
			q := open(t, spool.Config{Dir: t.TempDir(), Boot: boot1, SegmentBytes: 1000, MaxBytes: 1 << 20, MemoryBytes: memory})
			r, err := q.Iterate(boot1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for n := uint64(1); n < 200; n += 7 {
				fill(t, q, boot1, n, n+6)
				wantSeqs(t, drain(t, r), n, n+6)
			}
		})
	}
}

// Killed at any byte of the last record, the spool gives all records before it, and goes on.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	q := open(t, spool.Config{Dir: dir, Boot: boot1})
	fill(t, q, boot1, 1, 11)
	info, err := os.Stat(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	before := info.Size()
	fill(t, q, boot1, 12, 12)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := before; n <= int64(len(data)); n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "0000000000000000.spool")
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		q := open(t, spool.Config{Dir: dir, Boot: boot2})
		last := uint64(11)
		if n == int64(len(data)) {
			last = 12
		}
		wantRanges(t, q, spool.Range{Boot: boot2, First: 1, Last: 0}, spool.Range{Boot: boot1, First: 1, Last: last})
		wantSeqs(t, iterate(t, q, boot1, 5), 1, last)
		if info, err := os.Stat(path); err != nil || last == 11 && info.Size() != before {
			t.Fatalf("cut at %d: %d bytes are left, want %d (%v)", n, info.Size(), before, err)
		}
		fill(t, q, boot2, 1, 3)
		wantSeqs(t, iterate(t, q, boot2, 1), 1, 3)
	}
}

// One bad byte costs one record, wherever it is.
func TestBitFlips(t *testing.T) {
	dir := t.TempDir()
	q := open(t, spool.Config{Dir: dir, Boot: boot1})
	fill(t, q, boot1, 1, 400)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	check := func(t interface{ Fatalf(string, ...any) }, at int, mask byte) {
		bad := slices.Clone(data)
		bad[at] ^= mask
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer os.RemoveAll(dir)
		if err := os.WriteFile(filepath.Join(dir, "0000000000000007.spool"), bad, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		q, err := spool.Open(spool.Config{Dir: dir, Boot: boot2})
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer q.Close()
		seen := map[uint64]bool{}
		if err := spool.Read(dir, func(r spool.Record) error {
			if string(r.Frame) != string(frame(boot1, r.Seq)) || r.Boot != boot1 {
				t.Fatalf("byte %d: batch %d of %v is %q", at, r.Seq, r.Boot, r.Frame)
			}
			seen[r.Seq] = true
			return nil
		}); err != nil {
			t.Fatalf("%v", err)
		}
		if len(seen) != 399 || q.Stats().BadRecords != 1 {
			t.Fatalf("byte %d: %d of 400 batches are left, %d bad", at, len(seen), q.Stats().BadRecords)
		}
	}
	for _, percent := range []int{0, 25, 50, 99} {
		check(t, len(data)*percent/100, 0x10)
	}
	check(t, len(data)-1, 1)
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.IntRange(0, len(data)-1).Draw(t, "at"), byte(rapid.IntRange(1, 255).Draw(t, "mask")))
	})
}

// The oldest go when there is no room, and are counted to the batch.
func TestCap(t *testing.T) {
	dir := t.TempDir()
	q := open(t, spool.Config{Dir: dir, Boot: boot1, SegmentBytes: 2000, MaxBytes: 10_000, MemoryBytes: 1})
	fill(t, q, boot1, 1, 1000)
	s := q.Stats()
	first := q.Ranges()[0].First
	if s.Dropped != first-1 || first < 500 || s.Bytes > 13_000 || s.Unacked != 1000-first+1 {
		t.Errorf("first is %d, %+v", first, s)
	}
	wantSeqs(t, iterate(t, q, boot1, 1), first, 1000)
	q.Ack(boot1, 1000)
	fill(t, q, boot1, 1001, 1040)
	q.Ack(boot1, 1040)
	fill(t, q, boot1, 1041, 1060)
	if again := q.Stats(); again.Dropped != s.Dropped {
		t.Errorf("%d acked batches counted as dropped", again.Dropped-s.Dropped)
	}
}

// Acked batches can be asked back for two hours, or while they are within their bytes.
func TestAskBack(t *testing.T) {
	dir := t.TempDir()
	q := open(t, spool.Config{Dir: dir, Boot: boot1, SegmentBytes: 2000, MaxBytes: 1 << 20, MemoryBytes: 1})
	fill(t, q, boot1, 1, 100)
	q.Ack(boot1, 100)
	wantSeqs(t, iterate(t, q, boot1, 1), 1, 100)
	if err := q.SyncIfDue(time.UnixMilli(7_200_000)); err != nil {
		t.Fatal(err)
	}
	got := iterate(t, q, boot1, 1)
	wantSeqs(t, got, 1, 100)
	if err := q.SyncIfDue(time.UnixMilli(7_250_000)); err != nil {
		t.Fatal(err)
	}
	got = iterate(t, q, boot1, 60)
	if len(got) == 0 || got[0] == 1 || got[0] > 51 || q.Stats().Dropped != 0 {
		t.Errorf("after 2 h 50 s %v are left, %+v", got, q.Stats())
	}

	q = open(t, spool.Config{Dir: t.TempDir(), Boot: boot1, SegmentBytes: 2000, KeepBytes: 6000, MaxBytes: 1 << 20, MemoryBytes: 1})
	for n := uint64(1); n < 1000; n += 10 {
		fill(t, q, boot1, n, n+9)
		q.Ack(boot1, n+9)
	}
	if s := q.Stats(); s.Bytes > 6000+3000 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

// The next boot finds what was left, with the acks, and an unknown boot's range is its own.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	q := open(t, spool.Config{Dir: dir, Boot: boot1, SegmentBytes: 2000, MaxBytes: 1 << 20})
	fill(t, q, boot1, 1, 100)
	q.Ack(boot1, 40)
	// No Close: this is kill -9.
	q2 := open(t, spool.Config{Dir: dir, Boot: boot2, SegmentBytes: 2000, MaxBytes: 1 << 20})
	wantRanges(t, q2, spool.Range{Boot: boot2, First: 1, Last: 0}, spool.Range{Boot: boot1, First: 41, Last: 100})
	fill(t, q2, boot2, 1, 50)
	q2.Ack(boot1, 100)
	wantRanges(t, q2, spool.Range{Boot: boot2, First: 1, Last: 50})
	wantSeqs(t, iterate(t, q2, boot1, 1), 1, 100)
	if err := q2.Close(); err != nil {
		t.Fatal(err)
	}
	q3 := open(t, spool.Config{Dir: dir, Boot: spool.BootID{3}, SegmentBytes: 2000, MaxBytes: 1 << 20})
	wantRanges(t, q3, spool.Range{Boot: spool.BootID{3}, First: 1, Last: 0}, spool.Range{Boot: boot2, First: 1, Last: 50})
	if err := q2.Append(51, 0, true, nil); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("a closed spool says %v", err)
	}
}

func TestAllocations(t *testing.T) {
	q := open(t, spool.Config{Dir: t.TempDir(), Boot: boot1, MemoryBytes: 64 << 10})
	b := make([]byte, 200)
	seq := uint64(0)
	once := func() {
		seq++
		if err := q.Append(seq, int64(seq)*1000, isKey(seq), b); err != nil {
			t.Fatal(err)
		}
		if err := q.SyncIfDue(time.UnixMilli(int64(seq) * 1000)); err != nil {
			t.Fatal(err)
		}
		if seq%5 == 0 {
			q.Ack(boot1, seq)
		}
	}
	for range 1000 {
		once()
	}
	if n := testing.AllocsPerRun(500, once); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	q := open(b, spool.Config{Dir: b.TempDir(), Boot: boot1})
	f := make([]byte, 150)
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		if err := q.Append(seq, int64(seq), q.NeedsKey(), f); err != nil {
			b.Fatal(err)
		}
	}
}
