package actor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/confine"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Actuator performs one action on the host. Prior reads what stands there, Write makes the newest value of a change so
// and reads it back, Look compares, Restore gives back what stood before wherever our value is still found, Tend takes
// in what was born since. Errors may be a *command.Refusal.
type Actuator interface {
	Prior(ctx context.Context, t command.Target) (actuator.State, error)
	Write(ctx context.Context, c actuator.Change) (actuator.State, string, error)
	Look(ctx context.Context, c actuator.Change) (actuator.Standing, string, error)
	Restore(ctx context.Context, c actuator.Change) (actuator.Standing, string, error)
	Tend(ctx context.Context, c actuator.Change) (actuator.State, bool, error)
}

// Pauses on the boot clock.
const (
	steadyFor  = time.Minute     // how long a clock must be steady after it was set
	retryStuck = 5 * time.Second // between tries of a revert that failed
	tendShare  = 30              // a walk that took d is not repeated for this many d: it must not become the load
)

// engine is the actor without its socket: it is used from one goroutine, and every change to the host goes through its
// journal first.
type engine struct {
	host        string
	bootID      string
	actuators   map[string]Actuator
	clock       func() Moment
	permissions func() (Permissions, error)
	emit        func(command.Result) // after the result is durable; must not block
	log         *slog.Logger
	trail       *trail                     // nil: nothing is kept beside the journal
	confined    *confine.Report            // nil: this process gave up nothing
	unable      func(action string) string // why this process cannot do it; nil: it can do everything
	// untilKilled bounds a write by the kill file, for those that wait for others to act; nil: nothing bounds it.
	untilKilled func(context.Context) (context.Context, func())

	who       string // on whose word the step in hand is taken, for the trail; empty: the actor's own
	j         *journal
	s         *state
	perm      Permissions
	problem   string
	fileKill  string // why the kill file stops everything; "" when it is not there
	anchor    Moment
	stepped   time.Duration
	steppedAt time.Duration
	loose     bucket
	tendAt    map[string]time.Duration // boot clock, by resource: when a tree is worth another walk
}

// bucket bounds results about envelopes that nobody vouches for.
type bucket struct {
	left    float64
	at      time.Duration
	dropped uint64
}

const (
	looseBurst     = 50
	loosePerSecond = 5
)

func (b *bucket) take(now time.Duration) bool {
	b.left = min(looseBurst, b.left+(now-b.at).Seconds()*loosePerSecond)
	b.at = now
	if b.left < 1 {
		b.dropped++
		return false
	}
	b.left--
	return true
}

// open reads the journal and settles what an earlier process left.
func (e *engine) open(ctx context.Context, path string, syncFile func(*os.File) error, newIncarnation func() string) error {
	j, entries, damaged, err := openJournal(path, syncFile)
	if err != nil {
		return err
	}
	e.j, e.s = j, newState()
	for _, x := range entries {
		e.s.fold(x)
	}
	e.anchor = e.clock()
	e.tendAt = map[string]time.Duration{}
	e.loose = bucket{left: looseBurst, at: e.anchor.Boot}
	if damaged || e.s.Incarnation == "" {
		// Commands for the old incarnation are void from here on; its leases are still ours to give back.
		old := e.s
		e.s = newState()
		e.s.Incarnation, e.s.Leases, e.s.Killed, e.s.Revoked = newIncarnation(), old.Leases, old.Killed, old.Revoked
		if err := e.j.rewrite(entry{Kind: "incarnation", Snapshot: e.s.snapshot()}); err != nil {
			return err
		}
		if damaged {
			e.log.Warn("journal was damaged: a new incarnation begins", "incarnation", e.s.Incarnation, "leases", len(e.s.Leases))
			e.trail.note(e.clock().Wall, "", "journal damaged", e.s.Incarnation, "failed", "a new incarnation begins: every command that was made before is void")
		}
	}
	e.reload()
	for _, resource := range e.s.resources() {
		e.recover(ctx, e.s.Leases[resource], damaged)
	}
	return nil
}

