// Package link keeps an agent's one session with its collector: it connects with the agent's certificate, says Hello,
// and then sends control messages first, live batches next and backfill last, within the credit that it was granted.
// What comes back goes to its owner: acks to the spool, the watch list to the probes, signed commands to the actor.
//
// It refuses to hold samples: what it cannot send at once is in the spool already and is read back from there, so every
// queue in here is short and losing its content costs a resend. It opens no command and makes none.
//
// Run owns one goroutine and, while a session is open, one that receives, one that renews the certificate, and at most
// maxReaches that try to reach other hosts for the collector.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/pkg/backoff"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// BootID names one start of an agent.
type BootID [16]byte

// Range is a run of batches of one boot that are in the spool and not known to be stored. Last < First: none.
type Range struct {
	Boot        BootID
	First, Last uint64
}

// Spool is what a link needs of the agent's spool. Its methods may be called from any goroutine.
type Spool interface {
	// Ranges lists the unacked batches: the current boot first, present also when empty, then earlier ones, oldest first.
	Ranges() []Range
	// Ack forgets the boot's batches up to and including seq.
	Ack(boot BootID, seq uint64)
	// Open starts to read at the last key frame at or before seq, or at the oldest batch there is.
	Open(boot BootID, seq uint64) (Reader, error)
	// Usage returns the bytes held, the cap on them, and the batches dropped for want of space since the start.
	Usage() (bytes, limit, dropped uint64)
}

// Reader returns spooled batches of one boot in order; io.EOF after the last that is there now. The frame is valid until
// the next call.
type Reader interface {
	Next() (seq uint64, frame []byte, err error)
	Close() error
}

// Identity is the agent's certificate and key, which may change under a running link.
type Identity interface {
	// TLS returns a configuration that shows the current certificate and accepts only collectors.
	TLS() *tls.Config
	// Leaf returns the current certificate.
	Leaf() *x509.Certificate
	// Request returns a PKCS#10 request, DER, for the current name and key.
	Request() ([]byte, error)
	// Replace takes a new certificate chain, leaf first, and keeps it.
	Replace(chain [][]byte, ca []byte) error
}

// Watch is a component of the map that the collector wants this host to look at.
type Watch struct {
	Component string
	Target    command.Target
}

// Place says where a watched component runs on this host.
type Place struct {
	Component string
	Running   bool
	Processes uint32
	Cgroup    string // path below the root of the cpu hierarchy, "/" first
	Problem   string // why it could not be found
}

// Facts describe the host and do not change while it is up.
type Facts struct {
	OS, Platform, Kernel, Arch, Cgroup string
	CPUs                               uint32
	MemoryBytes                        uint64
	KernelBootID                       string
}

// Config says what a Link is made of.
type Config struct {
	Addresses []string // of the collectors, host:port; at least one
	Version   string
	Boot      BootID
	Facts     Facts
	Labels    map[string]string
	Period    time.Duration // between two ticks

	Spool    Spool
	Identity Identity

	// OnWatch receives each watch list, OnCommand each signed command (an agentv1.SignedCommand as it came), OnStored
	// each result that the collector has stored. They are called from one goroutine and must not block.
	OnWatch   func([]Watch)
	OnCommand func(signed []byte)
	OnStored  func(id string, ordinal uint32)

	// Dial makes connections, for the session and for reaching other hosts. Default: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Now is the host's clock. Default time.Now.
	Now func() time.Time
	// Rand returns a number in [0, 1). Default: the runtime's source.
	Rand    func() float64
	Backoff backoff.Policy
	Log     *slog.Logger // default: discard
}

const (
	liveQueue       = 16   // batches; when full the newest are left to backfill and a key frame is asked for
	resultQueue     = 1024 // unstored results; when full the oldest is dropped and counted, the actor still has it
	changeQueue     = 256  // changes on the host; when full the oldest is dropped and counted
	exitQueue       = 64   // process exits; when full the oldest is dropped and counted
	reachQueue      = 16   // answers to reach orders; when full the oldest is dropped and counted
	maxOlder        = 32   // earlier boots named by a hello, oldest first; the collector refuses more
	maxReaches      = 4    // tries at once; an order beyond that is answered as not tried
	heartbeatEvery  = 10 * time.Second
	pongTimeout     = 35 * time.Second // three heartbeats and a little: the collector is gone, whatever TCP says
	welcomeTimeout  = 15 * time.Second
	connectTimeout  = 10 * time.Second
	callTimeout     = 15 * time.Second
	stopWait        = 5 * time.Minute // after a collector said stop, or refused the certificate
	maxMessageBytes = 1 << 20
)

