package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"time"
)

// ServerConfig is what ServerTLS needs. All fields but Revoked are required.
type ServerConfig struct {
	Trust       *Trust
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Revoked reports whether a serial was revoked. It is asked during handshakes and must answer from memory. Default:
	// none was.
	Revoked func(serial string) bool
	Clock   func() time.Time
}

// base is what every side of every connection has in common.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// A resumed session would skip the check of a CA or revocation that has changed since.
		SessionTicketsDisabled: true,
	}
}

// ServerTLS returns the configuration of the agents' port: a handshake ends only for a certificate of an agent of this
// cluster that is not revoked. One that ended less than RenewGrace ago passes too, so that it can be renewed: every
// other method must ask Trust.Agent and refuse Expired.
func ServerTLS(c ServerConfig) *tls.Config {
	cfg := base()
	cfg.GetCertificate = c.Certificate
	cfg.ClientAuth = tls.RequireAnyClientCert // verified below, by our clock and with the grace
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		v, err := c.Trust.Agent(cs, c.Clock())
		if err != nil {
			return err
		}
		if c.Revoked != nil && c.Revoked(v.Serial) {
			return say(ErrRevoked, "the certificate of host %s was revoked: enrol it again with a new token", v.Name)
		}
		return nil
	}
	return cfg
}

// PublicTLS returns the configuration of a port whose callers have a token and no certificate: enrolment, operators.
func PublicTLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	cfg := base()
	cfg.GetCertificate = certificate
	return cfg
}

// ClientTLS returns the configuration with which an agent calls a collector: any collector of the cluster, under whatever
// name or address, and nobody else. Certificate is asked for each connection, so a renewed one is used at once.
func ClientTLS(t *Trust, certificate func() (*tls.Certificate, error), clock func() time.Time) *tls.Config {
	cfg := TrustTLS(t, clock)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() }
	return cfg
}

// TrustTLS returns the configuration with which a caller without a certificate, such as an operator's command that knows
// the CA, calls a collector of the cluster.
func TrustTLS(t *Trust, clock func() time.Time) *tls.Config {
	cfg := base()
	cfg.InsecureSkipVerify = true // the library would check by host name; VerifyConnection checks role and cluster in full
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := t.Verify(cs.PeerCertificates, RoleCollector, x509.ExtKeyUsageServerAuth, clock(), false)
		return err
	}
	return cfg
}

// PinTLS returns the configuration with which a host that has only a join string calls the enrolment port: the collector
// must show a CA with this pin, and a certificate of its own that this CA has signed.
func PinTLS(pin Pin, clock func() time.Time) *tls.Config {
	cfg := base()
	cfg.InsecureSkipVerify = true // as in TrustTLS
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		ca, ok := pinned(cs.PeerCertificates, pin)
		if !ok {
			return say(ErrWrongPin, "the collector at this address is not the one that made the join string: check the address, or make a new join string with \"evenkeel token create\"")
		}
		t, err := NewTrust(ca.Raw)
		if err != nil {
			return err
		}
		_, err = t.Verify(cs.PeerCertificates, RoleCollector, x509.ExtKeyUsageServerAuth, clock(), false)
		return err
	}
	return cfg
}

// CheckIssued checks an answer to enrolment or renewal on the side of its receiver: the CA has the pin (for a renewal,
// that of the CA so far), the certificate is host's and for key, and both are good at now.
func CheckIssued(chain [][]byte, caDER []byte, pin Pin, host string, key *ecdsa.PublicKey, now time.Time) (*x509.Certificate, error) {
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, err
	}
	if _, ok := pinned([]*x509.Certificate{ca}, pin); !ok {
		return nil, say(ErrWrongPin, "the collector answered with another CA than the join string names: make a new join string")
	}
	t, err := NewTrust(caDER)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("the collector answered without a certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	v, err := t.Verify([]*x509.Certificate{leaf}, RoleAgent, x509.ExtKeyUsageClientAuth, now, false)
	if err != nil {
		return nil, err
	}
	if v.Name != host || !key.Equal(leaf.PublicKey) {
		return nil, errors.New("the collector answered with a certificate that is not for this host and its key")
	}
	return leaf, nil
}

// ExplainHandshake turns the bare alert that a refused client sees, also through gRPC's wrapping, into a sentence. Other
// errors come back as they are.
func ExplainHandshake(err error) error {
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: bad certificate") {
		return err
	}
	return say(ErrRevoked, "the collector refused this host's certificate: it was revoked, ended more than %d days ago, or is of another cluster; enrol again with a new token",
		int(RenewGrace.Hours()/24))
}
