package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Enrolment is what a host asks for when it joins.
type Enrolment struct {
	Address string      // host:port of the EnrolmentService
	TLS     *tls.Config // accepts only the collector that made the join string
	Token   string
	Host    string
	CSR     []byte // PKCS#10, DER
	// Dial and Now are as in Config.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Now  func() time.Time
}

// Enrolled is the answer.
type Enrolled struct {
	Chain       [][]byte // DER, leaf first
	CA          []byte   // DER
	Address     string   // of AgentService
	SigningRoot string   // "ed25519:<base64>"
	Cluster     string
}

// UnreachableError says that nobody answered at the enrolment address.
type UnreachableError struct{ Address, Reason string }

// Error says what to do.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach the collector at %s: %s; check that it runs and that this host may connect to it", e.Address, e.Reason)
}

// Enrol exchanges a join token for a certificate. Each error is one sentence that says what to do.
func Enrol(ctx context.Context, e Enrolment) (Enrolled, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(e.TLS)), grpc.WithNoProxy(), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	}
	if e.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(e.Dial))
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	cc, err := grpc.NewClient("passthrough:///"+e.Address, opts...)
	if err != nil {
		return Enrolled{}, err
	}
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := agentv1.NewEnrolmentServiceClient(cc).Enrol(ctx, &agentv1.EnrolRequest{
		Token: e.Token, Host: e.Host, CsrDer: e.CSR, AgentTimeUnixMs: e.Now().UnixMilli(),
	})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unavailable, codes.DeadlineExceeded:
		if handshake(err) {
			return Enrolled{}, fmt.Errorf("%s", Sentence(err))
		}
		return Enrolled{}, &UnreachableError{Address: e.Address, Reason: Sentence(err)}
	default:
		return Enrolled{}, &RefusedError{Reason: Sentence(err)}
	}
	return Enrolled{
		Chain: resp.GetCertificateChainDer(), CA: resp.GetCaDer(), Address: resp.GetAgentAddress(), SigningRoot: resp.GetSigningRoot(),
		Cluster: resp.GetClusterId(),
	}, nil
}

// RefusedError is the collector's own sentence on why it does not take this host.
type RefusedError struct{ Reason string }

// Error returns the collector's sentence.
func (e *RefusedError) Error() string { return e.Reason }
