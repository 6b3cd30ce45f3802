package collector

import (
	"time"

	"github.com/evenkeel/evenkeel/collector/governor"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/roster"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// surroundings is what the guard-rails are told of the fleet. It belongs to the decider's goroutine and is brought up to
// date once a second: none of it moves faster.
type surroundings struct {
	since time.Time // when this collector began to decide
	storm governor.Storm
	fleet governor.Fleet
}

// survey counts the fleet.
func (d *decider) survey(now time.Time) {
	s := &d.around
	if s.since.IsZero() {
		s.since = now
	}
	f := governor.Fleet{Since: s.since}
	for _, r := range d.roster.Hosts() {
		if r.State == roster.Admitted {
			f.Expected++
		}
	}
	for _, h := range d.fleet.all() {
		h.mu.Lock()
		if h.connected && now.Sub(h.heard) <= h.silentAfter() {
			f.Reported++
		}
		for _, v := range h.verdicts {
			if v.State == overload.Overloaded && v.Subject == "" {
				f.Overloaded++
				break
			}
		}
		h.mu.Unlock()
	}
	seen, gone := 0, 0
	if p := d.reach.Load(); p != nil {
		for _, c := range *p {
			seen++
			if c.Reach != overload.Connected {
				gone++
			}
		}
	}
	f.Storm = s.storm.Look(now, seen, gone)
	s.fleet = f
}

// groupOf is how the others that do the work of a member stand.
func (d *decider) groupOf(m servicemap.Member, snapshot *servicemap.Snapshot) governor.Group {
	graph := d.health.Graph()
	var g governor.Group
	carried, room := 0.0, 0.0
	known := true
	for _, o := range graph.Members(m.Component) {
		g.Members++
		cores, idle, ok := d.carries(o)
		known = known && ok
		carried += cores
		if o.Host == m.Host {
			continue
		}
		if r, found := snapshot.Range(o.Ref); found && r.High <= health.Warning {
			g.Well++
			room += cores + idle
		}
	}
	g.Need = graph.Needs(m.Component)
	if known && carried > 0 {
		g.Spare = room / carried
	}
	return g
}

// carries is what a member uses of the CPU now, and what its host has left.
func (d *decider) carries(m servicemap.Member) (cores, idle float64, ok bool) {
	h := d.fleet.known(m.Host)
	if h == nil {
		return 0, 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	cores, n := h.engine.Mean("component.cpu", string(m.Component), lookBack)
	used, k := h.engine.Mean("cpu.used", "", lookBack)
	return cores, max(0, float64(h.session.Facts.CPUs)-used), n > 0 && k > 0
}

// groups is groupOf of each component on a host. It takes the hosts' locks one after the other.
func (d *decider) groups(host string) map[manifest.Ref]governor.Group {
	snapshot := d.snapshot.Load()
	out := map[manifest.Ref]governor.Group{}
	for _, m := range d.health.Graph().OnHost(host) {
		out[m.Ref] = d.groupOf(m, snapshot)
	}
	return out
}
