package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// BootID names one start of an agent.
type BootID [16]byte

// Record is one batch of the spool.
type Record struct {
	Boot  BootID
	Seq   uint64 // rises within a boot
	At    int64  // ms since 1970, by the agent's clock
	Key   bool   // the frame is a key frame
	Frame []byte
}

// The head of a record. Numbers are little-endian, and the checksum covers everything but the marker and itself.
const (
	offVersion = 4
	offFlags   = 5
	offLength  = 8
	offSum     = 12
	offBoot    = 16
	offSeq     = 32
	offAt      = 40
	headSize   = 48

	version  = 1
	flagKey  = 1 << 0 // the frame is a key frame
	flagAck  = 1 << 1 // no batch: the boot's batches up to Seq are stored by a collector
	maxFrame = 1 << 20
)

// marker begins every record; after a bad one, reading goes on at the next.
var marker = [4]byte{0xe5, 'K', 0x8e, 0xf1}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the bytes of r.
func appendRecord(dst []byte, r *Record, flags byte) []byte {
	start := len(dst)
	dst = append(dst, marker[:]...)
	dst = append(dst, version, flags, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Frame)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, r.Boot[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, r.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.At))
	dst = append(dst, r.Frame...)
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[offSum:], checksum(b))
	return dst
}

func checksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[offVersion:offSum])
	return crc32.Update(sum, castagnoli, b[offBoot:])
}

// verdict is what stands at the beginning of some bytes.
type verdict int

const (
	whole verdict = iota // a record
	short                // perhaps the beginning of one
	bad                  // none
)

// parse reads the record at the beginning of b. size is its length, when whole, or the length it claims to have when
// short, 0 if even that is not there. The frame is part of b.
func parse(b []byte) (r Record, flags byte, size int, v verdict) {
	n := min(len(b), len(marker))
	if !bytes.Equal(b[:n], marker[:n]) {
		return r, 0, 0, bad
	}
	if len(b) < headSize {
		return r, 0, 0, short
	}
	length := binary.LittleEndian.Uint32(b[offLength:])
	if b[offVersion] != version || length > maxFrame {
		return r, 0, 0, bad
	}
	size = headSize + int(length)
	if len(b) < size {
		return r, 0, size, short
	}
	b = b[:size]
	if checksum(b) != binary.LittleEndian.Uint32(b[offSum:]) {
		return r, 0, 0, bad
	}
	flags = b[offFlags]
	copy(r.Boot[:], b[offBoot:])
	r.Seq = binary.LittleEndian.Uint64(b[offSeq:])
	r.At = int64(binary.LittleEndian.Uint64(b[offAt:]))
	r.Key = flags&flagKey != 0
	r.Frame = b[headSize:]
	return r, flags, size, whole
}

// resync returns how many bytes of b, whose first is no record's, to leave out before trying again.
func resync(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if i := bytes.Index(b[1:], marker[:]); i >= 0 {
		return 1 + i
	}
	for n := len(marker) - 1; n > 0; n-- { // one may begin at the very end
		if len(b) > n && bytes.HasSuffix(b, marker[:n]) {
			return len(b) - n
		}
	}
	return len(b)
}
