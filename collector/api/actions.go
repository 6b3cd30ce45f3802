package api

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/incident"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Action is an action as people see it.
type Action struct {
	ID          string
	Phase       string // one of phases
	State       string // the fine state within the phase
	Reason      string
	Incident    string
	Policy      string
	Host        string
	Component   string // whom it squeezes
	Protects    string
	Name        string // "cpu.weight"
	Target      string
	Value       string
	Prior       string
	Risk        string
	Mode        string
	LeaseUntil  time.Time
	CommandHash string
	Fence       string
	CreatedAt   time.Time
	EndedAt     time.Time
	Effect      string
	Text        string
	Timeline    []incident.Event
	NeedsKey    bool     // an approval must carry the signature of an approver's key
	CommandBody []byte   // what such a key signs; nil where none is waited for
	Approvers   []string // public keys that the host lists
}

// Approval is one person's yes to the command of that hash. Key and Signature are those of an approver's key, both empty
// where the action needs none.
type Approval struct {
	Hash, By, Reason string
	Key              string // "ed25519:..."
	Signature        []byte
}

func phases() []string {
	return []string{"proposed", "awaiting approval", "running", "active", "reverted", "refused", "failed", "done"}
}

// Actions knows the actions. Watch sends every change until ctx ends; a reader that is too slow loses older versions of
// an action, never the newest.
type Actions interface {
	List(ctx context.Context) ([]Action, error) // newest first
	Get(ctx context.Context, id string) (Action, error)
	Explain(ctx context.Context, id string) (Explanation, error)
	Approve(ctx context.Context, id string, a Approval) (Action, error)
	Deny(ctx context.Context, id, by, reason string) (Action, error)
	Cancel(ctx context.Context, id, by, reason string) (Action, error)
	Watch(ctx context.Context) <-chan Action
}

type actions struct {
	operatorv1.UnimplementedActionServiceServer
	server *Server
}

func wantedAction(r *operatorv1.ListActionsRequest) (func(*Action) bool, error) {
	if r.Phase != "" && !slices.Contains(phases(), r.Phase) {
		return nil, status.Errorf(codes.InvalidArgument, "phase %q: expected one of %q", r.Phase, phases())
	}
	return func(a *Action) bool {
		return (r.Phase == "" || a.Phase == r.Phase) && (r.Host == "" || a.Host == r.Host) && (r.Incident == "" || a.Incident == r.Incident)
	}, nil
}

func (s *actions) ListActions(ctx context.Context, r *operatorv1.ListActionsRequest) (*operatorv1.ListActionsResponse, error) {
	wanted, err := wantedAction(r)
	if err != nil {
		return nil, err
	}
	all, err := s.server.cfg.Actions.List(ctx)
	if err != nil {
		return nil, s.server.failed(err)
	}
	out := &operatorv1.ListActionsResponse{}
	for i := range all {
		if wanted(&all[i]) {
			out.Actions = append(out.Actions, actionTo(&all[i]))
		}
	}
	return out, nil
}

func (s *actions) GetAction(ctx context.Context, r *operatorv1.GetActionRequest) (*operatorv1.Action, error) {
	a, err := s.server.cfg.Actions.Get(ctx, r.Id)
	if err != nil {
		return nil, s.server.failed(err)
	}
	return actionTo(&a), nil
}

func (s *actions) ExplainAction(ctx context.Context, r *operatorv1.GetActionRequest) (*operatorv1.Explanation, error) {
	e, err := s.server.cfg.Actions.Explain(ctx, r.Id)
	if err != nil {
		return nil, s.server.failed(err)
	}
	return explanationTo(e), nil
}

func (s *actions) ApproveAction(ctx context.Context, r *operatorv1.DecideActionRequest) (*operatorv1.Action, error) {
	if r.CommandHash == "" {
		return nil, status.Error(codes.InvalidArgument, "an approval names the command hash that was seen: set commandHash")
	}
	if (r.Key == "") != (len(r.Signature) == 0) {
		return nil, status.Error(codes.InvalidArgument, "key and signature come together: evenkeel action approve --key FILE makes both")
	}
	return s.decide(ctx, r, "approve", func() (Action, error) {
		return s.server.cfg.Actions.Approve(ctx, r.Id, Approval{Hash: r.CommandHash, By: who(ctx).Name, Reason: r.Reason, Key: r.Key, Signature: r.Signature})
	})
}

func (s *actions) DenyAction(ctx context.Context, r *operatorv1.DecideActionRequest) (*operatorv1.Action, error) {
	return s.decide(ctx, r, "deny", func() (Action, error) {
		return s.server.cfg.Actions.Deny(ctx, r.Id, who(ctx).Name, r.Reason)
	})
}

func (s *actions) CancelAction(ctx context.Context, r *operatorv1.DecideActionRequest) (*operatorv1.Action, error) {
	return s.decide(ctx, r, "cancel", func() (Action, error) {
		return s.server.cfg.Actions.Cancel(ctx, r.Id, who(ctx).Name, r.Reason)
	})
}

func (s *actions) decide(ctx context.Context, r *operatorv1.DecideActionRequest, what string, do func() (Action, error)) (*operatorv1.Action, error) {
	a, err := change(ctx, s.server, what, "action/"+r.Id, r.Reason, do)
	if err != nil {
		return nil, err
	}
	return actionTo(&a), nil
}

func (s *actions) WatchActions(r *operatorv1.ListActionsRequest, out grpc.ServerStreamingServer[operatorv1.Action]) error {
	wanted, err := wantedAction(r)
	if err != nil {
		return err
	}
	for a := range s.server.cfg.Actions.Watch(out.Context()) {
		if !wanted(&a) {
			continue
		}
		if err := out.Send(actionTo(&a)); err != nil {
			return err
		}
	}
	return status.FromContextError(out.Context().Err()).Err()
}

func actionTo(a *Action) *operatorv1.Action {
	return &operatorv1.Action{
		Id: a.ID, Phase: a.Phase, Reason: a.Reason, State: a.State, Incident: a.Incident, Policy: a.Policy, Host: a.Host,
		Component: a.Component, Protects: a.Protects, Name: a.Name, Target: a.Target, Value: a.Value, Prior: a.Prior, Risk: a.Risk,
		Mode: a.Mode, LeaseUntil: stamp(a.LeaseUntil), CommandHash: a.CommandHash, Fence: a.Fence, CreatedAt: stamp(a.CreatedAt),
		EndedAt: stamp(a.EndedAt), Timeline: eventsTo(a.Timeline), Effect: a.Effect, Text: a.Text,
		NeedsKey: a.NeedsKey, CommandBody: a.CommandBody, Approvers: a.Approvers,
	}
}
