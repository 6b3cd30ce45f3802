package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// enroller is a collector's enrolment port: it takes a token once, as the real one does.
type enroller struct {
	agentv1.UnimplementedEnrolmentServiceServer
	ca    *identity.CA
	now   func() time.Time
	token identity.Token
	asked int
	keys  map[string]string // host -> key hash
	fail  error
}

func (e *enroller) Enrol(_ context.Context, r *agentv1.EnrolRequest) (*agentv1.EnrolResponse, error) {
	e.asked++
	if e.fail != nil {
		return nil, e.fail
	}
	if err := identity.CheckSkew(time.UnixMilli(r.GetAgentTimeUnixMs()), e.now()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	key, err := identity.ParseCSR(r.GetCsrDer())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	hash, err := identity.KeyHash(key)
	if err != nil {
		return nil, err
	}
	if e.keys[r.GetHost()] != hash {
		if e.token.Used >= e.token.Uses {
			return nil, status.Error(codes.PermissionDenied, "the token was used up: make a new one with \"evenkeel token create\"")
		}
		e.token.Used++
		e.keys[r.GetHost()] = hash
	}
	issued, err := e.ca.IssueAgent(r.GetCsrDer(), r.GetHost(), e.now())
	if err != nil {
		return nil, err
	}
	return &agentv1.EnrolResponse{
		CertificateChainDer: issued.Chain, CaDer: e.ca.DER(), AgentAddress: "collector:8421", SigningRoot: "ed25519:AAAA", ClusterId: e.ca.Cluster(),
	}, nil
}

// enrolWorld is a host that joins a collector on a network in memory.
type enrolWorld struct {
	t    *testing.T
	net  *memnet.Network
	ca   *identity.CA
	coll *enroller
	cfg  agent.Config
	join identity.Join
	off  time.Duration // of the host's clock
	srv  *grpc.Server
}

func newEnrolWorld(t *testing.T) *enrolWorld {
	t.Helper()
	ca, err := identity.NewCA("cluster-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, text, err := identity.NewToken(identity.TokenSpec{Uses: 1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := &enrolWorld{
		t: t, net: memnet.New(), ca: ca, cfg: agent.Default(),
		coll: &enroller{ca: ca, now: time.Now, token: token, keys: map[string]string{}},
		join: identity.Join{Address: "collector:8425", Pin: ca.Pin(), Token: text},
	}
	w.cfg.State = filepath.Join(t.TempDir(), "state")
	source, err := identity.NewServerSource(ca, "collector-1", []string{"collector"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.net.Host("collector").Listen("collector:8425")
	if err != nil {
		t.Fatal(err)
	}
	w.srv = grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.PublicTLS(source.Get))))
	agentv1.RegisterEnrolmentServiceServer(w.srv, w.coll)
	go func() { _ = w.srv.Serve(l) }()
	return w
}

func (w *enrolWorld) close() {
	w.srv.Stop()
	w.net.Close()
}

func (w *enrolWorld) enrol(name string) (agent.Enrolment, bool, error) {
	w.t.Helper()
	join, err := w.join.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.enrolWith(join, name)
}

func (w *enrolWorld) enrolWith(join, name string) (agent.Enrolment, bool, error) {
	return agent.Enrol(w.t.Context(), agent.EnrolRequest{
		Config: w.cfg, Join: join, Name: name, Now: func() time.Time { return time.Now().Add(w.off) },
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return w.net.Host("web-1").Dial(ctx, addr) },
	})
}

func TestEnrol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnrolWorld(t)
		defer w.close()
		e, already, err := w.enrol("web-1")
		if err != nil || already || e.Host != "web-1" || e.Collector != "collector:8421" || e.SigningRoot != "ed25519:AAAA" || e.Cluster != "cluster-1" {
			t.Fatalf("%+v, %v, %v", e, already, err)
		}
		for _, name := range []string{"key.pem", "cert.pem", "ca.pem", "enrolment.json"} {
			fi, err := os.Stat(filepath.Join(w.cfg.State, name))
			if err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, fi, err)
			}
		}
		again, already, err := w.enrol("")
		if err != nil || !already || again != e || w.coll.asked != 1 {
			t.Errorf("second run: %+v, %v, %v, asked %d times", again, already, err, w.coll.asked)
		}
		id, err := agent.LoadIdentity(w.cfg, time.Now)
		if err != nil || id.Host != "web-1" || id.Address() != "collector:8421" {
			t.Fatalf("%+v, %v", id, err)
		}

		// A renewal for another key, or from another CA, is not taken.
		csr, err := id.Request()
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(12 * time.Hour)
		other, _ := identity.NewCA("cluster-1", time.Now())
		for what, c := range map[string]*identity.CA{"other": other, "own": w.ca} {
			issued, err := c.IssueAgent(csr, "web-1", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := id.Replace(issued.Chain, c.DER()); (err == nil) != (what == "own") {
				t.Errorf("renewal by the %s CA: %v", what, err)
			}
		}
		id, err = agent.LoadIdentity(w.cfg, time.Now)
		if err != nil || time.Until(id.Leaf().NotAfter) < 23*time.Hour {
			t.Errorf("after the renewal: %v, %v", id.Leaf().NotAfter, err)
		}
	})
}