// recover settles one lease after a restart. Nothing is ever run again.
func (e *engine) recover(ctx context.Context, l lease, damaged bool) {
	if l.Once {
		e.recoverOnce(ctx, l)
		return
	}
	if l.BootID != e.bootID {
		if l.State.PidBound {
			e.drop(l, e.result(l.ID, command.Reverted, "", "the host was started anew: the processes are gone", l.State.Text, ""))
			return
		}
		l.BootID, l.Deadline = e.bootID, 0
		e.end(ctx, l, "the host was started anew")
		return
	}
	a := e.actuators[l.Action.Name]
	if a == nil || damaged || l.Phase == releasing || l.Phase == stuck || e.killed() != "" || e.clock().Boot >= l.Deadline && l.Phase != started {
		e.end(ctx, l, "taken back after a restart of the actor")
		return
	}
	if l.Phase == applied {
		e.tend(ctx, l)
		return
	}
	standing, text, err := a.Look(ctx, l.change())
	switch {
	case err != nil:
		e.commit(entry{Kind: "indeterminate", Results: []command.Result{e.result(l.ID, command.Indeterminate, command.ReasonOf(err), err.Error(), l.State.Text, "")}}, true)
		e.end(ctx, l, "the actor was interrupted")
	case standing == actuator.Ours:
		older := l.Older
		l.Phase, l.Older = applied, ""
		r := e.result(l.ID, command.Applied, "", "recovered: the actor was interrupted after the write", l.State.Text, text)
		r.LeaseLeft = max(0, l.Deadline-e.clock().Boot)
		e.commit(entry{Kind: "done", Put: &l, Results: []command.Result{r}}, true)
		e.log.Info("command recovered", "id", l.ID, "superseded", older)
		if e.clock().Boot >= l.Deadline {
			e.end(ctx, l, "the lease ended")
		}
	case standing == actuator.Before || standing == actuator.Older || standing == actuator.Gone:
		r := e.result(l.ID, command.NotApplied, "", "the actor was interrupted before the write", l.State.Text, text)
		if l.Older == "" {
			e.drop(l, r)
			return
		}
		e.commit(entry{Kind: "not-applied", Results: []command.Result{r}}, true)
		l.ID, l.Older = l.Older, "" // what is in force is the older command's
		e.end(ctx, l, "the command that superseded it was not applied")
	default:
		r := e.result(l.ID, command.Indeterminate, "", fmt.Sprintf("the actor was interrupted and %s is found", standing), l.State.Text, text)
		e.commit(entry{Kind: "indeterminate", Results: []command.Result{r}}, true)
		e.end(ctx, l, "the actor was interrupted")
	}
}

// command judges an envelope and carries it out.
func (e *engine) command(ctx context.Context, env command.Envelope, received Moment) {
	e.reload()
	e.watchClock()
	view := e.view(received)
	c, verdict, refused := Judge(view, env)
	defer func() { e.who = "" }()
	if e.who = stranger; c.ID != "" {
		e.who = c.Signers()
	}
	if refused != nil {
		e.trail.deny(view.Now.Wall, e.who, subjectOf(c.Command), refused)
	}
	switch {
	case refused != nil && (c.ID == "" || refused.Reason == command.ReasonWrongHost || refused.Reason == command.ReasonWrongIncarnation ||
		refused.Reason == command.ReasonReplayed && c.Kind != command.Renew):
		// Nothing is kept of a stranger's command but a bounded number of answers, named after its bytes.
		e.log.Warn("command refused", "reason", refused.Reason, "hash", env.Hash())
		if e.loose.take(view.Now.Boot) {
			e.commit(entry{Kind: "refused", Results: []command.Result{e.result(StrangerID(env), command.Refused, refused.Reason, refused.Detail, "", "")}}, true)
		}
	case refused != nil:
		e.refuse(c.Command, env, refused)
	case verdict == Repeat:
		if was := e.s.Seen[c.ID]; was.Result != nil {
			e.emit(*was.Result)
		}
	default:
		switch c.Kind {
		case command.Apply:
			e.apply(ctx, c.Command, env, view)
		case command.Renew:
			e.renew(c.Command, env)
		case command.Revert:
			e.revertCommand(ctx, c.Command, env)
		case command.Kill, command.Lift:
			e.killCommand(ctx, c.Command, env)
		case command.Revoke:
			e.revoke(c, env)
		}
	}
	e.compact()
}

