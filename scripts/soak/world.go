package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// The actions that a soak can be made of, and the events that it sees itself.
const (
	weight   = "cpu.weight"
	affinity = "process.affinity"
	knobHeld = "the squeeze"
	knobFree = "its end"
)

const (
	hostName    = "soak-host"
	witnessName = "soak-witness"
)

// world is everything that runs. Its fields are set by newWorld and start.
type world struct {
	dir, bin string
	action   string // that commands are made of
	groups   *groups
	random   *rand.Rand // of the main goroutine

	server, batch, witness, collector, agent, actor *process

	api    *client.Client
	began  time.Time
	events chan string // something happened that is worth a kill; dropped when nobody waits for it
	wait   sync.WaitGroup
	stop   context.CancelFunc // ends load and watchers
	busy   atomic.Bool        // the batch job has work

	mu   sync.Mutex
	seen map[string]bool // ids of actions that were shown; guarded by mu
}

func newWorld(o options) (*world, error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, fmt.Errorf("what the actor writes is counted by strace: install it: %w", err)
	}
	dir := o.state
	if dir == "" {
		// The path is short: it is part of a unix address.
		if dir, err = os.MkdirTemp("", "evenkeel-soak-"); err != nil {
			return nil, err
		}
	} else if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	for _, sub := range []string{"bin", "log", "trace", "witness"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	// Copies, so that a build in the meantime changes nothing between two lives.
	for _, name := range []string{"evenkeel-collector", "evenkeel-agent", "evenkeel-actor", "demo-server", "demo-batch"} {
		if err := copyProgram(filepath.Join(bin, name), filepath.Join(dir, "bin", name)); err != nil {
			return nil, fmt.Errorf("%s is not built: run make soak, which builds it: %w", name, err)
		}
	}
	bin = filepath.Join(dir, "bin")
	w := &world{
		action: o.action, dir: dir, bin: bin, random: rand.New(rand.NewPCG(o.seed, 0)), began: time.Now(), events: make(chan string), seen: map[string]bool{}, stop: func() {},
	}
	if w.groups, err = makeGroups(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	length := (o.length + 2*settling).String()
	w.server = w.program("server", filepath.Join(bin, "demo-server"), "--cost", "4ms")
	w.server.after = w.groups.enter("server")
	w.batch = w.program("batch", filepath.Join(bin, "demo-batch"), "--wait", "--threads", "4", "--for", length)
	w.batch.after = w.groups.enter("batch")
	w.witness = w.program("witness", self, "--witness", filepath.Join(dir, "witness"))
	w.collector = w.program("collector", filepath.Join(bin, "evenkeel-collector"), "run", "--config", w.file("collector.yaml"))
	w.agent = w.program("agent", filepath.Join(bin, "evenkeel-agent"), "run", "--config", w.file("agent.yaml"))
	w.actor = w.program("actor", filepath.Join(bin, "evenkeel-actor"), "run", "--config", w.file("actor.yaml"))
	w.actor.before = w.tracing
	return w, nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) program(name string, argv ...string) *process {
	return &process{name: name, argv: argv, log: filepath.Join(w.dir, "log", name)}
}

// tracing puts strace before the actor, a file for each of its lives. With -D the actor is our child and strace is not.
func (w *world) tracing(life int) ([]string, error) {
	return []string{
		"strace", "-D", "-f", "-y", "-q", "-s", "300", "-o", w.traceFile(life), "-e",
		"trace=write,pwrite64,writev,pwritev,pwritev2,sched_setaffinity,execve", "-e", "signal=SIGKILL", "--",
	}, nil
}

func (w *world) traceFile(life int) string {
	return filepath.Join(w.dir, "trace", fmt.Sprintf("actor.%04d", life))
}

// start brings everything up, enrols the hosts and applies the map.
func (w *world) start(ctx context.Context) error {
	port, err := w.startServer()
	if err != nil {
		return err
	}
	if err := w.batch.start(nil, nil); err != nil {
		return err
	}
	if w.action == affinity {
		w.groups.pid = w.batch.cmd.Process.Pid
		if w.groups.neutral = w.groups.reads(); runtime.NumCPU() < 2 {
			return errors.New("there is one CPU, which leaves no mask to narrow")
		}
	}
	if !w.groups.free() {
		return fmt.Errorf("%s: %s at first, not %s", w.groups.knob(), w.groups.reads(), w.groups.neutral)
	}
	if err := w.startCollector(ctx); err != nil {
		return err
	}
	join, err := w.join(ctx)
	if err != nil {
		return err
	}
	if err := w.witness.start(strings.NewReader(join), nil); err != nil {
		return err
	}
	if err := w.enrol(ctx); err != nil {
		return err
	}
	if err := errors.Join(w.actor.start(nil, nil), w.agent.start(nil, nil)); err != nil {
		return err
	}
	if err := until(ctx, time.Minute, "agent and actor are connected", func() error { return w.connected(ctx) }); err != nil {
		return err
	}
	if err := w.apply(ctx); err != nil {
		return err
	}
	background, stop := context.WithCancel(ctx)
	w.stop = stop
	w.wait.Go(func() { load(background, "http://127.0.0.1:"+port+"/work") })
	w.wait.Go(func() { w.refuse(background) })
	w.wait.Go(func() { w.watchKnob(background) })
	w.wait.Go(func() { w.watchActions(background) })
	return nil
}

func (w *world) startServer() (string, error) {
	r, out, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	err = w.server.start(nil, out)
	out.Close()
	if err != nil {
		return "", err
	}
	port, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the server does not listen: %s", w.server.death())
	}
	return strings.TrimSpace(port), nil
}

