package state_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/state"
)

// logged is a log that a test may read while others write.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func mustOpen(t testing.TB, cfg state.Config) *state.Etcd {
	t.Helper()
	e, err := state.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEtcd(t *testing.T) {
	contract(t, func(t *testing.T) closer { return mustOpen(t, state.Config{Dir: filepath.Join(t.TempDir(), "state")}) })
}

// What was written is there after a clean stop and after a folder's path has become too long for a socket, and a healthy
// start and stop say nothing.
func TestReopenQuietly(t *testing.T) {
	var log logged
	dir := filepath.Join(t.TempDir(), "s")
	cfg := state.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))}
	e := mustOpen(t, cfg)
	rev := put(t, e, "a", "kept")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Rename(dir, long); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = long
	e = mustOpen(t, cfg)
	if kv, err := e.Get(t.Context(), "a"); err != nil || string(kv.Value) != "kept" || kv.Changed != rev {
		t.Errorf("%+v, %v, want revision %d", kv, err, rev)
	}
	if next := put(t, e, "b", "x"); next != rev+1 {
		t.Errorf("revision %d, want %d", next, rev+1)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if log.String() != "" {
		t.Errorf("log of a healthy engine:\n%s", log.String())
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	cfg := state.Config{Dir: t.TempDir()}
	mustOpen(t, cfg)
	_, err := state.Open(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "another process has this folder open") {
		t.Errorf("second open: %v", err)
	}
}

func TestFreeSpace(t *testing.T) {
	var mu sync.Mutex
	free := uint64(10 << 20)
	set := func(n uint64) { mu.Lock(); free = n; mu.Unlock() }
	cfg := state.Config{Dir: t.TempDir(), MinFree: 100 << 20, Free: func(string) (uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		return free, nil
	}}
	_, err := state.Open(t.Context(), cfg)
	if !errors.Is(err, state.ErrUnavailable) || !strings.Contains(err.Error(), "only 10 MiB are free") {
		t.Errorf("open on a full disk: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "etcd")); !os.IsNotExist(err) {
		t.Errorf("the engine was started: %v", err)
	}
	set(200 << 20)
	e := mustOpen(t, cfg)
	put(t, e, "a", "1")
	set(99 << 20)
	if _, err := state.Put(t.Context(), e, "a", nil); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("write on a full disk: %v", err)
	}
	if kv, err := e.Get(t.Context(), "a"); err != nil || string(kv.Value) != "1" {
		t.Errorf("read on a full disk: %+v, %v", kv, err)
	}
	set(100 << 20)
	put(t, e, "a", "2")
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		cfg  state.Config
		want string
	}{
		"no folder":        {state.Config{}, "set Dir"},
		"a file":           {state.Config{Dir: "etcd_test.go"}, "not a directory"},
		"peer by name":     {state.Config{Dir: t.TempDir(), Peer: state.Peer{Listen: "localhost:0"}}, "is not IP:port"},
		"peer over unix":   {state.Config{Dir: t.TempDir(), Peer: state.Peer{Listen: "unix://x"}}, "is not IP:port"},
		"half a key pair":  {state.Config{Dir: t.TempDir(), Peer: state.Peer{Listen: "127.0.0.1:0", CertFile: "c.pem"}}, "or none"},
		"no time to start": {state.Config{Dir: t.TempDir(), StartTimeout: time.Nanosecond}, "did not become ready"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, err := state.Open(t.Context(), tt.cfg)
			if err == nil {
				_ = e.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	e := mustOpen(t, state.Config{Dir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	put(t, e, "a", "1")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := e.Get(t.Context(), "a"); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("get after run: %v", err)
	}
}

// Nobody gets in: no abstract socket, the client's socket behind a private folder, and each TCP port refuses whoever has
// no certificate of the engine's own CA.
func TestNobodyGetsIn(t *testing.T) {
	tests := map[string]struct {
		peer  state.Peer
		ports int
	}{
		"single node":        {},
		"with peer listener": {state.Peer{Listen: "127.0.0.1:0"}, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			unixBefore, tcpBefore := unixSockets(t), tcpPorts(t)
			dir := filepath.Join(t.TempDir(), "state")
			e := mustOpen(t, state.Config{Dir: dir, Peer: tt.peer})
			put(t, e, "a", "1")

			var sockets []string
			for _, s := range unixSockets(t) {
				if !slices.Contains(unixBefore, s) {
					sockets = append(sockets, s)
				}
			}
			if want := []string{filepath.Join(dir, "client.sock")}; !slices.Equal(sockets, want) {
				t.Errorf("listening unix sockets %q, want %q", sockets, want)
			}
			err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
				if err == nil && path == dir && info.Mode().Perm() != 0o700 {
					t.Errorf("%s has mode %v", path, info.Mode())
				}
				if err == nil && strings.HasSuffix(path, "key.pem") && info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v", path, info.Mode())
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}

			var ports []string
			for _, p := range tcpPorts(t) {
				if !slices.Contains(tcpBefore, p) {
					ports = append(ports, p)
				}
			}
			if len(ports) != tt.ports {
				t.Errorf("listening TCP ports %q, want %d", ports, tt.ports)
			}
			for _, p := range ports {
				refusedWithoutCertificate(t, p)
			}
		})
	}
}

func refusedWithoutCertificate(t *testing.T, addr string) {
	t.Helper()
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(plain, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer, _ := io.ReadAll(plain); bytes.Contains(answer, []byte("HTTP/1.1 200")) || bytes.Contains(answer, []byte("etcdserver")) {
		t.Errorf("plain text was answered on %s: %q", addr, answer)
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes on %s without a certificate", n, addr)
	}
	if got := c.ConnectionState().Version; got != tls.VersionTLS13 {
		t.Errorf("TLS version %x", got)
	}
}

// unixSockets returns the unix sockets on which this process listens; abstract ones start with "@".
func unixSockets(t *testing.T) []string {
	t.Helper()
	own := ownSockets(t)
	var out []string
	for _, f := range procLines(t, "/proc/net/unix") {
		if len(f) >= 8 && f[3] == "00010000" && own["socket:["+f[6]+"]"] {
			out = append(out, f[7])
		}
	}
	return out
}

// ownSockets are the open files of this process as links: others may run on the same machine.
func ownSockets(t *testing.T) map[string]bool {
	t.Helper()
	own := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			own[link] = true
		}
	}
	return own
}

// tcpPorts returns the TCP ports on which this process listens, on loopback.
func tcpPorts(t *testing.T) []string {
	t.Helper()
	own := ownSockets(t)
	var out []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, f := range procLines(t, table) {
			if len(f) > 9 && f[3] == "0A" && own["socket:["+f[9]+"]"] {
				var port int
				_, _ = fmt.Sscanf(f[1][strings.LastIndexByte(f[1], ':')+1:], "%X", &port)
				out = append(out, fmt.Sprintf("127.0.0.1:%d", port))
			}
		}
	}
	return out
}

func procLines(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil // no IPv6 here
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		out = append(out, strings.Fields(s.Text()))
	}
	return out
}

// BenchmarkWrite is what a ledger entry costs: a conditional write of 512 bytes, on disk when it returns.
func BenchmarkWrite(b *testing.B) {
	e := mustOpen(b, state.Config{Dir: b.TempDir()})
	value := bytes.Repeat([]byte("v"), 512)
	var took []time.Duration
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		key := fmt.Sprintf("action/%d", i)
		began := time.Now()
		if _, _, err := e.Txn(b.Context(), []state.Compare{{Key: key}}, []state.Op{{Key: key, Value: value}}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

func BenchmarkGet(b *testing.B) {
	e := mustOpen(b, state.Config{Dir: b.TempDir()})
	if _, err := state.Put(b.Context(), e, "a", bytes.Repeat([]byte("v"), 512)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Get(b.Context(), "a"); err != nil {
			b.Fatal(err)
		}
	}
}
