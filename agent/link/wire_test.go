package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// What is written by hand is what protobuf reads.
func TestAppendBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boot := rapid.SampledFrom([][]byte{nil, bytes.Repeat([]byte{9}, 16)}).Draw(t, "boot")
		seq := rapid.Uint64Min(1).Draw(t, "seq")
		backfill := rapid.Bool().Draw(t, "backfill")
		frame := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(t, "bytes"), rapid.IntRange(1, 5000).Draw(t, "times"))
		got := &agentv1.SessionRequest{}
		if err := proto.Unmarshal(appendBatch(nil, boot, seq, backfill, frame), got); err != nil {
			t.Fatal(err)
		}
		want := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{BootId: boot, Seq: seq, Backfill: backfill, Frame: frame}}}
		if !proto.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestFieldNumbers(t *testing.T) {
	req := (&agentv1.SessionRequest{}).ProtoReflect().Descriptor().Fields()
	batch := (&agentv1.Batch{}).ProtoReflect().Descriptor().Fields()
	for name, want := range map[string]int{"batch": fieldBatch, "result": fieldResult, "actor": fieldActor} {
		if f := req.ByName(protoreflect.Name(name)); f == nil || int(f.Number()) != want {
			t.Errorf("SessionRequest.%s is not %d", name, want)
		}
	}
	for name, want := range map[string]int{"boot_id": batchBoot, "seq": batchSeq, "backfill": batchBackfill, "frame": batchFrame} {
		if f := batch.ByName(protoreflect.Name(name)); f == nil || int(f.Number()) != want {
			t.Errorf("Batch.%s is not %d", name, want)
		}
	}
}

func TestCodec(t *testing.T) {
	var pool framePool
	b := pool.take()
	*b = appendBatch(*b, nil, 7, false, make([]byte, 300))
	out, err := codec{}.Marshal(&frameMessage{data: b, pool: &pool})
	if err != nil {
		t.Fatal(err)
	}
	m := &agentv1.SessionRequest{}
	if err := (codec{}).Unmarshal(out, m); err != nil || m.GetBatch().GetSeq() != 7 {
		t.Errorf("%v, %v", m, err)
	}
	if len(pool.free) != 0 {
		t.Error("the buffer is free before it was written")
	}
	out.Free()
	if len(pool.free) != 1 {
		t.Error("the buffer did not come back")
	}
	if _, err := (codec{}).Marshal("text"); err == nil {
		t.Error("a text was marshalled")
	}
	if err := (codec{}).Unmarshal(mem.BufferSlice{}, "text"); err == nil {
		t.Error("a text was unmarshalled into")
	}
}

// sink takes a stream and throws it away.
type sink struct {
	agentv1.UnimplementedAgentServiceServer
	got chan struct{}
}

func (s *sink) Session(stream grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse]) error {
	for first := true; ; first = false {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if first {
			if err := stream.Send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: &agentv1.Welcome{}}}); err != nil {
				return err
			}
			continue
		}
		s.got <- struct{}{}
	}
}

type benchSpool struct{}

func (benchSpool) Ranges() []Range                     { return nil }
func (benchSpool) Ack(BootID, uint64)                  {}
func (benchSpool) Open(BootID, uint64) (Reader, error) { return nil, net.ErrClosed }
func (benchSpool) Usage() (uint64, uint64, uint64)     { return 0, 0, 0 }

type benchIdentity struct{ cert tls.Certificate }

func (b *benchIdentity) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{b.cert}}
}
func (b *benchIdentity) Leaf() *x509.Certificate        { return b.cert.Leaf }
func (b *benchIdentity) Request() ([]byte, error)       { return nil, nil }
func (b *benchIdentity) Replace([][]byte, []byte) error { return nil }

// BenchmarkLive is one tick's batch from Live to the other end of an mTLS session; the allocations are those of both
// ends. Compare protobuf=true, the same by generated code and the stock codec.
func BenchmarkLive(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 1000), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	l := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}})),
		grpc.StaticStreamWindowSize(64<<10), grpc.StaticConnWindowSize(64<<10), grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10))
	s := &sink{got: make(chan struct{}, 64)}
	agentv1.RegisterAgentServiceServer(srv, s)
	go func() { _ = srv.Serve(l) }()
	defer srv.Stop()
	cfg := Config{
		Addresses: []string{"x"}, Spool: benchSpool{}, Identity: &benchIdentity{cert},
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) },
	}
	frame := make([]byte, 900)

	b.Run("protobuf=false", func(b *testing.B) {
		k, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() { _ = k.Run(ctx); close(done) }()
		for !k.KeyWanted() { // a benchmark runs on real time: wait for the handshake
			<-time.After(time.Millisecond)
		}
		seq := uint64(1)
		k.Live(seq, true, frame)
		<-s.got
		<-s.got // the first batch asks for its ack
		b.ReportAllocs()
		for b.Loop() {
			seq++
			k.Live(seq, false, frame)
			<-s.got
		}
		cancel()
		<-done
	})
	b.Run("protobuf=true", func(b *testing.B) {
		cc, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(credentials.NewTLS(cfg.Identity.TLS())),
			grpc.WithContextDialer(cfg.Dial))
		if err != nil {
			b.Fatal(err)
		}
		defer cc.Close()
		stream, err := agentv1.NewAgentServiceClient(cc).Session(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		_ = stream.Send(&agentv1.SessionRequest{})
		_, _ = stream.Recv()
		b.ReportAllocs()
		for b.Loop() {
			if err := stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{Seq: 9, Frame: frame}}}); err != nil {
				b.Fatal(err)
			}
			<-s.got
		}
	})
}
