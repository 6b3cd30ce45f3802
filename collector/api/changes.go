package api

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Changes knows what was changed.
type Changes interface {
	// Record takes in declared changes, all or none. A zero time is now; ids are given.
	Record(ctx context.Context, some []picture.Change) ([]picture.Change, error)
	List(ctx context.Context) ([]picture.Change, error) // oldest first
}

type changes struct {
	operatorv1.UnimplementedChangeServiceServer
	server *Server
}

const (
	mostRecorded = 1000
	maxWhat      = 500
)

func (c *changes) RecordChanges(ctx context.Context, r *operatorv1.RecordChangesRequest) (*operatorv1.RecordChangesResponse, error) {
	if n := len(r.Changes); n == 0 || n > mostRecorded {
		return nil, status.Errorf(codes.InvalidArgument, "changes: there are %d: expected 1 to %d", n, mostRecorded)
	}
	some := make([]picture.Change, len(r.Changes))
	for i, in := range r.Changes {
		if in.What == "" || len(in.What) > maxWhat {
			return nil, status.Errorf(codes.InvalidArgument, "changes[%d].what: say what was changed, in at most %d bytes", i, maxWhat)
		}
		if in.Id != "" || in.Host != "" || in.Kind != "" && in.Kind != picture.ChangeDeclared {
			return nil, status.Errorf(codes.InvalidArgument, "changes[%d]: id, host and kind are the collector's to say: leave them out, and name a host among refs", i)
		}
		switch in.State {
		case "", "done", "failed", "rolledBack":
		default:
			return nil, status.Errorf(codes.InvalidArgument, "changes[%d].state: %q is not one of done, failed, rolledBack", i, in.State)
		}
		some[i] = picture.Change{State: cmp.Or(in.State, "done"), What: in.What, Before: in.Before, After: in.After, By: in.By, External: in.External}
		if some[i].By == "" {
			some[i].By = who(ctx).Name
		}
		for _, ref := range in.Refs {
			some[i].Refs = append(some[i].Refs, manifest.Ref(ref))
		}
		if in.At != "" {
			at, err := time.Parse(time.RFC3339Nano, in.At)
			if err != nil {
				return nil, status.Errorf(codes.InvalidArgument, "changes[%d].at: %q is not a time such as 2026-11-25T10:00:00Z", i, in.At)
			}
			some[i].At = at
		}
	}
	subject := "changes"
	if len(some) == 1 {
		subject = some[0].What
	}
	taken, err := change(ctx, c.server, "record change", subject, "", func() ([]picture.Change, error) { return c.server.cfg.Changes.Record(ctx, some) })
	if err != nil {
		return nil, err
	}
	return &operatorv1.RecordChangesResponse{Changes: recordedTo(taken)}, nil
}

func (c *changes) ListChanges(ctx context.Context, r *operatorv1.ListChangesRequest) (*operatorv1.ListChangesResponse, error) {
	var since, until time.Time
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"since", r.Since, &since}, {"until", r.Until, &until}} {
		if t.text == "" {
			continue
		}
		var err error
		if *t.to, err = c.server.moment(t.name, t.text); err != nil {
			return nil, err
		}
	}
	limit := int(r.Limit)
	if limit <= 0 {
		limit = 100
	}
	all, err := c.server.cfg.Changes.List(ctx)
	if err != nil {
		return nil, c.server.failed(err)
	}
	var out []picture.Change
	for _, one := range slices.Backward(all) {
		switch {
		case r.Ref != "" && !slices.Contains(one.Refs, manifest.Ref(r.Ref)), r.Host != "" && one.Host != r.Host,
			!since.IsZero() && one.At.Before(since), !until.IsZero() && !one.At.Before(until):
			continue
		}
		if out = append(out, one); len(out) == limit {
			break
		}
	}
	return &operatorv1.ListChangesResponse{Changes: recordedTo(out)}, nil
}

func recordedTo(in []picture.Change) []*operatorv1.RecordedChange {
	out := make([]*operatorv1.RecordedChange, len(in))
	for i, c := range in {
		out[i] = &operatorv1.RecordedChange{
			Id: c.ID, At: stamp(c.At), Host: c.Host, Kind: c.Kind, What: c.What, Before: c.Before, After: c.After, By: c.By, External: c.External, State: c.State,
		}
		for _, ref := range c.Refs {
			out[i].Refs = append(out[i].Refs, string(ref))
		}
	}
	return out
}