// StrangerID names, in results, a command whose own id is not believed: one without a valid signature, for another
// host, or reusing an id.
func StrangerID(env command.Envelope) string { return "sha256:" + env.Hash() }

func (e *engine) refuse(c command.Command, env command.Envelope, why *command.Refusal) {
	e.log.Warn("command refused", "id", c.ID, "action", c.Action.Name, "reason", why.Reason)
	e.commit(entry{
		Kind: "refused", Seen: sight(c, env), Results: []command.Result{e.result(c.ID, command.Refused, why.Reason, why.Detail, "", "")},
	}, true)
}

// refuseLate refuses what was judged good and turned out otherwise on the host.
func (e *engine) refuseLate(c command.Command, env command.Envelope, why *command.Refusal) {
	e.trail.deny(e.clock().Wall, e.who, subjectOf(c), why)
	e.refuse(c, env, why)
}

func sight(c command.Command, env command.Envelope) *sighting {
	return &sighting{ID: c.ID, Hash: env.Hash(), Expires: c.Expires}
}

func (e *engine) apply(ctx context.Context, c command.Command, env command.Envelope, view View) {
	a := e.actuators[c.Action.Name]
	if a == nil {
		e.refuseLate(c, env, command.Refuse(command.ReasonDenied, "this actor cannot do %s", c.Action.Name))
		return
	}
	l, found, why := e.baseline(ctx, a, c)
	if why == nil {
		why = JudgePrior(c, found)
	}
	if why == nil {
		view.Now = e.clock()
		why = view.time(c) // reading may have taken its time
	}
	if why != nil {
		e.refuseLate(c, env, why)
		return
	}
	if spec, ok := command.Lookup(c.Action.Name); ok {
		l.Once = spec.Once()
	}
	l.Phase, l.BootID, l.Release, l.Counter = started, e.bootID, c.Release, 0
	l.ID, l.Resource, l.Action = c.ID, c.Action.Resource(), c.Action
	l.Deadline = view.Now.Boot + c.Lease
	accepted := e.result(c.ID, command.Accepted, "", "", found, "")
	accepted.LeaseLeft = c.Lease
	if err := e.commit(entry{
		Kind: "started", Put: &l, Body: env.Body, Seen: sight(c, env), Fence: &mark{l.Resource, c.Fence},
		Stamp: &stamp{Action: c.Action.Name, Target: c.Action.Target.String(), At: view.Now.Wall}, Results: []command.Result{accepted},
	}, true); err != nil {
		// Not begun: an action that could be forgotten could not be taken back.
		e.unsaved(c, env, err)
		return
	}
	writing, written := ctx, func() {}
	if e.untilKilled != nil {
		writing, written = e.untilKilled(ctx)
	}
	state, text, err := a.Write(writing, l.change())
	written()
	l.State = state
	if l.Once {
		e.doneOnce(l, c.Reason, text, err)
		return
	}
	if err == nil {
		older := l.Older
		l.Phase, l.Older = applied, ""
		done := e.result(c.ID, command.Applied, "", c.Reason, l.State.Text, text)
		done.LeaseLeft = max(0, l.Deadline-e.clock().Boot)
		if err = e.commit(entry{Kind: "done", Put: &l, Results: []command.Result{done}}, true); err == nil {
			e.log.Info("command applied", "id", c.ID, "resource", l.Resource, "value", text, "prior", l.State.Text, "superseded", older)
			return
		}
		l.Older = older
	}
	e.log.Warn("command failed", "id", c.ID, "resource", l.Resource, "error", err)
	e.commitAnyway(entry{Kind: "failed", Results: []command.Result{e.result(c.ID, command.Failed, command.ReasonOf(err), plainDetail(err), l.State.Text, text)}})
	if l.Older != "" {
		l.ID, l.Older = l.Older, ""
	}
	e.end(ctx, l, "the write failed")
}

