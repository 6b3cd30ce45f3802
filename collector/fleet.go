package collector

import (
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// fleet is what is known of every host at the moment: its session, its readings, its verdicts, its actor. Sessions write it
// as ticks and messages come in; the decider is woken for hosts of which something changed, and reads. It may be used
// from many goroutines: each host has a lock of its own, held for one step.
type fleet struct {
	clock func() time.Time
	log   *slog.Logger
	wake  chan struct{} // room for one: there is something in dirty
	// changed is told of each change that is observed on a host. It does not block.
	changed func(host string, c session.HostChange)

	detectors atomic.Pointer[overload.Set]

	mu    sync.RWMutex
	hosts map[string]*host

	dirtyMu sync.Mutex
	dirty   map[string]bool
	reaches []hostReach // answers that the decider has not taken yet
	exits   []hostExit
}

// hostReach is what one agent found out about another host.
type hostReach struct {
	observer string
	session.Reach
}

// hostExit is a watched process that ended.
type hostExit struct {
	host string
	session.Exit
}

// host is one machine with an agent.
type host struct {
	name string

	mu        sync.Mutex
	engine    *overload.Host
	session   session.Connected
	connected bool
	heard     time.Time // when the last batch or heartbeat arrived
	sampled   time.Time // timestamp of the last tick
	skew      time.Duration
	series    int
	actor     command.ActorReport
	places    map[string]session.Place
	verdicts  map[string]overload.Verdict
	gone      []overload.Verdict // that the decider has not taken off the map yet
}

// silentAfter is when a host is unknown: three periods and a second after its last batch.
func (h *host) silentAfter() time.Duration { return 3*max(h.session.Period, time.Second) + time.Second }

// fresh reports whether a host is connected and was heard of lately. Its lock is held.
func (h *host) fresh(now time.Time) bool { return h.connected && now.Sub(h.heard) <= h.silentAfter() }

func newFleet(clock func() time.Time, detectors *overload.Set, log *slog.Logger) *fleet {
	f := &fleet{
		clock: clock, log: log, wake: make(chan struct{}, 1), hosts: map[string]*host{}, dirty: map[string]bool{},
		changed: func(string, session.HostChange) {},
	}
	f.detectors.Store(detectors)
	return f
}

// host returns the host of that name, which is made when it is new.
func (f *fleet) host(name string) *host {
	f.mu.RLock()
	h := f.hosts[name]
	f.mu.RUnlock()
	if h != nil {
		return h
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if h = f.hosts[name]; h == nil {
		h = &host{
			name: name, engine: overload.NewHost(name, f.detectors.Load()), places: map[string]session.Place{},
			verdicts: map[string]overload.Verdict{},
		}
		f.hosts[name] = h
	}
	return h
}

// known returns the host only if there is one.
func (f *fleet) known(name string) *host {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.hosts[name]
}

// all returns every host, in no order.
func (f *fleet) all() []*host {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]*host, 0, len(f.hosts))
	for _, h := range f.hosts {
		out = append(out, h)
	}
	return out
}

