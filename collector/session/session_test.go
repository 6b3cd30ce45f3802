package session_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// in runs a test in a bubble with a world of its own.
func in(t *testing.T, change func(*session.Config), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, change)) })
}

func settle(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestSessionFromHelloToAck(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		a := w.enrol("web-1")
		welcome := a.open().GetWelcome()
		if welcome.GetClusterId() != "test-cluster" || welcome.GetBackfillCredit() == 0 || len(welcome.GetMembers()) != 1 {
			t.Fatalf("welcome %v", welcome)
		}
		a.tick()
		settle(3 * time.Second)
		if acks := answers(a, (*agentv1.SessionResponse).GetAck); len(acks) != 1 || acks[0].GetSeq() != 1 {
			t.Fatalf("acks %v, want one for the first batch", acks)
		}
		for range 9 {
			a.tick()
			settle(time.Second)
		}
		if acks := answers(a, (*agentv1.SessionResponse).GetAck); len(acks) < 2 || len(acks) > 4 {
			t.Errorf("%d acks in 12 seconds, want one every 5", len(acks))
		}
		a.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_AckWanted{AckWanted: &agentv1.AckWanted{}}})
		settle(100 * time.Millisecond)
		acks := answers(a, (*agentv1.SessionResponse).GetAck)
		if last := acks[len(acks)-1]; last.GetSeq() != 10 || string(last.GetBootId()) != string(a.boot) {
			t.Errorf("the ack that was asked for is %v", last)
		}
		r, err := w.store.Query(t.Context(), `node_load1{instance="web-1"}`, time.Now())
		if err != nil || len(r.Series) != 1 || r.Series[0].Points[0].Value != 10 {
			t.Errorf("stored %+v, %v", r, err)
		}
		c := saw[session.Connected](w, "web-1")
		if len(c) != 1 || c[0].Version != "1.2.3" || c[0].Facts.CPUs != 2 || c[0].Period != time.Second || c[0].Labels["site"] != "a" || c[0].Serial != a.serial {
			t.Errorf("connected %+v", c)
		}
		if h := w.server.Hosts(); len(h) != 1 || h[0].Name != "web-1" {
			t.Errorf("hosts %+v", h)
		}
		a.stream.CloseSend()
		settle(time.Second)
		if d := saw[session.Disconnected](w, "web-1"); len(d) != 1 || d[0].Session != c[0].Session || len(w.server.Hosts()) != 0 {
			t.Errorf("disconnected %+v", d)
		}
	})
}

