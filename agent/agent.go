// Package agent joins the parts of an agent into a daemon: it measures its host, keeps every reading until a collector
// has stored it, and carries sealed commands to the actor. It reads no flag and no environment, opens no port, and acts on
// nothing; a test holds its imports to that.
//
//	probes ──┐                                    ┌── acks ────────────────┐
//	         ├─> schedule ─> recorder ─> spool ───┤                        │
//	checks ──┘   (one table) (pkg/chain)    └──> link <══ Session ══> collector
//	   ^  ^                                  ^  │ │
//	   │  └──────────── watch list ──────────┼──┘ └─ commands ─> actorlink <── unix socket ──> actor
//	components (exits, places) ──────────────┘ <── results, reports ──┘
//
// A reading goes through the picture from left to right: schedule runs the probes that are due into one table, the
// recorder encodes it once, appends it to the spool and offers it to the link. What the link cannot send at once it reads
// back from the spool later. Run owns one goroutine for each part.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/actorlink"
	"github.com/evenkeel/evenkeel/agent/check"
	"github.com/evenkeel/evenkeel/agent/inventory"
	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/agent/schedule"
	"github.com/evenkeel/evenkeel/pkg/run"
	"github.com/evenkeel/evenkeel/pkg/version"
)

const (
	// ackWait is how long a clean stop waits for the collector to store what it was sent.
	ackWait = 5 * time.Second
	// statusEvery is how often last-status.json is written.
	statusEvery = time.Minute
	// settleAfter is when an agent is done with what only a start needs.
	settleAfter = 10 * time.Second
	// inventoryEvery is how often it is looked for changes of the host. A look is a few calls of stat.
	inventoryEvery = 30 * time.Second
)

// Options are what New needs.
type Options struct {
	Config Config
	Log    *slog.Logger // default: discard
	// Dial makes the link's connections. Default: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Agent is the daemon. Make it with New, Run it once.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	started time.Time

	lock       *os.File
	id         *Identity
	recorder   *recorder
	probes     *probe.Set
	checks     *check.Set
	schedule   *schedule.Runner
	link       *link.Link
	actor      *actorlink.Client
	inventory  *inventory.Watcher
	socket     *net.UnixListener
	places     uint64 // version of the places that the link was told; only the schedule's goroutine touches it
	statusFile sync.Mutex
}

// New builds the parts in the order in which a reading meets them, and starts none. The error of a host without
// enrolment is ErrNotEnrolled.
func New(o Options) (_ *Agent, err error) {
	cfg := o.Config
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: o.Log, started: time.Now()}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()

	if a.id, err = LoadIdentity(cfg, time.Now); err != nil {
		return nil, err
	}
	if a.lock, err = lockFolder(cfg.State); err != nil {
		return nil, err
	}
	if a.recorder, err = openRecorder(cfg.spoolDir(), cfg.Spool.MaxBytes, a.log); err != nil {
		return nil, err
	}
	if a.probes, err = probe.New(probe.Config{
		MaxUnits: cfg.Units.Max,
		Spool: func() (int64, int64) {
			s := a.recorder.queue.Stats()
			return s.Bytes, int64(s.Dropped)
		},
		OnExit: func(e probe.Exit) { a.link.Exit(e.Component, int32(e.PID), e.Time) },
	}); err != nil {
		return nil, err
	}
	async := schedule.NewAsync(0)
	set := check.SetConfig{ID: a.id.Host, Async: async, Log: a.log}
	for _, k := range cfg.Checks {
		set.Local = append(set.Local, k.Spec())
	}
	if a.checks, err = check.NewSet(set); err != nil {
		return nil, err
	}
	if a.schedule, err = schedule.New(schedule.Config{
		ID: a.id.Host, Period: cfg.Period, Probes: cfg.enabled(a.probes), Async: async, Sink: a.tick, Log: a.log,
	}); err != nil {
		return nil, err
	}
	facts, err := probe.ReadFacts(context.Background(), "")
	if err != nil {
		return nil, err
	}
	if a.link, err = link.New(link.Config{
		Addresses: []string{a.id.Address()}, Version: version.Version, Boot: a.recorder.boot, Labels: cfg.Labels, Period: cfg.Period,
		Facts: link.Facts{
			OS: facts.OS, Platform: facts.Platform, Kernel: facts.Kernel, Arch: facts.Arch, Cgroup: facts.Cgroup, CPUs: uint32(facts.CPUs),
			MemoryBytes: facts.Memory, KernelBootID: kernelBootID(),
		},
		Spool: a.recorder, Identity: a.id, Dial: o.Dial, Log: a.log,
		OnWatch: a.watch, OnCommand: func(signed []byte) { a.actor.Command(signed) },
		OnStored: func(id string, ordinal uint32) { a.actor.Stored(id, ordinal) },
	}); err != nil {
		return nil, err
	}
	if a.actor, err = actorlink.New(actorlink.Config{
		Socket: cfg.ActorSocket, Host: a.id.Host, Log: a.log,
		OnReport: a.link.Actor, OnAbsent: a.link.NoActor, OnResult: a.link.Result,
	}); err != nil {
		return nil, err
	}
	a.inventory = inventory.New(inventory.Config{
		State: cfg.inventoryFile(), Every: inventoryEvery, Now: time.Now, Log: a.log,
		Tell: func(c inventory.Change) { a.link.Change(c.Kind, c.Component, c.What, c.Before, c.After, c.At) },
	})
	if a.socket, err = listenStatus(cfg.socketFile()); err != nil {
		return nil, err
	}
	return a, nil
}

