package metric

import "math"

// Slot is the place of a live series in a Table. Slots are used again after a series ended; refs are not.
type Slot int

// Table keeps the live series of an agent and their readings of the current tick. Probes add, set and end series; an
// encoder reads the table once a tick and then calls Next. After warm-up none of this allocates.
//
// The zero Table is ready for use, by one goroutine.
type Table struct {
	descs []Desc
	refs  []Ref
	raw   []int64
	live  []bool
	free  []Slot
	next  Ref

	ran   uint64
	added []Slot
	gone  []Ref
	ended []Slot
}

// Add starts a series and returns its slot. The caller keeps the slot; adding the same identity twice makes two series.
func (t *Table) Add(d Desc) Slot {
	var s Slot
	if n := len(t.free); n > 0 {
		s, t.free = t.free[n-1], t.free[:n-1]
		t.descs[s], t.refs[s], t.raw[s], t.live[s] = d, t.next, 0, true
	} else {
		s = Slot(len(t.descs))
		t.descs = append(t.descs, d)
		t.refs = append(t.refs, t.next)
		t.raw = append(t.raw, 0)
		t.live = append(t.live, true)
	}
	t.next++
	t.added = append(t.added, s)
	return s
}

// Set gives the series at s its raw reading.
func (t *Table) Set(s Slot, raw int64) { t.raw[s] = raw }

// SetFloat gives a Float series its reading.
func (t *Table) SetFloat(s Slot, v float64) { t.raw[s] = int64(math.Float64bits(v)) }

// End ends the series at s: it is over, or its probe failed. The next frame lists it as gone. The slot is free again
// after Next, and the caller must forget it now.
func (t *Table) End(s Slot) {
	if !t.live[s] {
		return
	}
	t.live[s] = false
	t.ended = append(t.ended, s)
	t.gone = append(t.gone, t.refs[s])
}

// Ran says that the series of g were read on this tick.
func (t *Table) Ran(g Group) { t.ran |= 1 << g }

// Len returns how many slots there are, live or not. Slots are 0 to Len()-1.
func (t *Table) Len() int { return len(t.descs) }

// Live reports whether the slot holds a series.
func (t *Table) Live(s Slot) bool { return t.live[s] }

// Count returns how many series are live.
func (t *Table) Count() int {
	n := 0
	for _, l := range t.live {
		if l {
			n++
		}
	}
	return n
}

// Desc returns the identity at s. It must not be changed.
func (t *Table) Desc(s Slot) *Desc { return &t.descs[s] }

// RefOf returns the ref at s.
func (t *Table) RefOf(s Slot) Ref { return t.refs[s] }

// Raw returns the reading at s.
func (t *Table) Raw(s Slot) int64 { return t.raw[s] }

// Groups returns the groups that ran on this tick, as bits.
func (t *Table) Groups() uint64 { return t.ran }

// Added returns the slots that were added since the last Next; some may have ended since. Valid until Next.
func (t *Table) Added() []Slot { return t.added }

// Gone returns the refs that ended since the last Next, including any that were added and ended within the tick. Valid
// until Next.
func (t *Table) Gone() []Ref { return t.gone }

// Next starts the next tick: what was added, ended and read is forgotten, readings stay.
func (t *Table) Next() {
	t.free = append(t.free, t.ended...)
	for _, s := range t.ended {
		t.descs[s] = Desc{}
	}
	t.ran, t.added, t.gone, t.ended = 0, t.added[:0], t.gone[:0], t.ended[:0]
}
