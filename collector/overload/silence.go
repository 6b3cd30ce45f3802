package overload

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reach is what is known of whether a host is there.
type Reach uint8

// The reaches of a host.
const (
	NeverSeen Reach = iota // not in this run of the collector: says nothing
	Connected
	Silent    // nothing heard, nobody has looked yet: unknown
	AgentLost // something answers on the host, its agent does not: unknown
	Down      // nothing answers to two observers: critical
)

var reachNames = [...]string{"never seen", "connected", "silent", "agent lost", "down"}

// String returns the reach as the API writes it.
func (r Reach) String() string { return reachNames[r] }

// The observers that are asked.
const (
	ObserverCollector = "collector"
	agentPrefix       = "agent/"
)

// SilenceConfig holds the waits of a Silence. Zero fields take the default.
type SilenceConfig struct {
	// Quiet is how long after the start no host is called silent; default 30s.
	Quiet time.Duration
	// Patience is how long an observer may take to answer before another is asked; default 5s.
	Patience time.Duration
	// Again is how often a silent host is looked at anew; default 15s.
	Again time.Duration
	// Together is how close losses must lie to count as one; default 5s.
	Together time.Duration
}

// Silence tells a host that is down from an agent that is lost, and both from a collector that is itself cut off. It is
// pure: the caller passes the time and does the asking. It belongs to one goroutine.
type Silence struct {
	cfg     SilenceConfig
	started time.Time
	hosts   map[string]*heard
	shared  bool
}

type heard struct {
	name    string
	last    time.Time
	period  time.Duration
	reach   Reach
	since   time.Time
	asked   time.Time
	pending map[string]time.Time // observer -> when asked
	answers map[string]answer
	tried   map[string]bool // agents that were asked and did not report, until all were
	shared  bool
}

type answer struct {
	up     bool
	at     time.Time
	detail string
}

// Asking is a request to look at a host. Observer is ObserverCollector or "agent/NAME".
type Asking struct {
	Host     string
	Observer string
}

// ReachChange is a change of a host's reach.
type ReachChange struct {
	Host      string
	Reach     Reach
	Since     time.Time
	Observers []string // who looked, for AgentLost and Down
	// Shared is set where many hosts fell silent together: the cause is between them and the collector, or the
	// collector itself, so no host is to blame and no incident is opened for it.
	Shared bool
	Text   string
}

// SilenceStep is what a Tick asks for.
type SilenceStep struct {
	Changes []ReachChange
	Ask     []Asking
}

// NewSilence returns the state at the start of a collector.
func NewSilence(cfg SilenceConfig, started time.Time) *Silence {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Quiet, 30*time.Second)
	def(&cfg.Patience, 5*time.Second)
	def(&cfg.Again, 15*time.Second)
	def(&cfg.Together, 5*time.Second)
	return &Silence{cfg: cfg, started: started, hosts: map[string]*heard{}}
}

// Heard says that a batch or heartbeat of the host came. The change is false where the host was connected before.
func (s *Silence) Heard(host string, period time.Duration, at time.Time) (ReachChange, bool) {
	h := s.hosts[host]
	if h == nil {
		h = &heard{name: host}
		s.hosts[host] = h
	}
	h.last, h.period = at, max(period, time.Second)
	if h.reach == Connected {
		return ReachChange{}, false
	}
	h.turn(Connected, at)
	h.shared = false
	return ReachChange{Host: host, Reach: Connected, Since: at, Text: "the agent is connected"}, true
}

// Forget takes a host out: it was revoked, or its agent said that it stops for good.
func (s *Silence) Forget(host string) { delete(s.hosts, host) }

// Reach returns what is known of a host and since when.
func (s *Silence) Reach(host string) (Reach, time.Time) {
	if h := s.hosts[host]; h != nil {
		return h.reach, h.since
	}
	return NeverSeen, time.Time{}
}

// Answer takes an observer's report. A report for a host that is connected again, or by one that was not asked, is
// ignored.
func (s *Silence) Answer(host, observer string, up bool, detail string, at time.Time) {
	h := s.hosts[host]
	if h == nil || h.reach == Connected {
		return
	}
	if _, asked := h.pending[observer]; !asked {
		return
	}
	delete(h.pending, observer)
	h.answers[observer] = answer{up, at, detail}
}

// Tick moves every host on. It is to be called about once a second.
func (s *Silence) Tick(at time.Time) SilenceStep {
	var step SilenceStep
	if at.Sub(s.started) < s.cfg.Quiet {
		return step
	}
	names := make([]string, 0, len(s.hosts))
	for n := range s.hosts {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		h := s.hosts[n]
		if h.reach == Connected && at.Sub(h.last) > patience(h.period) {
			h.turn(Silent, at)
			step.Changes = append(step.Changes, ReachChange{
				Host: n, Reach: Silent, Since: at, Text: fmt.Sprintf("nothing heard for %s", at.Sub(h.last).Round(time.Second)),
			})
		}
	}
	s.fold(at, names)
	for i := range step.Changes {
		c := &step.Changes[i]
		if c.Shared = s.hosts[c.Host].shared; c.Shared {
			c.Text += "; most hosts fell silent with it, so the cause is shared"
		}
	}
	for _, n := range names {
		s.look(s.hosts[n], names, at, &step)
	}
	return step
}

