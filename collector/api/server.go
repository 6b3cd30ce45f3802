// Package api serves operators: gRPC on one port, and on another the same calls as REST, the process' own metrics, and
// the health and readiness of the collector.
//
// It decides nothing. Each service asks one small interface, declared here, that the collector joins to the package that
// knows. Every call needs a token and a role, but for enrolment and the two health pages; a method that is not in the
// table of access.go is refused to everybody. Run owns all goroutines.
package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/evenkeel/evenkeel/pkg/memnet"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// ErrBadToken is wrapped by Authenticate's error when the token is missing, unknown, expired or revoked.
var ErrBadToken = errors.New("no usable token was sent")

// Config is what a Server needs. All fields are needed unless they say otherwise.
type Config struct {
	// GRPC is the operators' port, not yet wrapped in TLS; TLS is its server side.
	GRPC net.Listener
	TLS  *tls.Config
	// HTTP is the REST port. HTTPTLS may be nil on loopback only.
	HTTP    net.Listener
	HTTPTLS *tls.Config

	// Authenticate says whose token this is. An error that wraps ErrBadToken is a refusal, any other an outage.
	Authenticate func(ctx context.Context, token string) (Principal, error)
	// Audit records one thing done or denied. Calls that change something are refused while it fails.
	Audit func(ctx context.Context, who, what, subject, outcome, detail string) error
	// Ready returns nil when the collector can serve, or why it cannot yet.
	Ready func() error
	// Unavailable says of a backend's error that trying again later may help. It may be nil.
	Unavailable func(error) bool
	// Register adds services of other packages to the operators' port: enrolment.
	Register func(grpc.ServiceRegistrar)
	Metrics  *Metrics
	Log      *slog.Logger
	Clock    func() time.Time

	Resources Resources
	Hosts     Hosts
	Map       Map
	Incidents Incidents
	Actions   Actions
	Tokens    Tokens
	Query     Query
	Control   Control
	Reason    Reason
	Changes   Changes
	Reviews   Reviews
	Signals   Signals
	Keys      Keys
}

// Server serves the operators' API.
type Server struct {
	cfg    Config
	grpc   *grpc.Server
	inside *memnet.Network
	// stopping is closed when Run ends, and ends the streams that would go on for ever.
	stopping chan struct{}

	deliveries deliveries
}

// Limits of the operators' port: a client that goes past them hurts itself only.
const (
	maxStreams     = 64
	maxReceive     = 16 << 20
	maxHeaders     = 16 << 10
	connectTimeout = 5 * time.Second
	stopTimeout    = 3 * time.Second
)

// New checks the configuration and prepares the server; nothing is served before Run.
func New(cfg Config) (*Server, error) {
	if cfg.TLS == nil {
		return nil, errors.New("the operators' gRPC port needs a certificate")
	}
	if cfg.HTTPTLS == nil && !loopback(cfg.HTTP.Addr()) {
		return nil, fmt.Errorf("refusing to serve HTTP on %s without a certificate: bind it to 127.0.0.1, or set http.certificate and http.key", cfg.HTTP.Addr())
	}
	s := &Server{cfg: cfg, inside: memnet.New(), stopping: make(chan struct{}), deliveries: newDeliveries(cfg.Metrics)}
	s.grpc = grpc.NewServer(
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxRecvMsgSize(maxReceive), grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
	)
	operatorv1.RegisterResourceServiceServer(s.grpc, &resources{server: s})
	operatorv1.RegisterHostServiceServer(s.grpc, &hosts{server: s})
	operatorv1.RegisterMapServiceServer(s.grpc, &mapService{server: s})
	operatorv1.RegisterIncidentServiceServer(s.grpc, &incidents{server: s})
	operatorv1.RegisterActionServiceServer(s.grpc, &actions{server: s})
	operatorv1.RegisterAccessServiceServer(s.grpc, &access{server: s})
	operatorv1.RegisterQueryServiceServer(s.grpc, &query{server: s})
	operatorv1.RegisterControlServiceServer(s.grpc, &control{server: s})
	operatorv1.RegisterReasonServiceServer(s.grpc, &reasoner{server: s})
	operatorv1.RegisterChangeServiceServer(s.grpc, &changes{server: s})
	operatorv1.RegisterReviewServiceServer(s.grpc, &reviews{server: s})
	operatorv1.RegisterSignalServiceServer(s.grpc, &signals{server: s})
	operatorv1.RegisterKeyServiceServer(s.grpc, &keys{server: s})
	if cfg.Register != nil {
		cfg.Register(s.grpc)
	}
	return s, nil
}

