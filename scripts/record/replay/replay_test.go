package replay_test

import (
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/scripts/record/replay"
)

const recorded = "../../figure/wirebytes/testdata/host.frames.gz"

// The recorded host plays to its end, and what it costs to encode does not creep up unseen.
func TestRecordedHost(t *testing.T) {
	frames, err := replay.Frames(recorded)
	if err != nil {
		t.Fatal(err)
	}
	var enc chain.Encoder
	var buf []byte
	ticks, live, bytes, last := 0, 0, 0, int64(0)
	err = replay.Play(frames, func(k replay.Tick) error {
		if k.At <= last || k.Changed > k.Samples || k.Samples > k.Table.Count() {
			t.Fatalf("tick %d: at %d after %d, %d of %d samples changed, %d series", ticks, k.At, last, k.Changed, k.Samples, k.Table.Count())
		}
		last = k.At
		buf = enc.Append(buf[:0], k.Table, k.At, false)
		ticks++
		live += enc.Live()
		bytes += len(buf)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if ticks != 1978 {
		t.Errorf("%d ticks, want 1978", ticks)
	}
	if per := float64(bytes) / float64(live); per > 0.75 {
		t.Errorf("%.3f bytes of frames a live series and tick", per)
	}
}

func TestPlayStops(t *testing.T) {
	frames, err := replay.Frames(recorded)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	n := 0
	err = replay.Play(frames, func(replay.Tick) error {
		n++
		return stop
	})
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d ticks", err, n)
	}
}

func TestBrokenDataSets(t *testing.T) {
	write := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "x.gz")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(f)
		if _, err := z.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(z.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("not a gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"absent": "nowhere", "not a gzip": plain, "cut length": write([]byte{1, 0}), "cut frame": write([]byte{9, 0, 0, 0, 1}),
		"too long": write([]byte{0, 0, 0, 0x7f}),
	} {
		if frames, err := replay.Frames(path); err == nil {
			t.Errorf("%s: %d frames and no error", name, len(frames))
		}
	}
}
