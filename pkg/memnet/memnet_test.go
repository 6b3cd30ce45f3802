package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/pkg/memnet"
)

// pair returns both ends of a connection from host a to host b.
func pair(t *testing.T, n *memnet.Network) (near, far net.Conn) {
	t.Helper()
	l, err := n.Host("b").Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	near, err = n.Host("a").Dial(t.Context(), "b:1")
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v, want %q", b, err, want)
	}
}

func TestConn(t *testing.T) {
	tests := map[string]func(t *testing.T, n *memnet.Network, near, far net.Conn){
		"both ways": func(t *testing.T, _ *memnet.Network, near, far net.Conn) {
			mustWrite(t, near, "ping")
			mustRead(t, far, "ping")
			mustWrite(t, far, "pong")
			mustRead(t, near, "pong")
		},
		"addresses": func(t *testing.T, _ *memnet.Network, near, far net.Conn) {
			if near.RemoteAddr().String() != "b:1" || far.LocalAddr().String() != "b:1" || far.RemoteAddr() != near.LocalAddr() {
				t.Errorf("near %v -> %v, far %v -> %v", near.LocalAddr(), near.RemoteAddr(), far.LocalAddr(), far.RemoteAddr())
			}
		},
		"what was written before the end arrives": func(t *testing.T, _ *memnet.Network, near, far net.Conn) {
			mustWrite(t, near, "last words")
			near.Close()
			if b, err := io.ReadAll(far); err != nil || string(b) != "last words" {
				t.Errorf("read %q, %v", b, err)
			}
			if _, err := far.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("write to a closed end: %v", err)
			}
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read at the closed end: %v", err)
			}
		},
		"a full window waits, and ends with the peer": func(t *testing.T, _ *memnet.Network, near, far net.Conn) {
			done := make(chan error, 1)
			go func() { _, err := near.Write(make([]byte, 10<<20)); done <- err }()
			synctest.Wait()
			select {
			case err := <-done:
				t.Errorf("10 MiB fitted: %v", err)
			default:
			}
			far.Close()
			if err := <-done; !errors.Is(err, syscall.EPIPE) {
				t.Errorf("write ended with %v", err)
			}
		},
		"deadlines": func(t *testing.T, _ *memnet.Network, near, _ net.Conn) {
			began := time.Now()
			_ = near.SetDeadline(began.Add(3 * time.Second))
			var timeout net.Error
			if _, err := near.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("read: %v", err)
			}
			if _, err := near.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write: %v", err)
			}
			if took := time.Since(began); took != 3*time.Second {
				t.Errorf("took %v", took)
			}
			_ = near.SetDeadline(time.Time{})
			mustWrite(t, near, "again")
		},
		"a cut stalls, a heal delivers": func(t *testing.T, n *memnet.Network, near, far net.Conn) {
			n.Cut("b", "a")
			mustWrite(t, near, "held back")
			near.Close()
			_ = far.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read over a cut link: %v", err)
			}
			_ = far.SetReadDeadline(time.Time{})
			n.Heal("a", "b")
			if b, err := io.ReadAll(far); err != nil || string(b) != "held back" {
				t.Errorf("read %q, %v", b, err)
			}
		},
		"other links go on during a cut": func(t *testing.T, n *memnet.Network, near, far net.Conn) {
			n.Cut("a", "c")
			mustWrite(t, near, "x")
			mustRead(t, far, "x")
		},
		"reset": func(t *testing.T, n *memnet.Network, near, far net.Conn) {
			n.Reset("a", "b")
			for _, c := range []net.Conn{near, far} {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read: %v", err)
				}
				if _, err := c.Write(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("write: %v", err)
				}
			}
		},
		"close of the network frees who waits, over a cut link too": func(t *testing.T, n *memnet.Network, near, _ net.Conn) {
			n.Cut("a", "b")
			done := make(chan error, 1)
			go func() { _, err := near.Read(make([]byte, 1)); done <- err }()
			synctest.Wait()
			n.Close()
			if err := <-done; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
			if _, err := n.Host("a").Dial(t.Context(), "b:1"); !errors.Is(err, net.ErrClosed) {
				t.Errorf("dial: %v", err)
			}
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				defer n.Close()
				near, far := pair(t, n)
				test(t, n, near, far)
			})
		})
	}
}

