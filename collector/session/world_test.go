package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	"github.com/evenkeel/evenkeel/pkg/metric"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// world is a collector's port for agents, on a network in memory.
type world struct {
	t      *testing.T
	net    *memnet.Network
	ca     *identity.CA
	store  *store.Store
	in     *ingest.Ingest
	server *session.Server
	stop   func()

	mu      sync.Mutex
	events  map[string][]session.Event
	results []command.Result
	fail    error           // what Result answers
	revoked map[string]bool // by serial
	barred  error           // what Admit answers
}

func newWorld(t *testing.T, change func(*session.Config)) *world {
	t.Helper()
	w := &world{t: t, net: memnet.New(), events: map[string][]session.Event{}, revoked: map[string]bool{}}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.ca, err = identity.NewCA("test-cluster", time.Now())
	must()
	cert, err := w.ca.IssueServer("c1", []string{"collector"}, time.Now())
	must()
	w.store, err = store.Open(context.Background(), store.Config{
		Dir: t.TempDir(), Ballast: -1, Free: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil },
	})
	must()
	w.in, err = ingest.New(ingest.Config{Store: w.store, Interval: time.Second})
	must()
	cfg := session.Config{
		Trust: w.ca.Trust(), Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Revoked: func(serial string) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.revoked[serial] },
		Members: func() []string { return []string{"collector:8421"} },
		Ingest:  w.in, Admission: w, Daemon: w,
	}
	if change != nil {
		change(&cfg)
	}
	w.server, err = session.New(cfg)
	must()
	l, err := w.net.Host("collector").Listen("collector:8421")
	must()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.store.Run(ctx) })
	wg.Go(func() { w.in.Run(ctx) })
	served, cancelServer := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.server.Run(served, l) }()
	w.stop = sync.OnceFunc(func() {
		cancelServer()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		w.stop()
		cancel()
		wg.Wait()
		w.store.Close()
		w.net.Close()
	})
	return w
}

func (w *world) Event(host string, e session.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events[host] = append(w.events[host], e)
}

func (w *world) Result(_ context.Context, _ string, r command.Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.results = append(w.results, r)
	return nil
}

func (w *world) Admit(context.Context, identity.Verified) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.barred
}

func (w *world) Enrol(_ context.Context, token, host string, csr []byte, _ time.Time) (session.Enrolled, error) {
	if token != "good" {
		return session.Enrolled{}, identity.Token{}.Matches(token)
	}
	i, err := w.ca.IssueAgent(csr, host, time.Now())
	return session.Enrolled{Certificate: session.Certificate{Chain: i.Chain, CA: w.ca.DER()}, AgentAddress: "collector:8421"}, err
}

func (w *world) Renew(_ context.Context, who identity.Verified, csr []byte) (session.Certificate, error) {
	i, err := w.ca.IssueAgent(csr, who.Name, time.Now())
	return session.Certificate{Chain: i.Chain, CA: w.ca.DER()}, err
}

// saw returns the events of one type that a host caused.
func saw[E session.Event](w *world, host string) []E {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []E
	for _, e := range w.events[host] {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// agent is the client's end, with the library's codec: the server's own must not be needed to speak to it.
type agent struct {
	w      *world
	name   string
	cert   tls.Certificate
	serial string
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[agentv1.SessionRequest, agentv1.SessionResponse]
	got    []*agentv1.SessionResponse // all but the welcome
	ended  error
	mu     sync.Mutex
	done   chan struct{}

	boot  []byte
	table metric.Table
	enc   chain.Encoder
	slot  metric.Slot
	seq   uint64
}

func (w *world) enrol(name string) *agent {
	w.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := identity.MakeCSR(key, name)
	if err != nil {
		w.t.Fatal(err)
	}
	i, err := w.ca.IssueAgent(csr, name, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	a := &agent{w: w, name: name, cert: tls.Certificate{Certificate: i.Chain, PrivateKey: key}, serial: i.Serial, boot: []byte("0123456789abcdef")}
	a.slot = a.table.Add(metric.Desc{Name: "node_load1"})
	return a
}

func (a *agent) dial() *grpc.ClientConn {
	a.w.t.Helper()
	creds := credentials.NewTLS(identity.ClientTLS(a.w.ca.Trust(), func() (*tls.Certificate, error) { return &a.cert, nil }, time.Now))
	conn, err := grpc.NewClient("passthrough:///collector:8421", grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return a.w.net.Host(a.name).Dial(ctx, addr) }))
	if err != nil {
		a.w.t.Fatal(err)
	}
	a.w.t.Cleanup(func() { conn.Close() })
	return conn
}

func (a *agent) hello() *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: &agentv1.Hello{
		Protocol: 1, Version: "1.2.3", BootId: a.boot, AgentTimeUnixMs: time.Now().UnixMilli(), SpoolFirstSeq: 1, PeriodMs: 1000,
		Facts: &agentv1.HostFacts{Os: "linux", Cpus: 2}, Labels: map[string]string{"site": "a"},
	}}}
}

// open says hello and returns the first answer.
func (a *agent) open() *agentv1.SessionResponse {
	a.w.t.Helper()
	a.conn = a.dial()
	var err error
	if a.stream, err = agentv1.NewAgentServiceClient(a.conn).Session(context.Background()); err != nil {
		a.w.t.Fatal(err)
	}
	a.send(a.hello())
	first, err := a.stream.Recv()
	if err != nil {
		a.ended = err
		return nil
	}
	a.done = make(chan struct{})
	go func() {
		defer close(a.done)
		for {
			m, err := a.stream.Recv()
			a.mu.Lock()
			if err != nil {
				a.ended = err
				a.mu.Unlock()
				return
			}
			a.got = append(a.got, m)
			a.mu.Unlock()
			if m.GetRefusal().GetClass() == agentv1.Refusal_CLASS_STOP || m.GetRefusal() != nil && m.GetRefusal().GetSeq() == 0 {
				a.stream.CloseSend() // as a real agent does
			}
		}
	}()
	return first
}

func (a *agent) send(m *agentv1.SessionRequest) {
	a.w.t.Helper()
	if err := a.stream.Send(m); err != nil {
		a.w.t.Fatal(err)
	}
}

// tick sends one live batch.
func (a *agent) tick() {
	a.w.t.Helper()
	a.seq++
	a.table.Set(a.slot, int64(a.seq))
	a.table.Ran(0)
	frame := a.enc.Append(nil, &a.table, time.Now().UnixMilli(), a.seq == 1)
	a.table.Next()
	a.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{Seq: a.seq, Frame: frame}}})
}

// answers returns what has come of one kind.
func answers[T any](a *agent, of func(*agentv1.SessionResponse) *T) []*T {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*T
	for _, m := range a.got {
		if v := of(m); v != nil {
			out = append(out, v)
		}
	}
	return out
}

var errDisk = errors.New("disk full")

func sorted(hosts []session.Host) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, h.Name)
	}
	if !slices.IsSorted(out) {
		return nil
	}
	return out
}