// fold finds losses that belong together: more than half of at least four hosts within a few seconds. They stay marked
// until no more than half of the hosts are missing.
func (s *Silence) fold(at time.Time, names []string) {
	if len(names) < 4 {
		s.release(names)
		return
	}
	missing := 0
	var newest time.Time
	for _, n := range names {
		if h := s.hosts[n]; h.reach != Connected {
			missing++
			if h.since.After(newest) && h.reach == Silent {
				newest = h.since
			}
		}
	}
	if 2*missing <= len(names) {
		s.release(names)
		return
	}
	together := 0
	for _, n := range names {
		if h := s.hosts[n]; h.reach != Connected && (h.shared || newest.Sub(h.since) <= s.cfg.Together && !h.since.After(newest)) {
			together++
		}
	}
	if s.shared || 2*together > len(names) {
		s.shared = true
		for _, n := range names {
			if h := s.hosts[n]; h.reach == Silent {
				h.shared = true
			}
		}
	}
}

func (s *Silence) release(names []string) {
	if !s.shared {
		return
	}
	s.shared = false
	for _, n := range names {
		s.hosts[n].shared = false
	}
}

// Shared reports whether most hosts are held to be missing for one shared cause.
func (s *Silence) Shared() bool { return s.shared }

// look asks observers about a silent host and judges what they say.
func (s *Silence) look(h *heard, names []string, at time.Time, step *SilenceStep) {
	if h.reach == Connected || h.reach == NeverSeen || h.shared {
		return
	}
	// Losses that belong together do not arrive on one tick: wait before the first question, and so before a verdict.
	if at.Sub(h.since) < s.cfg.Together && h.reach == Silent && len(s.hosts) >= 4 {
		return
	}
	for o, t := range h.pending {
		if at.Sub(t) >= s.cfg.Patience {
			delete(h.pending, o)
			h.tried[o] = true
		}
	}
	s.verdict(h, at, step)
	if !h.asked.IsZero() && at.Sub(h.asked) >= s.cfg.Again {
		clear(h.answers)
		h.asked = time.Time{}
	}
	ask := func(observer string) {
		h.pending[observer] = at
		h.asked = at
		step.Ask = append(step.Ask, Asking{h.name, observer})
	}
	if _, done := h.answers[ObserverCollector]; !done && !h.waits(ObserverCollector) {
		ask(ObserverCollector)
	}
	if h.agentBusy() {
		return
	}
	for range 2 {
		for _, n := range names {
			if n != h.name && s.hosts[n].reach == Connected && !h.tried[agentPrefix+n] {
				ask(agentPrefix + n)
				return
			}
		}
		clear(h.tried) // everybody was asked: begin again
	}
}

func (h *heard) waits(observer string) bool {
	_, ok := h.pending[observer]
	return ok
}

// agentBusy reports whether another agent was asked and is awaited or has answered.
func (h *heard) agentBusy() bool {
	for o := range h.pending {
		if o != ObserverCollector {
			return true
		}
	}
	for o := range h.answers {
		if o != ObserverCollector {
			return true
		}
	}
	return false
}

func (s *Silence) verdict(h *heard, at time.Time, step *SilenceStep) {
	var observers, details []string
	up := false
	for o, a := range h.answers {
		observers = append(observers, o)
		if a.up {
			up = true
			details = append(details, o+": "+a.detail)
		}
	}
	slices.Sort(observers)
	slices.Sort(details)
	next := h.reach
	text := ""
	switch {
	case up:
		next, text = AgentLost, "the host answers and its agent does not ("+strings.Join(details, "; ")+")"
	case len(observers) >= 2:
		next, text = Down, "no answer to "+strings.Join(observers, " and ")
	}
	if next == h.reach {
		return
	}
	answers, pending, tried, asked := h.answers, h.pending, h.tried, h.asked
	h.turn(next, at)
	h.answers, h.pending, h.tried, h.asked = answers, pending, tried, asked
	step.Changes = append(step.Changes, ReachChange{Host: h.name, Reach: next, Since: at, Observers: observers, Text: text})
}

func (h *heard) turn(r Reach, at time.Time) {
	h.reach, h.since, h.asked = r, at, time.Time{}
	h.pending, h.answers, h.tried = map[string]time.Time{}, map[string]answer{}, map[string]bool{}
}
