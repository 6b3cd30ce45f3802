// Package loadgen is many agents in one process, with the real protocol over real sockets: each has its own certificate,
// connection and session, and all send the same recorded ticks, which are encoded once. It measures a collector, so it
// does as little as it can itself: a message is made once for all agents, and only acks are looked at.
//
// It reads no host, keeps no spool and sends nothing twice: a refusal ends the run with an error.
package loadgen

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/metric"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Config of a run. Address, Trust and Agents are required.
type Config struct {
	Address string // of the agents' port
	Trust   *identity.Trust
	Agents  []Agent
	Ticks   [][]byte      // messages from Messages; each agent sends all of them
	Pace    time.Duration // between two messages of an agent; 0: as fast as they are taken
	Dials   int           // connections made at once; default 16

	// Warm is how many of the ticks are sent first, until all agents have their ack; Warmed, if set, is called then, and
	// the time starts. A measurement of the steady state leaves the making of series out by it.
	Warm   int
	Warmed func()

	// Lead bounds how many ticks any agent is ahead of what the collector has acked, so that ticks come host by host as
	// they do in life and not many of one host at a time. A few agents speak for all: they ask for an ack with every tick.
	// 0: no bound.
	Lead int
}

// spokesmen is how many agents there are for each that asks for acks under Config.Lead.
const spokesmen = 50

// Agent is one simulated agent.
type Agent struct {
	Name string
	Cert tls.Certificate
}

// Result is what a run came to.
type Result struct {
	Connected time.Duration // until all agents were welcomed
	Elapsed   time.Duration // from the first batch after Config.Warm to the last ack
	Batches   uint64        // acked, those of Config.Warm left out
	Bytes     uint64        // of messages, likewise
}

// Issue makes n agents called PREFIX-1 and so on with certificates of a CA.
func Issue(ca *identity.CA, prefix string, n int) ([]Agent, error) {
	// One key for all of them: a thousand would take seconds, and a handshake costs the same.
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	agents := make([]Agent, n)
	for i := range agents {
		name := fmt.Sprintf("%s-%d", prefix, i+1)
		csr, err := identity.MakeCSR(key, name)
		if err != nil {
			return nil, err
		}
		c, err := ca.IssueAgent(csr, name, time.Now())
		if err != nil {
			return nil, err
		}
		agents[i] = Agent{Name: name, Cert: tls.Certificate{Certificate: c.Chain, PrivateKey: key}}
	}
	return agents, nil
}

// Enrol makes n agents with a join token that is good for as many hosts, as a real agent enrols.
func Enrol(ctx context.Context, join identity.Join, prefix string, n int) ([]Agent, *identity.Trust, error) {
	conn, err := grpc.NewClient(join.Address, grpc.WithTransportCredentials(credentials.NewTLS(identity.PinTLS(join.Pin, time.Now))))
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	c := agentv1.NewEnrolmentServiceClient(conn)
	var (
		agents = make([]Agent, n)
		ca     []byte
		key    *ecdsa.PrivateKey
	)
	for i := range agents {
		name := fmt.Sprintf("%s-%d", prefix, i+1)
		if key, err = identity.NewKey(); err != nil {
			return nil, nil, err
		}
		csr, err := identity.MakeCSR(key, name)
		if err != nil {
			return nil, nil, err
		}
		r, err := c.Enrol(ctx, &agentv1.EnrolRequest{Token: join.Token, Host: name, CsrDer: csr, AgentTimeUnixMs: time.Now().UnixMilli()})
		if err != nil {
			return nil, nil, fmt.Errorf("cannot enrol %s: %w", name, err)
		}
		agents[i], ca = Agent{Name: name, Cert: tls.Certificate{Certificate: r.GetCertificateChainDer(), PrivateKey: key}}, r.GetCaDer()
	}
	t, err := identity.NewTrust(ca)
	return agents, t, err
}

// Table makes the readings of a host: counters, byte gauges, hundredths, small integers and constants in equal parts.
type Table struct {
	t metric.Table
	x uint64
}

// NewTable returns a table of so many series of one group.
func NewTable(series int) *Table {
	t := &Table{x: 88172645463325252}
	for i := range series {
		t.t.Add(metric.Desc{
			Name: [...]string{"load_total", "load_bytes", "load_ratio", "load_queue", "load_info"}[i%5], Scale: metric.Scale{Div: 100},
			Labels: []metric.Label{{Name: "device", Value: fmt.Sprintf("d%d", i/5)}},
		})
	}
	return t
}

func (t *Table) random() int64 {
	t.x ^= t.x << 13
	t.x ^= t.x >> 7
	t.x ^= t.x << 17
	return int64(t.x >> 1)
}

