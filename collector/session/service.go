package session

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/pkg/identity"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// service is the generated interface of the agents' port.
type service struct {
	agentv1.UnimplementedAgentServiceServer
	server *Server
}

// Session is the one stream of an agent. It is received and sent by hand: see codec.
func (s service) Session(stream grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse]) error {
	return s.server.serve(stream)
}

// Renew exchanges the caller's certificate for a fresh one.
func (s service) Renew(ctx context.Context, req *agentv1.RenewRequest) (*agentv1.RenewResponse, error) {
	who := callerOf(ctx)
	c, err := s.server.cfg.Admission.Renew(ctx, who.Verified, req.GetCsrDer())
	if err != nil {
		s.server.stats.refused.Add(1)
		return nil, admissionError(err)
	}
	return &agentv1.RenewResponse{CertificateChainDer: c.Chain, CaDer: c.CA}, nil
}

// Enrolment serves hosts that have a join token and no certificate yet. It is registered on the server of the port that
// asks for none.
type Enrolment struct {
	agentv1.UnimplementedEnrolmentServiceServer
	cluster   string
	admission Admission
	slots     chan struct{} // calls under way; more are turned away
}

// NewEnrolment returns the enrolment service of a cluster.
func NewEnrolment(cluster string, a Admission) *Enrolment {
	return &Enrolment{cluster: cluster, admission: a, slots: make(chan struct{}, 16)}
}

// Register adds the service to a server.
func (e *Enrolment) Register(r grpc.ServiceRegistrar) { agentv1.RegisterEnrolmentServiceServer(r, e) }

// The sizes that no field of an enrolment may exceed.
const (
	maxToken = 1 << 10
	maxCSR   = 8 << 10
)

// Enrol exchanges a token and a request for a certificate.
func (e *Enrolment) Enrol(ctx context.Context, req *agentv1.EnrolRequest) (*agentv1.EnrolResponse, error) {
	if len(req.GetToken()) > maxToken || len(req.GetCsrDer()) > maxCSR || len(req.GetCsrDer()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the enrolment is not complete: use evenkeel-agent enroll of this version")
	}
	if err := identity.CheckName(req.GetHost()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		return nil, status.Error(codes.Unavailable, "many hosts are enrolling at this moment: try again in a few seconds")
	}
	r, err := e.admission.Enrol(ctx, req.GetToken(), req.GetHost(), req.GetCsrDer(), time.UnixMilli(req.GetAgentTimeUnixMs()))
	if err != nil {
		return nil, admissionError(err)
	}
	return &agentv1.EnrolResponse{
		CertificateChainDer: r.Chain, CaDer: r.CA, AgentAddress: r.AgentAddress, SigningRoot: r.SigningRoot, ClusterId: e.cluster,
	}, nil
}

// admissionError maps what an Admission says to a code.
func admissionError(err error) error {
	for _, denied := range []error{
		identity.ErrTokenUnknown, identity.ErrTokenUsedUp, identity.ErrTokenExpired, identity.ErrTokenRevoked, identity.ErrRevoked,
		identity.ErrWrongCluster, identity.ErrWrongRole, identity.ErrExpired,
	} {
		if errors.Is(err, denied) {
			return status.Error(codes.PermissionDenied, err.Error())
		}
	}
	switch {
	case errors.Is(err, identity.ErrClock):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}
