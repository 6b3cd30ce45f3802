package session

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// helloTimeout is how long an agent may keep a stream open without a Hello.
const helloTimeout = 10 * time.Second

// session is the one stream of an agent that takes part.
type session struct {
	server *Server
	number uint64
	who    caller
	since  time.Time
	stream grpc.ServerStream
	input  *ingest.Stream
	left   int64 // of the backfill credit, in bytes
	owed   int64 // consumed and not granted again yet

	gone atomic.Bool // told to go: what it says is no longer heard

	mu      sync.Mutex
	out     []*agentv1.SessionResponse // at most Config.Queue
	sending bool                       // a goroutine is working on out
	closed  bool                       // nothing is sent any more
	reason  string                     // why it ended
	idle    sync.Cond                  // sending turned false
}

func (x *session) host() Host {
	return Host{Name: x.who.Name, Session: x.number, Address: x.who.address, Since: x.since, Serial: x.who.Serial}
}

// close ends the connection by force.
func (x *session) close() { x.who.close() }

// leave notes why the session ends; the first reason stays.
func (x *session) leave(reason string) {
	x.gone.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reason == "" {
		x.reason = reason
	}
}

// send queues a message and reports whether it is on its way. When the queue is full the session ends: its agent does
// not read, and everything that must not be lost is sent again on its next session.
func (x *session) send(m *agentv1.SessionResponse) bool {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return false
	}
	if len(x.out) >= x.server.cfg.Queue {
		x.closed, x.out = true, nil
		if x.reason == "" {
			x.reason = ErrQueueFull.Error()
		}
		x.mu.Unlock()
		x.gone.Store(true)
		x.server.stats.overflows.Add(1)
		x.close()
		return false
	}
	x.out = append(x.out, m)
	start := !x.sending
	x.sending = true
	x.mu.Unlock()
	if start {
		// A goroutine of its own for each burst: ten thousand that wait would hold ten thousand stacks.
		go x.flush()
	}
	return true
}

// flush sends what is queued, in order, until nothing is.
func (x *session) flush() {
	for {
		x.mu.Lock()
		if len(x.out) == 0 || x.closed {
			x.sending, x.out = false, nil
			x.idle.Broadcast()
			x.mu.Unlock()
			return
		}
		m := x.out[0]
		x.out = x.out[1:]
		x.mu.Unlock()
		if err := x.stream.SendMsg(m); err != nil {
			x.mu.Lock()
			x.closed = true // the receiver learns the reason
			x.mu.Unlock()
		}
	}
}

// finish waits until nobody uses the stream any more; gRPC demands that before its handler returns.
func (x *session) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for x.sending {
		x.idle.Wait()
	}
}

// Ack, Refuse and WantKey make a session the sink of its ingest.Stream.
func (x *session) Ack(boot ingest.Boot, seq uint64) { x.send(ackToWire(boot, seq)) }

// Refuse passes a refusal on.
func (x *session) Refuse(r ingest.Refusal) { x.send(refusalToWire(r)) }

// WantKey asks for a key frame.
func (x *session) WantKey(reason string) {
	x.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_KeyFrame{KeyFrame: &agentv1.KeyFrameWanted{Reason: reason}}})
}

// serve is the life of one stream.
func (s *Server) serve(stream grpc.ServerStream) error {
	who := callerOf(stream.Context())
	var in inbound
	defer in.free()

	patience := time.AfterFunc(helloTimeout, who.close)
	err := stream.RecvMsg(&in)
	patience.Stop()
	if err != nil {
		return err
	}
	hello := in.request.GetHello()
	if hello == nil {
		s.stats.malformed.Add(1)
		return status.Error(codes.InvalidArgument, "the first message of a session must be a hello")
	}
	now := s.cfg.Now()
	greeting, problem := helloFromWire(hello, now)
	if problem != "" {
		return s.refuse(stream, stop(problem))
	}
	if err := s.cfg.Admission.Admit(stream.Context(), who.Verified); err != nil {
		return s.refuse(stream, stop(err.Error()))
	}

	x := &session{server: s, number: s.next.Add(1), who: who, since: now, stream: stream, left: s.cfg.Credit}
	x.idle.L = &x.mu
	var acked []ingest.Acked
	x.input, acked = s.cfg.Ingest.Open(who.Name, greeting.ranges, x)
	defer x.input.Close()
	defer x.finish()
	// The welcome goes first: until x is registered nobody else sends, and acks wait for batches.
	if err := stream.SendMsg(welcomeToWire(who.Cluster, now, acked, s.cfg.Credit, s.cfg.Members())); err != nil {
		return err
	}
	if err := s.register(x); err != nil {
		return s.refuse(stream, retryAfter(err.Error(), time.Second))
	}
	defer s.forget(x)
	s.stats.opened.Add(1)
	greeting.connected.Session, greeting.connected.Address, greeting.connected.Serial = x.number, who.address, who.Serial
	s.cfg.Daemon.Event(who.Name, greeting.connected)

	err = x.receive(&in)
	x.gone.Store(true)
	s.cfg.Daemon.Event(who.Name, Disconnected{Session: x.number, Reason: x.why(err), At: s.cfg.Now()})
	return err
}

func (x *session) why(err error) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.reason != "":
		return x.reason
	case err == nil:
		return "the agent ended the session"
	}
	return status.Convert(err).Message()
}

