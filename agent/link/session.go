package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// session is one open stream.
type session struct {
	link   *Link
	stream grpc.ClientStream
	cancel context.CancelCauseFunc
	slots  chan struct{} // of tries to reach other hosts
	tasks  sync.WaitGroup

	frame  frameMessage // of the batch being sent
	reader Reader       // of spans[0]; only the sender uses it, Link.mu guards the field
	turn   uint64       // value of Link.rewound that the reader was opened under
	named  []BootID     // earlier boots of the hello, where there were more than it could name; else nil
	pong   time.Time    // when the last answer came; Link.mu guards it
}

// dialOptions are those of a client that sends a message a second: small static windows and buffers, one write buffer,
// nothing retried or compressed behind our back.
func (l *Link) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(l.cfg.Identity.TLS())),
		grpc.WithContextDialer(l.cfg.Dial),
		grpc.WithStaticStreamWindowSize(64 << 10),
		grpc.WithStaticConnWindowSize(64 << 10),
		grpc.WithReadBufferSize(4 << 10),
		grpc.WithWriteBufferSize(4 << 10),
		grpc.WithMaxHeaderListSize(16 << 10),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithIdleTimeout(0),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}), grpc.MaxRetryRPCBufferSize(0), grpc.MaxCallRecvMsgSize(maxMessageBytes),
		),
	}
}

// connect opens one session and keeps it until it ends. began says whether the collector welcomed it; err is never nil.
func (l *Link) connect(ctx context.Context, address string) (began bool, err error) {
	cc, err := grpc.NewClient("passthrough:///"+address, l.dialOptions()...)
	if err != nil {
		return false, err
	}
	defer func() { _ = cc.Close() }()

	if leaf := l.cfg.Identity.Leaf(); leaf != nil && l.cfg.Now().After(leaf.NotAfter) {
		// Nothing but Renew is open to an expired certificate, and the new one needs a connection of its own.
		if err := l.renew(ctx, cc); err != nil {
			return false, err
		}
		_ = cc.Close()
		if cc, err = grpc.NewClient("passthrough:///"+address, l.dialOptions()...); err != nil {
			return false, err
		}
	}

	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{link: l, cancel: cancel, slots: make(chan struct{}, maxReaches)}
	defer s.tasks.Wait()
	defer cancel(nil)

	welcomed := time.AfterFunc(welcomeTimeout+connectTimeout, func() { cancel(errors.New("the collector did not answer in time")) })
	defer welcomed.Stop()
	desc := &grpc.StreamDesc{StreamName: "Session", ClientStreams: true, ServerStreams: true}
	s.stream, err = cc.NewStream(sctx, desc, agentv1.AgentService_Session_FullMethodName)
	if err != nil {
		return false, cause(sctx, err)
	}
	ranges, sent := l.cfg.Spool.Ranges(), l.cfg.Now()
	if len(ranges) > 1+maxOlder {
		ranges = ranges[:1+maxOlder]
		for _, r := range ranges[1:] {
			s.named = append(s.named, r.Boot)
		}
	}
	if err := s.stream.SendMsg(helloToWire(&l.cfg, ranges, sent)); err != nil && !errors.Is(err, io.EOF) {
		return false, cause(sctx, err)
	}
	first := &agentv1.SessionResponse{}
	if err := s.stream.RecvMsg(first); err != nil {
		return false, cause(sctx, err)
	}
	if r := first.GetRefusal(); r != nil {
		return false, l.refused(r)
	}
	w := first.GetWelcome()
	if w == nil {
		return false, errors.New("the collector's first message is not a welcome: it is not an Evenkeel collector of this version")
	}
	welcomed.Stop()
	l.open(s, address, w, ranges, sent)
	s.tasks.Go(func() { cancel(s.receive()) })
	s.tasks.Go(func() {
		if err := l.keepCertificate(sctx, cc); errors.Is(err, errRenewed) {
			cancel(err)
		}
	})
	err = s.send(sctx)
	l.close(s)
	cancel(err)
	return true, cause(sctx, err)
}

