package rig

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Actor is a real evenkeel-actor with its files in one folder.
type Actor struct {
	*Process           // nil until started
	Host               string
	Config             string
	Permissions        string
	KillFile, Socket   string
	Binary, StateDir   string
	Authority          *Authority
	wrap               []string
	permissionsContent string
}

// Grant is one entry of a permissions file. Zero bounds are those of a generous owner.
func Grant(action string, target command.Target, least, most int64) string {
	kind := ""
	switch {
	case target.Unit != "":
		kind = "unit: " + target.Unit
	case target.Cgroup != "":
		kind = "cgroup: " + target.Cgroup
	case target.Process != nil:
		kind = "process: {exe: " + target.Process.Exe + "}"
	case target.Port != "":
		kind = "port: " + target.Port
	case target.HAProxy != nil:
		h := target.HAProxy
		kind = fmt.Sprintf("haproxy: {socket: %q, backend: %q, server: %q}", h.Socket, h.Backend, h.Server)
	case target.Nginx != nil:
		n := target.Nginx
		kind = fmt.Sprintf("nginx: {file: %q, upstream: %q, server: %q}", n.File, n.Upstream, n.Server)
	case target.IPVS != nil:
		kind = fmt.Sprintf("ipvs: {service: %q, destination: %q}", target.IPVS.Service, target.IPVS.Destination)
	case target.Interface != "":
		kind = "interface: " + target.Interface
	case target.AgentCheck != "":
		kind = "agentCheck: " + target.AgentCheck
	}
	return fmt.Sprintf("  - {action: %s, targets: [{%s}], min: %d, max: %d, maxLease: 10m, rate: 100/5m}\n", action, kind, least, most)
}

// NewActor writes configuration and permissions of an actor and starts nothing.
func NewActor(t testing.TB, grants ...string) *Actor {
	t.Helper()
	dir := Folder(t)
	a := &Actor{
		Host: "host-1", Config: filepath.Join(dir, "actor.yaml"), Permissions: filepath.Join(dir, "permissions.yaml"),
		KillFile: filepath.Join(dir, "kill"), StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "state", "actor.sock"),
		Binary: Binary(t, "evenkeel-actor"), Authority: NewAuthority(t),
	}
	a.permissionsContent = PermissionsText(a.Authority.Root(), grants...)
	Write(t, a.Permissions, a.permissionsContent)
	Write(t, a.Config, fmt.Sprintf("host: %s\nstate: %s\npermissions: %s\nkillFile: %s\n", a.Host, a.StateDir, a.Permissions, a.KillFile))
	return a
}

// PermissionsText is a permissions file that trusts one root.
func PermissionsText(root string, grants ...string) string {
	return "version: 1\nsigningRoot: " + root + "\napprovers: []\nmaxRisk: R2\nactions:\n" + strings.Join(grants, "")
}

// Allow writes the permissions anew: with an approver, up to a risk.
func (a *Actor) Allow(t testing.TB, approver, mostRisk string, grants ...string) {
	t.Helper()
	text := PermissionsText(a.Authority.Root(), grants...)
	text = strings.Replace(text, "approvers: []", "approvers: ["+approver+"]", 1)
	Write(t, a.Permissions, strings.Replace(text, "maxRisk: R2", "maxRisk: "+mostRisk, 1))
}

// Under has the actor started by another program, such as strace.
func (a *Actor) Under(argv ...string) { a.wrap = argv }

// Start starts the actor and waits until it listens.
func (a *Actor) Start(t testing.TB) {
	t.Helper()
	argv := append(append([]string{}, a.wrap...), a.Binary, "run", "--config", a.Config)
	a.Process = StartCmd(t, exec.Command(argv[0], argv[1:]...))
	Until(t, 30*time.Second, "the actor listens", func() string {
		if !a.Running() {
			t.Fatalf("the actor ended: %s", a.Output())
		}
		conn, err := net.Dial("unix", a.Socket)
		if err != nil {
			return err.Error()
		}
		conn.Close()
		return ""
	})
}

