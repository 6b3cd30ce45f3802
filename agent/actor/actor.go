// Package actor acts on a host by signed command, within what the host's owner permits, and takes everything back.
//
//	agent ==unix socket==> server -> loop -> Judge -> engine: journal (fsync) -> actuator -> journal -> result
//	                                   ticks: leases, releases, trees, kill file, permissions file
//
// An envelope is judged whole before anything is done: signature, host, incarnation, age on two clocks, permissions,
// fence. What is done is in the journal before and after, with the way back; it is done at most once, and it ends with
// its lease, with the kill switch, with a clean stop, or after a crash, whether or not an agent or a collector is there.
// A value on the host that is not this actor's is left alone.
//
// It refuses to run programs that a command has a part in, to take authority from anybody but the permissions file, and to
// act when that file could have been written by others. It opens one unix socket. Run owns its goroutines: the loop,
// which alone touches the engine, the acceptor, two for each peer, and while the host is written one that looks for the
// kill file.
package actor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/evenkeel/evenkeel/agent/confine"
	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Config is what an actor runs with.
type Config struct {
	Settings
	Actuators map[string]Actuator // by action; see HostActuators
	Log       *slog.Logger
	// Clock and BootID default to those of the host.
	Clock  func() Moment
	BootID string
	// Confine has Run give up, for the whole process and for good, what neither the permissions nor the leases that are
	// held need.
	Confine bool
}

// beat is how often leases, kill file and trees are looked at.
const beat = 200 * time.Millisecond

// Actor is one host's actor.
type Actor struct {
	cfg    Config
	engine *engine

	calls    chan call
	server   *server // nil before it listens
	primary  *peer   // who said hello last; loop only
	reported []byte  // what it was told of us last; loop only
}

// New checks the settings and opens nothing.
func New(cfg Config) (*Actor, error) {
	cfg.Settings = cfg.withDefaults()
	if cfg.Host == "" {
		return nil, errors.New("an actor needs the agent id of its host")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = HostClock
	}
	if cfg.BootID == "" {
		var err error
		if cfg.BootID, err = HostBootID(); err != nil {
			return nil, err
		}
	}
	return &Actor{cfg: cfg, calls: make(chan call)}, nil
}

func newEngine(cfg Config, emit func(command.Result)) *engine {
	permissions := &permissionsFile{path: cfg.Permissions, uid: os.Geteuid()}
	return &engine{
		host: cfg.Host, bootID: cfg.BootID, actuators: cfg.Actuators, clock: cfg.Clock, emit: emit, log: cfg.Log,
		permissions: permissions.load,
	}
}

// Run acts until ctx ends, then takes everything back. It returns an error where it cannot begin.
func (a *Actor) Run(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.State, 0o700); err != nil {
		return fmt.Errorf("cannot make the state folder: %w", err)
	}
	lock, err := lockState(a.cfg.State)
	if err != nil {
		return err
	}
	defer lock.Close()
	allowed := map[uint32]bool{0: true, uint32(os.Geteuid()): true}
	uid, gid := -1, -1
	if a.cfg.AgentUser != "" {
		u, g, err := agentIDs(a.cfg.AgentUser)
		if err != nil {
			return err
		}
		allowed[uint32(u)] = true
		if u != os.Geteuid() && u != 0 {
			uid, gid = u, g
		}
	}
	work := context.WithoutCancel(ctx) // taking back goes on while stopping
	a.engine = newEngine(a.cfg, a.emit)
	a.engine.untilKilled = a.untilKilled
	if a.engine.trail, err = openTrail(a.cfg.Audit, a.cfg.Clock().Wall, a.cfg.Log); err != nil {
		return err
	}
	defer func() { a.engine.trail.close(a.cfg.Clock().Wall) }()
	if err := a.engine.open(work, filepath.Join(a.cfg.State, "journal"), (*os.File).Sync, newIncarnation); err != nil {
		return err
	}
	defer a.engine.j.close()
	listener, err := listen(a.cfg.Socket, uid, gid)
	if err != nil {
		a.engine.revertAll(work, "the actor could not start")
		return fmt.Errorf("cannot listen: %w", err)
	}
	if a.cfg.Confine {
		rep, err := confine.Apply(a.engine.confinement(a.cfg.Settings))
		if err != nil {
			listener.Close()
			a.engine.revertAll(work, "the actor could not start")
			return fmt.Errorf("the actor does not run with more than it needs: %w", err)
		}
		a.engine.confined = &rep
		a.engine.unable = func(action string) string { return a.engine.lacking(&rep, action) }
	}
	s := &server{listener: listener, allowed: allowed, calls: a.calls, clock: a.cfg.Clock, log: a.cfg.Log, peers: map[*peer]bool{}}
	a.server = s
	// A peer is served until its last word is written, however much it says meanwhile.
	serving, end := context.WithCancel(work)
	defer end()
	served := make(chan error, 1)
	go func() { served <- s.run(serving) }()

	a.engine.trail.note(a.cfg.Clock().Wall, "", "start", a.cfg.Host, "done", "incarnation "+a.engine.s.Incarnation)
	a.cfg.Log.Info("actor runs", "host", a.cfg.Host, "incarnation", a.engine.s.Incarnation, "problem", a.engine.problem)
	err = a.loop(ctx, work, served)
	a.engine.revertAll(work, "the actor stops")
	a.engine.trail.note(a.cfg.Clock().Wall, "", "stop", a.cfg.Host, "done", "")
	s.stop()
	end()
	s.wait.Wait()
	a.note()
	a.cfg.Log.Info("actor stopped")
	return err
}

