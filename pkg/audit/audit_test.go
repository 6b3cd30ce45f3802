package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/audit"
)

func clock() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) }

func open(t *testing.T, dir string) *audit.Log {
	t.Helper()
	l, err := audit.Open(dir, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func fill(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(t.Context(), "ann", "apply", fmt.Sprintf("service/s%d", i%3), "done", "line"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChainGoesOnAfterReopening(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	fill(t, l, 5)
	l.Close()
	l = open(t, dir)
	fill(t, l, 2)
	all, err := l.List(0, 100, "")
	if err != nil || len(all) != 7 {
		t.Fatalf("got %d entries, %v; want 7", len(all), err)
	}
	if seq, hash := l.Head(); seq != 7 || hash != all[6].Hash {
		t.Errorf("head is %d %s", seq, hash)
	}
	some, err := l.List(2, 2, "")
	if err != nil || len(some) != 2 || some[0].Seq != 3 {
		t.Errorf("after 2: %v, %v", some, err)
	}
	of, err := l.List(0, 100, "service/s1")
	if err != nil || len(of) != 3 {
		t.Errorf("of service/s1: %d entries, %v; want 3", len(of), err)
	}
}

func TestTornLastLineIsDropped(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	fill(t, l, 3)
	l.Close()
	path := filepath.Join(dir, "audit.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lastStart := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := lastStart; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := audit.Open(dir, clock)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if seq, _ := l.Head(); seq != 2 {
			t.Fatalf("cut at %d: head is %d, want 2", cut, seq)
		}
		l.Close()
	}
}

func TestTamperingIsFound(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	fill(t, l, 5)
	l.Close()
	path := filepath.Join(dir, "audit.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for name, bad := range map[string][]byte{
		"changed": bytes.Replace(whole, []byte(`"ann"`), []byte(`"bob"`), 1),
		"removed": bytes.Join(append(append([][]byte{}, lines[:2]...), lines[3:]...), nil),
		"swapped": bytes.Join([][]byte{lines[1], lines[0], lines[2]}, nil),
		"garbage": append(append([]byte{}, whole...), "not json\n"...),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Open(dir, clock); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s: got %v, want ErrBroken", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("{\"seq\":1}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		good, err := audit.Verify(bytes.NewReader(b), func(audit.Entry) { n++ })
		if good > int64(len(b)) || err == nil && n == 0 && good != 0 {
			t.Errorf("good %d of %d with %d entries", good, len(b), n)
		}
	})
}

// A log in several files goes on in the next one, over restarts, and keeps no more than it is to.
func TestFilesFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	cfg := audit.Config{Dir: dir, Clock: clock, MaxBytes: 1500, Keep: 2, Lazy: true}
	for range 4 {
		l, err := audit.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, l, 12)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	var chain audit.Chain
	n, last := 0, uint64(0)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := chain.File(f, func(e audit.Entry) { n++; last = e.Seq })
		if err != nil || p.Torn {
			t.Fatalf("%s: %v", name, err)
		}
		f.Seek(0, 0)
		if audit.FirstSeq(f) != p.First.Seq {
			t.Errorf("%s begins with %d", name, p.First.Seq)
		}
		f.Close()
	}
	if last != 48 || n >= 48 || n < 8 {
		t.Errorf("%d entries up to %d", n, last)
	}
	// A full file that was changed is noticed at the next start.
	b, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[1], bytes.Replace(b, []byte("ann"), []byte("bob"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.New(cfg); !errors.Is(err, audit.ErrBroken) {
		t.Error(err)
	}
}

func FuzzChain(f *testing.F) {
	dir := f.TempDir()
	l, err := audit.Open(dir, clock)
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		if err := l.Append(f.Context(), "ann", "apply", "service/s", "done", "line"); err != nil {
			f.Fatal(err)
		}
	}
	l.Close()
	b, err := os.ReadFile(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := 0
		good, err := audit.Verify(bytes.NewReader(text), func(audit.Entry) { n++ })
		if good > int64(len(text)) || good < 0 {
			t.Fatalf("%d of %d bytes are good", good, len(text))
		}
		// What is called good is good by itself.
		again := 0
		if _, e := audit.Verify(bytes.NewReader(text[:good]), func(audit.Entry) { again++ }); e != nil || again != n {
			t.Fatalf("%d entries, then %d, %v after %v", n, again, e, err)
		}
	})
}