// freePorts returns ports that nobody has now; they stay the collector's over all its lives.
func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func (w *world) startCollector(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("name: collector-1\nstate: %s\nlisten: {agents: '%s', operators: '%s', http: '%s'}\nstore: {interval: 1s}\n",
		w.file("collector"), ports[0], ports[1], ports[2])
	if err := os.WriteFile(w.file("collector.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := w.collector.start(nil, nil); err != nil {
		return err
	}
	return until(ctx, time.Minute, "the collector serves", func() error {
		if !w.collector.running() {
			return errors.New(w.collector.death())
		}
		conf, err := client.Load(filepath.Join(w.file("collector"), "admin.json"))
		if err != nil {
			return err
		}
		if w.api == nil {
			// A collector that is started again is found at once.
			quick := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 300 * time.Millisecond}
			if w.api, err = client.New(conf, grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second})); err != nil {
				return err
			}
		}
		return w.ask(ctx, func(ctx context.Context) error {
			_, err := w.api.Control.GetVersion(ctx, &operatorv1.GetVersionRequest{})
			return err
		})
	})
}

// ask calls the collector, for a while.
func (w *world) ask(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return call(ctx)
}

func (w *world) join(ctx context.Context) (string, error) {
	var join string
	return join, w.ask(ctx, func(ctx context.Context) error {
		r, err := w.api.Access.CreateToken(ctx, &operatorv1.CreateTokenRequest{Ttl: "10m", Uses: 1, Admit: true})
		join = r.GetJoin()
		return err
	})
}