// Step reads the next tick into the table, and Values returns what it reads, by series.
func (t *Table) Step() {
	for i := range t.t.Len() {
		s := metric.Slot(i)
		raw := t.t.Raw(s)
		switch i % 5 {
		case 0:
			raw += t.random() % 20_000
		case 1:
			raw = 800<<30 + 100*(t.random()%(64<<20))
		case 2:
			raw = t.random() % 10_000
		case 3:
			raw = 100 * (t.random() % 8)
		case 4:
			raw = 4200
		}
		t.t.Set(s, raw)
	}
	t.t.Ran(0)
}

// Series returns the identity of a series, and Value what it reads now: whoever feeds the same samples to something else
// takes them from here.
func (t *Table) Series(i int) metric.Desc { return *t.t.Desc(metric.Slot(i)) }

// Value returns the reading of a series as a number.
func (t *Table) Value(i int) float64 {
	return t.t.Desc(metric.Slot(i)).Value(t.t.Raw(metric.Slot(i)))
}

// Messages encodes ticks of a host from start on, step apart, and hands each to see, if that is not nil.
func Messages(series, ticks int, start time.Time, step time.Duration, see func(at time.Time, t *Table)) [][]byte {
	var (
		t   = NewTable(series)
		e   chain.Encoder
		out = make([][]byte, ticks)
	)
	for k := range ticks {
		at := start.Add(time.Duration(k) * step)
		t.Step()
		if see != nil {
			see(at, t)
		}
		frame := e.Append(nil, &t.t, at.UnixMilli(), k == 0)
		t.t.Next()
		var b []byte
		b = protowire.AppendTag(b, 2, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(k+1))
		b = protowire.AppendTag(b, 4, protowire.BytesType)
		b = protowire.AppendBytes(b, frame)
		m := protowire.AppendTag(nil, 2, protowire.BytesType)
		out[k] = protowire.AppendBytes(m, b)
	}
	return out
}

// raw is a message that is marshalled already.
type raw []byte

type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case raw:
		return mem.BufferSlice{mem.SliceBuffer(v)}, nil
	case proto.Message:
		b, err := proto.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return nil, fmt.Errorf("cannot marshal %T", v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("cannot unmarshal into %T", v)
	}
	return proto.Unmarshal(data.Materialize(), m)
}

// Run connects all agents, has each send every tick, and returns when all of them are acked.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Address == "" || cfg.Trust == nil || len(cfg.Agents) == 0 || len(cfg.Ticks) == 0 {
		return Result{}, errors.New("a run needs an address, trust, agents and ticks")
	}
	if cfg.Warm < 0 || cfg.Warm >= len(cfg.Ticks) {
		return Result{}, errors.New("fewer ticks are sent to warm up than there are")
	}
	if cfg.Dials <= 0 {
		cfg.Dials = 16
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	streams := make([]grpc.ClientStream, len(cfg.Agents))
	slots := make(chan struct{}, cfg.Dials)
	var wg sync.WaitGroup
	var conns closers
	defer conns.close()
	for i, a := range cfg.Agents {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s, err := open(ctx, cfg, a, &conns)
			if err != nil {
				cancel(fmt.Errorf("%s: %w", a.Name, err))
				return
			}
			streams[i] = s
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return Result{}, err
	}
	r := Result{Connected: time.Since(began)}
	var bytes atomic.Uint64
	start := time.Now()
	var cold sync.WaitGroup
	gate := make(chan struct{})
	p := &pack{acked: make([]uint64, (len(streams)+spokesmen-1)/spokesmen), moved: make(chan struct{})}
	cold.Add(len(streams))
	wg.Go(func() {
		cold.Wait()
		if context.Cause(ctx) != nil {
			return // send gives up by itself
		}
		if cfg.Warm > 0 && cfg.Warmed != nil {
			cfg.Warmed()
		}
		start = time.Now()
		close(gate)
	})
	for i, s := range streams {
		failed := func(err error) {
			if err != nil {
				cancel(fmt.Errorf("%s: %w", cfg.Agents[i].Name, err))
			}
		}
		wg.Go(func() {
			err := receive(s, uint64(cfg.Warm), nil)
			failed(err)
			cold.Done()
			if err == nil {
				failed(receive(s, uint64(len(cfg.Ticks)), func(seq uint64) { p.ack(i, seq) }))
			}
		})
		wg.Go(func() {
			n, err := send(ctx, s, cfg, i, gate, p)
			bytes.Add(n)
			if !errors.Is(err, io.EOF) { // the receiver knows why
				failed(err)
			}
		})
	}
	wg.Wait()
	r.Elapsed, r.Batches, r.Bytes = time.Since(start), uint64((len(cfg.Ticks)-cfg.Warm)*len(cfg.Agents)), bytes.Load()
	return r, context.Cause(ctx)
}