// refuse answers a hello that leads to no session.
func (s *Server) refuse(stream grpc.ServerStream, r *agentv1.Refusal) error {
	s.stats.refused.Add(1)
	if err := stream.SendMsg(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Refusal{Refusal: r}}); err != nil {
		return err
	}
	return nil
}

// receive takes what the agent says until the stream ends; nil when the agent ended it.
func (x *session) receive(in *inbound) error {
	for {
		if err := x.stream.RecvMsg(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if x.gone.Load() {
			// The agent was told to go and does so by itself, or the sweep ends it; until then it is not heard.
			continue
		}
		if err := x.take(in); err != nil {
			x.server.stats.malformed.Add(1)
			return err
		}
	}
}

func (x *session) take(in *inbound) error {
	if in.isBatch {
		return x.batch(in)
	}
	s, host, now := x.server, x.who.Name, x.server.cfg.Now()
	switch m := in.request.GetMessage().(type) {
	case *agentv1.SessionRequest_Heartbeat:
		skew := now.Sub(time.UnixMilli(m.Heartbeat.GetAgentTimeUnixMs()))
		x.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Pong{Pong: &agentv1.Pong{
			AgentTimeUnixMs: m.Heartbeat.GetAgentTimeUnixMs(), CollectorTimeUnixMs: now.UnixMilli(),
		}}})
		s.cfg.Daemon.Event(host, Heartbeat{
			Session: x.number, Skew: skew, SpoolBytes: m.Heartbeat.GetSpoolBytes(), SpoolDropped: m.Heartbeat.GetSpoolDropped(), At: now,
		})
	case *agentv1.SessionRequest_Result:
		r, err := command.ResultFromProto(m.Result)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		return x.result(r)
	case *agentv1.SessionRequest_Actor:
		r, err := command.ActorReportFromProto(m.Actor)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		s.cfg.Daemon.Event(host, Actor{Report: r, At: now})
	case *agentv1.SessionRequest_Components:
		c, err := componentsFromWire(m.Components)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		c.At = now
		s.cfg.Daemon.Event(host, c)
	case *agentv1.SessionRequest_Exit:
		if len(m.Exit.GetComponent()) > maxText {
			return status.Error(codes.InvalidArgument, "component name is too long")
		}
		s.cfg.Daemon.Event(host, Exit{
			Component: m.Exit.GetComponent(), PID: int(m.Exit.GetPid()), Ended: time.UnixMilli(m.Exit.GetTimeUnixMs()).UTC(), At: now,
		})
	case *agentv1.SessionRequest_Change:
		c := m.Change
		s.cfg.Daemon.Event(host, HostChange{
			Kind: clip(c.GetKind()), Component: clip(c.GetComponent()), What: clip(c.GetWhat()), Before: clip(c.GetBefore()), After: clip(c.GetAfter()),
			Made: time.UnixMilli(c.GetTimeUnixMs()).UTC(), At: now,
		})
	case *agentv1.SessionRequest_Reach:
		r := m.Reach
		s.cfg.Daemon.Event(host, Reach{ID: clip(r.GetId()), Host: clip(r.GetHost()), Answered: r.GetAnswered(), Detail: clip(r.GetDetail()), At: now})
	case *agentv1.SessionRequest_AckWanted:
		x.input.AckWanted()
	case *agentv1.SessionRequest_Hello:
		return status.Error(codes.InvalidArgument, "a session has one hello")
	default:
		// A later version of the protocol may know more; what is not known here is not missed.
	}
	return nil
}

// result keeps a result and only then lets the actor forget it. If it cannot be kept, the agent sends it again on its
// next session, and the actor holds it until then.
func (x *session) result(r command.Result) error {
	ctx, cancel := context.WithTimeout(x.stream.Context(), 10*time.Second)
	defer cancel()
	if err := x.server.cfg.Daemon.Result(ctx, x.who.Name, r); err != nil {
		x.server.cfg.Log.Warn("cannot keep a result", "host", x.who.Name, "command", r.ID, "error", err)
		return nil
	}
	x.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_ResultStored{
		ResultStored: &agentv1.ResultStored{Id: r.ID, Ordinal: r.Ordinal},
	}})
	return nil
}

func (x *session) batch(in *inbound) error {
	b := &in.batch
	if b.Backfill {
		// The agent stops at zero, within one frame; whoever does not stop is not an agent of ours.
		if x.left += -int64(len(b.Frame)); x.left < -maxMessage {
			return status.Error(codes.ResourceExhausted, "backfill is beyond its credit")
		}
	}
	if err := x.input.Push(b); err != nil {
		if errors.Is(err, ingest.ErrClosed) {
			// A newer one has taken over. If it failed before it could say so, this one is told here.
			x.server.end(x, retryAfter("another session of this host was opened", time.Second), 2*time.Second)
			return nil
		}
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if b.Backfill {
		// Granted again in quarters of the whole, so that credit does not cost a message for each batch.
		if x.owed += int64(len(b.Frame)); x.owed >= x.server.cfg.Credit/4 {
			x.left += x.owed
			x.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Credit{Credit: &agentv1.Credit{Bytes: uint64(x.owed)}}})
			x.owed = 0
		}
	}
	return nil
}
