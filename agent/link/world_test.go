package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"sort"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// authority is a CA for one test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) issue(public any, name string, life time.Duration) ([]byte, error) {
	a.n++
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.n), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now(), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, public, a.key)
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// holder is a link.Identity.
type holder struct {
	ca  *authority
	key *ecdsa.PrivateKey

	mu   sync.Mutex
	cert tls.Certificate
}

func newHolder(t testing.TB, ca *authority, life time.Duration) *holder {
	t.Helper()
	h := &holder{ca: ca, key: newKey(t)}
	der, err := ca.issue(h.key.Public(), "host-1", life)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Replace([][]byte{der}, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *holder) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: h.ca.pool(), ServerName: "collector", SessionTicketsDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			c := h.cert
			return &c, nil
		},
	}
}

func (h *holder) Leaf() *x509.Certificate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cert.Leaf
}

func (h *holder) Request() ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, h.key)
}

func (h *holder) Replace(chain [][]byte, _ []byte) error {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cert = tls.Certificate{Certificate: chain, PrivateKey: h.key, Leaf: leaf}
	return nil
}

// spool is a link.Spool in memory.
type spool struct {
	mu    sync.Mutex
	boot  link.BootID
	boots map[link.BootID][]record
	order []link.BootID
	limit uint64
}

type record struct {
	seq   uint64
	key   bool
	frame []byte
}

func newSpool(boot link.BootID) *spool {
	return &spool{boot: boot, boots: map[link.BootID][]record{boot: nil}, order: []link.BootID{boot}, limit: 1 << 40}
}

func (s *spool) append(boot link.BootID, r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.boots[boot]; !ok {
		s.order = append(s.order, boot)
	}
	s.boots[boot] = append(s.boots[boot], r)
}

func (s *spool) Ranges() []link.Range {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []link.Range
	for _, b := range s.order {
		r := link.Range{Boot: b, First: 1}
		if all := s.boots[b]; len(all) > 0 {
			r.First, r.Last = all[0].seq, all[len(all)-1].seq
		} else if b != s.boot {
			continue
		}
		out = append(out, r)
	}
	return out
}

// Ack keeps what a later batch needs to be read: everything from the last key frame on.
func (s *spool) Ack(boot link.BootID, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.boots[boot]
	cut := 0
	for i, r := range all {
		if r.seq <= seq && r.key {
			cut = i
		}
	}
	if len(all) > 0 && all[len(all)-1].seq <= seq && boot != s.boot {
		cut = len(all)
	}
	s.boots[boot] = all[cut:]
}

func (s *spool) Open(boot link.BootID, seq uint64) (link.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := uint64(0)
	for _, r := range s.boots[boot] {
		if r.key && r.seq <= seq {
			at = r.seq
		}
	}
	return &reader{s, boot, at}, nil
}

func (s *spool) Usage() (uint64, uint64, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(0)
	for _, all := range s.boots {
		for _, r := range all {
			n += uint64(len(r.frame))
		}
	}
	return n, s.limit, 0
}

type reader struct {
	s    *spool
	boot link.BootID
	next uint64
}

func (r *reader) Next() (uint64, []byte, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	all := r.s.boots[r.boot]
	i := sort.Search(len(all), func(i int) bool { return all[i].seq >= r.next })
	if i == len(all) {
		return 0, nil, io.EOF
	}
	r.next = all[i].seq + 1
	return all[i].seq, bytes.Clone(all[i].frame), nil
}

func (r *reader) Close() error { return nil }

// A frame of the tests: its kind, its seq and some bulk, so that what arrives can be checked by itself.
func makeFrame(seq uint64, key bool, bulk int) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'d'}, seq)
	if key {
		b[0], bulk = 'k', 4*bulk
	}
	return append(b, make([]byte, bulk)...)
}

