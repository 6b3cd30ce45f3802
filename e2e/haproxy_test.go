//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// balancer is Debian's HAProxy before two real backends.
type balancer struct {
	process        *rig.Process
	config, socket string
	options        string // of server one
	url            string
	one, two       *rig.Backend
}

const haproxyConfig = `global
  stats socket %[1]s mode 600 level admin
  maxconn 500
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:%[2]d
  default_backend web
backend web
  balance roundrobin
  server one %[3]s weight %[4]d %[6]s
  server two %[5]s weight 100
`

func newBalancer(t *testing.T, options string) *balancer {
	t.Helper()
	dir := rig.Folder(t)
	b := &balancer{
		config: filepath.Join(dir, "haproxy.cfg"), socket: filepath.Join(dir, "admin.sock"), one: rig.NewBackend(t, "127.0.0.1:0"), two: rig.NewBackend(t, "127.0.0.1:0"),
		options: options,
	}
	port := rig.FreePort(t)
	b.url = fmt.Sprintf("http://127.0.0.1:%d/", port)
	b.write(t, port, 100)
	b.process = rig.StartCmd(t, exec.Command("haproxy", "-W", "-f", b.config, "-p", filepath.Join(dir, "pid")))
	rig.Until(t, 10*time.Second, "HAProxy answers", func() string {
		if n := rig.Requests(t, b.url, 1); n != 1 {
			return "no answer"
		}
		return ""
	})
	b.one.Take()
	b.two.Take()
	return b
}

func (b *balancer) write(t *testing.T, port, weight int) {
	rig.Write(t, b.config, fmt.Sprintf(haproxyConfig, b.socket, port, b.one.Address, weight, b.two.Address, b.options))
}

// say speaks to HAProxy as an operator does.
func (b *balancer) say(t *testing.T, line string) string {
	t.Helper()
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, line)
	var out strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			return strings.TrimSpace(out.String())
		}
	}
}

// stat reads one field of server one as the statistics page shows it.
func (b *balancer) stat(t *testing.T, field string) string {
	t.Helper()
	var head []string
	for line := range strings.Lines(b.say(t, "show stat web 4 -1")) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if strings.HasPrefix(line, "#") {
			head = f
		} else if len(f) > 2 && f[1] == "one" {
			for i, name := range head {
				if name == field {
					return f[i]
				}
			}
		}
	}
	t.Fatalf("HAProxy shows no %s of server one", field)
	return ""
}

// share says which share of 110 sessions server one got, in percent.
func (b *balancer) share(t *testing.T) int {
	t.Helper()
	b.one.Take()
	b.two.Take()
	if n := rig.Requests(t, b.url, 110); n != 110 {
		t.Errorf("%d of 110 requests were answered", n)
	}
	one, two := b.one.Take(), b.two.Take()
	return one * 100 / (one + two)
}

func (b *balancer) server() command.Target {
	return command.Target{HAProxy: &command.HAProxyServer{Socket: b.socket, Backend: "web", Server: "one"}}
}

// Every setting of a server behind a real HAProxy does what it says, counted in sessions at real backends, and ends as
// every lease ends.
func TestHAProxy(t *testing.T) {
	b := newBalancer(t, "")
	target := b.server()
	a := rig.NewActor(t, rig.Grant("haproxy.weight", target, 1, 256), rig.Grant("haproxy.drain", target, 1, 1), rig.Grant("haproxy.maint", target, 1, 1),
		rig.Grant("haproxy.maxconn", target, 1, 1000))
	approver := a.Approver(t)
	a.Rights(t, "")
	a.Start(t)
	if got := b.share(t); got < 45 || got > 55 {
		t.Fatalf("server one got %d%% of the sessions before anything was done", got)
	}
	within := func(low, high int) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if got := b.share(t); got < low || got > high {
				t.Errorf("server one got %d%% of the sessions, want %d to %d", got, low, high)
			} else {
				t.Logf("server one got %d%% of the sessions", got)
			}
		}
	}
	state := func() string {
		_, state, _ := strings.Cut(b.stat(t, "status"), " ")
		if s := b.stat(t, "status"); s == "DRAIN" || s == "MAINT" {
			return s
		}
		return strings.TrimSpace("in service " + strings.TrimPrefix(state, "check"))
	}
	for _, l := range []rig.Lever{ // one after the other: they share the server
		{
			Action: command.Action{Name: "haproxy.weight", Target: target, Value: 10}, Read: func() string { return b.stat(t, "weight") }, Prior: "100", Want: "10",
			Effect: within(5, 13), Drift: func() { b.say(t, "set server web/one weight 33") }, Drifted: "33", Mend: func() { b.say(t, "set server web/one weight 100") },
		},
		{
			Action: command.Action{Name: "haproxy.maxconn", Target: target, Value: 3}, Read: func() string { return b.stat(t, "slim") }, Prior: "", Want: "3",
			Drift: func() { b.say(t, "set maxconn server web/one 9") }, Drifted: "9", Mend: func() { b.say(t, "set maxconn server web/one 0") },
		},
		{
			Action: command.Action{Name: "haproxy.drain", Target: target, Value: 1}, Approver: approver, Read: state, Prior: "in service", Want: "DRAIN", Effect: within(0, 0),
			Drift: func() { b.say(t, "set server web/one state maint") }, Drifted: "MAINT", Mend: func() { b.say(t, "set server web/one state ready") },
		},
		{
			Action: command.Action{Name: "haproxy.maint", Target: target, Value: 1}, Approver: approver, Read: state, Prior: "in service", Want: "MAINT", Effect: within(0, 0),
			Drift: func() { b.say(t, "set server web/one state ready"); b.say(t, "set server web/one state drain") }, Drifted: "DRAIN",
			Mend: func() { b.say(t, "set server web/one state ready") },
		},
	} {
		l.Try(t, a)
	}

	// A collector alone may not take a server out of service, and nobody may touch what is not listed.
	peer := a.Dial(t)
	for reason, action := range map[command.Reason]command.Action{
		command.ReasonRiskNeedsApprover: {Name: "haproxy.drain", Target: target, Value: 1},
		command.ReasonDenied:            {Name: "haproxy.weight", Target: command.Target{HAProxy: &command.HAProxyServer{Socket: b.socket, Backend: "web", Server: "two"}}, Value: 1},
	} {
		c := a.Authority.Apply(t, a, peer.Incarnation(), action, time.Minute)
		e := a.Authority.Sign(t, c)
		peer.Send(t, e)
		id := c.ID
		if reason == command.ReasonRiskNeedsApprover {
			id = actor.StrangerID(e) // whose signatures do not suffice is not believed in its name
		}
		if r := peer.Await(t, id, command.Refused, 5*time.Second); r.Reason != reason {
			t.Errorf("%s on %s is refused because %s, want %s", action.Name, action.Target, r.Reason, reason)
		}
	}
	if got := b.share(t); got < 45 || got > 55 {
		t.Errorf("server one got %d%% of the sessions after everything was taken back", got)
	}
}

