package actor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/command"
)

func journalBytes(t testing.TB, n int) ([]byte, []int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	j, _, _, err := openJournal(path, (*os.File).Sync)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	ends := []int{int(j.size)}
	for i := range n {
		if err := j.append(entry{Kind: fmt.Sprintf("entry %d", i), Body: bytes.Repeat([]byte{byte(i)}, i*7)}, i%2 == 0); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(j.size))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, ends
}

func TestTornTailAtEveryByte(t *testing.T) {
	whole, ends := journalBytes(t, 6)
	path := filepath.Join(t.TempDir(), "journal")
	for cut := 0; cut <= len(whole); cut++ {
		want := 0
		for _, end := range ends[1:] {
			if cut >= end {
				want++
			}
		}
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, entries, damaged, err := openJournal(path, (*os.File).Sync)
		if err != nil || damaged || len(entries) != want {
			t.Fatalf("cut at %d: %d entries, damaged %v, %v; want %d", cut, len(entries), damaged, err, want)
		}
		// What is written next is found next time.
		if err := j.append(entry{Kind: "next"}, true); err != nil {
			t.Fatal(err)
		}
		j.close()
		j, entries, damaged, err = openJournal(path, (*os.File).Sync)
		if err != nil || damaged || len(entries) != want+1 || entries[want].Kind != "next" {
			t.Fatalf("cut at %d, written again: %d entries, damaged %v, %v", cut, len(entries), damaged, err)
		}
		j.close()
	}
}

func TestEveryBitOfAJournalCounts(t *testing.T) {
	whole, _ := journalBytes(t, 4)
	all, _, _ := scan(whole)
	for i := headerLen; i < len(whole); i++ {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			entries, good, damaged := scan(b)
			if len(entries) == len(all) {
				t.Fatalf("bit %d of byte %d is not missed", bit, i)
			}
			for _, e := range entries {
				known := false
				for _, a := range all {
					known = known || cmp.Equal(a, e)
				}
				if !known {
					t.Fatalf("bit %d of byte %d: entry %+v was never written", bit, i, e)
				}
			}
			if !damaged && int(good) > i {
				t.Fatalf("bit %d of byte %d is taken as sound", bit, i)
			}
		}
	}
}

func TestJournalOfAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte("EKJRNL\x00\x02"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := openJournal(path, (*os.File).Sync); err == nil {
		t.Fatal("taken")
	}
	if b, _ := os.ReadFile(path); string(b) != "EKJRNL\x00\x02" {
		t.Fatal("a journal of another version was touched")
	}
}

func TestFailedWriteLeavesNoTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	var fail error
	j, _, _, err := openJournal(path, func(f *os.File) error { return fail })
	if err != nil {
		t.Fatal(err)
	}
	if err := j.append(entry{Kind: "one"}, true); err != nil {
		t.Fatal(err)
	}
	fail = errDisk
	if err := j.append(entry{Kind: "two"}, true); err == nil {
		t.Fatal("a record that was not synced was reported as kept")
	}
	if !j.broken {
		t.Fatal("the truncation was not synced either, so nothing may follow")
	}
	fail = nil
	if err := j.append(entry{Kind: "three"}, true); err == nil {
		t.Fatal("written after the journal broke")
	}
	j.close()
	_, entries, damaged, err := openJournal(path, (*os.File).Sync)
	if err != nil || damaged || len(entries) != 1 {
		t.Fatalf("%d entries, damaged %v, %v", len(entries), damaged, err)
	}
}

func FuzzJournal(f *testing.F) {
	whole, _ := journalBytes(f, 3)
	f.Add(whole)
	f.Add([]byte("EKJRNL\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, good, damaged := scan(b)
		if good > int64(len(b)) {
			t.Fatal("more is sound than is there")
		}
		if damaged {
			return
		}
		s := newState()
		for _, e := range entries {
			s.fold(e)
		}
		again, _, damaged := scan(b[:good])
		if damaged || len(again) != len(entries) {
			t.Fatalf("the sound part has %d entries, the whole had %d", len(again), len(entries))
		}
	})
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, resultFrame(command.Result{ID: "x", Phase: command.Applied, Time: epoch})); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := readFrame(bytes.NewReader(b)); err == nil && x.GetCommand() != nil {
			_ = envelopeOf(x.GetCommand())
		}
	})
}

func BenchmarkApply(b *testing.B) {
	r := newRig(b, b.TempDir())
	r.perm.Actions[0].Times = 1 << 30
	b.ReportAllocs()
	for b.Loop() {
		c := r.command("a", 50)
		r.deliver(r.sign(c))
		for _, x := range r.e.s.snapshot().Results {
			r.e.s.fold(entry{Ack: &ack{x.ID, x.Ordinal}})
		}
		r.e.s.Seen, r.results = map[string]seen{}, nil
	}
}
