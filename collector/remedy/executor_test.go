package remedy_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// rig is a collector's surroundings with one host, whose actor keeps leases as the real one does.
type rig struct {
	mu        sync.Mutex
	store     state.Store
	connected bool
	delay     float64 // of component/web
	cores     float64 // of component/web
	batch     float64 // delay of component/batch
	running   float64 // processes of component/batch
	verdict   overload.State
	since     time.Time
	unseen    bool // no readings
	ids       uint64

	dead    bool // the actor does not answer
	refuse  command.Reason
	leases  map[string]time.Time
	applies map[string]int // executions by id
	bodies  map[string]string
	signed  map[string]int // apply commands signed, by id
	results []command.Result
	notes   []string
	audits  []string

	report *command.ActorReport // of the actor, where it is not that of two
	steps  []remedy.Step        // of the runbook, where they are not those of policy
	key    ed25519.PrivateKey   // of the approver without whom the actor applies nothing; nil: it asks for none
	bare   string               // an apply command that came without the approver's signature

	exec   *remedy.Executor
	cancel context.CancelFunc
	done   chan error
}

func newRig(store state.Store) *rig {
	return &rig{
		store: store, connected: true, delay: 1.2, cores: 0.4, batch: 9, running: 8, verdict: overload.Overloaded, leases: map[string]time.Time{},
		applies: map[string]int{}, bodies: map[string]string{}, signed: map[string]int{},
	}
}

func (r *rig) start(fatal func(...any)) {
	exec, err := remedy.New(remedy.Config{
		Store: r.store, Signals: r, Roster: r, Sender: r, Reporter: r, Audit: r, Sign: r.sign, NewID: r.newID, Now: time.Now, Incarnation: 7,
	})
	if err != nil {
		fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.exec, r.cancel, r.done = exec, cancel, make(chan error, 1)
	go func() { r.done <- exec.Run(ctx) }()
}

func (r *rig) stop(fatal func(...any)) {
	r.cancel()
	if err := <-r.done; err != nil {
		fatal(err)
	}
}

func (r *rig) newID(at time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids++
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(at))
	for i := range 8 {
		id[15-i] = byte(r.ids >> (8 * i))
	}
	return id.String()
}

func (r *rig) sign(c command.Command) (command.Envelope, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Kind == command.Apply {
		r.signed[c.ID]++
	}
	return command.Sign(c)
}

func (r *rig) Known(string) bool { r.mu.Lock(); defer r.mu.Unlock(); return r.connected }

func (r *rig) Verdict(string, string) overload.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verdict
}

func (r *rig) Last(_, signal, subject string) (float64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unseen {
		return 0, false
	}
	switch signal + " " + subject {
	case "runqueue.delay component/web":
		return r.delay, true
	case "component.cpu component/web":
		return r.cores, true
	case "runqueue.delay component/batch":
		return r.batch, true
	case "component.cpu component/batch":
		return r.running / 8, true
	case "process.running component/batch":
		return r.running, true
	}
	return 0, false
}

func (r *rig) Hosts() []string { return []string{"a"} }

func (r *rig) Actor(string) (command.ActorReport, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report != nil {
		return *r.report, r.connected
	}
	return two().Actor, r.connected
}

func (r *rig) ActionStarted(_ time.Time, _, _, what string) { r.note("started " + what) }
func (r *rig) ActionEnded(_ time.Time, _, _, what string)   { r.note("ended " + what) }
func (r *rig) Note(_ time.Time, incident, who, what string) { r.note(what) }

func (r *rig) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, s)
}

func (r *rig) Append(_ context.Context, who, what, subject, outcome, detail string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.audits = append(r.audits, who+" "+what+" "+outcome)
	return nil
}

