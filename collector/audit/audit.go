// Package audit keeps the log of who did what: every change, every command with its result, every denial. It is a file of
// JSON lines, each holding the hash of the one before, so that a line that was changed or taken out is found.
//
// It only appends. Whoever must not act without a record calls Append first and does not act when that fails. It owns no
// goroutine; a Log may be used from many.
package audit

import (
	"bufio"
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
	// maxText bounds what an outsider can put into a line.
	maxText = 2048
	// tail is how many entries are answered from memory.
	tail = 4096
)

// Log is an open audit log.
type Log struct {
	clock func() time.Time

	mu     sync.Mutex
	file   file  // nil once it is closed, or cannot be relied on
	size   int64 // of the sound part
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
// acknowledged and is dropped; any other damage is an error that names the entry.
func Open(dir string, clock func() time.Time) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open audit log: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, fileName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open audit log: %w", err)
	}
	l := &Log{clock: clock, file: file}
	l.size, err = Verify(file, func(e Entry) { l.last = e; l.remember(e) })
	if err == nil {
		err = l.cutBack()
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot open audit log %s: %w", file.Name(), err)
	}
	return l, nil
}

// cutBack removes what stands after the sound part.
func (l *Log) cutBack() error {
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	_, err := l.file.Seek(l.size, io.SeekStart)
	return err
}

// Verify reads a log, calls each with every entry whose hash and predecessor are right, and returns the length of the
// part that is. An incomplete last line is not an error.
func Verify(r io.Reader, each func(Entry)) (good int64, err error) {
	in := bufio.NewReader(r)
	previous := ""
	var seq uint64
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return good, nil
		}
		if err != nil {
			return good, err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return good, fmt.Errorf("%w: line after entry %d: %v", ErrBroken, seq, err)
		}
		if e.Seq != seq+1 || e.Previous != previous || e.Hash != hash(e) {
			return good, fmt.Errorf("%w at entry %d: it does not follow entry %d", ErrBroken, e.Seq, seq)
		}
		seq, previous = e.Seq, e.Hash
		good += int64(len(line))
		each(e)
	}
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

// Append writes one entry and returns after it is on stable storage. After an error the entry is not in the log; where
// even that cannot be had, the log takes no more entries.
func (l *Log) Append(_ context.Context, who, what, subject, outcome, detail string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return errors.New("audit log is closed")
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
	if _, err = l.file.Write(b); err == nil {
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
	l.last = e
	l.remember(e)
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
		if _, err := Verify(file, func(e Entry) { entries = append(entries, e) }); err != nil {
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
	err := l.file.Close()
	l.file = nil
	return err
}