// baseline finds what stands before a command: on a resource that is held already, what stood before the first of its
// commands, so that the way back never ends halfway.
func (e *engine) baseline(ctx context.Context, a Actuator, c command.Command) (lease, string, *command.Refusal) {
	var l lease
	found := ""
	if old, ok := e.s.Leases[c.Action.Resource()]; ok {
		if old.Phase == stuck {
			return l, "", command.Refuse(command.ReasonBusy, "the last change of %s could not be taken back yet", old.Resource)
		}
		if state, changed, err := a.Tend(ctx, old.change()); err == nil && changed {
			old.State = state
		}
		standing, text, err := a.Look(ctx, old.change())
		switch {
		case err != nil:
			return l, "", refusal(err)
		case standing == actuator.Other:
			e.end(ctx, old, "another value was found")
			return l, "", command.Refuse(command.ReasonPriorDiffers, "%s reads %q, which is not this actor's: it is left alone", old.Resource, text)
		case standing == actuator.Gone:
			e.end(ctx, old, "the target ended")
		default:
			l, found = old.with(c.Action.Value), text
			l.Older, l.From, l.Steps, l.Next = old.ID, 0, 0, 0
		}
	}
	if len(l.Values) == 0 {
		state, err := a.Prior(ctx, c.Action.Target)
		if err != nil {
			return l, "", refusal(err)
		}
		l, found = lease{State: state, Values: []int64{c.Action.Value}}, state.Text
	}
	for resource, other := range e.s.Leases {
		if resource == c.Action.Resource() {
			continue
		}
		if slices.ContainsFunc(other.State.Knobs, func(k string) bool { return slices.Contains(l.State.Knobs, k) }) {
			return l, "", command.Refuse(command.ReasonBusy, "%s is held under the name %s", c.Action.Resource(), resource)
		}
	}
	return l, found, nil
}

func (e *engine) renew(c command.Command, env command.Envelope) {
	l, ok := e.s.byID(c.Of)
	if !ok {
		panic("BUG: a renewal was judged good without its lease")
	}
	l.Counter, l.Deadline = c.Counter, e.clock().Boot+c.Lease
	r := e.result(c.ID, command.Renewed, "", "lease of "+c.Of, "", "")
	r.LeaseLeft = c.Lease
	if err := e.commit(entry{Kind: "renewed", Put: &l, Seen: sight(c, env), Results: []command.Result{r}}, true); err != nil {
		e.unsaved(c, env, err)
	}
}

func (e *engine) revertCommand(ctx context.Context, c command.Command, env command.Envelope) {
	l, ok := e.s.byID(c.Of)
	if !ok {
		panic("BUG: a revert was judged good without its lease")
	}
	last := e.end(ctx, l, "revert was asked for")
	e.commitAnyway(entry{Kind: "revert", Seen: sight(c, env), Results: []command.Result{e.result(c.ID, last.Phase, last.Reason, last.Detail, last.Prior, last.Value)}})
}

func (e *engine) killCommand(ctx context.Context, c command.Command, env command.Envelope) {
	id, p := c.ID, command.Killed
	if c.Kind == command.Lift {
		id, p = "", command.Lifted
	}
	if err := e.commit(entry{
		Kind: p.String(), Killed: &id, Seen: sight(c, env), Fence: &mark{killKey, c.Fence}, Results: []command.Result{e.result(c.ID, p, "", c.Reason, "", "")},
	}, true); err != nil {
		e.unsaved(c, env, err)
		if c.Kind == command.Kill {
			e.s.Killed = id // stopping needs no journal
		}
	}
	e.log.Warn("kill switch", "killed", e.killed() != "")
	if c.Kind == command.Kill {
		e.revertAll(ctx, "kill command "+c.ID)
	}
}

