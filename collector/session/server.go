// Package session keeps the agents' sessions: it checks who calls, gives each agent's batches to collector/ingest, hands
// what else it says to the daemon, and sends commands, watch lists and acks back.
//
// It takes an agent's name from its certificate and from nothing that the agent says, opens no command and makes none,
// and holds no samples. One agent has one session; the newest wins. What waits for an agent is bounded: an agent that
// does not read loses its session, not the collector its memory. Run owns the server and one goroutine that sweeps the
// sessions; each session adds the goroutine that receives it, and one that sends while there is something to send.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Certificate is the answer to an enrolment or renewal. Chain holds DER, leaf first.
type Certificate struct {
	Chain [][]byte
	CA    []byte
}

// Enrolled is the answer to an enrolment.
type Enrolled struct {
	Certificate
	AgentAddress string // host:port of the agents' port
	SigningRoot  string // "ed25519:BASE64"
}

// Admission decides who belongs to the cluster. Errors that it returns are shown to the caller as they are, so each is a
// sentence that says what to do and holds no secret; those that wrap identity's errors become PermissionDenied.
type Admission interface {
	// Admit reports why the holder of a good certificate may not open a session now; nil if it may.
	Admit(ctx context.Context, who identity.Verified) error
	// Enrol exchanges a join token and a request for a certificate. hostTime is the host's clock.
	Enrol(ctx context.Context, token, host string, csr []byte, hostTime time.Time) (Enrolled, error)
	// Renew makes a fresh certificate for who, whose own may have ended.
	Renew(ctx context.Context, who identity.Verified, csr []byte) (Certificate, error)
}

// Daemon is told what agents say, in order for each host, on the goroutine that receives the host's session: while it
// works, that session waits, and no other.
type Daemon interface {
	// Event takes anything but a result.
	Event(host string, e Event)
	// Result keeps a result of the host's actor. Only after nil is the agent told that it may forget it.
	Result(ctx context.Context, host string, r command.Result) error
}

// Config of a server. Trust, Certificate, Ingest, Admission and Daemon are required.
type Config struct {
	Trust       *identity.Trust
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Revoked     func(serial string) bool // from memory; asked in handshakes and every second for each session; default: none
	Members     func() []string          // addresses of the agents' port on all collectors; default: none
	Ingest      *ingest.Ingest
	Admission   Admission
	Daemon      Daemon

	Handshakes   int           // per second; more wait; default 500
	PerAddress   int           // handshakes under way from one IP address; more are closed; default 64
	Connections  int           // in all; more are closed; default 20,000
	Queue        int           // messages that wait for one agent; when full its session ends; default 256
	Credit       int64         // bytes of backfill under way from one agent; default 256 KiB
	DrainTimeout time.Duration // how long Run waits for sessions to end; default 5 s

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: none
}

func (c *Config) fill() error {
	if c.Trust == nil || c.Certificate == nil || c.Ingest == nil || c.Admission == nil || c.Daemon == nil {
		return errors.New("cannot make a session server: trust, certificate, ingest, admission and daemon are required")
	}
	if c.Revoked == nil {
		c.Revoked = func(string) bool { return false }
	}
	if c.Members == nil {
		c.Members = func() []string { return nil }
	}
	for p, v := range map[*int]int{&c.Handshakes: 500, &c.PerAddress: 64, &c.Connections: 20_000, &c.Queue: 256} {
		if *p == 0 {
			*p = v
		}
	}
	if c.Credit == 0 {
		c.Credit = 256 << 10
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Server serves the agents' port. Its methods may be called from any goroutine.
type Server struct {
	cfg  Config
	tls  *tls.Config
	next atomic.Uint64 // session number

	mu       sync.Mutex
	sessions map[string]*session    // by host, those that take part
	ending   map[*session]time.Time // told to go; closed by force at this time
	stopping bool

	stats counters
}

type counters struct {
	opened, refused, superseded, overflows, cut, malformed atomic.Uint64
	handshakes, turnedAway                                 atomic.Uint64
}

// Stats counts since the start, but for Connected.
type Stats struct {
	Connected                                              int
	Opened, Refused, Superseded, Overflows, Cut, Malformed uint64
	Handshakes, TurnedAway                                 uint64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.sessions)
	s.mu.Unlock()
	c := &s.stats
	return Stats{
		Connected: n, Opened: c.opened.Load(), Refused: c.refused.Load(), Superseded: c.superseded.Load(), Overflows: c.overflows.Load(),
		Cut: c.cut.Load(), Malformed: c.malformed.Load(), Handshakes: c.handshakes.Load(), TurnedAway: c.turnedAway.Load(),
	}
}

// New returns a server that listens nowhere yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, sessions: map[string]*session{}, ending: map[*session]time.Time{}}
	s.tls = identity.ServerTLS(identity.ServerConfig{
		Trust: cfg.Trust, Certificate: cfg.Certificate, Revoked: cfg.Revoked, Clock: cfg.Now,
	})
	return s, nil
}

