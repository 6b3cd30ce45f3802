package actor

import (
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// phase is where a lease stands.
type phase string

const (
	started   phase = "started"   // journalled, not known to be written
	applied   phase = "applied"   // written and read back
	releasing phase = "releasing" // on the way back, in steps
	stuck     phase = "stuck"     // a revert failed; it is tried again
)

// lease is one change in force, with the way back.
type lease struct {
	ID       string          `json:"id"` // of the command
	Resource string          `json:"resource"`
	Action   command.Action  `json:"action"`
	Values   []int64         `json:"values"` // every value that may be found as ours, newest last
	State    actuator.State  `json:"state"`  // the original baseline, also after a superseding command
	BootID   string          `json:"bootId"`
	Deadline time.Duration   `json:"deadline"` // on the boot clock
	Counter  uint32          `json:"counter,omitempty"`
	Release  command.Release `json:"release,omitzero"`
	Phase    phase           `json:"phase"`
	Older    string          `json:"older,omitempty"` // the command that this one superseded while it is not yet applied
	From     int64           `json:"from,omitempty"`  // value at the start of the release
	Steps    int             `json:"steps,omitempty"`
	Next     time.Duration   `json:"next,omitempty"` // boot clock: next step of a release, next try of a stuck revert
	Once     bool            `json:"once,omitempty"` // cannot be taken back: it is held only until it is known to be done
}

func (l lease) change() actuator.Change {
	return actuator.Change{Target: l.Action.Target, State: l.State, Values: l.Values}
}

func (l lease) value() int64 { return l.Values[len(l.Values)-1] }

// with returns the lease with one more value of ours. The oldest are forgotten beyond a bound that no honest sequence
// reaches between two clean walks.
func (l lease) with(v int64) lease {
	values := l.Values
	if len(values) >= mostValues {
		values = values[len(values)-mostValues+1:]
	}
	l.Values = append(slices.Clone(values), v)
	return l
}

// Bounds of what is kept.
const (
	mostValues   = 128
	mostResults  = 1000
	mostSeen     = 4000
	mostStamps   = 4096
	keepSeen     = 24 * time.Hour // beyond expiry, so that a clock that is set back does not reopen the past
	mostFences   = 4096
	stampHorizon = longestPer
)

// stamp is one application, for rates.
type stamp struct {
	Action string    `json:"action"`
	Target string    `json:"target"`
	At     time.Time `json:"at"`
}

type seen struct {
	Hash    string          `json:"hash"`
	Expires time.Time       `json:"expires"`
	Result  *command.Result `json:"result,omitempty"`
}

type mark struct {
	Resource string        `json:"resource"`
	Fence    command.Fence `json:"fence"`
}

type ack struct {
	ID      string `json:"id"`
	Ordinal uint32 `json:"ordinal"`
}

// revocation takes trust from a key, on the word of another.
type revocation struct {
	Key string `json:"key"`
	By  string `json:"by"`
}

type sighting struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
}

// entry is one journal record: a step, and everything that the step changes, in one atomic write. Kind is for people.
type entry struct {
	Kind        string           `json:"kind"`
	Incarnation string           `json:"incarnation,omitempty"`
	Put         *lease           `json:"put,omitempty"`
	Drop        string           `json:"drop,omitempty"` // resource
	Body        []byte           `json:"body,omitempty"` // the command, as signed
	Seen        *sighting        `json:"seen,omitempty"`
	Fence       *mark            `json:"fence,omitempty"`
	Stamp       *stamp           `json:"stamp,omitempty"`
	Killed      *string          `json:"killed,omitempty"` // id of the kill command; "" lifts it
	Revoked     *revocation      `json:"revoked,omitempty"`
	Results     []command.Result `json:"results,omitempty"`
	Ack         *ack             `json:"ack,omitempty"`
	Snapshot    *state           `json:"snapshot,omitempty"`
}

// state is the fold of a journal.
type state struct {
	Incarnation string                   `json:"incarnation"`
	Ordinal     uint32                   `json:"ordinal"`
	Killed      string                   `json:"killed,omitempty"`
	Revoked     map[string]string        `json:"revoked,omitempty"` // id of a key -> of that which revoked it; only a host's owner can take one out
	Leases      map[string]lease         `json:"leases"`            // by resource
	Seen        map[string]seen          `json:"seen"`
	Fences      map[string]command.Fence `json:"fences"`
	Stamps      []stamp                  `json:"stamps,omitempty"`
	Results     []command.Result         `json:"results,omitempty"` // not yet acked, by ordinal
}

