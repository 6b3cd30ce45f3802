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
	pools map[manifest.Ref]*pool // of the components that were asked about since
}

// pool is how all members of a component stand.
type pool struct {
	of      map[string]share // by host
	need    int
	well    int
	known   bool    // of every member what it uses
	carried float64 // cores that all of them use
	room    float64 // that those who are well use and have left
}

// share is one member's part of its pool.
type share struct {
	well bool
	room float64
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
		if h.fresh(now) {
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
	s.fleet, s.pools = f, nil
}

// poolOf looks at every member of a component, once a second at most: where many hosts are overloaded, many ask.
func (d *decider) poolOf(component manifest.Ref, snapshot *servicemap.Snapshot) *pool {
	if p := d.around.pools[component]; p != nil {
		return p
	}
	graph := d.health.Graph()
	p := &pool{of: map[string]share{}, need: graph.Needs(component), known: true}
	for _, m := range graph.Members(component) {
		cores, idle, ok := d.carries(m)
		p.known = p.known && ok
		p.carried += cores
		x := share{}
		if r, found := snapshot.Range(m.Ref); found && r.High <= health.Warning {
			x = share{true, cores + idle}
			p.well++
			p.room += x.room
		}
		p.of[m.Host] = x
	}
	if d.around.pools == nil {
		d.around.pools = map[manifest.Ref]*pool{}
	}
	d.around.pools[component] = p
	return p
}

// without is how the others that do the work of a host's member stand.
func (p *pool) without(host string) governor.Group {
	g := governor.Group{Members: len(p.of), Well: p.well, Need: p.need}
	room := p.room
	if x := p.of[host]; x.well {
		g.Well--
		room -= x.room
	}
	if p.known && p.carried > 0 {
		g.Spare = room / p.carried
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

// groups is how those stand that do the same work as each component on a host. It takes the hosts' locks one after the other.
func (d *decider) groups(host string) map[manifest.Ref]governor.Group {
	snapshot := d.snapshot.Load()
	out := map[manifest.Ref]governor.Group{}
	for _, m := range d.health.Graph().OnHost(host) {
		out[m.Ref] = d.poolOf(m.Component, snapshot).without(host)
	}
	return out
}
