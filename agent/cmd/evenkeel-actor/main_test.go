package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

const asProgram = "EVENKEEL_TEST_AS_PROGRAM"

// TestMain lets the test binary stand in for evenkeel-actor, so that it can be killed for real.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

// cli runs the program and returns what it printed and its exit code.
func cli(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c := program(t, args...)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

type host struct {
	dir, config, socket string
	root, key           ed25519.PrivateKey
	job                 *exec.Cmd
	exe                 string
	hash                []byte
	serial              uint64
}

func newHost(t *testing.T) *host {
	t.Helper()
	seed := func(b byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	}
	h := &host{dir: t.TempDir(), root: seed(1), key: seed(2)}
	h.config, h.socket = filepath.Join(h.dir, "actor.yaml"), filepath.Join(h.dir, "state", "actor.sock")
	h.exe = filepath.Join(h.dir, "job")
	b, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	write(t, h.exe, string(b), 0o755)
	write(t, h.config, "host: web1\nstate: "+filepath.Join(h.dir, "state")+"\npermissions: "+filepath.Join(h.dir, "permissions.yaml")+"\n", 0o644)
	write(t, filepath.Join(h.dir, "permissions.yaml"), `version: 1
signingRoot: `+command.FormatPublicKey(h.root.Public().(ed25519.PublicKey))+`
approvers: []
maxRisk: R1
actions:
  - {action: process.affinity, targets: [{process: {exe: `+h.exe+`}}], min: 10, max: 100, maxLease: 10m, rate: 100/1m}
`, 0o600)
	p, err := actor.LoadPermissions(filepath.Join(h.dir, "permissions.yaml"), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	h.hash = p.Hash
	h.job = exec.Command(h.exe, "600")
	if err := h.job.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.job.Process.Kill()
		_ = h.job.Wait()
	})
	return h
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (h *host) mask(t *testing.T) int {
	t.Helper()
	var s unix.CPUSet
	if err := unix.SchedGetaffinity(h.job.Process.Pid, &s); err != nil {
		t.Fatal(err)
	}
	return s.Count()
}

// run starts the program and connects as an agent would.
func (h *host) run(t *testing.T) (*exec.Cmd, net.Conn, command.ActorReport) {
	t.Helper()
	c := program(t, "run", "--config", h.config)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("unix", h.socket)
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue
		}
		if err := conn.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		send(t, conn, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Hello{Hello: &agentv1.ActorHello{Host: "web1"}}})
		f := receive(t, conn)
		r, err := command.ParseActorReport(f.GetReport())
		if err != nil {
			t.Fatal(err)
		}
		return c, conn, r
	}
}

func send(t *testing.T, conn net.Conn, f *agentv1.ActorFrame) {
	t.Helper()
	b, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn net.Conn) *agentv1.ActorFrame {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	f := &agentv1.ActorFrame{}
	if err := proto.Unmarshal(b, f); err != nil {
		t.Fatal(err)
	}
	return f
}

