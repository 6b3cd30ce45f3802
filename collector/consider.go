package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// lookBack is over how long a contender's use is averaged: the ticks that the shipped detectors judge by.
const lookBack = 3 * time.Second

// consider asks remedy about every policy that answers a verdict of the host.
func (d *decider) consider(h *host, now time.Time) {
	i, open := d.book.Of(now, string(manifest.RefOf(manifest.KindHost, h.name)))
	if !open {
		return
	}
	if d.labels(h.name)["detail"] != "full" {
		d.detail(h.name, now.Add(detailAfter))
	}
	var situation *remedy.Situation // the same for every policy
	for _, p := range d.policies {
		if !p.hosts.Matches(h.name, d.labels(h.name)) {
			continue
		}
		h.mu.Lock()
		v, found := h.verdicts[(&overload.Verdict{Host: h.name, Detector: p.Detector}).Key()]
		h.mu.Unlock()
		if !found || v.State != overload.Overloaded || v.Level < p.Level {
			continue
		}
		if situation == nil {
			x := d.situation(h, now)
			situation = &x
		}
		s := *situation
		s.Incident, s.Verdict, s.Policy = i.ID, v, p.Policy
		if !d.executor.Consider(s) {
			d.log.Warn("remedy is busy, a situation was left out", "host", h.name, "incident", i.ID)
		}
	}
}

func (d *decider) labels(name string) map[string]string {
	for _, h := range d.health.Graph().Hosts() {
		if h.Name == name {
			return h.Labels
		}
	}
	return nil
}

// detailAfter is how long every tick is stored after a host was last in trouble.
const detailAfter = 30 * time.Minute

// stealing is the share of the CPU taken by the hypervisor from which squeezing neighbours brings nothing back.
const stealing = 0.10

// situation describes a host as the planner needs it.
func (d *decider) situation(h *host, now time.Time) remedy.Situation {
	s := remedy.Situation{At: now, Host: h.name, HostKnown: d.fleet.Known(h.name)}
	graph, snapshot := d.health.Graph(), d.snapshot.Load()
	_, s.Maintenance = snapshot.Maintenance(manifest.RefOf(manifest.KindHost, h.name))
	losses, groups := d.marginal(h.name, now), d.groups(h.name)
	s.Fleet = d.around.fleet
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Actor = h.actor
	s.Actor.Present = s.Actor.Present && h.connected
	s.CPUs = h.session.Facts.CPUs
	if steal, n := h.engine.Mean("cpu.steal", "", lookBack); n > 0 && steal >= stealing {
		s.Steal = true
	}
	used, _ := h.engine.Mean("cpu.used", "", lookBack)
	mapped := 0.0
	for _, m := range graph.OnHost(h.name) {
		target, ok := targetOf(m.Spec)
		if !ok {
			continue
		}
		c := remedy.Contender{
			Component: string(m.Component), Target: target, Cgroup: h.places[string(m.Component)].Cgroup, Value: valueOf(graph.Value(m.Ref, now)),
		}
		c.Group = groups[m.Ref]
		if loss := losses[m.Ref]; loss.Ranked {
			v := valueOf(loss)
			c.Loss = &v
		}
		_, c.Maintenance = snapshot.Maintenance(m.Ref)
		for _, service := range graph.ServicesAbove(m.Ref) {
			c.Services = append(c.Services, string(service))
		}
		if g := m.Spec.Guarantee; g != nil {
			c.Guarantee, c.Memory = g.CPU.Float(), float64(g.Memory)
		}
		cores, n := h.engine.Mean("component.cpu", string(m.Component), lookBack)
		delay, k := h.engine.Mean("runqueue.delay", string(m.Component), lookBack)
		if n > 0 && k > 0 {
			c.Known, c.Cores, c.Delay = true, cores, delay
			mapped += cores
		}
		if used > 0 {
			c.Share = c.Cores / used
		}
		s.Contenders = append(s.Contenders, c)
	}
	// What is on no map is shown, so that nobody wonders where the CPU went, and can never be chosen.
	if rest := used - mapped; used > 0 && rest > used/10 {
		s.Contenders = append(s.Contenders, remedy.Contender{
			Name: "what is on no map", Cores: rest, Share: rest / used, Known: true,
		})
	}
	return s
}