// Send is the road to the actor: it judges at once, and its answers lie in results until flush carries them back.
func (r *rig) Send(_ string, e command.Envelope) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.connected {
		return errors.New("not connected")
	}
	if r.dead {
		return nil
	}
	c, err := command.ParseBody(e.Body)
	if err != nil {
		return err
	}
	now := time.Now()
	if old, ok := r.bodies[c.ID]; ok && old != string(e.Body) {
		panic("two bodies for command " + c.ID)
	} else if ok {
		return nil
	}
	r.bodies[c.ID] = string(e.Body)
	say := func(p command.Phase, reason command.Reason) {
		r.results = append(r.results, command.Result{ID: c.ID, Phase: p, Reason: reason, Prior: "100", Value: "10", Time: now, ActorIncarnation: "inc"})
	}
	switch {
	case !now.Before(c.Expires):
		say(command.Refused, command.ReasonExpired)
	case c.Kind == command.Apply && r.refuse != "":
		say(command.Refused, r.refuse)
	case c.Kind == command.Apply:
		if r.key != nil && !slices.ContainsFunc(e.Signatures, func(s command.Signature) bool { return s.KeyID == command.KeyID(public(r.key)) }) {
			r.bare = c.ID
		}
		r.applies[c.ID]++
		if c.Lease > 0 {
			r.leases[c.ID] = now.Add(c.Lease)
		}
		say(command.Accepted, "")
		say(command.Applied, "")
	case c.Kind == command.Renew:
		if _, ok := r.leases[c.Of]; !ok {
			say(command.Refused, command.ReasonUnknownCommand)
			break
		}
		r.leases[c.Of] = now.Add(c.Lease)
		say(command.Renewed, "")
	case c.Kind == command.Revert:
		if _, ok := r.leases[c.Of]; !ok {
			say(command.Refused, command.ReasonUnknownCommand)
			break
		}
		delete(r.leases, c.Of)
		r.results = append(r.results, command.Result{ID: c.Of, Phase: command.Reverted, Value: "100", Time: now, ActorIncarnation: "inc"})
	case c.Kind == command.Kill:
		for id := range r.leases {
			delete(r.leases, id)
			r.results = append(r.results, command.Result{ID: id, Phase: command.Reverted, Reason: command.ReasonKilled, Value: "100", Time: now})
		}
	}
	return nil
}

// expire ends the leases that are over, as an actor does by itself.
func (r *rig) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, until := range r.leases {
		if !time.Now().Before(until) {
			delete(r.leases, id)
			r.results = append(r.results, command.Result{ID: id, Phase: command.Reverted, Reason: "lease-ended", Value: "100", Time: time.Now()})
		}
	}
}

// flush carries the answers back, each until it is stored.
func (r *rig) flush() {
	for {
		r.mu.Lock()
		if len(r.results) == 0 || !r.connected {
			r.mu.Unlock()
			return
		}
		next := r.results[0]
		r.mu.Unlock()
		if err := r.exec.Result(context.Background(), "a", next); err != nil {
			return
		}
		r.mu.Lock()
		r.results = r.results[1:]
		r.mu.Unlock()
	}
}

// pass lets time go by, second by second, with the collector considering the host as a daemon does.
func (r *rig) pass(seconds int, mode remedy.Mode) {
	for range seconds {
		synctest.Wait()
		r.flush()
		r.expire()
		r.flush()
		r.mu.Lock()
		s := two()
		s.HostKnown, s.Verdict.State, s.Verdict.Since, s.Policy = r.connected, r.verdict, r.since, policy(mode)
		if r.report != nil {
			s.Actor = *r.report
		}
		if r.steps != nil {
			s.Policy.Steps = r.steps
		}
		over := r.verdict == overload.Overloaded
		r.mu.Unlock()
		if over {
			r.exec.Consider(s)
		}
		synctest.Wait()
		r.flush()
		<-time.After(time.Second)
	}
	synctest.Wait()
	r.flush()
}