// A reload brings the file's weight back without a word. The actor sets the weight again under the new worker, and what
// the lease ends with is what the new file says.
func TestHAProxyReload(t *testing.T) {
	b := newBalancer(t, "")
	target := b.server()
	a := rig.NewActor(t, rig.Grant("haproxy.weight", target, 1, 256))
	a.Start(t)
	peer := a.Dial(t)
	c := peer.Do(t, a, command.Action{Name: "haproxy.weight", Target: target, Value: 10}, 6*time.Second)
	port := 0
	if _, err := fmt.Sscanf(b.url, "http://127.0.0.1:%d/", &port); err != nil {
		t.Fatal(err)
	}
	pid := func() string {
		for line := range strings.Lines(b.say(t, "show info")) {
			if v, ok := strings.CutPrefix(line, "Pid: "); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	before := pid()
	b.write(t, port, 80)
	b.process.Signal(syscall.SIGUSR2)
	rig.Until(t, 5*time.Second, "HAProxy has a new worker", func() string {
		if now := pid(); now == before || now == "" {
			return "the old one answers"
		}
		return ""
	})
	took := rig.Until(t, 2*time.Second, "the weight is set again", func() string {
		if w := b.stat(t, "weight"); w != "10" {
			return "it is " + w
		}
		return ""
	})
	t.Logf("set again %s after the new worker answered", took.Round(time.Millisecond))
	peer.Await(t, c.ID, command.Reverted, 10*time.Second)
	if w := b.stat(t, "weight"); w != "80" {
		t.Errorf("the weight is %s after the lease, the file says 80", w)
	}
	// The same while no actor is there to see it: the next one finds another worker, and its lease goes on.
	peer.Do(t, a, command.Action{Name: "haproxy.weight", Target: target, Value: 10}, time.Minute)
	a.Kill()
	before = pid()
	b.write(t, port, 70)
	b.process.Signal(syscall.SIGUSR2)
	rig.Until(t, 5*time.Second, "HAProxy has a new worker with the file's weight", func() string {
		if now := pid(); now == before || now == "" || b.stat(t, "weight") != "70" {
			return "the old one answers"
		}
		return ""
	})
	a.Start(t)
	rig.Until(t, 2*time.Second, "the next actor sets the weight again", func() string {
		if w := b.stat(t, "weight"); w != "10" {
			return "it is " + w
		}
		return ""
	})
	if code := a.Stop(t, 10*time.Second); code != 0 {
		t.Errorf("a clean stop ended with %d", code)
	}
	if w := b.stat(t, "weight"); w != "70" {
		t.Errorf("the weight is %s after the actor stopped, the file says 70", w)
	}
	a.Start(t)
	peer = a.Dial(t)

	// A HAProxy that is stopped has nothing to give back.
	c = peer.Do(t, a, command.Action{Name: "haproxy.weight", Target: target, Value: 10}, 2*time.Second)
	b.process.End()
	if r := peer.Await(t, c.ID, command.Reverted, 10*time.Second); !strings.Contains(r.Detail, "gone") {
		t.Errorf("%+v", r)
	}
}
