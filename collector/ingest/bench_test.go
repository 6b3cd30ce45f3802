package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// load is the frames of many ticks of one host, to be replayed as any number of hosts: counters, gauges of bytes, small
// integers and constants, as a host has them.
func load(series, ticks int) [][]byte {
	var (
		t      metric.Table
		e      chain.Encoder
		frames [][]byte
	)
	for i := range series {
		t.Add(metric.Desc{Name: "node_test", Labels: []metric.Label{{Name: "i", Value: fmt.Sprint(i)}}, Scale: metric.Scale{Div: 100}})
	}
	x := uint64(88172645463325252)
	random := func() int64 { x ^= x << 13; x ^= x >> 7; x ^= x << 17; return int64(x >> 1) }
	for k := range ticks {
		for i := range series {
			raw := t.Raw(metric.Slot(i))
			switch i % 5 {
			case 0:
				raw += random() % 200
			case 1:
				raw = 8<<30 + random()%(64<<20)
			case 2:
				raw = random() % 10_000
			case 3:
				raw = random() % 8
			}
			t.Set(metric.Slot(i), raw)
		}
		t.Ran(0)
		frames = append(frames, e.Append(nil, &t, t0.Add(time.Duration(k)*time.Second).UnixMilli(), k == 0))
		t.Next()
	}
	return frames
}

type nobody struct{}

func (nobody) Ack(ingest.Boot, uint64) {}
func (nobody) Refuse(ingest.Refusal)   {}
func (nobody) WantKey(string)          {}

// BenchmarkIngest takes the ticks of a thousand hosts with a hundred series each, from frame to fsynced ack.
func BenchmarkIngest(b *testing.B) {
	const hosts, series, ticks = 1000, 100, 4000
	frames := load(series, ticks)
	w := newWorld(b, store.Config{}, ingest.Config{})
	w.clock.Set(t0.Add(ticks * time.Second))
	w.run()
	streams := make([]*ingest.Stream, hosts)
	for i := range streams {
		streams[i], _ = w.in.Open(fmt.Sprintf("host-%d", i), ingest.Hello{Range: ingest.Range{Boot: ingest.Boot{1}, First: 1}}, nobody{})
	}
	k := 0
	tick := func() {
		for _, s := range streams {
			if err := s.Push(&ingest.Batch{Seq: uint64(k + 1), Frame: frames[k]}); err != nil {
				b.Fatal(err)
			}
		}
		k++
	}
	for range 3 {
		tick()
	}
	b.ReportAllocs()
	start := k
	for b.Loop() {
		tick()
	}
	w.sync()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(k-start)/(hosts*series), "ns/sample")
	b.ReportMetric(float64(len(frames[k-1]))/series, "B/sample")
	if st := w.in.Stats(); st.Samples != uint64(k*hosts*series) {
		b.Fatalf("%d samples taken, want %d", st.Samples, k*hosts*series)
	}
}
