package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/agent/actorlink"
	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
	"github.com/evenkeel/evenkeel/scripts/demo/stage"
)

// host is one host whose readings are made up. Its session and its road to the actor are the agent's own code, and the
// actor is the real program with a cgroup of its own.
type host struct {
	name  string
	place *stage.Place
	actor *stage.Process
	link  *link.Link
	relay *actorlink.Client
	rnd   *rand.Rand
	taken chan<- sample

	readings readings
	enc      chain.Encoder
	frame    []byte
	seq      uint64

	mu      sync.Mutex
	asked   time.Time // when the batch went out that makes the host overloaded; zero: no answer is awaited
	came    time.Time // when the command for it came to the agent
	holding string    // id of the command that is in force
	calm    int       // ticks to go without overload
	done    int       // decisions
	loaded  int       // ticks of overload so far
}

// sample is one decision.
type sample struct {
	host, id              string
	asked, came, accepted time.Time
	first                 bool
}

// newHost enrols a host, and starts its actor.
func newHost(ctx context.Context, w *world, i int) (*host, error) {
	h := &host{
		name: fmt.Sprintf("figure-%02d", i+1), rnd: rand.New(rand.NewPCG(w.seed, uint64(i))), taken: w.taken,
		readings: newReadings(w.series), calm: calmTicks,
	}
	dir := filepath.Join(w.dir, h.name)
	var how string
	if h.place, how = stage.FindPlaceAt(fmt.Sprintf("/evenkeel-latency-%d-%s", os.Getpid(), h.name)); !h.place.Groups() {
		return h, errors.New("no cgroups: " + how)
	}
	cfg := agent.Default()
	cfg.State = filepath.Join(dir, "agent")
	e, _, err := agent.Enrol(ctx, agent.EnrolRequest{Config: cfg, Join: w.join, Name: h.name})
	if err != nil {
		return h, err
	}
	id, err := agent.LoadIdentity(cfg, time.Now)
	if err != nil {
		return h, err
	}
	socket, err := h.startActor(w.bin, dir, e.SigningRoot)
	if err != nil {
		return h, err
	}
	if h.relay, err = actorlink.New(actorlink.Config{
		Socket: socket, Host: h.name, OnResult: h.result,
		OnReport: func(b []byte) { h.link.Actor(b) }, OnAbsent: func(why string) { h.link.NoActor(why) },
	}); err != nil {
		return h, err
	}
	h.link, err = link.New(link.Config{
		Addresses: []string{id.Address()}, Version: "figure", Boot: link.BootID{byte(i + 1), 1}, Period: time.Second,
		Facts: link.Facts{OS: "linux", Arch: "amd64", Cgroup: "v1", CPUs: 2, MemoryBytes: 8 << 30}, Spool: noSpool{}, Identity: id,
		OnCommand: h.command, OnStored: h.relay.Stored,
	})
	return h, err
}

func (h *host) startActor(bin, dir, root string) (socket string, err error) {
	state := filepath.Join(dir, "actor")
	socket = filepath.Join(state, "actor.sock")
	permissions := fmt.Sprintf("version: 1\nsigningRoot: %s\napprovers: []\nmaxRisk: R1\nactions:\n"+
		"  - {action: cpu.weight, targets: [{cgroup: %s}], min: 10, max: 100, maxLease: 1m, rate: 60/1m}\n", root, h.place.Parent()+"/batch")
	config := fmt.Sprintf("host: %s\nstate: %s\npermissions: %s\nsocket: %s\n", h.name, state, filepath.Join(dir, "permissions.yaml"), socket)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "permissions.yaml"), []byte(permissions), 0o600),
		os.WriteFile(filepath.Join(dir, "actor.yaml"), []byte(config), 0o600)); err != nil {
		return "", err
	}
	h.actor, _, err = stage.Spawn(bin, dir, "evenkeel-actor", "run", "--config", filepath.Join(dir, "actor.yaml"))
	return socket, err
}

func (h *host) stop() error {
	err := h.actor.Terminate(10 * time.Second)
	if h.place != nil {
		h.place.Remove()
	}
	return err
}

