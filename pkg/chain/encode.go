package chain

import (
	"encoding/binary"
	"math/bits"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// noGroup is the group of a slot without a series: no bit of any set of groups.
const noGroup = 0xff

const (
	startWidth = 16  // of a series of which nothing is known
	maxWidth   = 128 // what learn comes to at most
)

const busy = 0xff // a history of nothing but changes

// slot is what both sides keep of a series, besides its reading, to code the next change.
type slot struct {
	ref     metric.Ref
	group   metric.Group // noGroup: no series here
	history uint8
	width   uint8
	float   bool
}

// moved notes that the series' group ran, and whether its reading changed.
func (s *slot) moved(changed uint8) { s.history = s.history<<1 | changed }

func (s *slot) k() uint {
	if s.width < 2 {
		return 0
	}
	return uint(s.width>>1) - 1
}

func (s *slot) learn(z uint64) { s.width = uint8((uint(s.width) + 2*uint(bits.Len64(z)) + 1) / 2) }

// Encoder writes the frames of one chain. The zero Encoder is ready; its first frame is a key frame.
//
// After warm-up Append allocates nothing beyond what dst may need.
type Encoder struct {
	slots   []slot
	last    []int64 // by slot: the reading last sent
	entry   []int32 // bytes that each slot's entry counts for in the dictionary
	dict    int     // their sum
	live    int
	skipped int

	counter  uint64
	sinceKey int // frames
	at, step int64
	force    bool
	wasKey   bool

	packer packer
	plain  []byte   // dictionary before packing
	packed []byte   // and after
	added  []int32  // slots
	gone   []int32  // slots
	turns  []int32  // slots whose change is coded or told
	gaps   []uint32 // quiet series passed over
}

// Append appends one frame to dst: what t holds on this tick, at (ms since 1970) being its time. The caller calls t.Next
// afterwards. It compares the table with what it sent before and so needs neither Added nor Gone: a tick that was never
// encoded is made good by the next one. With key, after ForceKey, first of all, and each KeyEvery frames, it is a key
// frame. The frame is never longer than MaxFrame.
func (e *Encoder) Append(dst []byte, t *metric.Table, at int64, key bool) []byte {
	key = key || e.force || e.counter == 0 || e.sinceKey >= KeyEvery-1
	e.counter++
	ran := t.Groups()
	e.compare(t, ran)

	flags := byte(0)
	switch {
	case key:
		flags = flagKey
	case len(e.added)+len(e.gone) > 0:
		flags = flagSeries
	}
	dst = append(dst, Version, flags)
	dst = binary.AppendUvarint(dst, e.counter)
	if key {
		if e.counter > 1 {
			e.step = at - e.at
		}
		dst = binary.AppendUvarint(dst, uint64(at))
		dst = binary.AppendUvarint(dst, zigzag(e.step))
	} else {
		dst = binary.AppendUvarint(dst, zigzag(at-e.at-e.step))
		e.step = at - e.at
	}
	e.at = at
	dst = binary.AppendUvarint(dst, ran)

	w := bitWriter{}
	if key {
		e.added = e.added[:0]
		for i := range e.slots {
			if e.slots[i].group != noGroup {
				e.added = append(e.added, int32(i))
			}
		}
		dst = e.series(dst, t)
		w.b = dst
		for _, i := range e.added {
			s := &e.slots[i]
			if ran>>s.group&1 != 0 {
				e.settle(s, i, t.Raw(metric.Slot(i)))
			}
			if s.history == 0 {
				s.width = startWidth
				w.put(0, 1)
			} else {
				w.put(1<<16|uint64(s.history)<<8|uint64(s.width), 17)
			}
			putRaw(&w, s.float, e.last[i])
		}
		e.sinceKey, e.force = 0, false
	} else {
		if flags == flagSeries {
			dst = binary.AppendUvarint(dst, uint64(len(e.gone)))
			next := int32(0)
			for _, i := range e.gone {
				dst = binary.AppendUvarint(dst, uint64(i-next))
				next = i + 1
			}
			dst = e.series(dst, t)
		}
		w.b = dst
		for _, i := range e.added {
			putRaw(&w, e.slots[i].float, e.last[i])
		}
		e.changes(&w, t)
		e.sinceKey++
	}
	e.wasKey = key
	return w.finish()
}

// settle takes the reading of a series of a key frame as any frame would, so that what both sides learn goes on.
func (e *Encoder) settle(s *slot, i int32, raw int64) {
	d := raw - e.last[i]
	if d == 0 {
		s.moved(0)
		return
	}
	if !s.float {
		s.learn(zigzag(d))
	}
	e.last[i] = raw
	s.moved(1)
}

// compare finds what was added, what is gone, and the turns and gaps of the rest.
func (e *Encoder) compare(t *metric.Table, ran uint64) {
	e.added, e.gone, e.turns, e.gaps = e.added[:0], e.gone[:0], e.turns[:0], e.gaps[:0]
	e.skipped = 0
	n := t.Len()
	if n > MaxSeries {
		for i := MaxSeries; i < n; i++ {
			if t.Live(metric.Slot(i)) {
				e.skipped++
			}
		}
		n = MaxSeries
	}
	for len(e.slots) < n {
		e.slots = append(e.slots, slot{group: noGroup})
		e.last = append(e.last, 0)
		e.entry = append(e.entry, 0)
	}
	gap := uint32(0)
	for i := range e.slots {
		s := &e.slots[i]
		at := metric.Slot(i)
		live := i < n && t.Live(at)
		if s.group != noGroup && (!live || t.RefOf(at) != s.ref) {
			e.gone = append(e.gone, int32(i))
			e.dict -= int(e.entry[i])
			e.live--
			s.group = noGroup
		}
		if !live {
			continue
		}
		if s.group == noGroup {
			e.admit(s, t, at)
			continue
		}
		if ran>>s.group&1 == 0 {
			continue
		}
		changed := t.Raw(at) != e.last[i]
		if s.history != 0 {
			e.turns = append(e.turns, int32(i))
		} else if changed {
			e.turns = append(e.turns, int32(i))
			e.gaps = append(e.gaps, gap)
			gap = 0
		} else {
			gap++
		}
	}
}

// admit starts a series, or leaves it out where it cannot travel.
func (e *Encoder) admit(s *slot, t *metric.Table, i metric.Slot) {
	d := t.Desc(i)
	size, ok := fits(d)
	if !ok || e.dict+size > MaxDictionary {
		e.skipped++
		return
	}
	e.last[i] = t.Raw(i)
	*s = slot{ref: t.RefOf(i), group: d.Group, width: startWidth, float: d.Float}
	e.entry[i] = int32(size)
	e.dict += size
	e.live++
	e.added = append(e.added, int32(i))
}

// series writes the series section for e.added.
func (e *Encoder) series(dst []byte, t *metric.Table) []byte {
	runs := 0
	for j, i := range e.added {
		if j == 0 || i != e.added[j-1]+1 || e.slots[i].ref != e.slots[i-1].ref+1 {
			runs++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(runs))
	nextSlot, nextRef := int32(0), metric.Ref(0)
	for j := 0; j < len(e.added); {
		i, ref, n := e.added[j], e.slots[e.added[j]].ref, 1
		for j+n < len(e.added) && e.added[j+n] == i+int32(n) && e.slots[e.added[j+n]].ref == ref+metric.Ref(n) {
			n++
		}
		dst = binary.AppendUvarint(dst, uint64(i-nextSlot))
		dst = binary.AppendUvarint(dst, zigzag(int64(ref)-int64(nextRef)))
		dst = binary.AppendUvarint(dst, uint64(n-1))
		nextSlot, nextRef = i+int32(n), ref+metric.Ref(n)
		j += n
	}
	e.plain = e.plain[:0]
	for _, i := range e.added {
		e.plain = appendEntry(e.plain, t.Desc(metric.Slot(i)))
	}
	e.packed = e.packer.pack(e.packed[:0], e.plain)
	dst = binary.AppendUvarint(dst, uint64(len(e.plain)))
	dst = binary.AppendUvarint(dst, uint64(len(e.packed)))
	return append(dst, e.packed...)
}

const (
	entryFloat = 1 << 7
	entryScale = 1 << 6
)

func appendEntry(b []byte, d *metric.Desc) []byte {
	head := byte(d.Group)
	if d.Float {
		head |= entryFloat
	}
	if d.Scale != (metric.Scale{}) {
		head |= entryScale
	}
	b = append(b, head)
	if head&entryScale != 0 {
		b = binary.AppendUvarint(b, uint64(d.Scale.Mul))
		b = binary.AppendUvarint(b, uint64(d.Scale.Div))
	}
	b = append(b, byte(len(d.Labels)), byte(len(d.Name)))
	b = append(b, d.Name...)
	for i := range d.Labels {
		l := &d.Labels[i]
		b = append(b, byte(len(l.Name)))
		b = append(b, l.Name...)
		b = binary.AppendUvarint(b, uint64(len(l.Value)))
		b = append(b, l.Value...)
	}
	return b
}

func putRaw(w *bitWriter, float bool, raw int64) {
	if float {
		w.putLong(uint64(raw), 64)
		return
	}
	z := zigzag(raw)
	n := uint(bits.Len64(z))
	w.put(uint64(n), 7)
	if n > 1 {
		w.putLong(z&(1<<(n-1)-1), n-1)
	}
}

// changes writes the columns of a delta frame.
func (e *Encoder) changes(w *bitWriter, t *metric.Table) {
	w.putE(0, uint64(len(e.gaps)))
	for _, g := range e.gaps {
		w.putE(3, uint64(g))
	}
	for _, i := range e.turns {
		s := &e.slots[i]
		raw := t.Raw(metric.Slot(i))
		d := raw - e.last[i]
		changed := uint8(0)
		if d != 0 {
			changed = 1
		}
		if s.history != 0 && (s.history != busy || s.float) {
			w.put(uint64(changed), 1)
		}
		switch {
		case s.float:
			if changed == 1 {
				putFloat(w, uint64(raw^e.last[i]))
			}
		case s.history == busy || changed == 1:
			z := zigzag(d)
			if s.history != busy {
				z--
			}
			w.putE(s.k(), z)
			if changed == 1 {
				s.learn(z)
			}
		}
		e.last[i] = raw
		s.moved(changed)
	}
}

// putFloat writes the bytes of x between its zero bytes; x is not 0.
func putFloat(w *bitWriter, x uint64) {
	high, low := uint(bits.LeadingZeros64(x))/8, uint(bits.TrailingZeros64(x))/8
	n := 8 - high - low
	w.put(uint64(high<<3|(n-1)), 6)
	w.putLong(x>>(8*low), 8*n)
}

// ForceKey makes the next frame a key frame.
func (e *Encoder) ForceKey() { e.force = true }

// WasKey reports whether the frame written last was a key frame.
func (e *Encoder) WasKey() bool { return e.wasKey }

// Live returns how many series the frame written last covers.
func (e *Encoder) Live() int { return e.live }

// Skipped returns how many live series of the table the frame written last left out, since no frame may carry them:
// names or labels that are not valid, or more than the limits allow.
func (e *Encoder) Skipped() int { return e.skipped }
