package actorlink_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/agent/actorlink"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func send(c net.Conn, f *agentv1.ActorFrame) error {
	b, err := proto.Marshal(f)
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func receive(c net.Conn) (*agentv1.ActorFrame, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	f := &agentv1.ActorFrame{}
	return f, proto.Unmarshal(b, f)
}

// heard is what a client told its owner.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf(format, args...))
}

func (h *heard) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func config(h *heard) actorlink.Config {
	return actorlink.Config{
		Host:     "host-1",
		OnReport: func(b []byte) { h.add("report %s", b) },
		OnAbsent: func(p string) { h.add("absent: %s", p) },
		OnResult: func(id string, n uint32, raw []byte) {
			r := &agentv1.CommandResult{}
			if err := proto.Unmarshal(raw, r); err != nil {
				h.add("bad result: %v", err)
			}
			h.add("result %s/%d %v", id, n, r.GetPhase())
		},
	}
}

// An actor that comes, works, goes and comes back.
func TestWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		defer n.Close()
		h := &heard{}
		cfg := config(h)
		cfg.Dial = func(ctx context.Context) (net.Conn, error) { return n.Host("agent").Dial(ctx, "actor:1") }
		c, err := actorlink.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		sealed := &agentv1.SignedCommand{Body: []byte("sealed"), Signatures: []*agentv1.Signature{{KeyId: "k", Sig: []byte{1}}}}
		raw, err := proto.Marshal(sealed)
		if err != nil {
			t.Fatal(err)
		}
		c.Command(raw) // nobody is there: it must not reach the actor that comes later
		<-time.After(time.Minute)

		l, err := n.Host("actor").Listen("actor:1")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if f, err := receive(conn); err != nil || f.GetHello().GetHost() != "host-1" {
			t.Errorf("first frame %v, %v", f, err)
		}
		if err := send(conn, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Report{Report: []byte("may")}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.Command(raw)
		if f, err := receive(conn); err != nil || !proto.Equal(f.GetCommand(), sealed) {
			t.Errorf("command %v, %v", f, err)
		}
		_ = send(conn, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Result{Result: &agentv1.CommandResult{
			Id: "c1", Ordinal: 4, Phase: agentv1.CommandResult_PHASE_APPLIED,
		}}})
		synctest.Wait()
		c.Stored("c1", 4)
		if f, err := receive(conn); err != nil || f.GetStored().GetId() != "c1" || f.GetStored().GetOrdinal() != 4 {
			t.Errorf("stored %v, %v", f, err)
		}
		if st := c.Status(); !st.Connected || st.Commands != 1 || st.Results != 1 || st.Dropped != 1 {
			t.Errorf("status %+v", st)
		}
		conn.Close()
		synctest.Wait()
		if st := c.Status(); st.Connected {
			t.Errorf("status %+v", st)
		}
		conn, err = l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = receive(conn)
		_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff}) // a frame of 4 GiB
		synctest.Wait()
		want := []string{
			"absent: the actor is not running", "report may", "result c1/4 PHASE_APPLIED",
			"absent: the actor closed the connection: it has stopped, or does not accept this agent's user",
			"absent: the actor cannot be reached: frame of 4294967295 bytes is over the limit of 1048576",
		}
		if got := h.list(); !slices.Equal(got, want) {
			t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A full queue drops, and says so.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		defer n.Close()
		l, err := n.Host("actor").Listen("actor:1")
		if err != nil {
			t.Fatal(err)
		}
		h := &heard{}
		cfg := config(h)
		cfg.Dial = func(ctx context.Context) (net.Conn, error) { return n.Host("agent").Dial(ctx, "actor:1") }
		c, err := actorlink.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = c.Run(ctx); close(done) }()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = send(conn, &agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Report{Report: []byte("may")}})
		synctest.Wait()
		big, err := proto.Marshal(&agentv1.SignedCommand{Body: make([]byte, 30<<10)})
		if err != nil {
			t.Fatal(err)
		}
		for range 200 { // the other end does not read: what the network does not hold waits, and then is dropped
			c.Command(big)
			synctest.Wait()
		}
		if st := c.Status(); st.Dropped < 100 || st.Dropped > 150 {
			t.Errorf("dropped %d of 200", st.Dropped)
		}
		cancel()
		<-done
	})
}

func TestNoSocket(t *testing.T) {
	h := &heard{}
	cfg := config(h)
	cfg.Socket = filepath.Join(t.TempDir(), "actor.sock")
	c, err := actorlink.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = c.Run(ctx); close(done) }()
	for len(h.list()) == 0 {
		<-time.After(time.Millisecond)
	}
	cancel()
	<-done
	if got := h.list(); got[0] != "absent: no actor is installed or running on this host" {
		t.Errorf("heard %v", got)
	}
	if _, err := actorlink.New(actorlink.Config{}); err == nil {
		t.Error("a client without a socket was made")
	}
}