// Run measures and streams until ctx ends. The stop is in the opposite order: no more ticks, then up to ackWait for the
// collector to store what it was sent, then the link, and last the spool, synced.
func (a *Agent) Run(ctx context.Context) error {
	g := run.Group{Log: a.log}
	g.Add("status", func(ctx context.Context) error { return serveStatus(ctx, a.socket, a.Status) })
	g.Add("last status", a.keepStatus)
	g.Add("actor link", a.actor.Run)
	g.Add("link", a.link.Run)
	g.Add("acks", func(ctx context.Context) error {
		<-ctx.Done()
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackWait)
		defer cancel()
		a.link.Drain(wait, a.recorder.last())
		return nil
	})
	g.Add("spool", a.recorder.run)
	g.Add("checks", a.checks.Run)
	g.Add("components", a.probes.Components().Run)
	g.Add("inventory", a.inventory.Run)
	g.Add("schedule", a.schedule.Run)
	a.log.Info("agent starts", "host", a.id.Host, "cluster", a.id.Cluster, "collector", a.id.Address(), "version", version.Version)
	err := g.Run(ctx)
	return errors.Join(err, a.close())
}

// close gives back what New took.
func (a *Agent) close() error {
	var errs []error
	if a.recorder != nil {
		errs = append(errs, a.recorder.close())
	}
	if a.socket != nil {
		_ = a.socket.Close() // closed already after a Run
		a.writeStatus(true)
	}
	if a.probes != nil {
		a.probes.Close()
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}

// enabled returns the probes that are not disabled, none of them faster than a tick.
func (c *Config) enabled(set *probe.Set) []schedule.Probe {
	var out []schedule.Probe
	for _, p := range set.Probes() {
		if !slices.Contains(c.Probes.Disable, p.Name()) {
			out = append(out, paced{p, max(p.Period(), c.Period)})
		}
	}
	return out
}

// paced is a probe that is read less often than it could be.
type paced struct {
	probe.Probe
	period time.Duration
}

func (p paced) Period() time.Duration { return p.period }

// watch passes the collector's watch list on: programs to the probes, requests to the checks.
func (a *Agent) watch(list []link.Watch) {
	var components []probe.Watch
	var checks []check.Spec
	var files []inventory.Component
	for _, w := range list {
		if w.Target.Unit != "" || w.Target.Process != nil {
			c := inventory.Component{Name: w.Component, Unit: w.Target.Unit}
			if w.Target.Process != nil {
				c.Exe = w.Target.Process.Exe
			}
			files = append(files, c)
		}
		if c := w.Target.Check; c != nil {
			checks = append(checks, check.Spec{Name: w.Component, Kind: c.Kind, Address: c.Address})
		} else {
			components = append(components, probe.Watch{Component: w.Component, Target: w.Target})
		}
	}
	a.probes.Components().SetWatch(components)
	a.inventory.Watch(files)
	a.checks.Watch(checks)
}

// lockFolder keeps a second agent out of a state folder, for as long as the file is open.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another agent runs with the state folder %s: stop it, or use another folder", dir), f.Close())
	}
	return f, nil
}

// kernelBootID returns the kernel's own name for this boot, "" where there is none.
func kernelBootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) < 36 {
		return ""
	}
	return string(b[:36])
}

// Status returns a snapshot.
func (a *Agent) Status() Status {
	s := a.schedule.Stats()
	st := Status{
		Version: version.Version, Host: a.id.Host, Cluster: a.id.Cluster, PID: os.Getpid(), Started: a.started, At: time.Now(),
		Series: a.recorder.seriesNow(), Ticks: s.Ticks, Skipped: s.Skipped, LastTick: s.Last, Session: a.link.Status(), Actor: a.actor.Status(),
		Spool: a.recorder.status(), Absent: a.probes.Absent(),
	}
	for _, p := range s.Probes {
		ps := ProbeStatus{Name: p.Name, Runs: p.Runs, Failures: p.Failures, Longest: p.Longest}
		if p.Runs > 0 {
			ps.Mean = p.Seconds / float64(p.Runs)
		}
		if p.Err != nil {
			ps.Error = p.Err.Error()
		}
		st.Probes = append(st.Probes, ps)
	}
	st.Checks, _ = a.checks.Results()
	places, _ := a.probes.Components().Places()
	st.Components = placesOf(places)
	return st
}

func placesOf(places []probe.Place) []link.Place {
	out := make([]link.Place, 0, len(places))
	for _, p := range places {
		out = append(out, link.Place{
			Component: p.Component, Running: p.Running, Processes: uint32(p.Processes), Cgroup: p.Cgroup, Problem: p.Problem,
		})
	}
	return out
}

// keepStatus leaves a status behind now and then, so that there is one after a crash.
func (a *Agent) keepStatus(ctx context.Context) error {
	started := time.NewTimer(settleAfter)
	defer started.Stop()
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-started.C:
			settle()
		case <-tick.C:
			a.writeStatus(false)
		}
	}
}

// writeStatus replaces last-status.json. It is for people to read, so nothing waits for the disk.
func (a *Agent) writeStatus(stopped bool) {
	a.statusFile.Lock()
	defer a.statusFile.Unlock()
	st := a.Status()
	st.Stopped = stopped
	data, err := json.Marshal(st)
	if err == nil {
		tmp := a.cfg.lastStatus() + ".new"
		if err = os.WriteFile(tmp, data, 0o600); err == nil {
			err = os.Rename(tmp, a.cfg.lastStatus())
		}
	}
	if err != nil {
		a.log.Warn("cannot keep the last status", "error", err)
	}
}
