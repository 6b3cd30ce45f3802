package spool_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/spool"
)

// disk is a real folder behind files that fail on demand.
type disk struct {
	full   bool // writes stop half way
	noSync bool
	syncs  int
}

type file struct {
	*os.File
	d *disk
}

func (d *disk) create(path string) (spool.File, error) {
	if d.full {
		return nil, syscall.ENOSPC
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	return &file{f, d}, err
}

func (f *file) Write(b []byte) (int, error) {
	if f.d.full {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, syscall.ENOSPC
	}
	return f.File.Write(b)
}

func (f *file) Sync() error {
	f.d.syncs++
	if f.d.noSync {
		return syscall.EIO
	}
	return nil
}

// A full disk stops nothing: what is in memory is given, and written once there is room. It is told once.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	d := &disk{}
	var told []error
	q := open(t, spool.Config{
		Dir: dir, Boot: boot1, SegmentBytes: 2000, MaxBytes: 1 << 20, Create: d.create,
		OnError: func(err error) { told = append(told, err) },
	})
	fill(t, q, boot1, 1, 30)
	d.full = true
	for seq := uint64(31); seq <= 60; seq++ {
		if err := q.Append(seq, int64(seq)*1000, isKey(seq), frame(boot1, seq)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("batch %d: %v", seq, err)
		}
		if q.NeedsKey() {
			t.Fatal("key frames are wanted while no segment can start")
		}
	}
	if s := q.Stats(); len(told) != 1 || s.Failing == nil || s.Dropped != 0 || s.Unacked != 60 {
		t.Errorf("told %v, %+v", told, s)
	}
	from := iterate(t, q, boot1, 30)
	wantSeqs(t, from, from[0], 60)
	wantSeqs(t, iterate(t, q, boot1, 45), 41, 60)
	d.full = false
	for seq := uint64(61); seq <= 70; seq++ {
		_ = q.Append(seq, int64(seq)*1000, isKey(seq), frame(boot1, seq))
	}
	if s := q.Stats(); s.Failing != nil || s.Unacked != 70 {
		t.Errorf("%+v", s)
	}
	fill(t, q, boot1, 71, 80)
	// No Close. All of it is in the files.
	q2 := open(t, spool.Config{Dir: dir, Boot: boot2})
	wantSeqs(t, iterate(t, q2, boot1, 1), 1, 80)
	wantRanges(t, q2, spool.Range{Boot: boot2, First: 1, Last: 0}, spool.Range{Boot: boot1, First: 1, Last: 80})
}

// What leaves memory without ever having been on disk is counted.
func TestDiskFullTooLong(t *testing.T) {
	d := &disk{full: true}
	q := open(t, spool.Config{Dir: t.TempDir(), Boot: boot1, Create: d.create, MemoryBytes: 1000})
	for seq := uint64(1); seq <= 100; seq++ {
		_ = q.Append(seq, int64(seq)*1000, isKey(seq), frame(boot1, seq))
	}
	r := q.Ranges()[0]
	if s := q.Stats(); r.First < 50 || s.Dropped != r.First-1 || s.Unacked != 101-r.First {
		t.Errorf("range %v, %+v", r, s)
	}
	wantSeqs(t, iterate(t, q, boot1, 1), r.First, 100)
}

// The disk itself is troubled only when an unacked batch grows old.
func TestSyncIfDue(t *testing.T) {
	d := &disk{}
	q := open(t, spool.Config{Dir: t.TempDir(), Boot: boot1, Create: d.create})
	for seq := uint64(1); seq <= 100; seq++ {
		fill(t, q, boot1, seq, seq)
		if err := q.SyncIfDue(time.UnixMilli(int64(seq) * 1000)); err != nil {
			t.Fatal(err)
		}
		if seq > 5 {
			q.Ack(boot1, seq-5)
		}
	}
	if d.syncs != 0 {
		t.Errorf("%d syncs though acks came within 5 s", d.syncs)
	}
	for seq := uint64(101); seq <= 200; seq++ {
		fill(t, q, boot1, seq, seq)
		if err := q.SyncIfDue(time.UnixMilli(int64(seq) * 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if d.syncs < 9 || d.syncs > 11 {
		t.Errorf("%d syncs in 100 s without acks", d.syncs)
	}
	before := d.syncs
	if err := q.Close(); err != nil || d.syncs == before {
		t.Errorf("Close: %v, %d syncs", err, d.syncs-before)
	}
}

// When a sync fails, what memory holds is written again.
func TestSyncFails(t *testing.T) {
	dir := t.TempDir()
	d := &disk{}
	q := open(t, spool.Config{Dir: dir, Boot: boot1, Create: d.create})
	fill(t, q, boot1, 1, 20)
	d.noSync = true
	if err := q.SyncIfDue(time.UnixMilli(20_000)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("SyncIfDue: %v", err)
	}
	d.noSync = false
	for seq := uint64(21); seq <= 40; seq++ {
		_ = q.Append(seq, int64(seq)*1000, isKey(seq), frame(boot1, seq))
	}
	names := files(t, dir)
	if len(names) != 2 || q.Stats().Failing != nil {
		t.Fatalf("%v, %+v", names, q.Stats())
	}
	if err := os.Remove(names[0]); err != nil { // the pages that the kernel lost
		t.Fatal(err)
	}
	q2 := open(t, spool.Config{Dir: dir, Boot: boot2})
	wantSeqs(t, iterate(t, q2, boot1, 1), 1, 40)
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	q := open(f, spool.Config{Dir: dir, Boot: boot1})
	fill(f, q, boot1, 1, 4)
	q.Ack(boot1, 2)
	data, err := os.ReadFile(files(f, dir)[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, []byte{})
	f.Add(data[:len(data)-3], data)
	f.Add(data[:40], data[:60])
	f.Add(bytes.Repeat(data[:4], 30), data)
	f.Fuzz(func(t *testing.T, before, after []byte) {
		dir := t.TempDir()
		all := append(append(bytes.Clone(before), data...), after...)
		if err := os.WriteFile(filepath.Join(dir, "0000000000000000.spool"), all, 0o600); err != nil {
			t.Fatal(err)
		}
		q, err := spool.Open(spool.Config{Dir: dir, Boot: boot2})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		n := 0
		if err := spool.Read(dir, func(r spool.Record) error {
			if r.Boot == boot1 && r.Seq >= 1 && r.Seq <= 4 && bytes.Equal(r.Frame, frame(boot1, r.Seq)) {
				n++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n < 3 { // what comes before may claim the first
			t.Fatalf("%d of 4 batches are left", n)
		}
	})
}