// collector is the other end: it keeps what it is sent, and survives a restart of its server, as a disk would.
type collector struct {
	agentv1.UnimplementedAgentServiceServer
	t       testing.TB
	ca      *authority
	initial uint64 // credit
	ackAt   time.Duration

	mu       sync.Mutex
	own      link.BootID
	stored   map[link.BootID]map[uint64]bool
	upTo     map[link.BootID]uint64 // what contiguous found last
	problems []string
	sessions int
	open     []*peerSession
	renewals int
	order    []string // kinds of messages, as they came
	hellos   []*agentv1.Hello
	results  []*agentv1.CommandResult
	reaches  []*agentv1.ReachReport
	actors   []*agentv1.ActorReport
	exits    []*agentv1.ProcessExit
	comps    []*agentv1.ComponentReport
	live     int
	resent   int
	keeps    bool                                                    // results are answered with ResultStored
	onBatch  func(s *peerSession, b *agentv1.Batch) *agentv1.Refusal // may refuse
	onHello  func(h *agentv1.Hello) *agentv1.Refusal
	life     time.Duration // of renewed certificates
	stall    chan struct{} // while not nil, nothing is received
}

type peerSession struct {
	stream grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse]
	sendMu sync.Mutex
	credit int64
	liveAt uint64 // seq expected next on the live chain; 0: a key frame must come
	backAt map[link.BootID]uint64
}

func (s *peerSession) send(m *agentv1.SessionResponse) {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	_ = s.stream.Send(m)
}

func (c *collector) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// serve runs a server on l until the returned function is called.
func (c *collector) serve(l net.Listener) (stop func()) {
	key := newKey(c.t)
	der, err := c.ca.issue(key.Public(), "collector", 10*365*24*time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})))
	agentv1.RegisterAgentServiceServer(srv, c)
	go func() { _ = srv.Serve(l) }()
	return srv.Stop
}

func leafOf(ctx context.Context) *x509.Certificate {
	p, _ := peer.FromContext(ctx)
	return p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0]
}

func (c *collector) Renew(_ context.Context, r *agentv1.RenewRequest) (*agentv1.RenewResponse, error) {
	csr, err := x509.ParseCertificateRequest(r.GetCsrDer())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	der, err := c.ca.issue(csr.PublicKey, "host-1", c.life)
	if err != nil {
		return nil, err
	}
	c.renewals++
	return &agentv1.RenewResponse{CertificateChainDer: [][]byte{der}}, nil
}

// contiguous returns the highest seq up to which everything of the boot is stored.
func (c *collector) contiguous(boot link.BootID) uint64 {
	n := c.upTo[boot]
	for c.stored[boot][n+1] {
		n++
	}
	c.upTo[boot] = n
	return n
}

func (c *collector) Session(stream grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse]) error {
	if time.Now().After(leafOf(stream.Context()).NotAfter) {
		return status.Error(codes.Unauthenticated, "the certificate has expired")
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	h := m.GetHello()
	s := &peerSession{stream: stream, backAt: map[link.BootID]uint64{}}
	c.mu.Lock()
	c.sessions++
	if h == nil {
		c.problem("the first message is %v", m)
	}
	c.hellos = append(c.hellos, h)
	if c.onHello != nil {
		if r := c.onHello(h); r != nil {
			c.mu.Unlock()
			s.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Refusal{Refusal: r}})
			return nil
		}
	}
	copy(c.own[:], h.GetBootId())
	w := &agentv1.Welcome{CollectorTimeUnixMs: time.Now().UnixMilli(), BackfillCredit: c.initial}
	for _, id := range append([][]byte{h.GetBootId()}, bootsOf(h)...) {
		boot := link.BootID(id)
		w.Acked = append(w.Acked, &agentv1.Ack{BootId: id, Seq: c.contiguous(boot)})
	}
	s.credit = int64(c.initial)
	c.open = append(c.open, s)
	c.mu.Unlock()
	s.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: w}})

	done := make(chan struct{})
	defer close(done)
	go func() {
		tick := time.NewTicker(c.ackAt)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.ack(s)
			}
		}
	}()
	for {
		c.mu.Lock()
		stall := c.stall
		c.mu.Unlock()
		if stall != nil {
			<-stall
		}
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		c.take(s, m)
	}
}

