package actor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A journal file is a header of 8 bytes, "EKJRNL" and the format version as big endian, and then records: 4 bytes of
// length, 4 bytes of CRC32C over length and payload, and the payload, which is one JSON entry.
const (
	journalMagic   = "EKJRNL"
	journalVersion = 1
	headerLen      = 8
	frameLen       = 8
	maxRecord      = 64 << 20
	compactAbove   = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBroken is returned once a write has failed in a way that could not be undone: nothing may be begun any more.
var errBroken = errors.New("the journal can no longer be written")

// journal is the file. It is used from one goroutine.
type journal struct {
	path   string
	f      *os.File
	size   int64
	floor  int64 // size after the last compaction
	broken bool
	sync   func(*os.File) error
}

// openJournal reads what is there. A torn tail is cut off. Where a whole record follows a damaged one, or the header is
// wrong, the file is not to be relied on: it is kept under another name, what could be read is returned with damaged
// set, and the journal starts empty.
func openJournal(path string, syncFile func(*os.File) error) (j *journal, entries []entry, damaged bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, false, fmt.Errorf("cannot read journal: %w", err)
	}
	if len(b) >= headerLen && string(b[:6]) == journalMagic {
		if v := binary.BigEndian.Uint16(b[6:]); v != journalVersion {
			return nil, nil, false, fmt.Errorf("journal %s has format version %d, this actor knows %d", path, v, journalVersion)
		}
	}
	entries, good, damaged := scan(b)
	if damaged {
		if err := os.Rename(path, path+".damaged"); err != nil {
			return nil, nil, true, fmt.Errorf("cannot put the damaged journal aside: %w", err)
		}
		good = 0
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, damaged, fmt.Errorf("cannot open journal: %w", err)
	}
	j = &journal{path: path, f: f, size: good, sync: syncFile}
	if good == 0 {
		err = j.begin()
	} else if err = f.Truncate(good); err == nil {
		err = j.sync(f)
	}
	if err != nil {
		f.Close()
		return nil, nil, damaged, fmt.Errorf("cannot prepare journal: %w", err)
	}
	return j, entries, damaged, nil
}

// scan returns the entries of a journal's bytes and the length of its sound part. It is damaged where sound records
// stand after unsound bytes: a torn write leaves none.
func scan(b []byte) (entries []entry, good int64, damaged bool) {
	if len(b) == 0 {
		return nil, 0, false
	}
	if len(b) < headerLen {
		return nil, 0, string(b[:min(len(b), 6)]) != journalMagic[:min(len(b), 6)]
	}
	if string(b[:6]) != journalMagic {
		damaged = true
	}
	at := headerLen
	for at < len(b) {
		e, n, ok := readRecord(b[at:])
		if ok {
			entries = append(entries, e)
			at += n
			if !damaged {
				good = int64(at)
			}
			continue
		}
		next := -1
		for i := at + 1; i+frameLen < len(b); i++ {
			if _, _, ok := readRecord(b[i:]); ok {
				next = i
				break
			}
		}
		if next < 0 {
			break
		}
		damaged = true
		at = next
	}
	if good == 0 && !damaged {
		good = headerLen
	}
	return entries, good, damaged
}

func readRecord(b []byte) (entry, int, bool) {
	if len(b) < frameLen {
		return entry{}, 0, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > maxRecord || uint64(len(b)) < frameLen+uint64(n) {
		return entry{}, 0, false
	}
	payload := b[frameLen : frameLen+n]
	crc := crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, payload)
	if crc != binary.BigEndian.Uint32(b[4:]) {
		return entry{}, 0, false
	}
	var e entry
	if json.Unmarshal(payload, &e) != nil {
		return entry{}, 0, false
	}
	return e, frameLen + int(n), true
}

func frame(e entry) ([]byte, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(payload) > maxRecord {
		return nil, fmt.Errorf("journal record of %d bytes is over the limit of %d", len(payload), maxRecord)
	}
	b := make([]byte, frameLen, frameLen+len(payload))
	binary.BigEndian.PutUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[4:], crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, payload))
	return b, nil
}

func (j *journal) begin() error {
	if err := j.f.Truncate(0); err != nil {
		return err
	}
	header := binary.BigEndian.AppendUint16([]byte(journalMagic), journalVersion)
	if _, err := j.f.WriteAt(header, 0); err != nil {
		return err
	}
	j.size = headerLen
	if err := j.sync(j.f); err != nil {
		return err
	}
	return syncDir(filepath.Dir(j.path))
}

// append writes one entry; durable entries are on stable storage when it returns. After an error the entry is not in
// the journal, or the journal is broken for good.
func (j *journal) append(e entry, durable bool) error {
	if j.broken {
		return errBroken
	}
	b, err := frame(e)
	if err != nil {
		return err
	}
	_, err = j.f.WriteAt(b, j.size)
	if err == nil && durable {
		err = j.sync(j.f)
	}
	if err != nil {
		// What reached the disk is unknown, so the file must at least end before it.
		if e := j.f.Truncate(j.size); e != nil || j.sync(j.f) != nil {
			j.broken = true
		}
		return fmt.Errorf("cannot write journal: %w", err)
	}
	j.size += int64(len(b))
	return nil
}

// rewrite replaces the file by one that holds a single entry.
func (j *journal) rewrite(e entry) error {
	if j.broken {
		return errBroken
	}
	b, err := frame(e)
	if err != nil {
		return err
	}
	name := j.path + ".new"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(binary.BigEndian.AppendUint16([]byte(journalMagic), journalVersion), b...))
	if err == nil {
		err = j.sync(f)
	}
	if err == nil {
		err = os.Rename(name, j.path)
	}
	if err != nil {
		f.Close()
		os.Remove(name)
		return fmt.Errorf("cannot compact journal: %w", err)
	}
	j.f.Close()
	j.f, j.size = f, int64(headerLen+len(b))
	j.floor = j.size
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		j.broken = true // which of the two files a power cut leaves is unknown
		return fmt.Errorf("cannot compact journal: %w", err)
	}
	return nil
}

// worthCompacting reports whether most of the file is history.
func (j *journal) worthCompacting() bool { return j.size > max(compactAbove, 2*j.floor) }

func (j *journal) close() error { return j.f.Close() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// lockState takes the state folder for this process, so that an offline revert and a running actor never share it.
func lockState(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is used by another evenkeel-actor: %w", dir, err)
	}
	return f, nil
}