func newState() *state {
	return &state{Leases: map[string]lease{}, Seen: map[string]seen{}, Fences: map[string]command.Fence{}, Revoked: map[string]string{}}
}

// fold applies one entry. It never fails: what is in the journal has happened.
func (s *state) fold(e entry) {
	if e.Snapshot != nil {
		fresh := newState()
		maps.Copy(fresh.Leases, e.Snapshot.Leases)
		maps.Copy(fresh.Seen, e.Snapshot.Seen)
		maps.Copy(fresh.Fences, e.Snapshot.Fences)
		fresh.Incarnation, fresh.Ordinal, fresh.Killed = e.Snapshot.Incarnation, e.Snapshot.Ordinal, e.Snapshot.Killed
		maps.Copy(fresh.Revoked, e.Snapshot.Revoked)
		fresh.Stamps, fresh.Results = slices.Clone(e.Snapshot.Stamps), slices.Clone(e.Snapshot.Results)
		*s = *fresh
	}
	if e.Incarnation != "" {
		s.Incarnation = e.Incarnation
	}
	if e.Put != nil && len(e.Put.Values) > 0 {
		s.Leases[e.Put.Resource] = *e.Put
	}
	if e.Drop != "" {
		delete(s.Leases, e.Drop)
	}
	if e.Seen != nil {
		s.Seen[e.Seen.ID] = seen{Hash: e.Seen.Hash, Expires: e.Seen.Expires}
	}
	if f := e.Fence; f != nil && f.Fence.Compare(s.Fences[f.Resource]) > 0 {
		s.Fences[f.Resource] = f.Fence
	}
	if e.Stamp != nil {
		s.Stamps = append(s.Stamps, *e.Stamp)
		s.Stamps = slices.DeleteFunc(s.Stamps, func(t stamp) bool { return t.At.Before(e.Stamp.At.Add(-stampHorizon)) })
		if len(s.Stamps) > mostStamps {
			s.Stamps = slices.Delete(s.Stamps, 0, len(s.Stamps)-mostStamps)
		}
	}
	if e.Killed != nil {
		s.Killed = *e.Killed
	}
	if r := e.Revoked; r != nil && s.Revoked[r.Key] == "" {
		s.Revoked[r.Key] = r.By
	}
	for _, r := range e.Results {
		s.Ordinal = max(s.Ordinal, r.Ordinal)
		s.Results = append(s.Results, r)
		if have, ok := s.Seen[r.ID]; ok {
			have.Result = &r
			s.Seen[r.ID] = have
		}
	}
	if len(s.Results) > mostResults {
		s.Results = slices.Delete(s.Results, 0, len(s.Results)-mostResults)
	}
	if e.Ack != nil {
		s.Results = slices.DeleteFunc(s.Results, func(r command.Result) bool { return r.ID == e.Ack.ID && r.Ordinal == e.Ack.Ordinal })
	}
}

// forget drops what can no longer matter: commands long expired. The fences stay and still refuse what is older.
func (s *state) forget(now time.Time) {
	maps.DeleteFunc(s.Seen, func(id string, x seen) bool { return now.After(x.Expires.Add(keepSeen)) })
	for len(s.Seen) > mostSeen {
		oldest := ""
		for id, x := range s.Seen {
			if oldest == "" || x.Expires.Before(s.Seen[oldest].Expires) {
				oldest = id
			}
		}
		delete(s.Seen, oldest)
	}
}

// snapshot returns a copy that a later fold does not change.
func (s *state) snapshot() *state {
	c := *s
	c.Leases, c.Seen, c.Fences = maps.Clone(s.Leases), maps.Clone(s.Seen), maps.Clone(s.Fences)
	c.Revoked = maps.Clone(s.Revoked)
	c.Stamps, c.Results = slices.Clone(s.Stamps), slices.Clone(s.Results)
	return &c
}

// byID finds the lease that a command holds.
func (s *state) byID(id string) (lease, bool) {
	for _, l := range s.Leases {
		if l.ID == id {
			return l, true
		}
	}
	return lease{}, false
}

// resources returns the keys of all leases in order.
func (s *state) resources() []string { return slices.Sorted(maps.Keys(s.Leases)) }