// setKillFile tells whether the kill file is there.
func (e *engine) setKillFile(ctx context.Context, why string) {
	if was := e.fileKill; was != why {
		e.fileKill = why
		what := "kill file on"
		if why == "" {
			what = "kill file off"
		}
		e.trail.note(e.clock().Wall, owner, what, "host", "done", why)
		e.log.Warn("kill file", "there", why != "", "why", why)
	}
	if why != "" {
		e.revertAll(ctx, why)
	}
}

// killed says why everything is stopped.
func (e *engine) killed() string {
	if e.fileKill != "" {
		return e.fileKill
	}
	if e.s.Killed != "" {
		return "kill command " + e.s.Killed + " has not been lifted"
	}
	return ""
}

// revertAll gives everything back at once. Leases whose revert failed keep their pace of tries.
func (e *engine) revertAll(ctx context.Context, why string) []command.Result {
	var out []command.Result
	for _, resource := range e.s.resources() {
		if l := e.s.Leases[resource]; !l.Once && (l.Phase != stuck || l.Next <= e.clock().Boot) {
			out = append(out, e.end(ctx, l, why))
		}
	}
	return out
}

// revert gives one lease back, or all with an empty id.
func (e *engine) revert(ctx context.Context, id, why string) ([]command.Result, error) {
	if id == "" {
		return e.revertAll(ctx, why), nil
	}
	l, ok := e.s.byID(id)
	if !ok {
		return nil, command.Refuse(command.ReasonUnknownCommand, "command %s holds nothing here", id)
	}
	return []command.Result{e.end(ctx, l, why)}, nil
}

// end takes a change back and forgets its lease. It needs no authority: the command that made the change carried it.
func (e *engine) end(ctx context.Context, l lease, why string) command.Result {
	a := e.actuators[l.Action.Name]
	var standing actuator.Standing
	var text string
	err := errors.New("this actor cannot do " + l.Action.Name)
	if a != nil {
		standing, text, err = a.Restore(ctx, l.change())
	}
	if err != nil {
		r := e.result(l.ID, command.RevertFailed, command.ReasonOf(err), plainDetail(err), l.State.Text, text)
		first := l.Phase != stuck
		l.Phase, l.Next = stuck, e.clock().Boot+retryStuck
		x := entry{Kind: "revert-failed", Put: &l}
		if first {
			x.Results = []command.Result{r}
			e.log.Error("revert failed", "id", l.ID, "resource", l.Resource, "error", err)
		}
		e.commitAnyway(x)
		return r
	}
	r := e.result(l.ID, command.Reverted, "", why, l.State.Text, text)
	switch standing {
	case actuator.Other:
		r.Phase, r.Detail = command.Drifted, why+"; another's value was found and left alone"
	case actuator.Gone:
		r.Detail = why + "; the target is gone"
	}
	e.log.Info("command taken back", "id", l.ID, "resource", l.Resource, "phase", r.Phase.String(), "why", why)
	e.drop(l, r)
	return r
}

func (e *engine) drop(l lease, r command.Result) {
	delete(e.tendAt, l.Resource)
	e.commitAnyway(entry{Kind: r.Phase.String(), Drop: l.Resource, Results: []command.Result{r}})
}

// tick is called several times a second: it ends leases, takes steps of releases, tends trees, tries stuck reverts.
func (e *engine) tick(ctx context.Context) {
	e.watchClock()
	now := e.clock().Boot
	for _, resource := range e.s.resources() {
		l := e.s.Leases[resource]
		switch {
		case l.Once:
			e.recoverOnce(ctx, l) // the journal could not be written when it was done
		case l.Phase == stuck:
			if now >= l.Next {
				e.end(ctx, l, "tried again")
			}
		case l.Phase == releasing:
			if now >= l.Next {
				e.step(ctx, l)
			}
		case now >= l.Deadline && l.Release.Step > 0 && l.Release.Step < 100 && l.Phase == applied:
			l.Phase, l.From, l.Next = releasing, l.value(), now+l.Release.Every
			if err := e.commit(entry{Kind: "releasing", Put: &l, Results: []command.Result{e.result(l.ID, command.Releasing, "", "the lease ended", l.State.Text, "")}}, true); err != nil {
				e.end(ctx, l, "the lease ended")
				continue
			}
			e.step(ctx, l)
		case now >= l.Deadline:
			e.end(ctx, l, "the lease ended")
		default:
			e.tend(ctx, l)
		}
	}
	e.compact()
	e.trail.beat(e.clock())
}