// enrol makes the agent a member, and writes the permissions that the host's owner would write.
func (w *world) enrol(ctx context.Context) error {
	text := fmt.Sprintf("state: %s\nactorSocket: %s\n", w.file("agent"), w.file("actor/actor.sock"))
	if err := os.WriteFile(w.file("agent.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	join, err := w.join(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "evenkeel-agent"), "enroll", "--config", w.file("agent.yaml"), "--name", hostName, "--join-file", "-", "-o", "json")
	cmd.Stdin = strings.NewReader(join)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("cannot enrol the agent: %w: %s", err, complaints.String())
	}
	var e struct {
		SigningRoot string `json:"signingRoot"`
	}
	if err := json.Unmarshal(out, &e); err != nil {
		return err
	}
	permissions := fmt.Sprintf("version: 1\nsigningRoot: %s\napprovers: []\nmaxRisk: R1\nactions:\n"+
		"  - {action: %s, targets: [{%s}], min: 10, max: 100, maxLease: 1m, rate: 1000/5m}\n", e.SigningRoot, w.action, w.target())
	if err := os.WriteFile(w.file("permissions.yaml"), []byte(permissions), 0o600); err != nil {
		return err
	}
	text = fmt.Sprintf("host: %s\nstate: %s\npermissions: %s\n", hostName, w.file("actor"), w.file("permissions.yaml"))
	return os.WriteFile(w.file("actor.yaml"), []byte(text), 0o600)
}

// connected says why agent or actor are not there yet.
func (w *world) connected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	h, err := w.api.Hosts.GetHost(ctx, &operatorv1.GetHostRequest{Name: hostName})
	switch {
	case err != nil:
		return err
	case h.Reach != "connected":
		return fmt.Errorf("the agent is %s", h.Reach)
	case !h.Actor.GetPresent():
		return fmt.Errorf("no actor: %s", h.Actor.GetProblem())
	}
	return nil
}

// target is how the map and the permissions name the batch job.
func (w *world) target() string {
	if w.action == affinity {
		return "process: {exe: " + filepath.Join(w.bin, "demo-batch") + "}"
	}
	return "cgroup: " + w.groups.path("batch")
}

func (w *world) apply(ctx context.Context) error {
	step := fmt.Sprintf("action: %s, to: %d", weight, squeeze)
	if w.action == affinity {
		step = "action: " + affinity + ", cpus: 50%"
	}
	text := strings.NewReplacer("HOST", hostName, "SERVER", w.groups.path("server"), "BATCH", w.target(), "STEP", step).Replace(soakMap)
	if err := os.WriteFile(w.file("map.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	return w.ask(ctx, func(ctx context.Context) error {
		r, err := w.api.Resources.Apply(ctx, &operatorv1.ApplyRequest{Files: []*operatorv1.File{{Name: "map.yaml", Text: text}}})
		if err != nil {
			return err
		}
		for _, p := range r.Problems {
			err = errors.Join(err, fmt.Errorf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text))
		}
		return err
	})
}

// The detector is quicker than those that are shipped, and ends with the batch job, so that each job is an overload of its
// own however busy the machine is otherwise: while there is a job, connections are refused on purpose. A step counts as
// working even where the rest of the machine keeps the server waiting, so that leases are held and renewed.
const soakMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  layer: business
  criticality: 1
  value: {perHour: 12000, currency: EUR}
  dependsOn: [{ref: component/shop-server}]
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: report}
spec:
  layer: business
  criticality: 4
  value: {perHour: 40, currency: EUR}
  dependsOn: [{ref: component/report-batch}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: shop-server}
spec:
  hosts: {names: [HOST]}
  cgroup: SERVER
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: report-batch}
spec:
  hosts: {names: [HOST]}
  BATCH
---
apiVersion: evenkeel/v1
kind: Detector
metadata: {name: soak-cpu}
spec:
  title: Somebody waits for the CPU
  signal: tcp.resets
  scope: host
  act: {above: 60/s, of: 1/1, and: {signal: runqueue.delay, of: valued, above: 0.3, of: 1/1}}
  leave: {below: 30/s, of: 1/1}
  level: major
  appliesTo: host
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps:
    - {STEP, verify: {signal: runqueue.delay, of: protected, below: 100}}
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/soak-cpu, level: major}
  hosts: {names: [HOST]}
  choose: least-value-contributor
  runbook: runbook/relieve-cpu
  mode: auto
  timing: {dwell: 1s, outcome: 2s, cooldown: 0s, lease: 5s, release: 100%/1s}
  episode: {steps: 100, every: 1s}
`

// close ends what runs, last first.
func (w *world) close() {
	w.stop()
	w.wait.Wait()
	for _, p := range []*process{w.agent, w.actor, w.witness, w.collector, w.batch, w.server} {
		if p.running() {
			p.kill()
			<-p.ended
		}
	}
	if w.api != nil {
		w.api.Close()
	}
	w.groups.remove()
}
