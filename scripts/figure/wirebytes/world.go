package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/scripts/record/replay"
)

const host = "recorded"

// world is an agent's link and a collector's session server with its store, joined by a TCP connection.
type world struct {
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	link   *link.Link
	store  *store.Store
	conn   atomic.Pointer[countingConn]
	now    atomic.Int64 // of the replay, ms: what the collector's ingest takes for the time

	sending atomic.Pointer[replay.Tick]
	arrived chan error
}

func newWorld(ctx context.Context, dir string) (*world, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &world{cancel: cancel, arrived: make(chan error, 1)}
	w.now.Store(time.Now().UnixMilli())
	if err := w.start(ctx, dir); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context, dir string) error {
	ca, err := identity.NewCA(identity.NewClusterID(), time.Now())
	if err != nil {
		return err
	}
	server, err := identity.NewServerSource(ca, "collector-1", []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return err
	}
	card, err := newCard(ca)
	if err != nil {
		return err
	}
	if w.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(dir, "store"), Ballast: -1, MinFree: 1 << 20}); err != nil {
		return err
	}
	in, err := ingest.New(ingest.Config{
		Store: w.store, Observer: w, Interval: time.Second, Now: func() time.Time { return time.UnixMilli(w.now.Load()) }, Rate: -1,
		// The acks of a real session come each 5 s; the clock of this one runs with the replay.
	})
	if err != nil {
		return err
	}
	sessions, err := session.New(session.Config{
		Trust: ca.Trust(), Certificate: server.Get, Ingest: in, Admission: everyone{}, Daemon: everyone{},
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.link, err = link.New(link.Config{
		Addresses: []string{l.Addr().String()}, Version: "figure", Boot: link.BootID{1}, Period: time.Second,
		Facts: link.Facts{OS: "linux", Platform: "debian", Kernel: "6.1.0", Arch: "amd64", Cgroup: "v2", CPUs: 2, MemoryBytes: 8 << 30},
		Spool: noSpool{}, Identity: card,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			counted := &countingConn{TCPConn: c.(*net.TCPConn)}
			w.conn.Store(counted)
			return counted, nil
		},
	})
	if err != nil {
		return err
	}
	w.tasks.Go(func() { _ = w.store.Run(ctx) })
	w.tasks.Go(func() { _ = in.Run(ctx) })
	w.tasks.Go(func() { _ = sessions.Run(ctx, l) })
	w.tasks.Go(func() { _ = w.link.Run(ctx) })
	for end := time.Now().Add(20 * time.Second); !w.link.Status().Connected; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("no session: %s", w.link.Status().Error)
		}
	}
	return nil
}

func (w *world) stop() {
	w.cancel()
	w.tasks.Wait()
	if w.store != nil {
		_ = w.store.Close()
	}
}

// send offers one batch to the link and waits until the collector has decoded it, so that no two share a TLS record that
// would not do so at one tick a second.
func (w *world) send(seq uint64, key bool, frame []byte, t replay.Tick) error {
	w.now.Store(t.At)
	w.sending.Store(&t)
	w.link.Live(seq, key, frame)
	select {
	case err := <-w.arrived:
		return err
	case <-time.After(10 * time.Second):
		return fmt.Errorf("batch %d did not arrive: %s", seq, w.link.Status().Error)
	}
}

// Observe is told by the collector of each tick as it arrived.
func (w *world) Observe(k ingest.Tick) {
	t := w.sending.Load()
	err := same(t.Table, k.State)
	if err == nil && k.At.UnixMilli() != t.At {
		err = errors.New("the tick arrived with another time")
	}
	w.arrived <- err
}

// idleCost is what a session costs a second in which no batch is sent: heartbeats and their answers.
type idleCost struct{ seconds, sent, plain, received, segments float64 }

func (w *world) watchIdle(d time.Duration) (idleCost, error) {
	before, err := w.counters()
	if err != nil {
		return idleCost{}, err
	}
	began := time.Now()
	time.Sleep(d)
	after, err := w.counters()
	if err != nil {
		return idleCost{}, err
	}
	s := time.Since(began).Seconds()
	return idleCost{
		seconds: s, sent: float64(after.sent-before.sent) / s, plain: float64(after.plain-before.plain) / s,
		received: float64(after.received-before.received) / s, segments: float64(after.segments-before.segments) / s,
	}, nil
}

// card is an agent's identity, issued by the world's own authority.
type card struct {
	trust *identity.Trust
	key   *ecdsa.PrivateKey
	cert  tls.Certificate
}

func newCard(ca *identity.CA) (*card, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := identity.MakeCSR(key, host)
	if err != nil {
		return nil, err
	}
	issued, err := ca.IssueAgent(csr, host, time.Now())
	if err != nil {
		return nil, err
	}
	c := &card{trust: ca.Trust(), key: key, cert: tls.Certificate{Certificate: issued.Chain, PrivateKey: key}}
	c.cert.Leaf, err = x509.ParseCertificate(issued.Chain[0])
	return c, err
}

func (c *card) TLS() *tls.Config {
	return identity.ClientTLS(c.trust, func() (*tls.Certificate, error) { return &c.cert, nil }, time.Now)
}

func (c *card) Leaf() *x509.Certificate { return c.cert.Leaf }

func (c *card) Request() ([]byte, error) { return identity.MakeCSR(c.key, host) }

func (c *card) Replace([][]byte, []byte) error { return errors.New("this certificate is not renewed") }

// noSpool holds nothing: the replay waits for each batch to arrive.
type noSpool struct{}

func (noSpool) Ranges() []link.Range                          { return nil }
func (noSpool) Ack(link.BootID, uint64)                       {}
func (noSpool) Open(link.BootID, uint64) (link.Reader, error) { return nil, io.EOF }
func (noSpool) Usage() (bytes, limit, dropped uint64)         { return 100 << 20, 1 << 30, 0 }

// everyone admits the one agent and takes no interest in what it says beside its batches.
type everyone struct{}

func (everyone) Admit(context.Context, identity.Verified) error { return nil }

func (everyone) Enrol(context.Context, string, string, []byte, time.Time) (session.Enrolled, error) {
	return session.Enrolled{}, errors.New("nobody enrols here")
}

func (everyone) Renew(context.Context, identity.Verified, []byte) (session.Certificate, error) {
	return session.Certificate{}, errors.New("nobody renews here")
}

func (everyone) Event(string, session.Event) {}

func (everyone) Result(context.Context, string, command.Result) error { return nil }