// Link is the agent's end of the session. Its methods may be called from any goroutine.
type Link struct {
	cfg  Config
	wake chan struct{} // something to send; one token is enough

	mu       sync.Mutex
	session  *session // nil: none is open
	out      outbox
	live     []*[]byte // ready-made messages, oldest first
	pool     framePool
	liveOn   bool      // the collector has the chain so far
	holeFrom uint64    // while !liveOn: the first seq that the live stream leaves out
	paused   time.Time // no batches before then
	spans    []span    // what backfill has to send, in order
	rewound  uint64    // times that spans were sent back; a reader from before is closed
	credit   int64     // bytes of frames; below 0 by at most one frame
	ackWant  bool
	asked    bool          // the first batch of this process has asked for its ack
	acked    uint64        // of the current boot
	ackedNew chan struct{} // closed and replaced at each ack and at each end of a session
	members  []string
	status   Status
}

// Status is a snapshot of a link.
type Status struct {
	Connected   bool          `json:"connected"`
	Address     string        `json:"address,omitempty"`
	Since       time.Time     `json:"since"` // of the session, or of the outage
	Error       string        `json:"error,omitempty"`
	Refusal     string        `json:"refusal,omitempty"` // the last one, in the collector's words
	Attempts    int           `json:"attempts"`          // failed ones in this outage
	ClockSkew   time.Duration `json:"clockSkew"`         // collector's clock minus ours
	AckedSeq    uint64        `json:"ackedSeq"`
	AckedAt     time.Time     `json:"ackedAt"`
	Batches     uint64        `json:"batches"` // sent live, since the start
	Backfilled  uint64        `json:"backfilled"`
	Bytes       uint64        `json:"bytes"`     // of batches, live and backfilled
	Refused     uint64        `json:"refused"`   // samples that the collector dropped
	Overflows   uint64        `json:"overflows"` // times that the live queue was full
	Dropped     uint64        `json:"dropped"`   // control messages dropped by full queues
	Certificate time.Time     `json:"certificateUntil"`
	RenewError  string        `json:"renewError,omitempty"`
}

