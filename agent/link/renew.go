package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/pkg/identity"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// errRenewed ends a session so that the next one shows the new certificate.
var errRenewed = errors.New("the certificate was renewed")

// keepCertificate renews the certificate at half its life, and on failure again after a minute, doubling to an hour.
// It returns errRenewed when there is a new certificate: the session would end with the old one.
func (l *Link) keepCertificate(ctx context.Context, cc *grpc.ClientConn) error {
	leaf, retry := l.cfg.Identity.Leaf(), time.Minute
	due := identity.RenewAt(leaf.NotBefore, leaf.NotAfter, l.cfg.Rand())
	wait := max(due.Sub(l.cfg.Now()), 0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		err := l.renew(ctx, cc)
		if err == nil {
			return errRenewed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.cfg.Log.Warn("cannot renew the certificate", "error", err, "until", leaf.NotAfter)
		wait, retry = retry, min(2*retry, time.Hour)
	}
}

// renew exchanges the certificate for a fresh one.
func (l *Link) renew(ctx context.Context, cc *grpc.ClientConn) error {
	err := func() error {
		csr, err := l.cfg.Identity.Request()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		resp, err := agentv1.NewAgentServiceClient(cc).Renew(ctx, &agentv1.RenewRequest{CsrDer: csr})
		if err != nil {
			return err
		}
		if len(resp.GetCertificateChainDer()) == 0 {
			return errors.New("the collector's answer holds no certificate")
		}
		return l.cfg.Identity.Replace(resp.GetCertificateChainDer(), resp.GetCaDer())
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("cannot renew the certificate: %w", err)
		l.status.RenewError = Sentence(err)
		return err
	}
	l.status.RenewError = ""
	l.cfg.Log.Info("certificate renewed", "until", l.cfg.Identity.Leaf().NotAfter)
	return nil
}

// refusedForGood reports whether trying again soon cannot help.
func refusedForGood(err error) bool {
	switch status.Code(errors.Unwrap(err)) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return true
	}
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

// Sentence says in one line what went wrong with a connection; "" for nil.
func Sentence(err error) string {
	if err == nil {
		return ""
	}
	err = identity.ExplainHandshake(err)
	text := err.Error()
	if st, ok := status.FromError(err); ok && st.Code() != codes.Unknown {
		text = st.Message()
	}
	// What gRPC wraps around the reason is of no use to a reader.
	for _, before := range []string{"authentication handshake failed: ", "error while dialing: ", "rpc error: code = Unavailable desc = "} {
		if i := strings.LastIndex(text, before); i >= 0 {
			text = strings.TrimSuffix(text[i+len(before):], `"`)
		}
	}
	return strings.TrimPrefix(text, "rpc error: ")
}

// handshake reports whether the other end was there and TLS did not come about.
func handshake(err error) bool {
	return strings.Contains(err.Error(), "authentication handshake failed: ")
}