// command passes an envelope on to the actor, as the agent does.
func (h *host) command(signed []byte) {
	now := time.Now()
	h.relay.Command(signed)
	h.mu.Lock()
	if !h.asked.IsZero() && h.came.IsZero() {
		h.came = now
	}
	h.mu.Unlock()
}

// result takes the word of the actor and passes it on.
func (h *host) result(id string, ordinal uint32, raw []byte) {
	now := time.Now()
	h.link.Result(id, ordinal, raw)
	r := &agentv1.CommandResult{}
	if proto.Unmarshal(raw, r) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch r.GetPhase() {
	case agentv1.CommandResult_PHASE_ACCEPTED:
		if !h.asked.IsZero() {
			h.taken <- sample{host: h.name, id: id, asked: h.asked, came: h.came, accepted: now, first: h.done == 0}
			h.done++
		}
		h.asked, h.holding, h.loaded = time.Time{}, id, 0
		h.calm = calmTicks + h.rnd.IntN(4)
	case agentv1.CommandResult_PHASE_REVERTED, agentv1.CommandResult_PHASE_DRIFTED, agentv1.CommandResult_PHASE_FAILED:
		if id == h.holding {
			h.holding = ""
		}
	}
}

const (
	// What makes the shipped host-cpu detector leave is ten seconds below 15 %, and the counters need a tick before.
	calmTicks = 12
	// Its act needs two ticks of three.
	actTicks = 2
)

// run sends a tick a second until ctx ends, overloaded ones whenever the last decision is over and done with.
func (h *host) run(ctx context.Context, start time.Time) error {
	for n := 0; ; n++ {
		at := start.Add(time.Duration(n) * time.Second)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(at)):
		}
		h.mu.Lock()
		overloaded := h.calm == 0 && h.holding == ""
		if overloaded {
			h.loaded++
		} else if h.calm > 0 {
			h.calm--
		}
		asks := h.loaded == actTicks && h.asked.IsZero()
		waits := h.loaded
		h.mu.Unlock()
		if waits > actTicks+maxWait {
			return fmt.Errorf("%s got no command within %d s of being overloaded", h.name, maxWait)
		}

		h.readings.step(overloaded)
		h.frame = h.enc.Append(h.frame[:0], &h.readings.table, at.UnixMilli(), h.link.KeyWanted())
		h.readings.table.Next()
		h.seq++
		if asks {
			h.mu.Lock()
			h.asked, h.came = time.Now(), time.Time{}
			h.mu.Unlock()
		}
		h.link.Live(h.seq, h.enc.WasKey(), h.frame)
	}
}

// maxWait is after how many seconds a decision that does not come ends the figure.
const maxWait = 20

// places says where the two components run.
func (h *host) places() []link.Place {
	var out []link.Place
	for _, which := range []string{"server", "batch"} {
		out = append(out, link.Place{Component: "component/" + h.component(which), Running: true, Processes: 1, Cgroup: h.place.Parent() + "/" + which})
	}
	return out
}

func (h *host) component(which string) string { return h.name + "-" + which }

// bind names the components in the readings.
func (h *host) bind() {
	h.readings.bind("component/"+h.component("server"), "component/"+h.component("batch"))
	h.link.Components(h.places())
}

// ready reports whether the collector has a session with the host and its actor is there.
func (h *host) ready() error {
	if st := h.link.Status(); !st.Connected {
		return fmt.Errorf("%s has no session: %s", h.name, st.Error)
	}
	if st := h.relay.Status(); !st.Connected {
		return fmt.Errorf("%s has no actor: %s", h.name, st.Problem)
	}
	return nil
}

// readings are what such a host reads: what the detectors and the planner look at, and as much again as a real host has.
type readings struct {
	table metric.Table
	more  []metric.Slot

	pressure, user, idle          metric.Slot
	serverCPU, serverDelay        metric.Slot
	batchCPU, batchDelay          metric.Slot
	serverProcesses, batchRunning metric.Slot
}

// thousandths is the scale of everything that is read in milliseconds.
var thousandths = metric.Scale{Div: 1000}

