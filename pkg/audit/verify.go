package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line that is read: the longest that Append writes, every byte of it escaped.
const maxLine = 6*4*maxText + 4096

// Broken says where a log stopped being what was written. It wraps ErrBroken.
type Broken struct {
	Line int    // from 1, in its file
	Seq  uint64 // of the last entry that was right
	Why  string
}

// Error names the line.
func (b *Broken) Error() string { return fmt.Sprintf("%v at line %d: %s", ErrBroken, b.Line, b.Why) }

// Unwrap returns ErrBroken.
func (b *Broken) Unwrap() error { return ErrBroken }

// Chain checks log files one after the other: each must go on where the one before ended. The zero Chain takes the first
// entry of the first file as given, whatever its number: what came before it is not there to be checked.
type Chain struct {
	last    Entry
	started bool
}

// FromStart is a Chain whose first entry must be the log's very first.
func FromStart() *Chain { return &Chain{started: true} }

// Part is what File found in one file.
type Part struct {
	Entries     int
	First, Last Entry
	Good        int64 // bytes of the part that is right
	Torn        bool  // the last line is cut short, as by a crash; it was never acknowledged
}

// File reads one file and calls each, where not nil, with every entry that is right. The error is a *Broken for the
// first line that is not.
func (c *Chain) File(r io.Reader, each func(Entry)) (Part, error) {
	var p Part
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(in)
		switch {
		case errors.Is(err, io.EOF):
			p.Torn = len(line) > 0
			return p, nil
		case errors.Is(err, bufio.ErrTooLong):
			return p, &Broken{n, c.last.Seq, "it is longer than any line of a log"}
		case err != nil:
			return p, err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return p, &Broken{n, c.last.Seq, "it is no entry: " + err.Error()}
		}
		// Only the very bytes that were written count: what JSON would overlook is a change too.
		if want, err := json.Marshal(e); err != nil || !bytes.Equal(append(want, '\n'), line) {
			return p, &Broken{n, c.last.Seq, "it is not as it was written"}
		}
		if e.Hash != hash(e) {
			return p, &Broken{n, c.last.Seq, fmt.Sprintf("entry %d was changed: its hash does not fit", e.Seq)}
		}
		if c.started && (e.Seq != c.last.Seq+1 || e.Previous != c.last.Hash) {
			return p, &Broken{n, c.last.Seq, fmt.Sprintf("entry %d does not follow entry %d: a line is missing, or both were exchanged", e.Seq, c.last.Seq)}
		}
		if p.Entries == 0 {
			p.First = e
		}
		c.started, c.last, p.Last = true, e, e
		p.Entries++
		p.Good += int64(len(line))
		if each != nil {
			each(e)
		}
	}
}

// Head returns number and hash of the last entry that was right.
func (c *Chain) Head() (uint64, string) { return c.last.Seq, c.last.Hash }

// FirstSeq returns the number that a log's first line claims, 0 where it claims none. Nothing is verified.
func FirstSeq(r io.Reader) uint64 {
	line, err := readLine(bufio.NewReader(r))
	var e Entry
	if err != nil || json.Unmarshal(line, &e) != nil {
		return 0
	}
	return e.Seq
}

// readLine returns a line with its end, or what is left with io.EOF.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return line, bufio.ErrTooLong
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// Verify reads a whole log, calls each with every entry whose hash and predecessor are right, and returns the length of the
// part that is. An incomplete last line is not an error.
func Verify(r io.Reader, each func(Entry)) (good int64, err error) {
	p, err := FromStart().File(r, each)
	return p.Good, err
}
