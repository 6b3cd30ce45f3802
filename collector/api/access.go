package api

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Role says what an operator may do. Each role may do all that the one before it may, but for Signaller.
type Role uint8

// The roles.
const (
	Nobody   Role = iota // may enrol, with a join token
	Viewer               // looks
	Operator             // changes the map, acknowledges, cancels
	Approver             // says yes or no to an action, and throws the kill switch
	Admin                // gives access
	// Signaller only tells what it sees: signals and alerts. It may not even look. Operators and those above may do so too.
	Signaller
)

var roleNames = [...]string{"nobody", "viewer", "operator", "approver", "admin", "signaller"}

// String returns the role as people write it.
func (r Role) String() string { return roleNames[r] }

// May reports whether a role may do what needs another.
func (r Role) May(need Role) bool {
	switch {
	case need == Signaller:
		return r >= Operator
	case r == Signaller:
		return need == Nobody
	}
	return r >= need
}

// ParseRole reads a role as String writes it.
func ParseRole(s string) (Role, error) {
	for i, n := range roleNames[1:] {
		if n == s {
			return Role(i + 1), nil
		}
	}
	return Nobody, errors.New("expected viewer, operator, approver, admin or signaller")
}

// Principal is who asks.
type Principal struct {
	Name string
	Role Role
}

// needs says which role each method needs. A method that is not listed is refused to everybody: authorisation goes by the
// methods registered, never by a pattern over their names.
var needs = map[string]Role{
	agentv1.EnrolmentService_Enrol_FullMethodName: Nobody,

	operatorv1.ResourceService_Apply_FullMethodName:               Operator,
	operatorv1.ResourceService_Diff_FullMethodName:                Viewer,
	operatorv1.ResourceService_GetResource_FullMethodName:         Viewer,
	operatorv1.ResourceService_ListResources_FullMethodName:       Viewer,
	operatorv1.ResourceService_DeleteResource_FullMethodName:      Operator,
	operatorv1.HostService_ListHosts_FullMethodName:               Viewer,
	operatorv1.HostService_GetHost_FullMethodName:                 Viewer,
	operatorv1.HostService_AdmitHost_FullMethodName:               Admin,
	operatorv1.HostService_RevokeHost_FullMethodName:              Admin,
	operatorv1.MapService_GetMap_FullMethodName:                   Viewer,
	operatorv1.MapService_WatchMap_FullMethodName:                 Viewer,
	operatorv1.IncidentService_ListIncidents_FullMethodName:       Viewer,
	operatorv1.IncidentService_GetIncident_FullMethodName:         Viewer,
	operatorv1.IncidentService_ExplainIncident_FullMethodName:     Viewer,
	operatorv1.IncidentService_AcknowledgeIncident_FullMethodName: Operator,
	operatorv1.IncidentService_HoldIncident_FullMethodName:        Operator,
	operatorv1.IncidentService_ResumeIncident_FullMethodName:      Operator,
	operatorv1.IncidentService_LinkIncident_FullMethodName:        Operator,
	operatorv1.IncidentService_WatchIncidents_FullMethodName:      Viewer,
	operatorv1.ActionService_ListActions_FullMethodName:           Viewer,
	operatorv1.ActionService_GetAction_FullMethodName:             Viewer,
	operatorv1.ActionService_ExplainAction_FullMethodName:         Viewer,
	operatorv1.ActionService_ApproveAction_FullMethodName:         Approver,
	operatorv1.ActionService_DenyAction_FullMethodName:            Approver,
	operatorv1.ActionService_CancelAction_FullMethodName:          Operator,
	operatorv1.ActionService_WatchActions_FullMethodName:          Viewer,
	operatorv1.AccessService_CreateToken_FullMethodName:           Admin,
	operatorv1.AccessService_ListTokens_FullMethodName:            Admin,
	operatorv1.AccessService_RevokeToken_FullMethodName:           Admin,
	operatorv1.AccessService_WhoAmI_FullMethodName:                Viewer,
	operatorv1.QueryService_Query_FullMethodName:                  Viewer,
	operatorv1.QueryService_QueryRange_FullMethodName:             Viewer,
	operatorv1.ControlService_GetKillSwitch_FullMethodName:        Viewer,
	operatorv1.ControlService_SetKillSwitch_FullMethodName:        Approver,
	operatorv1.ControlService_ListAudit_FullMethodName:            Admin,
	operatorv1.ControlService_GetVersion_FullMethodName:           Viewer,
	operatorv1.ControlService_Simulate_FullMethodName:             Viewer,
	operatorv1.ChangeService_RecordChanges_FullMethodName:         Operator,
	operatorv1.ChangeService_ListChanges_FullMethodName:           Viewer,
	operatorv1.ReviewService_ConfirmReview_FullMethodName:         Operator,
	operatorv1.ReviewService_ListConfirmations_FullMethodName:     Viewer,
	operatorv1.ReasonService_Ask_FullMethodName:                   Viewer,
	operatorv1.SignalService_TellSignals_FullMethodName:           Signaller,
	operatorv1.SignalService_ListSignals_FullMethodName:           Viewer,
	operatorv1.SignalService_SetLevel_FullMethodName:              Operator,
	operatorv1.SignalService_UnsetLevel_FullMethodName:            Operator,
	operatorv1.SignalService_ListSetLevels_FullMethodName:         Viewer,
	operatorv1.KeyService_ListKeys_FullMethodName:                 Viewer,
	operatorv1.KeyService_RevokeKey_FullMethodName:                Admin,
	operatorv1.KeyService_RotateKey_FullMethodName:                Admin,
}

type principalKey struct{}

// who returns the principal that the interceptor found.
func who(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// authorise finds out who asks and whether they may call method. Every denial is audited.
func (s *Server) authorise(ctx context.Context, method string) (context.Context, error) {
	role, known := needs[method]
	if !known {
		s.deny(ctx, Principal{Name: "unknown"}, method, "no role may call it")
		return nil, status.Error(codes.PermissionDenied, "this method is open to nobody")
	}
	if role == Nobody {
		return ctx, nil
	}
	token := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if v := md.Get("authorization"); len(v) == 1 {
			token, _ = strings.CutPrefix(v[0], "Bearer ")
		}
	}
	p, err := s.cfg.Authenticate(ctx, token)
	if err != nil {
		if errors.Is(err, ErrBadToken) {
			s.deny(ctx, Principal{Name: "unknown"}, method, err.Error())
			return nil, status.Error(codes.Unauthenticated, err.Error()+": run evenkeel login with a token that is usable")
		}
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	if !p.Role.May(role) {
		s.deny(ctx, p, method, "needs the role "+role.String())
		return nil, status.Errorf(codes.PermissionDenied, "%s is a %s; this needs the role %s", p.Name, p.Role, role)
	}
	return context.WithValue(ctx, principalKey{}, p), nil
}

func (s *Server) deny(ctx context.Context, p Principal, method, why string) {
	if err := s.cfg.Audit(ctx, p.Name, "call", strings.TrimPrefix(method, "/"), "denied", why); err != nil {
		s.cfg.Log.Error("a denial is not in the audit log", "who", p.Name, "method", method, "error", err)
	}
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authorise(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.authorise(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = next(srv, &authorisedStream{ss, ctx})
	select {
	case <-s.stopping:
		return status.Error(codes.Unavailable, "the collector is stopping")
	default:
		return err
	}
}

type authorisedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *authorisedStream) Context() context.Context { return s.ctx }
