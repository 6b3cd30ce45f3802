package remedy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// ErrStopped is returned by calls on an Executor whose Run has ended.
var ErrStopped = errors.New("remedy has stopped")

// ErrNotFound is returned for an id of no action.
var ErrNotFound = errors.New("no such action")

// ErrNotNow is wrapped where an action's state does not allow what was asked.
var ErrNotNow = errors.New("not possible now")

// Signals answers what is known of a host now. Implementations may be called at any time and must not block.
type Signals interface {
	// Known reports whether the host is connected and its samples are fresh.
	Known(host string) bool
	// Last returns the newest value of a signal, false where there is none.
	Last(host, signal, subject string) (float64, bool)
	// Verdict returns the state of a host's verdict.
	Verdict(host, detector string) overload.State
}

// Roster knows the actors of the hosts that are connected.
type Roster interface {
	Hosts() []string
	Actor(host string) (command.ActorReport, bool)
}

// Sender passes an envelope to a host's agent. It must not block; an error means that the host cannot be reached now.
type Sender interface {
	Send(host string, e command.Envelope) error
}

// Reporter hears what goes into the timeline of an incident. It is called on the executor's goroutine and must not block.
type Reporter interface {
	ActionStarted(at time.Time, incident, action, what string)
	ActionEnded(at time.Time, incident, action, what string)
	Note(at time.Time, incident, who, what string)
}

// Auditor keeps the audit log.
type Auditor interface {
	Append(ctx context.Context, who, what, subject, outcome, detail string) error
}

// Config of an Executor. Every field but Log and Queue is needed.
type Config struct {
	Store    state.Store
	Signals  Signals
	Roster   Roster
	Sender   Sender
	Reporter Reporter
	Audit    Auditor
	// Sign makes the envelope of a command with the collector's key.
	Sign func(command.Command) (command.Envelope, error)
	// NewID returns a new ULID.
	NewID func(at time.Time) string
	Now   func() time.Time
	// Incarnation is that of the cluster; it comes before the revision in every fence.
	Incarnation uint64
	Log         *slog.Logger
	// Queue is how many calls may wait, and how many situations; default 256. When it is full Consider drops and the others
	// block.
	Queue int
}

// Executor keeps the ledger and drives the actions. Its methods may be called from any goroutine once Run is running.
type Executor struct {
	cfg     Config
	urgent  chan func(context.Context) // situations; they go before what the queue holds
	queue   chan func(context.Context)
	ready   chan func() // what follows from a wait that is over
	waits   sync.WaitGroup
	stopped chan struct{}

	// Owned by Run's goroutine.
	entries map[string]*entry // by action id
	byOrder map[string]*entry // by id of a renewal or revert
	kill    KillSwitch        //
	killRev int64             // revision at which it was last changed
	refusal map[string]string // incident -> what the refusal was noted for last
	ctx     context.Context   // of Run, for effects
	now     time.Time         // of the call in hand
	trail   trail

	mu    sync.Mutex
	view  map[string]Action
	plans map[string]Plan // newest by incident
	subs  map[chan Action]struct{}
	held  KillSwitch
}

