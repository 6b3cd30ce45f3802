package remedy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// consider fills in what the executor knows of a situation, plans, and begins what the plan proposes.
func (e *Executor) consider(s *Situation) {
	s.At = e.now
	s.KillSwitch = e.kill.On
	s.HostKnown = s.HostKnown && e.cfg.Signals.Known(s.Host)
	e.history(s)
	p := MakePlan(*s)
	e.mu.Lock()
	// A plan that only says that an action is under way explains less than the plan of that action.
	if _, had := e.plans[s.Incident]; !had || s.Busy == "" && s.Recorded == "" && !waits(&p) {
		e.plans[s.Incident] = p
	}
	if len(e.plans) > keepMost {
		for k, old := range e.plans {
			if e.now.Sub(old.At) > time.Hour {
				delete(e.plans, k)
				delete(e.refusal, k)
			}
		}
	}
	e.mu.Unlock()
	if p.Proposal == nil {
		if s.Busy == "" && s.Recorded == "" && !waits(&p) && e.refusal[s.Incident] != p.closed() {
			e.refusal[s.Incident] = p.closed()
			e.cfg.Reporter.Note(e.now, s.Incident, "remedy", "nothing is done: "+p.Refusal)
		}
		return
	}
	en := &entry{Action: newAction(e.cfg.NewID(e.now), s, &p)}
	e.entries[en.ID] = en
	en.after = en.begin(e.now)
	if en.State != Queued {
		en.dirty = true // written by feed; INTENT is its own write
	}
	e.publish(en.Action)
	e.feed(en, begun{})
}

// begun carries out what begin returned.
type begun struct{}

func (begun) input() {}

// closed names what holds a plan back, the same for as long as it is the same thing: texts count up.
func (p *Plan) closed() string {
	for _, g := range p.Gates {
		if !g.Open {
			return g.Name
		}
	}
	return p.Refusal
}

// waits reports whether the pace of the episode is all that holds a plan back.
func waits(p *Plan) bool {
	for _, g := range p.Gates {
		if !g.Open {
			return g.Name == "episode-pace"
		}
	}
	return false
}

// history fills in what earlier actions mean for the situation.
func (e *Executor) history(s *Situation) {
	s.Busy, s.Denied, s.Recorded, s.Episode, s.Cooldowns = "", "", "", nil, map[string]time.Time{}
	repeats := map[string]int{}
	s.Fleet.Records = nil
	for _, en := range e.sorted() {
		a := en.Action
		if r, ok := a.record(); ok && (!a.State.Terminal() || s.At.Sub(a.EndedAt) < 24*time.Hour) {
			s.Fleet.Records = append(s.Fleet.Records, r)
		}
		if a.Host != s.Host {
			continue
		}
		if !a.State.Terminal() || en.dirty {
			s.Busy = a.ID
			continue
		}
		if a.Policy != s.Policy.Name || a.State == Deferred || a.State == Cancelled {
			continue
		}
		key := a.Proposal.Component + " " + a.Proposal.Action.Name
		passing := a.State == Rejected && (transient(command.Reason(a.Reason)) || a.Reason == string(command.ReasonPermissionsChanged) || a.Reason == string(command.ReasonWrongIncarnation))
		if a.Overload.Equal(s.Verdict.Since) {
			switch a.State {
			case Shadow, Suggested:
				if a.Mode == s.Policy.Mode {
					s.Recorded = a.ID
				}
				continue
			case Denied:
				s.Denied = a.Timeline[len(a.Timeline)-1].Who
			}
			t := Tried{Component: a.Proposal.Component, Action: a.Proposal.Action.Name, At: a.CreatedAt, Ended: true}
			if passing || a.worked() {
				t.Action = "" // counts as a step, and may be taken again
			}
			s.Episode = append(s.Episode, t)
			continue
		}
		released := a.Reason == ReasonTrialRelease && s.At.Sub(a.EndedAt) < time.Minute // a trial that hurt is no new episode
		if a.SentAt.IsZero() || passing || released || s.Policy.Times.Cooldown <= 0 {
			continue
		}
		if s.At.Sub(a.EndedAt) < time.Hour {
			repeats[key]++
		}
		wait := min(s.Policy.Times.Cooldown<<min(max(repeats[key]-1, 0), 10), max(time.Hour, s.Policy.Times.Cooldown))
		if until := a.EndedAt.Add(wait); until.After(s.Cooldowns[key]) {
			s.Cooldowns[key] = until
		}
	}
}

// Approve lets an action begin. hash must be that of the action as it was shown, so that nobody approves what he did not
// see. The host must be known and overloaded still, and its actor and permissions those of the plan.
func (e *Executor) Approve(ctx context.Context, id, hash, who string) (Action, error) {
	return e.decide(ctx, id, who, "approve", func(en *entry) (Input, error) {
		switch _, err := e.approvable(en, id, hash); {
		case err != nil:
			return nil, err
		case en.NeedsKey:
			return nil, fmt.Errorf("%w: host %s wants the signature of an approver's key: evenkeel action approve %s --key FILE", ErrNotNow, en.Host, id)
		}
		return Approved{Who: who, Hash: hash}, nil
	})
}

// Deny refuses an action that waits for approval.
func (e *Executor) Deny(ctx context.Context, id, who, why string) (Action, error) {
	return e.decide(ctx, id, who, "deny", func(en *entry) (Input, error) {
		if en.State != AwaitingApproval {
			return nil, fmt.Errorf("%w: action %s is %s", ErrNotNow, id, en.State)
		}
		return DeniedBy{who, why}, nil
	})
}