// step moves a lease that is being released one step of the gap towards its baseline.
func (e *engine) step(ctx context.Context, l lease) {
	l.Steps++
	share := int64(l.Steps * l.Release.Step)
	a := e.actuators[l.Action.Name]
	if share >= 100 || a == nil {
		e.end(ctx, l, "released")
		return
	}
	if standing, _, err := a.Look(ctx, l.change()); err != nil || standing == actuator.Other || standing == actuator.Gone {
		e.end(ctx, l, "released")
		return
	}
	l = l.with(l.From + (l.State.Value-l.From)*share/100)
	l.Next = e.clock().Boot + l.Release.Every
	err := e.commit(entry{Kind: "step", Put: &l}, true)
	if err == nil {
		l.State, _, err = a.Write(ctx, l.change())
	}
	if err != nil {
		e.end(ctx, l, "released at once: "+err.Error())
	}
}

// tend keeps up with a tree that grows. What it learns survives the death of this process, not of the host, which is
// enough for what is bound to processes.
func (e *engine) tend(ctx context.Context, l lease) {
	a := e.actuators[l.Action.Name]
	before := e.clock().Boot
	if a == nil || before < e.tendAt[l.Resource] {
		return
	}
	s, changed, err := a.Tend(ctx, l.change())
	now := e.clock().Boot
	e.tendAt[l.Resource] = now + tendShare*(now-before)
	if err != nil {
		e.log.Warn("cannot tend a lease", "id", l.ID, "error", err)
		return
	}
	if changed {
		l.State = s
		if err := e.commit(entry{Kind: "tended", Put: &l}, false); err != nil {
			e.s.fold(entry{Put: &l})
		}
	}
}

// watchClock notices when somebody sets the time.
func (e *engine) watchClock() {
	now := e.clock()
	drift := now.Wall.Sub(e.anchor.Wall) - (now.Boot - e.anchor.Boot)
	switch {
	case drift > MaxSkew || drift < -MaxSkew:
		e.log.Warn("the clock was set", "by", drift)
		e.anchor, e.stepped, e.steppedAt = now, drift, now.Boot
	case now.Boot-e.anchor.Boot > steadyFor:
		e.anchor = now
	}
	if e.stepped != 0 && now.Boot-e.steppedAt > steadyFor {
		e.stepped = 0
	}
}

// reload takes in the permissions file. It reports whether anything is different now.
func (e *engine) reload() bool {
	p, err := e.permissions()
	problem := ""
	if err != nil {
		p, problem = Permissions{}, err.Error()
	}
	different := problem != e.problem || !slices.Equal(p.Hash, e.perm.Hash)
	if different {
		e.trail.permissions(e.clock().Wall, p, problem)
	}
	e.perm, e.problem = p, problem
	p.apply(e.actuators, e.s.Leases)
	return different
}

func (e *engine) view(received Moment) View {
	return View{
		Host: e.host, Incarnation: e.s.Incarnation, Now: e.clock(), Received: received, Stepped: e.stepped, Permissions: e.perm, Problem: e.problem,
		Killed: e.killed(), Leases: len(e.s.Leases), Revoked: e.s.Revoked, Unable: e.unable,
		Seen: func(id string) (Seen, bool) {
			x, ok := e.s.Seen[id]
			return Seen(x), ok
		},
		Fence: func(resource string) command.Fence { return e.s.Fences[resource] },
		Lease: func(id string) (LeaseView, bool) {
			l, ok := e.s.byID(id)
			return LeaseView{Action: l.Action, Counter: l.Counter, Releasing: l.Phase == releasing || l.Phase == stuck}, ok
		},
		Applied: func(g Grant, since time.Time) int {
			n := 0
			for _, s := range e.s.Stamps {
				if s.Action == g.Action && s.At.After(since) && slices.ContainsFunc(g.Targets, func(t command.Target) bool { return t.String() == s.Target }) {
					n++
				}
			}
			return n
		},
	}
}