// KillSwitch is the cluster's kill switch, kept under cluster/killswitch.
type KillSwitch struct {
	On     bool      `json:"on"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// New checks the configuration; it starts nothing.
func New(cfg Config) (*Executor, error) {
	switch {
	case cfg.Store == nil, cfg.Signals == nil, cfg.Roster == nil, cfg.Sender == nil, cfg.Reporter == nil, cfg.Audit == nil,
		cfg.Sign == nil, cfg.NewID == nil, cfg.Now == nil:
		return nil, errors.New("cannot make remedy: a part is missing")
	case cfg.Incarnation == 0:
		return nil, errors.New("cannot make remedy: the cluster's incarnation is not known")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Queue == 0 {
		cfg.Queue = 256
	}
	return &Executor{
		cfg: cfg, urgent: make(chan func(context.Context), cfg.Queue), queue: make(chan func(context.Context), cfg.Queue),
		ready: make(chan func()), stopped: make(chan struct{}),
		entries: map[string]*entry{}, byOrder: map[string]*entry{}, refusal: map[string]string{},
		view: map[string]Action{}, plans: map[string]Plan{}, subs: map[chan Action]struct{}{},
	}, nil
}

// tick is how often actions are looked at.
const tick = time.Second

// Run reads the ledger, picks up what was under way, and drives the actions until ctx ends. It is called once.
func (e *Executor) Run(ctx context.Context) error {
	defer close(e.stopped)
	defer e.endSubscriptions()
	ctx, cancel := context.WithCancel(ctx)
	e.ctx, e.now = ctx, e.cfg.Now()
	e.trail.start(ctx, e.cfg.Audit, func(subject string, err error) {
		e.cfg.Log.Warn("cannot write audit entry", "subject", subject, "err", err)
	})
	defer e.trail.stop()
	defer e.waits.Wait()
	defer cancel()
	if err := e.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("cannot read the ledger: %w", err)
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		e.hurry(ctx)
		select {
		case <-ctx.Done():
			return nil
		case f := <-e.ready:
			e.now = e.cfg.Now()
			f()
		case f := <-e.urgent:
			e.now = e.cfg.Now()
			f(ctx)
		case f := <-e.queue:
			e.now = e.cfg.Now()
			f(ctx)
		case <-ticker.C:
			e.now = e.cfg.Now()
			e.look()
		}
	}
}

// hurry takes what the ledger has answered and the situations that wait. A host that suffers does not wait for others to be
// heard.
func (e *Executor) hurry(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case f := <-e.ready:
			e.now = e.cfg.Now()
			f()
		case f := <-e.urgent:
			e.now = e.cfg.Now()
			f(ctx)
		default:
			return
		}
	}
}

// call runs f on the executor's goroutine and waits for its answer, which may come later than f returns, and for the entry
// of the audit log that comes with it, if one does. Where it returns nil, f has answered.
func (e *Executor) call(ctx context.Context, f func(ctx context.Context, answer answer)) error {
	type reply struct {
		err      error
		recorded <-chan struct{}
	}
	got := make(chan reply, 1)
	select {
	case e.queue <- func(run context.Context) {
		f(run, func(err error, recorded <-chan struct{}) { got <- reply{err, recorded} })
	}:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return ErrStopped
	}
	var r reply
	select {
	case r = <-got:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return ErrStopped
	}
	if r.recorded == nil {
		return r.err
	}
	select {
	case <-r.recorded:
		return r.err
	case <-ctx.Done():
		return errors.Join(r.err, ctx.Err())
	}
}

// answer ends a call. recorded is closed once the audit log has the entry; nil where there is none.
type answer func(err error, recorded <-chan struct{})

// Consider judges a situation and acts on it as the policy allows. It does not wait; where the queue is full it returns
// false and the situation is dropped, since the next tick brings a newer one. It is meant to be called when a verdict
// changes, and about once a second while a host is overloaded.
func (e *Executor) Consider(s Situation) bool {
	select {
	case <-e.stopped:
		return false
	default:
	}
	select {
	case e.urgent <- func(context.Context) { e.consider(&s) }:
		return true
	default:
		return false
	}
}

// Result takes the word of an actor. When it returns nil the word is in the ledger, and the actor may be told that it is
// stored. A result for a command of another host, or of none, changes nothing.
func (e *Executor) Result(ctx context.Context, host string, r command.Result) error {
	return e.call(ctx, func(_ context.Context, answer answer) {
		var audited <-chan struct{}
		en := e.entries[r.ID]
		if en == nil {
			en = e.byOrder[r.ID]
		}
		if en == nil || en.Host != host {
			if en != nil || r.Phase == command.Refused {
				audited = e.trail.put(host, "result", r.ID, "refused", fmt.Sprintf("%s %s: no such command for this host", r.Phase, r.Reason))
			}
			answer(nil, audited)
			return
		}
		outcome := "done"
		switch r.Phase {
		case command.Refused:
			outcome = "refused"
		case command.Failed, command.RevertFailed, command.Indeterminate:
			outcome = "failed"
		}
		e.feedThen(en, ResultCame{r}, func(moved bool) {
			if moved || outcome != "done" {
				audited = e.trail.put("actor/"+host, r.Phase.String(), "action/"+en.ID, outcome, joined(string(r.Reason), r.Detail))
			}
		}, func() {
			var err error
			if en.dirty {
				err = fmt.Errorf("cannot store the result: %w", state.ErrUnavailable)
			}
			answer(err, audited)
		})
	})
}

func joined(reason, detail string) string {
	switch {
	case reason == "":
		return detail
	case detail == "":
		return reason
	}
	return reason + ": " + detail
}

// HostConnected says that a host's session has opened: what it has not answered is sent again, byte for byte.
func (e *Executor) HostConnected(ctx context.Context, host string) error {
	return e.call(ctx, func(_ context.Context, answer answer) {
		if e.kill.On {
			e.sendKill(host, command.Kill)
		}
		for _, en := range e.sorted() {
			if en.Host == host && !en.State.Terminal() && !en.dirty {
				switch {
				case en.State == Dispatched:
					e.send(en)
				case en.Order != nil:
					e.sendOrder(en)
				}
			}
		}
		answer(nil, nil)
	})
}

func (e *Executor) lookAt(a *Action) Look {
	l := Look{HostKnown: e.cfg.Signals.Known(a.Host), Trigger: e.cfg.Signals.Verdict(a.Host, a.Detector)}
	if !l.HostKnown {
		l.Trigger = overload.Unknown
		return l
	}
	read := func(signal, subject string) Reading {
		v, ok := e.cfg.Signals.Last(a.Host, signal, subject)
		return Reading{v, ok}
	}
	p := &a.Proposal
	switch p.Verify.Of {
	case "target":
		l.Verify = read(p.Verify.Signal, p.Component)
	case "host":
		l.Verify = read(p.Verify.Signal, "")
	default:
		l.Verify = read(p.Verify.Signal, p.Protects)
	}
	l.SqueezedCores = read("component.cpu", p.Component)
	l.SqueezedDelay = read("runqueue.delay", p.Component)
	l.SqueezedRunning = read("process.running", p.Component)
	cores, delay := read("component.cpu", p.Protects), read("runqueue.delay", p.Protects)
	l.ProtectedCores = cores
	l.ProtectedDemand = Reading{cores.Value + delay.Value, cores.Known && delay.Known}
	return l
}

// validFor is how long a command may wait to be executed.
func validFor(r command.Risk) time.Duration {
	if r >= command.R2 {
		return 60 * time.Second
	}
	return 30 * time.Second
}

// sign makes the one command of an action. Nothing is signed under a kill switch, for a host that has fallen silent, or
// for an overload that ended, or is no longer seen, while the intent was being written.
func (e *Executor) sign(en *entry) Input {
	a := en.Action
	switch {
	case e.kill.On:
		return CancelledBy{"remedy", "", ReasonKillSwitch}
	case !e.cfg.Signals.Known(a.Host):
		return CancelledBy{"remedy", "the host has fallen silent", ReasonHostLost}
	case e.cfg.Signals.Verdict(a.Host, a.Detector) != overload.Overloaded:
		return CancelledBy{"remedy", "the overload is over or no longer seen, and nothing was sent yet", ReasonConditionGone}
	}
	expires := e.now.Add(a.validFor())
	env, err := e.cfg.Sign(command.Command{
		ID: a.ID, Kind: command.Apply, Host: a.Host, ActorIncarnation: a.ActorIncarnation, Fence: a.Fence, Action: a.Proposal.Action,
		Issued: e.now, Expires: expires, Lease: a.Proposal.Lease, Risk: a.Proposal.Risk, Reason: clip(a.Proposal.Text), Incident: a.Incident,
		PermissionsHash: a.PermissionsHash, Release: a.Proposal.Release,
	})
	if err != nil {
		return SigningFailed{err.Error()}
	}
	bytes, err := env.Marshal()
	if err != nil {
		return SigningFailed{err.Error()}
	}
	en.signed = e.trail.put("remedy", "sign", "action/"+a.ID, "done", a.Proposal.Text)
	return SignedAs{bytes, env.Hash(), expires}
}

// order makes a renewal or revert. Its counter rises over all orders of the action, across restarts.
func (e *Executor) order(en *entry, kind command.Kind) {
	a := en.Action
	o := Order{ID: e.cfg.NewID(e.now), Kind: kind, Counter: a.Counter + 1, Expires: e.now.Add(validFor(command.R1)), SentAt: e.now, Gradual: a.Proposal.Release.Step > 0}
	c := command.Command{
		ID: o.ID, Kind: kind, Host: a.Host, ActorIncarnation: a.ActorIncarnation, Fence: a.Fence, Issued: e.now, Expires: o.Expires,
		Risk: a.Proposal.Risk, Reason: clip(a.Reason), Incident: a.Incident, Of: a.ID, Counter: o.Counter,
	}
	if kind == command.Renew {
		c.Lease = a.Proposal.Lease
	}
	env, err := e.cfg.Sign(c)
	if err == nil {
		o.Envelope, err = env.Marshal()
	}
	if err != nil {
		e.cfg.Log.Warn("cannot sign order", "action", a.ID, "err", err)
		return // asked again on the next look; the lease ends by itself
	}
	en.answer(OrderReady{o})
}

// send sends a command. Its record is written by then, and the audit log has the signature.
func (e *Executor) send(en *entry) {
	if e.now.Before(en.Expires) {
		e.sendBytes(en, en.Envelope)
	}
}

func (e *Executor) sendOrder(en *entry) {
	if en.Order != nil && e.now.Before(en.Order.Expires) {
		e.sendBytes(en, en.Order.Envelope)
	}
}

func (e *Executor) sendBytes(en *entry, b []byte) {
	env, err := command.ParseEnvelope(b)
	if err == nil {
		err = e.cfg.Sender.Send(en.Host, env)
	}
	if err != nil {
		e.cfg.Log.Debug("command is not sent yet", "action", en.ID, "host", en.Host, "err", err)
	}
}

// clip bounds a text that goes into a command.
func clip(s string) string {
	if len(s) > 1000 {
		s = s[:1000]
	}
	return s
}