func (a *Actor) loop(ctx, work context.Context, served <-chan error) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for beats := 0; ; {
		a.engine.setKillFile(work, killFileThere(a.cfg.KillFile))
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case c := <-a.calls:
			a.serve(work, c)
		case <-ticker.C:
			a.note()
			a.engine.tick(work)
			if beats++; beats%5 == 0 {
				a.engine.reload()
			}
		}
		a.tell()
	}
}

// note writes who was turned away at the socket to the trail.
func (a *Actor) note() {
	if a.server == nil {
		return
	}
	now := a.cfg.Clock().Wall
	for o, n := range a.server.takeOddities() {
		who := fmt.Sprintf("uid %d", o.uid)
		if o.uid == manyUsers {
			who = "many users"
		}
		a.engine.trail.turnedAway(now, who, o.why, n)
	}
}

// serve answers one frame.
func (a *Actor) serve(ctx context.Context, c call) {
	e := a.engine
	switch f := c.frame.GetFrame().(type) {
	case *agentv1.ActorFrame_Command:
		e.setKillFile(ctx, killFileThere(a.cfg.KillFile))
		e.command(ctx, envelopeOf(f.Command), c.received)
	case *agentv1.ActorFrame_Stored:
		e.ack(f.Stored.GetId(), f.Stored.GetOrdinal())
	case *agentv1.ActorFrame_Hello:
		if f.Hello.GetHost() != a.cfg.Host {
			a.cfg.Log.Warn("the agent has another host id", "agent", f.Hello.GetHost(), "actor", a.cfg.Host)
		}
		a.primary, a.reported = c.from, nil
		a.tell()
		for _, r := range e.s.Results {
			c.from.send(resultFrame(r))
		}
	case *agentv1.ActorFrame_Capabilities:
		e.reload()
		frame, err := capabilitiesFrame(e.capabilities(a.cfg.Settings))
		if err != nil {
			a.cfg.Log.Error("capabilities", "error", err)
			c.from.close()
			return
		}
		c.from.send(frame)
	case *agentv1.ActorFrame_Revert:
		if !f.Revert.GetAll() && f.Revert.GetId() == "" {
			c.from.send(outcomeFrame(nil, errors.New("revert names no command")))
			return
		}
		id := f.Revert.GetId()
		if f.Revert.GetAll() {
			id = ""
		}
		e.who = owner
		results, err := e.revert(ctx, id, "asked for on the host")
		e.who = ""
		c.from.send(outcomeFrame(results, err))
	default:
		c.from.close()
	}
}

func (a *Actor) emit(r command.Result) {
	if a.primary != nil {
		a.primary.send(resultFrame(r))
		// Its writer goes first: the collector waits for this word, and what comes next may take its time.
		runtime.Gosched()
	}
}

// untilKilled returns a context that ends when the kill file appears: the loop, which looks for it, waits meanwhile.
func (a *Actor) untilKilled(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if killFileThere(a.cfg.KillFile) != "" {
					cancel()
				}
			}
		}
	}()
	return ctx, func() { cancel(); <-gone }
}

// tell sends the report to the agent if it says anything new.
func (a *Actor) tell() {
	if a.primary == nil || a.primary.ended() {
		return
	}
	b, err := a.engine.report().Marshal()
	if err != nil {
		a.cfg.Log.Error("report", "error", err)
		return
	}
	if !bytes.Equal(b, a.reported) {
		a.reported = b
		a.primary.send(reportFrame(b))
	}
}

// killFileThere says why the kill file stops everything, "" if it is not there. A file that cannot be looked for counts.
func killFileThere(path string) string {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return "the kill file " + path + " is there"
	case errors.Is(err, fs.ErrNotExist):
		return ""
	}
	return "the kill file cannot be looked for: " + err.Error()
}

func newIncarnation() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// RevertOffline takes back one command's change, or all with an empty id, from the journal alone. It returns ErrRunning
// while an actor holds the state folder. A host where no actor ever ran has nothing to take back.
func RevertOffline(ctx context.Context, cfg Config, id string) ([]command.Result, error) {
	a, err := New(cfg)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(a.cfg.State, "journal")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lock, err := lockState(a.cfg.State)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRunning, err)
	}
	defer lock.Close()
	var settled []command.Result
	e := newEngine(a.cfg, func(r command.Result) { settled = append(settled, r) })
	if e.trail, err = openTrail(a.cfg.Audit, a.cfg.Clock().Wall, a.cfg.Log); err != nil {
		a.cfg.Log.Error("what is taken back now is not in the audit log", "error", err) // a full disk must not hold a host
		e.trail = nil
	}
	defer func() { e.trail.close(a.cfg.Clock().Wall) }()
	e.who = owner
	if err := e.open(ctx, path, (*os.File).Sync, newIncarnation); err != nil {
		return nil, err
	}
	defer e.j.close()
	if id != "" {
		if _, ok := e.s.byID(id); !ok && len(settled) > 0 {
			return settled, nil // taken back while opening
		}
	}
	if _, err := e.revert(ctx, id, "asked for while the actor was stopped"); err != nil {
		return settled, err
	}
	return settled, nil
}
