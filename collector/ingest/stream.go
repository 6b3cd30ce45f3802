package ingest

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/chain"
)

const (
	maxMalformed = 16               // frames of one stream that cannot be read, before it is ended
	tellEvery    = 10 * time.Second // between two refusals of one kind on one stream
	parkFor      = time.Minute      // how long a series that the node had no room for is not tried again
)

// Stream takes the batches of one session. Push and AckWanted are for the goroutine that receives the session; Close may
// be called by any.
type Stream struct {
	in   *Ingest
	host *host
	sink Sink
	boot Boot // of Hello

	closed atomic.Bool

	// The rest is guarded by host.mu.

	live, back one
	backBoot   Boot   // of the backfill chain
	backLast   uint64 // the last batch that came on it; 0: none yet
	backStale  uint64 // after a loss: the last batch that was on its way before the agent knew; 0: none
	fresh      bool   // the agent did not say where its sequences begin
	malformed  int
	bucket     float64 // batches that may come at once
	filled     time.Time

	began    bool // a batch has come
	wantAck  bool
	wantMark store.Mark // once it is durable, the ack that is wanted can go
	ackedAt  time.Time
	ackSent  map[Boot]uint64
	refusals [numKinds]tally
}

// The kinds of samples that are not taken.
const (
	kindFuture = iota
	kindPast
	kindCap
	kindNode
	kindBad
	kindConflict
	numKinds
)

var kindReasons = [numKinds]string{
	"samples are ahead of the collector's clock: set this host's clock",
	"samples are older than the collector can still take",
	"the limit of series of one agent is reached: samples of further series are dropped",
	"the collector's limit of series is reached: samples of new series are dropped",
	"series with names or labels that break the rules are dropped",
	"other values are stored for the same times",
}

// tally gathers refused samples until the agent is told.
type tally struct {
	samples int
	toldAt  time.Time
}

var (
	errTooMalformed = errors.New("too many batches that cannot be read")
	errSequence     = errors.New("a batch has a sequence from 1 up")
	errForeignLive  = errors.New("a live batch is of the boot that hello named")
	errForeignBack  = errors.New("backfill is of a boot that hello named")
)

// Push takes one batch: it is decoded, observed where it is live, and given to the store. It blocks while the agent is
// over its rate or another stream uses the same lane. An error ends the stream; ErrClosed says that another has taken
// over.
func (s *Stream) Push(b *Batch) error {
	if b.Seq == 0 || b.Seq >= math.MaxInt64 {
		return errSequence
	}
	now := s.in.cfg.Now()
	s.pace(now)
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	id := s.boot
	if b.Named {
		id = b.Boot
	}
	p := h.bootLocked(id)
	if b.Backfill {
		if p == nil {
			return errForeignBack
		}
		if s.stale(id, b.Seq) {
			return nil
		}
		s.step(id, p, b.Seq)
		return s.push(&s.back, id, p, b, now)
	}
	if id != s.boot || p == nil {
		return errForeignLive
	}
	if s.fresh {
		// The agent did not say what it holds, and we know nothing: its sequences begin here.
		s.fresh = false
		p.floor(b.Seq - 1)
	}
	return s.push(&s.live, id, p, b, now)
}

// stale reports whether a backfill batch was sent before the agent heard that what came was lost. Such batches go on rising;
// the first that does not is the agent gone back. Taking them would read as if the agent had nothing before them.
func (s *Stream) stale(id Boot, seq uint64) bool {
	if s.backStale == 0 || id != s.backBoot || seq <= s.backStale {
		s.backStale = 0
		return false
	}
	s.backStale = seq
	return true
}

// step follows the backfill's sequence. The agent reads its spool in order: what it skips going up it does not have any
// more, and where it begins with a boot is the first that it has beyond the last ack.
func (s *Stream) step(id Boot, p *bootState, seq uint64) {
	switch {
	case id != s.backBoot || s.backLast == 0:
		s.back.reset()
		p.add(p.low+1, seq-1)
	case seq > s.backLast:
		p.add(s.backLast+1, seq-1)
	default: // from an earlier key frame on, whose series may be others
		s.back.reset()
	}
	s.backBoot, s.backLast = id, seq
}

// push decodes one batch and takes it unless it has come before.
func (s *Stream) push(c *one, id Boot, p *bootState, b *Batch, now time.Time) error {
	if c.state == nil {
		c.state, c.fresh, c.dead = &chain.Decoder{}, true, true
	}
	if err := c.decode(b.Frame); err != nil {
		return s.unreadable(c, id, p, b, err)
	}
	c.follow(s.in.cfg.Series)
	at := c.state.At()
	if c.live && s.in.cfg.Observer != nil {
		s.in.cfg.Observer.Observe(Tick{Host: s.host.name, At: time.UnixMilli(at).UTC(), Arrived: now, Fresh: c.fresh, State: c.state})
		c.fresh = false
	}
	if p.has(b.Seq) {
		s.in.stats.duplicates.Add(1)
		c.ending = c.ending[:0]
		return nil
	}
	mark, late := store.Mark{}, -1
	switch ms := now.UnixMilli(); {
	case at > ms+s.in.cfg.Future.Milliseconds():
		late = kindFuture
	case at < ms-s.in.cfg.Past.Milliseconds():
		late = kindPast
	}
	if late >= 0 {
		mark = s.in.cfg.Store.Mark()
		s.refuse(late, c.count(c.state.Groups()), id, b.Seq, now)
		c.ending = c.ending[:0]
	} else {
		var err error
		if mark, err = s.store(c, id, b.Seq, at, now); err != nil {
			s.retry(c, id, b.Seq, err)
			return nil
		}
	}
	p.add(b.Seq, b.Seq)
	p.stamp(mark)
	s.in.stats.batches.Add(1)
	if !s.began {
		// An agent that has just come is told soon that all is well.
		s.began, s.wantAck, s.wantMark = true, true, mark
		s.in.cfg.Store.Sync()
	}
	return nil
}

