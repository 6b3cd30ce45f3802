package collector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/history"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/resource"
	"github.com/evenkeel/evenkeel/collector/roster"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// decider is the one goroutine that folds verdicts into the health of the map, keeps the incidents, and asks remedy to
// consider what is overloaded:
//
//	fleet (verdicts) -> servicemap (health) -> incident (cause, cost) -> remedy (plan, command)
//
// What it learns from other goroutines comes in through the fleet and through do; nothing here waits for a disk.
type decider struct {
	clock    func() time.Time
	log      *slog.Logger
	fleet    *fleet
	keeper   *resource.Keeper
	roster   *roster.Roster
	executor *remedy.Executor
	sessions sessions
	// reachable tries to reach an address from here; any answer is one, a refusal too.
	reachable func(ctx context.Context, ip string) (bool, string)
	// detail has every tick of a host stored until then.
	detail  func(host string, until time.Time)
	ids     *ids
	records *records
	history *history.Keeper
	changes *changeLog
	reviews *reviewLog
	outside outsiders

	inboxMu sync.Mutex
	inbox   []func(time.Time)
	ring    chan struct{} // room for one: there is something in inbox

	snapshot  atomic.Pointer[servicemap.Snapshot]
	mapChange *bell
	incidents *feed[incident.Incident]
	reach     atomic.Pointer[map[string]overload.ReachChange]

	// Owned by run's goroutine.
	health   *servicemap.State
	traced   traced
	book     *incident.Book
	silence  *overload.Silence
	policies []policy
	sent     map[string]watching // the watch list that a host has
	asked    int
	around   surroundings
	budgets  budgets
	costsAt  time.Time
	unsound  map[manifest.Ref]bool // see restate
}

// sessions is what the decider says to agents.
type sessions interface {
	SendWatch(host string, watches []session.Watch) error
	SendReach(host, id, other, address string) error
}

// traced is what the nodes of a snapshot hit, as far as it was asked for.
type traced struct {
	of   *servicemap.Snapshot
	hits *cause.Hits
}

// watching is what a session was told to watch.
type watching struct {
	session uint64
	list    string
}

// policy is a RemediationPolicy made ready, with the hosts that it is for.
type policy struct {
	remedy.Policy
	hosts *manifest.Hosts
}

// do runs f on the decider's goroutine, soon. It never blocks; f must not either. What waits here is bounded by those who
// call: an action's few reports, and one call of each operator.
func (d *decider) do(f func(now time.Time)) {
	d.inboxMu.Lock()
	d.inbox = append(d.inbox, f)
	d.inboxMu.Unlock()
	select {
	case d.ring <- struct{}{}:
	default:
	}
}

// ask runs f on the decider's goroutine and waits for it.
func (d *decider) ask(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	d.do(func(now time.Time) { f(now); close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads the incidents and draws the map.
func (d *decider) load(ctx context.Context, store state.Store) error {
	d.book = incident.New(incident.Config{NewID: d.ids.new})
	all, _, err := store.List(ctx, incidentPrefix)
	if err != nil {
		return fmt.Errorf("cannot read incidents: %w", err)
	}
	kept := make([]incident.Incident, len(all))
	for i, kv := range all {
		if err := json.Unmarshal(kv.Value, &kept[i]); err != nil {
			return fmt.Errorf("cannot read %s: %w", kv.Key, err)
		}
	}
	if err := d.book.Load(kept); err != nil {
		return err
	}
	d.silence = overload.NewSilence(overload.SilenceConfig{}, d.clock())
	d.sent = map[string]watching{}
	if err := d.loadOutside(ctx, store); err != nil {
		return err
	}
	d.redraw(d.clock())
	return nil
}

// run decides until ctx ends.
func (d *decider) run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	d.survey(d.clock())
	for {
		select {
		case <-ctx.Done():
			d.keepCosts(d.clock())
			return nil
		case <-d.ring:
			d.inboxMu.Lock()
			calls := d.inbox
			d.inbox = nil
			d.inboxMu.Unlock()
			for _, f := range calls {
				f(d.clock())
			}
		case <-d.fleet.wake:
			d.look(d.clock())
		case <-ticker.C:
			d.tick(ctx, d.clock())
		}
	}
}

// look takes in what changed on some hosts.
func (d *decider) look(now time.Time) {
	dirty, reaches, exits := d.fleet.take()
	for _, r := range reaches {
		if !strings.HasPrefix(r.Detail, "not tried") {
			d.silence.Answer(r.Host, "agent/"+r.observer, r.Answered, r.Detail, now)
		}
	}
	for _, e := range exits {
		d.log.Debug("watched process ended", "host", e.host, "component", e.Component, "pid", e.PID)
	}
	slices.Sort(dirty)
	for _, name := range dirty {
		h := d.fleet.host(name)
		d.hear(h, now)
		d.tellWhatToWatch(h)
		d.health.Update(now, d.signals(h)...)
	}
	d.judge(now)
	for _, name := range dirty {
		d.consider(d.fleet.host(name), now)
	}
}

// tick does what time alone asks for.
func (d *decider) tick(ctx context.Context, now time.Time) {
	for _, h := range d.fleet.all() {
		d.hear(h, now)
	}
	step := d.silence.Tick(now)
	for _, c := range step.Changes {
		d.noteReach(c, now)
	}
	for _, a := range step.Ask {
		d.probe(ctx, a)
	}
	d.survey(now)
	d.tellOutside(now)
	d.restate(now)
	d.lookAtBudgets(now)
	d.judge(now)
	d.lookAtEdges(d.snapshot.Load(), now)
	if now.Sub(d.costsAt) >= costsKept {
		d.keepCosts(now)
	}
	for _, h := range d.fleet.all() {
		d.consider(h, now)
	}
}

// hear tells silence what was heard of a host.
func (d *decider) hear(h *host, now time.Time) {
	h.mu.Lock()
	heard, period, fresh := h.heard, h.session.Period, h.fresh(now)
	h.mu.Unlock()
	if !fresh {
		return
	}
	if c, changed := d.silence.Heard(h.name, period, heard); changed {
		d.noteReach(c, now)
	}
}

// noteReach takes in that a host was heard of again, fell silent, or was found to be down.
func (d *decider) noteReach(c overload.ReachChange, now time.Time) {
	before := map[string]overload.ReachChange{}
	if p := d.reach.Load(); p != nil {
		before = *p
	}
	next := make(map[string]overload.ReachChange, len(before)+1)
	for k, v := range before {
		next[k] = v
	}
	next[c.Host] = c
	d.reach.Store(&next)
	d.log.Info("reach of a host changed", "host", c.Host, "reach", c.Reach.String(), "detail", c.Text)
	if c.Reach == overload.Silent {
		d.fleet.silence(c.Host, now)
	}
	d.health.Update(now, d.reachSignals(c)...)
}

// reachSignals says what a host's reach means for it and for what runs on it.
func (d *decider) reachSignals(c overload.ReachChange) []servicemap.Signal {
	refs := []manifest.Ref{manifest.RefOf(manifest.KindHost, c.Host)}
	for _, m := range d.health.Graph().OnHost(c.Host) {
		refs = append(refs, m.Ref)
	}
	out := make([]servicemap.Signal, len(refs))
	for i, ref := range refs {
		out[i] = servicemap.Signal{Ref: ref, Source: "reach", Text: c.Text, Range: health.Unknown}
		switch c.Reach {
		case overload.Connected:
			out[i].Gone = true // its verdicts speak for it again
		case overload.Down:
			out[i].Range = health.Exactly(health.Critical)
		}
	}
	return out
}

// signals is what a host's verdicts say of the map.
func (d *decider) signals(h *host) []servicemap.Signal {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []servicemap.Signal
	for i := range h.gone {
		out = append(out, d.health.Graph().SignalsOf(&h.gone[i])...)
	}
	h.gone = nil
	for key := range h.verdicts {
		v := h.verdicts[key]
		out = append(out, d.health.Graph().SignalsOf(&v)...)
	}
	return out
}

// judge publishes the map and keeps the incidents up to date with it.
func (d *decider) judge(now time.Time) {
	d.health.Update(now) // maintenance begins and ends by itself
	snapshot := d.health.Snapshot()
	old := d.snapshot.Swap(snapshot)
	d.mapChange.ring()
	d.noteStates(d.history.Record(states(picture.Stand(snapshot), snapshot.ServicesSince(old), now)...))
	causes := append(d.causes(snapshot, now), d.budgetCauses(snapshot, now)...)
	for _, i := range d.book.Observe(now, d.muted(now, snapshot, causes)) {
		d.changed(i)
	}
	for _, i := range d.book.Withdraw(now, func(ref string) bool { return d.mayBeOn(snapshot.Graph(), manifest.Ref(ref)) }) {
		d.changed(i)
	}
	d.noteGaps(snapshot, now)
}

// costsKept is how often what incidents have cost is written, though nothing else about them changed.
const costsKept = time.Minute

// keepCosts has the incidents that are not resolved written with what they cost up to now.
func (d *decider) keepCosts(now time.Time) {
	d.costsAt = now
	for _, i := range d.book.Unresolved(now) {
		d.records.put(i)
	}
}

// changed publishes an incident and has it written.
func (d *decider) changed(i incident.Incident) {
	d.incidents.publish(i.ID, i)
	d.records.put(i)
}

// redraw builds the map anew, after a change of the resources or of the hosts.
func (d *decider) redraw(now time.Time) {
	set := d.keeper.Set()
	graph, err := servicemap.New(set, d.mapHosts())
	if err != nil {
		// The keeper checks what it takes in, so this is a fault of ours; the old map goes on.
		d.log.Error("map cannot be drawn", "error", err)
		return
	}
	if d.health == nil {
		d.health = servicemap.NewState(graph, servicemap.Options{})
	} else {
		d.health = d.health.Rebase(graph)
	}
	d.follow(now)
	d.around.pools = nil // they are of the old map
	d.policies = d.policies[:0]
	for r, p := range manifest.Of[manifest.RemediationPolicy](set) {
		runbook, ok := manifest.SpecOf[manifest.Runbook](set, p.Runbook)
		if !ok {
			d.log.Error("policy has no runbook", "policy", r.Metadata.Name)
			continue
		}
		d.policies = append(d.policies, policy{remedy.FromManifest(r.Metadata.Name, p, runbook), p.Hosts})
	}
	for _, h := range d.fleet.all() {
		d.valuedOn(h)
		d.tellWhatToWatch(h)
		d.health.Update(now, d.signals(h)...)
		if p := d.reach.Load(); p != nil {
			if c, ok := (*p)[h.name]; ok {
				d.health.Update(now, d.reachSignals(c)...)
			}
		}
	}
	d.drawOutside(now)
	d.drawBudgets()
	d.judge(now)
}

// mapHosts is the hosts as selectors see them: labels from the token, and those that an agent declares with a prefix.
func (d *decider) mapHosts() []servicemap.Host {
	var out []servicemap.Host
	for _, r := range d.roster.Hosts() {
		if r.State != roster.Admitted {
			continue
		}
		labels := map[string]string{}
		for k, v := range r.Labels {
			labels[k] = v
		}
		if h := d.fleet.known(r.Name); h != nil {
			h.mu.Lock()
			for k, v := range h.session.Labels {
				labels["agent/"+k] = v
			}
			h.mu.Unlock()
		}
		if labels["detail"] == "full" {
			d.detail(r.Name, d.clock().Add(100*365*24*time.Hour))
		}
		out = append(out, servicemap.Host{Name: r.Name, Labels: labels})
	}
	return out
}

// tellWhatToWatch sends a host the components of the map that it runs, once for each session and change.
func (d *decider) tellWhatToWatch(h *host) {
	h.mu.Lock()
	connected, number := h.connected, h.session.Session
	h.mu.Unlock()
	if !connected {
		return
	}
	var list []session.Watch
	for _, m := range d.health.Graph().OnHost(h.name) {
		if t, ok := targetOf(m.Spec); ok {
			list = append(list, session.Watch{Component: string(m.Component), Target: t})
		}
	}
	now := watching{number, fmt.Sprint(list)}
	if d.sent[h.name] == now {
		return
	}
	if err := d.sessions.SendWatch(h.name, list); err == nil {
		d.sent[h.name] = now
	}
	if d.sent[h.name].session != number {
		return
	}
	// A new session may come with other labels, or be the first of its host.
	d.valuedOn(h)
}

// valuedOn tells a host's detectors which of its components have a value.
func (d *decider) valuedOn(h *host) {
	var valued []string
	for _, m := range d.health.Graph().OnHost(h.name) {
		if d.health.Graph().Value(m.Ref, d.clock()).Ranked {
			valued = append(valued, string(m.Component))
		}
	}
	h.mu.Lock()
	h.engine.SetComponents(valued)
	h.mu.Unlock()
}
