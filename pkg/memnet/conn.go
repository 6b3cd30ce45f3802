package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection.
type conn struct {
	net           *Network
	local, remote Addr
	in, out       *pipe
}

// Read returns what the other end wrote; io.EOF once it has closed and all was read.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write queues b for the other end and waits while the window is full.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// Close ends both directions. What was written before still arrives.
func (c *conn) Close() error {
	c.in.set(func(p *pipe) { p.readerGone, p.data = true, nil })
	c.out.set(func(p *pipe) { p.writerGone = true })
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	// A stalled end of stream must be found by Heal, so an end stays known until the link is whole.
	if via, ok := c.net.conns[c]; ok && !c.net.cut[via] {
		delete(c.net.conns, c)
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readDeadline, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeDeadline, t)
	return nil
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
}

// pipe is one direction of a connection.
type pipe struct {
	mu    sync.Mutex
	moved *sync.Cond // any change of the fields below

	data       []byte
	stalled    bool // the link is cut: nothing arrives, neither bytes nor the end
	broken     bool // reset
	writerGone bool
	readerGone bool

	readDeadline, writeDeadline deadline
}

func newPipe() *pipe {
	p := &pipe{}
	p.moved = sync.NewCond(&p.mu)
	return p
}

// deadline is a point in time after which one side's calls fail; zero is none. The timer only wakes who waits.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (p *pipe) set(f func(p *pipe)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
	p.moved.Broadcast()
}

func (p *pipe) setDeadline(d *deadline, t time.Time) {
	p.set(func(p *pipe) {
		if d.timer != nil {
			d.timer.Stop()
			d.timer = nil
		}
		d.at = t
		if !t.IsZero() && !d.passed() {
			d.timer = time.AfterFunc(time.Until(t), func() { p.set(func(*pipe) {}) })
		}
	})
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readerGone:
			return 0, net.ErrClosed
		case p.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case p.broken:
			return 0, syscall.ECONNRESET
		case len(b) == 0:
			return 0, nil
		case p.stalled:
		case len(p.data) > 0:
			n := copy(b, p.data)
			p.data = p.data[n:]
			if len(p.data) == 0 {
				p.data = nil
			}
			p.moved.Broadcast()
			return n, nil
		case p.writerGone:
			return 0, io.EOF
		}
		p.moved.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		switch {
		case p.writerGone:
			return written, net.ErrClosed
		case p.writeDeadline.passed():
			return written, os.ErrDeadlineExceeded
		case p.broken:
			return written, syscall.ECONNRESET
		case p.readerGone && !p.stalled: // over a cut link the writer cannot know
			return written, syscall.EPIPE
		case len(b) == written:
			return written, nil
		}
		if room := window - len(p.data); room > 0 {
			n := min(room, len(b)-written)
			p.data = append(p.data, b[written:written+n]...)
			written += n
			p.moved.Broadcast()
			continue
		}
		p.moved.Wait()
	}
}
