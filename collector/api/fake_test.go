package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// fake answers for the whole collector: fixed facts, and a list of what it was told to change.
type fake struct {
	snapshot *servicemap.Snapshot
	set      *manifest.Set

	mu      sync.Mutex
	changes []string
	fail    error         // what the next changes fail with
	changed chan struct{} // closed when the map has changed
	feed    chan struct{} // a receive from it sends every watcher one more item
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 123456789, time.UTC)

const shop = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: checkout, labels: {env: prod}}
spec:
  title: Checkout
  criticality: 1
  value: {perHour: 12000, currency: EUR}
  dependsOn: [{ref: component/web}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec:
  hosts: {names: [web-1]}
`

func newFake() (*fake, error) {
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "shop.yaml", Text: []byte(shop)}}, nil)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%v", problems)
	}
	graph, err := servicemap.New(set, []servicemap.Host{{Name: "web-1"}})
	if err != nil {
		return nil, err
	}
	state := servicemap.NewState(graph, servicemap.Options{})
	return &fake{snapshot: state.Snapshot(), set: set, changed: make(chan struct{}), feed: make(chan struct{})}, nil
}

// did notes a change, or fails it.
func (f *fake) did(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.changes = append(f.changes, fmt.Sprintf(format, args...))
	return nil
}

func (f *fake) done() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes)
}

func (f *fake) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

type fakeResources struct{ *fake }

func (f fakeResources) Diff(_ context.Context, files []manifest.File) ([]manifest.Change, []manifest.Problem, error) {
	for _, file := range files {
		if strings.Contains(string(file.Text), "mistake") {
			return nil, []manifest.Problem{{File: file.Name, Line: 3, Column: 5, Path: "spec.mistake", Text: `unknown key "mistake"`, Hint: "did you mean title?"}}, nil
		}
	}
	return []manifest.Change{
		{Ref: "service/checkout", Verb: manifest.Changed, Fields: []manifest.FieldChange{{Path: "spec.criticality", From: "2", To: "1"}}},
		{Ref: "component/web", Verb: manifest.Unchanged},
	}, nil, nil
}

func (f fakeResources) Apply(ctx context.Context, files []manifest.File, by string) ([]manifest.Change, []manifest.Problem, error) {
	if err := f.did("apply by %s", by); err != nil {
		return nil, nil, err
	}
	return f.Diff(ctx, files)
}

func (f fakeResources) Get(kind, name string) (api.StoredResource, error) {
	r, ok := f.set.Get(manifest.RefOf(kind, name))
	if !ok {
		return api.StoredResource{}, fmt.Errorf("no such resource: %s/%s: %w", kind, name, api.ErrNotFound)
	}
	return api.StoredResource{Resource: r, Revision: 9_007_199_254_740_993, ChangedAt: noon, ChangedBy: "ada"}, nil
}

func (f fakeResources) List(kind string, match func(map[string]string) bool) []api.StoredResource {
	var out []api.StoredResource
	for r := range f.set.All() {
		if (kind == "" || r.Kind == kind) && match(r.Metadata.Labels) {
			out = append(out, api.StoredResource{Resource: r, Revision: 7, ChangedAt: noon, ChangedBy: "ada"})
		}
	}
	return out
}

func (f fakeResources) Delete(_ context.Context, kind, name string) (manifest.Ref, error) {
	return manifest.RefOf(kind, name), f.did("delete %s/%s", kind, name)
}

type fakeHosts struct{ *fake }

func (f fakeHosts) host(name string) (api.Host, error) {
	if name != "web-1" {
		return api.Host{}, fmt.Errorf("no such host: %s: %w", name, api.ErrNotFound)
	}
	return api.Host{
		Name: name, State: "admitted", Reach: "connected", Since: noon, Labels: map[string]string{"env": "prod"}, AgentVersion: "0.1.0",
		LastSample: noon, ClockSkew: 12 * time.Millisecond, CertificateExpires: noon.Add(24 * time.Hour), Level: health.Range{Low: health.Major, High: health.Major},
		Actor: command.ActorReport{
			Present: true, MaxRisk: command.R2, PermissionsHash: []byte{0xab},
			Permissions: []command.Permission{{Action: "cpu.weight", Targets: []command.Target{{Unit: "batch.service"}}, Min: 10, Max: 100, MaxLease: 10 * time.Minute, Rate: "6/5m"}},
		},
		Verdicts: []overload.Verdict{{
			Host: name, Detector: "host-cpu", Scope: "host", State: overload.Overloaded, Level: health.Major, Since: noon,
			Evidence: []overload.Evidence{{Text: "cpu.pressure.some 71 % > 40 % in 2 of 3 ticks"}, {Text: "runqueue.delay 0.8 s/s"}},
		}},
		OS: "debian 12 linux", Kernel: "6.1", Cgroup: "v2", CPUs: 4, Memory: 8 << 30, Series: 512,
	}, nil
}

func (f fakeHosts) List(context.Context) ([]api.Host, error) {
	h, err := f.host("web-1")
	return []api.Host{h}, err
}
func (f fakeHosts) Get(_ context.Context, name string) (api.Host, error) { return f.host(name) }

func (f fakeHosts) Admit(_ context.Context, name string) (api.Host, error) {
	if err := f.did("admit %s", name); err != nil {
		return api.Host{}, err
	}
	return f.host("web-1")
}

func (f fakeHosts) Revoke(_ context.Context, name, _ string) (api.Host, error) {
	if err := f.did("revoke %s", name); err != nil {
		return api.Host{}, err
	}
	return f.host("web-1")
}

type fakeMap struct{ *fake }

func (f fakeMap) Snapshot() *servicemap.Snapshot { return f.snapshot }

func (f fakeMap) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

const (
	incidentA = "01K2X000000000000000INCDNT"
	actionA   = "01K2X000000000000000ACT10N"
)

var events = []incident.Event{{At: noon, Who: "evenkeel", What: "opened"}, {At: noon.Add(time.Second), Who: "ada", What: "acknowledged"}}

type fakeIncidents struct{ *fake }

func (f fakeIncidents) item() incident.Incident {
	return incident.Incident{
		Version: incident.Version, ID: incidentA, State: incident.Open, Title: "host/web-1 is overloaded", Level: health.Major, Cause: "host/web-1",
		Host: "web-1", Services: []string{"service/checkout"}, OpenedAt: noon, Actions: []string{actionA}, Timeline: events, Known: true,
		Priority: 1, BeganAt: noon.Add(-2 * time.Second), External: "INC7",
		Holds: []incident.Hold{{From: noon, By: "ada", Reason: "waits for the vendor"}},
	}
}

func (f fakeIncidents) List(context.Context) ([]incident.Incident, error) {
	return []incident.Incident{f.item()}, nil
}

func (f fakeIncidents) Get(_ context.Context, id string) (incident.Incident, error) {
	if id != incidentA {
		return incident.Incident{}, fmt.Errorf("no such incident: %s: %w", id, api.ErrNotFound)
	}
	return f.item(), nil
}

func (f fakeIncidents) Acknowledge(_ context.Context, id, by, _ string) (incident.Incident, error) {
	return f.item(), f.did("acknowledge %s by %s", id, by)
}

func (f fakeIncidents) Hold(_ context.Context, id, by, reason string) (incident.Incident, error) {
	return f.item(), f.did("hold %s by %s: %s", id, by, reason)
}

func (f fakeIncidents) Resume(_ context.Context, id, by string) (incident.Incident, error) {
	return f.item(), f.did("resume %s by %s", id, by)
}

func (f fakeIncidents) Link(_ context.Context, id, by, ticket string) (incident.Incident, error) {
	return f.item(), f.did("link %s by %s: %s", id, by, ticket)
}

func (f fakeIncidents) Explain(context.Context, string) (api.Explanation, error) {
	return explanation("incident/" + incidentA), nil
}

func (f fakeIncidents) Watch(ctx context.Context) <-chan incident.Incident {
	return watch(ctx, f.fake, f.item)
}

type fakeActions struct{ *fake }

func (f fakeActions) item() api.Action {
	return api.Action{
		ID: actionA, Phase: "active", State: "applied", Reason: "outcome good", Incident: incidentA, Policy: "remediationpolicy/relieve", Host: "web-1",
		Component: "component/batch", Protects: "component/web", Name: "cpu.weight", Target: "unit/batch.service", Value: "10", Prior: "100",
		Risk: "R1", Mode: "auto", LeaseUntil: noon.Add(time.Minute), CommandHash: "abcd", Fence: "1/7", CreatedAt: noon, Effect: "runqueue.delay 0.8 -> 0.1",
		Text: "cpu.weight of unit/batch.service to 10", Timeline: events,
	}
}

func (f fakeActions) List(context.Context) ([]api.Action, error) { return []api.Action{f.item()}, nil }

func (f fakeActions) Get(_ context.Context, id string) (api.Action, error) {
	if id != actionA {
		return api.Action{}, fmt.Errorf("no such action: %s: %w", id, api.ErrNotFound)
	}
	return f.item(), nil
}

func (f fakeActions) Explain(context.Context, string) (api.Explanation, error) {
	return explanation("action/" + actionA), nil
}

func (f fakeActions) Approve(_ context.Context, id string, a api.Approval) (api.Action, error) {
	return f.item(), f.did("approve %s %s by %s", id, a.Hash, a.By)
}

func (f fakeActions) Deny(_ context.Context, id, by, _ string) (api.Action, error) {
	return f.item(), f.did("deny %s by %s", id, by)
}

func (f fakeActions) Cancel(_ context.Context, id, by, _ string) (api.Action, error) {
	return f.item(), f.did("cancel %s by %s", id, by)
}

func (f fakeActions) Watch(ctx context.Context) <-chan api.Action { return watch(ctx, f.fake, f.item) }

// watch sends one item at once and one for each receive of the feed.
func watch[T any](ctx context.Context, f *fake, item func() T) <-chan T {
	out := make(chan T)
	go func() {
		defer close(out)
		for {
			select {
			case out <- item():
			case <-ctx.Done():
				return
			}
			select {
			case f.feed <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func explanation(ref string) api.Explanation {
	return api.Explanation{
		Ref: ref, Text: "one candidate was squeezed", Timeline: events,
		Candidates: []api.Candidate{{Component: "component/batch", Host: "web-1", Contribution: "1.42 cores, 71 %", Value: "1 points/h", Services: "service/reports", Why: "least value", Action: "cpu.weight to 10", Limitable: true, OnMap: true, Chosen: true}},
		Gates:      []api.Gate{{Name: "kill switch", Open: true, Text: "off"}},
	}
}

type fakeTokens struct{ *fake }

func (f fakeTokens) CreateToken(_ context.Context, n api.NewToken) (api.Token, string, error) {
	if err := f.did("create token for %q by %s", n.Role, n.By); err != nil {
		return api.Token{}, "", err
	}
	return api.Token{ID: "t1", Expires: noon.Add(n.TTL), UsesLeft: n.Uses, Labels: n.Labels, CreatedBy: n.By, Role: n.Role, Name: n.Name, State: "usable"}, "the-secret", nil
}

func (f fakeTokens) ListTokens(context.Context) ([]api.Token, error) {
	return []api.Token{{ID: "t1", Expires: noon, UsesLeft: 1, CreatedBy: "ada", State: "usable"}, {ID: "o1", Role: "admin", Name: "ada", State: "usable"}}, nil
}

func (f fakeTokens) RevokeToken(_ context.Context, id string) error {
	return f.did("revoke token %s", id)
}

type fakeQuery struct{ *fake }

func (f fakeQuery) Query(_ context.Context, expr string, at time.Time) (api.QueryResult, error) {
	switch expr {
	case "bad(":
		return api.QueryResult{}, fmt.Errorf("%w: 1:5: unclosed left parenthesis", api.ErrBadQuery)
	case "much":
		return api.QueryResult{}, fmt.Errorf("%w: more than 50000000 samples", api.ErrQueryLimit)
	case "outage":
		return api.QueryResult{}, errors.New("the store is being reopened")
	}
	return api.QueryResult{Type: "vector", Series: []api.QuerySeries{{Labels: map[string]string{"__name__": expr, "instance": "web-1"}, Points: []api.QueryPoint{{Time: at, Value: 0.25}}}}}, nil
}

func (f fakeQuery) QueryRange(_ context.Context, expr string, start, end time.Time, step time.Duration) (api.QueryResult, error) {
	s := api.QuerySeries{Labels: map[string]string{"__name__": expr}}
	for t := start; !t.After(end); t = t.Add(step) {
		s.Points = append(s.Points, api.QueryPoint{Time: t, Value: 1e21})
	}
	return api.QueryResult{Type: "matrix", Series: []api.QuerySeries{s}, Warnings: []string{"one host is silent"}}, nil
}

type fakeKeys struct{ *fake }

func (f fakeKeys) Keys(context.Context) ([]api.Key, error) {
	return []api.Key{{ID: "0123456789abcdef", Use: "collector", Owner: "c1", NotAfter: noon}}, nil
}

func (f fakeKeys) Revoke(_ context.Context, id, by, reason string) (api.Key, error) {
	return api.Key{ID: id, RevokedBy: by, RevokedAt: noon, Reason: reason}, f.did("revoke key %s by %s", id, by)
}

func (f fakeKeys) Rotate(context.Context) (api.Key, error) {
	return api.Key{ID: "fedcba9876543210", Use: "collector"}, f.did("rotate key")
}

type fakeControl struct{ *fake }

func (f fakeControl) KillSwitch(context.Context) (api.KillSwitch, error) {
	return api.KillSwitch{On: true, By: "ada", At: noon, Reason: "network change"}, nil
}

func (f fakeControl) SetKillSwitch(_ context.Context, on bool, by, reason string) (api.KillSwitch, error) {
	return api.KillSwitch{On: on, By: by, At: noon, Reason: reason}, f.did("kill switch %t by %s", on, by)
}

func (f fakeControl) ListAudit(_ context.Context, after uint64, limit int, subject string) ([]api.AuditEntry, error) {
	return []api.AuditEntry{{Seq: after + 1, At: noon, Who: "ada", What: "apply", Subject: subject, Outcome: "done", Detail: fmt.Sprint(limit), Hash: "h2", PreviousOf: "h1"}}, nil
}

func (f fakeControl) ClusterID() string    { return "keel-1" }
func (f fakeControl) CAPin() string        { return "sha256:ab" }
func (f fakeControl) StartedAt() time.Time { return noon }

func (f fakeControl) Simulate(_ context.Context, files []manifest.File, set map[string]string, at time.Time, unknown bool) ([]byte, []manifest.Problem, error) {
	if len(files) == 0 {
		return nil, []manifest.Problem{{File: "live", Line: 1, Column: 1, Text: "nothing"}}, nil
	}
	return fmt.Appendf(nil, `{"kind":"Simulation","at":%q,"unknown":%t,"set":%q}`, at.Format(time.RFC3339), unknown, set["component/web"]), nil, nil
}

type fakeReason struct{ *fake }

func (f fakeReason) Ask(_ context.Context, question string, suppose []api.Assumption, at time.Time, args map[string]string) ([]byte, []manifest.Problem, error) {
	switch question {
	case "slo":
		return nil, []manifest.Problem{{File: "live", Line: 1, Column: 1, Text: "nothing"}}, nil
	case "weather":
		return nil, nil, errors.New("\"weather\" is not a question")
	}
	return fmt.Appendf(nil, `{"kind":%q,"at":%q,"set":%q,"of":%q}`, question, at.Format(time.RFC3339), fmt.Sprint(suppose), args["of"]), nil, nil
}

type fakeChanges struct{ *fake }

func (f fakeChanges) Record(_ context.Context, some []picture.Change) ([]picture.Change, error) {
	for i := range some {
		if slices.Contains(some[i].Refs, "service/chekout") {
			return nil, fmt.Errorf("%w: changes[%d].refs: service/chekout is not on the map", api.ErrInvalid, i)
		}
		some[i].ID, some[i].Kind = fmt.Sprint("c", i), picture.ChangeDeclared
	}
	return some, f.did("record %d changes", len(some))
}

func (f fakeChanges) List(context.Context) ([]picture.Change, error) {
	return []picture.Change{
		{ID: "1", At: noon, Kind: "package", Host: "web-1", Refs: []manifest.Ref{"host/web-1"}, What: "nginx", Before: "1", After: "2"},
		{ID: "2", At: noon.Add(time.Hour), Kind: "declared", Refs: []manifest.Ref{"service/checkout"}, What: "checkout 4.12.0", By: "ci"},
	}, nil
}

type fakeReviews struct{ *fake }

func (f fakeReviews) Check(_ context.Context, item string) error {
	if item != "runbook/relieve" {
		return fmt.Errorf("%w: %s is not there", api.ErrInvalid, item)
	}
	return nil
}

func (f fakeReviews) Confirm(_ context.Context, item, by, note string) (picture.Confirmation, error) {
	return picture.Confirmation{ID: "r1", Item: manifest.Ref(item), At: noon, By: by, Note: note}, f.did("confirm %s", item)
}

func (f fakeReviews) Confirmations(context.Context) ([]picture.Confirmation, error) {
	return []picture.Confirmation{{ID: "r1", Item: "runbook/relieve", At: noon, By: "ann", Note: "fine"}, {ID: "r2", Item: "detector/host-cpu", At: noon, By: "ann", Note: "fine"}}, nil
}
