package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/identity"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// home is a collector that decodes what it is sent and stores it at once.
type home struct {
	agentv1.UnimplementedAgentServiceServer
	t *testing.T

	mu     sync.Mutex
	hellos []*agentv1.Hello
	stored map[string]map[uint64]bool // by boot
	names  map[string]bool            // of series
	actor  *agentv1.ActorReport
	asked  int
	news   chan struct{} // something was stored
}

func (h *home) Session(s grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse]) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	hello := m.GetHello()
	h.mu.Lock()
	h.hellos = append(h.hellos, hello)
	h.mu.Unlock()
	err = s.Send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: &agentv1.Welcome{
		CollectorTimeUnixMs: time.Now().UnixMilli(), BackfillCredit: 1 << 20,
	}}})
	var live, back chain.Decoder
	for err == nil {
		if m, err = s.Recv(); err != nil {
			break
		}
		switch m := m.GetMessage().(type) {
		case *agentv1.SessionRequest_Batch:
			err = h.batch(s, hello, m.Batch, &live, &back)
		case *agentv1.SessionRequest_Actor:
			h.mu.Lock()
			h.actor = m.Actor
			h.mu.Unlock()
		case *agentv1.SessionRequest_AckWanted:
			h.mu.Lock()
			h.asked++
			h.mu.Unlock()
		}
	}
	return err
}

func (h *home) batch(s grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse], hello *agentv1.Hello, b *agentv1.Batch, live, back *chain.Decoder) error {
	d, boot := live, string(hello.GetBootId())
	if b.GetBackfill() {
		d = back
	}
	if len(b.GetBootId()) > 0 {
		boot = string(b.GetBootId())
	}
	if err := d.Decode(b.GetFrame()); err != nil {
		h.t.Errorf("batch %d, backfill %v: %v", b.GetSeq(), b.GetBackfill(), err)
		return nil
	}
	h.mu.Lock()
	if h.stored[boot] == nil {
		h.stored[boot] = map[uint64]bool{}
	}
	h.stored[boot][b.GetSeq()] = true
	for _, series := range d.Added() {
		h.names[series.Desc.Name] = true
	}
	first := h.first(hello, boot)
	for h.stored[boot][first] {
		first++
	}
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
	return s.Send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Ack{Ack: &agentv1.Ack{BootId: []byte(boot), Seq: first - 1}}})
}

// first returns the first batch of a boot that its agent had when it said hello.
func (h *home) first(hello *agentv1.Hello, boot string) uint64 {
	for _, o := range hello.GetOlder() {
		if string(o.GetBootId()) == boot {
			return o.GetFirstSeq()
		}
	}
	return max(1, hello.GetSpoolFirstSeq())
}

