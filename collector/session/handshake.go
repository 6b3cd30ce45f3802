package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"google.golang.org/grpc"

	"github.com/evenkeel/evenkeel/pkg/identity"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// handshaker is gRPC's TLS with a limit on the handshakes under way from one address, so that whoever opens sockets and
// says nothing keeps only his own neighbours out, for the 5 s that a handshake may last.
type handshaker struct {
	credentials.TransportCredentials
	most  int
	stats *counters

	mu       sync.Mutex
	underWay map[string]int
}

func newHandshaker(cfg *tls.Config, c Config, stats *counters) *handshaker {
	return &handshaker{TransportCredentials: credentials.NewTLS(cfg), most: c.PerAddress, stats: stats, underWay: map[string]int{}}
}

var errTooMany = errors.New("too many handshakes under way from this address")

// ServerHandshake adds to the connection's AuthInfo a way to close it.
func (h *handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	from := raw.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	h.mu.Lock()
	if h.underWay[from] >= h.most {
		h.mu.Unlock()
		h.stats.turnedAway.Add(1)
		raw.Close()
		return nil, nil, errTooMany
	}
	h.underWay[from]++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.underWay[from]--; h.underWay[from] == 0 {
			delete(h.underWay, from)
		}
	}()
	h.stats.handshakes.Add(1)
	conn, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	t, ok := info.(credentials.TLSInfo)
	if !ok {
		conn.Close()
		return nil, nil, errors.New("connection without TLS")
	}
	return conn, authInfo{TLSInfo: t, close: func() { raw.Close() }}, nil
}

type authInfo struct {
	credentials.TLSInfo
	close func()
}

// whoKey is the context key of the caller.
type whoKey struct{}

type caller struct {
	identity.Verified
	address string
	close   func()
}

func callerOf(ctx context.Context) caller {
	c, ok := ctx.Value(whoKey{}).(caller)
	if !ok {
		panic("BUG: session: a method was reached without authentication")
	}
	return c
}

// authenticate returns who calls. A certificate that has ended opens Renew and nothing else, and a method that is not
// known here opens for nobody.
func (s *Server) authenticate(ctx context.Context, method string) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(authInfo)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no certificate")
	}
	who, err := s.cfg.Trust.Agent(info.State, s.cfg.Now())
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	if s.cfg.Revoked(who.Serial) {
		return nil, status.Error(codes.PermissionDenied, "the certificate of host "+who.Name+" was revoked: enrol it again with a new token")
	}
	switch method {
	case agentv1.AgentService_Renew_FullMethodName:
	case agentv1.AgentService_Session_FullMethodName:
		if who.Expired {
			return nil, status.Error(codes.Unauthenticated, "the certificate has ended: renew it first")
		}
	default:
		return nil, status.Error(codes.PermissionDenied, "no such method for agents")
	}
	return context.WithValue(ctx, whoKey{}, caller{Verified: who, address: p.Addr.String(), close: info.close}), nil
}

func (s *Server) authenticateUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authenticate(ctx, info.FullMethod)
	if err != nil {
		s.stats.refused.Add(1)
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) authenticateStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.authenticate(stream.Context(), info.FullMethod)
	if err != nil {
		s.stats.refused.Add(1)
		return err
	}
	return next(srv, authenticated{stream, ctx})
}

type authenticated struct {
	grpc.ServerStream
	ctx context.Context
}

func (a authenticated) Context() context.Context { return a.ctx }

// limitListener accepts connections at a bounded rate, and closes those beyond the number that may be open.
func limitListener(l net.Listener, c Config, stats *counters) net.Listener {
	return &limited{
		Listener: l, every: time.Second / time.Duration(c.Handshakes), burst: time.Second / 4,
		open: make(chan struct{}, c.Connections), done: make(chan struct{}), stats: stats,
	}
}

type limited struct {
	net.Listener
	every, burst time.Duration
	open         chan struct{}
	stats        *counters

	due  time.Time // when the next connection may be accepted; only Accept touches it
	once sync.Once
	done chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		if wait := time.Until(l.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-l.done:
			}
		}
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		// Up to a burst's worth of connections may come at once.
		if floor := time.Now().Add(-l.burst); l.due.Before(floor) {
			l.due = floor
		}
		l.due = l.due.Add(l.every)
		select {
		case l.open <- struct{}{}:
			return &counted{Conn: c, open: l.open}, nil
		default:
			l.stats.turnedAway.Add(1)
			c.Close()
		}
	}
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	open chan struct{}
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { <-c.open })
	return c.Conn.Close()
}