// Cancel takes an action back: before it was sent it never is, after that it is reverted.
func (e *Executor) Cancel(ctx context.Context, id, who, why string) (Action, error) {
	return e.decide(ctx, id, who, "cancel", func(en *entry) (Input, error) {
		if en.State.Terminal() || en.State == Reverting {
			return nil, fmt.Errorf("%w: action %s is %s", ErrNotNow, id, en.State)
		}
		return CancelledBy{who, why, ReasonCancelled}, nil
	})
}

// decide gives an action the input that judge makes of a person's word, and returns it once all that follows at once is
// done and recorded. A word that something overtook on its way is refused.
func (e *Executor) decide(ctx context.Context, id, who, what string, judge func(*entry) (Input, error)) (Action, error) {
	var out Action
	err := e.call(ctx, func(_ context.Context, answer answer) {
		en := e.entries[id]
		if en == nil {
			answer(fmt.Errorf("%w: %s", ErrNotFound, id), nil)
			return
		}
		end := func(err error) {
			out = en.clone()
			outcome, detail := "done", en.Proposal.Text
			if err != nil {
				outcome, detail = "refused", err.Error()
			}
			answer(err, e.trail.put(who, what, "action/"+id, outcome, detail))
		}
		in, err := judge(en)
		if err != nil {
			end(err)
			return
		}
		took := false
		e.feedThen(en, in, func(moved bool) { took = moved }, func() {
			if !took {
				err = fmt.Errorf("%w: action %s is %s", ErrNotNow, id, en.State)
			}
			end(err)
		})
	})
	if err != nil {
		return Action{}, err
	}
	return out, nil
}

// SetKillSwitch turns the kill switch on or off. On takes every action back, tells every actor to revert everything and
// to refuse until lifted, and lets nothing begin. The audit log is its caller's business, once.
func (e *Executor) SetKillSwitch(ctx context.Context, on bool, who, reason string) (KillSwitch, error) {
	var k KillSwitch
	err := e.call(ctx, func(ctx context.Context, answer answer) {
		k = KillSwitch{On: on, By: who, At: e.now, Reason: reason}
		answer(e.setKill(ctx, k), nil)
	})
	if err != nil {
		return KillSwitch{}, err
	}
	return k, nil
}

// KillSwitch returns the kill switch as it stands.
func (e *Executor) KillSwitch() KillSwitch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held
}

func (e *Executor) hold(k KillSwitch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = k
}

// Actions returns every action that is kept, newest first.
func (e *Executor) Actions() []Action {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]Action, 0, len(e.view))
	for _, a := range e.view {
		out = append(out, a.clone())
	}
	slices.SortFunc(out, func(a, b Action) int { return strings.Compare(b.ID, a.ID) })
	return out
}

// Action returns one action.
func (e *Executor) Action(id string) (Action, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.view[id]
	if !ok {
		return Action{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return a.clone(), nil
}

// Contained reports whether a lease holds the overload that the detector sees on the host: the verdict is then
// "overloaded, contained".
func (e *Executor) Contained(host, detector string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.view {
		if a.Host == host && a.Detector == detector && a.Holds() {
			return true
		}
	}
	return false
}

// Squeezed returns the components that an action holds back now, or may, each with its host.
func (e *Executor) Squeezed() []Held {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Held
	for _, a := range e.view {
		if !a.State.Terminal() && a.State != AwaitingApproval {
			out = append(out, Held{a.Proposal.Component, a.Host})
		}
	}
	return out
}

// Held is a component on one host that is held back.
type Held struct{ Component, Host string }

// ExplainIncident returns the newest plan that was made for an incident: every candidate, every gate, and what was chosen
// or why nothing was.
func (e *Executor) ExplainIncident(incident string) (Plan, bool) {
	e.mu.Lock()
	p, ok := e.plans[incident]
	e.mu.Unlock()
	if ok {
		return p, true
	}
	for _, a := range e.Actions() { // of before a restart
		if a.Incident == incident && a.Plan != nil {
			return *a.Plan, true
		}
	}
	return p, ok
}

// Explain returns the plan from which an action came.
func (e *Executor) Explain(id string) (Plan, error) {
	a, err := e.Action(id)
	if err != nil {
		return Plan{}, err
	}
	if a.Plan == nil {
		return Plan{}, fmt.Errorf("%w: the plan of action %s was too long to keep", ErrNotFound, id)
	}
	return *a.Plan, nil
}

// subscriberQueue is how many changes a subscriber may lag behind.
const subscriberQueue = 64

// Subscribe returns a channel of changed actions and a function that ends it. A subscriber that lags too far behind
// loses its channel: it is closed, and he is to list again and subscribe anew.
func (e *Executor) Subscribe() (<-chan Action, func()) {
	ch := make(chan Action, subscriberQueue)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil {
		close(ch)
		return ch, func() {}
	}
	e.subs[ch] = struct{}{}
	return ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.unsubscribeLocked(ch)
	}
}

func (e *Executor) unsubscribeLocked(ch chan Action) {
	if _, ok := e.subs[ch]; ok {
		delete(e.subs, ch)
		close(ch)
	}
}

func (e *Executor) publish(a *Action) {
	c := a.clone()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.view[a.ID] = c
	for ch := range e.subs {
		select {
		case ch <- c:
		default:
			e.unsubscribeLocked(ch)
		}
	}
}

func (e *Executor) endSubscriptions() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.subs {
		e.unsubscribeLocked(ch)
	}
	e.subs = nil
}
