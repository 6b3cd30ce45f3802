package api

import (
	"context"
	"encoding/json"
	"runtime"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/version"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// KillSwitch is the state of the cluster's kill switch.
type KillSwitch struct {
	On     bool
	By     string
	At     time.Time
	Reason string
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	Seq                                                   uint64
	At                                                    time.Time
	Who, What, Subject, Outcome, Detail, Hash, PreviousOf string
}

// Control is what is left: the kill switch, the audit log, what this collector is, and reasoning over files.
type Control interface {
	KillSwitch(ctx context.Context) (KillSwitch, error)
	SetKillSwitch(ctx context.Context, on bool, by, reason string) (KillSwitch, error)
	ListAudit(ctx context.Context, after uint64, limit int, subject string) ([]AuditEntry, error)
	ClusterID() string
	CAPin() string // "sha256:..."
	StartedAt() time.Time
	// Simulate reasons over manifests, or over the live map where there are none, and returns a Simulation as JSON.
	Simulate(ctx context.Context, files []manifest.File, set map[string]string, at time.Time, unknown bool) ([]byte, []manifest.Problem, error)
}

type control struct {
	operatorv1.UnimplementedControlServiceServer
	server *Server
}

func (c *control) killSwitch(k KillSwitch, err error) (*operatorv1.KillSwitch, error) {
	if err != nil {
		return nil, c.server.failed(err)
	}
	return &operatorv1.KillSwitch{On: k.On, By: k.By, At: stamp(k.At), Reason: k.Reason}, nil
}

func (c *control) GetKillSwitch(ctx context.Context, _ *operatorv1.GetKillSwitchRequest) (*operatorv1.KillSwitch, error) {
	return c.killSwitch(c.server.cfg.Control.KillSwitch(ctx))
}

func (c *control) SetKillSwitch(ctx context.Context, r *operatorv1.SetKillSwitchRequest) (*operatorv1.KillSwitch, error) {
	what := "kill switch off"
	if r.On {
		what = "kill switch on"
	}
	// Stopping must work even when it cannot be recorded; allowing again must not.
	if err := c.server.cfg.Audit(ctx, who(ctx).Name, what, "cluster", "done", r.Reason); err != nil && !r.On {
		return nil, status.Error(codes.Unavailable, "not done, since it cannot be recorded: "+err.Error())
	}
	k, err := c.server.cfg.Control.SetKillSwitch(ctx, r.On, who(ctx).Name, r.Reason)
	if err != nil {
		c.server.undone(ctx, what, "cluster", err)
	}
	return c.killSwitch(k, err)
}

func (c *control) ListAudit(ctx context.Context, r *operatorv1.ListAuditRequest) (*operatorv1.ListAuditResponse, error) {
	after := uint64(0)
	if r.After != "" {
		var err error
		if after, err = strconv.ParseUint(r.After, 10, 64); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "after %q is not a sequence number", r.After)
		}
	}
	limit := int(r.Limit)
	if limit <= 0 || limit > 10_000 {
		limit = 100
	}
	all, err := c.server.cfg.Control.ListAudit(ctx, after, limit, r.Subject)
	if err != nil {
		return nil, c.server.failed(err)
	}
	out := &operatorv1.ListAuditResponse{}
	for _, e := range all {
		out.Entries = append(out.Entries, &operatorv1.AuditEntry{
			Seq: strconv.FormatUint(e.Seq, 10), At: stamp(e.At), Who: e.Who, What: e.What, Subject: e.Subject, Outcome: e.Outcome,
			Detail: e.Detail, Hash: e.Hash, Previous: e.PreviousOf,
		})
	}
	return out, nil
}

func (c *control) GetVersion(context.Context, *operatorv1.GetVersionRequest) (*operatorv1.VersionResponse, error) {
	return &operatorv1.VersionResponse{
		Version: version.Version, Revision: version.Revision(), Go: runtime.Version(), ClusterId: c.server.cfg.Control.ClusterID(),
		StartedAt: stamp(c.server.cfg.Control.StartedAt()), CaPin: c.server.cfg.Control.CAPin(),
	}, nil
}

func (c *control) Simulate(ctx context.Context, r *operatorv1.SimulateRequest) (*operatorv1.SimulateResponse, error) {
	at, err := c.server.moment("at", r.At)
	if err != nil {
		return nil, err
	}
	if r.Default != "" && r.Default != "ok" && r.Default != "unknown" {
		return nil, status.Errorf(codes.InvalidArgument, "default %q: expected ok or unknown", r.Default)
	}
	out, problems, err := c.server.cfg.Control.Simulate(ctx, filesFrom(r.Files), r.Set, at, r.Default == "unknown")
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if len(problems) > 0 {
		return &operatorv1.SimulateResponse{Problems: problemsTo(problems)}, nil
	}
	s := &structpb.Struct{}
	if !json.Valid(out) {
		return nil, status.Error(codes.Internal, "the simulation is not JSON")
	}
	if err := protojson.Unmarshal(out, s); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &operatorv1.SimulateResponse{Simulation: s}, nil
}
