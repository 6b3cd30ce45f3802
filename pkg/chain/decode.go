package chain

import (
	"errors"
	"hash/maphash"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Series is a live series of a chain and the index at which a Decoder keeps it. It does not change.
type Series struct {
	Index int32
	Ref   metric.Ref
	metric.Desc
}

// Decoder reads the frames of one chain at a time, and is ready as its zero value. It keeps the state of the chain in
// columns by index, so whoever stores the samples can keep what it knows of a series in a slice of its own, by the same index.
//
// An index belongs to a series from the frame that adds it to the one that ends it, over any number of key frames and
// errors; a key frame that repeats a series neither moves nor announces it. The index may be given to another series in
// the very frame that ends the first, so Gone is to be heeded before Added.
//
// A key frame of another chain, such as that of the agent's next run, is taken too: series that are not exactly the same
// (identity, ref and index) are then gone and added.
type Decoder struct {
	series  []*Series // by index; nil: none
	told    []*Series // as of the last frame that was taken
	slots   []slot
	raw     []int64
	live    int
	samples []int32
	added   []*Series
	gone    []*Series
	gaps    []uint32

	ok       bool // a delta frame may follow
	key      bool
	counter  uint64
	at, step int64
	ran      uint64

	seed     maphash.Seed // zero until the first key frame
	dictSum  uint64       // of the series section of a key frame ...
	dictLen  int          // ... and its length
	dictSame bool         // series are still those of that section
}

// Decode takes the next frame, which it neither keeps nor changes. An error is one of ErrVersion, ErrNeedKey, ErrCorrupt and
// ErrLimit; the accessors then tell nothing of the refused frame and Samples is empty.
func (d *Decoder) Decode(frame []byte) error {
	d.samples, d.added, d.gone = d.samples[:0], d.added[:0], d.gone[:0]
	if len(frame) > MaxFrame {
		d.ok = false
		return limit("bytes")
	}
	r := reader{b: frame}
	flags, err := r.preamble()
	if errors.Is(err, ErrVersion) {
		return err
	}
	counter := r.uvarint()
	key := flags&flagKey != 0
	if err == nil && r.err == nil && !key && (!d.ok || counter != d.counter+1) {
		return ErrNeedKey
	}
	if err == nil {
		err = d.take(&r, flags, key)
	}
	if err != nil {
		d.ok = false
		d.samples, d.added, d.gone = d.samples[:0], d.added[:0], d.gone[:0]
		return err
	}
	d.ok, d.key, d.counter = true, key, counter
	return nil
}

// take reads everything after the counter. All that can be checked is, before the first series changes.
func (d *Decoder) take(r *reader, flags byte, key bool) error {
	at, step := int64(0), int64(0)
	if key {
		at, step = int64(r.uvarint()), unzigzag(r.uvarint())
	} else {
		at = d.at + d.step + unzigzag(r.uvarint())
		step = at - d.at
	}
	ran := r.uvarint()

	var fresh []*Series
	var ended []int32
	repeated := false
	switch {
	case key:
		start := r.b
		if n := sectionLength(*r); n > 0 {
			repeated = d.repeats(start[:n])
			if repeated {
				r.bytes(n)
				break
			}
		}
		fresh = d.stage(r, true, nil)
	case flags&flagSeries != 0:
		ended = d.ended(r)
		fresh = d.stage(r, false, ended)
	}
	if r.err != nil {
		return r.err
	}

	d.at, d.step, d.ran = at, step, ran
	w := bitReader{b: r.b}
	if key {
		if !repeated {
			d.replace(fresh)
		}
		d.readKey(&w)
	} else {
		d.apply(fresh, ended)
		if err := d.readDelta(&w, fresh); err != nil {
			return err
		}
	}
	if !w.ok() {
		return corrupt("columns")
	}
	d.tell(key, fresh, ended)
	return nil
}

// ended reads the list of gone slots.
func (d *Decoder) ended(r *reader) []int32 {
	n := r.below(uint64(d.live)+1, "gone")
	if n == 0 {
		return nil
	}
	list := make([]int32, 0, n)
	next := 0
	for range n {
		next += r.below(MaxSeries, "gone")
		if r.err != nil {
			return nil
		}
		if next >= len(d.series) || d.series[next] == nil {
			r.fail(corrupt("gone"))
			return nil
		}
		list = append(list, int32(next))
		next++
	}
	return list
}

// replace makes the staged series all there are.
func (d *Decoder) replace(fresh []*Series) {
	for i := range d.series {
		d.series[i], d.slots[i].group = nil, noGroup
	}
	d.live = 0
	d.start(fresh)
	d.dictSame = true
}

// apply ends and starts series.
func (d *Decoder) apply(fresh []*Series, ended []int32) {
	for _, i := range ended {
		d.series[i], d.slots[i].group = nil, noGroup
	}
	d.live -= len(ended)
	d.start(fresh)
	if len(ended)+len(fresh) > 0 {
		d.dictSame = false
	}
}

func (d *Decoder) start(fresh []*Series) {
	for _, s := range fresh {
		for int(s.Index) >= len(d.series) {
			d.series = append(d.series, nil)
			d.told = append(d.told, nil)
			d.raw = append(d.raw, 0)
			d.slots = append(d.slots, slot{group: noGroup})
		}
		d.series[s.Index] = s
		d.raw[s.Index] = 0
		d.slots[s.Index] = slot{ref: s.Ref, group: s.Group, float: s.Float, width: startWidth}
	}
	d.live += len(fresh)
}

func (d *Decoder) readKey(w *bitReader) {
	for i := range d.slots {
		s := &d.slots[i]
		if s.group == noGroup {
			continue
		}
		s.history, s.width = 0, startWidth
		if w.get(1) == 1 {
			s.history = uint8(w.get(8))
			s.width = uint8(w.get(8))
			if s.width > maxWidth {
				w.spoil()
			}
		}
		d.raw[i] = getRaw(w, s.float)
		if d.ran>>s.group&1 != 0 {
			d.samples = append(d.samples, int32(i))
		}
	}
}

func getRaw(w *bitReader, float bool) int64 {
	if float {
		return int64(w.getLong(64))
	}
	n := uint(w.get(7))
	switch {
	case n > 64:
		w.spoil()
		return 0
	case n < 2:
		return unzigzag(uint64(n))
	}
	return unzigzag(1<<(n-1) | w.getLong(n-1))
}

func (d *Decoder) readDelta(w *bitReader, fresh []*Series) error {
	for _, s := range fresh {
		d.raw[s.Index] = getRaw(w, s.Float)
	}
	n := w.getE(0)
	if n > uint64(d.live) {
		return corrupt("changes")
	}
	d.gaps = d.gaps[:0]
	for range n {
		d.gaps = append(d.gaps, uint32(min(w.getE(3), MaxSeries)))
	}
	d.gaps = append(d.gaps, MaxSeries) // after the last one, none changes
	gap, left := 0, d.gaps[0]
	for i := range d.slots {
		s := &d.slots[i]
		if d.ran>>s.group&1 == 0 {
			if len(fresh) > 0 && fresh[0].Index == int32(i) {
				fresh = fresh[1:]
			}
			continue
		}
		d.samples = append(d.samples, int32(i))
		if len(fresh) > 0 && fresh[0].Index == int32(i) {
			fresh = fresh[1:]
			continue
		}
		changed := uint8(1)
		switch s.history {
		case 0:
			if left > 0 {
				left--
				continue
			}
			gap++
			left = d.gaps[gap]
		case busy:
			if !s.float {
				z := w.getE(s.k())
				if z == 0 {
					changed = 0
				} else {
					d.raw[i] += unzigzag(z)
					s.learn(z)
				}
				s.moved(changed)
				continue
			}
			fallthrough
		default:
			if w.get(1) == 0 {
				s.moved(0)
				continue
			}
		}
		if s.float {
			d.raw[i] ^= int64(getFloat(w))
		} else {
			z := w.getE(s.k())
			d.raw[i] += unzigzag(z + 1)
			s.learn(z)
		}
		s.moved(1)
	}
	if gap != int(n) {
		return corrupt("changes")
	}
	return nil
}

func getFloat(w *bitReader) uint64 {
	high := uint(w.get(3))
	n := uint(w.get(3)) + 1
	if high+n > 8 {
		w.spoil()
		return 0
	}
	return w.getLong(8*n) << (8 * (8 - high - n))
}

// tell makes Added and Gone out of what changed since the last frame that was taken.
func (d *Decoder) tell(key bool, fresh []*Series, ended []int32) {
	if key {
		for i := range d.series {
			d.tellOne(i)
		}
		return
	}
	for _, i := range ended {
		d.tellOne(int(i))
	}
	for _, s := range fresh {
		d.tellOne(int(s.Index))
	}
}

func (d *Decoder) tellOne(i int) {
	now, then := d.series[i], d.told[i]
	if now == then {
		return
	}
	if then != nil {
		d.gone = append(d.gone, then)
	}
	if now != nil {
		d.added = append(d.added, now)
	}
	d.told[i] = now
}

// At returns the time of the tick in ms since 1970, by the agent's clock.
func (d *Decoder) At() int64 { return d.at }

// Groups returns the groups that ran on the tick, as bits.
func (d *Decoder) Groups() uint64 { return d.ran }

// Key reports whether the frame was a key frame.
func (d *Decoder) Key() bool { return d.key }

// Counter returns the number of the frame within its chain.
func (d *Decoder) Counter() uint64 { return d.counter }

// Added returns the series that were not there after the frame before. Valid until the next Decode.
func (d *Decoder) Added() []*Series { return d.added }

// Gone returns the series that ended since the frame before; their indexes are free or belong to a series of Added.
// Valid until the next Decode.
func (d *Decoder) Gone() []*Series { return d.gone }

// Samples returns the indexes of the series that have a sample on this tick, rising. Valid until the next Decode.
func (d *Decoder) Samples() []int32 { return d.samples }

// Raw returns the readings by index, for the indexes of Samples. Others hold what was read last, or nothing of meaning.
// It must not be changed, and is valid until the next Decode.
func (d *Decoder) Raw() []int64 { return d.raw }

// Series returns the live series at an index below Len, or nil.
func (d *Decoder) Series(index int32) *Series { return d.series[index] }

// Len returns how many indexes there are, in use or not.
func (d *Decoder) Len() int { return len(d.series) }

// Live returns how many series are live.
func (d *Decoder) Live() int { return d.live }