func TestDialAndListen(t *testing.T) {
	tests := map[string]struct {
		dial func(t *testing.T, n *memnet.Network) error
		want error
		took time.Duration
	}{
		"nobody there": {
			dial: func(t *testing.T, n *memnet.Network) error {
				_, err := n.Host("a").Dial(t.Context(), "b:1")
				return err
			},
			want: syscall.ECONNREFUSED,
		},
		"no longer there": {
			dial: func(t *testing.T, n *memnet.Network) error {
				l, _ := n.Host("b").Listen("b:1")
				l.Close()
				if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
				_, err := n.Host("a").Dial(t.Context(), "b:1")
				return err
			},
			want: syscall.ECONNREFUSED,
		},
		"cut, without a deadline": {
			dial: func(t *testing.T, n *memnet.Network) error {
				n.Cut("a", "b")
				_, err := n.Host("a").Dial(context.Background(), "b:1")
				return err
			},
			want: syscall.ETIMEDOUT, took: 30 * time.Second,
		},
		"cut, with a deadline": {
			dial: func(t *testing.T, n *memnet.Network) error {
				n.Cut("a", "b")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := n.Host("a").DialContext(ctx, "tcp", "b:1")
				return err
			},
			want: os.ErrDeadlineExceeded, took: time.Second,
		},
		"healed while dialling": {
			dial: func(t *testing.T, n *memnet.Network) error {
				n.Cut("a", "b")
				if _, err := n.Host("b").Listen("b:1"); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(5*time.Second, func() { n.Heal("a", "b") })
				_, err := n.Host("a").Dial(t.Context(), "b:1")
				return err
			},
			took: 5 * time.Second,
		},
		"address in use": {
			dial: func(t *testing.T, n *memnet.Network) error {
				_, _ = n.Host("b").Listen("b:1")
				_, err := n.Host("b").Listen("b:1")
				return err
			},
			want: syscall.EADDRINUSE,
		},
		"another host's address": {
			dial: func(t *testing.T, n *memnet.Network) error {
				_, err := n.Host("b").Listen("c:1")
				return err
			},
			want: syscall.EADDRNOTAVAIL,
		},
		"any port": {
			dial: func(t *testing.T, n *memnet.Network) error {
				l, err := n.Host("b").Listen("b:0")
				if err != nil {
					t.Fatal(err)
				}
				_, err = n.Host("a").Dial(t.Context(), l.Addr().String())
				return err
			},
		},
		"nobody accepts": {
			dial: func(t *testing.T, n *memnet.Network) error {
				_, _ = n.Host("b").Listen("b:1")
				for {
					if _, err := n.Host("a").Dial(t.Context(), "b:1"); err != nil {
						return err
					}
				}
			},
			want: syscall.ETIMEDOUT, took: 30 * time.Second,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				defer n.Close()
				began := time.Now()
				if err := tt.dial(t, n); !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// gRPC runs over it in a bubble: calls pass, a cut makes them time out, a heal brings them back on the same connection.
func TestGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		defer n.Close()
		l, err := n.Host("collector").Listen("collector:8421")
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
		go func() { _ = srv.Serve(l) }()
		defer srv.Stop()

		cc, err := grpc.NewClient("passthrough:///collector:8421", grpc.WithContextDialer(n.Host("agent").Dial),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		call := func() codes.Code {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			return status.Code(err)
		}
		for i, step := range []struct {
			do   func()
			want codes.Code
		}{
			{func() {}, codes.OK},
			{func() { n.Cut("agent", "collector") }, codes.DeadlineExceeded},
			{func() { n.Heal("agent", "collector") }, codes.OK},
			{func() { n.Reset("agent", "collector"); synctest.Wait() }, codes.OK},
		} {
			step.do()
			if got := call(); got != step.want {
				t.Errorf("step %d: %v, want %v", i, got, step.want)
			}
		}
	})
}

func BenchmarkConn(b *testing.B) {
	n := memnet.New()
	defer n.Close()
	l, err := n.Host("b").Listen("b:1")
	if err != nil {
		b.Fatal(err)
	}
	near, err := n.Host("a").Dial(b.Context(), "b:1")
	if err != nil {
		b.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	msg, buf := bytes.Repeat([]byte("x"), 1024), make([]byte, 1024)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := near.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(far, buf); err != nil {
			b.Fatal(err)
		}
	}
}
