package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/resource"
	"github.com/evenkeel/evenkeel/collector/roster"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// backend joins the parts to the small interfaces that the API asks. It translates words and errors and decides nothing.
type backend struct {
	collector *Collector
	decider   *decider
	roster    *roster.Roster
	keeper    *resource.Keeper
	samples   *store.Store
	audit     *audit.Log
	executor  *remedy.Executor
	server    *session.Server
	operators net.Listener
}

// authenticate says whose token this is.
func (b *backend) authenticate(ctx context.Context, token string) (api.Principal, error) {
	o, err := b.roster.Operator(ctx, token)
	for _, bad := range []error{identity.ErrTokenUnknown, identity.ErrTokenExpired, identity.ErrTokenRevoked} {
		if errors.Is(err, bad) {
			if token == "" {
				return api.Principal{}, api.ErrBadToken
			}
			return api.Principal{}, fmt.Errorf("%w: %w", api.ErrBadToken, err)
		}
	}
	if err != nil {
		return api.Principal{}, err
	}
	role, err := api.ParseRole(string(o.Role))
	return api.Principal{Name: o.Name, Role: role}, err
}

// translate turns the parts' errors into those that the API has codes for.
func translate(err error) error {
	for _, t := range []struct{ from, to error }{
		{resource.ErrNotFound, api.ErrNotFound},
		{resource.ErrReferred, api.ErrConflict},
		{resource.ErrShipped, api.ErrConflict},
		{resource.ErrConflict, api.ErrConflict},
		{roster.ErrUnknownHost, api.ErrNotFound},
		{roster.ErrUnknownToken, api.ErrNotFound},
		{roster.ErrRefused, api.ErrConflict},
		{remedy.ErrNotFound, api.ErrNotFound},
		{remedy.ErrNotNow, api.ErrConflict},
		{remedy.ErrNotAllowed, api.ErrRefused},
		{incident.ErrNotFound, api.ErrNotFound},
		{incident.ErrResolved, api.ErrConflict},
		{incident.ErrOnHold, api.ErrConflict},
		{incident.ErrNotOnHold, api.ErrConflict},
		{store.ErrBadQuery, api.ErrBadQuery},
		{store.ErrQueryLimit, api.ErrQueryLimit},
	} {
		if errors.Is(err, t.from) {
			return recoded{err, t.to}
		}
	}
	return err
}

// recoded keeps an error's text and adds what kind it is.
type recoded struct {
	error
	kind error
}

func (r recoded) Unwrap() []error { return []error{r.error, r.kind} }

type resources struct{ *backend }

func (b resources) hosts() []string {
	var names []string
	for _, h := range b.roster.Hosts() {
		names = append(names, h.Name)
	}
	return names
}

func (b resources) Diff(ctx context.Context, files []manifest.File) ([]manifest.Change, []manifest.Problem, error) {
	changes, problems := b.keeper.Diff(ctx, files, b.hosts())
	return changes, problems, nil
}

func (b resources) Apply(ctx context.Context, files []manifest.File, by string) ([]manifest.Change, []manifest.Problem, error) {
	changes, problems, err := b.keeper.Apply(ctx, files, b.hosts(), by)
	return changes, problems, translate(err)
}

func (b resources) Get(kind, name string) (api.StoredResource, error) {
	s, err := b.keeper.Get(kind, name)
	return api.StoredResource(s), translate(err)
}

func (b resources) List(kind string, match func(map[string]string) bool) []api.StoredResource {
	var out []api.StoredResource
	for _, s := range b.keeper.List(kind, match) {
		out = append(out, api.StoredResource(s))
	}
	return out
}

func (b resources) Delete(ctx context.Context, kind, name string) (manifest.Ref, error) {
	ref, err := b.keeper.Delete(ctx, kind, name)
	return ref, translate(err)
}

type hostsBackend struct{ *backend }

func (b hostsBackend) List(context.Context) ([]api.Host, error) {
	var out []api.Host
	for _, r := range b.roster.Hosts() {
		out = append(out, b.describe(r))
	}
	return out, nil
}

func (b hostsBackend) Get(_ context.Context, name string) (api.Host, error) {
	r, err := b.roster.Host(name)
	if err != nil {
		return api.Host{}, translate(err)
	}
	return b.describe(r), nil
}

func (b hostsBackend) Admit(ctx context.Context, name string) (api.Host, error) {
	r, err := b.roster.AdmitHost(ctx, name)
	if err != nil {
		return api.Host{}, translate(err)
	}
	return b.describe(r), nil
}

func (b hostsBackend) Revoke(ctx context.Context, name, reason string) (api.Host, error) {
	r, err := b.roster.RevokeHost(ctx, name, reason)
	if err != nil {
		return api.Host{}, translate(err)
	}
	b.server.Cut(name, "the host was revoked")
	return b.describe(r), nil
}