// result makes the next result; its ordinal is used up when it is committed.
func (e *engine) result(id string, p command.Phase, reason command.Reason, detail, prior, value string) command.Result {
	return command.Result{
		ID: id, Phase: p, Reason: reason, Detail: detail, Prior: prior, Value: value, Time: e.clock().Wall, ActorIncarnation: e.s.Incarnation,
	}
}

// commit writes an entry, then takes it into the state, then sends its results.
func (e *engine) commit(x entry, durable bool) error {
	for i := range x.Results {
		x.Results[i].Ordinal = e.s.Ordinal + 1 + uint32(i)
	}
	if err := e.j.append(x, durable); err != nil {
		e.log.Error("journal", "kind", x.Kind, "error", err)
		return err
	}
	e.settle(x)
	return nil
}

// commitAnyway is for what has happened on the host already: a journal that cannot be written then lags behind, and a
// restart reads the host again.
func (e *engine) commitAnyway(x entry) {
	if e.commit(x, true) != nil {
		e.settle(x)
	}
}

// unsaved answers a command that the journal did not take; only this process remembers that it was answered.
func (e *engine) unsaved(c command.Command, env command.Envelope, why error) {
	r := e.result(c.ID, command.Failed, command.ReasonBusy, why.Error(), "", "")
	r.Ordinal = e.s.Ordinal + 1
	e.settle(entry{Seen: sight(c, env), Results: []command.Result{r}})
}

func (e *engine) settle(x entry) {
	e.trail.entry(e.who, x, e.s)
	e.s.fold(x)
	for _, r := range x.Results {
		e.emit(r)
	}
}

// ack forgets a result that a collector has stored.
func (e *engine) ack(id string, ordinal uint32) {
	if slices.ContainsFunc(e.s.Results, func(r command.Result) bool { return r.ID == id && r.Ordinal == ordinal }) {
		// Not durable: a lost ack only sends the result once more.
		_ = e.commit(entry{Kind: "ack", Ack: &ack{id, ordinal}}, false)
	}
}

func (e *engine) compact() {
	if !e.j.worthCompacting() {
		return
	}
	e.s.forget(e.clock().Wall)
	if err := e.j.rewrite(entry{Kind: "snapshot", Snapshot: e.s.snapshot()}); err != nil {
		e.log.Error("journal", "kind", "snapshot", "error", err)
	}
}

func (e *engine) report() command.ActorReport {
	r := command.ActorReport{
		Present: true, Incarnation: e.s.Incarnation, PermissionsHash: e.perm.Hash, MaxRisk: e.perm.MaxRisk, Killed: e.killed() != "", Problem: e.problem,
		Revoked: slices.Sorted(maps.Keys(e.s.Revoked)),
	}
	for _, k := range e.perm.Trust.Approvers {
		if slices.Contains(e.perm.Trust.Revoked, command.KeyID(k)) {
			continue
		}
		r.Approvers = append(r.Approvers, command.FormatPublicKey(k))
	}
	for _, g := range e.perm.Actions {
		r.Permissions = append(r.Permissions, command.Permission{
			Action: g.Action, Targets: slices.Clone(g.Targets), Min: g.Min, Max: g.Max, MaxLease: g.MaxLease, Rate: g.Rate(), WithoutApprover: g.WithoutApprover,
		})
	}
	return r
}

func refusal(err error) *command.Refusal {
	var r *command.Refusal
	if errors.As(err, &r) {
		return r
	}
	return command.Refuse(command.ReasonNoTarget, "%v", err)
}

// plainDetail leaves out the code, which a result has in a field of its own.
func plainDetail(err error) string {
	var r *command.Refusal
	if errors.As(err, &r) && err == error(r) {
		return r.Detail
	}
	return err.Error()
}
