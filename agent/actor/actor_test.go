package actor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// bubble runs the actor's own loop on the bubble's clock, without a socket.
func bubble(t *testing.T, do func(a *Actor, r *rig, call func(*agentv1.ActorFrame))) {
	synctest.Test(t, func(t *testing.T) {
		r := rigIn(t)
		start := time.Now()
		kill := filepath.Join(r.dir, "kill")
		a, err := New(Config{Settings: Settings{Host: "web1", State: r.dir, Permissions: filepath.Join(r.dir, "permissions.yaml"), KillFile: kill}, BootID: "boot-1"})
		if err != nil {
			t.Fatal(err)
		}
		r.e.clock = func() Moment {
			d := time.Since(start)
			return Moment{Wall: epoch.Add(d), Boot: time.Hour + d}
		}
		a.engine = r.e
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.loop(ctx, context.Background(), nil) }()
		do(a, r, func(f *agentv1.ActorFrame) {
			a.calls <- call{frame: f, received: r.e.clock()}
			synctest.Wait()
		})
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// pass lets fake time go by; nothing sleeps.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
	r.advance(d) // what the next commands are dated by
}

func commandFrame(e command.Envelope) *agentv1.ActorFrame {
	return &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Command{Command: e.Proto()}}
}

func TestLoopEndsLeases(t *testing.T) {
	bubble(t, func(_ *Actor, r *rig, call func(*agentv1.ActorFrame)) {
		call(commandFrame(r.sign(r.command("a", 50))))
		r.wantValue("a", 50)
		r.pass(19 * time.Second)
		r.wantValue("a", 50)
		r.pass(1300 * time.Millisecond)
		r.wantValue("a", 100)
	})
}

