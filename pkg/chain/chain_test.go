package chain_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// world is the naive model: every live series by ref, with its reading.
type world struct {
	table metric.Table
	live  map[metric.Ref]model
}

type model struct {
	slot metric.Slot
	desc metric.Desc
	raw  int64
}

func (w *world) add(d metric.Desc, raw int64) {
	s := w.table.Add(d)
	w.table.Set(s, raw)
	w.live[w.table.RefOf(s)] = model{s, d, raw}
}

func (w *world) end(r metric.Ref) {
	w.table.End(w.live[r].slot)
	delete(w.live, r)
}

func (w *world) set(r metric.Ref, raw int64) {
	m := w.live[r]
	m.raw = raw
	w.live[r] = m
	w.table.Set(m.slot, raw)
}

func (w *world) refs() []metric.Ref {
	var all []metric.Ref
	for r := range w.live {
		all = append(all, r)
	}
	slices.Sort(all)
	return all
}

// reader follows a chain as a collector does: by index alone, from what Added and Gone told.
type reader struct {
	d       chain.Decoder
	byIndex map[int32]*chain.Series
}

func (r *reader) decode(frame []byte) error {
	if err := r.d.Decode(frame); err != nil {
		return err
	}
	for _, g := range r.d.Gone() {
		if r.byIndex[g.Index] != g {
			return fmt.Errorf("gone: index %d is %v", g.Index, r.byIndex[g.Index])
		}
		delete(r.byIndex, g.Index)
	}
	for _, a := range r.d.Added() {
		if r.byIndex[a.Index] != nil {
			return fmt.Errorf("added: index %d is taken", a.Index)
		}
		r.byIndex[a.Index] = a
	}
	return nil
}

// check compares what the reader knows with the model.
func (r *reader) check(w *world, at int64, ran uint64) error {
	if r.d.At() != at || r.d.Groups() != ran {
		return fmt.Errorf("at %d groups %b, want %d %b", r.d.At(), r.d.Groups(), at, ran)
	}
	if len(r.byIndex) != len(w.live) || r.d.Live() != len(w.live) {
		return fmt.Errorf("%d series live, told of %d, want %d", r.d.Live(), len(r.byIndex), len(w.live))
	}
	want := map[metric.Ref]int64{}
	for ref, m := range w.live {
		if ran>>m.desc.Group&1 != 0 {
			want[ref] = m.raw
		}
		s := r.byIndex[int32(m.slot)]
		if s == nil || s.Ref != ref || s != r.d.Series(int32(m.slot)) {
			return fmt.Errorf("index %d is %v, want ref %d", m.slot, s, ref)
		}
		if diff := cmp.Diff(m.desc, s.Desc); diff != "" {
			return fmt.Errorf("ref %d: %s", ref, diff)
		}
	}
	if len(r.d.Samples()) != len(want) || !slices.IsSorted(r.d.Samples()) {
		return fmt.Errorf("%d samples, want %d", len(r.d.Samples()), len(want))
	}
	for _, i := range r.d.Samples() {
		ref := r.byIndex[i].Ref
		if got := r.d.Raw()[i]; got != want[ref] {
			return fmt.Errorf("ref %d reads %d, want %d", ref, got, want[ref])
		}
	}
	return nil
}

func drawDesc(t *rapid.T) metric.Desc {
	d := metric.Desc{
		Name:  rapid.SampledFrom([]string{"a", "node_cpu_seconds_total", "node_memory_MemFree_bytes", "node:x", strings.Repeat("n", chain.MaxName)}).Draw(t, "name"),
		Group: metric.Group(rapid.SampledFrom([]int{0, 1, 2, 63}).Draw(t, "group")),
		Float: rapid.IntRange(0, 4).Draw(t, "float") == 0,
		Scale: rapid.SampledFrom([]metric.Scale{{}, {Div: 100}, {Mul: 1024}, {Mul: math.MaxUint32, Div: math.MaxUint32}}).Draw(t, "scale"),
	}
	for _, n := range rapid.SampledFrom([][]string{nil, {"mode"}, {"device", "fstype", "mountpoint"}}).Draw(t, "labels") {
		v := rapid.OneOf(rapid.SampledFrom([]string{"", "idle", "eth0", strings.Repeat("é", chain.MaxValue/2)}), rapid.StringN(0, 8, 32)).Draw(t, "value")
		d.Labels = append(d.Labels, metric.Label{Name: n, Value: strings.ToValidUTF8(v, "")})
	}
	return d
}

