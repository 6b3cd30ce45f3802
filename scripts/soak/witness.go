package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	rnd "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/metric"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
	"github.com/evenkeel/evenkeel/scripts/loadgen"
)

const (
	witnessEvery  = 250 * time.Millisecond // between two of its ticks
	witnessSeries = 12
	witnessKeys   = 40               // ticks from one key frame to the next
	witnessDrain  = 45 * time.Second // for the acks of everything, when it is told to stop
	recordFile    = "record.jsonl"
)

// note is one line of the witness's file: what was sent, written before it was, or what was acked.
type note struct {
	Seq    uint64    `json:"seq,omitempty"`
	At     int64     `json:"at,omitempty"` // ms since 1970
	Values []float64 `json:"values,omitempty"`
	Acked  uint64    `json:"acked,omitempty"` // everything up to here
	Told   string    `json:"told,omitempty"`  // a refusal
}

// bearer is an agent of its own: it makes up values, sends them by the agents' protocol, and keeps a record of both. It has
// no code in common with the agent but the protocol, the chain's encoder and the certificates.
type bearer struct {
	record *os.File
	agent  loadgen.Agent
	trust  *identity.Trust
	boot   [16]byte

	// Of the main goroutine.
	table   metric.Table
	encoder chain.Encoder
	frames  []frame // since the last key frame at or before the last ack
	seq     uint64
	acked   uint64
}

type frame struct {
	seq  uint64
	key  bool
	body []byte
}

// bearWitness enrols, and streams until ctx ends; then it waits until everything is acked.
func bearWitness(ctx context.Context, dir string, in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, 64<<10))
	if err != nil {
		return err
	}
	join, err := identity.ParseJoin(string(text))
	if err != nil {
		return err
	}
	agents, trust, address, err := enrolWitness(ctx, join)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, recordFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	b := &bearer{record: f, agent: agents, trust: trust}
	_, _ = rand.Read(b.boot[:])
	for i := range witnessSeries {
		d := metric.Desc{Name: fmt.Sprintf("soak_%d", i), Labels: []metric.Label{{Name: "kind", Value: kinds[i%len(kinds)]}}}
		switch i % len(kinds) {
		case 1:
			d.Scale = metric.Scale{Div: 100}
		case 3:
			d.Float = true
		}
		b.table.Add(d)
	}
	return b.run(ctx, address)
}

// kinds are the shapes of the series: they exercise each column of the wire.
var kinds = []string{"counter", "hundredths", "constant", "float"}

// step makes up the next values.
func (b *bearer) step() []float64 {
	values := make([]float64, b.table.Len())
	for i := range values {
		s := metric.Slot(i)
		switch i % len(kinds) {
		case 0:
			b.table.Set(s, b.table.Raw(s)+rnd.Int64N(1<<uint(4+i)))
		case 1:
			b.table.Set(s, rnd.Int64N(1_000_000)-500_000)
		case 2:
			b.table.Set(s, int64(1000+i))
		case 3:
			b.table.SetFloat(s, math.Sqrt(rnd.Float64()*1e6))
		}
		values[i] = b.table.Desc(s).Value(b.table.Raw(s))
	}
	b.table.Ran(0)
	return values
}

// write appends a line, and returns when it is on stable storage.
func (b *bearer) write(n note) error {
	line, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if _, err := b.record.Write(append(line, '\n')); err != nil {
		return err
	}
	return b.record.Sync()
}

// link is one session of the witness.
type link struct {
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[agentv1.SessionRequest, agentv1.SessionResponse]
	in     chan *agentv1.SessionResponse
	ended  chan struct{}
	cancel context.CancelFunc

	credit int64
	live   bool      // the collector has the chain so far
	cursor uint64    // the next seq of backfill
	until  uint64    // backfill ends before this seq
	paused time.Time // nothing is sent before
}

