// Package replay plays a recorded data set back, tick by tick, as the metric.Table that the recording agent had. A data
// set is a gzip of chain frames, each behind its length in 4 bytes, little-endian: what scripts/record/run makes.
//
// It keeps all frames in memory, and owns no goroutine.
package replay

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Frames reads the frames of the data set at path.
func Frames(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read data set: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("cannot read data set: %s: %w", path, err)
	}
	var all [][]byte
	for {
		var n uint32
		err := binary.Read(z, binary.LittleEndian, &n)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err == nil && n > chain.MaxFrame {
			err = fmt.Errorf("a frame of %d bytes", n)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read data set: %s: %w", path, err)
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(z, frame); err != nil {
			return nil, fmt.Errorf("cannot read data set: %s: %w", path, err)
		}
		all = append(all, frame)
	}
}

// Tick is one tick of a recording.
type Tick struct {
	At      int64         // ms since 1970
	Table   *metric.Table // valid until f returns; Play calls its Next
	Samples int           // series read on this tick
	Changed int           // of those, the ones that read otherwise than before
}

// Play decodes the frames and calls f with each tick in turn, until f returns an error.
func Play(frames [][]byte, f func(Tick) error) error {
	var d chain.Decoder
	var t metric.Table
	slots := map[int32]metric.Slot{}
	for i, frame := range frames {
		if err := d.Decode(frame); err != nil {
			return fmt.Errorf("tick %d: %w", i, err)
		}
		for _, g := range d.Gone() {
			t.End(slots[g.Index])
			delete(slots, g.Index)
		}
		added := map[metric.Slot]bool{}
		for _, a := range d.Added() {
			s := t.Add(a.Desc)
			slots[a.Index] = s
			added[s] = true
		}
		tick := Tick{At: d.At(), Table: &t, Samples: len(d.Samples())}
		for _, j := range d.Samples() {
			s := slots[j]
			if t.Raw(s) != d.Raw()[j] || added[s] {
				tick.Changed++
			}
			t.Set(s, d.Raw()[j])
		}
		for g := range metric.Group(metric.MaxGroups) {
			if d.Groups()>>g&1 != 0 {
				t.Ran(g)
			}
		}
		if err := f(tick); err != nil {
			return fmt.Errorf("tick %d: %w", i, err)
		}
		t.Next()
	}
	return nil
}
