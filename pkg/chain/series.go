package chain

import (
	"hash/maphash"
	"slices"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// sectionLength measures a series section; 0 when it is not one.
func sectionLength(r reader) int {
	n := len(r.b)
	for runs := r.below(MaxSeries+1, "series"); runs > 0 && r.err == nil; runs-- {
		r.uvarint()
		r.uvarint()
		r.uvarint()
	}
	r.below(MaxDictionary+1, "dictionary")
	r.bytes(r.below(MaxFrame, "dictionary"))
	if r.err != nil {
		return 0
	}
	return n - len(r.b)
}

// repeats reports whether the section is that of the last key frame and still true, and remembers it otherwise.
func (d *Decoder) repeats(section []byte) bool {
	if d.seed == (maphash.Seed{}) {
		d.seed = maphash.MakeSeed()
	}
	sum := maphash.Bytes(d.seed, section)
	same := d.dictSame && sum == d.dictSum && len(section) == d.dictLen
	d.dictSum, d.dictLen, d.dictSame = sum, len(section), same
	return same
}

// stage reads a series section. In a key frame a series that is known already is the one that is known; in a delta
// frame no series may stand where another lives on.
func (d *Decoder) stage(r *reader, key bool, ended []int32) []*Series {
	type run struct{ slot, n, ref int }
	var few [8]run
	runs := few[:0]
	slot, ref, total := 0, int64(0), 0
	for n := r.below(MaxSeries+1, "series"); n > 0; n-- {
		slot += r.below(MaxSeries, "slots")
		ref += unzigzag(r.uvarint())
		length := r.below(MaxSeries, "series") + 1
		if r.err != nil {
			return nil
		}
		if slot+length > MaxSeries {
			r.fail(limit("slots"))
			return nil
		}
		if ref < 0 || ref+int64(length) > 1<<32 {
			r.fail(corrupt("ref"))
			return nil
		}
		runs = append(runs, run{slot, length, int(ref)})
		slot, ref, total = slot+length, ref+int64(length), total+length
	}
	size := r.below(MaxDictionary+1, "dictionary")
	packed := r.bytes(r.below(MaxFrame, "dictionary"))
	if r.err == nil && size < 3*total {
		r.fail(corrupt("dictionary"))
	}
	if r.err != nil {
		return nil
	}
	plain, err := unpack(packed, size)
	if err != nil {
		r.fail(err)
		return nil
	}
	list := make([]*Series, 0, total)
	e := reader{b: plain}
	var before *Series
	for _, u := range runs {
		for j := range u.n {
			i, ref := u.slot+j, metric.Ref(u.ref+j)
			var known *Series
			if i < len(d.series) {
				known = d.series[i]
			}
			if !key && known != nil {
				if _, gone := slices.BinarySearch(ended, int32(i)); !gone {
					r.fail(corrupt("slot taken"))
					return nil
				}
			}
			if known != nil && (!key || known.Ref != ref) {
				known = nil
			}
			s := entry(&e, known, before)
			if e.err != nil {
				r.fail(e.err)
				return nil
			}
			if s != known {
				s.Index, s.Ref = int32(i), ref
			}
			before = s
			list = append(list, s)
		}
	}
	if len(e.b) != 0 {
		r.fail(corrupt("dictionary"))
	}
	return list
}

// entry reads one identity. It returns known if that is the same, and else a new Series which shares with before what
// strings it can.
func entry(r *reader, known, before *Series) *Series {
	head := r.byte()
	var scale metric.Scale
	if head&entryScale != 0 {
		scale.Mul = uint32(r.below(1<<32, "scale"))
		scale.Div = uint32(r.below(1<<32, "scale"))
	}
	count := int(r.byte())
	name := r.bytes(int(r.byte()))
	if r.err == nil && (!validName(name, true) || count > MaxLabels) {
		r.fail(corrupt("name"))
	}
	if r.err != nil {
		return nil
	}
	group, float := metric.Group(head&63), head&entryFloat != 0
	same := known != nil && known.Group == group && known.Float == float && known.Scale == scale &&
		len(known.Labels) == count && string(name) == known.Name
	var labels [MaxLabels][2][]byte
	for i := range count {
		n := r.bytes(int(r.byte()))
		v := r.bytes(r.below(MaxValue+1, "label"))
		if r.err != nil {
			return nil
		}
		labels[i] = [2][]byte{n, v}
		if i > 0 && string(labels[i-1][0]) >= string(n) {
			r.fail(corrupt("labels"))
			return nil
		}
		same = same && string(n) == known.Labels[i].Name && string(v) == known.Labels[i].Value
	}
	if same {
		return known
	}
	s := &Series{Desc: metric.Desc{Scale: scale, Float: float, Group: group}}
	if before != nil && string(name) == before.Name {
		s.Name = before.Name
	} else {
		s.Name = string(name)
	}
	if count > 0 {
		s.Labels = make([]metric.Label, count)
	}
	for i := range s.Labels {
		n, v, l := labels[i][0], labels[i][1], &s.Labels[i]
		if before != nil && i < len(before.Labels) {
			if string(n) == before.Labels[i].Name {
				l.Name = before.Labels[i].Name
			}
			if string(v) == before.Labels[i].Value {
				l.Value = before.Labels[i].Value
			}
		}
		if l.Name == "" {
			l.Name = string(n)
		}
		if l.Value == "" {
			l.Value = string(v)
		}
		if !validLabel(l.Name, l.Value) {
			r.fail(corrupt("labels"))
			return nil
		}
	}
	return s
}