func (b *bearer) run(ctx context.Context, address string) error {
	tick := time.NewTicker(witnessEvery)
	defer tick.Stop()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	opened := make(chan *link)
	var opening sync.WaitGroup
	defer opening.Wait()
	defer end()
	var l *link
	dial := func() {
		hello := b.hello()
		opening.Go(func() {
			for life.Err() == nil {
				if got, err := b.open(life, address, hello); err == nil {
					select {
					case opened <- got:
					case <-life.Done():
						got.close()
					}
					return
				}
				_ = pause(life, time.Duration(rnd.Int64N(int64(300*time.Millisecond))))
			}
		})
	}
	dial()
	stopping, deadline := ctx.Done(), (<-chan time.Time)(nil)
	for {
		var in chan *agentv1.SessionResponse
		var ended chan struct{}
		if l != nil {
			in, ended = l.in, l.ended
		}
		select {
		case <-stopping:
			stopping, deadline = nil, time.After(witnessDrain)
			tick.Reset(time.Second)
		case <-deadline:
			return fmt.Errorf("batches %d to %d were not acked within %s", b.acked+1, b.seq, witnessDrain)
		case l = <-opened:
			b.rewind(l) // and the live chain begins with the next tick
		case m := <-in:
			if err := b.take(l, m); err != nil {
				return err
			}
		case <-ended:
			l.close()
			l = nil
			dial()
		case <-tick.C:
			if deadline == nil {
				if err := b.tick(l); err != nil {
					return err
				}
			} else if l != nil {
				if !l.live { // nothing live comes any more to end what backfill sends
					l.until = b.seq + 1
				}
				l.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_AckWanted{AckWanted: &agentv1.AckWanted{}}})
			}
		}
		if l != nil {
			b.backfill(l)
		}
		if deadline != nil && b.acked == b.seq {
			if l != nil {
				l.close()
			}
			return nil
		}
	}
}

// tick makes a batch, records it, and only then sends it.
func (b *bearer) tick(l *link) error {
	values := b.step()
	b.seq++
	at := time.Now().UnixMilli()
	start := l != nil && !l.live && time.Now().After(l.paused)
	body := b.encoder.Append(nil, &b.table, at, start || b.seq%witnessKeys == 1)
	f := frame{b.seq, b.encoder.WasKey(), body}
	b.table.Next()
	b.frames = append(b.frames, f)
	if err := b.write(note{Seq: b.seq, At: at, Values: values}); err != nil {
		return err
	}
	if l == nil {
		return nil
	}
	if start && f.key {
		l.live, l.until = true, b.seq
	}
	if l.live {
		l.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{Seq: f.seq, Frame: f.body}}})
	}
	return nil
}

// hello says what is unacked.
func (b *bearer) hello() *agentv1.SessionRequest {
	h := &agentv1.Hello{
		Protocol: 1, Version: "soak", BootId: b.boot[:], AgentTimeUnixMs: time.Now().UnixMilli(), PeriodMs: 1000,
		Facts: &agentv1.HostFacts{Os: "linux", Cpus: 1}, SpoolFirstSeq: b.acked + 1, SpoolLastSeq: b.seq,
	}
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: h}}
}

// open opens a session; its first message is the welcome.
func (b *bearer) open(ctx context.Context, address string, hello *agentv1.SessionRequest) (*link, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(b.trust, func() (*tls.Certificate, error) { return &b.agent.Cert, nil }, time.Now))))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &link{conn: conn, cancel: cancel, in: make(chan *agentv1.SessionResponse), ended: make(chan struct{})}
	slow := time.AfterFunc(10*time.Second, cancel)
	l.stream, err = agentv1.NewAgentServiceClient(conn).Session(ctx)
	var first *agentv1.SessionResponse
	if err == nil {
		if err = l.stream.Send(hello); err == nil || errors.Is(err, io.EOF) {
			first, err = l.stream.Recv()
		}
	}
	if err == nil && first.GetWelcome() == nil {
		err = fmt.Errorf("not welcome: %s", first.GetRefusal().GetReason())
	}
	if !slow.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		conn.Close()
		return nil, err
	}
	go func() {
		defer close(l.ended)
		for m := first; ; {
			select {
			case l.in <- m:
			case <-ctx.Done():
				return
			}
			if m, err = l.stream.Recv(); err != nil {
				return
			}
		}
	}()
	return l, nil
}

func (l *link) close() {
	l.cancel()
	l.conn.Close()
}

// send sends; where that fails the receiver ends the session.
func (l *link) send(m *agentv1.SessionRequest) { _ = l.stream.Send(m) }

// rewind has everything unacked sent again.
func (b *bearer) rewind(l *link) {
	l.cursor = 0
	for _, f := range b.frames {
		if f.key && (f.seq <= b.acked+1 || l.cursor == 0) {
			l.cursor = f.seq
		}
	}
	if !l.live {
		l.until = 0 // until the next live key frame
	}
}

