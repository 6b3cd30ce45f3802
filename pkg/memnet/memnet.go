// Package memnet is a network in memory for tests: named hosts, listeners, connections, and links that can be cut,
// healed and reset. It opens no socket, so it runs inside a testing/synctest bubble and needs no free port.
//
// It never blocks for good on a peer that has stopped: a dial to nobody is refused, a write to a closed end fails, a
// dial or a stalled read ends with its context, its deadline or Network.Close. It owns no goroutine.
//
//	net := memnet.New()
//	l, _ := net.Host("collector").Listen("collector:8421")
//	conn, _ := net.Host("agent-1").Dial(ctx, "collector:8421")
//	net.Cut("agent-1", "collector")
package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// backlog bounds the connections that a listener has not accepted yet; when full, a dial waits.
	backlog = 128
	// window bounds the bytes under way in each direction; when full, a write waits, as TCP's does.
	window = 256 << 10
	// dialTimeout ends a dial over a cut link whose context has no deadline of its own.
	dialTimeout = 30 * time.Second
)

// Addr is an address of the network: "host:port".
type Addr string

// Network returns "mem".
func (Addr) Network() string { return "mem" }

// String returns the address as it was given.
func (a Addr) String() string { return string(a) }

func (a Addr) host() string {
	if i := strings.LastIndexByte(string(a), ':'); i >= 0 {
		return string(a[:i])
	}
	return string(a)
}

// Network is a set of hosts that reach each other until a link is cut. Use New; it may be used from many goroutines.
type Network struct {
	mu        sync.Mutex
	closed    bool
	listeners map[Addr]*listener
	cut       map[link]bool
	conns     map[*conn]link // one entry per end
	changed   chan struct{}  // closed and replaced when a link heals, a listener opens or the network closes
	nextPort  int
}

// link is a pair of host names in order.
type link struct{ a, b string }

func linkOf(a, b string) link {
	if a > b {
		a, b = b, a
	}
	return link{a, b}
}

// New returns an empty network. In a synctest bubble it must be made inside the bubble.
func New() *Network {
	return &Network{
		listeners: map[Addr]*listener{}, cut: map[link]bool{}, conns: map[*conn]link{},
		changed: make(chan struct{}), nextPort: 40000,
	}
}

// Host is one machine of a Network: what it dials and hears comes and goes under its name.
type Host struct {
	net  *Network
	name string
}

// Host returns the machine called name. There is nothing to create: the same name is the same machine.
func (n *Network) Host(name string) Host { return Host{n, name} }

// Listen opens addr, whose host must be h's name. Port 0 picks a free one. It fails if addr is in use.
func (h Host) Listen(addr string) (net.Listener, error) {
	a := Addr(addr)
	if a.host() != h.name {
		return nil, opError("listen", a, fmt.Errorf("%w: host %q cannot listen there", syscall.EADDRNOTAVAIL, h.name))
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, opError("listen", a, net.ErrClosed)
	}
	if strings.HasSuffix(addr, ":0") {
		a = n.portLocked(h.name)
	}
	if n.listeners[a] != nil {
		return nil, opError("listen", a, syscall.EADDRINUSE)
	}
	l := &listener{net: n, addr: a, queue: make(chan *conn, backlog), done: make(chan struct{})}
	n.listeners[a] = l
	return l, nil
}

// portLocked returns an address of the host that was not given out before.
func (n *Network) portLocked(host string) Addr {
	n.nextPort++
	return Addr(fmt.Sprintf("%s:%d", host, n.nextPort))
}

// Dial connects to addr. It has the shape that grpc.WithContextDialer wants (with a target of
// "passthrough:///host:port"). Nobody listening there is a refusal; over a cut link it waits for the link to heal, the
// end of ctx, or 30 s.
func (h Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, dialTimeout, syscall.ETIMEDOUT)
		defer cancel()
	}
	a := Addr(addr)
	for {
		c, wait, err := h.net.connect(h.name, a)
		if err != nil {
			return nil, opError("dial", a, err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, opError("dial", a, context.Cause(ctx))
		}
	}
}