func (r *rig) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *rig) states() string {
	var out []string
	actions := r.exec.Actions()
	for i := len(actions) - 1; i >= 0; i-- {
		a := actions[i]
		s := a.Proposal.Action.Name + " " + string(a.State)
		if a.Reason != "" {
			s += " (" + a.Reason + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func run(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(state.NewMemory())
		r.since = time.Now()
		r.start(t.Fatal)
		defer func() { r.stop(t.Error) }()
		f(t, r)
	})
}

func expect(t *testing.T, r *rig, want string) {
	t.Helper()
	if got := r.states(); got != want {
		t.Fatalf("actions: %s\nwant:    %s\n%s", got, want, strings.Join(r.notes, "\n"))
	}
}

func TestTheWholeLoop(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.pass(1, remedy.Auto)
		expect(t, r, "cpu.weight applied")
		r.set(func() { r.delay = 0.1 })
		r.pass(6, remedy.Auto)
		expect(t, r, "cpu.weight active")
		if !r.exec.Contained("a", "host-cpu") || r.exec.Contained("a", "other") {
			t.Fatal("contained")
		}
		// The host stays under pressure, which the batch job makes: the lease is renewed again and again.
		r.pass(120, remedy.Auto)
		expect(t, r, "cpu.weight active")
		if len(r.leases) != 1 {
			t.Fatal(r.leases)
		}
		r.set(func() { r.running, r.batch, r.verdict = 0, 0, overload.Healthy })
		r.pass(6, remedy.Auto)
		expect(t, r, "cpu.weight reverted (demand-fell)")
		if len(r.leases) != 0 || r.applies[r.exec.Actions()[0].ID] != 1 {
			t.Fatal(r.leases, r.applies)
		}
		kvs, _, _ := r.store.List(context.Background(), "permit/")
		if len(kvs) != 0 {
			t.Fatal("the permit is still held")
		}
		p, ok := r.exec.ExplainIncident("incident-1")
		if !ok || p.Proposal == nil || len(p.Candidates) != 2 {
			t.Fatalf("%+v", p)
		}
	})
}

func TestIneffectiveGoesToTheNextStepAndHarmIsTakenBack(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		for !strings.Contains(r.states(), "affinity applied") {
			r.pass(1, remedy.Auto)
		}
		r.pass(1, remedy.Auto)
		r.set(func() { r.delay = 9 })
		r.pass(20, remedy.Auto)
		expect(t, r, "cpu.weight reverted (ineffective), process.affinity reverted (harmful)")
		r.pass(60, remedy.Auto)
		expect(t, r, "cpu.weight reverted (ineffective), process.affinity reverted (harmful)") // all steps were tried
		if len(r.leases) != 0 {
			t.Fatal(r.leases)
		}
	})
}

// The queue that an overload leaves behind keeps as many threads waiting as the overload did; who gets more CPU than then is
// being helped, whatever still waits.
func TestABacklogIsNeitherHarmNorAFailure(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.pass(1, remedy.Auto)
		r.set(func() { r.delay, r.cores = 9, 1.5 })
		r.pass(10, remedy.Auto)
		expect(t, r, "cpu.weight applied")
		r.set(func() { r.delay = 0.1 })
		r.pass(3, remedy.Auto)
		expect(t, r, "cpu.weight active")
	})
	run(t, func(t *testing.T, r *rig) {
		r.pass(1, remedy.Auto)
		r.set(func() { r.delay, r.cores = 9, 1.5 })
		r.pass(18, remedy.Auto) // it had three times the outcome time to catch up
		if got := r.exec.Actions(); got[len(got)-1].Reason != remedy.ReasonIneffective {
			t.Fatal(r.states())
		}
	})
}

func TestModesThatDoNotAct(t *testing.T) {
	for _, c := range []struct {
		mode remedy.Mode
		want string
	}{{remedy.Observe, "cpu.weight shadow"}, {remedy.Suggest, "cpu.weight suggested"}} {
		run(t, func(t *testing.T, r *rig) {
			r.pass(30, c.mode)
			expect(t, r, c.want)
			if len(r.bodies) != 0 || len(r.signed) != 0 {
				t.Fatal("something was signed or sent")
			}
		})
	}
}