// decode reads the next frame of a chain.
func (c *one) decode(frame []byte) error {
	if c.dead {
		if h, err := chain.ReadHeader(frame); err == nil && !h.Key {
			return chain.ErrNeedKey
		}
	}
	if err := c.state.Decode(frame); err != nil {
		return err
	}
	c.dead, c.asked, c.giveUp = false, false, false
	return nil
}

// pace waits while the agent sends faster than it may. Its stream's window fills meanwhile, and it alone has to wait.
func (s *Stream) pace(now time.Time) {
	rate := s.in.cfg.Rate
	if rate < 0 {
		return
	}
	if !s.filled.IsZero() {
		s.bucket = min(s.bucket+now.Sub(s.filled).Seconds()*rate, 4*rate)
	}
	s.filled = now
	if s.bucket--; s.bucket < 0 {
		time.Sleep(time.Duration(-s.bucket / rate * float64(time.Second)))
	}
}

// retry refuses a batch for a while: the store cannot take it. What comes behind it on the same chain is skipped until
// the agent has gone back and begins with a key frame.
func (s *Stream) retry(c *one, id Boot, seq uint64, err error) {
	s.in.stats.retried.Add(1)
	c.dead, c.asked = true, true
	s.sink.Refuse(Refusal{Class: RetryAfter, Reason: err.Error(), Boot: id, Seq: seq, After: s.in.cfg.RetryAfter})
}

// unreadable handles a frame that the decoder refused. The live chain begins again at a key frame; what was sent after
// the last ack comes once more as backfill. A backfill chain has nobody to ask: what cannot be read is given up, up to
// the next key frame, and counted.
func (s *Stream) unreadable(c *one, id Boot, p *bootState, b *Batch, err error) error {
	if errors.Is(err, chain.ErrNeedKey) {
		switch {
		case c.live && !c.asked:
			c.dead, c.asked = true, true
			s.sink.WantKey("a batch came without the ones before it")
		case !c.live && c.giveUp:
			s.giveUp(p, b.Seq)
		}
		return nil
	}
	s.in.stats.malformed.Add(1)
	if s.malformed++; s.malformed > maxMalformed {
		return fmt.Errorf("%w, the last one: %w", errTooMalformed, err)
	}
	c.dead, c.asked = true, true
	if c.live {
		s.sink.WantKey("a batch could not be read")
		return nil
	}
	c.giveUp = true
	s.giveUp(p, b.Seq)
	s.sink.Refuse(Refusal{Class: Drop, Reason: "a spooled batch could not be read", Boot: id, Seq: b.Seq})
	return nil
}

// giveUp lets acks pass a batch that nobody can read.
func (s *Stream) giveUp(p *bootState, seq uint64) {
	p.add(seq, seq)
	p.stamp(s.in.cfg.Store.Mark())
}

// refuse counts samples that are dropped, and tells the agent now and then.
func (s *Stream) refuse(kind, samples int, id Boot, seq uint64, now time.Time) {
	c := &s.in.stats
	[...]*atomic.Uint64{&c.future, &c.past, &c.overCap, &c.nodeCap, &c.badSeries, &c.conflicts}[kind].Add(uint64(samples))
	t := &s.refusals[kind]
	t.samples += samples
	if now.Sub(t.toldAt) < tellEvery {
		return
	}
	s.sink.Refuse(Refusal{Class: Drop, Reason: kindReasons[kind], Boot: id, Seq: seq, Samples: t.samples})
	*t = tally{toldAt: now}
}

// AckWanted asks for an ack as soon as what has come is durable, also where there is nothing new to ack.
func (s *Stream) AckWanted() {
	s.host.mu.Lock()
	s.wantAck, s.wantMark = true, s.in.cfg.Store.Mark()
	s.host.mu.Unlock()
	s.in.cfg.Store.Sync()
}

// settle takes over what became durable, and sends acks that are due.
func (s *Stream) settle(d store.Durable, now time.Time) {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed.Load() {
		return
	}
	lost := false
	for id, p := range h.boots {
		if !p.settle(d) {
			continue
		}
		lost = true
		p.rewind()
		s.in.stats.lost.Add(1)
		s.sink.Refuse(Refusal{Class: RetryAfter, Reason: store.ErrLost.Error(), Boot: id, Seq: p.acked + 1, After: s.in.cfg.RetryAfter})
	}
	if lost {
		// Both chains begin again: the agent goes back to a key frame.
		s.live.dead, s.live.asked = true, true
		s.back.reset()
		s.backStale, s.backLast = s.backLast, 0
		return
	}
	wanted := s.wantAck && d.Covers(s.wantMark)
	if !wanted && now.Sub(s.ackedAt) < s.in.cfg.AckEvery {
		return
	}
	for id, p := range h.boots {
		if p.acked > s.ackSent[id] || wanted && id == s.boot {
			s.sink.Ack(id, p.acked)
			s.ackSent[id], s.ackedAt = p.acked, now
		}
	}
	if wanted {
		s.wantAck = false
	}
}

// Close ends the stream. Its host's sequences stay known.
func (s *Stream) Close() {
	s.host.mu.Lock()
	s.closed.Store(true)
	if s.host.stream == s {
		s.host.stream = nil
	}
	s.host.mu.Unlock()
	s.in.mu.Lock()
	delete(s.in.streams, s)
	s.in.mu.Unlock()
}
