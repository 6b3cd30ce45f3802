package api

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/collector/incident"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Explanation says what was seen, considered, done and not done.
type Explanation struct {
	Ref        string
	Text       string
	Candidates []Candidate
	Gates      []Gate
	Timeline   []incident.Event
}

// Candidate is one component that was weighed.
type Candidate struct {
	Component, Host, Contribution, Value, Loss, Services, Why, Action string
	Limitable, OnMap, Chosen                                          bool
}

// Gate is one condition that could have held an action.
type Gate struct {
	Name string
	Open bool
	Text string
}

// Incidents knows the incidents. Watch sends every change until ctx ends; a reader that is too slow loses older versions
// of an incident, never the newest.
type Incidents interface {
	List(ctx context.Context) ([]incident.Incident, error) // newest first
	Get(ctx context.Context, id string) (incident.Incident, error)
	Acknowledge(ctx context.Context, id, by, note string) (incident.Incident, error)
	Hold(ctx context.Context, id, by, reason string) (incident.Incident, error)
	Resume(ctx context.Context, id, by string) (incident.Incident, error)
	Link(ctx context.Context, id, by, ticket string) (incident.Incident, error)
	Explain(ctx context.Context, id string) (Explanation, error)
	Watch(ctx context.Context) <-chan incident.Incident
}

type incidents struct {
	operatorv1.UnimplementedIncidentServiceServer
	server *Server
}

func wantedIncident(r *operatorv1.ListIncidentsRequest) (func(*incident.Incident) bool, error) {
	switch incident.State(r.State) {
	case "", incident.Open, incident.Acknowledged, incident.Mitigating, incident.Resolved:
	default:
		return nil, status.Errorf(codes.InvalidArgument, "state %q: expected open, acknowledged, mitigating or resolved", r.State)
	}
	return func(i *incident.Incident) bool {
		return (r.State == "" || string(i.State) == r.State) && (r.Host == "" || i.Host == r.Host)
	}, nil
}

func (s *incidents) ListIncidents(ctx context.Context, r *operatorv1.ListIncidentsRequest) (*operatorv1.ListIncidentsResponse, error) {
	wanted, err := wantedIncident(r)
	if err != nil {
		return nil, err
	}
	all, err := s.server.cfg.Incidents.List(ctx)
	if err != nil {
		return nil, s.server.failed(err)
	}
	out := &operatorv1.ListIncidentsResponse{}
	for k := range all {
		if wanted(&all[k]) {
			out.Incidents = append(out.Incidents, incidentTo(&all[k]))
		}
	}
	return out, nil
}

func (s *incidents) GetIncident(ctx context.Context, r *operatorv1.GetIncidentRequest) (*operatorv1.Incident, error) {
	i, err := s.server.cfg.Incidents.Get(ctx, r.Id)
	if err != nil {
		return nil, s.server.failed(err)
	}
	out := incidentTo(&i)
	if i.State == incident.Resolved {
		return out, nil
	}
	// What can be answered now is; a cause that is not on the map any more has no contacts.
	for question, to := range map[string]**structpb.Struct{"contacts": &out.Contacts, "recovery-plan": &out.Plan} {
		args := map[string]string{}
		if question == "contacts" {
			args["of"] = i.Cause
		}
		text, problems, err := s.server.cfg.Reason.Ask(ctx, question, nil, time.Time{}, args)
		if err != nil || len(problems) > 0 {
			continue
		}
		answer := &structpb.Struct{}
		if err := protojson.Unmarshal(text, answer); err != nil {
			return nil, status.Error(codes.Internal, "the answer is not JSON: "+err.Error())
		}
		*to = answer
	}
	return out, nil
}

func (s *incidents) HoldIncident(ctx context.Context, r *operatorv1.HoldIncidentRequest) (*operatorv1.Incident, error) {
	if r.Reason == "" {
		return nil, status.Error(codes.InvalidArgument, "reason: say what it waits for")
	}
	return s.change(ctx, "hold", r.Id, r.Reason, func() (incident.Incident, error) {
		return s.server.cfg.Incidents.Hold(ctx, r.Id, who(ctx).Name, r.Reason)
	})
}