// marginal is what an hour without each of a host's components alone would cost, given what is held back elsewhere.
func (d *decider) marginal(host string, now time.Time) map[manifest.Ref]servicemap.Value {
	var parts, held []manifest.Ref
	for _, m := range d.health.Graph().OnHost(host) {
		parts = append(parts, m.Ref)
	}
	for _, x := range d.executor.Squeezed() {
		if x.Host != host {
			held = append(held, servicemap.MemberRef(manifest.Ref(x.Component), x.Host))
		}
	}
	out := make(map[manifest.Ref]servicemap.Value, len(parts))
	for i, v := range d.snapshot.Load().Marginal(parts, held, now) {
		out[parts[i]] = v
	}
	return out
}

func valueOf(v servicemap.Value) remedy.Value {
	out := remedy.Value{Points: v.Points}
	if v.Priced {
		out.Money, out.Currency = v.Money.Float(), v.Currency
	}
	return out
}

// targetOf is where a component runs; false for a component that is the host itself or is watched otherwise.
func targetOf(c *manifest.Component) (command.Target, bool) {
	switch {
	case c == nil:
	case c.Unit != "":
		return command.Target{Unit: c.Unit}, true
	case c.Cgroup != "":
		return command.Target{Cgroup: c.Cgroup}, true
	case c.Process != nil:
		return command.Target{Process: &command.Process{Exe: c.Process.Exe, User: c.Process.User}}, true
	case c.Port != "":
		return command.Target{Port: c.Port}, true
	case c.Check != nil && c.Check.HTTP != "":
		return command.Target{Check: &command.Check{Kind: "http", Address: c.Check.HTTP}}, true
	case c.Check != nil && c.Check.TCP != "":
		return command.Target{Check: &command.Check{Kind: "tcp", Address: c.Check.TCP}}, true
	}
	return command.Target{}, false
}

// probe has an observer try to reach a silent host.
func (d *decider) probe(ctx context.Context, a overload.Asking) {
	h := d.fleet.host(a.Host)
	h.mu.Lock()
	ip, _, err := net.SplitHostPort(h.session.Address)
	h.mu.Unlock()
	if err != nil {
		return // never connected to this run, so nowhere to look
	}
	d.asked++
	id := strconv.Itoa(d.asked)
	if a.Observer != overload.ObserverCollector {
		_ = d.sessions.SendReach(a.Observer[len("agent/"):], id, a.Host, ip)
		return
	}
	go func() {
		up, detail := d.reachable(ctx, ip)
		if ctx.Err() != nil {
			return
		}
		d.do(func(now time.Time) { d.silence.Answer(a.Host, overload.ObserverCollector, up, detail, now) })
	}()
}

// reachable says whether anything at an address answers: a refused connection is an answer too.
func reachable(ctx context.Context, ip string) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	type outcome struct {
		up     bool
		detail string
	}
	ports := []string{"22", "80", "443"}
	results := make(chan outcome, len(ports))
	for _, port := range ports {
		go func() {
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip, port))
			switch {
			case err == nil:
				c.Close()
				results <- outcome{true, "connected to port " + port}
			case errors.Is(err, syscall.ECONNREFUSED):
				results <- outcome{true, "port " + port + " refused, so the host is up"}
			default:
				results <- outcome{false, fmt.Sprintf("no answer on port %s", port)}
			}
		}()
	}
	last := outcome{false, "no answer"}
	for range ports {
		if last = <-results; last.up {
			return true, last.detail
		}
	}
	return false, last.detail
}
