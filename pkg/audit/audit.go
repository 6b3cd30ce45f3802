// Package audit keeps the log of who did what: every change, every command with its result, every denial. It is a file of
// JSON lines, each holding the hash of the one before, so that a line that was changed or taken out is found.
//
// It only appends. Whoever must not act without a record calls Append first and does not act when that fails; who keeps
// a record of its own, as the actor's journal, may append first and sync later. It owns no goroutine; a Log may be used
// from many.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Entry is one line of the log.
type Entry struct {
	Seq      uint64    `json:"seq"`
	At       time.Time `json:"at"`
	Who      string    `json:"who"`
	What     string    `json:"what"`
	Subject  string    `json:"subject"`
	Outcome  string    `json:"outcome"` // done | denied | refused | failed
	Detail   string    `json:"detail,omitempty"`
	Previous string    `json:"previous"` // hash of the entry before
	Hash     string    `json:"hash"`     // SHA-256 of this entry with an empty hash, in hex
}

// ErrBroken is wrapped by the error that Verify returns for a log that was tampered with.
var ErrBroken = errors.New("audit chain is broken")

const (
	fileName = "audit.jsonl"
	// A file that was full is kept under the number of its first entry, so that names sort by age.
	fullName = "audit-%020d.jsonl"
	fullGlob = "audit-*.jsonl"
	// maxText bounds what an outsider can put into a line.
	maxText = 2048
	// tail is how many entries are answered from memory.
	tail = 4096
)

// Config says where a log is and how it is kept.
type Config struct {
	Dir   string // made with mode 0700
	Clock func() time.Time
	// MaxBytes is how long a file may get before the next begins, and Keep how many full ones are kept; the oldest go.
	// Zero MaxBytes: one file without end.
	MaxBytes int64
	Keep     int
	// Lazy appends return before the entry is on stable storage; Sync makes sure of it. What is appended survives the
	// end of this process, not of the host.
	Lazy bool
}

// Log is an open audit log.
type Log struct {
	cfg   Config
	clock func() time.Time

	mu     sync.Mutex
	dirty  bool   // guarded by mu: something is not synced
	file   file   // nil once it is closed, or cannot be relied on
	size   int64  // of the sound part
	first  uint64 // number of the file's first entry
	last   Entry
	recent []Entry
}

// file is the log's file as far as it is used.
type file interface {
	io.WriteSeeker
	Name() string
	Sync() error
	Truncate(size int64) error
	Close() error
}

// Open reads and verifies the log in dir and opens it for appending. A last line that was cut short by a crash was never
// acknowledged and is dropped; any other damage is an error that names the line.
func Open(dir string, clock func() time.Time) (*Log, error) {
	return New(Config{Dir: dir, Clock: clock})
}

// New is Open with all choices. Of a log in several files, the newest full one and the present one are verified.
func New(cfg Config) (*Log, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open audit log: %w", err)
	}
	l := &Log{cfg: cfg, clock: cfg.Clock}
	chain := FromStart()
	full, err := fullFiles(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open audit log: %w", err)
	}
	if len(full) > 0 {
		chain = &Chain{}
		newest := full[len(full)-1]
		f, err := os.Open(newest)
		if err != nil {
			return nil, fmt.Errorf("cannot open audit log: %w", err)
		}
		p, err := chain.File(f, l.take)
		f.Close()
		if err == nil && (p.Torn || p.Entries == 0) {
			err = fmt.Errorf("%w: a full file ends in the middle of a line", ErrBroken)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open audit log %s: %w", newest, err)
		}
	}
	file, err := os.OpenFile(filepath.Join(cfg.Dir, fileName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open audit log: %w", err)
	}
	l.file = file
	p, err := chain.File(file, l.take)
	l.size, l.first = p.Good, p.First.Seq
	if err == nil {
		err = l.cutBack()
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot open audit log %s: %w", file.Name(), err)
	}
	return l, nil
}

func (l *Log) take(e Entry) {
	l.last = e
	l.remember(e)
}

// fullFiles returns the full files of a log, oldest first.
func fullFiles(dir string) ([]string, error) {
	full, err := filepath.Glob(filepath.Join(dir, fullGlob))
	slices.Sort(full)
	return full, err
}

