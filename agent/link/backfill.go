package link

import (
	"errors"
	"io"
	"slices"
)

// span is a run of batches that backfill has to send. to 0 stands for the last there is.
type span struct {
	boot     BootID
	from, to uint64
}

// addSpanLocked gives backfill a run of the current boot, joined with one that is still to be sent.
func (l *Link) addSpanLocked(n span) {
	if n.from > n.to {
		return
	}
	if k := len(l.spans); k > 0 && l.spans[k-1].boot == n.boot && l.spans[k-1].to+1 >= n.from {
		last := &l.spans[k-1]
		if n.from < last.from && k == 1 && l.session.reader != nil {
			// The reader is past it; the run goes to the end of the queue whole.
			l.spans = append(l.spans, n)
			return
		}
		last.from, last.to = min(last.from, n.from), max(last.to, n.to)
		return
	}
	l.spans = append(l.spans, n)
}

// rewindLocked goes back to the boot's batch seq: what was under way on either chain is sent again from a key frame on.
func (l *Link) rewindLocked(boot BootID, seq uint64) {
	l.rewound++
	if boot != l.cfg.Boot {
		for i := range l.spans {
			if s := &l.spans[i]; s.boot == boot {
				s.from = min(s.from, seq)
				return
			}
		}
		for _, have := range l.cfg.Spool.Ranges() {
			if have.Boot == boot && have.Last >= seq {
				l.spans = append(l.spans, span{boot, seq, have.Last})
			}
		}
		return
	}
	l.spans = slices.DeleteFunc(l.spans, func(s span) bool {
		if s.boot == boot {
			seq = min(seq, s.from)
		}
		return s.boot == boot
	})
	l.restartLocked(seq)
}

// backfill returns the next spooled batch of the first span; nil when the span is done.
func (s *session) backfill() (any, error) {
	l := s.link
	l.mu.Lock()
	if len(l.spans) == 0 {
		l.mu.Unlock()
		return nil, nil
	}
	sp, turn := l.spans[0], l.rewound
	l.mu.Unlock()
	if s.reader != nil && s.turn != turn {
		s.closeReader()
	}
	if s.reader == nil {
		r, err := l.cfg.Spool.Open(sp.boot, sp.from)
		if err != nil {
			return nil, s.spanDone(sp, turn, err)
		}
		l.mu.Lock()
		s.reader, s.turn = r, turn
		l.mu.Unlock()
	}
	seq, frame, err := s.reader.Next()
	switch {
	case errors.Is(err, io.EOF) || err == nil && seq > sp.to:
		return nil, s.spanDone(sp, turn, nil)
	case err != nil:
		return nil, s.spanDone(sp, turn, err)
	}
	var boot []byte
	if sp.boot != l.cfg.Boot {
		boot = sp.boot[:]
	}
	b := l.pool.take() // gRPC may still hold the last one
	*b = appendBatch((*b)[:0], boot, seq, true, frame)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rewound != turn {
		l.pool.Put(b)
		return nil, nil
	}
	l.spans[0].from = max(l.spans[0].from, seq+1)
	l.credit -= int64(len(frame))
	l.status.Backfilled++
	l.status.Bytes += uint64(len(*b))
	s.frame = frameMessage{data: b, pool: &l.pool}
	return &s.frame, nil
}

// spanDone leaves the span behind, unless it was stretched or rewound meanwhile, and passes err on.
func (s *session) spanDone(sp span, turn uint64, err error) error {
	l := s.link
	s.closeReader()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rewound != turn {
		return err
	}
	if l.spans[0].to > sp.to && err == nil {
		l.spans[0].from = sp.to + 1
		return nil
	}
	l.spans = l.spans[1:]
	return err
}

func (s *session) closeReader() {
	if s.reader == nil {
		return
	}
	_ = s.reader.Close()
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.reader = nil
}