func TestApproval(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		ctx := context.Background()
		r.pass(3, remedy.Approve)
		expect(t, r, "cpu.weight awaiting-approval")
		a := r.exec.Actions()[0]
		if _, err := r.exec.Approve(ctx, a.ID, "0000", "ann"); !errors.Is(err, remedy.ErrNotNow) {
			t.Fatal(err)
		}
		r.set(func() { r.connected = false })
		if _, err := r.exec.Approve(ctx, a.ID, a.Hash, "ann"); !errors.Is(err, remedy.ErrNotNow) {
			t.Fatal(err)
		}
		r.set(func() { r.connected = true })
		if _, err := r.exec.Approve(ctx, a.ID, a.Hash, "ann"); err != nil {
			t.Fatal(err)
		}
		r.pass(1, remedy.Approve)
		expect(t, r, "cpu.weight applied")
		if _, err := r.exec.Cancel(ctx, a.ID, "ann", "not now"); err != nil {
			t.Fatal(err)
		}
		r.pass(1, remedy.Approve)
		if got := r.states(); !strings.HasPrefix(got, "cpu.weight reverted (cancelled)") {
			t.Fatal(got)
		}
	})
	run(t, func(t *testing.T, r *rig) {
		r.pass(1, remedy.Approve)
		if _, err := r.exec.Deny(context.Background(), r.exec.Actions()[0].ID, "ann", "no"); err != nil {
			t.Fatal(err)
		}
		r.pass(60, remedy.Approve)
		expect(t, r, "cpu.weight denied (denied)")
	})
	run(t, func(t *testing.T, r *rig) {
		r.pass(2, remedy.Approve)
		r.set(func() { r.verdict = overload.Healthy })
		r.pass(2, remedy.Approve)
		expect(t, r, "cpu.weight cancelled (condition-gone)")
	})
}

func TestKillSwitch(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.pass(1, remedy.Auto)
		if _, err := r.exec.SetKillSwitch(context.Background(), true, "ann", "stop"); err != nil {
			t.Fatal(err)
		}
		r.pass(10, remedy.Auto)
		expect(t, r, "cpu.weight reverted (kill-switch)")
		if len(r.leases) != 0 || !r.exec.KillSwitch().On {
			t.Fatal(r.leases)
		}
		// It holds over a restart.
		r.stop(t.Fatal)
		r.start(t.Fatal)
		r.pass(10, remedy.Auto)
		expect(t, r, "cpu.weight reverted (kill-switch)")
		if _, err := r.exec.SetKillSwitch(context.Background(), false, "ann", ""); err != nil {
			t.Fatal(err)
		}
		r.set(func() { r.since = time.Now() })
		r.pass(70, remedy.Auto) // past the cooldown
		if got := r.states(); strings.Count(got, "cpu.weight") < 2 {
			t.Fatal(got)
		}
	})
}

func TestRestartSendsTheSameBytesAndAdoptsTheLease(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.set(func() { r.dead = true }) // sent, and lost on the way
		r.pass(1, remedy.Auto)
		expect(t, r, "cpu.weight dispatched")
		r.stop(t.Fatal)
		r.set(func() { r.dead = false })
		r.start(t.Fatal)
		r.pass(3, remedy.Auto)
		expect(t, r, "cpu.weight applied")
		id := r.exec.Actions()[0].ID
		if r.signed[id] != 1 || r.applies[id] != 1 {
			t.Fatal(r.signed, r.applies)
		}
		r.set(func() { r.delay = 0 })
		r.pass(10, remedy.Auto)
		r.stop(t.Fatal)
		r.start(t.Fatal)
		r.pass(60, remedy.Auto)
		expect(t, r, "cpu.weight active")
	})
}

func TestSilentHostIsLeftToItsLease(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.set(func() { r.delay = 0 })
		r.pass(10, remedy.Auto)
		expect(t, r, "cpu.weight active")
		r.set(func() { r.connected = false })
		r.pass(60, remedy.Auto)
		if len(r.leases) != 0 {
			t.Fatal("the lease was kept up on a silent host")
		}
		r.set(func() { r.connected = true })
		r.pass(3, remedy.Auto)
		expect(t, r, "cpu.weight reverted (lease-ended), cpu.weight applied") // it had worked, and is needed still
	})
	run(t, func(t *testing.T, r *rig) {
		r.set(func() { r.connected = false })
		r.pass(30, remedy.Auto)
		expect(t, r, "")
	})
}

