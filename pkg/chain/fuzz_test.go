package chain_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// FuzzDecode feeds a decoder two frames of any bytes after a good key frame. It must refuse or take them without harm:
// no panic, no series beyond the limits, indexes that fit, and a good key frame puts everything right again.
func FuzzDecode(f *testing.F) {
	frames := hostFrames(f)
	for _, i := range []int{0, 1, 2, 10, 59, 60, 61, 100} {
		f.Add(frames[i], frames[i+1])
	}
	table, step := mixed(30)
	var enc chain.Encoder
	step(1)
	good := enc.Append(nil, table, 1000, true)
	table.Next()
	step(2)
	table.End(3)
	table.Add(metric.Desc{Name: "load", Float: true})
	f.Add(enc.Append(nil, table, 2000, false), []byte{chain.Version})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		r := &reader{byIndex: map[int32]*chain.Series{}}
		for _, frame := range [][]byte{good, one, two, good} {
			before := slices.Clone(frame)
			err := r.decode(frame)
			if !slices.Equal(before, frame) {
				t.Fatal("the frame was changed")
			}
			if err != nil {
				if !errors.Is(err, chain.ErrCorrupt) && !errors.Is(err, chain.ErrLimit) && !errors.Is(err, chain.ErrVersion) && !errors.Is(err, chain.ErrNeedKey) {
					t.Fatal(err)
				}
				continue
			}
			if r.d.Len() > chain.MaxSeries || r.d.Live() != len(r.byIndex) {
				t.Fatalf("%d indexes, %d live, told of %d", r.d.Len(), r.d.Live(), len(r.byIndex))
			}
			for _, i := range r.d.Samples() {
				if s := r.byIndex[i]; s == nil || r.d.Groups()>>s.Group&1 == 0 {
					t.Fatalf("a sample of %v", s)
				}
			}
		}
		if !r.d.Key() || r.d.At() != 1000 || r.d.Live() != 30 {
			t.Fatal("a good key frame was not taken")
		}
	})
}

// FuzzRoundTrip makes a table out of any bytes and expects it back.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03 some ticks of some series \xff\xff\xff\xff"), uint8(5))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63), uint8(1))
	f.Fuzz(func(t *testing.T, script []byte, n uint8) {
		w := &world{live: map[metric.Ref]model{}}
		for i := range int(n%40) + 1 {
			w.add(metric.Desc{Name: "a", Group: metric.Group(i % 3), Float: i%5 == 4}, int64(i))
		}
		var enc chain.Encoder
		r := &reader{byIndex: map[int32]*chain.Series{}}
		for at := int64(0); len(script) > 0 && at < 200; at++ {
			ran := uint64(script[0] & 7)
			key := script[0]&0xf0 == 0xf0
			script = script[1:]
			for g := range metric.Group(3) {
				if ran>>g&1 != 0 {
					w.table.Ran(g)
				}
			}
			for _, ref := range w.refs() {
				if ran>>w.live[ref].desc.Group&1 == 0 || len(script) == 0 {
					continue
				}
				c := script[0]
				script = script[1:]
				switch {
				case c < 128:
					w.set(ref, w.live[ref].raw+int64(c))
				case c < 250:
					w.set(ref, w.live[ref].raw<<(c&31)-int64(c))
				default:
					w.end(ref)
				}
			}
			frame := enc.Append(nil, &w.table, at, key)
			w.table.Next()
			if err := r.decode(frame); err != nil {
				t.Fatal(err)
			}
			if err := r.check(w, at, ran); err != nil {
				t.Fatal(err)
			}
		}
	})
}
