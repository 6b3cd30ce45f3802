// Package ingest takes the agents' batches: it decodes their chains, lets each batch in once, hands live ticks to the
// detectors at once and to the store, and acks what is on stable storage.
//
// An agent can hurt only itself here: its series, its rate and the age of its samples are bounded, and what is over a
// bound is refused, counted and named. It never acks what is not fsynced, and never appends a sample from the future,
// which would shut out all other samples of the node.
//
// Sequences are known for as long as the process runs. After a restart an agent sends again from its last ack, which is
// at most a few seconds back; such a sample has the time and value that is stored already, and the store keeps one.
//
// Run owns one goroutine, which sends acks. Streams are driven by the goroutines of their sessions.
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/chain"
)

// Boot names one start of an agent.
type Boot [16]byte

// Range is a run of batches of one boot. Last < First: none, and First is the next that there will be.
type Range struct {
	Boot        Boot
	First, Last uint64
}

// Hello says what an agent holds in its spool: batches of this boot, and of earlier ones.
type Hello struct {
	Range
	Older []Range
}

// Acked is the highest batch of a boot that is on stable storage with all before it.
type Acked struct {
	Boot Boot
	Seq  uint64
}

// Batch is one tick as it came. The frame is read during Push only.
type Batch struct {
	Boot     Boot
	Named    bool // Boot is set; otherwise it is that of Hello
	Seq      uint64
	Backfill bool
	Frame    []byte
}

// Class says what an agent is to do with a refusal.
type Class uint8

// The classes of refusals of samples. Those of sessions are collector/session's.
const (
	// Drop: the samples are dropped for good, and counted. The batch is acked like any other.
	Drop Class = iota + 1
	// RetryAfter: send again, from Seq on, after After.
	RetryAfter
)

// Refusal says what was not taken.
type Refusal struct {
	Class   Class
	Reason  string
	Boot    Boot
	Seq     uint64
	Samples int
	After   time.Duration
}

// Sink carries answers to the agent of a stream. Its methods must not block and may be called from any goroutine.
type Sink interface {
	// Ack says that everything up to seq is on stable storage.
	Ack(boot Boot, seq uint64)
	// Refuse passes a refusal on.
	Refuse(r Refusal)
	// WantKey asks for a key frame on the live chain; the agent sends again what came since the last ack.
	WantKey(reason string)
}

// Tick is one live tick of a host. It is valid during Observe only.
type Tick struct {
	Host    string
	At      time.Time // by the host's clock
	Arrived time.Time
	// Fresh marks the first tick of a chain: the indexes of State mean other series than before it.
	Fresh bool
	State *chain.Decoder
}

// Observer sees every live tick when it arrives, before it is stored. Ticks of one host come in order, those of
// different hosts side by side. While it works, that host's stream waits.
type Observer interface {
	Observe(t Tick)
}

// Config of an Ingest. Store is required.
type Config struct {
	Store    *store.Store
	Observer Observer // default: none

	Interval   time.Duration // at which samples are stored; default 15 s; at most a second: every tick
	Series     int           // of one agent; default 10,000
	Future     time.Duration // that a sample may be ahead of the collector's clock; default 60 s
	Past       time.Duration // that it may be behind; default 6 h, as the store's window
	Rate       float64       // batches a second of one agent, over a burst of four seconds' worth; default 50; < 0: no limit
	AckEvery   time.Duration // between two acks that nobody asked for; default 5 s
	RetryAfter time.Duration // hint when the store cannot take samples; default 2 s

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: none
}

// ErrClosed says that another stream of the same host has taken over.
var ErrClosed = errors.New("stream is closed")

// Ingest is shared by all streams. Its methods may be called from many goroutines.
type Ingest struct {
	cfg Config

	mu      sync.Mutex
	hosts   map[string]*host // every host that had a stream since the start
	streams map[*Stream]struct{}
	lanes   uint32 // given out so far

	stats counters
}

type counters struct {
	batches, duplicates, samples, thinned, future, past, overCap, nodeCap, badSeries, conflicts, malformed, retried, lost atomic.Uint64
}

// Stats counts since the start, Streams and Hosts but for now. Batches counts those taken; the others but the last two
// count samples.
type Stats struct {
	Streams, Hosts                                       int
	Batches, Duplicates                                  uint64
	Samples, Thinned                                     uint64 // given to the store; left out by Config.Interval
	Future, Past, OverCap, NodeCap, BadSeries, Conflicts uint64
	Malformed, Retried, Lost                             uint64 // frames; batches refused for a while; times that unacked batches had to be asked for again
}

// Stats returns the counters.
func (in *Ingest) Stats() Stats {
	in.mu.Lock()
	streams, hosts := len(in.streams), len(in.hosts)
	in.mu.Unlock()
	c := &in.stats
	return Stats{
		Streams: streams, Hosts: hosts, Batches: c.batches.Load(), Duplicates: c.duplicates.Load(), Samples: c.samples.Load(),
		Thinned: c.thinned.Load(), Future: c.future.Load(), Past: c.past.Load(), OverCap: c.overCap.Load(), NodeCap: c.nodeCap.Load(),
		BadSeries: c.badSeries.Load(), Conflicts: c.conflicts.Load(), Malformed: c.malformed.Load(), Retried: c.retried.Load(), Lost: c.lost.Load(),
	}
}

