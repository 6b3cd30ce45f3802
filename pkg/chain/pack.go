package chain

import "encoding/binary"

// packer finds what repeats in a dictionary: the names of neighbours are much alike, so a few bytes stand for most of each.
type packer struct {
	last [1 << packBits]int32 // where four bytes of this hash stood last, plus 1
}

const (
	packBits = 12
	minMatch = 4
)

func packHash(v uint32) uint32 { return v * 2654435761 >> (32 - packBits) }

// pack appends raw to dst, packed. It never makes more than len(raw) + len(raw)/128 + 8 bytes.
func (p *packer) pack(dst, raw []byte) []byte {
	clear(p.last[:])
	from := 0 // first byte not yet written
	for i := 0; i+minMatch <= len(raw); {
		v := binary.LittleEndian.Uint32(raw[i:])
		h := packHash(v)
		at := int(p.last[h]) - 1
		p.last[h] = int32(i) + 1
		if at < 0 || binary.LittleEndian.Uint32(raw[at:]) != v {
			i++
			continue
		}
		n := minMatch
		for i+n < len(raw) && raw[at+n] == raw[i+n] {
			n++
		}
		// A match that is as dear as what it stands for would make the worst case worse.
		if n < minMatch+1 && i-at >= 1<<7 {
			i++
			continue
		}
		dst = packSequence(dst, raw[from:i], n-minMatch)
		dst = binary.AppendUvarint(dst, uint64(i-at))
		for j := i + 1; j < i+n && j+minMatch <= len(raw); j++ {
			p.last[packHash(binary.LittleEndian.Uint32(raw[j:]))] = int32(j) + 1
		}
		i += n
		from = i
	}
	if from < len(raw) {
		dst = packSequence(dst, raw[from:], 0)
	}
	return dst
}

func packSequence(dst, literals []byte, match int) []byte {
	l, m := min(len(literals), 15), min(match, 15)
	dst = append(dst, byte(l<<4|m))
	if l == 15 {
		dst = binary.AppendUvarint(dst, uint64(len(literals)-15))
	}
	if m == 15 {
		dst = binary.AppendUvarint(dst, uint64(match-15))
	}
	return append(dst, literals...)
}

// unpack makes exactly size bytes of all of b, or fails. It allocates size bytes; the caller has bounded size.
func unpack(b []byte, size int) ([]byte, error) {
	out := make([]byte, 0, size)
	r := reader{b: b}
	for len(out) < size {
		t := r.byte()
		l, m := int(t>>4), int(t&15)
		if l == 15 {
			l += r.below(MaxDictionary, "packing")
		}
		if m == 15 {
			m += r.below(MaxDictionary, "packing")
		}
		lit := r.bytes(l)
		if r.err != nil {
			return nil, r.err
		}
		if len(lit) > size-len(out) {
			return nil, corrupt("packing")
		}
		out = append(out, lit...)
		if len(out) == size {
			if m != 0 {
				return nil, corrupt("packing")
			}
			break
		}
		back := r.uvarint()
		m += minMatch
		if r.err != nil || back == 0 || back > uint64(len(out)) || m > size-len(out) {
			return nil, corrupt("packing")
		}
		for from := len(out) - int(back); m > 0; m-- {
			out = append(out, out[from])
			from++
		}
	}
	if len(r.b) != 0 {
		return nil, corrupt("packing")
	}
	return out, nil
}
