package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// world is a server on a network in memory, over a collector that is played by fake.
type world struct {
	*testing.T
	*fake
	server *api.Server
	net    *memnet.Network
	trust  *identity.Trust
	stop   func() error // ends the server and returns what Run returned; may be called more than once
	http   *http.Client

	mu       sync.Mutex
	audited  []string
	auditErr error
	ready    error
}

func newWorld(t *testing.T, edit ...func(*api.Config)) *world {
	t.Helper()
	f, err := newFake()
	must(t, err)
	w := &world{T: t, fake: f, net: memnet.New()}
	ca, err := identity.NewCA("keel-1", time.Now())
	must(t, err)
	w.trust = ca.Trust()
	source, err := identity.NewServerSource(ca, "c1", []string{"keel"}, time.Now)
	must(t, err)
	grpcPort, err := w.net.Host("keel").Listen("keel:8425")
	must(t, err)
	httpPort, err := w.net.Host("keel").Listen("keel:8420")
	must(t, err)
	page := api.NewMetrics()
	page.Gauge(`evenkeel_test_hosts{state="admitted"}`, "Hosts by state.", func() float64 { return 3 })
	page.Gauge(`evenkeel_test_hosts{state="pending"}`, "Hosts by state.", func() float64 { return 0.5 })
	page.Counter("evenkeel_test_calls_total", "Calls since the start.", func() uint64 { return 12 })
	cfg := api.Config{
		GRPC: grpcPort, TLS: identity.PublicTLS(source.Get), HTTP: httpPort,
		Authenticate: w.authenticate, Audit: w.audit, Ready: w.readiness, Unavailable: func(err error) bool { return errors.Is(err, errOutage) },
		Register: func(r grpc.ServiceRegistrar) {
			agentv1.RegisterEnrolmentServiceServer(r, agentv1.UnimplementedEnrolmentServiceServer{})
		},
		Metrics: page, Log: slog.New(slog.DiscardHandler), Clock: func() time.Time { return noon },
		Resources: fakeResources{f}, Hosts: fakeHosts{f}, Map: fakeMap{f}, Incidents: fakeIncidents{f}, Actions: fakeActions{f},
		Tokens: fakeTokens{f}, Query: fakeQuery{f}, Control: fakeControl{f}, Reason: fakeReason{f}, Changes: fakeChanges{f}, Reviews: fakeReviews{f}, Signals: fakeSignals{f}, Keys: fakeKeys{f},
	}
	for _, e := range edit {
		e(&cfg)
	}
	w.server, err = api.New(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.server.Run(ctx) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	transport := &http.Transport{DialContext: w.net.Host("operator").DialContext}
	w.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		w.net.Close()
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errOutage = errors.New("the state engine has no quorum")

// authenticate knows one token a role, named as the role is.
func (w *world) authenticate(_ context.Context, token string) (api.Principal, error) {
	switch token {
	case "":
		return api.Principal{}, api.ErrBadToken
	case "expired", "revoked":
		return api.Principal{}, fmt.Errorf("%w: it was %s", api.ErrBadToken, token)
	case "outage":
		return api.Principal{}, errOutage
	}
	role, err := api.ParseRole(token)
	if err != nil {
		return api.Principal{}, fmt.Errorf("%w: nobody has it", api.ErrBadToken)
	}
	return api.Principal{Name: "ada-" + token, Role: role}, nil
}

func (w *world) audit(_ context.Context, who, what, subject, outcome, detail string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.auditErr != nil {
		return w.auditErr
	}
	w.audited = append(w.audited, strings.Join([]string{who, what, subject, outcome, detail}, "|"))
	return nil
}

func (w *world) failAudit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.auditErr = errors.New("the disk is full")
}

// trail returns what was audited since the last call.
func (w *world) trail() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.audited
	w.audited = nil
	return t
}

func (w *world) readiness() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready
}

// dial connects to the gRPC port.
func (w *world) dial(more ...grpc.DialOption) *grpc.ClientConn {
	w.Helper()
	conf := identity.TrustTLS(w.trust, time.Now)
	conn, err := grpc.NewClient("passthrough:///keel:8425", append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithContextDialer(w.net.Host("operator").Dial),
	}, more...)...)
	must(w.T, err)
	w.Cleanup(func() { conn.Close() })
	return conn
}

// as returns a context that carries a token.
func (w *world) as(token string) context.Context {
	if token == "" {
		return w.Context()
	}
	return metadata.AppendToOutgoingContext(w.Context(), "authorization", "Bearer "+token)
}

// do asks the HTTP port.
func (w *world) do(method, path, token, body string) (*http.Response, string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, "http://keel:8420"+path, bytes.NewReader([]byte(body)))
	must(w.T, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := w.http.Do(r)
	must(w.T, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(w.T, err)
	return resp, string(b)
}
