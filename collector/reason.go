package collector

import (
	"context"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

type reasoner struct{ *backend }

// Ask answers out of a picture of what is known now. What is supposed is set in a copy of it: the live map is never touched.
func (b reasoner) Ask(ctx context.Context, question string, suppose []api.Assumption, at time.Time, args map[string]string) ([]byte, []manifest.Problem, error) {
	p, err := b.decider.picture(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	if another := !at.IsZero(); len(suppose) > 0 || another { // another moment has other maintenance
		opt := picture.Options{At: p.At, Set: map[string]string{}}
		for _, s := range suppose {
			opt.Set[s.Ref], opt.Broke = s.Level, append(opt.Broke, s.Ref)
		}
		var problems []manifest.Problem
		if p, problems = p.With(opt); len(problems) > 0 {
			return nil, problems, nil
		}
	}
	if question == "warning" && len(args) == 0 {
		if p.Trends, err = b.trends(ctx, p); err != nil {
			return nil, nil, err
		}
	}
	if question == "ledger" {
		if p.Months, err = sealedMonths(b.collector.historyDir(), b.audit); err != nil {
			return nil, nil, err
		}
	}
	return reason.Answer(question, p, args)
}

// picture returns what is known now, with values read at a moment; zero is now. Any goroutine but the decider's may call it: of that, only
// the incidents are asked for, since the rest waits for locks and copies much.
func (d *decider) picture(ctx context.Context, at time.Time) (*picture.Picture, error) {
	p := &picture.Picture{At: at, Since: map[manifest.Ref]time.Time{}}
	if err := d.ask(ctx, func(now time.Time) {
		if at.IsZero() {
			p.At = now
		}
		p.Set, p.Map, p.Incidents = d.keeper.Set(), d.snapshot.Load(), d.book.List(now)
	}); err != nil {
		return nil, err
	}
	p.History, p.Changes, p.Confirmations = d.history.Rows(), d.changes.list(), d.reviews.list()
	for _, i := range p.Incidents {
		if i.ResolvedAt.IsZero() {
			p.Since[manifest.Ref(i.Cause)] = i.OpenedAt
		}
	}
	p.Outcomes = outcomes(d.executor.Actions(), p.Incidents, d.keeper)
	followNames(p, d.keeper.Names())
	return p, nil
}

// restate notes where the services stand that are not known to be well, or were not the last time: by whose doing one is bad may change
// while how bad it is stays.
func (d *decider) restate(now time.Time) {
	s := d.snapshot.Load()
	standing := picture.Stand(s)
	unsound := map[manifest.Ref]bool{}
	var look []manifest.Ref
	for _, ref := range s.Graph().Services() {
		if !standing.Sound(ref) {
			unsound[ref] = true
		}
		if unsound[ref] || d.unsound[ref] {
			look = append(look, ref)
		}
	}
	d.unsound = unsound
	d.noteStates(d.history.Record(states(standing, look, now)...))
}

// states is where services stand, for the history.
func states(standing *picture.Standing, services []manifest.Ref, at time.Time) []slo.Row {
	out := make([]slo.Row, len(services))
	for i, ref := range services {
		out[i] = slo.Row{Ref: ref, At: at, State: standing.Of(ref)}
	}
	return out
}
