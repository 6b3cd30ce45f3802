package remedy

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// The protocol of one action, explored to the end: every order in which messages are delivered, doubled, delayed and lost,
// in which writes to the ledger fail before or after they are done, collector and actor are killed and started again, the
// host falls silent, the overload ends, time passes and the kill switch is thrown, up to a number of events. The state
// machine is the real one, Action.Handle; the driver around it is that of drive.go without its goroutines, and the actor is
// what reference/remediation.md 4c demands of one (agent/actor is held to the same by its own tests).
//
// EVENKEEL_EXPLORE=N goes N events deep; without it the depth is what takes a few seconds.

const (
	exploreDepth  = 5
	exploreFaults = 2 // failed writes and kills along one way
	exploreLease  = 20
)

// outcome is what becomes of a write to the ledger.
type outcome uint8

const (
	written outcome = iota
	lostBefore
	lostAfter // written, and the answer lost
)

// fate is what becomes of the writes of an event: those from the first or the second on.
type fate struct {
	from int
	how  outcome
}

// parcel is something on its way. It stays there for ever: whatever was sent may arrive late, and more than once.
type parcel struct {
	Kind    command.Kind
	ID      string
	Counter uint32
	Expires int
}

// peer is the actor: its journal survives everything.
type peer struct {
	Seen     map[string]command.Phase // by id of a command or order
	Executed int
	Held     bool
	Until    int
	Counter  uint32
	Killed   bool
}

// model is one state of everything.
type model struct {
	now     int
	down    bool    // the collector
	act     *Action // in its memory
	after   []Effect
	dirty   bool
	stale   bool // the ledger may hold another revision than is thought
	ledger  *Action
	permit  bool
	mine    bool // the permit's revision is known
	parcels []parcel
	results []command.Result
	actor   peer
	known   bool
	trigger overload.State
	kill    bool
	signed  int
	faults  int
	fate    fate // of the event in hand
	writes  int  // of it so far
	wrong   string
}

func exploreStart() *model {
	below := 0.2
	a := newAction("A", &Situation{
		At: second(0), Host: "h", Policy: Policy{Mode: Auto, Times: Times{
			Dwell: 5 * time.Second, Outcome: 5 * time.Second, Lease: exploreLease * time.Second, Steps: 6,
		}},
	}, &Plan{Proposal: &Proposal{
		Action: command.Action{Name: "cpu.weight", Target: command.Target{Unit: "batch.service"}, Value: 10}, Component: "component/batch",
		Protects: "component/web", Risk: command.R1, Lease: exploreLease * time.Second,
		Verify: Verify{Signal: "runqueue.delay", Of: "protected", Below: &below}, Former: Former{Cores: 1, ProtectedCores: 1, ProtectedDelay: 2},
	}})
	a.Plan = nil
	m := &model{act: a, known: true, trigger: overload.Overloaded, actor: peer{Seen: map[string]command.Phase{}}}
	m.after = a.begin(second(0))
	return m
}

// write returns what becomes of the next write.
func (m *model) write() outcome {
	m.writes++
	if m.fate.how != written && m.writes >= m.fate.from {
		return m.fate.how
	}
	return written
}

func second(n int) time.Time { return time.Unix(1_000_000+int64(n), 0).UTC() }

func seconds(t time.Time) int { return int(t.Unix() - 1_000_000) }

// copyAction is a copy with the memory that clone leaves out.
func copyAction(a *Action) *Action {
	if a == nil {
		return nil
	}
	c := a.clone()
	c.watch = a.watch
	c.watch.recent = slices.Clone(a.watch.recent)
	return &c
}

func (m *model) clone() *model {
	c := *m
	c.act, c.ledger = copyAction(m.act), copyAction(m.ledger)
	c.after, c.parcels, c.results = slices.Clone(m.after), slices.Clone(m.parcels), slices.Clone(m.results)
	c.actor.Seen = map[string]command.Phase{}
	for k, v := range m.actor.Seen {
		c.actor.Seen[k] = v
	}
	return &c
}