// New returns an Ingest that has no streams.
func New(cfg Config) (*Ingest, error) {
	if cfg.Store == nil {
		return nil, errors.New("cannot make an ingest: it needs a store")
	}
	for p, v := range map[*time.Duration]time.Duration{
		&cfg.Interval: 15 * time.Second, &cfg.Future: time.Minute, &cfg.Past: 6 * time.Hour, &cfg.AckEvery: 5 * time.Second, &cfg.RetryAfter: 2 * time.Second,
	} {
		if *p < 0 {
			return nil, errors.New("cannot make an ingest: its times must not be negative")
		}
		if *p == 0 {
			*p = v
		}
	}
	if cfg.Series == 0 {
		cfg.Series = 10_000
	}
	if cfg.Rate == 0 {
		cfg.Rate = 50
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Ingest{cfg: cfg, hosts: map[string]*host{}, streams: map[*Stream]struct{}{}}, nil
}

// maxBoots bounds the starts of one agent whose sequences are known. The one that was used longest ago is forgotten.
const maxBoots = 40

// host is what is known of an agent across its streams.
type host struct {
	name   string
	lane   uint32
	detail atomic.Int64 // Unix ms until which every tick is stored

	mu     sync.Mutex // held for each batch
	boots  map[Boot]*bootState
	stream *Stream // the newest
	uses   uint64
	kept   [2]buckets // live, backfill
}

type bootState struct {
	progress
	used uint64
}

// buckets remembers for each group the interval in which a tick was stored last.
type buckets [64]int64

func (in *Ingest) host(name string) *host {
	in.mu.Lock()
	defer in.mu.Unlock()
	h := in.hosts[name]
	if h == nil {
		h = &host{name: name, lane: in.lanes, boots: map[Boot]*bootState{}}
		in.lanes++
		in.hosts[name] = h
	}
	return h
}

// bootLocked returns what is known of a boot, and nil for one that no hello has named.
func (h *host) bootLocked(b Boot) *bootState {
	s := h.boots[b]
	if s != nil {
		h.uses++
		s.used = h.uses
	}
	return s
}

// nameLocked makes a boot known.
func (h *host) nameLocked(b Boot) *bootState {
	if s := h.bootLocked(b); s != nil {
		return s
	}
	if len(h.boots) >= maxBoots {
		var oldest Boot
		least := ^uint64(0)
		for id, o := range h.boots {
			if o.used < least {
				oldest, least = id, o.used
			}
		}
		delete(h.boots, oldest)
	}
	h.boots[b] = &bootState{}
	return h.bootLocked(b)
}

// SetDetail stores every tick of a host until then. Time zero ends it.
func (in *Ingest) SetDetail(name string, until time.Time) {
	in.host(name).detail.Store(max(until.UnixMilli(), 0))
}

// Open starts a stream of a host, whose name comes from its certificate, and ends the one before it. It returns what is
// stored of each boot that the hello names.
func (in *Ingest) Open(name string, hello Hello, sink Sink) (*Stream, []Acked) {
	h := in.host(name)
	s := &Stream{in: in, host: h, sink: sink, boot: hello.Boot, bucket: 4 * in.cfg.Rate, ackSent: map[Boot]uint64{}}
	s.live.live = true
	d := in.cfg.Store.Durable()

	h.mu.Lock()
	if h.stream != nil {
		h.stream.closed.Store(true)
	}
	h.stream = s
	var acked []Acked
	for i, r := range append([]Range{hello.Range}, hello.Older...) {
		if i >= maxBoots {
			break
		}
		b := h.nameLocked(r.Boot)
		if b.settle(d) {
			b.rewind()
		}
		if r.First > 0 {
			// What came before is not in the spool: it was acked, or dropped for want of space.
			b.floor(r.First - 1)
		} else if i == 0 && b.low == 0 && len(b.runs) == 0 {
			s.fresh = true
		}
		if b.acked > 0 {
			acked = append(acked, Acked{r.Boot, b.acked})
			s.ackSent[r.Boot] = b.acked
		}
	}
	h.mu.Unlock()

	in.mu.Lock()
	in.streams[s] = struct{}{}
	in.mu.Unlock()
	return s, acked
}

// Run sends acks as samples become durable, until ctx ends.
func (in *Ingest) Run(ctx context.Context) error {
	var due []*Stream
	for seen := in.cfg.Store.Durable(); ; {
		d, err := in.cfg.Store.Wait(ctx, seen)
		if err != nil {
			return nil
		}
		seen = d
		due = due[:0]
		in.mu.Lock()
		for s := range in.streams {
			due = append(due, s)
		}
		in.mu.Unlock()
		now := in.cfg.Now()
		for _, s := range due {
			s.settle(d, now)
		}
	}
}