// maxMessage is the size that no message may exceed.
const maxMessage = 1 << 20

func (s *Server) options(creds *handshaker) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(codec{}),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.MaxConcurrentStreams(16),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		// Static windows turn the bandwidth estimator off; ten thousand connections that say little want small buffers.
		grpc.StaticStreamWindowSize(64 << 10),
		grpc.StaticConnWindowSize(64 << 10),
		grpc.ReadBufferSize(4 << 10),
		grpc.WriteBufferSize(4 << 10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second}),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(s.authenticateUnary),
		grpc.StreamInterceptor(s.authenticateStream),
	}
}

// Run serves agents on l until ctx ends, then asks every agent to come back later and waits for the sessions to end, for
// Config.DrainTimeout at most. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	creds := newHandshaker(s.tls, s.cfg, &s.stats)
	g := grpc.NewServer(s.options(creds)...)
	agentv1.RegisterAgentServiceServer(g, service{server: s})
	failed := make(chan error, 1)
	go func() { failed <- g.Serve(limitListener(l, s.cfg, &s.stats)) }()

	sweep := time.NewTicker(time.Second)
	defer sweep.Stop()
	for {
		select {
		case err := <-failed:
			g.Stop()
			return fmt.Errorf("cannot serve agents: %w", err)
		case <-sweep.C:
			s.sweep()
			continue
		case <-ctx.Done():
		}
		break
	}
	s.drain()
	stopped := make(chan struct{})
	go func() { g.GracefulStop(); close(stopped) }()
	deadline := time.NewTimer(s.cfg.DrainTimeout)
	defer deadline.Stop()
	select {
	case <-stopped:
	case <-deadline.C:
		g.Stop()
		<-stopped
	}
	<-failed
	return nil
}

// sweep cuts sessions whose certificate has ended or was revoked, and those that were told to go and stayed.
func (s *Server) sweep() {
	now := s.cfg.Now()
	s.mu.Lock()
	var revoked, expired, overdue []*session
	for _, x := range s.sessions {
		switch {
		case s.cfg.Revoked(x.who.Serial):
			revoked = append(revoked, x)
		case now.After(x.who.NotAfter):
			expired = append(expired, x)
		}
	}
	for x, at := range s.ending {
		if !now.Before(at) {
			overdue = append(overdue, x)
		}
	}
	s.mu.Unlock()
	for _, x := range overdue {
		x.close()
	}
	for _, x := range revoked {
		s.stats.cut.Add(1)
		s.end(x, stop("this host's certificate was revoked: enrol it again with a new token"), time.Second)
	}
	for _, x := range expired {
		s.stats.cut.Add(1)
		s.end(x, retryAfter("this host's certificate has ended: renew it", time.Second), time.Second)
	}
}

// drain asks all agents to come back later, spread so that the next process can take them at its rate of handshakes.
func (s *Server) drain() {
	s.mu.Lock()
	s.stopping = true
	all := make([]*session, 0, len(s.sessions))
	for _, x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	spread := time.Second + time.Duration(len(all))*time.Second/time.Duration(s.cfg.Handshakes)
	for _, x := range all {
		wait := time.Second + time.Duration(rand.Float64()*float64(spread))
		s.end(x, retryAfter("the collector is stopping", wait), s.cfg.DrainTimeout)
	}
}

// end takes a session out, tells its agent why, and closes its connection by force unless it goes within grace.
func (s *Server) end(x *session, why *agentv1.Refusal, grace time.Duration) {
	s.mu.Lock()
	if s.sessions[x.who.Name] == x {
		delete(s.sessions, x.who.Name)
	}
	if _, already := s.ending[x]; already || x.gone.Load() {
		s.mu.Unlock()
		return
	}
	s.ending[x] = s.cfg.Now().Add(grace)
	s.mu.Unlock()
	x.leave(why.GetReason())
	x.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Refusal{Refusal: why}})
}

// register makes x the session of its host; the one before it has to go.
func (s *Server) register(x *session) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errStopping
	}
	old := s.sessions[x.who.Name]
	s.sessions[x.who.Name] = x
	s.mu.Unlock()
	if old != nil {
		s.stats.superseded.Add(1)
		// If two machines share one certificate, the minute keeps them from pushing each other out all the time.
		s.end(old, retryAfter("another session of this host was opened", time.Minute), 2*time.Second)
	}
	return nil
}

// forget drops a session that has ended.
func (s *Server) forget(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.who.Name] == x {
		delete(s.sessions, x.who.Name)
	}
	delete(s.ending, x)
}

var errStopping = errors.New("the collector is stopping")