// A whole agent on this host's own /proc, with a collector on a network in memory: it measures, streams and answers, stops
// in order, and what it could not send goes out after its next start.
func TestAgent(t *testing.T) {
	w := newEnrolWorld(t)
	defer w.close()
	w.cfg.ActorSocket = filepath.Join(t.TempDir(), "none.sock")
	if _, err := agent.New(agent.Options{Config: w.cfg}); !errors.Is(err, agent.ErrNotEnrolled) {
		t.Fatalf("before enrolment: %v", err)
	}
	if _, _, err := w.enrol("web-1"); err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, stored: map[string]map[uint64]bool{}, names: map[string]bool{}, news: make(chan struct{}, 1)}
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return w.net.Host("web-1").Dial(ctx, addr) }
	start := func() (stop func() error) {
		t.Helper()
		a, err := agent.New(agent.Options{Config: w.cfg, Dial: dial})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		return func() error {
			cancel()
			return <-done
		}
	}

	// The first start finds nobody: what it reads stays in the spool.
	stop := start()
	for st := running(t, w.cfg); st.Ticks < 2; st = running(t, w.cfg) {
		<-time.After(20 * time.Millisecond)
	}
	if _, err := agent.New(agent.Options{Config: w.cfg}); err == nil || !strings.Contains(err.Error(), "another agent runs") {
		t.Errorf("a second agent in the folder: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	source, err := identity.NewServerSource(w.ca, "collector-1", nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.NewTrust(w.ca.DER())
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.net.Host("collector").Listen("collector:8421")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.ServerTLS(identity.ServerConfig{Trust: trust, Certificate: source.Get, Clock: time.Now}))))
	agentv1.RegisterAgentServiceServer(srv, h)
	go func() { _ = srv.Serve(l) }()
	defer srv.Stop()

	stop = start()
	enough := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.stored) < 2 {
			return false
		}
		for _, batches := range h.stored {
			if len(batches) < 2 {
				return false
			}
		}
		return true
	}
	patience := time.After(20 * time.Second)
	for !enough() {
		select {
		case <-h.news:
		case <-patience:
			t.Fatalf("in 20 s the collector got %v", h.stored)
		}
	}
	st := running(t, w.cfg)
	if !st.Session.Connected || st.Host != "web-1" || st.Series < 100 || st.Cluster != "cluster-1" || st.Actor.Problem == "" {
		t.Errorf("status %+v", st)
	}
	if fi, err := os.Stat(filepath.Join(w.cfg.State, "agent.sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("status socket %v, %v", fi, err)
	}
	for _, f := range agent.Doctor(t.Context(), w.cfg) {
		if f.Name == "agent" && f.Level != "ok" || f.Name == "certificate and clock" && f.Level != "ok" || f.Name == "spool" && f.Level == "fail" {
			t.Errorf("doctor: %+v", f)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	for _, want := range []string{"node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_load1", "evenkeel_agent_resident_memory_bytes"} {
		if !h.names[want] {
			t.Errorf("no series is called %s", want)
		}
	}
	hello := h.hellos[0]
	if len(hello.GetOlder()) != 1 || hello.GetFacts().GetCpus() == 0 || hello.GetPeriodMs() != 1000 {
		t.Errorf("hello %v", hello)
	}
	if h.asked == 0 || h.actor.GetPresent() || h.actor.GetProblem() == "" {
		t.Errorf("asked for an ack %d times; actor %v", h.asked, h.actor)
	}
	own := h.stored[string(hello.GetBootId())]
	last, live, err := agent.ReadStatus(w.cfg)
	if err != nil || live || !last.Stopped || uint64(len(own)) != last.Spool.LastSeq || last.Session.AckedSeq != last.Spool.LastSeq {
		t.Errorf("after the stop: live %v, stopped %v, %v; %d batches stored, acked %d of %d", live, last.Stopped, err, len(own), last.Session.AckedSeq, last.Spool.LastSeq)
	}
}

// running waits for an agent that runs.
func running(t *testing.T, cfg agent.Config) agent.Status {
	t.Helper()
	for range 500 {
		if st, live, err := agent.ReadStatus(cfg); err == nil && live {
			return st
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("no agent answers")
	return agent.Status{}
}

// A recording is a spool that an agent could send, and needs neither enrolment nor collector.
func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recording")
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
	defer cancel()
	r, err := agent.Record(ctx, agent.Default(), dir)
	if err != nil || r.Ticks < 2 || r.Series < 50 || r.Bytes < 1000 {
		t.Errorf("%+v, %v", r, err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) == 0 {
		t.Errorf("%v, %v", names, err)
	}
}

// What a socket says that is not an agent's is an error that has a text.
func TestReadStatusOfNonsense(t *testing.T) {
	cfg := agent.Default()
	cfg.State = t.TempDir()
	l, err := net.Listen("unix", filepath.Join(cfg.State, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := []string{"", "{", "[]"}
	go func() {
		for _, a := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, a)
			_ = c.Close()
		}
	}()
	for _, a := range answers {
		if _, live, err := agent.ReadStatus(cfg); err == nil || live {
			t.Errorf("%q was taken for a status", a)
		}
	}
	_ = l.Close()
	b, _ := json.Marshal(agent.Status{Host: "web-1", Stopped: true})
	if err := os.WriteFile(filepath.Join(cfg.State, "last-status.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, live, err := agent.ReadStatus(cfg); err != nil || live || st.Host != "web-1" {
		t.Errorf("%+v, %v, %v", st, live, err)
	}
}