// beginLocked puts a full file aside and opens the next.
func (l *Log) beginLocked() error {
	if err := l.file.Sync(); err != nil {
		return err
	}
	aside := filepath.Join(l.cfg.Dir, fmt.Sprintf(fullName, l.first))
	if err := os.Rename(l.file.Name(), aside); err != nil {
		return err
	}
	next, err := os.OpenFile(filepath.Join(l.cfg.Dir, fileName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		// Going on in the full file keeps the chain whole.
		return errors.Join(err, os.Rename(aside, l.file.Name()))
	}
	l.file.Close()
	l.file, l.size, l.first = next, 0, 0
	full, err := fullFiles(l.cfg.Dir)
	for ; err == nil && len(full) > l.cfg.Keep; full = full[1:] {
		err = os.Remove(full[0])
	}
	return err
}

// Sync returns after everything that was appended is on stable storage.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty || l.file == nil {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("cannot write audit log: %w", err)
	}
	l.dirty = false
	return nil
}

// cutBack removes what stands after the sound part.
func (l *Log) cutBack() error {
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	_, err := l.file.Seek(l.size, io.SeekStart)
	return err
}

func hash(e Entry) string {
	e.Hash = ""
	b, err := json.Marshal(e)
	if err != nil {
		panic("BUG: an audit entry cannot be marshalled: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (l *Log) remember(e Entry) {
	if len(l.recent) >= 2*tail {
		l.recent = append(l.recent[:0], l.recent[len(l.recent)-tail:]...)
	}
	l.recent = append(l.recent, e)
}

// Append writes one entry and, unless the log is lazy, returns after it is on stable storage. After an error the entry is not in the log; where
// even that cannot be had, the log takes no more entries.
func (l *Log) Append(_ context.Context, who, what, subject, outcome, detail string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return errors.New("audit log is closed")
	}
	if l.cfg.MaxBytes > 0 && l.size >= l.cfg.MaxBytes {
		if err := l.beginLocked(); err != nil {
			return fmt.Errorf("cannot begin the next file of the audit log: %w", err)
		}
	}
	e := Entry{
		Seq: l.last.Seq + 1, At: l.clock().UTC().Truncate(time.Microsecond), Who: cut(who), What: cut(what), Subject: cut(subject),
		Outcome: outcome, Detail: cut(detail), Previous: l.last.Hash,
	}
	e.Hash = hash(e)
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot write audit log: %w", err)
	}
	b = append(b, '\n')
	if _, err = l.file.Write(b); err == nil && !l.cfg.Lazy {
		err = l.file.Sync()
	}
	if err != nil {
		// Half a line, or a whole one that counts as not written, would make the next one break the chain.
		if cut := l.cutBack(); cut != nil {
			l.file.Close()
			l.file = nil
		}
		return fmt.Errorf("cannot write audit log: %w", err)
	}
	l.size += int64(len(b))
	l.dirty = l.cfg.Lazy
	if l.first == 0 {
		l.first = e.Seq
	}
	l.take(e)
	return nil
}

func cut(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + " [cut]"
	}
	return string(bytes.ToValidUTF8([]byte(s), []byte("?")))
}

// List returns up to limit entries after seq, oldest first; without seq, the newest. Subject narrows it where not empty.
func (l *Log) List(seq uint64, limit int, subject string) ([]Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := l.recent
	if len(entries) > 0 && seq+1 < entries[0].Seq && seq > 0 && l.file != nil {
		// Older than what is in memory: read the file again, through a descriptor of its own.
		file, err := os.Open(l.file.Name())
		if err != nil {
			return nil, fmt.Errorf("cannot read audit log: %w", err)
		}
		defer file.Close()
		entries = nil
		if _, err := (&Chain{}).File(file, func(e Entry) { entries = append(entries, e) }); err != nil {
			return nil, fmt.Errorf("cannot read audit log: %w", err)
		}
	}
	var found []Entry
	for _, e := range entries {
		if e.Seq > seq && (subject == "" || e.Subject == subject) {
			found = append(found, e)
		}
	}
	if len(found) > limit {
		if seq > 0 {
			return found[:limit], nil
		}
		found = found[len(found)-limit:]
	}
	return append([]Entry(nil), found...), nil
}

// Head returns the sequence and hash of the last entry, to be kept apart from the log.
func (l *Log) Head() (uint64, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.Seq, l.last.Hash
}

// Close ends the log; later appends fail.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	var err error
	if l.dirty {
		err = l.file.Sync()
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}