// New returns a link that is not connected to anything.
func New(cfg Config) (*Link, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("cannot make a link: no collector address")
	}
	if cfg.Spool == nil || cfg.Identity == nil {
		return nil, errors.New("cannot make a link: it needs a spool and an identity")
	}
	if cfg.Dial == nil {
		d := &net.Dialer{Timeout: connectTimeout}
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnWatch == nil {
		cfg.OnWatch = func([]Watch) {}
	}
	if cfg.OnCommand == nil {
		cfg.OnCommand = func([]byte) {}
	}
	if cfg.OnStored == nil {
		cfg.OnStored = func(string, uint32) {}
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	l := &Link{cfg: cfg, wake: make(chan struct{}, 1), ackedNew: make(chan struct{})}
	l.status.Since = cfg.Now()
	return l, nil
}

// Run connects, and connects again, until ctx ends. It returns nil.
func (l *Link) Run(ctx context.Context) error {
	var lost time.Time
	attempts := 0
	for turn := 0; ; {
		address := l.address(turn)
		began, err := l.connect(ctx, address)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errRenewed) || errors.Is(err, errMore) {
			continue
		}
		now := l.cfg.Now()
		if began || lost.IsZero() {
			lost, attempts = now, 0
		}
		attempts++
		if !began {
			turn++ // a collector that was good is tried first again
		}
		wait := l.wait(err, now.Sub(lost), attempts)
		l.mu.Lock()
		l.status.Error, l.status.Attempts = Sentence(err), attempts
		if began {
			l.status.Since = now
		}
		l.mu.Unlock()
		// One line as an outage begins, and one for each later attempt that failed otherwise than by time passing.
		if began || attempts == 1 {
			l.cfg.Log.Warn("no session with the collector", "address", address, "error", err, "next", wait)
		} else {
			l.cfg.Log.Debug("no session with the collector", "address", address, "error", err, "next", wait, "attempt", attempts)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// wait returns how long to stay away after err.
func (l *Link) wait(err error, sinceLoss time.Duration, attempts int) time.Duration {
	var hint *hintError
	if errors.As(err, &hint) {
		return l.cfg.Backoff.Hinted(hint.after, l.cfg.Rand())
	}
	if refusedForGood(err) {
		return l.cfg.Backoff.Hinted(stopWait, l.cfg.Rand())
	}
	return l.cfg.Backoff.Delay(sinceLoss, attempts, l.cfg.Rand())
}

// address returns the collector to try at the i-th turn: the configured ones in turn, then those that a collector
// named.
func (l *Link) address(i int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.cfg.Addresses)
	for _, m := range l.members {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all[i%len(all)]
}

// Live offers the batch of the tick that just was, which must be in the spool already. The frame is copied. Without a
// session, or while the collector lacks a key frame, the batch is left to backfill.
func (l *Link) Live(seq uint64, key bool, frame []byte) {
	l.mu.Lock()
	if l.session == nil || !l.liveLocked(seq, key) {
		l.mu.Unlock()
		return
	}
	b := l.pool.take()
	*b = appendBatch((*b)[:0], nil, seq, false, frame)
	l.live = append(l.live, b)
	l.mu.Unlock()
	l.rouse()
}

// liveLocked decides whether a batch goes on the live chain, and starts the chain again at a key frame.
func (l *Link) liveLocked(seq uint64, key bool) bool {
	if l.pausedLocked() {
		l.cutLocked(seq)
		return false
	}
	if len(l.live) >= liveQueue {
		if l.liveOn {
			l.status.Overflows++
		}
		l.cutLocked(seq)
		return false
	}
	if !l.liveOn {
		if !key {
			return false
		}
		l.addSpanLocked(span{l.cfg.Boot, l.holeFrom, seq - 1})
		l.liveOn = true
	}
	return true
}

// cutLocked ends the live chain before seq: from there on backfill sends, until a key frame starts it again.
func (l *Link) cutLocked(seq uint64) {
	if l.liveOn {
		l.liveOn, l.holeFrom = false, seq
	} else {
		l.holeFrom = min(l.holeFrom, seq)
	}
}

// restartLocked ends the live chain, forgets what waits in its queue, and leaves everything from seq on to backfill.
func (l *Link) restartLocked(seq uint64) {
	for _, b := range l.live {
		l.pool.Put(b)
	}
	l.live = l.live[:0]
	l.cutLocked(seq)
	l.holeFrom = min(l.holeFrom, seq)
}

func (l *Link) pausedLocked() bool {
	return !l.paused.IsZero() && l.cfg.Now().Before(l.paused)
}

// KeyWanted reports whether the next batch should be a key frame.
func (l *Link) KeyWanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != nil && !l.liveOn && !l.pausedLocked() && len(l.live) < liveQueue
}

// Result sends a result of the actor, an agentv1.CommandResult, and sends it again on each new session until the
// collector says that it is stored.
func (l *Link) Result(id string, ordinal uint32, raw []byte) {
	l.control(func(o *outbox) uint64 { return o.addResult(id, ordinal, slices.Clone(raw)) })
}

// Actor sends an agentv1.ActorReport, and sends it again on each new session.
func (l *Link) Actor(report []byte) {
	l.control(func(o *outbox) uint64 { o.actor, o.actorNew = slices.Clone(report), true; return 0 })
}

// NoActor says that there is no actor to talk to, and why.
func (l *Link) NoActor(problem string) { l.Actor(absentActor(problem)) }

// Components says where the watched components run. It is sent again on each new session.
func (l *Link) Components(places []Place) {
	msg := componentsToWire(places)
	l.control(func(o *outbox) uint64 { o.components, o.componentsNew = msg, true; return 0 })
}

// Exit says that a process of a watched component ended.
func (l *Link) Exit(component string, pid int32, at time.Time) {
	msg := exitToWire(component, pid, at)
	l.control(func(o *outbox) uint64 { return o.addExit(msg) })
}

// Change says that something on the host is not as it was.
func (l *Link) Change(kind, component, what, before, after string, at time.Time) {
	msg := changeToWire(kind, component, what, before, after, at)
	l.control(func(o *outbox) uint64 { return o.addChange(msg) })
}

func (l *Link) control(put func(*outbox) uint64) {
	l.mu.Lock()
	l.status.Dropped += put(&l.out)
	l.mu.Unlock()
	l.rouse()
}

// AckWanted asks the collector to store and ack at once what it was sent.
func (l *Link) AckWanted() {
	l.mu.Lock()
	l.ackWant = l.session != nil
	l.mu.Unlock()
	l.rouse()
}

// Drain waits until the collector has stored the current boot's batches up to seq, having asked for it. It returns
// false if ctx or the session ends first.
func (l *Link) Drain(ctx context.Context, seq uint64) bool {
	l.AckWanted()
	for {
		l.mu.Lock()
		done, open, news := l.acked >= seq, l.session != nil, l.ackedNew
		l.mu.Unlock()
		if done || !open {
			return done
		}
		select {
		case <-ctx.Done():
			return false
		case <-news:
		}
	}
}

// Status returns a snapshot.
func (l *Link) Status() Status {
	leaf := l.cfg.Identity.Leaf()
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.status
	if leaf != nil {
		st.Certificate = leaf.NotAfter
	}
	return st
}

// rouse lets the sender look again.
func (l *Link) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// hintError ends a session with the collector's own word on when to come back.
type hintError struct {
	reason string
	after  time.Duration
}

func (e *hintError) Error() string {
	return fmt.Sprintf("the collector refused: %s (come back in %v)", e.reason, e.after)
}
