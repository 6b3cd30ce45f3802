package agentcheck

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Responder is what answers load balancers.
type Responder struct {
	Dir string // default DefaultDir
	// Name is answered for whatever the load balancer sends. Empty: it must send a name and a newline (agent-send).
	Name string
	// Farewell is how long 100% is answered before the responder goes: longer than the load balancers' agent-inter, so
	// that none keeps an older share. Default 5 s.
	Farewell time.Duration
	Log      *slog.Logger
	now      func() time.Duration
}

// Bounds of a conversation.
const (
	mostPeers       = 64
	patience        = time.Second
	defaultFarewell = 5 * time.Second
)

// Address checks where a responder may listen: a port of one named address, for a wildcard would open it to networks
// that nobody thought of.
func Address(s string) error {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return fmt.Errorf("%q is not of the form 10.0.0.7:8426", s)
	}
	if a.Addr().IsUnspecified() {
		return fmt.Errorf("%q is every address of this host: name the one that the load balancers use", s)
	}
	return nil
}

// Serve answers until ctx ends, then says 100% to everybody for the time of Farewell. It closes l.
func (r Responder) Serve(ctx context.Context, l net.Listener) error {
	if r.Dir == "" {
		r.Dir = DefaultDir
	}
	if r.Farewell <= 0 {
		r.Farewell = defaultFarewell
	}
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = traffic.Boottime
	}
	if r.Name != "" {
		if err := (command.Target{AgentCheck: r.Name}).Validate(); err != nil {
			return err
		}
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	over, gone := context.WithCancel(context.WithoutCancel(ctx))
	defer gone()
	wait.Go(func() {
		select {
		case <-ctx.Done():
			t := time.NewTimer(r.Farewell)
			defer t.Stop()
			select {
			case <-t.C:
			case <-over.Done():
			}
		case <-over.Done():
		}
		gone()
		l.Close()
	})
	seats := make(chan struct{}, mostPeers) // beyond which a peer is cut off at once
	for {
		conn, err := l.Accept()
		if err != nil {
			if over.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("cannot accept: %w", err)
		}
		select {
		case seats <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		wait.Go(func() {
			defer func() { <-seats }()
			defer conn.Close()
			r.answer(ctx, conn)
		})
	}
}

// answer says one percentage. A name that cannot be one is not answered.
func (r Responder) answer(ctx context.Context, conn net.Conn) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	name := r.Name
	if name == "" {
		line, err := bufio.NewReader(io.LimitReader(conn, 2*maxText)).ReadString('\n')
		name = strings.TrimSpace(line)
		if err != nil || (command.Target{AgentCheck: name}).Validate() != nil || name == "" {
			return
		}
	}
	percent := int64(100)
	if ctx.Err() == nil {
		var err error
		if percent, err = read(r.Dir, name, r.now()); err != nil {
			r.Log.Warn("cannot read a share: 100% is answered", "name", name, "error", err)
		}
	}
	fmt.Fprintf(conn, "%d%%\n", percent)
}