// Peer plays the agent on the actor's socket.
type Peer struct {
	conn net.Conn

	mu      sync.Mutex
	results []command.Result     // guarded by mu
	report  *command.ActorReport // guarded by mu
	closed  bool                 // guarded by mu
}

// Dial connects, says hello and waits for the actor's report.
func (a *Actor) Dial(t testing.TB) *Peer {
	t.Helper()
	p := Connect(t, a.Socket)
	p.write(t, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Hello{Hello: &agentv1.ActorHello{Host: a.Host}}})
	Until(t, 15*time.Second, "the actor reports", func() string {
		if p.Report() == nil {
			return "no report"
		}
		return ""
	})
	return p
}

// Connect connects and says nothing: what the actor answers to this peer's commands goes to whoever said hello last.
func Connect(t testing.TB, socket string) *Peer {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatalf("cannot reach the actor: %v", err)
	}
	p := &Peer{conn: conn}
	t.Cleanup(p.Close)
	go p.read()
	return p
}

// Close hangs up.
func (p *Peer) Close() { _ = p.conn.Close() }

func (p *Peer) read() {
	for {
		f, err := readFrame(p.conn)
		p.mu.Lock()
		switch x := f.GetFrame().(type) {
		case *agentv1.ActorFrame_Result:
			if r, err := command.ResultFromProto(x.Result); err == nil {
				p.results = append(p.results, r)
			}
		case *agentv1.ActorFrame_Report:
			if r, err := command.ParseActorReport(x.Report); err == nil {
				p.report = &r
			}
		}
		p.closed = p.closed || err != nil
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func readFrame(r io.Reader) (*agentv1.ActorFrame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	f := &agentv1.ActorFrame{}
	return f, proto.Unmarshal(b, f)
}

func (p *Peer) write(t testing.TB, f *agentv1.ActorFrame) {
	t.Helper()
	b, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		t.Fatalf("cannot write to the actor: %v", err)
	}
}

// Report returns what the actor last said of itself, nil before it said anything.
func (p *Peer) Report() *command.ActorReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report
}

// Incarnation returns that of the actor.
func (p *Peer) Incarnation() string { return p.Report().Incarnation }

// Send sends an envelope as it is.
func (p *Peer) Send(t testing.TB, e command.Envelope) {
	t.Helper()
	p.write(t, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Command{Command: e.Proto()}})
}

// Results returns everything that the actor said of a command so far.
func (p *Peer) Results(id string) []command.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []command.Result
	for _, r := range p.results {
		if r.ID == id {
			out = append(out, r)
		}
	}
	return out
}

// All returns everything that the actor said so far.
func (p *Peer) All() []command.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.results)
}

// Await waits until the actor says that a command reached a phase. Another end of the command fails the test.
func (p *Peer) Await(t testing.TB, id string, want command.Phase, patience time.Duration) command.Result {
	t.Helper()
	var got command.Result
	Until(t, patience, fmt.Sprintf("command %s is %s", id, want), func() string {
		all := p.Results(id)
		for _, r := range all {
			if r.Phase == want {
				got = r
				return ""
			}
		}
		for _, r := range all {
			if r.Phase == command.Refused || r.Phase == command.Failed {
				t.Fatalf("command %s is %s, not %s: %s, %s", id, r.Phase, want, r.Reason, r.Detail)
			}
		}
		return fmt.Sprintf("said so far: %v", all)
	})
	return got
}

// Do signs and sends an apply command and waits until it is applied.
func (p *Peer) Do(t testing.TB, a *Actor, action command.Action, lease time.Duration) command.Command {
	t.Helper()
	c := a.Authority.Apply(t, a, p.Incarnation(), action, lease)
	p.Send(t, a.Authority.Sign(t, c))
	p.Await(t, c.ID, command.Applied, 15*time.Second)
	return c
}
