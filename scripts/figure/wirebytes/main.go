// The wirebytes program takes the figure wire-bytes: it replays the recorded data set through the agent's own encoder and
// link, over mTLS on the loopback interface, to the collector's own session server, and reads what was sent from the
// socket's counters in the kernel.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
	"github.com/evenkeel/evenkeel/scripts/record/replay"
)

const name = "wire-bytes"

func main() {
	data := flag.String("data", "scripts/figure/wirebytes/testdata/host.frames.gz", "recorded data set")
	idle := flag.Duration("idle", 42*time.Second, "how long to watch a session in which no batch is sent")
	flag.Parse()
	value, err := take(*data, *idle)
	if err != nil {
		report.Fail(name, err)
	}
	report.Exit(report.Figure{Name: name, Value: value, Unit: "bytes", Op: "<=", Goal: 2})
}

// totals add up over all ticks.
type totals struct {
	ticks, keys            int
	live, samples, changed int
	frames, keyBytes       int
	first, last            int64
}

func take(data string, idle time.Duration) (float64, error) {
	frames, err := replay.Frames(data)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "evenkeel-wire-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(context.Background(), dir)
	if err != nil {
		return 0, err
	}
	defer w.stop()

	// A replay is over in seconds and meets no heartbeat. What those cost is watched at their own pace, before it, and
	// counted for as many seconds as there are ticks.
	quiet, err := w.watchIdle(idle)
	if err != nil {
		return 0, err
	}

	start, err := w.counters()
	if err != nil {
		return 0, err
	}
	var sum totals
	var enc chain.Encoder
	var frame []byte
	err = replay.Play(frames, func(t replay.Tick) error {
		frame = enc.Append(frame[:0], t.Table, t.At, w.link.KeyWanted())
		if sum.ticks == 0 {
			sum.first = t.At
		}
		sum.last = t.At
		sum.ticks++
		sum.live += enc.Live()
		sum.samples += t.Samples
		sum.changed += t.Changed
		sum.frames += len(frame)
		if enc.WasKey() {
			sum.keys++
			sum.keyBytes += len(frame)
		}
		return w.send(uint64(sum.ticks), enc.WasKey(), frame, t)
	})
	if err != nil {
		return 0, err
	}
	end, err := w.counters()
	if err != nil {
		return 0, err
	}
	return sum.print(data, start, end, quiet), nil
}

// print says what was counted and returns the figure.
func (s *totals) print(data string, start, end counters, quiet idleCost) float64 {
	per := func(bytes float64) float64 { return bytes / float64(s.live) }
	ticks := float64(s.ticks)
	seconds := float64(s.last-s.first)/1000 + 1
	opening := float64(start.sent) - quiet.sent*quiet.seconds
	beats := quiet.sent * seconds
	sent := float64(end.sent-start.sent) + opening + beats
	plain := float64(end.plain-start.plain) + float64(start.plain) + quiet.plain*(seconds-quiet.seconds)
	fmt.Printf("data set: %s: %d ticks in %.0f s, %.1f live series, %.1f of them read on a tick\n",
		data, s.ticks, seconds, float64(s.live)/ticks, float64(s.samples)/ticks)
	fmt.Printf("changed: %.1f %% of the samples, %.1f %% of live series x ticks\n",
		100*float64(s.changed)/float64(s.samples), 100*float64(s.changed)/float64(s.live))
	fmt.Printf("frames: %.1f bytes on average, %.1f of a delta frame, %.1f of a key frame (%d of those)\n",
		float64(s.frames)/ticks, float64(s.frames-s.keyBytes)/(ticks-float64(s.keys)), float64(s.keyBytes)/float64(s.keys), s.keys)
	fmt.Printf("socket, by its own counters: %.1f bytes a tick sent, of which %.1f for heartbeats and %.1f for opening the session (%.0f bytes once); %.1f received\n",
		sent/ticks, beats/ticks, opening/ticks, opening, float64(end.received-start.received)/ticks+quiet.received*seconds/ticks)
	fmt.Printf("bytes a live series and tick: %.3f frames, %.3f without TLS, %.3f with TLS, %.3f with TCP and IP headers; %.3f with TLS a sample that was read\n",
		per(float64(s.frames)), per(plain), per(sent), per(sent+52*(float64(end.segments-start.segments)+quiet.segments*seconds)), sent/float64(s.samples))
	return per(sent)
}

// same reports whether what arrived is what was sent.
func same(t *metric.Table, d *chain.Decoder) error {
	if t.Count() != d.Live() {
		return fmt.Errorf("%d series arrived, %d were sent", d.Live(), t.Count())
	}
	for _, i := range d.Samples() {
		if s := metric.Slot(i); !t.Live(s) || t.Raw(s) != d.Raw()[i] || t.Desc(s).Name != d.Series(i).Desc.Name {
			return fmt.Errorf("series %s arrived as %d, was sent as %d", t.Desc(s).Name, d.Raw()[i], t.Raw(s))
		}
	}
	return nil
}
