package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

const (
	hostID   = "figure-host"
	patience = 10 * time.Second
)

// host is one actor with two processes: one that it may act on and one that it may not.
type host struct {
	dir, permissions, kill string
	actor                  *exec.Cmd
	target, other          *exec.Cmd
	conn                   net.Conn
	frames                 chan *agentv1.ActorFrame
	incarnation            string
	revision               uint64

	root, key, approver, stranger ed25519.PrivateKey
	signer                        command.Key
	mask, otherMask               unix.CPUSet // as they should be
}

// actorBinary finds the actor beside this program.
func actorBinary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(filepath.Dir(self), "evenkeel-actor")
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("%s is not there: run make figure NAME=%s, which builds it", bin, name)
	}
	return bin, nil
}

func newKey() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic("BUG: no randomness: " + err.Error())
	}
	return k
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func (h *host) certify(root, key ed25519.PrivateKey, from, to time.Time, most command.Risk) (command.Key, error) {
	c, err := command.CertifyKey(root, command.CertifiedKey{Public: pub(key), Collector: "collector-1", NotBefore: from, NotAfter: to, MaxRisk: most})
	return command.Key{Private: key, Certificate: c}, err
}

// newHost copies a program twice, so that permissions can tell the two processes apart, and starts everything.
func newHost(bin, dir string) (*host, error) {
	h := &host{
		dir: dir, permissions: filepath.Join(dir, "permissions.yaml"), kill: filepath.Join(dir, "kill"), frames: make(chan *agentv1.ActorFrame, 4096),
		root: newKey(), key: newKey(), approver: newKey(), stranger: newKey(),
	}
	var err error
	if h.signer, err = h.certify(h.root, h.key, time.Now().Add(-time.Minute), time.Now().Add(time.Hour), command.R2); err != nil {
		return h, err
	}
	if h.target, err = h.start("target"); err != nil {
		return h, err
	}
	if h.other, err = h.start("other"); err != nil {
		return h, err
	}
	if err := errors.Join(unix.SchedGetaffinity(h.target.Process.Pid, &h.mask), unix.SchedGetaffinity(h.other.Process.Pid, &h.otherMask)); err != nil {
		return h, err
	}
	if h.mask.Count() < 2 {
		return h, errors.New("this machine has one CPU: there is no mask to narrow")
	}
	state := filepath.Join(dir, "state")
	config := fmt.Sprintf("host: %s\nstate: %s\npermissions: %s\nkillFile: %s\n", hostID, state, h.permissions, h.kill)
	if err := errors.Join(os.WriteFile(h.permissions, []byte(h.permissionsText()), 0o600), os.WriteFile(filepath.Join(dir, "actor.yaml"), []byte(config), 0o600)); err != nil {
		return h, err
	}
	log, err := os.Create(filepath.Join(dir, "actor.log"))
	if err != nil {
		return h, err
	}
	defer log.Close()
	h.actor = exec.Command(bin, "run", "--config", filepath.Join(dir, "actor.yaml"))
	h.actor.Stderr = log
	if err := h.actor.Start(); err != nil {
		return h, err
	}
	return h, h.connect(filepath.Join(state, "actor.sock"))
}

// permissionsText permits masks on the target, and a restart of a service that an approver would have to sign.
func (h *host) permissionsText() string {
	return fmt.Sprintf("version: 1\nsigningRoot: %s\napprovers: [%s]\nrevoked: [%s]\nmaxRisk: R2\nactions:\n"+
		"  - {action: process.affinity, targets: [{process: {exe: %s}}], min: 50, max: 100, maxLease: 1m, rate: 5/1h}\n"+
		"  - {action: unit.stop, targets: [{unit: evenkeel-figure.service}], min: 1, max: 1, maxLease: 1m, rate: 5/1h}\n"+
		"  - {action: unit.restart, targets: [{unit: evenkeel-figure.service}], min: 1, max: 1, rate: 5/1h}\n",
		command.FormatPublicKey(pub(h.root)), command.FormatPublicKey(pub(h.approver)), command.KeyID(pub(revokedKey)), h.exe("target"))
}