func (h *host) command(t *testing.T, incarnation string, change func(*command.Command)) command.Envelope {
	t.Helper()
	now := time.Now()
	h.serial++
	c := command.Command{
		ID: ulid.Make().String(), Kind: command.Apply, Host: "web1", ActorIncarnation: incarnation, Fence: command.Fence{Incarnation: 1, Revision: h.serial},
		Action: command.Action{Name: "process.affinity", Target: command.Target{Process: &command.Process{Exe: h.exe}}, Value: 50}, Issued: now,
		Expires: now.Add(30 * time.Second), Lease: 5 * time.Minute, Risk: command.R1, PermissionsHash: h.hash,
	}
	if change != nil {
		change(&c)
	}
	cert, err := command.CertifyKey(h.root, command.CertifiedKey{
		Public: h.key.Public().(ed25519.PublicKey), Collector: "c1", NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour), MaxRisk: command.R2,
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := command.Sign(c, command.Key{Private: h.key, Certificate: cert})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func deliver(t *testing.T, conn net.Conn, e command.Envelope, want command.Phase) *agentv1.CommandResult {
	t.Helper()
	send(t, conn, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Command{Command: e.Proto()}})
	for {
		r := receive(t, conn).GetResult()
		if r == nil || command.Phase(r.GetPhase()) == command.Accepted {
			continue
		}
		if command.Phase(r.GetPhase()) != want {
			t.Fatalf("%s %s %s, want %s", r.GetPhase(), r.GetReason(), r.GetDetail(), want)
		}
		return r
	}
}

func TestTheProgramForReal(t *testing.T) {
	h := newHost(t)
	all := h.mask(t)
	if all < 2 {
		t.Skip("this process may use one CPU only: affinity has nothing to narrow")
	}
	c, conn, report := h.run(t)
	for name, x := range map[string]struct {
		envelope command.Envelope
		reason   command.Reason
	}{
		"another host": {h.command(t, report.Incarnation, func(c *command.Command) { c.Host = "web2" }), command.ReasonWrongHost},
		"not permitted": {h.command(t, report.Incarnation, func(c *command.Command) {
			c.Action.Target = command.Target{Process: &command.Process{Exe: "/bin/sleep"}}
		}), command.ReasonDenied},
		"expired": {h.command(t, report.Incarnation, func(c *command.Command) {
			c.Issued, c.Expires = time.Now().Add(-time.Minute), time.Now().Add(-time.Second)
		}), command.ReasonExpired},
		"unsigned": {command.Envelope{Body: h.command(t, report.Incarnation, nil).Body}, command.ReasonUnsigned},
	} {
		if r := deliver(t, conn, x.envelope, command.Refused); r.GetReason() != string(x.reason) {
			t.Errorf("%s: %s", name, r.GetReason())
		}
	}
	if h.mask(t) != all {
		t.Fatal("a refused command was carried out")
	}
	deliver(t, conn, h.command(t, report.Incarnation, nil), command.Applied)
	if h.mask(t) >= all {
		t.Fatal("not applied")
	}
	out, code := cli(t, "capabilities", "-o", "json", "--config", h.config)
	var caps actor.Capabilities
	if err := json.Unmarshal([]byte(out), &caps); err != nil || code != 0 || !caps.Running || len(caps.Leases) != 1 {
		t.Fatalf("%d %s %v", code, out, err)
	}

	// Killed, as nothing can prepare for; the unit's last line then takes the change back.
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	if h.mask(t) >= all {
		t.Fatal("taken back by nobody")
	}
	if out, code := cli(t, "revert", "--all", "--config", h.config); code != 0 || !strings.Contains(out, "reverted") || h.mask(t) != all {
		t.Fatalf("%d %s, %d CPUs", code, out, h.mask(t))
	}
	if out, code := cli(t, "revert", "--all", "--config", h.config); code != 0 || !strings.Contains(out, "nothing is held") {
		t.Fatalf("%d %s", code, out)
	}

	// The kill file, and a clean stop.
	c, conn, report = h.run(t)
	drain(t, conn, h, report, all)
	write(t, filepath.Join(h.dir, "kill"), "", 0o600)
	deadline := time.Now().Add(time.Second)
	for h.mask(t) != all {
		if time.Now().After(deadline) {
			t.Fatal("the kill file took more than a second")
		}
	}
	if err := os.Remove(filepath.Join(h.dir, "kill")); err != nil {
		t.Fatal(err)
	}
	drain(t, conn, h, report, all)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil || h.mask(t) != all {
		t.Fatalf("clean stop: %v, %d CPUs", err, h.mask(t))
	}
}

// drain sends a fresh command and reads on, past results that were kept, until it is applied.
func drain(t *testing.T, conn net.Conn, h *host, report command.ActorReport, all int) {
	t.Helper()
	e := h.command(t, report.Incarnation, nil)
	c, err := command.ParseBody(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	send(t, conn, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Command{Command: e.Proto()}})
	for {
		r := receive(t, conn).GetResult()
		if r.GetId() != c.ID || command.Phase(r.GetPhase()) == command.Accepted {
			continue
		}
		if command.Phase(r.GetPhase()) != command.Applied || h.mask(t) >= all {
			t.Fatalf("%s %s %s", r.GetPhase(), r.GetReason(), r.GetDetail())
		}
		return
	}
}

func TestCommandLine(t *testing.T) {
	h := newHost(t)
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"version"}, 0, "evenkeel-actor "},
		{[]string{"--help"}, 0, "Examples:"},
		{[]string{"completion", "bash"}, 0, "evenkeel-actor"},
		{[]string{"config", "check", "--config", h.config}, 0, "are fine"},
		{[]string{"capabilities", "--config", h.config}, 0, "cpu.weight: the permissions file does not list it"},
		{[]string{"revert", "--all", "--config", h.config}, 0, "nothing is held"},
		{[]string{"revert", "--config", h.config}, exitUsage, "name one command's id, or --all"},
		{[]string{"revert", "x", "--config", h.config}, exitUsage, "is not the id of a command"},
		{[]string{"capabilities", "-o", "xml", "--config", h.config}, exitUsage, "expected table or json"},
		{[]string{"config", "check", "--config", filepath.Join(h.dir, "none.yaml")}, exitUsage, "no such file"},
		{[]string{"fly"}, exitUsage, "unknown command"},
		{[]string{"run", "--fast"}, exitUsage, "unknown flag"},
	} {
		out, code := cli(t, x.args...)
		if code != x.code || !strings.Contains(out, x.want) {
			t.Errorf("%v: exit %d, want %d; %q is not in:\n%s", x.args, code, x.code, x.want, out)
		}
	}
	write(t, filepath.Join(h.dir, "permissions.yaml"), "version: 1\n", 0o600)
	if out, code := cli(t, "config", "check", "--config", h.config); code != exitUsage || !strings.Contains(out, `key "signingRoot" is missing`) {
		t.Errorf("%d %s", code, out)
	}
	if out, code := cli(t, "capabilities", "--config", h.config); code != 0 || !strings.Contains(out, "EVERYTHING IS DENIED") {
		t.Errorf("%d %s", code, out)
	}
}