// cause prefers why the session's context ended over what the transport made of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// open takes what the welcome says and lets batches flow.
func (l *Link) open(s *session, address string, w *agentv1.Welcome, ranges []Range, sent time.Time) {
	now := l.cfg.Now()
	stored := map[BootID]uint64{}
	for _, a := range w.GetAcked() {
		if r, ok := ackFromWire(a, l.cfg.Boot); ok {
			stored[r.Boot] = max(stored[r.Boot], r.Last)
		}
	}
	for boot, seq := range stored {
		l.cfg.Spool.Ack(boot, seq)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
	l.spans, l.credit, l.paused = nil, int64(min(w.GetBackfillCredit(), 1<<40)), time.Time{}
	l.liveOn, l.holeFrom = false, 1
	for _, r := range ranges {
		from := max(r.First, stored[r.Boot]+1)
		if r.Boot == l.cfg.Boot {
			l.acked = max(l.acked, stored[r.Boot])
			l.holeFrom = from
			continue
		}
		if r.Last >= from {
			l.spans = append(l.spans, span{r.Boot, from, r.Last})
		}
	}
	l.out.reopen()
	l.members = boundedMembers(w.GetMembers())
	s.pong = now
	st := &l.status
	st.Connected, st.Address, st.Since, st.Error, st.Attempts = true, address, now, "", 0
	st.ClockSkew = skew(sent.UnixMilli(), w.GetCollectorTimeUnixMs(), now)
	l.cfg.Log.Info("session with the collector", "address", address, "clock_skew", st.ClockSkew, "backfill_spans", len(l.spans))
}

func boundedMembers(all []string) []string {
	var out []string
	for _, m := range all {
		if _, _, err := net.SplitHostPort(m); err == nil && len(m) < 300 && len(out) < 16 {
			out = append(out, m)
		}
	}
	return out
}

// close forgets what belonged to the session.
func (l *Link) close(s *session) {
	s.closeReader()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restartLocked(l.acked + 1)
	l.session, l.spans, l.ackWant = nil, nil, false
	l.status.Connected = false
	close(l.ackedNew)
	l.ackedNew = make(chan struct{})
}

// skew returns the collector's clock minus ours, taking the answer to have been made half way.
func skew(sentMs, theirsMs int64, now time.Time) time.Duration {
	if theirsMs == 0 {
		return 0
	}
	return time.Duration(theirsMs-(sentMs+now.UnixMilli())/2) * time.Millisecond
}

// send is the session's sender: it returns when the session has ended, with the reason.
func (s *session) send(ctx context.Context) error {
	l := s.link
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for {
		msg, batch, resume := l.next(s)
		if msg == nil && batch {
			var err error
			if msg, err = s.backfill(); err != nil {
				l.cfg.Log.Warn("cannot read the spool for backfill", "error", err)
				continue
			}
			if msg == nil {
				continue
			}
		}
		if msg != nil {
			if err := s.stream.SendMsg(msg); err != nil {
				// The reason is what the receiver gets.
				<-ctx.Done()
				return context.Cause(ctx)
			}
			select {
			case <-beat.C:
				if err := l.beat(s); err != nil {
					return err
				}
			default:
			}
			continue
		}
		var unpause <-chan time.Time
		if resume > 0 {
			unpause = time.After(resume)
		}
		select {
		case <-ctx.Done():
			_ = s.stream.CloseSend()
			return context.Cause(ctx)
		case <-beat.C:
			if err := l.beat(s); err != nil {
				return err
			}
		case <-l.wake:
		case <-unpause:
		}
	}
}

// next takes what is to be sent next: control, live, a wish for an ack, backfill (batch). Nothing: resume says how long
// until a pause is over, 0 for no pause.
func (l *Link) next(s *session) (msg any, batch bool, resume time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if msg = l.out.next(); msg != nil {
		return msg, false, 0
	}
	if l.pausedLocked() {
		return nil, false, l.paused.Sub(l.cfg.Now()) + time.Millisecond
	}
	if len(l.live) > 0 {
		b := l.live[0]
		l.live = append(l.live[:0], l.live[1:]...)
		l.status.Batches++
		l.status.Bytes += uint64(len(*b))
		if !l.asked {
			l.asked, l.ackWant = true, true
		}
		s.frame = frameMessage{data: b, pool: &l.pool}
		return &s.frame, true, 0
	}
	if l.ackWant {
		l.ackWant = false
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_AckWanted{AckWanted: &agentv1.AckWanted{}}}, false, 0
	}
	return nil, len(l.spans) > 0 && l.credit > 0, 0
}