// DialContext is Dial with the network's name, which is not looked at, as http.Transport wants it.
func (h Host) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	return h.Dial(ctx, addr)
}

// connect makes a connection, or returns a channel that closes when it is worth trying again.
func (n *Network) connect(from string, to Addr) (*conn, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, nil, net.ErrClosed
	}
	via := linkOf(from, to.host())
	if n.cut[via] {
		return nil, n.changed, nil
	}
	l := n.listeners[to]
	if l == nil {
		return nil, nil, syscall.ECONNREFUSED
	}
	local := n.portLocked(from)
	there, back := newPipe(), newPipe()
	near := &conn{net: n, local: local, remote: to, in: back, out: there}
	far := &conn{net: n, local: to, remote: local, in: there, out: back}
	select {
	case l.queue <- far:
	default:
		return nil, n.changed, nil
	}
	n.conns[near], n.conns[far] = via, via
	return near, nil, nil
}

// wakeLocked lets waiting dials try again.
func (n *Network) wakeLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Cut stops all traffic between hosts a and b, as a pulled cable does: nothing is lost or refused, it just does not
// arrive, the end of a connection included. Cutting twice is cutting once.
func (n *Network) Cut(a, b string) { n.setCut(linkOf(a, b), true) }

// Heal undoes Cut: what was under way arrives.
func (n *Network) Heal(a, b string) { n.setCut(linkOf(a, b), false) }

func (n *Network) setCut(via link, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.cut[via] = true
	} else {
		delete(n.cut, via)
		n.wakeLocked()
	}
	for c, l := range n.conns {
		if l == via {
			gone := false
			c.in.set(func(p *pipe) { p.stalled, gone = cut, p.readerGone })
			if gone && !cut {
				delete(n.conns, c)
			}
		}
	}
}

// Reset breaks every connection between hosts a and b: both ends get ECONNRESET at once. New ones can be made.
func (n *Network) Reset(a, b string) {
	via := linkOf(a, b)
	n.mu.Lock()
	defer n.mu.Unlock()
	for c, l := range n.conns {
		if l == via {
			c.in.set(func(p *pipe) { p.broken = true })
			delete(n.conns, c)
		}
	}
}

// Close closes every listener and resets every connection; what is blocked returns. Later calls fail.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	n.wakeLocked()
	var open []*listener
	for _, l := range n.listeners {
		open = append(open, l)
	}
	for c := range n.conns {
		c.in.set(func(p *pipe) { p.broken = true })
		delete(n.conns, c)
	}
	n.mu.Unlock()
	for _, l := range open {
		_ = l.Close()
	}
}

type listener struct {
	net   *Network
	addr  Addr
	queue chan *conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

// Accept waits for a connection or Close.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, opError("accept", l.addr, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.queue:
		l.net.mu.Lock()
		l.net.wakeLocked() // there is room again
		l.net.mu.Unlock()
		return c, nil
	case <-l.done:
		return nil, opError("accept", l.addr, net.ErrClosed)
	}
}

// Close stops listening. Connections that nobody accepted are reset.
func (l *listener) Close() error {
	err := opError("close", l.addr, net.ErrClosed)
	l.once.Do(func() {
		err = nil
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.addr)
		close(l.done)
		l.net.wakeLocked()
		for {
			select {
			case c := <-l.queue:
				c.in.set(func(p *pipe) { p.broken = true })
				c.out.set(func(p *pipe) { p.broken = true })
				delete(l.net.conns, c)
			default:
				return
			}
		}
	})
	return err
}

func (l *listener) Addr() net.Addr { return l.addr }

func opError(op string, a Addr, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = os.ErrDeadlineExceeded
	}
	return &net.OpError{Op: op, Net: "mem", Addr: a, Err: err}
}
