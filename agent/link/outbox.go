package link

import (
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// outbox holds the control messages that wait for a session. Link.mu guards it.
type outbox struct {
	results []result
	unsent  int // results[len(results)-unsent:] were not sent on this session

	actor         []byte
	actorNew      bool
	components    *agentv1.ComponentReport
	componentsNew bool

	exits     []*agentv1.ProcessExit
	changes   []*agentv1.HostChange
	reaches   []*agentv1.ReachReport
	heartbeat *agentv1.Heartbeat
}

type result struct {
	id      string
	ordinal uint32
	raw     []byte
}

// reopen makes everything that a new session must hear of unsent again.
func (o *outbox) reopen() {
	o.unsent = len(o.results)
	o.actorNew, o.componentsNew = o.actor != nil, o.components != nil
	o.reaches, o.heartbeat = nil, nil
}

// addResult queues a result once, and returns how many had to go for it.
func (o *outbox) addResult(id string, ordinal uint32, raw []byte) (dropped uint64) {
	for i := range o.results {
		if r := &o.results[i]; r.id == id && r.ordinal == ordinal {
			// The actor sends again what it holds for unstored: so do we.
			if sent := len(o.results) - o.unsent; i < sent {
				again := *r
				o.results = append(append(o.results[:i], o.results[i+1:]...), again)
				o.unsent++
			}
			return 0
		}
	}
	if len(o.results) >= resultQueue {
		o.results = append(o.results[:0], o.results[1:]...)
		o.unsent, dropped = min(o.unsent, len(o.results)), 1
	}
	o.results = append(o.results, result{id, ordinal, raw})
	o.unsent++
	return dropped
}

// stored forgets a result and reports whether it was there.
func (o *outbox) stored(id string, ordinal uint32) {
	for i := range o.results {
		if r := &o.results[i]; r.id == id && r.ordinal == ordinal {
			if i >= len(o.results)-o.unsent {
				o.unsent--
			}
			o.results = append(o.results[:i], o.results[i+1:]...)
			return
		}
	}
}

func (o *outbox) addExit(m *agentv1.ProcessExit) (dropped uint64) {
	if len(o.exits) >= exitQueue {
		o.exits, dropped = append(o.exits[:0], o.exits[1:]...), 1
	}
	o.exits = append(o.exits, m)
	return dropped
}

func (o *outbox) addChange(m *agentv1.HostChange) (dropped uint64) {
	if len(o.changes) >= changeQueue {
		o.changes, dropped = append(o.changes[:0], o.changes[1:]...), 1
	}
	o.changes = append(o.changes, m)
	return dropped
}

func (o *outbox) addReach(m *agentv1.ReachReport) (dropped uint64) {
	if len(o.reaches) >= reachQueue {
		o.reaches, dropped = append(o.reaches[:0], o.reaches[1:]...), 1
	}
	o.reaches = append(o.reaches, m)
	return dropped
}

// next takes the control message that goes first: results, then what the actor may do, where components run, exits,
// answers, changes, and the heartbeat. nil: none. A result that was taken counts as sent on this session.
func (o *outbox) next() any {
	switch {
	case o.unsent > 0:
		r := o.results[len(o.results)-o.unsent]
		o.unsent--
		return rawRequest(fieldResult, r.raw)
	case o.actorNew:
		o.actorNew = false
		return rawRequest(fieldActor, o.actor)
	case o.componentsNew:
		o.componentsNew = false
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Components{Components: o.components}}
	case len(o.exits) > 0:
		m := o.exits[0]
		o.exits = o.exits[1:]
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Exit{Exit: m}}
	case len(o.reaches) > 0:
		m := o.reaches[0]
		o.reaches = o.reaches[1:]
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Reach{Reach: m}}
	case len(o.changes) > 0:
		m := o.changes[0]
		o.changes = o.changes[1:]
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Change{Change: m}}
	case o.heartbeat != nil:
		m := o.heartbeat
		o.heartbeat = nil
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: m}}
	}
	return nil
}