func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return !ok || t.IP.IsLoopback()
}

// Run serves until ctx ends, then lets running calls finish for a short while.
func (s *Server) Run(ctx context.Context) error {
	// REST reaches the same gRPC server through memory, so that one chain of checks serves both.
	inside, err := s.inside.Host("rest").Listen("rest:1")
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///rest:1",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(s.inside.Host("gateway").Dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	handler, err := s.rest(ctx, conn)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler: handler, TLSConfig: s.cfg.HTTPTLS, ReadHeaderTimeout: connectTimeout, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeaders, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}

	ended := make(chan error, 3)
	go func() { ended <- s.grpc.Serve(inside) }()
	go func() {
		conf := s.cfg.TLS.Clone()
		conf.NextProtos = []string{"h2"}
		ended <- s.grpc.Serve(tls.NewListener(s.cfg.GRPC, conf))
	}()
	go func() {
		var err error
		if s.cfg.HTTPTLS != nil {
			err = web.ServeTLS(s.cfg.HTTP, "", "")
		} else {
			err = web.Serve(s.cfg.HTTP)
		}
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		ended <- err
	}()

	var failed error
	left := 3
	select {
	case <-ctx.Done():
	case failed = <-ended:
		left--
	}
	close(s.stopping)
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if web.Shutdown(patience) != nil {
		web.Close()
	}
	stopped := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(stopped) }()
	select {
	case <-stopped:
	case <-patience.Done():
		s.grpc.Stop()
		<-stopped
	}
	for range left {
		failed = errors.Join(failed, <-ended)
	}
	if ctx.Err() != nil {
		return nil
	}
	return failed
}

// rest is everything on the HTTP port.
func (s *Server) rest(ctx context.Context, conn *grpc.ClientConn) (http.Handler, error) {
	gateway := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &canonical{}),
		runtime.WithErrorHandler(restError), runtime.WithRoutingErrorHandler(noRoute), strictQueries,
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		operatorv1.RegisterResourceServiceHandler, operatorv1.RegisterHostServiceHandler, operatorv1.RegisterMapServiceHandler,
		operatorv1.RegisterIncidentServiceHandler, operatorv1.RegisterActionServiceHandler, operatorv1.RegisterAccessServiceHandler,
		operatorv1.RegisterQueryServiceHandler, operatorv1.RegisterControlServiceHandler,
		operatorv1.RegisterReasonServiceHandler, operatorv1.RegisterChangeServiceHandler, operatorv1.RegisterSignalServiceHandler,
		operatorv1.RegisterReviewServiceHandler,
		operatorv1.RegisterKeyServiceHandler,
	} {
		if err := register(ctx, gateway, conn); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/", limited(gateway))
	s.webhooks(mux)
	mux.HandleFunc("GET /api/v1/openapi.json", s.only(Viewer, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(operatorv1.OpenAPI)
	}))
	mux.HandleFunc("GET /metrics", s.only(Viewer, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.cfg.Metrics.write(w)
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.cfg.Ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return headers(mux), nil
}

// limited refuses a body that is too large: at once where its length is told, else when it gets there.
func limited(next http.Handler) http.Handler {
	next = http.MaxBytesHandler(next, maxReceive)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxReceive {
			writeError(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a request has at most %d MiB", maxReceive>>20))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headers sets on every answer what no page of ours needs relaxed.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// only guards a page that is not a gRPC method.
func (s *Server) only(role Role, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		const prefix = "Bearer "
		token := r.Header.Get("Authorization")
		if len(token) > len(prefix) && token[:len(prefix)] == prefix {
			token = token[len(prefix):]
		} else {
			token = ""
		}
		p, err := s.cfg.Authenticate(r.Context(), token)
		switch {
		case errors.Is(err, ErrBadToken):
			s.deny(r.Context(), Principal{Name: "unknown"}, r.URL.Path, err.Error())
			writeError(w, http.StatusUnauthorized, "unauthenticated", err.Error())
		case err != nil:
			writeError(w, http.StatusServiceUnavailable, "unavailable", err.Error())
		case !p.Role.May(role):
			s.deny(r.Context(), p, r.URL.Path, "needs the role "+role.String())
			writeError(w, http.StatusForbidden, "permission_denied", "this needs the role "+role.String())
		default:
			next(w, r)
		}
	}
}

func writeError(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": text})
}
