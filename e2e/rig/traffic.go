package rig

import (
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Approver has a host's permissions list the key of an approver and returns it. The actor must not be started yet.
func (a *Actor) Approver(t testing.TB) command.Key {
	t.Helper()
	key := NewKey(t)
	line := "approvers: [" + command.FormatPublicKey(key.Public().(ed25519.PublicKey)) + "]"
	a.permissionsContent = strings.Replace(a.permissionsContent, "approvers: []", line, 1)
	Write(t, a.Permissions, a.permissionsContent)
	return command.Key{Private: key}
}

// Rights has the actor started with no more capabilities than its unit and one of the drop-ins grant. It replaces what Under said.
func (a *Actor) Rights(t testing.TB, dropIn string, outer ...string) {
	t.Helper()
	set := "-all"
	for _, file := range []string{"packaging/systemd/evenkeel-actor.service", "packaging/systemd/drop-in/" + dropIn} {
		if strings.HasSuffix(file, "/") {
			continue
		}
		for line := range strings.Lines(Read(t, filepath.Join(Root(t), file))) {
			if names, ok := strings.CutPrefix(strings.TrimSpace(line), "CapabilityBoundingSet="); ok {
				for _, name := range strings.Fields(names) {
					set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
				}
			}
		}
	}
	a.Under(append(outer, "setpriv", "--bounding-set", set, "--no-new-privs", "--")...)
}

// Settings appends lines to the actor's configuration. The actor must not be started yet.
func (a *Actor) Settings(t testing.TB, lines string) {
	t.Helper()
	Write(t, a.Config, Read(t, a.Config)+"\n"+lines)
}

// RevertAll takes everything back without the actor, where the actor would run, and returns what it said.
func (a *Actor) RevertAll(t testing.TB) string {
	t.Helper()
	argv := append(append([]string{}, a.wrap...), a.Binary, "revert", "--all", "--config", a.Config)
	return Must(t, argv[0], argv[1:]...)
}

// DoApproved is Do with the signature of an approver beside the collector's.
func (p *Peer) DoApproved(t testing.TB, a *Actor, approver command.Key, action command.Action, lease time.Duration) command.Command {
	t.Helper()
	c := a.Authority.Apply(t, a, p.Incarnation(), action, lease)
	e, err := a.Authority.Sign(t, c).With(approver)
	if err != nil {
		t.Fatal(err)
	}
	p.Send(t, e)
	p.Await(t, c.ID, command.Applied, 15*time.Second)
	return c
}

// Lever is one action on a real thing, with what can be seen of it from outside.
type Lever struct {
	Action      command.Action
	Approver    command.Key   // zero: the collector's signature is enough
	Read        func() string // what stands, by another way than the actor's
	Prior, Want string
	Effect      func(t *testing.T) // nil: none beyond Read; called while the action is in force
	Drift       func()             // another's hand
	Drifted     string             // what Read then says
	Mend        func()             // brings Prior back after Drift
	Lease       time.Duration      // default 2 s
}

// Try sees the action applied and verified, taken back at the end of its lease, taken back by the kill file, left alone
// where somebody else changed the thing, and taken back by a clean stop and offline after a crash.
func (l Lever) Try(t *testing.T, a *Actor) {
	t.Helper()
	if l.Lease == 0 {
		l.Lease = 2 * time.Second
	}
	becomes := func(want string, patience time.Duration, what string) {
		t.Helper()
		Until(t, patience, what, func() string {
			if got := l.Read(); got != want {
				return fmt.Sprintf("reads %q, want %q", got, want)
			}
			return ""
		})
	}
	expect := func(want, when string) {
		t.Helper()
		if got := l.Read(); got != want {
			t.Fatalf("%s, %s: reads %q, want %q", l.Action.Name, when, got, want)
		}
	}
	peer := a.Dial(t)
	apply := func(lease time.Duration) command.Command {
		t.Helper()
		if l.Approver.Private == nil {
			return peer.Do(t, a, l.Action, lease)
		}
		return peer.DoApproved(t, a, l.Approver, l.Action, lease)
	}
	expect(l.Prior, "before")

	began := time.Now()
	c := apply(l.Lease)
	if results := peer.Results(c.ID); len(results) >= 2 {
		t.Logf("%s: accepted to applied in %s", l.Action.Name, results[1].Time.Sub(results[0].Time))
	}
	expect(l.Want, "during the lease")
	peer.Await(t, c.ID, command.Reverted, l.Lease+5*time.Second)
	if took := time.Since(began); took < l.Lease {
		t.Errorf("%s was taken back after %s, its lease was %s", l.Action.Name, took, l.Lease)
	}
	expect(l.Prior, "after the lease")

	c = apply(time.Minute)
	if l.Effect != nil {
		l.Effect(t)
	}
	expect(l.Want, "before the kill file")
	began = time.Now()
	Write(t, a.KillFile, "")
	becomes(l.Prior, 2*time.Second, l.Action.Name+" is taken back by the kill file")
	t.Logf("%s: kill file to taken back in %s", l.Action.Name, time.Since(began).Round(time.Millisecond))
	peer.Await(t, c.ID, command.Reverted, 5*time.Second)
	refused := a.Authority.Apply(t, a, peer.Incarnation(), l.Action, time.Minute)
	e := a.Authority.Sign(t, refused)
	if l.Approver.Private != nil {
		var err error
		if e, err = e.With(l.Approver); err != nil {
			t.Fatal(err)
		}
	}
	peer.Send(t, e)
	if r := peer.Await(t, refused.ID, command.Refused, 5*time.Second); r.Reason != command.ReasonKilled {
		t.Errorf("under the kill file refused because %s", r.Reason)
	}
	Must(t, "rm", a.KillFile)
	Until(t, 5*time.Second, "the actor goes on", func() string {
		if peer.Report().Killed {
			return "it is stopped"
		}
		return ""
	})

	if l.Drift != nil {
		c = apply(l.Lease)
		l.Drift()
		expect(l.Drifted, "after another's hand")
		peer.Await(t, c.ID, command.Drifted, l.Lease+5*time.Second)
		expect(l.Drifted, "after the lease")
		l.Mend()
		expect(l.Prior, "mended")
	}

	apply(time.Minute)
	a.Kill()
	expect(l.Want, "after the actor was killed")
	if out := a.RevertAll(t); !strings.Contains(out, "reverted") {
		t.Errorf("revert --all said %q", out)
	}
	expect(l.Prior, "after revert --all")
	a.Start(t)
	peer = a.Dial(t)
	apply(time.Minute)
	if code := a.Stop(t, 20*time.Second); code != 0 {
		t.Errorf("a clean stop ended with %d", code)
	}
	expect(l.Prior, "after a clean stop")
	a.Start(t)
}

// Backend is a web server that counts what it answers.
type Backend struct {
	Address string
	served  atomic.Int64
}

// NewBackend serves on a port of its own until the test ends, on loopback unless an address is given.
func NewBackend(t testing.TB, address string) *Backend {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b := &Backend{Address: l.Addr().String()}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			b.served.Add(1)
			fmt.Fprintln(w, b.Address)
		}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return b
}