func bootsOf(h *agentv1.Hello) (out [][]byte) {
	for _, o := range h.GetOlder() {
		out = append(out, o.GetBootId())
	}
	return out
}

func (c *collector) ack(s *peerSession) {
	c.mu.Lock()
	var acks []*agentv1.Ack
	for boot := range c.stored {
		acks = append(acks, &agentv1.Ack{BootId: boot[:], Seq: c.contiguous(boot)})
	}
	c.mu.Unlock()
	for _, a := range acks {
		s.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Ack{Ack: a}})
	}
}

func (c *collector) take(s *peerSession, m *agentv1.SessionRequest) {
	var answer *agentv1.SessionResponse
	wantAck := false
	c.mu.Lock()
	switch m := m.GetMessage().(type) {
	case *agentv1.SessionRequest_Batch:
		answer = c.batch(s, m.Batch)
	case *agentv1.SessionRequest_Heartbeat:
		c.order = append(c.order, "heartbeat")
		answer = &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Pong{Pong: &agentv1.Pong{
			AgentTimeUnixMs: m.Heartbeat.GetAgentTimeUnixMs(), CollectorTimeUnixMs: time.Now().Add(3 * time.Second).UnixMilli(),
		}}}
	case *agentv1.SessionRequest_Result:
		c.order = append(c.order, "result")
		c.results = append(c.results, m.Result)
		if c.keeps {
			answer = &agentv1.SessionResponse{Message: &agentv1.SessionResponse_ResultStored{ResultStored: &agentv1.ResultStored{
				Id: m.Result.GetId(), Ordinal: m.Result.GetOrdinal(),
			}}}
		}
	case *agentv1.SessionRequest_Actor:
		c.order = append(c.order, "actor")
		c.actors = append(c.actors, m.Actor)
	case *agentv1.SessionRequest_Components:
		c.order = append(c.order, "components")
		c.comps = append(c.comps, m.Components)
	case *agentv1.SessionRequest_Exit:
		c.order = append(c.order, "exit")
		c.exits = append(c.exits, m.Exit)
	case *agentv1.SessionRequest_Reach:
		c.reaches = append(c.reaches, m.Reach)
	case *agentv1.SessionRequest_AckWanted:
		c.order = append(c.order, "ackwanted")
		wantAck = true
	default:
		c.problem("unexpected message %v", m)
	}
	c.mu.Unlock()
	if answer != nil {
		s.send(answer)
	}
	if wantAck {
		c.ack(s)
	}
}

// batch checks the rules of both chains and stores.
func (c *collector) batch(s *peerSession, b *agentv1.Batch) *agentv1.SessionResponse {
	boot := c.own
	if len(b.GetBootId()) > 0 {
		boot = link.BootID(b.GetBootId())
	}
	key, seq := b.GetFrame()[0] == 'k', binary.BigEndian.Uint64(b.GetFrame()[1:])
	if seq != b.GetSeq() {
		c.problem("batch %d holds frame %d", b.GetSeq(), seq)
	}
	if c.onBatch != nil {
		if r := c.onBatch(s, b); r != nil {
			return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Refusal{Refusal: r}}
		}
	}
	var answer *agentv1.SessionResponse
	if b.GetBackfill() {
		c.order = append(c.order, "backfill")
		c.resent++
		if at, ok := s.backAt[boot]; !key && (!ok || seq != at) {
			c.problem("backfill of %x goes from %d to %d without a key frame", boot[:1], at-1, seq)
		}
		s.backAt[boot] = seq + 1
		if s.credit <= 0 {
			c.problem("backfill of %d without credit", seq)
		}
		s.credit -= int64(len(b.GetFrame()))
		if s.credit < int64(c.initial)/2 {
			grant := int64(c.initial) - s.credit
			s.credit += grant
			answer = &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Credit{Credit: &agentv1.Credit{Bytes: uint64(grant)}}}
		}
	} else {
		c.order = append(c.order, "live")
		c.live++
		if !key && seq != s.liveAt {
			c.problem("live goes from %d to %d without a key frame", int64(s.liveAt)-1, seq)
		}
		s.liveAt = seq + 1
	}
	if c.stored[boot] == nil {
		c.stored[boot] = map[uint64]bool{}
	}
	c.stored[boot][seq] = true
	return answer
}