// A write that waits for others, as for a job of systemd, is called off by the kill file and taken back.
func TestKillFileCallsOffAWrite(t *testing.T) {
	bubble(t, func(a *Actor, r *rig, call func(*agentv1.ActorFrame)) {
		r.e.untilKilled = a.untilKilled
		r.world.hang = true
		call(commandFrame(r.sign(r.command("a", 50))))
		r.wantValue("a", 50)
		<-time.After(20 * time.Second)
		synctest.Wait()
		r.wantValue("a", 50) // it still waits
		if err := os.WriteFile(a.cfg.KillFile, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.pass(500 * time.Millisecond)
		r.wantValue("a", 100)
	})
}

func TestLoopObeysTheKillFile(t *testing.T) {
	bubble(t, func(a *Actor, r *rig, call func(*agentv1.ActorFrame)) {
		call(commandFrame(r.sign(r.command("a", 50))))
		if err := os.WriteFile(a.cfg.KillFile, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.pass(500 * time.Millisecond)
		r.wantValue("a", 100)
		call(commandFrame(r.sign(r.command("a", 50))))
		r.wantValue("a", 100)
		if err := os.Remove(a.cfg.KillFile); err != nil {
			t.Fatal(err)
		}
		call(commandFrame(r.sign(r.command("a", 60))))
		r.wantValue("a", 60)
		if err := os.WriteFile(a.cfg.KillFile, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		call(commandFrame(r.sign(r.command("b", 60)))) // not even one more command gets in before the next beat
		r.wantValue("a", 100)
		r.wantValue("b", 100)
	})
}

func TestLoopRenews(t *testing.T) {
	bubble(t, func(_ *Actor, r *rig, call func(*agentv1.ActorFrame)) {
		c := r.command("a", 50)
		call(commandFrame(r.sign(c)))
		for range 5 {
			r.pass(15 * time.Second)
			call(commandFrame(r.sign(r.other(command.Renew, c.ID))))
			r.wantValue("a", 50)
		}
		r.pass(21 * time.Second)
		r.wantValue("a", 100)
	})
}

// running is a whole actor on a real socket and a fake host.
type running struct {
	*rig
	cfg  Config
	stop func() error
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	r := &rig{t: t, dir: dir, world: newWorld("a", "b", "c"), now: Moment{Wall: time.Now()}, key: collectorKeyNow(t)}
	file := filepath.Join(dir, "permissions.yaml")
	if err := os.WriteFile(file, []byte(`version: 1
signingRoot: `+command.FormatPublicKey(pub(rootKey))+`
approvers: []
maxRisk: R1
actions: [{action: cpu.weight, targets: [{cgroup: /a}, {cgroup: /b}], min: 10, max: 100, maxLease: 1m, rate: 6/5m}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPermissions(file, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	r.perm = p
	cfg := Config{Settings: Settings{Host: "web1", State: filepath.Join(dir, "s"), Permissions: file}, Actuators: map[string]Actuator{"cpu.weight": r.world}}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	x := &running{rig: r, cfg: a.cfg}
	stopped := false
	x.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = x.stop() })
	return x
}

func collectorKeyNow(t *testing.T) command.Key {
	t.Helper()
	k := seeded(3)
	c, err := command.CertifyKey(rootKey, command.CertifiedKey{
		Public: pub(k), Collector: "c1", NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), MaxRisk: command.R2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return command.Key{Private: k, Certificate: c}
}

// agent is the other end of the socket.
type agent struct {
	t    *testing.T
	conn net.Conn
}

func connect(t *testing.T, socket string) *agent {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			if err := conn.SetDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			return &agent{t: t, conn: conn}
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (a *agent) send(f *agentv1.ActorFrame) {
	a.t.Helper()
	if err := writeFrame(a.conn, f); err != nil {
		a.t.Fatal(err)
	}
}

func (a *agent) hello() command.ActorReport {
	a.t.Helper()
	a.send(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Hello{Hello: &agentv1.ActorHello{Host: "web1"}}})
	f, err := readFrame(a.conn)
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := command.ParseActorReport(f.GetReport())
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

// result reads up to the next result.
func (a *agent) result(want command.Phase) command.Result {
	a.t.Helper()
	for {
		f, err := readFrame(a.conn)
		if err != nil {
			a.t.Fatalf("waiting for %s: %v", want, err)
		}
		if f.GetResult() == nil {
			continue
		}
		r, err := command.ResultFromProto(f.GetResult())
		if err != nil {
			a.t.Fatal(err)
		}
		if r.Phase != want {
			a.t.Fatalf("got %s %s (%s), want %s", r.Phase, r.Reason, r.Detail, want)
		}
		return r
	}
}

func (r *running) live(report command.ActorReport, target string, value int64) command.Command {
	r.now.Wall = time.Now()
	r.e = &engine{s: &state{Incarnation: report.Incarnation}}
	return r.command(target, value)
}

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	x := start(t, t.TempDir())
	one := connect(t, x.cfg.Socket)
	report := one.hello()
	if !report.Present || report.Problem != "" || len(report.Permissions) != 1 || report.MaxRisk != command.R1 {
		t.Fatalf("%+v", report)
	}
	c := x.live(report, "a", 50)
	one.send(commandFrame(x.sign(c)))
	one.result(command.Accepted)
	applied := one.result(command.Applied)
	if applied.Prior != "100" || applied.Value != "50" || applied.ID != c.ID {
		t.Fatalf("%+v", applied)
	}
	one.send(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Stored{Stored: &agentv1.ResultAck{Id: applied.ID, Ordinal: applied.Ordinal}}})

	caps, err := AskCapabilities(x.cfg.Socket, 5*time.Second)
	if err != nil || !caps.Running || len(caps.Leases) != 1 || len(caps.Can) != 1 || len(caps.Can)+len(caps.Cannot) != len(command.Catalogue()) {
		t.Fatalf("%+v %v", caps, err)
	}
	// The agent comes back: what was not acked is sent again.
	one.conn.Close()
	two := connect(t, x.cfg.Socket)
	two.hello()
	two.result(command.Accepted)

	if _, err := RevertOffline(t.Context(), x.cfg, ""); !errors.Is(err, ErrRunning) {
		t.Fatalf("offline beside a running actor: %v", err)
	}
	got, err := AskRevert(x.cfg.Socket, c.ID, 5*time.Second)
	if err != nil || len(got) != 1 || got[0].Phase != command.Reverted {
		t.Fatalf("%+v %v", got, err)
	}
	two.result(command.Reverted)
	if _, err := AskRevert(x.cfg.Socket, c.ID, 5*time.Second); err == nil {
		t.Fatal("reverted twice")
	}
	two.send(commandFrame(x.sign(x.live(report, "z", 50))))
	if r := two.result(command.Refused); r.Reason != command.ReasonDenied {
		t.Fatalf("%+v", r)
	}
	two.send(commandFrame(x.sign(x.live(report, "b", 50))))
	two.result(command.Accepted)
	two.result(command.Applied)
	// A clean stop takes everything back and says so.
	stopped := make(chan error, 1)
	go func() { stopped <- x.stop() }()
	two.result(command.Reverted)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	x.wantValue("a", 100)
	x.wantValue("b", 100)
	if got, err := RevertOffline(t.Context(), x.cfg, ""); err != nil || len(got) != 0 {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestRevertOffline(t *testing.T) {
	r := newRig(t, t.TempDir())
	boot, err := HostBootID()
	if err != nil {
		t.Fatal(err)
	}
	r.e.bootID = boot
	c := r.command("a", 50)
	r.send(c)
	r.send(r.command("b", 50))
	r.e.j.close()
	cfg := Config{
		Settings: Settings{Host: "web1", State: r.dir, Permissions: filepath.Join(r.dir, "none.yaml")}, Actuators: map[string]Actuator{"cpu.weight": r.world},
		Clock: func() Moment { return r.now },
	}
	got, err := RevertOffline(t.Context(), cfg, c.ID)
	if err != nil || len(got) != 1 || got[0].Phase != command.Reverted {
		t.Fatalf("%+v %v", got, err)
	}
	r.wantValue("a", 100)
	r.wantValue("b", 50)
	if got, err = RevertOffline(t.Context(), cfg, ""); err != nil || len(got) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	r.wantValue("b", 100)
	cfg.State = t.TempDir()
	if got, err = RevertOffline(t.Context(), cfg, ""); err != nil || got != nil {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestSocketRefusesOthers(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "d", "actor.sock")
	l, err := listen(path, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Lstat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %04o", name, info.Mode(), err, want)
		}
	}
	s := &server{listener: l, allowed: map[uint32]bool{uint32(os.Geteuid()) + 1: true}, calls: make(chan call), clock: HostClock, log: slog.New(slog.DiscardHandler), peers: map[*peer]bool{}}
	done := make(chan error, 1)
	go func() { done <- s.run(t.Context()) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	s.stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path, -1, -1); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Fatalf("a file in the way: %v", err)
	}
}

func TestOversizedFrameEndsTheConnection(t *testing.T) {
	x := start(t, t.TempDir())
	a := connect(t, x.cfg.Socket)
	if _, err := a.conn.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && err == nil {
		t.Fatal("still open")
	}
}

func TestOneActorAtATime(t *testing.T) {
	x := start(t, t.TempDir())
	connect(t, x.cfg.Socket)
	b, err := New(x.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "used by another") {
		t.Fatalf("a second actor: %v", err)
	}
}