// An answer that was lost on the way costs neither the token nor the key.
func TestEnrolAgainAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnrolWorld(t)
		defer w.close()
		if _, _, err := w.enrol("web-1"); err != nil {
			t.Fatal(err)
		}
		key, _ := os.ReadFile(filepath.Join(w.cfg.State, "key.pem"))
		for _, name := range []string{"enrolment.json", "cert.pem"} {
			if err := os.Remove(filepath.Join(w.cfg.State, name)); err != nil {
				t.Fatal(err)
			}
			if _, already, err := w.enrol("web-1"); err != nil || already {
				t.Errorf("without %s: %v, %v", name, already, err)
				break
			}
			_ = os.Remove(filepath.Join(w.cfg.State, "enrolment.json"))
		}
		if again, _ := os.ReadFile(filepath.Join(w.cfg.State, "key.pem")); string(again) != string(key) || w.coll.token.Used != 1 {
			t.Errorf("the key changed, or the token was used %d times", w.coll.token.Used)
		}
	})
}

// Each failure is one sentence that says what to do, and of a kind that has its own exit code.
func TestEnrolFailures(t *testing.T) {
	var (
		usage       *agent.UsageError
		refused     *link.RefusedError
		unreachable *link.UnreachableError
	)
	for name, tt := range map[string]struct {
		spoil func(w *enrolWorld)
		name  string
		kind  any
		want  string
	}{
		"wrong pin": {
			spoil: func(w *enrolWorld) { w.join.Pin[0] ^= 1 }, name: "web-1",
			want: "is not the one that made the join string",
		},
		"used token": {
			spoil: func(w *enrolWorld) { w.coll.token.Used = 1 }, name: "web-1", kind: &refused,
			want: "the token was used up: make a new one",
		},
		"expired token": {
			spoil: func(w *enrolWorld) {
				w.coll.fail = status.Error(codes.PermissionDenied, "the token ended 3 hours ago: make a new one")
			}, name: "web-1", kind: &refused,
			want: "the token ended 3 hours ago: make a new one",
		},
		"clock behind by hours": {
			spoil: func(w *enrolWorld) { w.off = -5 * time.Hour }, name: "web-1",
			want: "set the clock",
		},
		"clock ahead by hours": {
			spoil: func(w *enrolWorld) { w.off = 5 * time.Hour }, name: "web-1", kind: &refused,
			want: "this host's clock is 5 hours ahead of the collector's: set it",
		},
		"nobody there": {
			spoil: func(w *enrolWorld) { w.join.Address = "collector:9999" }, name: "web-1", kind: &unreachable,
			want: "cannot reach the collector at collector:9999: ",
		},
		"cut off": {
			spoil: func(w *enrolWorld) { w.net.Cut("web-1", "collector") }, name: "web-1", kind: &unreachable,
			want: "cannot reach the collector at collector:8425: ",
		},
		"bad name": {name: "Web 1", kind: &usage, want: "--name"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnrolWorld(t)
				defer w.close()
				if tt.spoil != nil {
					tt.spoil(w)
				}
				_, _, err := w.enrol(tt.name)
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), w.join.Token) {
					t.Errorf("%v, want one sentence with %q", err, tt.want)
				}
				if tt.kind != nil && !errors.As(err, tt.kind) {
					t.Errorf("%T %v, want a %T", err, err, tt.kind)
				}
				if _, err := os.Stat(filepath.Join(w.cfg.State, "enrolment.json")); !errors.Is(err, fs.ErrNotExist) {
					t.Error("the host holds itself for enrolled")
				}
			})
		})
	}
}

func TestEnrolledHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnrolWorld(t)
		defer w.close()
		if _, _, err := w.enrol("web-1"); err != nil {
			t.Fatal(err)
		}
		var usage *agent.UsageError
		if _, _, err := w.enrol("web-2"); !errors.As(err, &usage) || !strings.Contains(err.Error(), "enrolled as web-1") {
			t.Errorf("another name: %v", err)
		}
		if _, _, err := w.enrolWith("evenkeel-join-1/x", ""); !errors.As(err, &usage) || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("half a join string: %v", err)
		}
		w.join.Pin[0] ^= 1
		if _, _, err := w.enrol(""); !errors.As(err, &usage) || !strings.Contains(err.Error(), "another") {
			t.Errorf("another cluster: %v", err)
		}
		w.join.Pin[0] ^= 1
		<-time.After(32 * 24 * time.Hour) // beyond the grace for renewals: the host joins again under its name
		if e, already, err := w.enrol(""); err != nil || already || e.Host != "web-1" || w.coll.token.Used != 1 {
			t.Errorf("after the grace: %+v, %v, %v", e, already, err)
		}
		for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
			path := filepath.Join(w.cfg.State, name)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := agent.LoadIdentity(w.cfg, time.Now); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("broken %s: %v", name, err)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}
