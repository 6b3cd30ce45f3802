package chain

import (
	"encoding/binary"
	"math/bits"
)

// bitWriter appends bits to b, the high end of each byte first.
type bitWriter struct {
	b   []byte
	acc uint64 // the lowest n bits wait; what is above them is spent
	n   uint   // below 32 between calls
}

// put writes the lowest n bits of v, which has no others; n is at most 32.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc = w.acc<<n | v
	w.n += n
	if w.n >= 32 {
		w.n -= 32
		w.b = binary.BigEndian.AppendUint32(w.b, uint32(w.acc>>w.n))
	}
}

// putLong is put for n up to 64.
func (w *bitWriter) putLong(v uint64, n uint) {
	if n > 32 {
		w.put(v>>32, n-32)
		v, n = v&0xffffffff, 32
	}
	w.put(v, n)
}

// putE writes E(k, z) of the layout.
func (w *bitWriter) putE(k uint, z uint64) {
	q := z >> k
	if q >= escape {
		w.put(0, escapeZeros)
		w.putLong(z, 64)
		return
	}
	w.putLong(q+1, 2*uint(bits.Len64(q+1))-1)
	w.putLong(z&(1<<k-1), k)
}

const (
	escapeZeros = 20
	escape      = 1<<escapeZeros - 1
)

// finish pads to a whole byte and returns all bytes.
func (w *bitWriter) finish() []byte {
	for w.n >= 8 {
		w.n -= 8
		w.b = append(w.b, byte(w.acc>>w.n))
	}
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc<<(8-w.n)))
		w.n = 0
	}
	return w.b
}

// bitReader reads what a bitWriter wrote. Beyond the end it reads zeros; ok tells afterwards whether it came to that.
type bitReader struct {
	b   []byte
	pos uint // in bits
}

// peek returns at least the next 57 bits, from the high end.
func (r *bitReader) peek() uint64 {
	i := r.pos >> 3
	if i+8 <= uint(len(r.b)) {
		return binary.BigEndian.Uint64(r.b[i:]) << (r.pos & 7)
	}
	var v uint64
	for s := 56; i < uint(len(r.b)) && s >= 0; s -= 8 {
		v |= uint64(r.b[i]) << s
		i++
	}
	return v << (r.pos & 7)
}

// get reads n bits, at most 56.
func (r *bitReader) get(n uint) uint64 {
	v := r.peek() >> (64 - n)
	r.pos += n
	return v
}

func (r *bitReader) getLong(n uint) uint64 {
	if n > 32 {
		return r.get(n-32)<<32 | r.get(32)
	}
	return r.get(n)
}

// getE reads E(k, z).
func (r *bitReader) getE(k uint) uint64 {
	v := r.peek()
	c := uint(bits.LeadingZeros64(v))
	if c >= escapeZeros {
		r.pos += escapeZeros
		return r.getLong(64)
	}
	if n := 2*c + 1 + k; n <= 56 {
		r.pos += n
		q := v<<c>>(63-c) - 1
		return q<<k | v<<(2*c+1)>>(64-k)
	}
	q := r.get(2*c+1) - 1
	return q<<k | r.getLong(k)
}

// ok reports whether everything was read and nothing beyond it, padding aside.
func (r *bitReader) ok() bool {
	n := uint(len(r.b)) * 8
	if r.pos > n || n-r.pos >= 8 {
		return false
	}
	return r.pos == n || r.b[len(r.b)-1]<<(8-(n-r.pos)) == 0
}

// spoil makes ok false for good.
func (r *bitReader) spoil() { r.pos = 1 << 62 }

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// reader takes the fields before the columns. After an error everything is 0.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) preamble() (flags byte, err error) {
	switch {
	case len(r.b) < 2:
		return 0, corrupt("too short")
	case r.b[0] != Version:
		return 0, ErrVersion
	}
	flags, r.b = r.b[1], r.b[2:]
	if flags != 0 && flags != flagKey && flags != flagSeries {
		return 0, corrupt("flags")
	}
	return flags, nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(corrupt("cut short"))
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail(corrupt("number"))
		return 0
	}
	r.b = r.b[n:]
	return v
}

// below reads a number that must be less than bound.
func (r *reader) below(bound uint64, what string) int {
	v := r.uvarint()
	if v >= bound {
		r.fail(limit(what))
		return 0
	}
	return int(v)
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail(corrupt("cut short"))
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}