func (s *incidents) ResumeIncident(ctx context.Context, r *operatorv1.ResumeIncidentRequest) (*operatorv1.Incident, error) {
	return s.change(ctx, "resume", r.Id, "", func() (incident.Incident, error) {
		return s.server.cfg.Incidents.Resume(ctx, r.Id, who(ctx).Name)
	})
}

func (s *incidents) LinkIncident(ctx context.Context, r *operatorv1.LinkIncidentRequest) (*operatorv1.Incident, error) {
	return s.change(ctx, "link", r.Id, r.External, func() (incident.Incident, error) {
		return s.server.cfg.Incidents.Link(ctx, r.Id, who(ctx).Name, r.External)
	})
}

func (s *incidents) change(ctx context.Context, verb, id, detail string, f func() (incident.Incident, error)) (*operatorv1.Incident, error) {
	i, err := change(ctx, s.server, verb, "incident/"+id, detail, f)
	if err != nil {
		return nil, err
	}
	return incidentTo(&i), nil
}

func (s *incidents) ExplainIncident(ctx context.Context, r *operatorv1.GetIncidentRequest) (*operatorv1.Explanation, error) {
	e, err := s.server.cfg.Incidents.Explain(ctx, r.Id)
	if err != nil {
		return nil, s.server.failed(err)
	}
	return explanationTo(e), nil
}

func (s *incidents) AcknowledgeIncident(ctx context.Context, r *operatorv1.AcknowledgeIncidentRequest) (*operatorv1.Incident, error) {
	return s.change(ctx, "acknowledge", r.Id, r.Note, func() (incident.Incident, error) {
		return s.server.cfg.Incidents.Acknowledge(ctx, r.Id, who(ctx).Name, r.Note)
	})
}

func (s *incidents) WatchIncidents(r *operatorv1.ListIncidentsRequest, out grpc.ServerStreamingServer[operatorv1.Incident]) error {
	wanted, err := wantedIncident(r)
	if err != nil {
		return err
	}
	for i := range s.server.cfg.Incidents.Watch(out.Context()) {
		if !wanted(&i) {
			continue
		}
		if err := out.Send(incidentTo(&i)); err != nil {
			return err
		}
	}
	return status.FromContextError(out.Context().Err()).Err()
}

func incidentTo(i *incident.Incident) *operatorv1.Incident {
	rate, rateUnit := i.PerHour()
	lost, lostUnit := i.Lost()
	out := &operatorv1.Incident{
		Priority: i.Priority.String(), OnHold: i.OnHold(), External: i.External, BeganAt: stamp(i.BeganAt), AcknowledgedAt: stamp(i.AcknowledgedAt),
		Id: i.ID, State: string(i.State), Title: i.Title, Level: i.Level.String(), Cause: i.Cause, Host: i.Host, Services: i.Services,
		CostSoFar: incident.FormatCost(lost, lostUnit), PerHour: incident.FormatCost(rate, rateUnit), OpenedAt: stamp(i.OpenedAt),
		ResolvedAt: stamp(i.ResolvedAt), AcknowledgedBy: i.AcknowledgedBy, Actions: i.Actions, Timeline: eventsTo(i.Timeline),
	}
	for _, h := range i.Holds {
		out.Holds = append(out.Holds, &operatorv1.Hold{From: stamp(h.From), To: stamp(h.To), By: h.By, Reason: h.Reason})
	}
	return out
}

func eventsTo(in []incident.Event) []*operatorv1.Event {
	out := make([]*operatorv1.Event, len(in))
	for k, e := range in {
		out[k] = &operatorv1.Event{At: stamp(e.At), Actor: e.Who, What: e.What}
	}
	return out
}

func explanationTo(e Explanation) *operatorv1.Explanation {
	out := &operatorv1.Explanation{Ref: e.Ref, Text: e.Text, Timeline: eventsTo(e.Timeline)}
	for _, c := range e.Candidates {
		out.Candidates = append(out.Candidates, &operatorv1.Candidate{
			Component: c.Component, Host: c.Host, Contribution: c.Contribution, Value: c.Value, Loss: c.Loss, Services: c.Services, Limitable: c.Limitable,
			OnMap: c.OnMap, Chosen: c.Chosen, Why: c.Why, Action: c.Action,
		})
	}
	for _, g := range e.Gates {
		out.Gates = append(out.Gates, &operatorv1.Gate{Name: g.Name, Open: g.Open, Text: g.Text})
	}
	return out
}