// beat queues a heartbeat, and ends a session whose collector no longer answers.
func (l *Link) beat(s *session) error {
	bytes, limit, dropped := l.cfg.Spool.Usage()
	now := l.cfg.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if silent := now.Sub(s.pong); silent > pongTimeout {
		return fmt.Errorf("the collector has not answered for %v", silent.Round(time.Second))
	}
	l.out.heartbeat = &agentv1.Heartbeat{AgentTimeUnixMs: now.UnixMilli(), SpoolBytes: bytes, SpoolDropped: dropped}
	if limit > 0 && bytes >= limit/2 {
		l.ackWant = true
	}
	return nil
}

// receive takes what the collector sends until the stream ends, and returns why it did.
func (s *session) receive() error {
	l := s.link
	for {
		m := &agentv1.SessionResponse{}
		if err := s.stream.RecvMsg(m); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the collector ended the session")
			}
			return err
		}
		if err := s.take(m); err != nil {
			return err
		}
		l.rouse()
	}
}

// take handles one message; an error ends the session.
func (s *session) take(m *agentv1.SessionResponse) error {
	l := s.link
	switch m := m.GetMessage().(type) {
	case *agentv1.SessionResponse_Ack:
		l.ack(m.Ack)
		if s.named != nil && s.namedStored() {
			return errMore
		}
	case *agentv1.SessionResponse_Credit:
		l.mu.Lock()
		l.credit += int64(min(m.Credit.GetBytes(), 1<<40))
		l.mu.Unlock()
	case *agentv1.SessionResponse_KeyFrame:
		l.mu.Lock()
		// The collector does not say since when it cannot follow; what it acked it could.
		l.restartLocked(l.acked + 1)
		l.mu.Unlock()
		l.cfg.Log.Debug("the collector wants a key frame", "reason", m.KeyFrame.GetReason())
	case *agentv1.SessionResponse_Command:
		raw, err := proto.Marshal(m.Command)
		if err != nil || len(m.Command.GetBody()) == 0 {
			return nil // not an envelope: nobody here could make sense of it
		}
		l.cfg.OnCommand(raw)
	case *agentv1.SessionResponse_Watch:
		l.cfg.OnWatch(watchesFromWire(m.Watch))
	case *agentv1.SessionResponse_Reach:
		s.reach(m.Reach)
	case *agentv1.SessionResponse_Refusal:
		return l.refused(m.Refusal)
	case *agentv1.SessionResponse_Pong:
		now := l.cfg.Now()
		l.mu.Lock()
		s.pong = now
		l.status.ClockSkew = skew(m.Pong.GetAgentTimeUnixMs(), m.Pong.GetCollectorTimeUnixMs(), now)
		l.mu.Unlock()
	case *agentv1.SessionResponse_ResultStored:
		id, ordinal := m.ResultStored.GetId(), m.ResultStored.GetOrdinal()
		l.mu.Lock()
		l.out.stored(id, ordinal)
		l.mu.Unlock()
		l.cfg.OnStored(id, ordinal)
	}
	return nil
}

// errMore ends a session so that the hello of the next one names the earlier boots that this one could not.
var errMore = errors.New("more earlier starts have batches to send")

// namedStored reports whether everything of the earlier boots that the hello named is stored.
func (s *session) namedStored() bool {
	return !slices.ContainsFunc(s.link.cfg.Spool.Ranges(), func(r Range) bool { return slices.Contains(s.named, r.Boot) })
}

func (l *Link) ack(a *agentv1.Ack) {
	r, ok := ackFromWire(a, l.cfg.Boot)
	if !ok {
		return
	}
	l.cfg.Spool.Ack(r.Boot, r.Last)
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Boot == l.cfg.Boot && r.Last > l.acked {
		l.acked = r.Last
		l.status.AckedSeq, l.status.AckedAt = r.Last, l.cfg.Now()
	}
	close(l.ackedNew)
	l.ackedNew = make(chan struct{})
}