// key names a state apart from how long ago it all began.
func (m *model) key() [32]byte {
	rel := func(t time.Time) int {
		if t.IsZero() {
			return -10000
		}
		return max(min(seconds(t)-m.now, 800), -800)
	}
	act := func(a *Action) any {
		if a == nil {
			return nil
		}
		var order any
		if a.Order != nil {
			order = []any{a.Order.ID, a.Order.Kind, a.Order.Counter, rel(a.Order.Expires), rel(a.Order.SentAt)}
		}
		return []any{
			a.State, a.Reason, len(a.Envelope) > 0, a.Fence.Revision, a.Counter, order, rel(a.Expires), rel(a.SentAt), rel(a.AppliedAt), rel(a.ActiveAt),
			rel(a.RevertAt), rel(a.LeaseUntil), a.watch.recent, a.watch.harm, rel(a.watch.easySince), rel(a.watch.wellSince), rel(a.watch.blind),
		}
	}
	var parcels []any
	for _, p := range m.parcels {
		parcels = append(parcels, []any{p.Kind, p.ID, p.Counter, max(p.Expires-m.now, -1)})
	}
	var results []any
	for _, r := range m.results {
		results = append(results, []any{r.ID, r.Phase, r.Reason})
	}
	until := -1
	if m.actor.Held {
		until = m.actor.Until - m.now
	}
	text, err := json.Marshal([]any{
		m.down, act(m.act), m.after, m.dirty, m.stale, act(m.ledger), m.permit, m.mine, parcels, results, m.actor.Seen, m.actor.Executed, until, m.actor.Counter,
		m.actor.Killed, m.known, m.trigger, m.kill, m.signed, m.faults,
	})
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(text)
}

func (m *model) fail(format string, a ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, a...)
	}
}

// save is the executor's, with the event's outcome.
func (m *model) save() {
	how := m.write()
	if how == lostBefore {
		return
	}
	if m.stale { // the revision is another: the record is read, and adopted where it has ended
		m.stale = false
		if m.ledger != nil && m.ledger.State.Terminal() {
			m.act, m.after = copyAction(m.ledger), nil
		}
		m.mine = m.permit
	}
	if m.ledger != nil && m.ledger.State.Terminal() && m.ledger.State != m.act.State {
		m.fail("a record that has ended was changed from %s to %s", m.ledger.State, m.act.State)
	}
	m.ledger = copyAction(m.act)
	if m.act.State.Terminal() && m.mine {
		m.permit, m.mine = false, false
	}
	if how == lostAfter {
		m.stale = true
		return
	}
	m.dirty = false
}

// drive is feed and advance without the waiting.
func (m *model) drive(in Input) {
	inputs := []Input{in}
	for {
		switch {
		case len(m.after) > 0 && !m.dirty:
			f := m.after[0]
			m.after = m.after[1:]
			if m.act.wants(f) {
				if answer := m.effect(f); answer != nil {
					inputs = append([]Input{answer}, inputs...)
				}
			}
		case len(inputs) > 0:
			effects, changed := m.act.Handle(second(m.now), inputs[0])
			inputs = inputs[1:]
			m.after = append(m.after, effects...)
			if m.dirty = m.dirty || changed; m.dirty {
				m.save()
			}
		default:
			return
		}
	}
}

func (m *model) effect(f Effect) Input {
	a := m.act
	switch f {
	case WriteIntent:
		how := m.write()
		if how == lostBefore {
			return CancelledBy{"remedy", "", ReasonCancelled}
		}
		m.ledger, m.permit = copyAction(a), true
		if how == lostAfter {
			m.stale = true
			return CancelledBy{"remedy", "", ReasonCancelled}
		}
		m.mine = true
		return IntentWritten{command.Fence{Incarnation: 1, Revision: 1}}
	case SignCommand:
		switch {
		case m.kill:
			return CancelledBy{"remedy", "", ReasonKillSwitch}
		case !m.known:
			return CancelledBy{"remedy", "", ReasonHostLost}
		case m.trigger != overload.Overloaded:
			return CancelledBy{"remedy", "", ReasonConditionGone}
		}
		if m.signed++; m.signed > 1 {
			m.fail("signed twice")
		}
		return SignedAs{[]byte("bytes"), "hash", second(m.now + 30)}
	case SendCommand:
		if m.ledger == nil || len(m.ledger.Envelope) == 0 {
			m.fail("sent before SIGNED stood in the ledger")
		}
		m.send(parcel{command.Apply, a.ID, 0, seconds(a.Expires)})
	case MakeRenewal, MakeRevert:
		kind := command.Renew
		if f == MakeRevert {
			kind = command.Revert
		}
		n := a.Counter + 1
		return OrderReady{Order{ID: "o" + strconv.Itoa(int(n)), Kind: kind, Counter: n, Expires: second(m.now + 30), SentAt: second(m.now), Envelope: []byte("order")}}
	case SendOrder:
		if o := a.Order; o != nil {
			m.send(parcel{o.Kind, o.ID, o.Counter, seconds(o.Expires)})
		}
	}
	return nil
}