func TestControlBothWays(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		a, b := w.enrol("b"), w.enrol("a")
		a.open()
		b.open()
		settle(time.Second)
		if got := sorted(w.server.Hosts()); len(got) != 2 {
			t.Fatalf("hosts %v", got)
		}
		env := command.Envelope{Body: []byte("sealed")}
		if err := w.server.Send("nobody", env); err != session.ErrNotConnected {
			t.Errorf("a host that is not there: %v", err)
		}
		n := w.server.Broadcast(func(host string) (command.Envelope, bool) { return env, host == "b" })
		w.server.SendWatch("b", []session.Watch{{Component: "component/web", Target: command.Target{Unit: "web.service"}}, {Component: "component/x"}})
		w.server.SendReach("b", "r1", "c", "c:22")
		settle(time.Second)
		if got := answers(a, (*agentv1.SessionResponse).GetCommand); n != 1 || len(got) != 1 || string(got[0].GetBody()) != "sealed" {
			t.Errorf("commands %v to %d hosts", got, n)
		}
		if got := answers(b, (*agentv1.SessionResponse).GetCommand); len(got) != 0 {
			t.Error("a command went to another host")
		}
		if got := answers(a, (*agentv1.SessionResponse).GetWatch); len(got) != 1 || got[0].GetWatches()[0].GetTarget().GetUnit() != "web.service" || got[0].GetWatches()[1].GetTarget() != nil {
			t.Errorf("watch list %v", got)
		}
		if got := answers(a, (*agentv1.SessionResponse).GetReach); len(got) != 1 || got[0].GetAddress() != "c:22" {
			t.Errorf("reach %v", got)
		}
		now := time.Now()
		for _, m := range []*agentv1.SessionRequest{
			{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{AgentTimeUnixMs: now.Add(-time.Minute).UnixMilli(), SpoolBytes: 7}}},
			{Message: &agentv1.SessionRequest_Actor{Actor: &agentv1.ActorReport{Present: true, MaxRisk: "R1"}}},
			{Message: &agentv1.SessionRequest_Components{Components: &agentv1.ComponentReport{Places: []*agentv1.ComponentPlace{{Component: "component/web", Running: true, Processes: 3}}}}},
			{Message: &agentv1.SessionRequest_Exit{Exit: &agentv1.ProcessExit{Component: "component/web", Pid: 9, TimeUnixMs: now.UnixMilli()}}},
			{Message: &agentv1.SessionRequest_Change{Change: &agentv1.HostChange{Kind: "package", What: "nginx", Before: "1", After: "2", TimeUnixMs: now.UnixMilli()}}},
			{Message: &agentv1.SessionRequest_Reach{Reach: &agentv1.ReachReport{Id: "r1", Host: "c", Answered: true}}},
		} {
			a.send(m)
		}
		settle(time.Second)
		if e := saw[session.Heartbeat](w, "b"); len(e) != 1 || e[0].SpoolBytes != 7 || e[0].Skew < time.Minute {
			t.Errorf("heartbeat %+v", e)
		}
		if got := answers(a, (*agentv1.SessionResponse).GetPong); len(got) != 1 || got[0].GetAgentTimeUnixMs() != now.Add(-time.Minute).UnixMilli() {
			t.Errorf("pong %v", got)
		}
		if e := saw[session.Actor](w, "b"); len(e) != 1 || e[0].Report.MaxRisk != command.R1 {
			t.Errorf("actor %+v", e)
		}
		if e := saw[session.Components](w, "b"); len(e) != 1 || e[0].Places[0].Processes != 3 {
			t.Errorf("components %+v", e)
		}
		if e := saw[session.Exit](w, "b"); len(e) != 1 || e[0].PID != 9 {
			t.Errorf("exit %+v", e)
		}
		if e := saw[session.HostChange](w, "b"); len(e) != 1 || e[0].Kind != "package" || e[0].Before != "1" || e[0].After != "2" || e[0].Made.UnixMilli() != now.UnixMilli() {
			t.Errorf("change %+v", e)
		}
		if e := saw[session.Reach](w, "b"); len(e) != 1 || !e[0].Answered {
			t.Errorf("reach %+v", e)
		}
	})
}

func TestResultIsForgottenByTheActorOnlyOnceStored(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		a := w.enrol("web-1")
		a.open()
		result := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Result{Result: &agentv1.CommandResult{
			Id: "01J", Ordinal: 4, Phase: agentv1.CommandResult_PHASE_APPLIED, TimeUnixMs: time.Now().UnixMilli(),
		}}}
		w.mu.Lock()
		w.fail = errDisk
		w.mu.Unlock()
		a.send(result)
		settle(time.Second)
		if got := answers(a, (*agentv1.SessionResponse).GetResultStored); len(got) != 0 {
			t.Fatal("told stored though it was not")
		}
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		a.send(result)
		settle(time.Second)
		if got := answers(a, (*agentv1.SessionResponse).GetResultStored); len(got) != 1 || got[0].GetId() != "01J" || got[0].GetOrdinal() != 4 {
			t.Fatalf("stored %v", got)
		}
		if len(w.results) != 1 || w.results[0].Phase != command.Applied {
			t.Errorf("results %+v", w.results)
		}
	})
}

func TestNewestSessionWins(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		a := w.enrol("web-1")
		a.open()
		settle(time.Second)
		twin := w.enrol("web-1")
		twin.open()
		settle(5 * time.Second)
		got := answers(a, (*agentv1.SessionResponse).GetRefusal)
		if len(got) != 1 || got[0].GetClass() != agentv1.Refusal_CLASS_RETRY_AFTER || got[0].GetRetryAfterMs() < 1000 {
			t.Fatalf("the old session was told %v", got)
		}
		<-a.done
		if h := w.server.Hosts(); len(h) != 1 || h[0].Session != 2 {
			t.Errorf("hosts %+v", h)
		}
		if d := saw[session.Disconnected](w, "web-1"); len(d) != 1 || d[0].Session != 1 {
			t.Errorf("disconnected %+v", d)
		}
		twin.tick()
		settle(time.Second)
		if len(answers(twin, (*agentv1.SessionResponse).GetAck)) != 1 {
			t.Error("the new session is not served")
		}
	})
}

