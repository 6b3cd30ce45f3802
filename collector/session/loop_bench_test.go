package session_test

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/scripts/loadgen"
)

// open is an admission and a daemon that agree to everything.
type agreeable struct{}

func (agreeable) Admit(context.Context, identity.Verified) error { return nil }
func (agreeable) Enrol(context.Context, string, string, []byte, time.Time) (session.Enrolled, error) {
	return session.Enrolled{}, errDisk
}

func (agreeable) Renew(context.Context, identity.Verified, []byte) (session.Certificate, error) {
	return session.Certificate{}, errDisk
}
func (agreeable) Event(string, session.Event)                          {}
func (agreeable) Result(context.Context, string, command.Result) error { return nil }

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoopback runs a thousand agents with a hundred series each over loopback sockets with mTLS, saturated, up to
// the fsynced acks. CPU is that of both ends; the figure ingest-cpu takes that of a collector of its own.
func BenchmarkLoopback(b *testing.B) {
	const agents, series = 1000, 100
	ca, err := identity.NewCA("bench", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	cert, err := ca.IssueServer("c1", []string{"127.0.0.1"}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	st, err := store.Open(b.Context(), store.Config{Dir: b.TempDir(), Ballast: -1, MinFree: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	in, err := ingest.New(ingest.Config{Store: st, Interval: time.Second, Rate: -1})
	if err != nil {
		b.Fatal(err)
	}
	srv, err := session.New(session.Config{
		Trust: ca.Trust(), Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Ingest: in, Admission: agreeable{}, Daemon: agreeable{}, DrainTimeout: time.Second,
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { st.Run(ctx) })
	wg.Go(func() { in.Run(ctx) })
	wg.Go(func() { srv.Run(ctx, l) })
	defer func() { cancel(); wg.Wait() }()

	all, err := loadgen.Issue(ca, "host", agents)
	if err != nil {
		b.Fatal(err)
	}
	ticks := loadgen.Messages(series, max(b.N, 2), time.Now().Add(-time.Duration(b.N)*time.Second), time.Second, nil)
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	r, err := loadgen.Run(ctx, loadgen.Config{Address: l.Addr().String(), Trust: ca.Trust(), Agents: all, Ticks: ticks})
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	samples := float64(r.Batches) * series
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/samples, "cpu-ns/sample")
	b.ReportMetric(float64(r.Elapsed.Nanoseconds())/samples, "ns/sample")
	b.ReportMetric(float64(r.Bytes)/samples, "B/sample")
	b.ReportMetric(r.Connected.Seconds(), "s-connect")
	if got := in.Stats().Samples; got != uint64(samples) {
		b.Fatalf("%d samples taken, %.0f acked", got, samples)
	}
}