func drawRaw(t *rapid.T, before int64) int64 {
	return rapid.OneOf(
		rapid.Just(before), rapid.Just(before+1), rapid.Just(before-1),
		rapid.Custom(func(t *rapid.T) int64 { return before + rapid.Int64Range(-300, 300).Draw(t, "step") }),
		rapid.Int64(),
		rapid.SampledFrom([]int64{0, -1, math.MinInt64, math.MaxInt64, 1 << 62, int64(math.Float64bits(0.25))}),
	).Draw(t, "raw")
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{live: map[metric.Ref]model{}}
		var enc chain.Encoder
		steady := &reader{byIndex: map[int32]*chain.Series{}} // sees every frame
		shaky := &reader{byIndex: map[int32]*chain.Series{}}  // misses some, is fed garbage
		at := rapid.Int64Range(0, 1<<42).Draw(t, "start")
		missed := true
		for range rapid.IntRange(1, 100).Draw(t, "ticks") {
			for range rapid.SampledFrom([]int{0, 0, 0, 1, 3, 20}).Draw(t, "adds") {
				w.add(drawDesc(t), drawRaw(t, 0))
			}
			for _, r := range w.refs() {
				if rapid.IntRange(0, 20).Draw(t, "end") == 0 {
					w.end(r)
				}
			}
			ran := uint64(0)
			for _, g := range []metric.Group{0, 1, 2, 63} {
				if rapid.IntRange(0, 3).Draw(t, "ran") > 0 {
					w.table.Ran(g)
					ran |= 1 << g
				}
			}
			always := rapid.Bool().Draw(t, "always")
			for _, r := range w.refs() {
				if m := w.live[r]; ran>>m.desc.Group&1 != 0 {
					v := m.raw + 1
					if !always {
						v = drawRaw(t, m.raw)
					}
					w.set(r, v)
				}
			}
			at += rapid.SampledFrom([]int64{1000, 1000, 999, 1004, 0, -500, 90_000}).Draw(t, "dt")
			if rapid.IntRange(0, 20).Draw(t, "skip") == 0 {
				w.table.Next() // a tick that is not encoded
				continue
			}
			force := rapid.IntRange(0, 15).Draw(t, "force") == 0
			frame := enc.Append([]byte("x"), &w.table, at, force)[1:]
			w.table.Next()
			if len(frame) > chain.MaxFrame || enc.Live() != len(w.live) || enc.Skipped() != 0 {
				t.Fatalf("frame of %d bytes, %d live, %d skipped", len(frame), enc.Live(), enc.Skipped())
			}
			h, err := chain.ReadHeader(frame)
			if err != nil || h.Key != enc.WasKey() || force && !h.Key {
				t.Fatalf("header %+v, %v", h, err)
			}
			if err := steady.decode(frame); err != nil {
				t.Fatal(err)
			}
			if err := steady.check(w, at, ran); err != nil {
				t.Fatal(err)
			}
			switch rapid.IntRange(0, 12).Draw(t, "fate") {
			case 0:
				missed = true
			case 1:
				bad := slices.Clone(frame)
				bad[rapid.IntRange(1, len(bad)-1).Draw(t, "where")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
				err := shaky.decode(bad)
				if err != nil && !errors.Is(err, chain.ErrCorrupt) && !errors.Is(err, chain.ErrLimit) && !errors.Is(err, chain.ErrNeedKey) {
					t.Fatal(err)
				}
				missed = true
				if err == nil { // bytes cannot tell: only a key frame makes sure
					enc.ForceKey()
				}
				if again := shaky.d.Decode(frame); again == nil {
					t.Skip("a flip in the counter that was not noticed")
				}
			default:
				err := shaky.decode(frame)
				switch {
				case h.Key:
					missed = false
				case missed && errors.Is(err, chain.ErrNeedKey):
					continue
				case missed:
					t.Fatalf("a delta frame after a gap: %v", err)
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := shaky.check(w, at, ran); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestKeyEvery(t *testing.T) {
	var tb metric.Table
	var enc chain.Encoder
	tb.Add(metric.Desc{Name: "a"})
	for i := range 3 * chain.KeyEvery {
		enc.Append(nil, &tb, int64(i), false)
		tb.Next()
		if enc.WasKey() != (i%chain.KeyEvery == 0) {
			t.Fatalf("frame %d: key %v", i, enc.WasKey())
		}
	}
	enc.ForceKey()
	enc.Append(nil, &tb, 1, false)
	if !enc.WasKey() {
		t.Fatal("no key frame though it was asked for")
	}
	enc.Append(nil, &tb, 1, false)
	if enc.WasKey() {
		t.Fatal("asked for once, made twice")
	}
}

func TestErrors(t *testing.T) {
	var tb metric.Table
	var enc chain.Encoder
	tb.Add(metric.Desc{Name: "a"})
	tb.Ran(0)
	key := enc.Append(nil, &tb, 1000, false)
	tb.Next()
	one := enc.Append(nil, &tb, 2000, false)
	two := enc.Append(nil, &tb, 3000, false)

	var d chain.Decoder
	check := func(name string, frame []byte, want error) {
		t.Helper()
		if err := d.Decode(frame); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	check("delta first", one, chain.ErrNeedKey)
	check("key", key, nil)
	check("version", append([]byte{9}, key[1:]...), chain.ErrVersion)
	check("gap", two, chain.ErrNeedKey)
	check("the one that follows", one, nil)
	check("again", one, chain.ErrNeedKey)
	check("the next", two, nil)
	check("empty", nil, chain.ErrCorrupt)
	check("after that", enc.Append(nil, &tb, 4000, false), chain.ErrNeedKey)
	check("flags", []byte{1, 4, 1}, chain.ErrCorrupt)
	check("too large", make([]byte, chain.MaxFrame+1), chain.ErrLimit)
	for n := range key {
		if err := d.Decode(key[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were taken", n, len(key))
		}
	}
	check("trailing byte", append(slices.Clone(key), 0), chain.ErrCorrupt)
}

// What cannot travel is left out and counted, and holds up nothing else.
func TestSkipped(t *testing.T) {
	bad := []metric.Desc{
		{},
		{Name: "9a"},
		{Name: "a b"},
		{Name: strings.Repeat("n", chain.MaxName+1)},
		{Name: "a", Group: 64},
		{Name: "a", Labels: []metric.Label{{Name: "b"}, {Name: "a"}}},
		{Name: "a", Labels: []metric.Label{{Name: "a"}, {Name: "a"}}},
		{Name: "a", Labels: []metric.Label{{Name: "instance", Value: "x"}}},
		{Name: "a", Labels: []metric.Label{{Name: "__name__", Value: "x"}}},
		{Name: "a", Labels: []metric.Label{{Name: "a", Value: "\xff"}}},
		{Name: "a", Labels: []metric.Label{{Name: "a", Value: strings.Repeat("v", chain.MaxValue+1)}}},
		{Name: "a", Labels: make([]metric.Label, chain.MaxLabels+1)},
	}
	var tb metric.Table
	var enc chain.Encoder
	for _, d := range bad {
		tb.Add(d)
	}
	good := tb.Add(metric.Desc{Name: "a"})
	tb.Set(good, 7)
	tb.Ran(0)
	r := &reader{byIndex: map[int32]*chain.Series{}}
	for i := range 3 {
		if err := r.decode(enc.Append(nil, &tb, int64(i), false)); err != nil {
			t.Fatal(err)
		}
		tb.Next()
		if enc.Skipped() != len(bad) || enc.Live() != 1 || len(r.byIndex) != 1 {
			t.Fatalf("skipped %d, live %d, seen %d", enc.Skipped(), enc.Live(), len(r.byIndex))
		}
	}
}

// The worst that an encoder can be given still makes frames that a decoder takes.
func TestLimits(t *testing.T) {
	for name, d := range map[string]metric.Desc{
		"many": {Name: "a"},
		"long": {Name: strings.Repeat("n", chain.MaxName), Labels: []metric.Label{{Name: "v", Value: strings.Repeat("v", chain.MaxValue)}}},
	} {
		t.Run(name, func(t *testing.T) {
			var tb metric.Table
			var enc chain.Encoder
			rng := rand.New(rand.NewPCG(1, 2))
			slots := make([]metric.Slot, 0, chain.MaxSeries+100)
			for range cap(slots) {
				s := tb.Add(d)
				if name == "long" {
					b := make([]byte, chain.MaxValue)
					for i := range b {
						b[i] = ' ' + byte(rng.IntN(94))
					}
					tb.Desc(s).Labels = []metric.Label{{Name: "v", Value: string(b)}}
				}
				slots = append(slots, s)
			}
			r := &reader{byIndex: map[int32]*chain.Series{}}
			for i := range 4 {
				tb.Ran(0)
				for j, s := range slots {
					if tb.Live(s) {
						tb.Set(s, int64(rng.Uint64()))
					}
					if i == 1 && j%2 == 0 {
						tb.End(s)
					}
				}
				frame := enc.Append(nil, &tb, int64(i), i == 3)
				tb.Next()
				if len(frame) > chain.MaxFrame {
					t.Fatalf("frame of %d bytes", len(frame))
				}
				if err := r.decode(frame); err != nil {
					t.Fatal(err)
				}
				if r.d.Live() != enc.Live() || enc.Live()+enc.Skipped() != tb.Count() {
					t.Fatalf("%d live here, %d there, %d skipped of %d", enc.Live(), r.d.Live(), enc.Skipped(), tb.Count())
				}
				if i == 1 { // every second slot anew, refs far apart
					for range len(slots) / 2 {
						tb.Add(d)
					}
				}
			}
		})
	}
}

// A key frame of the agent's next run ends what is not the same and keeps nothing by mistake.
func TestNextRun(t *testing.T) {
	make1 := func(names ...string) []byte {
		var tb metric.Table
		var enc chain.Encoder
		for _, n := range names {
			tb.Add(metric.Desc{Name: n})
		}
		return enc.Append(nil, &tb, 0, true)
	}
	r := &reader{byIndex: map[int32]*chain.Series{}}
	for _, names := range [][]string{{"a", "b", "c"}, {"a", "x"}, {"a", "x"}, {"a", "x", "c", "d"}} {
		if err := r.decode(make1(names...)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range int32(len(r.byIndex)) {
			got = append(got, r.byIndex[i].Name)
		}
		if !slices.Equal(got, names) {
			t.Fatalf("got %q, want %q", got, names)
		}
	}
}

// The layout is for ever: these bytes were written once and must stay readable, and be what is written.
func TestGolden(t *testing.T) {
	var tb metric.Table
	var enc chain.Encoder
	idle := tb.Add(metric.Desc{Name: "node_cpu_seconds_total", Labels: []metric.Label{{Name: "mode", Value: "idle"}}, Scale: metric.Scale{Div: 100}})
	user := tb.Add(metric.Desc{Name: "node_cpu_seconds_total", Labels: []metric.Label{{Name: "mode", Value: "user"}}, Scale: metric.Scale{Div: 100}})
	load := tb.Add(metric.Desc{Name: "node_load1", Float: true, Group: 1})
	var got []string
	frame := func(at int64) {
		got = append(got, hex.EncodeToString(enc.Append(nil, &tb, at, false)))
		tb.Next()
	}
	tb.Set(idle, 123456)
	tb.Set(user, 777)
	tb.SetFloat(load, 0.5)
	tb.Ran(0)
	tb.Ran(1)
	frame(1_700_000_000_000)
	tb.Set(idle, 123556)
	tb.Ran(0)
	frame(1_700_000_001_000)
	tb.SetFloat(load, 0.75)
	tb.Set(idle, 123655)
	tb.Ran(0)
	tb.Ran(1)
	frame(1_700_000_002_000)
	tb.End(user)
	tb.Add(metric.Desc{Name: "node_load5", Float: true, Group: 1})
	tb.Ran(0)
	frame(1_700_000_003_000)
	want := golden
	if !slices.Equal(got, want) {
		t.Errorf("written:\n%q\nwant:\n%q", got, want)
	}
	var d chain.Decoder
	for _, g := range want {
		b, err := hex.DecodeString(g)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Decode(b); err != nil {
			t.Fatal(err)
		}
	}
	if d.At() != 1_700_000_003_000 || d.Live() != 3 || d.Raw()[idle] != 123655 || !bytes.Equal([]byte(d.Gone()[0].Labels[0].Value), []byte("user")) {
		t.Errorf("at %d, %d live, idle %d, gone %v", d.At(), d.Live(), d.Raw()[idle], d.Gone())
	}
}

var golden = []string{
	"01010180d095ffbc310003010000025738ff160e40006401166e6f64655f6370755f7365636f6e64735f746f74616c046d6f64650469646c6525717573657281000a23506c6f61643112e24005c243fe00000000000000",
	"010002d00f0150a380",
	"010003000353514808",
	"01020400010101010306000d0ed081000a6e6f64655f6c6f616435000000000000000080",
}