// send puts something on its way, as long as the host can be reached and it is good still.
func (m *model) send(p parcel) {
	if m.known && m.now < p.Expires && !slices.Contains(m.parcels, p) {
		m.parcels = append(m.parcels, p)
	}
}

// arrive is what an actor does with a command.
func (m *model) arrive(p parcel) {
	x := &m.actor
	if _, seen := x.Seen[p.ID]; seen {
		return // the stored result is on its way already
	}
	switch {
	case m.now >= p.Expires:
		m.say(command.Result{ID: p.ID, Phase: command.Refused, Reason: command.ReasonExpired})
	case x.Killed && p.Kind == command.Apply:
		m.say(command.Result{ID: p.ID, Phase: command.Refused, Reason: command.ReasonKilled})
	case p.Kind == command.Apply:
		x.Executed++
		x.Held, x.Until = true, m.now+exploreLease
		m.say(command.Result{ID: p.ID, Phase: command.Accepted})
		m.say(command.Result{ID: p.ID, Phase: command.Applied, Prior: "100", Value: "10"})
	case !x.Held:
		m.say(command.Result{ID: p.ID, Phase: command.Refused, Reason: command.ReasonUnknownCommand})
	case p.Kind == command.Renew && p.Counter <= x.Counter:
		m.say(command.Result{ID: p.ID, Phase: command.Refused, Reason: command.ReasonReplayed})
	case p.Kind == command.Renew:
		x.Counter, x.Until = p.Counter, m.now+exploreLease
		m.say(command.Result{ID: p.ID, Phase: command.Renewed})
	case p.Kind == command.Revert:
		x.Seen[p.ID] = command.Reverted
		m.release("")
	}
}

func (m *model) release(why command.Reason) {
	m.actor.Held = false
	m.say(command.Result{ID: "A", Phase: command.Reverted, Reason: why, Value: "100"})
}

func (m *model) say(r command.Result) {
	m.actor.Seen[r.ID] = r.Phase
	if !slices.ContainsFunc(m.results, func(o command.Result) bool { return o.ID == r.ID && o.Phase == r.Phase && o.Reason == r.Reason }) {
		m.results = append(m.results, r)
	}
}

// pass lets time go by; leases end by themselves, and a collector that is up looks at the end of it.
func (m *model) pass(n int) {
	m.now += n
	if m.actor.Held && m.now >= m.actor.Until {
		m.release("lease-ended")
	}
	if m.down {
		return
	}
	if m.act.State.Terminal() && !m.dirty {
		return
	}
	look := Look{HostKnown: m.known, Trigger: overload.Unknown}
	if m.known {
		look.Trigger = m.trigger
		look.Verify = Reading{2, true}
		if m.actor.Held {
			look.Verify.Value = 0.1
		}
		look.SqueezedRunning = Reading{8, true}
	}
	m.drive(Looked{look})
}

// move is one event.
type move struct {
	name string
	do   func(m *model)
}

