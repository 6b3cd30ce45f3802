package collector

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/history"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/resource"
	"github.com/evenkeel/evenkeel/collector/roster"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// world is a collector without network and disk: real decider, map, incidents and remedy over the in-memory state engine,
// with hosts whose readings the test writes and whose actors the test plays.
type world struct {
	*testing.T
	store    *state.Memory
	fleet    *fleet
	decider  *decider
	executor *remedy.Executor
	keeper   *resource.Keeper
	roster   *roster.Roster
	past     string // the folder of the history
	cancel   context.CancelFunc
	all      sync.WaitGroup

	mu        sync.Mutex
	sent      []sentCommand
	watch     map[string][]session.Watch
	asked     []string            // observers that were asked about hosts: "agent/b about a"
	approvers []ed25519.PublicKey // whom the hosts list
}

// reachable leaves the answer to the test.
func (w *world) reachable(ctx context.Context, _ string) (bool, string) {
	<-ctx.Done()
	return false, "not tried"
}

type sentCommand struct {
	host string
	command.Command
}

func (w *world) Send(host string, e command.Envelope) error {
	c, err := command.Trust{SigningRoot: w.roster.SigningKey().Public().(ed25519.PublicKey), Approvers: w.approvers}.Verify(e, time.Now())
	if err != nil {
		w.Errorf("a command that no actor would believe was sent: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, sentCommand{host, c.Command})
	return nil
}

func (w *world) SendWatch(host string, list []session.Watch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch[host] = list
	return nil
}

func (w *world) SendReach(host, _, other, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, "agent/"+host+" about "+other)
	return nil
}

// newWorld starts a collector on the store, with a map applied. It must be made inside a synctest bubble.
//
// A folder keeps the history of one that ran before.
func newWorld(t *testing.T, store *state.Memory, text string, folder ...string) *world {
	t.Helper()
	w := &world{T: t, store: store, watch: map[string][]session.Watch{}, past: t.TempDir()}
	if len(folder) > 0 {
		w.past = folder[0]
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	log := slog.New(slog.DiscardHandler)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cluster, incarnation, err := state.Incarnation(ctx, store)
	must(err)
	sealer, err := identity.NewSealer(bytes.Repeat([]byte{7}, 32))
	must(err)
	past, err := history.Open(history.Config{
		Dir: w.past, Now: time.Now, Log: log, Sealed: func(context.Context, time.Time, string) error { return nil },
	})
	must(err)
	d := &decider{
		clock: time.Now, log: log, ids: newIDs(), ring: make(chan struct{}, 1), mapChange: newBell(), incidents: newFeed[incident.Incident](),
		records: newRecords(store, log), outside: newOutsiders(store, 30*time.Second, log), history: past, sessions: w, reachable: w.reachable, detail: func(string, time.Time) {},
	}
	w.roster, err = roster.Open(ctx, roster.Config{Store: store, Sealer: sealer, Cluster: cluster, Clock: time.Now, Changed: func(string) { d.do(d.redraw) }})
	must(err)
	shipped, err := overload.Defaults()
	must(err)
	w.keeper, err = resource.Open(ctx, resource.Config{
		Store: store, Shipped: shipped, Clock: time.Now, Judge: judge, Changed: func(*manifest.Set) { d.do(d.redraw) },
	})
	must(err)
	compiled, err := detectors(w.keeper.Set())
	must(err)
	w.fleet = newFleet(time.Now, compiled, log)
	d.fleet, d.keeper, d.roster = w.fleet, w.keeper, w.roster
	must(d.openLogs(ctx, store))
	w.fleet.changed = d.changes.observed
	trail, err := audit.Open(t.TempDir(), time.Now)
	must(err)
	w.executor, err = remedy.New(remedy.Config{
		Store: store, Signals: w.fleet, Roster: w.fleet, Sender: w, Reporter: d, Audit: trail,
		Sign: newSigner(w.roster.SigningKey(), "test", time.Now).sign, NewID: d.ids.new, Now: time.Now, Incarnation: incarnation, Log: log,
	})
	must(err)
	d.executor, w.decider = w.executor, d
	must(d.load(ctx, store))
	if text != "" {
		_, problems, err := w.keeper.Apply(ctx, []manifest.File{{Name: "map.yaml", Text: []byte(text)}}, []string{"a", "b", "c"}, "test")
		must(err)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	for _, run := range []func(context.Context) error{d.records.run, d.history.Run, d.changes.run, d.outside.words.run, w.executor.Run, d.run} {
		w.all.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

// stop ends the collector as a crash would, as far as the store can tell.
func (w *world) stop() {
	w.cancel()
	w.all.Wait()
}

func (w *world) commands(kind command.Kind) []sentCommand {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []sentCommand
	for _, c := range w.sent {
		if c.Kind == kind {
			out = append(out, c)
		}
	}
	return out
}

// agent plays one host: a table of readings that grow, ticked once a second.
type agent struct {
	w     *world
	name  string
	table metric.Table
	enc   chain.Encoder
	dec   chain.Decoder
	first bool
	slots map[string]metric.Slot
	total map[string]int64

	session uint64
	rates   map[string]int64 // growth a second, in the raw unit of the series
}

func (w *world) connect(name string) *agent {
	w.Helper()
	if _, err := w.roster.Host(name); err != nil {
		_, token, err := w.roster.CreateToken(w.Context(), identity.TokenSpec{Admit: true})
		if err != nil {
			w.Fatal(err)
		}
		key, err := identity.NewKey()
		if err != nil {
			w.Fatal(err)
		}
		csr, err := identity.MakeCSR(key, name)
		if err != nil {
			w.Fatal(err)
		}
		if _, err := w.roster.Enrol(w.Context(), token, name, csr, time.Now()); err != nil {
			w.Fatal(err)
		}
	}
	a := &agent{w: w, name: name, first: true, slots: map[string]metric.Slot{}, total: map[string]int64{}, rates: map[string]int64{}}
	a.session = uint64(time.Now().UnixNano())
	a.add("node_pressure_cpu_waiting_seconds_total", metric.Scale{Div: 1_000_000}, "", "")
	for _, mode := range []string{"user", "idle"} {
		a.add("node_cpu_seconds_total", metric.Scale{Div: 100}, "mode", mode)
	}
	w.fleet.Event(name, session.Connected{
		Session: a.session, Address: "192.0.2.1:1000", Period: time.Second, At: time.Now(), Facts: session.Facts{CPUs: 2},
	})
	return a
}

func (a *agent) add(name string, scale metric.Scale, label, value string) {
	d := metric.Desc{Name: name, Scale: scale}
	if label != "" {
		d.Labels = []metric.Label{{Name: label, Value: value}}
	}
	a.slots[name+value] = a.table.Add(d)
}

// component adds the series that an agent has of a watched component.
func (a *agent) component(ref string) {
	a.add("evenkeel_component_cpu_seconds_total", metric.Scale{Div: 100}, "component", ref)
	a.add("evenkeel_component_runqueue_seconds_total", metric.Scale{Div: 1000}, "component", ref)
	a.add("evenkeel_component_processes", metric.Scale{}, "component", ref)
	a.total["evenkeel_component_processes"+ref] = 1
}

// run ticks for a number of seconds.
func (a *agent) run(seconds int) {
	a.w.Helper()
	for range seconds {
		time.Sleep(time.Second)
		for key, s := range a.slots {
			a.total[key] += a.rates[key]
			a.table.Set(s, a.total[key])
		}
		a.table.Ran(0)
		now := time.Now()
		frame := a.enc.Append(nil, &a.table, now.UnixMilli(), a.first)
		a.table.Next()
		if err := a.dec.Decode(frame); err != nil {
			a.w.Fatal(err)
		}
		a.w.fleet.Observe(ingest.Tick{Host: a.name, At: now, Arrived: now, Fresh: a.first, State: &a.dec})
		a.first = false
		synctest.Wait()
	}
}

// rate sets by how much a series grows each second, in hundredths of its unit.
func (a *agent) rate(series, value string, hundredths int64) {
	key := series + value
	d := a.table.Desc(a.slots[key])
	a.rates[key] = hundredths * int64(max(d.Scale.Div, 1)) / 100
}

// actor has the host report an actor with a permission on one target.
func (a *agent) actor(action string, target command.Target) {
	a.w.fleet.Event(a.name, session.Actor{At: time.Now(), Report: command.ActorReport{
		Present: true, Incarnation: "inc-" + a.name, PermissionsHash: bytes.Repeat([]byte{5}, 32), MaxRisk: command.R2,
		Permissions: []command.Permission{{Action: action, Targets: []command.Target{target}, Min: 10, Max: 100, MaxLease: time.Minute, Rate: "20/5m"}},
	}})
}

// answers plays the actor's result for a command.
func (a *agent) answers(c sentCommand, ordinal uint32, phase command.Phase, reason command.Reason) {
	a.w.Helper()
	err := a.w.executor.Result(a.w.Context(), a.name, command.Result{
		ID: c.ID, Ordinal: ordinal, Phase: phase, Reason: reason, Prior: "1024", Value: "102", Time: time.Now(), ActorIncarnation: "inc-" + a.name, LeaseLeft: c.Lease,
	})
	if err != nil {
		a.w.Error(err)
	}
	synctest.Wait()
}
