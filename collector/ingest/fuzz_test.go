package ingest_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/store"
)

// FuzzPush takes any sequence of batches from a hostile agent: b is read as pieces of a kind, a sequence and a frame,
// where frames of a real chain are taken whole, cut or changed.
func FuzzPush(f *testing.F) {
	a := newAgent(1, 6)
	for i := range 12 {
		if i == 4 {
			a.table.End(a.slots[2])
		}
		a.tick(t0.Add(time.Duration(i)*time.Second), i%5 == 0)
	}
	f.Add([]byte{0, 1, 0, 0, 2, 1, 0, 3, 2, 1, 9, 8})
	f.Add([]byte{1, 5, 5, 1, 6, 6, 1, 4, 4, 0, 11, 11, 2, 3, 3, 3, 0, 0})
	f.Add([]byte("\x00\x00\x00\x04rubbish\x05\x01\x01"))
	w := newWorld(f, store.Config{}, ingest.Config{Series: 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		k := newSink()
		s := w.open("fuzz", a, k)
		defer s.Close()
		for len(b) >= 3 {
			kind, seq, n := b[0], uint64(b[1]), int(b[2])%len(a.spool)
			b = b[3:]
			p := ingest.Batch{Seq: seq, Frame: a.spool[n].Frame, Backfill: kind&1 != 0}
			switch kind >> 1 & 3 {
			case 1:
				p.Frame = p.Frame[:len(p.Frame)*int(kind)/256]
			case 2:
				p.Frame = append([]byte(nil), p.Frame...)
				p.Frame[int(seq)%len(p.Frame)] ^= kind
			case 3:
				p.Frame, b = b, nil
			}
			if kind&0x80 != 0 {
				p.Named, p.Boot = true, ingest.Boot{kind & 0x40 >> 6}
			}
			if s.Push(&p) != nil {
				return
			}
		}
	})
	if st := w.in.Stats(); st.Streams != 0 {
		f.Errorf("%d streams are left", st.Streams)
	}
}