func (b *bearer) take(l *link, m *agentv1.SessionResponse) error {
	switch m := m.GetMessage().(type) {
	case *agentv1.SessionResponse_Welcome:
		l.credit = int64(m.Welcome.GetBackfillCredit())
		for _, a := range m.Welcome.GetAcked() {
			if string(a.GetBootId()) == string(b.boot[:]) {
				if err := b.ack(a.GetSeq()); err != nil {
					return err
				}
			}
		}
	case *agentv1.SessionResponse_Ack:
		if id := m.Ack.GetBootId(); len(id) == 0 || string(id) == string(b.boot[:]) {
			return b.ack(m.Ack.GetSeq())
		}
	case *agentv1.SessionResponse_Credit:
		l.credit += int64(m.Credit.GetBytes())
	case *agentv1.SessionResponse_KeyFrame:
		l.live = false
		b.rewind(l)
	case *agentv1.SessionResponse_Refusal:
		r := m.Refusal
		if r.GetClass() == agentv1.Refusal_CLASS_RETRY_AFTER {
			l.live, l.paused = false, time.Now().Add(time.Duration(r.GetRetryAfterMs())*time.Millisecond)
			b.rewind(l)
			return nil
		}
		return b.write(note{Told: fmt.Sprintf("%s: %s", r.GetClass(), r.GetReason())})
	}
	return nil
}

// ack records what the collector promised. It forgets the frames before the last key frame that may be needed.
func (b *bearer) ack(seq uint64) error {
	if seq > b.seq {
		return fmt.Errorf("batch %d was acked, and %d is the last that there is", seq, b.seq)
	}
	if seq <= b.acked {
		return nil
	}
	b.acked = seq
	keep := 0
	for i, f := range b.frames {
		if f.key && f.seq <= b.acked+1 {
			keep = i
		}
	}
	b.frames = b.frames[keep:]
	return b.write(note{Acked: seq})
}

// backfill sends what lies before the live chain, while there is credit.
func (b *bearer) backfill(l *link) {
	if time.Now().Before(l.paused) {
		return
	}
	for _, f := range b.frames {
		if f.seq < l.cursor {
			continue
		}
		if f.seq >= l.until || l.credit <= 0 {
			return
		}
		l.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{Seq: f.seq, Backfill: true, Frame: f.body}}})
		l.credit -= int64(len(f.body))
		l.cursor = f.seq + 1
	}
}

// enrolWitness joins the cluster, and returns where agents connect.
func enrolWitness(ctx context.Context, join identity.Join) (loadgen.Agent, *identity.Trust, string, error) {
	conn, err := grpc.NewClient(join.Address, grpc.WithTransportCredentials(credentials.NewTLS(identity.PinTLS(join.Pin, time.Now))))
	if err != nil {
		return loadgen.Agent{}, nil, "", err
	}
	defer conn.Close()
	key, err := identity.NewKey()
	if err != nil {
		return loadgen.Agent{}, nil, "", err
	}
	csr, err := identity.MakeCSR(key, witnessName)
	if err != nil {
		return loadgen.Agent{}, nil, "", err
	}
	r, err := agentv1.NewEnrolmentServiceClient(conn).Enrol(ctx, &agentv1.EnrolRequest{
		Token: join.Token, Host: witnessName, CsrDer: csr, AgentTimeUnixMs: time.Now().UnixMilli(),
	})
	if err != nil {
		return loadgen.Agent{}, nil, "", fmt.Errorf("cannot enrol the witness: %w", err)
	}
	t, err := identity.NewTrust(r.GetCaDer())
	return loadgen.Agent{Name: witnessName, Cert: tls.Certificate{Certificate: r.GetCertificateChainDer(), PrivateKey: key}}, t, r.GetAgentAddress(), err
}

// testimony is what a witness's file says.
type testimony struct {
	sent  []note
	acked uint64
	told  []string
}

// readTestimony reads the file. A torn last line is what a killed witness would leave, and is no line.
func readTestimony(path string) (testimony, error) {
	var t testimony
	f, err := os.Open(path)
	if err != nil {
		return t, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var n note
		if err := json.Unmarshal(s.Bytes(), &n); err != nil {
			return t, fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case n.Acked > 0:
			t.acked = max(t.acked, n.Acked)
		case n.Told != "":
			t.told = append(t.told, n.Told)
		default:
			t.sent = append(t.sent, n)
		}
	}
	return t, nil
}