// touched wakes the decider for a host. What happens before it looks is looked at once.
func (f *fleet) touched(name string) {
	f.dirtyMu.Lock()
	f.dirty[name] = true
	f.dirtyMu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what happened since the last call.
func (f *fleet) take() (dirty []string, reaches []hostReach, exits []hostExit) {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	for name := range f.dirty {
		dirty = append(dirty, name)
	}
	clear(f.dirty)
	reaches, f.reaches = f.reaches, nil
	exits, f.exits = f.exits, nil
	return dirty, reaches, exits
}

// use puts other detectors in force on every host.
func (f *fleet) use(set *overload.Set) {
	f.detectors.Store(set)
	for _, h := range f.all() {
		h.mu.Lock()
		h.engine.Use(set)
		h.mu.Unlock()
	}
}

// Observe steps the detectors of a host on a tick that just arrived.
func (f *fleet) Observe(t ingest.Tick) {
	h := f.host(t.Host)
	h.mu.Lock()
	h.bind(&t)
	h.heard, h.sampled = t.Arrived, t.At
	changed := h.keep(h.engine.Step(t.At, t.State.Groups(), t.State.Raw()))
	h.mu.Unlock()
	if changed {
		f.touched(t.Host)
	}
}

// keep replaces verdicts by newer ones of the same place.
func (h *host) keep(changed []overload.Verdict) bool {
	for i := range changed {
		v := changed[i]
		if v.Gone {
			delete(h.verdicts, v.Key())
			v.Evidence = nil
			h.gone = append(h.gone, v)
			continue
		}
		v.Evidence = append([]overload.Evidence(nil), v.Evidence...)
		h.verdicts[v.Key()] = v
	}
	return len(changed) > 0
}

// silence says that a host has sent nothing for too long.
func (f *fleet) silence(name string, at time.Time) {
	h := f.host(name)
	h.mu.Lock()
	changed := h.keep(h.engine.MarkSilent(at))
	h.mu.Unlock()
	if changed {
		f.touched(name)
	}
}

// Event takes what an agent says beside its samples.
func (f *fleet) Event(name string, e session.Event) {
	h := f.host(name)
	h.mu.Lock()
	switch e := e.(type) {
	case session.Connected:
		h.session, h.connected, h.heard, h.skew = e, true, e.At, e.Skew
	case session.Disconnected:
		if e.Session == h.session.Session {
			h.connected = false
			h.actor.Present = false
		}
	case session.Heartbeat:
		h.heard, h.skew = e.At, e.Skew
	case session.Actor:
		h.actor = e.Report
	case session.Components:
		clear(h.places)
		for _, p := range e.Places {
			h.places[p.Component] = p
		}
	}
	h.mu.Unlock()
	f.dirtyMu.Lock()
	switch e := e.(type) {
	case session.Reach:
		f.reaches = append(f.reaches, hostReach{name, e})
	case session.Exit:
		f.exits = append(f.exits, hostExit{name, e})
	case session.HostChange:
		f.changed(name, e)
	}
	f.dirtyMu.Unlock()
	f.touched(name)
}

// Known reports whether a host is connected and its samples are fresh.
func (f *fleet) Known(name string) bool {
	h := f.known(name)
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fresh(f.clock()) && !h.sampled.IsZero()
}

// Last returns the newest value of a signal of a host. Where a component is asked about and the signal is one of units, it is
// that of the unit or cgroup that the component runs in.
func (f *fleet) Last(name, signal, subject string) (float64, bool) {
	h := f.known(name)
	if h == nil {
		return 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.engine.Last(signal, subject)
	if place := h.places[subject]; !ok && place.Cgroup != "" {
		p, ok = h.engine.Last(signal, unitLabel(place.Cgroup))
	}
	return p.Value, ok
}

// unitLabel is how agents name the unit of a cgroup: by its last part where that is a unit of systemd, else by its path.
func unitLabel(cgroup string) string {
	switch name := path.Base(cgroup); path.Ext(name) {
	case ".service", ".scope", ".slice", ".socket", ".mount", ".swap":
		return name
	}
	return cgroup
}

// Verdict returns the state of a detector on the host itself.
func (f *fleet) Verdict(name, detector string) overload.State {
	h := f.known(name)
	if h == nil {
		return overload.Unknown
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v := overload.Verdict{Host: name, Detector: detector}
	if found, ok := h.verdicts[v.Key()]; ok {
		return found.State
	}
	return overload.Unknown
}

// Hosts returns the names of the hosts that are connected.
func (f *fleet) Hosts() []string {
	var out []string
	for _, h := range f.all() {
		h.mu.Lock()
		if h.connected {
			out = append(out, h.name)
		}
		h.mu.Unlock()
	}
	return out
}

// Actor returns the report of a host's actor, false where it has none or is not connected.
func (f *fleet) Actor(name string) (command.ActorReport, bool) {
	h := f.known(name)
	if h == nil {
		return command.ActorReport{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.actor, h.connected && h.actor.Present
}

// bind tells the detectors which series the indexes of a tick are.
func (h *host) bind(t *ingest.Tick) {
	if t.Fresh {
		h.engine.Reset()
		for i := range t.State.Len() {
			if s := t.State.Series(int32(i)); s != nil {
				h.engine.Bind(i, &s.Desc)
			}
		}
	} else {
		for _, s := range t.State.Gone() {
			h.engine.Unbind(int(s.Index))
		}
		for _, s := range t.State.Added() {
			h.engine.Bind(int(s.Index), &s.Desc)
		}
	}
	h.series = t.State.Live()
}