// Take returns how many requests were answered since it was asked last.
func (b *Backend) Take() int { return int(b.served.Swap(0)) }

// Requests makes n requests, each over a connection of its own, and returns how many were answered.
func Requests(t testing.TB, url string, n int) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	good := 0
	for range n {
		r, err := client.Get(url)
		if err != nil {
			continue
		}
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			good++
		}
	}
	return good
}

// FreePort returns a TCP port of loopback that nobody listens on now.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Router is two network namespaces with a cable between them: what is done to traffic is done to the near one, and
// measured from the far one.
type Router struct {
	Near, Far  string // namespaces
	Address    string // of the near one
	Interface  string // its end of the cable
	FarAddress string
	farEnd     string
}

// NewRouter makes the namespaces.
func NewRouter(t testing.TB) *Router {
	t.Helper()
	id := os.Getpid() % 100000
	r := &Router{
		Near: fmt.Sprintf("%s-near-%d", Prefix, id), Far: fmt.Sprintf("%s-far-%d", Prefix, id), Address: "10.214.0.1", FarAddress: "10.214.0.2",
		Interface: fmt.Sprintf("%sv%d", Prefix, id), farEnd: fmt.Sprintf("%sw%d", Prefix, id),
	}
	for _, ns := range []string{r.Near, r.Far} {
		Must(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { Run(t, "ip", "netns", "del", ns) })
		Must(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	r.Cable(t)
	return r
}

// Cable puts a new cable between the two; the old one is gone, whatever was on its ends.
func (r *Router) Cable(t testing.TB) {
	t.Helper()
	Run(t, "ip", "-n", r.Near, "link", "del", r.Interface)
	Must(t, "ip", "-n", r.Near, "link", "add", r.Interface, "type", "veth", "peer", "name", r.farEnd, "netns", r.Far)
	for _, x := range [][]string{{r.Near, r.Interface, r.Address}, {r.Far, r.farEnd, r.FarAddress}} {
		Must(t, "ip", "-n", x[0], "addr", "add", x[2]+"/24", "dev", x[1])
		Must(t, "ip", "-n", x[0], "link", "set", x[1], "up")
	}
}

// In returns a program's arguments that run it in a namespace.
func In(namespace string, argv ...string) []string {
	return append([]string{"ip", "netns", "exec", namespace}, argv...)
}

// Nft runs nft in the near namespace as an operator does.
func (r *Router) Nft(t testing.TB, args ...string) string {
	t.Helper()
	argv := In(r.Near, append([]string{"nft"}, args...)...)
	return Must(t, argv[0], argv[1:]...)
}

// TC runs tc there.
func (r *Router) TC(t testing.TB, args ...string) string {
	t.Helper()
	argv := In(r.Near, append([]string{"tc"}, args...)...)
	return Must(t, argv[0], argv[1:]...)
}