func TestRevokedAndExpiredAreCutWithinFiveSeconds(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		a, b := w.enrol("revoked"), w.enrol("expired")
		a.open()
		b.open()
		settle(time.Hour)
		w.mu.Lock()
		w.revoked[a.serial] = true
		w.mu.Unlock()
		start := time.Now()
		<-a.done
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("cut after %s", d)
		}
		if got := answers(a, (*agentv1.SessionResponse).GetRefusal); len(got) != 1 || got[0].GetClass() != agentv1.Refusal_CLASS_STOP {
			t.Errorf("told %v", got)
		}
		if a.openFails() != codes.Unavailable { // the handshake itself is refused
			t.Error("a revoked certificate opens a connection")
		}
		<-b.done
		if d := time.Since(start); d < 22*time.Hour || d > 23*time.Hour+5*time.Second {
			t.Errorf("the certificate of a day was cut after %s", d+time.Hour)
		}
		// Expired: Renew and nothing else.
		conn := b.dial()
		key, _ := identity.NewKey()
		csr, _ := identity.MakeCSR(key, "expired")
		r, err := agentv1.NewAgentServiceClient(conn).Renew(t.Context(), &agentv1.RenewRequest{CsrDer: csr})
		if err != nil || len(r.GetCertificateChainDer()) == 0 {
			t.Errorf("renew: %v", err)
		}
		if code := b.openFails(); code != codes.Unauthenticated {
			t.Errorf("an expired certificate opened a session: %v", code)
		}
	})
}

// openFails opens a session and returns the code that it fails with.
func (a *agent) openFails() codes.Code {
	conn := a.dial()
	s, err := agentv1.NewAgentServiceClient(conn).Session(context.Background())
	if err == nil {
		s.Send(a.hello())
		_, err = s.Recv()
	}
	return status.Code(err)
}

func TestRefusedHellos(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		for name, m := range map[string]*agentv1.Hello{
			"protocol": {Protocol: 9, BootId: make([]byte, 16)},
			"boot":     {Protocol: 1, BootId: []byte("short")},
			"older":    {Protocol: 1, BootId: make([]byte, 16), Older: []*agentv1.BootRange{{BootId: []byte("x")}}},
		} {
			a := w.enrol("web-1")
			s, err := agentv1.NewAgentServiceClient(a.dial()).Session(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: m}})
			r, err := s.Recv()
			if err != nil || r.GetRefusal().GetClass() != agentv1.Refusal_CLASS_STOP {
				t.Errorf("%s: %v, %v", name, r, err)
			}
		}
		a := w.enrol("web-1")
		s, _ := agentv1.NewAgentServiceClient(a.dial()).Session(t.Context())
		s.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
		if _, err := s.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a heartbeat first: %v", err)
		}
		w.mu.Lock()
		w.barred = errDisk
		w.mu.Unlock()
		if r := a.open(); r.GetRefusal().GetReason() != errDisk.Error() {
			t.Errorf("a barred host got %v", r)
		}
		if len(w.server.Hosts()) != 0 || len(w.events) != 0 {
			t.Error("a refused hello left a trace")
		}
		// Silence is no hello either.
		start := time.Now()
		s, _ = agentv1.NewAgentServiceClient(a.dial()).Session(t.Context())
		if _, err := s.Recv(); err == nil || time.Since(start) > 11*time.Second {
			t.Errorf("a silent stream lasted %s: %v", time.Since(start), err)
		}
	})
}

