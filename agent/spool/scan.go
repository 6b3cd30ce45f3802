package spool

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// scanner reads the records of a segment one by one, and goes on after bad ones.
type scanner struct {
	f     io.ReaderAt
	off   int64 // of buf[0] in the file
	buf   []byte
	bad   int   // stretches of bytes that are no record
	inBad bool  // the last bytes were none
	end   int64 // of the last whole record
}

const scanBuffer = 64 << 10

// next returns the next record before limit, an offset in the file; io.EOF when there is none. Its frame is valid until
// the next call.
func (s *scanner) next(limit int64) (Record, byte, error) {
	for {
		r, flags, size, v := parse(s.buf)
		switch v {
		case whole:
			s.buf = s.buf[size:]
			s.off += int64(size)
			s.end, s.inBad = s.off, false
			return r, flags, nil
		case short:
			if s.off+int64(max(size, headSize)) <= limit {
				if err := s.fill(max(size, headSize), limit); err != nil {
					return Record{}, 0, err
				}
				continue
			}
			// It claims to be longer than the file. Either it is the torn end or its length is what is bad.
			if len(s.buf) < len(marker) && s.off+int64(len(s.buf)) >= limit {
				return Record{}, 0, io.EOF
			}
		}
		if !s.inBad {
			s.bad++
			s.inBad = true
		}
		n := resync(s.buf)
		s.buf = s.buf[n:]
		s.off += int64(n)
		if len(s.buf) < len(marker) {
			if s.off+int64(len(s.buf)) >= limit {
				return Record{}, 0, io.EOF
			}
			if err := s.fill(headSize, limit); err != nil {
				return Record{}, 0, err
			}
		}
	}
}

// fill makes buf hold at least n bytes, or what there is before limit.
func (s *scanner) fill(n int, limit int64) error {
	n = int(min(int64(max(n, scanBuffer)), limit-s.off))
	if n <= len(s.buf) {
		return io.EOF
	}
	have := len(s.buf)
	// The old buffer is not written to: a caller may hold a frame in it until it asks for the next.
	next := make([]byte, n)
	copy(next, s.buf)
	got, err := s.f.ReadAt(next[have:], s.off+int64(have))
	s.buf = next[:have+got]
	if got == 0 {
		if err == nil || err == io.EOF {
			return io.EOF
		}
		return err
	}
	return nil
}

const suffix = ".spool"

// segmentName is the name of the file of a segment; names sort as the segments do.
func segmentName(id uint64) string { return fmt.Sprintf("%016x%s", id, suffix) }

// segmentIDs lists the segments of a folder, oldest first.
func segmentIDs(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, e := range entries {
		name, found := strings.CutSuffix(e.Name(), suffix)
		if id, err := strconv.ParseUint(name, 16, 64); found && err == nil && len(name) == 16 && e.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Read calls f with every batch of the spool in dir, oldest segment first, acked or not, until f returns an error, which
// Read then returns. It changes nothing, and bad records are left out. The frame is valid only during the call.
func Read(dir string, f func(Record) error) error {
	ids, err := segmentIDs(dir)
	if err != nil {
		return fmt.Errorf("cannot read spool: %w", err)
	}
	for _, id := range ids {
		if err := readSegment(filepath.Join(dir, segmentName(id)), f); err != nil {
			return err
		}
	}
	return nil
}

func readSegment(path string, f func(Record) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read spool: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("cannot read spool: %w", err)
	}
	s := scanner{f: file}
	for {
		r, flags, err := s.next(info.Size())
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read spool: %w", err)
		}
		if flags&flagAck != 0 {
			continue
		}
		if err := f(r); err != nil {
			return err
		}
	}
}
