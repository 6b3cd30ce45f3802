//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// serveTCP accepts on an address and, asked for it, sends: the near end of a router.
func serveTCP(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for left := size; left > 0; left -= int64(len(block)) {
				if _, err := c.Write(block[:min(left, int64(len(block)))]); err != nil {
					return
				}
			}
		}()
	}
}

// connectTCP makes so many connections at a pace and prints how many came through: the far end.
func connectTCP(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	through := make(chan bool, n)
	for range n {
		go func() {
			c, err := net.DialTimeout("tcp", args[0], 600*time.Millisecond) // before the first repetition, after a second
			if err == nil {
				c.Close()
			}
			through <- err == nil
		}()
		time.Sleep(10 * time.Millisecond)
	}
	good := 0
	for range n {
		if <-through {
			good++
		}
	}
	fmt.Println(good)
	return nil
}

// fetchTCP reads for a second and prints the bytes a second.
func fetchTCP(args []string) error {
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	if err := c.SetReadDeadline(began.Add(1500 * time.Millisecond)); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	fmt.Println(int64(float64(n) / time.Since(began).Seconds()))
	return nil
}

// helperIn starts this program as a helper in a namespace.
func helperIn(t *testing.T, namespace, name string, args ...string) *exec.Cmd {
	t.Helper()
	h := rig.Helper(t, name, args...)
	argv := rig.In(namespace, append([]string{h.Path}, args...)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = h.Env
	return cmd
}

func numberOf(t *testing.T, cmd *exec.Cmd) int64 {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// actorIn returns an actor that runs in the near namespace.
func actorIn(t *testing.T, r *rig.Router, grants ...string) *rig.Actor {
	t.Helper()
	a := rig.NewActor(t, grants...)
	a.Rights(t, "network.conf", rig.In(r.Near)...)
	a.Start(t)
	return a
}

var rateForm = regexp.MustCompile(`limit rate over (\d+)/second`)

// A bound on new connections is made in the kernel's own table of ours, holds against a real flood, and ends in all ways;
// where the actor dies with nobody to clean up, the kernel forgets the bound by itself.
func TestNftLimit(t *testing.T) {
	r := rig.NewRouter(t)
	address := r.Address + ":8080"
	rig.StartCmd(t, helperIn(t, r.Near, "serve-tcp", address, "0"))
	target := command.Target{Port: "8080/tcp"}
	a := actorIn(t, r, rig.Grant("nft.limit", target, 1, 1000))
	flood := func() int64 { return numberOf(t, helperIn(t, r.Far, "connect-tcp", address, "100")) }
	rig.Until(t, 10*time.Second, "connections come through", func() string {
		if n := numberOf(t, helperIn(t, r.Far, "connect-tcp", address, "1")); n != 1 {
			return "none"
		}
		return ""
	})
	if n := flood(); n != 100 {
		t.Fatalf("%d of 100 connections came through before anything was done", n)
	}
	// What nft itself prints: the rule, and the element that it needs.
	read := func() string {
		out := r.Nft(t, "list", "ruleset")
		m := rateForm.FindStringSubmatch(out)
		if m == nil || !strings.Contains(out, "expires") {
			if m == nil && strings.Contains(out, "evenkeel") {
				return "something left behind: " + out
			}
			return ""
		}
		return m[1]
	}
	handle := func() string {
		m := regexp.MustCompile(`limit rate over .* # handle (\d+)`).FindStringSubmatch(r.Nft(t, "-a", "list", "table", "inet", "evenkeel"))
		if m == nil {
			t.Fatal("no rule to change")
		}
		return m[1]
	}
	l := rig.Lever{
		Action: command.Action{Name: "nft.limit", Target: target, Value: 10}, Read: read, Prior: "", Want: "10",
		Effect: func(t *testing.T) {
			if n := flood(); n < 5 || n > 35 { // 10 a second and the burst, over a second and a half
				t.Errorf("%d of 100 connections came through a bound of 10 a second", n)
			} else {
				t.Logf("%d of 100 connections came through a bound of 10 a second", n)
			}
			if !strings.Contains(r.Nft(t, "list", "ruleset"), "counter packets") || strings.Contains(r.Nft(t, "list", "ruleset"), "counter packets 0 ") {
				t.Error("the rule counts nothing")
			}
		},
		Drift: func() {
			r.Nft(t, "replace", "rule", "inet", "evenkeel", "input", "handle", handle(), "tcp", "dport", "@tcp_8080", "limit", "rate", "over", "77/second", "drop")
		},
		Drifted: "77", Mend: func() { r.Nft(t, "delete", "table", "inet", "evenkeel") },
	}
	l.Try(t, a)
	if n := flood(); n != 100 {
		t.Errorf("%d of 100 connections came through after everything was taken back", n)
	}

	// The kernel alone.
	a.Dial(t).Do(t, a, l.Action, 5*time.Minute)
	time.Sleep(12 * time.Second)
	if got := read(); got != "10" {
		t.Fatalf("12 s into the lease nft says %q", got)
	}
	a.Kill()
	began := time.Now()
	rig.Until(t, 40*time.Second, "the kernel forgets the bound", func() string {
		if strings.Contains(r.Nft(t, "list", "ruleset"), "expires") {
			return "the element is there"
		}
		return ""
	})
	t.Logf("the kernel forgot the bound %s after the actor was killed", time.Since(began).Round(100*time.Millisecond))
	if n := flood(); n != 100 {
		t.Errorf("%d of 100 connections came through after the kernel forgot the bound", n)
	}
	a.RevertAll(t)
	if got := read(); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

var tcRate = regexp.MustCompile(`tbf ec0e: .*rate (\S+)`)

// An interface's rate is bounded, measured at the other end of the cable, and ends in all ways; a queue that somebody
// else put there is not touched.
func TestTCShape(t *testing.T) {
	r := rig.NewRouter(t)
	address := r.Address + ":8081"
	rig.StartCmd(t, helperIn(t, r.Near, "serve-tcp", address, strconv.Itoa(1<<40)))
	target := command.Target{Interface: r.Interface}
	a := actorIn(t, r, rig.Grant("tc.shape", target, 1000, 1000000))
	speed := func() int64 { return numberOf(t, helperIn(t, r.Far, "fetch-tcp", address)) }
	before := speed()
	if before < 20<<20 {
		t.Fatalf("%d bytes a second before anything was done", before)
	}
	read := func() string {
		out := r.TC(t, "qdisc", "show", "dev", r.Interface)
		if m := tcRate.FindStringSubmatch(out); m != nil {
			return m[1]
		}
		if strings.Contains(out, "noqueue") {
			return ""
		}
		return strings.Fields(out)[1]
	}
	l := rig.Lever{
		Action: command.Action{Name: "tc.shape", Target: target, Value: 8000}, Read: read, Prior: "", Want: "8Mbit",
		Effect: func(t *testing.T) {
			if got := speed(); got > 1300000 || got < 500000 {
				t.Errorf("%d bytes a second under 8 Mbit/s", got)
			} else {
				t.Logf("%d bytes a second before, %d under 8 Mbit/s", before, got)
			}
		},
		Drift:   func() { r.TC(t, "qdisc", "replace", "dev", r.Interface, "root", "handle", "5:", "pfifo") },
		Drifted: "pfifo", Mend: func() { r.TC(t, "qdisc", "del", "dev", r.Interface, "root") },
	}
	l.Try(t, a)
	if after := speed(); after < before/4 {
		t.Errorf("%d bytes a second after everything was taken back, %d before", after, before)
	}

	l.Drift()
	peer := a.Dial(t)
	c := a.Authority.Apply(t, a, peer.Incarnation(), l.Action, time.Minute)
	peer.Send(t, a.Authority.Sign(t, c))
	if got := peer.Await(t, c.ID, command.Refused, 5*time.Second); got.Reason != command.ReasonNotReversible {
		t.Errorf("another's queue: refused because %s", got.Reason)
	}
	l.Mend()

	// An interface that is made anew during the lease is shaped anew.
	c = peer.Do(t, a, l.Action, 6*time.Second)
	r.Cable(t)
	rig.Until(t, 2*time.Second, "the new interface is shaped", func() string {
		if got := read(); got != "8Mbit" {
			return "it has " + got
		}
		return ""
	})
	peer.Await(t, c.ID, command.Reverted, 10*time.Second)
	if got := read(); got != "" {
		t.Errorf("the new interface has %s after the lease", got)
	}
}

const nginxConfig = `user root;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 128; }
http {
  access_log off;
  include %[1]s/conf.d/*.conf;
  server { listen 127.0.0.1:%[2]d; listen 127.0.0.1:997; location / { proxy_pass http://shop; } }
}
`

const nginxUpstream = `# two real servers
upstream shop {
  zone shop 64k; # one count for all workers
  server %s weight=10;  # the first
  server %s weight=10;
}
`

// A weight in a real nginx's file is changed and nginx reloaded, the requests at real backends follow, and the file is
// byte for byte what it was after every end. A configuration that nginx refuses is never reloaded.
func TestNginxWeights(t *testing.T) {
	dir := rig.Folder(t)
	one, two := rig.NewBackend(t, "127.0.0.1:0"), rig.NewBackend(t, "127.0.0.1:0")
	port := rig.FreePort(t)
	config, file := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "conf.d", "shop.conf")
	upstream := fmt.Sprintf(nginxUpstream, one.Address, two.Address)
	rig.Write(t, config, fmt.Sprintf(nginxConfig, dir, port))
	rig.Write(t, file, upstream)
	rig.StartCmd(t, exec.Command("nginx", "-g", "daemon off;", "-c", config))
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	rig.Until(t, 10*time.Second, "nginx answers", func() string {
		if rig.Requests(t, url, 1) != 1 {
			return "no answer"
		}
		return ""
	})
	share := func() int {
		one.Take()
		two.Take()
		if n := rig.Requests(t, url, 110); n != 110 {
			t.Errorf("%d of 110 requests were answered", n)
		}
		a, b := one.Take(), two.Take()
		return a * 100 / (a + b)
	}
	if got := share(); got < 40 || got > 60 {
		t.Fatalf("the first server got %d%% before anything was done", got)
	}
	target := command.Target{Nginx: &command.NginxServer{File: file, Upstream: "shop", Server: one.Address}}
	a := rig.NewActor(t, rig.Grant("nginx.weights", target, 1, 100))
	a.Rights(t, "nginx.conf")
	a.Settings(t, fmt.Sprintf("nginx: {program: /usr/sbin/nginx, config: %s, pidFile: %s/nginx.pid}\n", config, dir))
	a.Start(t)
	reload := func() {
		pid, err := strconv.Atoi(rig.Read(t, filepath.Join(dir, "nginx.pid")))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	put := func(text string) func() {
		return func() { rig.Write(t, file, text); reload() }
	}
	whole := func() string { return rig.Read(t, file) + "\n" }
	changed := strings.Replace(upstream, "weight=10;  #", "weight=1;  #", 1)
	drifted := strings.Replace(upstream, "weight=10;  #", "weight=44;  #", 1)
	l := rig.Lever{
		Action: command.Action{Name: "nginx.weights", Target: target, Value: 1}, Read: whole, Prior: upstream, Want: changed, Lease: 3 * time.Second,
		Effect: func(t *testing.T) {
			if got := share(); got < 5 || got > 14 {
				t.Errorf("the first server got %d%% with a weight of 1 to 10", got)
			} else {
				t.Logf("the first server got %d%% with a weight of 1 to 10", got)
			}
		},
		Drift: put(drifted), Drifted: drifted, Mend: put(upstream),
	}
	l.Try(t, a)
	if got := share(); got < 40 || got > 60 {
		t.Errorf("the first server got %d%% after everything was taken back", got)
	}

	// Somebody's mistake elsewhere in the configuration: nothing is changed and nothing is reloaded.
	workers := rig.Must(t, "pgrep", "-P", rig.Read(t, filepath.Join(dir, "nginx.pid")))
	rig.Write(t, filepath.Join(dir, "conf.d", "wrong.conf"), "upstream nothing { }\n")
	peer := a.Dial(t)
	c := a.Authority.Apply(t, a, peer.Incarnation(), l.Action, time.Minute)
	peer.Send(t, a.Authority.Sign(t, c))
	var said command.Result
	rig.Until(t, 10*time.Second, "the actor says that it failed", func() string {
		for _, r := range peer.Results(c.ID) {
			if r.Phase == command.Failed {
				said = r
				return ""
			}
		}
		return fmt.Sprint(peer.Results(c.ID))
	})
	if said.Reason != command.ReasonNoEffect || !strings.Contains(said.Detail, "emerg") {
		t.Errorf("%+v", said)
	}
	rig.Until(t, 10*time.Second, "nothing is held", func() string {
		for _, r := range peer.Results(c.ID) {
			if r.Phase == command.Reverted {
				return ""
			}
		}
		return fmt.Sprint(peer.Results(c.ID))
	})
	if got := whole(); got != upstream {
		t.Errorf("the file is\n%s", got)
	}
	if now := rig.Must(t, "pgrep", "-P", rig.Read(t, filepath.Join(dir, "nginx.pid"))); now != workers {
		t.Errorf("workers %q became %q", workers, now)
	}
}

// HAProxy asks this host for its weight. What the actor holds is what HAProxy gets; an actor that dies is forgotten in
// ten seconds, a responder that is stopped says 100% before it goes; what a responder that is killed leaves behind is
// released by the next one, or at the load balancer's socket.
func TestAgentCheck(t *testing.T) {
	dir := rig.Folder(t)
	shares := filepath.Join(dir, "shares")
	if err := os.Mkdir(shares, 0o755); err != nil {
		t.Fatal(err)
	}
	target := command.Target{AgentCheck: "one"}
	a := rig.NewActor(t, rig.Grant("agentcheck.weight", target, 1, 100))
	a.Rights(t, "agent-check.conf")
	a.Settings(t, "agentCheckDir: "+shares+"\n")
	a.Start(t)
	port := rig.FreePort(t)
	responder := func() *rig.Process {
		cmd := exec.Command(a.Binary, "agent-check", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--dir", shares, "--farewell", "1s")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}} // it needs no right
		return rig.StartCmd(t, cmd)
	}
	first := responder()
	b := newBalancer(t, fmt.Sprintf(`agent-check agent-port %d agent-inter 250ms agent-send "one\n"`, port))
	weight := func() string { return b.stat(t, "weight") }
	becomes := func(want string, patience time.Duration, what string) {
		t.Helper()
		took := rig.Until(t, patience, what, func() string {
			if w := weight(); w != want {
				return "HAProxy's weight is " + w
			}
			return ""
		})
		t.Logf("%s: %s", what, took.Round(10*time.Millisecond))
	}
	rig.Until(t, 10*time.Second, "HAProxy asks", func() string {
		if b.stat(t, "agent_status") == "" {
			return "it does not"
		}
		return ""
	})
	becomes("100", 5*time.Second, "nothing is held")

	l := rig.Lever{
		Action: command.Action{Name: "agentcheck.weight", Target: target, Value: 20}, Prior: "100", Want: "20",
		Read: func() string {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return err.Error()
			}
			defer c.Close()
			fmt.Fprintln(c, "one")
			said, _ := io.ReadAll(c)
			return strings.TrimSuffix(strings.TrimSpace(string(said)), "%")
		},
		Effect: func(t *testing.T) {
			becomes("20", 2*time.Second, "HAProxy has the share")
			if got := b.share(t); got < 12 || got > 22 {
				t.Errorf("server one got %d%% of the sessions with 20 to 100", got)
			} else {
				t.Logf("server one got %d%% of the sessions with 20 to 100", got)
			}
		},
		Drift: func() {
			rig.Write(t, filepath.Join(shares, "one"), fmt.Sprintf("55 until %d\n", bootMillis(t)+9000))
		},
		Drifted: "55", Mend: func() { rig.Must(t, "rm", filepath.Join(shares, "one")) },
	}
	l.Try(t, a)
	becomes("100", 2*time.Second, "everything was taken back")

	peer := a.Dial(t)
	peer.Do(t, a, l.Action, 5*time.Minute)
	becomes("20", 2*time.Second, "a share is held")
	time.Sleep(11 * time.Second)
	becomes("20", time.Second, "it is renewed")
	a.Kill()
	becomes("100", 12*time.Second, "the actor was killed")
	a.RevertAll(t)

	a.Start(t)
	a.Dial(t).Do(t, a, l.Action, 5*time.Minute)
	becomes("20", 2*time.Second, "a share is held again")
	if code := first.Stop(t, 10*time.Second); code != 0 {
		t.Errorf("the responder ended with %d", code)
	}
	becomes("100", time.Second, "the responder was stopped")

	second := responder()
	becomes("20", 5*time.Second, "the responder is back")
	second.Kill()
	time.Sleep(2 * time.Second)
	if w := weight(); w != "20" {
		t.Errorf("HAProxy's weight is %s after the responder was killed: docs/traffic.md says that it stays", w)
	}
	b.say(t, "set server web/one weight 100%")
	becomes("100", time.Second, "released at the load balancer")
}

func bootMillis(t *testing.T) int64 {
	t.Helper()
	up, _, _ := strings.Cut(rig.Read(t, "/proc/uptime"), " ")
	s, err := strconv.ParseFloat(up, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(s * 1000)
}