func TestAgentThatDoesNotReadLosesItsSession(t *testing.T) {
	in(t, func(c *session.Config) { c.Queue = 8 }, func(t *testing.T, w *world) {
		a := w.enrol("web-1")
		conn := a.dial()
		s, err := agentv1.NewAgentServiceClient(conn).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Send(a.hello())
		settle(time.Second)
		big := command.Envelope{Body: make([]byte, 200<<10)} // four fill the windows
		for err = nil; err == nil; {
			err = w.server.Send("web-1", big)
			synctest.Wait()
		}
		if err != session.ErrQueueFull || w.server.Stats().Overflows != 1 {
			t.Fatalf("%v, %+v", err, w.server.Stats())
		}
		settle(time.Second)
		if len(w.server.Hosts()) != 0 {
			t.Error("it is still connected")
		}
	})
}

func TestDrainAsksAgentsToComeBack(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		a, b := w.enrol("a"), w.enrol("b")
		a.open()
		b.open()
		settle(time.Second)
		start := time.Now()
		w.stop()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("stopping took %s", d)
		}
		for _, x := range []*agent{a, b} {
			got := answers(x, (*agentv1.SessionResponse).GetRefusal)
			if len(got) != 1 || got[0].GetClass() != agentv1.Refusal_CLASS_RETRY_AFTER || got[0].GetRetryAfterMs() < 1000 {
				t.Errorf("%s was told %v", x.name, got)
			}
			if len(saw[session.Disconnected](w, x.name)) != 1 {
				t.Errorf("%s: no end", x.name)
			}
		}
	})
}

func TestBackfillCredit(t *testing.T) {
	in(t, func(c *session.Config) { c.Credit = 4 << 10 }, func(t *testing.T, w *world) {
		a := w.enrol("web-1")
		a.open()
		frame := make([]byte, 600<<10)
		send := func() error {
			return a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{Seq: 1, Backfill: true, Frame: frame}}})
		}
		send()
		settle(time.Second)
		if got := answers(a, (*agentv1.SessionResponse).GetCredit); len(got) != 1 || got[0].GetBytes() != 600<<10 {
			t.Fatalf("credit %v", got)
		}
	})
}

func TestHandshakesPerAddress(t *testing.T) {
	in(t, func(c *session.Config) { c.PerAddress = 2 }, func(t *testing.T, w *world) {
		for range 5 { // say nothing
			c, err := w.net.Host("evil").Dial(t.Context(), "collector:8421")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		settle(time.Second)
		if st := w.server.Stats(); st.TurnedAway != 3 {
			t.Errorf("turned away %d, want 3", st.TurnedAway)
		}
		a := w.enrol("good")
		if a.open().GetWelcome() == nil {
			t.Error("an honest agent was kept out")
		}
	})
}

func TestEnrolment(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		l, err := w.net.Host("collector").Listen("collector:8425")
		if err != nil {
			t.Fatal(err)
		}
		g := grpc.NewServer()
		session.NewEnrolment("test-cluster", w).Register(g)
		go g.Serve(l)
		defer g.Stop()
		conn, err := grpc.NewClient("passthrough:///collector:8425", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return w.net.Host("new").Dial(ctx, addr) }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := agentv1.NewEnrolmentServiceClient(conn)
		key, _ := identity.NewKey()
		csr, _ := identity.MakeCSR(key, "new-1")
		r, err := c.Enrol(t.Context(), &agentv1.EnrolRequest{Token: "good", Host: "new-1", CsrDer: csr})
		if err != nil || r.GetClusterId() != "test-cluster" || r.GetAgentAddress() != "collector:8421" || len(r.GetCertificateChainDer()) < 1 {
			t.Fatalf("%v, %v", r, err)
		}
		for name, x := range map[string]struct {
			req  *agentv1.EnrolRequest
			code codes.Code
		}{
			"bad token": {&agentv1.EnrolRequest{Token: "bad", Host: "new-1", CsrDer: csr}, codes.PermissionDenied},
			"bad name":  {&agentv1.EnrolRequest{Token: "good", Host: "New_1", CsrDer: csr}, codes.InvalidArgument},
			"no csr":    {&agentv1.EnrolRequest{Token: "good", Host: "new-1"}, codes.InvalidArgument},
			"huge csr":  {&agentv1.EnrolRequest{Token: "good", Host: "new-1", CsrDer: make([]byte, 1<<20)}, codes.InvalidArgument},
		} {
			if _, err := c.Enrol(t.Context(), x.req); status.Code(err) != x.code {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