func TestRefusalByTheActor(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.set(func() { r.refuse = command.ReasonDenied })
		r.pass(20, remedy.Auto)
		expect(t, r, "cpu.weight rejected (denied), process.affinity rejected (denied)")
		if a := r.exec.Actions()[0]; a.State.Phase() != remedy.PhaseRefused {
			t.Fatal(a.State.Phase())
		}
	})
}

func TestTrialRelease(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.set(func() { r.delay = 0 })
		r.pass(10, remedy.Auto)
		r.set(func() { r.verdict = overload.Healthy })
		r.pass(10, remedy.Auto)
		expect(t, r, "cpu.weight reverted (trial-release)")
		// It hurts: the same step is taken again at once, cooldown or not.
		r.set(func() { r.verdict, r.since, r.delay = overload.Overloaded, time.Now(), 1.2 })
		r.pass(2, remedy.Auto)
		expect(t, r, "cpu.weight reverted (trial-release), cpu.weight applied")
	})
}

func TestLedgerThatCannotBeWrittenSignsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := &flaky{Store: state.NewMemory()}
		r := newRig(flaky)
		r.since = time.Now()
		r.start(t.Fatal)
		defer func() { r.stop(t.Error) }()
		flaky.fail(true, false)
		r.pass(3, remedy.Auto)
		if len(r.signed) != 0 || len(r.bodies) != 0 {
			t.Fatal(r.states())
		}
		flaky.fail(false, false)
		r.set(func() { r.delay = 0 })
		r.pass(3, remedy.Auto)
		if n := len(r.applies); n != 1 {
			t.Fatal(n, r.states())
		}
		// Written, and the answer lost: nothing is done twice.
		flaky.fail(false, true)
		r.pass(4, remedy.Auto)
		flaky.fail(false, false)
		r.pass(10, remedy.Auto)
		if got := r.states(); !strings.HasSuffix(got, "cpu.weight active") {
			t.Fatal(got)
		}
	})
}

// flaky is a store whose writes fail, before or after they are done.
type flaky struct {
	state.Store
	mu            sync.Mutex
	before, after bool
	delay         time.Duration // before every write
}

func (f *flaky) fail(before, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *flaky) slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

func (f *flaky) Txn(ctx context.Context, c []state.Compare, o []state.Op) (bool, int64, error) {
	f.mu.Lock()
	before, after, delay := f.before, f.after, f.delay
	f.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
	if before {
		return false, 0, fmt.Errorf("test: %w", state.ErrUnavailable)
	}
	held, rev, err := f.Store.Txn(ctx, c, o)
	if after && err == nil {
		return false, 0, fmt.Errorf("test: %w", state.ErrUnavailable)
	}
	return held, rev, err
}

func TestSubscribersThatLagAreReset(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		ch, stop := r.exec.Subscribe()
		defer stop()
		r.set(func() { r.delay = 0 })
		r.pass(1000, remedy.Auto)
		n := 0
		for range ch {
			n++
		}
		if n != 64 {
			t.Fatal(n)
		}
		r.exec.Subscribe() // ended by the stop of the executor
	})
}

// BenchmarkDecide is the way from a situation to Send: plan, two writes to the in-memory store, signature.
func BenchmarkDecide(b *testing.B) {
	r := newRig(state.NewMemory())
	sent := make(chan struct{}, 1)
	sender := sendFunc(func(string, command.Envelope) error { sent <- struct{}{}; return nil })
	exec, err := remedy.New(remedy.Config{
		Store: r.store, Signals: r, Roster: r, Sender: sender, Reporter: r, Audit: r, Sign: r.sign, NewID: r.newID, Now: time.Now, Incarnation: 7,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- exec.Run(ctx) }()
	s := two()
	s.Policy.Times.Cooldown = 0
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		s.Verdict.Since = start.Add(time.Duration(n) * time.Second)
		exec.Consider(s)
		<-sent
		b.StopTimer()
		id := exec.Actions()[0].ID
		if err := exec.Result(ctx, "a", command.Result{ID: id, Phase: command.Refused, Reason: command.ReasonDenied}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	cancel()
	<-done
}

type sendFunc func(host string, e command.Envelope) error

func (f sendFunc) Send(host string, e command.Envelope) error { return f(host, e) }