// moves are the events that can happen in a state.
func (m *model) moves() []move {
	var out []move
	add := func(name string, do func(m *model)) { out = append(out, move{name, do}) }
	writes := func(name string, do func(m *model)) {
		add(name, do)
		if m.faults >= exploreFaults {
			return
		}
		for _, f := range []fate{{1, lostBefore}, {1, lostAfter}, {2, lostBefore}, {2, lostAfter}} {
			add(fmt.Sprintf("%s, writes from %d on lost %d", name, f.from, f.how), func(m *model) {
				m.faults++
				m.fate, m.writes = f, 0
				do(m)
				m.fate = fate{}
			})
		}
	}
	if len(m.after) > 0 && !m.down && m.act.State == Queued && !m.dirty {
		writes("begins", func(m *model) { m.drive(begun{}) })
		return out
	}
	if m.known {
		for _, p := range m.parcels {
			if _, seen := m.actor.Seen[p.ID]; !seen {
				add(fmt.Sprintf("%v %s arrives", p.Kind, p.ID), func(m *model) { m.arrive(p) })
			}
		}
		if !m.down {
			for _, r := range m.results {
				writes(fmt.Sprintf("%s %s is heard", r.Phase, r.ID), func(m *model) { m.drive(ResultCame{r}) })
			}
		}
	}
	for _, n := range []int{2, 6, 31} {
		pass := func(m *model) { m.pass(n) }
		if m.down {
			add(fmt.Sprintf("%d s pass", n), pass)
		} else {
			writes(fmt.Sprintf("%d s pass", n), pass)
		}
	}
	add("host falls silent or is back", func(m *model) { m.known = !m.known })
	if m.trigger == overload.Overloaded {
		add("the overload ends", func(m *model) { m.trigger = overload.Healthy })
	}
	if !m.kill {
		if !m.down {
			writes("kill switch", func(m *model) {
				m.kill = true
				m.drive(CancelledBy{"ann", "", ReasonKillSwitch})
			})
		}
		if m.known {
			add("the host's kill file", func(m *model) {
				m.kill, m.actor.Killed = true, true
				if m.actor.Held {
					m.release(command.ReasonKilled)
				}
			})
		}
	}
	switch {
	case m.down:
		add("collector starts", func(m *model) {
			m.down = false
			if m.ledger == nil {
				m.act.State = Cancelled // nothing of it was ever written
				return
			}
			m.act = copyAction(m.ledger)
			m.act.watch = watch{}
			m.mine = m.permit
			m.drive(Recovered{})
			if m.kill {
				m.drive(CancelledBy{"ann", "", ReasonKillSwitch})
			}
		})
	case m.faults < exploreFaults:
		add("collector is killed", func(m *model) { m.faults++; m.down, m.dirty, m.after, m.stale, m.mine = true, false, nil, false, false })
	}
	return out
}

// check says what must never be.
func (m *model) check() string {
	switch {
	case m.wrong != "":
		return m.wrong
	case m.actor.Executed > 1:
		return "executed twice"
	case m.actor.Held && m.actor.Until-m.now > exploreLease:
		return "a lease longer than was signed"
	case m.actor.Held && m.actor.Killed:
		return "held under a kill file"
	}
	return ""
}

// peace lets everything work again and nothing be wanted any more, and says what is left.
func (m *model) peace() string {
	m.known, m.trigger = true, overload.Healthy
	for range 400 {
		for _, mv := range m.moves() {
			if mv.name == "collector starts" {
				mv.do(m)
			}
		}
		for _, p := range m.parcels {
			m.arrive(p)
		}
		for _, r := range m.results {
			m.drive(ResultCame{r})
		}
		m.pass(3)
		if m.act.State.Terminal() && !m.dirty && !m.actor.Held {
			break
		}
	}
	switch {
	case m.check() != "":
		return m.check()
	case m.actor.Held:
		return "a lease is left"
	case !m.act.State.Terminal():
		return "it is still " + string(m.act.State)
	case m.permit && m.ledger != nil && m.ledger.State.Terminal():
		return "a permit is left"
	}
	return ""
}

func TestEveryWayOfAnAction(t *testing.T) {
	depth := exploreDepth
	if s := os.Getenv("EVENKEEL_EXPLORE"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("EVENKEEL_EXPLORE: %v", err)
		}
		depth = n
	}
	type node struct {
		m    *model
		from *node
		how  string
	}
	trace := func(n *node) (out []string) {
		for ; n != nil; n = n.from {
			out = append(out, n.how)
		}
		slices.Reverse(out)
		return out
	}
	seen := map[[32]byte]bool{}
	layer := []*node{{m: exploreStart(), how: "proposed"}}
	moves, ends := 0, map[State]int{}
	for d := range depth {
		var next []*node
		for _, n := range layer {
			for _, mv := range n.m.moves() {
				moves++
				m := n.m.clone()
				mv.do(m)
				k := m.key()
				if seen[k] {
					continue
				}
				seen[k] = true
				child := &node{m, n, mv.name}
				if why := m.check(); why != "" {
					t.Fatalf("%s:\n%q", why, trace(child))
				}
				if why := m.clone().peace(); why != "" {
					t.Fatalf("once all is well again %s:\n%q", why, trace(child))
				}
				if m.ledger != nil && m.ledger.State.Terminal() {
					ends[m.ledger.State]++
				}
				next = append(next, child)
			}
		}
		t.Logf("%d events: %d new states, %d in all, %d moves", d+1, len(next), len(seen), moves)
		layer = next
	}
	t.Logf("states by how the action had ended: %v", ends)
}
