package overload

import (
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Window is how long every value of a signal is kept.
const Window = 10 * time.Minute

const (
	firstRing = 40
	// A subject without a series is forgotten after this long.
	forgetAfter = Window
)

// Host holds the signals of one host and steps its detectors. After warm-up a Step in which no verdict changes does not
// allocate. A Host belongs to one goroutine.
type Host struct {
	name string
	set  *Set

	series   []*metric.Desc // by index of the chain; nil where nothing is bound
	clocks   [metric.MaxGroups]*clock
	slots    map[place]*slot
	bySignal [][]*slot
	valued   map[string]bool

	at      int64
	lost    []*slot // lost their last series since the last Step
	silent  bool
	changed []Verdict
	orphans []*instance
}

// place names a slot.
type place struct {
	signal  int
	subject string
}

// clock is the time of one group of series: when it ran, and the inputs that it feeds.
type clock struct {
	group  metric.Group
	last   int64 // unix nanoseconds of the last run, 0 before the first
	period time.Duration
	times  []int64
	count  int // runs recorded
	inputs []input
	slots  []*slot // whose numerator is of this group
	stale  bool
}

// input is one bound series in one place.
type input struct {
	index int
	slot  *slot
	desc  *metric.Desc
	term  *term
	den   bool
	has   bool
	prev  int64
}

// slot is one signal of one subject.
type slot struct {
	place
	clock      *clock
	values     []float32 // beside clock.times; NaN where the run gave no value
	num, den   float64
	bad        bool // an input had no usable growth on this run
	nums, dens int  // bound inputs
	denKnown   bool
	fresh      bool  // the last run gave a value
	goodAt     int64 // of the last value
	lostAt     int64
	instances  []*instance
}

// NewHost returns the engine of one host. The set is shared and may be changed later with Use.
func NewHost(name string, set *Set) *Host {
	return &Host{
		name: name, set: set, slots: map[place]*slot{}, bySignal: make([][]*slot, len(signals)), valued: map[string]bool{},
	}
}

// Use puts other detectors in force. A detector whose text is the same keeps its state; verdicts of those that went are
// told as gone by the next Step.
func (h *Host) Use(set *Set) {
	h.set = set
	for _, s := range h.slots {
		old := s.instances
		s.instances = nil
		for _, d := range set.bySignal[s.signal] {
			i := slices.IndexFunc(old, func(i *instance) bool { return i.detector.same(d) })
			if i >= 0 {
				old[i].detector = d
				s.instances = append(s.instances, old[i])
				old = slices.Delete(old, i, i+1)
				continue
			}
			s.instances = append(s.instances, &instance{detector: d, slot: s})
		}
		for _, o := range old {
			// A detector of that name on the same subject follows: its first verdict replaces the old one.
			if !slices.ContainsFunc(s.instances, func(i *instance) bool { return i.detector.Name == o.detector.Name }) {
				h.orphans = append(h.orphans, o)
			}
		}
	}
}

// SetComponents says which components that run on this host have a value, for conditions of "valued".
func (h *Host) SetComponents(valued []string) {
	clear(h.valued)
	for _, v := range valued {
		h.valued[v] = true
	}
}

// Bind says that the chain's series at index is d. Binding the same series again changes nothing, so a key frame that
// repeats the dictionary costs no history.
func (h *Host) Bind(index int, d *metric.Desc) {
	for index >= len(h.series) {
		h.series = append(h.series, nil)
	}
	if old := h.series[index]; old != nil {
		if sameSeries(old, d) {
			return
		}
		h.Unbind(index)
	}
	places := uses[d.Name]
	if len(places) == 0 {
		return
	}
	bound := false
	for _, u := range places {
		if !u.term.takes(d) {
			continue
		}
		subject, ok := signals[u.signal].subject(d)
		if !ok {
			continue
		}
		bound = true
		c := h.clock(d.Group)
		s := h.slot(place{u.signal, subject})
		c.inputs = append(c.inputs, input{index: index, slot: s, desc: d, term: u.term, den: u.den})
		if u.den {
			s.dens++
		} else {
			s.nums++
			s.move(c)
		}
	}
	if bound {
		h.series[index] = d
	}
}

// Unbind says that the series at index has ended: it is gone, or its probe failed.
func (h *Host) Unbind(index int) {
	if index >= len(h.series) || h.series[index] == nil {
		return
	}
	c := h.clocks[h.series[index].Group]
	h.series[index] = nil
	c.inputs = slices.DeleteFunc(c.inputs, func(in input) bool {
		if in.index != index {
			return false
		}
		h.drop(in.slot, in.den)
		return true
	})
}

// Reset unbinds every series, for the start of another chain. Windows and states of detectors stay.
func (h *Host) Reset() {
	for _, c := range h.clocks {
		if c == nil {
			continue
		}
		for _, in := range c.inputs {
			h.drop(in.slot, in.den)
		}
		c.inputs = c.inputs[:0]
	}
	clear(h.series)
	h.series = h.series[:0]
}

func (h *Host) drop(s *slot, den bool) {
	if den {
		s.dens--
		s.denKnown = false
		return
	}
	s.nums--
	if s.nums == 0 {
		s.lostAt = h.at
		h.lost = append(h.lost, s)
	}
}

func (h *Host) clock(g metric.Group) *clock {
	g %= metric.MaxGroups
	if h.clocks[g] == nil {
		h.clocks[g] = &clock{group: g, times: make([]int64, firstRing)}
	}
	return h.clocks[g]
}

func (h *Host) slot(p place) *slot {
	if s := h.slots[p]; s != nil {
		return s
	}
	s := &slot{place: p}
	for _, d := range h.set.bySignal[p.signal] {
		s.instances = append(s.instances, &instance{detector: d, slot: s})
	}
	h.slots[p] = s
	h.bySignal[p.signal] = append(h.bySignal[p.signal], s)
	return s
}

// move gives the slot the clock of its numerator, with an empty window where that is another than before.
func (s *slot) move(c *clock) {
	if s.clock == c {
		return
	}
	if s.clock != nil {
		s.clock.slots = slices.DeleteFunc(s.clock.slots, func(o *slot) bool { return o == s })
	}
	s.clock = c
	s.values = make([]float32, len(c.times))
	for i := range s.values {
		s.values[i] = float32(math.NaN())
	}
	c.slots = append(c.slots, s)
}

// Step takes one tick: groups are the bits of the groups that ran, raw the readings by index of the chain. It steps the
// detectors whose signals got a sample, and returns the verdicts that changed, valid until the next call. A tick that is
// not later than the one before is ignored.
func (h *Host) Step(at time.Time, groups uint64, raw []int64) []Verdict {
	now := at.UnixNano()
	h.changed = h.changed[:0]
	if now <= h.at {
		return h.changed
	}
	h.at, h.silent = now, false
	h.tellGone()
	for g, c := range h.clocks {
		if c != nil && groups&(1<<g) != 0 {
			c.run(now, raw)
		}
	}
	for _, s := range h.lost {
		if s.nums == 0 {
			s.fresh = false
			h.blind(s)
		}
	}
	h.lost = h.lost[:0]
	for g, c := range h.clocks {
		if c == nil {
			continue
		}
		switch {
		case groups&(1<<g) != 0:
			for _, s := range c.slots {
				if s.fresh {
					s.goodAt = now
					h.judge(s)
				} else if now-s.goodAt > int64(patience(c.period)) {
					h.blind(s) // one run without a value, as after a reset, is no outage
				}
			}
			if c.count%firstRing == 0 {
				h.forget(c)
			}
		case !c.stale && c.last != 0 && now-c.last > int64(patience(c.period)):
			c.stale = true
			for _, s := range c.slots {
				h.blind(s)
			}
		}
	}
	return h.changed
}

// MarkSilent says that the host has sent nothing for too long: every verdict becomes unknown until samples come again.
// It returns the verdicts that changed, valid until the next call.
func (h *Host) MarkSilent(at time.Time) []Verdict {
	h.changed = h.changed[:0]
	if h.silent {
		return h.changed
	}
	h.silent = true
	h.at = max(h.at, at.UnixNano())
	for _, c := range h.clocks {
		if c == nil {
			continue
		}
		c.stale = true
		for _, s := range c.slots {
			h.blind(s)
		}
	}
	return h.changed
}

// patience is how long a probe of that period may be quiet before its signals are unknown.
func patience(period time.Duration) time.Duration { return 3*max(period, time.Second) + time.Second }

// run feeds the group's readings into its slots.
func (c *clock) run(now int64, raw []int64) {
	elapsed := time.Duration(0)
	if c.last != 0 {
		elapsed = time.Duration(now - c.last)
		c.learn(elapsed)
	}
	c.last, c.stale = now, false
	if c.count >= len(c.times) && now-c.times[c.count%len(c.times)] < int64(Window) {
		c.grow()
	}
	pos := c.count % len(c.times)
	c.times[pos] = now
	c.count++

	for i := range c.inputs {
		in := &c.inputs[i]
		if in.den {
			in.slot.den = 0
		} else {
			in.slot.num, in.slot.bad = 0, false
		}
	}
	for i := range c.inputs {
		in := &c.inputs[i]
		v, ok := in.read(raw)
		s := in.slot
		switch {
		case !ok:
			s.bad = true
		case in.den:
			s.den += v
			s.denKnown = true
		case signals[s.signal].largest:
			s.num = max(s.num, v)
		default:
			s.num += v
		}
	}
	for _, s := range c.slots {
		v, ok := s.value(elapsed)
		s.fresh = ok
		if !ok {
			v = math.NaN()
		}
		s.values[pos] = float32(v)
	}
}

// read returns the input's part: growth of a counter, value of a gauge. It is false for the first reading of a counter
// and after a reset.
func (in *input) read(raw []int64) (float64, bool) {
	if in.index >= len(raw) {
		return 0, false
	}
	r := raw[in.index]
	if !in.term.counter {
		v := in.desc.Value(r)
		return v, !math.IsNaN(v)
	}
	prev, had := in.prev, in.has
	in.prev, in.has = r, true
	if !had {
		return 0, false
	}
	var growth float64
	if in.desc.Float {
		growth = in.desc.Value(r) - in.desc.Value(prev)
	} else {
		growth = in.desc.Scale.Value(r - prev)
	}
	if growth < 0 && in.term.dips {
		return 0, true
	}
	return growth, growth >= 0
}

func (s *slot) value(elapsed time.Duration) (float64, bool) {
	sig := &signals[s.signal]
	if s.nums == 0 || s.bad {
		return 0, false
	}
	v := s.num
	rate := sig.num[0].counter
	if len(sig.den) == 0 {
		if rate {
			if elapsed <= 0 {
				return 0, false
			}
			v /= elapsed.Seconds()
		}
		return v, true
	}
	if s.dens == 0 || !s.denKnown {
		return 0, false
	}
	if sig.den[0].counter {
		if s.den <= 0 {
			return 0, s.num <= 0 // nothing happened, so nothing went wrong
		}
		return v / s.den, true
	}
	den := max(s.den, sig.denMin)
	if rate {
		den *= elapsed.Seconds()
	}
	if den <= 0 {
		return 0, false // no swap, no limit, speed not known
	}
	v /= den
	if sig.complement {
		v = 1 - v
	}
	return v, true
}

// learn follows the distance of the group's runs: at once where it gets shorter, slowly where it gets longer, so that an
// outage does not pass for a period.
func (c *clock) learn(elapsed time.Duration) {
	switch {
	case c.period == 0 || elapsed < c.period:
		c.period = elapsed
	case elapsed < 4*c.period:
		c.period += (elapsed - c.period) / 16
	}
}

// grow doubles the window's rings, keeping the order of runs.
func (c *clock) grow() {
	old := len(c.times)
	times := make([]int64, 2*old)
	for n := c.count - old; n < c.count; n++ {
		times[n%len(times)] = c.times[n%old]
	}
	c.times = times
	for _, s := range c.slots {
		values := make([]float32, len(times))
		for i := range values {
			values[i] = float32(math.NaN())
		}
		for n := c.count - old; n < c.count; n++ {
			values[n%len(values)] = s.values[n%old]
		}
		s.values = values
	}
}

// forget takes away the slots of a clock whose series ended long ago.
func (h *Host) forget(c *clock) {
	c.slots = slices.DeleteFunc(c.slots, func(s *slot) bool {
		if s.nums > 0 || s.dens > 0 || h.at-s.lostAt < int64(forgetAfter) {
			return false
		}
		for _, i := range s.instances {
			h.gone(i)
		}
		delete(h.slots, s.place)
		h.bySignal[s.signal] = slices.DeleteFunc(h.bySignal[s.signal], func(o *slot) bool { return o == s })
		return true
	})
}

func sameSeries(a, b *metric.Desc) bool {
	return a == b || a.Name == b.Name && a.Group == b.Group && a.Float == b.Float && a.Scale == b.Scale && slices.Equal(a.Labels, b.Labels)
}