type closers struct {
	mu  sync.Mutex
	all []io.Closer
}

func (c *closers) add(x io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, x)
}

func (c *closers) close() {
	for _, x := range c.all {
		x.Close()
	}
}

func open(ctx context.Context, cfg Config, a Agent, conns *closers) (grpc.ClientStream, error) {
	d := &net.Dialer{}
	conn, err := grpc.NewClient("passthrough:///"+cfg.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(cfg.Trust, func() (*tls.Certificate, error) { return &a.Cert, nil }, time.Now))),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithDisableRetry(), grpc.WithIdleTimeout(0), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.WaitForReady(true)),
	)
	if err != nil {
		return nil, err
	}
	conns.add(conn)
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, agentv1.AgentService_Session_FullMethodName)
	if err != nil {
		return nil, err
	}
	hello := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: &agentv1.Hello{
		Protocol: 1, Version: "loadgen", BootId: []byte("loadgen-loadgen-"), AgentTimeUnixMs: time.Now().UnixMilli(), SpoolFirstSeq: 1,
		PeriodMs: 1000, Facts: &agentv1.HostFacts{Os: "linux", Cpus: 2},
	}}}
	if err := s.SendMsg(hello); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var m agentv1.SessionResponse
	if err := s.RecvMsg(&m); err != nil {
		return nil, err
	}
	if m.GetWelcome() == nil {
		return nil, fmt.Errorf("refused: %s", m.GetRefusal().GetReason())
	}
	return s, nil
}

// send sends every tick and asks for an ack at the end. The ticks beyond Config.Warm wait for the gate, and n counts them alone.
func send(ctx context.Context, s grpc.ClientStream, cfg Config, i int, gate <-chan struct{}, p *pack) (n uint64, err error) {
	for _, b := range cfg.Ticks[:cfg.Warm] {
		if err := s.SendMsg(raw(b)); err != nil {
			return 0, err
		}
	}
	if cfg.Warm > 0 {
		if err := s.SendMsg(wanted); err != nil {
			return 0, err
		}
	}
	select {
	case <-gate:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	var pace <-chan time.Time
	if cfg.Pace > 0 {
		// Spread over the period, as the phases of agents are.
		select {
		case <-time.After(cfg.Pace * time.Duration(i) / time.Duration(len(cfg.Agents))):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		t := time.NewTicker(cfg.Pace)
		defer t.Stop()
		pace = t.C
	}
	for k, b := range cfg.Ticks[cfg.Warm:] {
		if cfg.Lead > 0 && k >= cfg.Lead {
			if err := p.wait(ctx, uint64(cfg.Warm+k+1-cfg.Lead)); err != nil {
				return n, err
			}
		}
		if err := s.SendMsg(raw(b)); err != nil {
			return n, err
		}
		n += uint64(len(b))
		if cfg.Lead > 0 && i%spokesmen == 0 {
			if err := s.SendMsg(wanted); err != nil {
				return n, err
			}
		}
		if pace != nil {
			select {
			case <-pace:
			case <-ctx.Done():
				return n, ctx.Err()
			}
		}
	}
	return n, s.SendMsg(wanted)
}

var wanted = &agentv1.SessionRequest{Message: &agentv1.SessionRequest_AckWanted{AckWanted: &agentv1.AckWanted{}}}

// pack knows how far the agents that speak for the others are acked.
type pack struct {
	mu    sync.Mutex
	acked []uint64
	least uint64
	moved chan struct{} // closed when least grows
}

func (p *pack) ack(agent int, seq uint64) {
	if agent%spokesmen != 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked[agent/spokesmen] = seq
	if least := slices.Min(p.acked); least > p.least {
		p.least = least
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// wait returns when all of them are acked up to seq.
func (p *pack) wait(ctx context.Context, seq uint64) error {
	for {
		p.mu.Lock()
		least, moved := p.least, p.moved
		p.mu.Unlock()
		if least >= seq {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receive waits for the ack of the last tick; 0: there is none to wait for. It passes on every ack.
func receive(s grpc.ClientStream, last uint64, acked func(seq uint64)) error {
	for last > 0 {
		var m agentv1.SessionResponse
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		if r := m.GetRefusal(); r != nil {
			return fmt.Errorf("refused: %s (%d samples)", r.GetReason(), r.GetSamples())
		}
		if m.GetKeyFrame() != nil {
			return errors.New("the collector lost the chain")
		}
		seq := m.GetAck().GetSeq()
		if acked != nil && seq > 0 {
			acked(seq)
		}
		if seq >= last {
			break
		}
	}
	return nil
}