// revokedKey is a collector's key that the permissions file revokes.
var revokedKey = newKey()

func (h *host) exe(which string) string { return filepath.Join(h.dir, which) }

func (h *host) start(which string) (*exec.Cmd, error) {
	b, err := os.ReadFile("/bin/sleep")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(h.exe(which), b, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(h.exe(which), "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

func (h *host) connect(socket string) error {
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			h.conn = conn
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(h.dir, "actor.log"))
			return fmt.Errorf("the actor does not listen: %w: %s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	go func() {
		defer close(h.frames)
		for {
			f, err := readFrame(h.conn)
			if err != nil {
				return
			}
			h.frames <- f
		}
	}()
	if err := h.write(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Hello{Hello: &agentv1.ActorHello{Host: hostID}}}); err != nil {
		return err
	}
	f, err := h.next(func(f *agentv1.ActorFrame) bool { return len(f.GetReport()) > 0 })
	if err != nil {
		return fmt.Errorf("the actor does not report: %w", err)
	}
	rep, err := command.ParseActorReport(f.GetReport())
	h.incarnation = rep.Incarnation
	return err
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

func framed(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

func (h *host) write(f *agentv1.ActorFrame) error {
	b, err := proto.Marshal(f)
	if err != nil {
		return err
	}
	_, err = h.conn.Write(framed(b))
	return err
}

// next waits for a frame that is wanted and drops the others.
func (h *host) next(wanted func(*agentv1.ActorFrame) bool) (*agentv1.ActorFrame, error) {
	timeout := time.After(patience)
	for {
		select {
		case f, ok := <-h.frames:
			if !ok {
				return nil, errors.New("the actor hung up")
			}
			if wanted(f) {
				return f, nil
			}
		case <-timeout:
			return nil, errors.New("no answer")
		}
	}
}

// send sends an envelope and returns the result that is the last word on it.
func (h *host) send(e command.Envelope, ids ...string) (command.Result, error) {
	if err := h.write(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Command{Command: e.Proto()}}); err != nil {
		return command.Result{}, err
	}
	f, err := h.next(func(f *agentv1.ActorFrame) bool {
		r := f.GetResult()
		return r != nil && r.GetPhase() != agentv1.CommandResult_PHASE_ACCEPTED && slices.Contains(ids, r.GetId())
	})
	if err != nil {
		return command.Result{}, err
	}
	r, err := command.ResultFromProto(f.GetResult())
	if err == nil {
		// Stored: the actor may forget it.
		err = h.write(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Stored{Stored: &agentv1.ResultAck{Id: r.ID, Ordinal: r.Ordinal}}})
	}
	return r, err
}

// apply is a command that would be carried out.
func (h *host) apply() command.Command {
	h.revision++
	sum := sha256.Sum256([]byte(h.permissionsText()))
	now := time.Now()
	return command.Command{
		ID: ulid.Make().String(), Kind: command.Apply, Host: hostID, ActorIncarnation: h.incarnation, Fence: command.Fence{Incarnation: 7, Revision: h.revision},
		Action: command.Action{Name: "process.affinity", Target: command.Target{Process: &command.Process{Exe: h.exe("target")}}, Value: 50},
		Issued: now, Expires: now.Add(20 * time.Second), Lease: 30 * time.Second, Risk: command.R1, PermissionsHash: sum[:], Reason: "figure",
	}
}

// changed reports whether either process' mask is other than it should be, as the kernel has it.
func (h *host) changed() (bool, error) {
	var a, b unix.CPUSet
	if err := errors.Join(unix.SchedGetaffinity(h.target.Process.Pid, &a), unix.SchedGetaffinity(h.other.Process.Pid, &b)); err != nil {
		return false, err
	}
	return a != h.mask || b != h.otherMask, nil
}

func (h *host) close() {
	if h.conn != nil {
		h.conn.Close()
	}
	for _, c := range []*exec.Cmd{h.actor, h.target, h.other} {
		if c == nil || c.Process == nil {
			continue
		}
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	}
}

func sorted(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }
