// Package collector is the collector as a daemon: it opens the parts in the order in which they need each other, joins them,
// and runs them. The parts decide; this package only wires, but for the decider, which is the order of their talk.
//
//	agents -> session -> ingest -> overload (detectors, on arrival)   api <- operators
//	              ^          \-> store (samples)                       |
//	              |                                                    v
//	              |        fleet -> decider: servicemap -> incident -> remedy -> ledger in state
//	              \------------------------------------------------- command
//
// It refuses to listen before the samples of the last run are replayed. Run owns every goroutine.
package collector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/history"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/resource"
	"github.com/evenkeel/evenkeel/collector/roster"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/run"
)

// Collector is one node. Use New, then Run once.
type Collector struct {
	cfg   Config
	log   *slog.Logger
	clock func() time.Time

	ready   chan struct{}
	serving atomic.Bool
	started time.Time

	// Set before ready is closed.
	cluster string
	root    string // signing root
	agents  string // address that agents are told
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config, log *slog.Logger) (*Collector, error) {
	var problems []error
	cfg.check(func(path, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	})
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Collector{cfg: cfg, log: log, clock: time.Now, ready: make(chan struct{})}, nil
}

// Ready is closed when the collector serves.
func (c *Collector) Ready() <-chan struct{} { return c.ready }

// AdminFile is the context file of the first admin, mode 0600. It is there once the collector is ready.
func (c *Collector) AdminFile() string { return filepath.Join(c.cfg.State, "admin.json") }

func (c *Collector) historyDir() string { return filepath.Join(c.cfg.State, "history") }

// SigningRoot is what a host's permissions file pins: "ed25519:BASE64". Valid once the collector is ready.
func (c *Collector) SigningRoot() string { return c.root }

// AgentsAddress is where agents connect. Valid once the collector is ready.
func (c *Collector) AgentsAddress() string { return c.agents }

// Run opens the parts, serves until ctx ends, and stops them in the opposite order.
func (c *Collector) Run(ctx context.Context) error {
	c.started = c.clock()
	if err := os.MkdirAll(c.cfg.State, 0o700); err != nil {
		return fmt.Errorf("cannot use the state folder: %w", err)
	}
	var closers []func() error
	defer func() {
		for i := len(closers) - 1; i >= 0; i-- {
			if err := closers[i](); err != nil {
				c.log.Error("a part did not close cleanly", "error", err)
			}
		}
	}()

	// What must be agreed on: the state engine, and who belongs.
	engine, err := state.Open(ctx, state.Config{
		Dir: filepath.Join(c.cfg.State, "state"), Name: c.cfg.Name, MinFree: uint64(c.cfg.Engine.MinFree), Log: c.log,
	})
	if err != nil {
		return err
	}
	closers = append(closers, engine.Close)
	cluster, incarnation, err := state.Incarnation(ctx, engine)
	if err != nil {
		return fmt.Errorf("cannot read the cluster's incarnation: %w", err)
	}
	sealer, err := identity.OpenSealer(c.sealKey())
	if err != nil {
		return fmt.Errorf("cannot open the seal key: %w", err)
	}
	trail, err := audit.Open(filepath.Join(c.cfg.State, "audit"), c.clock)
	if err != nil {
		return err
	}
	closers = append(closers, trail.Close)
	d := &decider{
		clock: c.clock, log: c.log, ids: newIDs(), ring: make(chan struct{}, 1), mapChange: newBell(), incidents: newFeed[incident.Incident](),
		records: newRecords(engine, c.log), outside: newOutsiders(engine, c.cfg.Sources.Prometheus.Every, c.log), reachable: reachable, detail: func(string, time.Time) {},
	}
	past := c.historyDir()
	if d.history, err = history.Open(history.Config{Dir: past, Now: c.clock, Log: c.log, Sealed: sealMonth(d, trail, past)}); err != nil {
		return err
	}
	members, err := roster.Open(ctx, roster.Config{
		Store: engine, Sealer: sealer, Cluster: cluster, Clock: c.clock, Changed: func(string) { d.do(d.redraw) },
	})
	if err != nil {
		return err
	}

	// What is reasoned with: reviewed text, detectors, the map.
	shipped, err := overload.Defaults()
	if err != nil {
		return err
	}
	keeper, err := resource.Open(ctx, resource.Config{Store: engine, Shipped: shipped, Clock: c.clock, Judge: judge, Changed: func(set *manifest.Set) {
		if compiled, err := detectors(set); err == nil {
			d.fleet.use(compiled)
		}
		d.do(d.redraw)
	}})
	if err != nil {
		return err
	}
	compiled, err := detectors(keeper.Set())
	if err != nil {
		return err
	}
	hosts := newFleet(c.clock, compiled, c.log)
	d.fleet, d.keeper, d.roster = hosts, keeper, members
	if err := d.openLogs(ctx, engine); err != nil {
		return err
	}
	hosts.changed = d.changes.observed

	// The samples. Open replays what the last run left in the log.
	samples, err := store.Open(ctx, store.Config{
		Dir: filepath.Join(c.cfg.State, "samples"), Retention: c.cfg.Store.Retention, MaxBytes: int64(c.cfg.Store.MaxBytes),
		MinFree: uint64(c.cfg.Store.MinFree), Log: c.log,
	})
	if err != nil {
		return err
	}
	closers = append(closers, samples.Close)
	intake, err := ingest.New(ingest.Config{Store: samples, Observer: hosts, Interval: c.cfg.Store.Interval, Now: c.clock, Log: c.log})
	if err != nil {
		return err
	}
	d.detail = intake.SetDetail

	poller, err := d.newPoller(c.cfg.Sources.Prometheus, samples)
	if err != nil {
		return err
	}

	// The ports, bound only now that everything behind them is there.
	ports, err := c.listen()
	if err != nil {
		return err
	}
	defer ports.close()
	names := []string{"localhost", "127.0.0.1", "::1", c.cfg.Name, c.advertised(), hostOf(c.cfg.Listen.Agents), hostOf(c.cfg.Listen.Operators)}
	certificate, err := identity.NewServerSource(members.CA(), c.cfg.Name, distinct(names), c.clock)
	if err != nil {
		return err
	}
	admission := &admission{roster: members, agents: net.JoinHostPort(c.advertised(), portOf(ports.agents)), audit: trail}
	c.cluster, c.root, c.agents = cluster, members.SigningRoot(), admission.agents

	executorReady := &relay{hosts: hosts}
	server, err := session.New(session.Config{
		Trust: members.CA().Trust(), Certificate: certificate.Get, Revoked: members.IsRevoked, Members: func() []string { return []string{admission.agents} },
		Ingest: intake, Admission: admission, Daemon: executorReady, Now: c.clock, Log: c.log,
	})
	if err != nil {
		return err
	}
	d.sessions = server
	sign := newSigner(members.SigningKey(), c.cfg.Name, c.clock)
	ring := &keyring{signer: sign, hosts: hosts, store: engine, send: server.Send, newID: d.ids.new, clock: c.clock, log: c.log, fence: incarnation}
	executor, err := remedy.New(remedy.Config{
		Store: engine, Signals: hosts, Roster: hosts, Sender: server, Reporter: d, Audit: trail,
		Sign: sign.sign, NewID: d.ids.new, Now: c.clock, Incarnation: incarnation, Log: c.log,
	})
	if err != nil {
		return err
	}
	d.executor, executorReady.executor = executor, executor
	if err := errors.Join(d.load(ctx, engine), ring.load(ctx)); err != nil {
		return err
	}

	httpTLS, err := c.httpTLS()
	if err != nil {
		return err
	}
	b := &backend{collector: c, decider: d, roster: members, keeper: keeper, samples: samples, audit: trail, executor: executor, server: server, operators: ports.operators}
	front, err := api.New(api.Config{
		GRPC: ports.operators, TLS: identity.PublicTLS(certificate.Get), HTTP: ports.http, HTTPTLS: httpTLS,
		Authenticate: b.authenticate, Audit: trail.Append, Ready: c.whyNotReady, Unavailable: func(err error) bool { return errors.Is(err, state.ErrUnavailable) },
		Register: session.NewEnrolment(cluster, admission).Register, Metrics: b.metrics(intake, samples, server), Log: c.log, Clock: c.clock,
		Resources: resources{b}, Hosts: hostsBackend{b}, Map: mapBackend{b}, Incidents: incidents{b}, Actions: actions{b}, Tokens: tokens{b},
		Query: queries{b}, Control: control{b}, Reason: reasoner{b}, Changes: changes{b}, Reviews: reviews{b}, Signals: signalsBackend{b}, Keys: ring,
	})
	if err != nil {
		return err
	}
	if err := c.firstAdmin(ctx, members, ports); err != nil {
		return err
	}

	group := &run.Group{Log: c.log}
	group.Add("state", engine.Run)
	group.Add("store", samples.Run)
	group.Add("records", d.records.run)
	group.Add("words", d.outside.words.run)
	group.Add("history", d.history.Run)
	group.Add("changes", d.changes.run)
	group.Add("ingest", intake.Run)
	group.Add("remedy", executor.Run)
	group.Add("keys", ring.run)
	group.Add("decider", d.run)
	group.Add("poll", poller.Run)
	group.Add("agents", func(ctx context.Context) error { return server.Run(ctx, ports.agents) })
	group.Add("operators", front.Run)
	c.serving.Store(true)
	close(c.ready)
	c.log.Info("collector serves", "name", c.cfg.Name, "cluster", cluster, "http", ports.http.Addr().String(), "agents", ports.agents.Addr().String(), "operators", ports.operators.Addr().String(), "caPin", members.CA().Pin().String())
	defer c.serving.Store(false)
	return group.Run(ctx)
}

func (c *Collector) whyNotReady() error {
	if !c.serving.Load() {
		return errors.New("the collector is stopping")
	}
	return nil
}

// judge finds what only the reasoning knows to be wrong: signals that there are not, conditions that cannot be met.
func judge(set *manifest.Set) []manifest.Problem {
	var out []manifest.Problem
	for r, spec := range manifest.Of[manifest.Detector](set) {
		d, err := overload.FromManifest(r.Metadata.Name, spec)
		if err == nil {
			_, err = overload.Compile([]overload.Detector{d})
		}
		if err != nil {
			out = append(out, r.ProblemAt("spec.signal", err.Error(), "evenkeel get detectors -o yaml shows those that are shipped"))
		}
	}
	return out
}

// detectors compiles all detectors of a set.
func detectors(set *manifest.Set) (*overload.Set, error) {
	all, err := overload.FromSets(set)
	if err != nil {
		return nil, err
	}
	return overload.Compile(all)
}

func (c *Collector) sealKey() string {
	if c.cfg.SealKey != "" {
		return c.cfg.SealKey
	}
	return filepath.Join(c.cfg.State, "seal.key")
}

// advertised is the host part of the addresses that go into join strings.
func (c *Collector) advertised() string {
	if c.cfg.Advertise != "" {
		return c.cfg.Advertise
	}
	return hostOf(c.cfg.Listen.Agents)
}

func hostOf(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return h
}

func portOf(l net.Listener) string {
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return ""
	}
	return p
}

func distinct(names []string) []string {
	var out []string
	seen := map[string]bool{"": true, "0.0.0.0": true, "::": true}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// ports are the listeners of the node.
type ports struct{ http, agents, operators net.Listener }

func (p *ports) close() {
	for _, l := range []net.Listener{p.http, p.agents, p.operators} {
		if l != nil {
			l.Close()
		}
	}
}

func (c *Collector) listen() (*ports, error) {
	p := &ports{}
	for _, l := range []struct {
		to      *net.Listener
		address string
		what    string
	}{{&p.http, c.cfg.Listen.HTTP, "listen.http"}, {&p.agents, c.cfg.Listen.Agents, "listen.agents"}, {&p.operators, c.cfg.Listen.Operators, "listen.operators"}} {
		listener, err := net.Listen("tcp", l.address)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("cannot listen (%s): %w", l.what, err)
		}
		*l.to = listener
	}
	return p, nil
}

// httpTLS loads the certificate of the REST port; nil where none is set.
func (c *Collector) httpTLS() (*tls.Config, error) {
	if c.cfg.HTTP.Certificate == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.cfg.HTTP.Certificate, c.cfg.HTTP.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot use http.certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// firstAdmin makes an admin's token at the first start and writes the context file that the command finds. Later starts
// only bring the addresses in it up to date.
func (c *Collector) firstAdmin(ctx context.Context, r *roster.Roster, p *ports) error {
	conf := client.Context{
		Address: net.JoinHostPort(c.reachable(c.cfg.Listen.Operators), portOf(p.operators)), CA: string(identity.EncodeCertificates(r.CA().DER())),
		REST: "http://" + net.JoinHostPort(c.reachable(c.cfg.Listen.HTTP), portOf(p.http)),
	}
	if c.cfg.HTTP.Certificate != "" {
		conf.REST = "https" + conf.REST[len("http"):]
	}
	before, err := client.Load(c.AdminFile())
	switch {
	case err == nil:
		conf.Token = before.Token
	case errors.Is(err, fs.ErrNotExist):
		_, operators, err := r.Tokens(ctx)
		if err != nil {
			return err
		}
		if len(operators) > 0 {
			return nil // there were admins before; whoever removed the file meant it
		}
		_, text, err := r.CreateOperator(ctx, "first-admin", identity.AccessAdmin, 0, "first start")
		if err != nil {
			return err
		}
		conf.Token = text
	default:
		return err
	}
	if err := client.Save(c.AdminFile(), conf); err != nil {
		return err
	}
	if before.Token == "" {
		c.log.Info("first start: the first admin's context is written; evenkeel finds it by EVENKEEL_CONTEXT, or by itself in the default folder", "file", c.AdminFile())
	}
	return nil
}

// reachable is the host part under which this machine reaches a port of its own.
func (c *Collector) reachable(address string) string {
	switch h := hostOf(address); h {
	case "", "0.0.0.0", "::":
		return "127.0.0.1"
	default:
		return h
	}
}

// relay passes what agents say to the fleet, and results to remedy.
type relay struct {
	hosts    *fleet
	executor *remedy.Executor
}

func (r *relay) Event(host string, e session.Event) {
	r.hosts.Event(host, e)
	if _, opened := e.(session.Connected); opened {
		// What this host has not answered yet is sent again; where remedy is too busy, its own tick does so later.
		ctx, cancel := context.WithTimeout(context.Background(), resendPatience)
		defer cancel()
		if err := r.executor.HostConnected(ctx, host); err != nil && !errors.Is(err, remedy.ErrStopped) {
			r.hosts.log.Warn("commands were not sent again", "host", host, "error", err)
		}
	}
}

const resendPatience = 2 * time.Second

func (r *relay) Result(ctx context.Context, host string, res command.Result) error {
	return r.executor.Result(ctx, host, res)
}

// admission is the roster as the sessions see it.
type admission struct {
	roster *roster.Roster
	agents string
	audit  *audit.Log
}

func (a *admission) Admit(ctx context.Context, who identity.Verified) error {
	return a.roster.Admit(ctx, who)
}

func (a *admission) Enrol(ctx context.Context, token, name string, csr []byte, hostTime time.Time) (session.Enrolled, error) {
	issued, err := a.roster.Enrol(ctx, token, name, csr, hostTime)
	outcome, detail := "done", ""
	if err != nil {
		outcome, detail = "denied", err.Error()
	}
	if auditErr := a.audit.Append(ctx, name, "enrol", "host/"+name, outcome, detail); auditErr != nil && err == nil {
		err = auditErr
	}
	if err != nil {
		return session.Enrolled{}, err
	}
	return session.Enrolled{Certificate: a.certificate(issued), AgentAddress: a.agents, SigningRoot: a.roster.SigningRoot()}, nil
}

func (a *admission) Renew(ctx context.Context, who identity.Verified, csr []byte) (session.Certificate, error) {
	issued, err := a.roster.Renew(ctx, who, csr)
	return a.certificate(issued), err
}

func (a *admission) certificate(i identity.Issued) session.Certificate {
	return session.Certificate{Chain: i.Chain, CA: a.roster.CA().DER()}
}

// ActionStarted, ActionEnded and Note keep an incident's timeline for remedy. They are called on its goroutine.
func (d *decider) ActionStarted(at time.Time, id, action, what string) {
	d.do(func(time.Time) { d.report(d.book.ActionStarted(at, id, action, what)) })
}

// ActionEnded says that an action is over.
func (d *decider) ActionEnded(at time.Time, id, action, what string) {
	d.do(func(time.Time) { d.report(d.book.ActionEnded(at, id, action, what)) })
}

// Note adds to an incident's timeline.
func (d *decider) Note(at time.Time, id, who, what string) {
	d.do(func(time.Time) { d.report(d.book.Note(at, id, who, what)) })
}

func (d *decider) report(i incident.Incident, err error) {
	if err != nil {
		if !errors.Is(err, incident.ErrNotFound) {
			d.log.Warn("incident was not told", "error", err)
		}
		return
	}
	d.changed(i)
}
