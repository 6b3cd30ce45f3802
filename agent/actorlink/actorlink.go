// Package actorlink carries sealed envelopes from the link to the actor of this host, over the actor's unix socket, and
// carries the actor's results and reports back.
//
// It opens none of what it carries, makes no command, and changes nothing on the host: the actor judges and acts. Without
// an actor it says so and goes on looking for one.
//
// Run owns one goroutine and, while it is connected, one that reads.
package actorlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

const (
	// MaxFrame bounds a frame on the socket, in bytes.
	MaxFrame = 1 << 20
	// queue bounds the frames that wait for the actor. When full the newest is dropped and counted: a command that the
	// actor did not accept is the collector's to repeat, and a result that it did not see stored comes again.
	queue        = 64
	writeTimeout = 5 * time.Second
	firstRetry   = 500 * time.Millisecond
	lastRetry    = 5 * time.Second
)

// Config says what a Client is made of.
type Config struct {
	Socket string // path of the actor's socket
	Host   string // agent id
	// OnReport receives each report of the actor, an agentv1.ActorReport; OnAbsent why there is none, once for each
	// reason; OnResult each result, an agentv1.CommandResult. They are called from one goroutine and must not block.
	OnReport func(report []byte)
	OnAbsent func(problem string)
	OnResult func(id string, ordinal uint32, raw []byte)
	// Dial connects to the socket. Default: net.Dialer.
	Dial func(ctx context.Context) (net.Conn, error)
	Log  *slog.Logger // default: discard
}

// Client is the agent's end of the actor's socket. Its methods may be called from any goroutine.
type Client struct {
	cfg Config
	out chan *agentv1.ActorFrame

	mu     sync.Mutex
	status Status
}

// Status is a snapshot of a client.
type Status struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Problem   string    `json:"problem,omitempty"`
	Commands  uint64    `json:"commands"` // handed to the actor
	Results   uint64    `json:"results"`
	Dropped   uint64    `json:"dropped"` // for want of an actor or of room
}

// New returns a client that is not connected.
func New(cfg Config) (*Client, error) {
	if cfg.Socket == "" && cfg.Dial == nil {
		return nil, errors.New("cannot make an actor link: no socket")
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: writeTimeout}).DialContext(ctx, "unix", cfg.Socket)
		}
	}
	if cfg.OnReport == nil {
		cfg.OnReport = func([]byte) {}
	}
	if cfg.OnAbsent == nil {
		cfg.OnAbsent = func(string) {}
	}
	if cfg.OnResult == nil {
		cfg.OnResult = func(string, uint32, []byte) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, out: make(chan *agentv1.ActorFrame, queue), status: Status{Since: time.Now()}}, nil
}

// Run keeps a connection to the actor until ctx ends. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	retry := firstRetry
	for {
		met, err := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if met {
			retry = firstRetry
		}
		c.absent(problem(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
		retry = min(2*retry, lastRetry)
	}
}

// problem says why there is no actor.
func problem(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no actor is installed or running on this host"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the actor is not running"
	case errors.Is(err, fs.ErrPermission):
		return "the actor's socket is closed to this agent: name the agent's user in the actor's configuration"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the actor closed the connection: it has stopped, or does not accept this agent's user"
	}
	return "the actor cannot be reached: " + err.Error()
}

// absent takes note that there is no actor, and drops what waits for it: an old command must not meet a new actor.
func (c *Client) absent(why string) {
	dropped := uint64(0)
	for empty := false; !empty; {
		select {
		case f := <-c.out:
			if f.GetCommand() != nil {
				dropped++
			}
		default:
			empty = true
		}
	}
	c.mu.Lock()
	news := c.status.Problem != why
	if c.status.Connected {
		c.status.Since = time.Now()
	}
	c.status.Connected, c.status.Problem = false, why
	c.status.Dropped += dropped
	c.mu.Unlock()
	if news {
		c.cfg.Log.Info("no actor", "reason", why)
		c.cfg.OnAbsent(why)
	}
}

// connect keeps one connection until it ends. met says whether the actor reported; err is never nil.
func (c *Client) connect(ctx context.Context) (met bool, err error) {
	conn, err := c.cfg.Dial(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	hello := &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Hello{Hello: &agentv1.ActorHello{Host: c.cfg.Host}}}
	if err := write(conn, hello); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := c.read(conn, &met)
		cancel()
		ended <- err
	}()
	for {
		select {
		case <-ctx.Done():
			_ = conn.Close()
			err := <-ended
			return met, err
		case f := <-c.out:
			if err := write(conn, f); err != nil {
				_ = conn.Close()
				<-ended
				return met, err
			}
			if f.GetCommand() != nil {
				c.mu.Lock()
				c.status.Commands++
				c.mu.Unlock()
			}
		}
	}
}

// read takes what the actor says until the connection ends.
func (c *Client) read(conn net.Conn, met *bool) error {
	for {
		f, err := read(conn)
		if err != nil {
			return err
		}
		switch f := f.GetFrame().(type) {
		case *agentv1.ActorFrame_Report:
			*met = true
			c.mu.Lock()
			if !c.status.Connected {
				c.status.Since = time.Now()
			}
			c.status.Connected, c.status.Problem = true, ""
			c.mu.Unlock()
			c.cfg.OnReport(f.Report)
		case *agentv1.ActorFrame_Result:
			raw, err := proto.Marshal(f.Result)
			if err != nil {
				continue
			}
			c.mu.Lock()
			c.status.Results++
			c.mu.Unlock()
			c.cfg.OnResult(f.Result.GetId(), f.Result.GetOrdinal(), raw)
		}
	}
}

// Command hands a signed command, an agentv1.SignedCommand as it came, to the actor. Without an actor it is dropped and
// counted.
func (c *Client) Command(signed []byte) {
	m := &agentv1.SignedCommand{}
	if err := proto.Unmarshal(signed, m); err != nil {
		c.drop()
		return
	}
	if c.Status().Connected {
		c.put(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Command{Command: m}})
	} else {
		c.drop()
	}
}

// Stored tells the actor that the collector has stored a result.
func (c *Client) Stored(id string, ordinal uint32) {
	if c.Status().Connected {
		c.put(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Stored{Stored: &agentv1.ResultAck{Id: id, Ordinal: ordinal}}})
	}
}

func (c *Client) put(f *agentv1.ActorFrame) {
	select {
	case c.out <- f:
	default:
		c.drop()
	}
}

func (c *Client) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Dropped++
}

// Status returns a snapshot.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func write(conn net.Conn, f *agentv1.ActorFrame) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4, 256), f)
	if err != nil {
		return err
	}
	if len(b)-4 > MaxFrame {
		return fmt.Errorf("frame of %d bytes is over the limit of %d", len(b)-4, MaxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

func read(conn net.Conn) (*agentv1.ActorFrame, error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes is over the limit of %d", n, MaxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		return nil, err
	}
	f := &agentv1.ActorFrame{}
	return f, proto.Unmarshal(b, f)
}
