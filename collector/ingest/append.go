package ingest

import (
	"errors"
	"math"
	"time"

	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// one is one of the two chains of a stream.
type one struct {
	live   bool
	state  *chain.Decoder // nil: nothing has come
	series []series       // by the decoder's index
	known  int            // live series that are let in
	epoch  uint32         // of the refs in series and ending
	ending []store.Ref    // of series that ended, until their end is stored

	fresh  bool // the observer has not seen this chain
	dead   bool // nothing is read before a key frame
	asked  bool // and the agent knows
	giveUp bool // and what comes until then can never be read
	parked bool // some series had no room in the node
	tryAt  time.Time
}

// series is what an append needs to know of one series.
type series struct {
	ref      store.Ref // 0: not created in the store yet
	mul, div float64
	group    metric.Group
	kind     kind
}

type kind uint8

const (
	scaled  kind = iota // the value is raw * mul / div
	float               // raw holds the bits of the value
	overCap             // one too many of this agent
	parked              // the node had no room
	bad                 // its identity breaks the rules
)

// reset forgets the chain, as when another begins.
func (c *one) reset() {
	*c = one{live: c.live, series: c.series[:0], ending: c.ending[:0], dead: true}
}

// follow takes over what ended and began with the frame that was read last. An index that ended may be taken by a new
// series at once.
func (c *one) follow(most int) {
	for _, gone := range c.state.Gone() {
		s := &c.series[gone.Index]
		if s.kind != overCap {
			c.known--
		}
		if s.ref != 0 {
			c.ending = append(c.ending, s.ref)
		}
		*s = series{}
	}
	for _, added := range c.state.Added() {
		for len(c.series) <= int(added.Index) {
			c.series = append(c.series, series{})
		}
		s := series{mul: 1, div: 1, group: added.Group, kind: scaled}
		switch {
		case c.known >= most:
			s.kind = overCap
		case added.Float:
			s.kind = float
		default:
			s.mul, s.div = float64(max(added.Scale.Mul, 1)), float64(max(added.Scale.Div, 1))
		}
		if s.kind != overCap {
			c.known++
		}
		c.series[added.Index] = s
	}
}

// count returns how many samples of the groups the tick holds.
func (c *one) count(groups uint64) int {
	n := 0
	for _, i := range c.state.Samples() {
		n += int(groups >> c.series[i].group & 1)
	}
	return n
}

// store gives a tick to the store and returns when it will be durable. An error means that nothing was taken.
func (s *Stream) store(c *one, id Boot, seq uint64, at int64, now time.Time) (store.Mark, error) {
	ran := c.state.Groups()
	groups := s.host.keep(c.live, ran, at, now, s.in.cfg.Interval)
	if groups != ran {
		s.in.stats.thinned.Add(uint64(c.count(ran &^ groups)))
	}
	if groups == 0 && len(c.ending) == 0 {
		return s.in.cfg.Store.Mark(), nil
	}
	lane, err := s.in.cfg.Store.Begin(s.host.lane)
	if err != nil {
		s.host.unkeep(c.live, groups)
		return store.Mark{}, err
	}
	if e := lane.Epoch(); e != c.epoch {
		// The database was opened again, and its refs may name other series now.
		for i := range c.series {
			c.series[i].ref = 0
		}
		c.epoch, c.ending = e, c.ending[:0]
	}
	if c.parked && now.After(c.tryAt) {
		c.unpark()
	}
	var refused [numKinds]int
	n := s.append(lane, c, groups, at, now, &refused)
	for _, ref := range c.ending {
		_ = lane.Append(ref, at, store.Stale()) // a series that is not known any more needs no end
	}
	mark, err := lane.End()
	if err != nil {
		s.host.unkeep(c.live, groups)
		return mark, err
	}
	c.ending = c.ending[:0]
	s.in.stats.samples.Add(uint64(n))
	for k, n := range refused {
		if n > 0 {
			s.refuse(k, n, id, seq, now)
		}
	}
	return mark, nil
}

// append adds the samples of the groups and returns how many. It looks nothing up, takes no lock and allocates nothing
// for a series that the store has.
func (s *Stream) append(lane *store.Lane, c *one, groups uint64, at int64, now time.Time, refused *[numKinds]int) int {
	raw := c.state.Raw()
	n := 0
	for _, i := range c.state.Samples() {
		e := &c.series[i]
		if groups>>e.group&1 == 0 {
			continue
		}
		var v float64
		switch e.kind {
		case scaled:
			v = float64(raw[i]) * e.mul / e.div
		case float:
			v = math.Float64frombits(uint64(raw[i]))
		default:
			refused[e.kind.refusal()]++
			continue
		}
		if e.ref != 0 {
			err := lane.Append(e.ref, at, v)
			if err == nil {
				n++
				continue
			}
			if !errors.Is(err, store.ErrUnknownRef) {
				refused[refusalOf(err)]++
				continue
			}
		}
		ref, err := lane.Create(s.host.name, &c.state.Series(i).Desc, at, v)
		if err == nil {
			e.ref = ref
			n++
			continue
		}
		k := refusalOf(err)
		refused[k]++
		switch k {
		case kindNode:
			e.kind = parked
			if !c.parked {
				c.parked, c.tryAt = true, now.Add(parkFor)
			}
		case kindBad:
			e.kind = bad
		}
	}
	return n
}

// unpark lets series be tried again for which the node had no room.
func (c *one) unpark() {
	c.parked = false
	for i := range c.series {
		if c.series[i].kind == parked {
			c.series[i].kind = scaled
			if c.state.Series(int32(i)).Float {
				c.series[i].kind = float
			}
		}
	}
}

func (k kind) refusal() int {
	switch k {
	case overCap:
		return kindCap
	case parked:
		return kindNode
	}
	return kindBad
}

func refusalOf(err error) int {
	switch {
	case errors.Is(err, store.ErrTooOld):
		return kindPast
	case errors.Is(err, store.ErrTooManySeries):
		return kindNode
	case errors.Is(err, store.ErrConflict):
		return kindConflict
	}
	return kindBad
}

// keep returns the groups of a tick that are stored. The decision is made once a group and tick: the first tick in each
// interval of the clock is kept, so a tick that is sent again meets the same decision.
func (h *host) keep(live bool, ran uint64, at int64, now time.Time, interval time.Duration) uint64 {
	if interval <= time.Second {
		return ran
	}
	k := &h.kept[0]
	if !live {
		k = &h.kept[1]
	}
	bucket := at/interval.Milliseconds() + 1 // 0 stands for none
	var kept uint64
	for g := range metric.MaxGroups {
		if ran>>g&1 != 0 && k[g] != bucket {
			k[g] = bucket
			kept |= 1 << g
		}
	}
	if h.detail.Load() > now.UnixMilli() {
		return ran
	}
	return kept
}

// unkeep takes the decision back for a tick that the store did not take.
func (h *host) unkeep(live bool, groups uint64) {
	k := &h.kept[0]
	if !live {
		k = &h.kept[1]
	}
	for g := range metric.MaxGroups {
		if groups>>g&1 != 0 {
			k[g] = 0
		}
	}
}