func (b hostsBackend) describe(r roster.Host) api.Host {
	out := api.Host{
		Name: r.Name, State: r.State, Reach: overload.NeverSeen.String(), Since: r.Enrolled, Labels: r.Labels, CertificateExpires: r.Expires,
		Level: health.Unknown,
	}
	if p := b.decider.reach.Load(); p != nil {
		if c, ok := (*p)[r.Name]; ok {
			out.Reach, out.Since = c.Reach.String(), c.Since
		}
	}
	if s := b.decider.snapshot.Load(); s != nil {
		if level, ok := s.Range(manifest.RefOf(manifest.KindHost, r.Name)); ok {
			out.Level = level
		}
	}
	h := b.decider.fleet.known(r.Name)
	if h == nil {
		return out
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out.AgentVersion, out.LastSample, out.ClockSkew, out.Series, out.Actor = h.session.Version, h.sampled, h.skew, h.series, h.actor
	f := h.session.Facts
	out.OS, out.Kernel, out.Cgroup, out.CPUs, out.Memory = strings.TrimSpace(f.Platform+" "+f.OS), f.Kernel, f.Cgroup, f.CPUs, f.MemoryBytes
	for _, key := range sortedKeys(h.verdicts) {
		v := h.verdicts[key]
		v.Evidence = slices.Clone(v.Evidence)
		if v.State == overload.Overloaded && b.executor.Contained(r.Name, v.Detector) {
			v.Evidence = append(v.Evidence, overload.Evidence{Text: "contained by a lease"})
		}
		out.Verdicts = append(out.Verdicts, v)
	}
	return out
}

type mapBackend struct{ *backend }

func (b mapBackend) Snapshot() *servicemap.Snapshot { return b.decider.snapshot.Load() }
func (b mapBackend) Changed() <-chan struct{}       { return b.decider.mapChange.next() }

type incidents struct{ *backend }

func (b incidents) List(ctx context.Context) (out []incident.Incident, err error) {
	err = b.decider.ask(ctx, func(now time.Time) { out = b.decider.book.List(now) })
	return out, err
}

func (b incidents) Get(ctx context.Context, id string) (out incident.Incident, err error) {
	if asking := b.decider.ask(ctx, func(now time.Time) { out, err = b.decider.book.Get(now, id) }); asking != nil {
		return out, asking
	}
	return out, translate(err)
}

func (b incidents) Acknowledge(ctx context.Context, id, by, note string) (incident.Incident, error) {
	return b.change(ctx, func(book *incident.Book, now time.Time) (incident.Incident, error) {
		return book.Acknowledge(now, id, by, note)
	})
}

func (b incidents) Hold(ctx context.Context, id, by, reason string) (incident.Incident, error) {
	return b.change(ctx, func(book *incident.Book, now time.Time) (incident.Incident, error) {
		return book.Hold(now, id, by, reason)
	})
}

func (b incidents) Resume(ctx context.Context, id, by string) (incident.Incident, error) {
	return b.change(ctx, func(book *incident.Book, now time.Time) (incident.Incident, error) { return book.Resume(now, id, by) })
}

func (b incidents) Link(ctx context.Context, id, by, ticket string) (incident.Incident, error) {
	return b.change(ctx, func(book *incident.Book, now time.Time) (incident.Incident, error) {
		return book.Link(now, id, by, ticket)
	})
}

func (b incidents) change(ctx context.Context, f func(*incident.Book, time.Time) (incident.Incident, error)) (out incident.Incident, err error) {
	asking := b.decider.ask(ctx, func(now time.Time) {
		if out, err = f(b.decider.book, now); err == nil {
			b.decider.changed(out)
		}
	})
	if asking != nil {
		return out, asking
	}
	return out, translate(err)
}

func (b incidents) Watch(ctx context.Context) <-chan incident.Incident {
	first := map[string]incident.Incident{}
	if all, err := b.List(ctx); err == nil {
		for _, i := range all {
			if i.State != incident.Resolved {
				first[i.ID] = i
			}
		}
	}
	return b.decider.incidents.watch(ctx, first)
}

func (b incidents) Explain(ctx context.Context, id string) (api.Explanation, error) {
	i, err := b.Get(ctx, id)
	if err != nil {
		return api.Explanation{}, err
	}
	e := api.Explanation{Ref: "incident/" + id, Text: i.Summary(), Timeline: i.Timeline}
	plan, ok := b.executor.ExplainIncident(id)
	if !ok {
		e.Text += "; no remediation policy answers it"
		return e, nil
	}
	e.Text += "; " + b.plan(&e, &plan)
	return e, nil
}

// plan adds what a plan considered, and returns its conclusion.
func (b *backend) plan(e *api.Explanation, p *remedy.Plan) string {
	for i := range p.Candidates {
		c := &p.Candidates[i]
		e.Candidates = append(e.Candidates, api.Candidate{
			Component: c.Component, Host: p.Host, Contribution: c.Contribution(), Value: c.Value, Loss: c.Loss, Services: strings.Join(c.Services, ", "),
			Why: c.Why, Action: c.Action, Limitable: c.Limitable, OnMap: c.OnMap, Chosen: c.Chosen,
		})
	}
	for _, g := range p.Gates {
		e.Gates = append(e.Gates, api.Gate{Name: g.Name, Open: g.Open, Text: g.Text})
	}
	if p.Proposal != nil {
		return p.Proposal.Text
	}
	return "nothing is done: " + p.Refusal
}

type actions struct{ *backend }

func (b actions) view(a remedy.Action) api.Action {
	out := api.Action{
		ID: a.ID, Phase: string(a.State.Phase()), State: string(a.State), Reason: a.Reason, Incident: a.Incident, Policy: a.Policy, Host: a.Host,
		Component: a.Proposal.Component, Protects: a.Proposal.Protects, Name: a.Proposal.Action.Name, Target: a.Proposal.Action.Target.String(),
		Value: fmt.Sprint(a.Proposal.Action.Value), Prior: a.Prior, Risk: a.Proposal.Risk.String(), Mode: string(a.Mode), CommandHash: a.Hash,
		CreatedAt: a.CreatedAt, EndedAt: a.EndedAt, Effect: a.Effect, Text: a.Proposal.Text, NeedsKey: a.NeedsKey, CommandBody: a.Body(),
	}
	if out.NeedsKey {
		if actor, ok := b.decider.fleet.Actor(a.Host); ok {
			out.Approvers = actor.Approvers
		}
	}
	if a.Detail != "" {
		out.Reason = strings.TrimPrefix(out.Reason+": "+a.Detail, ": ")
	}
	if !a.State.Terminal() {
		out.LeaseUntil = a.LeaseUntil
	}
	if a.Fence.Revision > 0 {
		out.Fence = a.Fence.String()
	}
	for _, e := range a.Timeline {
		out.Timeline = append(out.Timeline, incident.Event(e))
	}
	return out
}

func (b actions) List(context.Context) ([]api.Action, error) {
	var out []api.Action
	for _, a := range b.executor.Actions() {
		out = append(out, b.view(a))
	}
	return out, nil
}

func (b actions) one(a remedy.Action, err error) (api.Action, error) {
	if err != nil {
		return api.Action{}, translate(err)
	}
	return b.view(a), nil
}

func (b actions) Get(_ context.Context, id string) (api.Action, error) {
	return b.one(b.executor.Action(id))
}

func (b actions) Deny(ctx context.Context, id, by, reason string) (api.Action, error) {
	return b.one(b.executor.Deny(ctx, id, by, reason))
}

func (b actions) Cancel(ctx context.Context, id, by, reason string) (api.Action, error) {
	return b.one(b.executor.Cancel(ctx, id, by, reason))
}

func (b actions) Explain(_ context.Context, id string) (api.Explanation, error) {
	a, err := b.executor.Action(id)
	if err != nil {
		return api.Explanation{}, translate(err)
	}
	v := b.view(a)
	e := api.Explanation{Ref: "action/" + id, Text: fmt.Sprintf("%s: %s", v.Phase, v.Text), Timeline: v.Timeline}
	if a.Reason != "" {
		e.Text += " (" + v.Reason + ")"
	}
	if plan, err := b.executor.Explain(id); err == nil {
		b.plan(&e, &plan)
	}
	return e, nil
}

// Watch sends the actions that are under way and then every change. A reader that lags is sent all of them anew.
func (b actions) Watch(ctx context.Context) <-chan api.Action {
	out := make(chan api.Action)
	go func() {
		defer close(out)
		for ctx.Err() == nil {
			changes, stop := b.executor.Subscribe()
			for _, a := range b.executor.Actions() {
				if !a.State.Terminal() && !send(ctx, out, b.view(a)) {
					break
				}
			}
			b.pass(ctx, changes, out)
			stop()
		}
	}()
	return out
}

func (b actions) pass(ctx context.Context, changes <-chan remedy.Action, out chan<- api.Action) {
	for {
		select {
		case <-ctx.Done():
			return
		case a, ok := <-changes:
			if !ok || !send(ctx, out, b.view(a)) {
				return
			}
		}
	}
}

func send[T any](ctx context.Context, out chan<- T, v T) bool {
	select {
	case out <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

type tokens struct{ *backend }

func (b tokens) CreateToken(ctx context.Context, n api.NewToken) (api.Token, string, error) {
	if n.Role != "" {
		o, text, err := b.roster.CreateOperator(ctx, n.Name, identity.Access(n.Role), n.TTL, n.By)
		if err != nil {
			return api.Token{}, "", recoded{err, api.ErrInvalid}
		}
		return b.operator(o), text, nil
	}
	t, text, err := b.roster.CreateToken(ctx, identity.TokenSpec{
		TTL: n.TTL, Uses: n.Uses, Labels: n.Labels, Replace: n.Replace, Admit: n.Admit, CreatedBy: n.By,
	})
	if err != nil {
		return api.Token{}, "", recoded{err, api.ErrInvalid}
	}
	operators := b.collector.cfg.Advertise
	if operators == "" {
		operators = b.collector.reachable(b.collector.cfg.Listen.Operators)
	}
	join, err := identity.Join{Address: net.JoinHostPort(operators, portOf(b.operators)), Pin: b.roster.CA().Pin(), Token: text}.Encode()
	return b.token(t), join, err
}

func (b tokens) token(t identity.Token) api.Token {
	return api.Token{
		ID: t.ID, Expires: t.Expires, UsesLeft: t.Uses - t.Used, Labels: t.Labels, CreatedBy: t.CreatedBy, State: string(t.State(b.collector.clock())),
	}
}

func (b tokens) operator(o identity.Operator) api.Token {
	return api.Token{ID: o.ID, Expires: o.Expires, CreatedBy: o.CreatedBy, Role: string(o.Role), Name: o.Name, State: string(o.State(b.collector.clock()))}
}

func (b tokens) ListTokens(ctx context.Context) ([]api.Token, error) {
	joins, operators, err := b.roster.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	var out []api.Token
	for _, t := range joins {
		out = append(out, b.token(t))
	}
	for _, o := range operators {
		out = append(out, b.operator(o))
	}
	return out, nil
}

func (b tokens) RevokeToken(ctx context.Context, id string) error {
	return translate(b.roster.RevokeToken(ctx, id))
}

type queries struct{ *backend }

func (b queries) Query(ctx context.Context, expr string, at time.Time) (api.QueryResult, error) {
	return b.result(b.samples.Query(ctx, expr, at))
}

func (b queries) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (api.QueryResult, error) {
	return b.result(b.samples.QueryRange(ctx, expr, start, end, step))
}

func (b queries) result(r store.Result, err error) (api.QueryResult, error) {
	if err != nil {
		return api.QueryResult{}, translate(err)
	}
	out := api.QueryResult{Type: r.Type, Text: r.Text, Warnings: r.Warnings}
	for _, s := range r.Series {
		series := api.QuerySeries{Labels: s.Labels}
		for _, p := range s.Points {
			series.Points = append(series.Points, api.QueryPoint(p))
		}
		out.Series = append(out.Series, series)
	}
	return out, nil
}

type control struct{ *backend }

func (b control) KillSwitch(context.Context) (api.KillSwitch, error) {
	return api.KillSwitch(b.executor.KillSwitch()), nil
}

func (b control) SetKillSwitch(ctx context.Context, on bool, by, reason string) (api.KillSwitch, error) {
	k, err := b.executor.SetKillSwitch(ctx, on, by, reason)
	return api.KillSwitch(k), translate(err)
}

func (b control) ListAudit(_ context.Context, after uint64, limit int, subject string) ([]api.AuditEntry, error) {
	all, err := b.audit.List(after, limit, subject)
	if err != nil {
		return nil, err
	}
	out := make([]api.AuditEntry, len(all))
	for i, e := range all {
		out[i] = api.AuditEntry{
			Seq: e.Seq, At: e.At, Who: e.Who, What: e.What, Subject: e.Subject, Outcome: e.Outcome, Detail: e.Detail, Hash: e.Hash, PreviousOf: e.Previous,
		}
	}
	return out, nil
}

func (b control) ClusterID() string    { return b.collector.cluster }
func (b control) CAPin() string        { return b.roster.CA().Pin().String() }
func (b control) StartedAt() time.Time { return b.collector.started }

func (b control) Simulate(_ context.Context, files []manifest.File, set map[string]string, at time.Time, unknown bool) ([]byte, []manifest.Problem, error) {
	options := picture.Options{Set: set, At: at, Default: "ok"}
	if unknown {
		options.Default = "unknown"
	}
	if len(files) > 0 {
		return reason.FromFiles("simulate", files, options, nil)
	}
	p, problems := picture.Of(b.keeper.Set(), b.decider.snapshot.Load().Graph().Hosts(), options)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	return reason.Answer("simulate", p, nil)
}
