package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// keepCertificate renews the certificate at half its life, and on failure again after a minute, doubling to an hour,
// until ctx ends. The open session goes on with the old one; the next handshake shows the new one.
func (l *Link) keepCertificate(ctx context.Context, cc *grpc.ClientConn) {
	retry := time.Minute
	for {
		leaf := l.cfg.Identity.Leaf()
		if leaf == nil {
			return
		}
		life := leaf.NotAfter.Sub(leaf.NotBefore)
		// A fleet enrolled in one go does not renew in one go.
		due := leaf.NotBefore.Add(life/2 + time.Duration(l.cfg.Rand()*float64(life)/20))
		wait := max(due.Sub(l.cfg.Now()), 0)
		if l.Status().RenewError != "" {
			wait, retry = max(wait, retry), min(2*retry, time.Hour)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := l.renew(ctx, cc); err != nil {
			if ctx.Err() != nil {
				return
			}
			l.cfg.Log.Warn("cannot renew the certificate", "error", err, "until", leaf.NotAfter)
			continue
		}
		retry = time.Minute
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
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
	)
	switch {
	case errors.As(err, &unknown):
		return "the collector's certificate is not from the CA of this enrolment"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the collector's certificate is outside its time: compare the clocks of both machines"
	case errors.As(err, &alert):
		return "the collector refused this agent's certificate: " + alert.Error()
	}
	if st, ok := status.FromError(err); ok && st.Code() != codes.Unknown {
		return st.Message()
	}
	return err.Error()
}