func newReadings(series int) readings {
	var r readings
	add := func(name string, labels ...string) metric.Slot {
		d := metric.Desc{Name: name, Scale: thousandths}
		for i := 0; i+1 < len(labels); i += 2 {
			d.Labels = append(d.Labels, metric.Label{Name: labels[i], Value: labels[i+1]})
		}
		return r.table.Add(d)
	}
	r.pressure = add("node_pressure_cpu_waiting_seconds_total")
	r.user, r.idle = add("node_cpu_seconds_total", "mode", "user"), add("node_cpu_seconds_total", "mode", "idle")
	add("node_cpu_seconds_total", "mode", "steal")
	for i := r.table.Len() + 6; i < series; i++ {
		r.more = append(r.more, add("node_network_receive_bytes_total", "device", fmt.Sprintf("eth%d", i)))
	}
	return r
}

// bind adds the series of the two components.
func (r *readings) bind(server, batch string) {
	add := func(name, component string) metric.Slot {
		return r.table.Add(metric.Desc{Name: name, Scale: thousandths, Labels: []metric.Label{{Name: "component", Value: component}}})
	}
	const cpu, delay, processes = "evenkeel_component_cpu_seconds_total", "evenkeel_component_runqueue_seconds_total", "evenkeel_component_processes"
	r.serverCPU, r.serverDelay, r.serverProcesses = add(cpu, server), add(delay, server), add(processes, server)
	r.batchCPU, r.batchDelay, r.batchRunning = add(cpu, batch), add(delay, batch), add(processes, batch)
}

// step is a second of the host's life.
func (r *readings) step(overloaded bool) {
	grow := func(s metric.Slot, by int64) { r.table.Set(s, r.table.Raw(s)+by) }
	if overloaded {
		grow(r.pressure, 930)
		grow(r.user, 1980)
		grow(r.idle, 20)
		grow(r.serverCPU, 880)
		grow(r.serverDelay, 3100)
		grow(r.batchCPU, 1080)
		grow(r.batchDelay, 14000)
	} else {
		grow(r.pressure, 15)
		grow(r.user, 1000)
		grow(r.idle, 1000)
		grow(r.serverCPU, 980)
		grow(r.serverDelay, 10)
	}
	r.table.Set(r.serverProcesses, 1000)
	r.table.Set(r.batchRunning, 1000)
	for i, s := range r.more {
		if i%2 == 0 {
			grow(s, int64(1000+i))
		}
	}
	r.table.Ran(0)
}

// noSpool holds nothing: these readings are worth nothing once their tick is over.
type noSpool struct{}

func (noSpool) Ranges() []link.Range                          { return nil }
func (noSpool) Ack(link.BootID, uint64)                       {}
func (noSpool) Open(link.BootID, uint64) (link.Reader, error) { return nil, io.EOF }
func (noSpool) Usage() (bytes, limit, dropped uint64)         { return 0, 1 << 30, 0 }

// manifests is the map of all hosts: two services of different value, a part of each on every host.
func manifests(hosts []*host) string {
	var b strings.Builder
	for _, svc := range []struct{ name, spec, part string }{
		{"shop", "  criticality: 1\n  value: {perHour: 12000, currency: EUR, loss: {minor: 0.1, major: 0.5, critical: 1}}\n", "server"},
		{"report", "  criticality: 4\n  value: {perHour: 40, currency: EUR}\n", "batch"},
	} {
		fmt.Fprintf(&b, "apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: %s}\nspec:\n  layer: business\n%s  dependsOn:\n", svc.name, svc.spec)
		for _, h := range hosts {
			fmt.Fprintf(&b, "    - {ref: component/%s}\n", h.component(svc.part))
		}
		b.WriteString("---\n")
		for _, h := range hosts {
			fmt.Fprintf(&b, "apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: %s}\nspec:\n  hosts: {names: [%s]}\n  cgroup: %s/%s\n---\n",
				h.component(svc.part), h.name, h.place.Parent(), svc.part)
		}
	}
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.name
	}
	fmt.Fprintf(&b, policyText, strings.Join(names, ", "))
	return b.String()
}

const policyText = `apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps:
    - {action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.2}}
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu, level: major}
  hosts: {names: [%s]}
  choose: least-value-contributor
  runbook: runbook/relieve-cpu
  mode: auto
  timing: {dwell: 0s, outcome: 1s, cooldown: 0s, lease: 20s, release: now}
  episode: {steps: 100, every: 1s}
`
