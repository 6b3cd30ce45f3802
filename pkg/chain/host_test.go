package chain_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// hostFrames are 150 ticks of a real host of 265 series with two cores at work on builds, as its agent's probes gave
// them: each frame behind its length in 4 bytes, little-endian.
func hostFrames(tb testing.TB) [][]byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "host.frames"))
	if err != nil {
		tb.Fatal(err)
	}
	var frames [][]byte
	for len(b) > 0 {
		n := binary.LittleEndian.Uint32(b)
		frames = append(frames, b[4:4+n])
		b = b[4+n:]
	}
	return frames
}

// replay gives the ticks of the recorded host to f, as a table to encode.
func replay(tb testing.TB, f func(t *metric.Table, d *chain.Decoder, frame []byte)) {
	tb.Helper()
	var d chain.Decoder
	var t metric.Table
	slots := map[int32]metric.Slot{}
	for _, frame := range hostFrames(tb) {
		if err := d.Decode(frame); err != nil {
			tb.Fatal(err)
		}
		for _, g := range d.Gone() {
			t.End(slots[g.Index])
			delete(slots, g.Index)
		}
		for _, a := range d.Added() {
			slots[a.Index] = t.Add(a.Desc)
		}
		for _, i := range d.Samples() {
			t.Set(slots[i], d.Raw()[i])
		}
		for g := range metric.Group(metric.MaxGroups) {
			if d.Groups()>>g&1 != 0 {
				t.Ran(g)
			}
		}
		f(&t, &d, frame)
		t.Next()
	}
}

// The chain of a real host costs what FORMAT.md says that it costs, and no more as the code changes.
func TestHostBytes(t *testing.T) {
	var enc chain.Encoder
	var buf []byte
	ticks, live, samples, delta, keys, bytes := 0, 0, 0, 0, 0, 0
	replay(t, func(tb *metric.Table, d *chain.Decoder, frame []byte) {
		buf = enc.Append(buf[:0], tb, d.At(), d.Key())
		ticks++
		live += d.Live()
		samples += len(d.Samples())
		bytes += len(buf)
		if enc.WasKey() {
			keys++
		} else {
			delta += len(buf)
		}
		if len(buf) != len(frame) {
			t.Errorf("tick %d: %d bytes, recorded as %d", ticks, len(buf), len(frame))
		}
	})
	perLive := float64(bytes) / float64(live)
	t.Logf("%d ticks of %d series, %d samples each: %.1f bytes a delta frame, %.1f a frame, %.3f a live series",
		ticks, live/ticks, samples/ticks, float64(delta)/float64(ticks-keys), float64(bytes)/float64(ticks), perLive)
	if perLive > 0.75 {
		t.Errorf("%.3f bytes a live series and tick", perLive)
	}
}

// mixed is a table of n series of which about a third change each tick.
func mixed(n int) (*metric.Table, func(tick int)) {
	var t metric.Table
	for i := range n {
		t.Add(metric.Desc{
			Name:   fmt.Sprintf("node_thing_%d_total", i/8),
			Labels: []metric.Label{{Name: "device", Value: fmt.Sprintf("eth%d", i%8)}},
			Group:  metric.Group(i * 8 / n),
		})
	}
	return &t, func(tick int) {
		for g := range metric.Group(8) {
			t.Ran(g)
		}
		for i := range n {
			s := metric.Slot(i)
			switch i % 6 {
			case 0:
				t.Set(s, t.Raw(s)+int64(100+(tick*7+i)%13))
			case 1:
				t.Set(s, int64((tick*31+i*17)%4096)<<10)
			case 2:
				if (tick+i)%9 == 0 {
					t.Set(s, t.Raw(s)+1)
				}
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	table, step := mixed(500)
	var enc chain.Encoder
	var d chain.Decoder
	buf := make([]byte, 0, chain.MaxFrame)
	tick := 0
	once := func() {
		step(tick)
		buf = enc.Append(buf[:0], table, int64(tick)*1000, false)
		table.Next()
		if err := d.Decode(buf); err != nil {
			t.Fatal(err)
		}
		tick++
	}
	for range 3 * chain.KeyEvery {
		once()
	}
	// A whole number of key periods, so key frames count too.
	if n := testing.AllocsPerRun(2*chain.KeyEvery, once); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{100, 500, 2000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			table, step := mixed(n)
			var enc chain.Encoder
			var buf []byte
			bytes, tick := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				step(tick)
				b.StartTimer()
				buf = enc.Append(buf[:0], table, int64(tick)*1000, false)
				table.Next()
				bytes += len(buf)
				tick++
			}
			b.ReportMetric(float64(bytes)/float64(tick), "B/frame")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(tick*n), "ns/series")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{100, 500, 2000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			table, step := mixed(n)
			var enc chain.Encoder
			var frames [][]byte
			for tick := range 4 * chain.KeyEvery {
				step(tick)
				frames = append(frames, enc.Append(nil, table, int64(tick)*1000, false))
				table.Next()
			}
			var d chain.Decoder
			i, sum := 0, int64(0)
			b.ReportAllocs()
			for b.Loop() {
				if i == len(frames) {
					i = 0 // a key frame
				}
				if err := d.Decode(frames[i]); err != nil {
					b.Fatal(err)
				}
				for _, s := range d.Samples() {
					sum += d.Raw()[s]
				}
				i++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/series")
			_ = sum
		})
	}
}