// world is an agent's link and a collector on a network in memory.
type world struct {
	t     testing.TB
	net   *memnet.Network
	ca    *authority
	id    *holder
	spool *spool
	coll  *collector
	link  *link.Link
	stop  func() // of the server
	seq   uint64
	bulk  int

	mu       sync.Mutex
	commands [][]byte
	watches  [][]link.Watch
	storedID []string
}

func newWorld(t testing.TB, tune func(w *world, cfg *link.Config)) *world {
	t.Helper()
	w := &world{t: t, net: memnet.New(), ca: newAuthority(t), bulk: 200}
	boot := link.BootID{0: 7}
	w.spool = newSpool(boot)
	w.coll = &collector{
		t: t, ca: w.ca, initial: 64 << 10, ackAt: 5 * time.Second, stored: map[link.BootID]map[uint64]bool{},
		upTo: map[link.BootID]uint64{}, life: 24 * time.Hour, keeps: true,
	}
	w.id = newHolder(t, w.ca, 24*time.Hour)
	cfg := link.Config{
		Addresses: []string{"collector:8421"}, Version: "test", Boot: boot, Period: time.Second, Spool: w.spool,
		Labels: map[string]string{"role": "web"}, Facts: link.Facts{OS: "linux", CPUs: 4},
		Dial: w.net.Host("agent").Dial, Rand: func() float64 { return 0.5 },
		OnCommand: func(b []byte) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.commands = append(w.commands, b)
		},
		OnWatch: func(l []link.Watch) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.watches = append(w.watches, l)
		},
		OnStored: func(id string, ordinal uint32) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.storedID = append(w.storedID, fmt.Sprint(id, "/", ordinal))
		},
	}
	if tune != nil {
		tune(w, &cfg)
	}
	cfg.Identity = w.id
	var err error
	if w.link, err = link.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// start opens the collector and runs the link and the ticks until the returned function is called.
func (w *world) start() (end func()) {
	w.listen()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.link.Run(ctx) })
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.tick()
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
		w.stop()
		w.net.Close()
	}
}

func (w *world) listen() {
	w.t.Helper()
	l, err := w.net.Host("collector").Listen("collector:8421")
	if err != nil {
		w.t.Fatal(err)
	}
	w.stop = w.coll.serve(l)
}

// tick is what the agent does once a second.
func (w *world) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	key := w.seq%60 == 1 || w.link.KeyWanted()
	f := makeFrame(w.seq, key, w.bulk)
	w.spool.append(w.spool.boot, record{w.seq, key, f})
	w.link.Live(w.seq, key, f)
}

func (w *world) now() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq
}

// verify checks that everything up to a few seconds ago is stored, and that no rule was broken.
func (w *world) verify() {
	w.t.Helper()
	w.coll.mu.Lock()
	defer w.coll.mu.Unlock()
	for i, p := range w.coll.problems {
		if i < 10 {
			w.t.Error(p)
		}
	}
	if have, want := w.coll.contiguous(w.spool.boot), w.now(); have+2 < want {
		w.t.Errorf("the collector has everything up to %d of %d", have, want)
	}
}

// with reads or changes the collector.
func (w *world) with(f func(c *collector)) {
	w.coll.mu.Lock()
	defer w.coll.mu.Unlock()
	f(w.coll)
}

func pass(d time.Duration) { <-time.After(d) }
