package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Errors of verification, wrapped by sentences that say what to do.
var (
	ErrWrongPin     = errors.New("wrong pin")
	ErrClock        = errors.New("clock and certificate disagree")
	ErrExpired      = errors.New("certificate expired")
	ErrRevoked      = errors.New("certificate revoked")
	ErrWrongCluster = errors.New("certificate of another cluster")
	ErrWrongRole    = errors.New("certificate of another role")
)

// sentence is an error whose text is complete by itself and that errors.Is finds under its kind.
type sentence struct {
	text string
	kind error
}

func (e *sentence) Error() string { return e.text }
func (e *sentence) Unwrap() error { return e.kind }

func say(kind error, format string, args ...any) error {
	return &sentence{fmt.Sprintf(format, args...), kind}
}

// Trust verifies the certificates of one cluster. It is immutable.
type Trust struct {
	cluster string
	ca      *x509.Certificate
	roots   *x509.CertPool
}

// NewTrust returns a Trust in the CA whose certificate is der.
func NewTrust(der []byte) (*Trust, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA certificate: %w", err)
	}
	cluster, err := clusterOf(cert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &Trust{cluster: cluster, ca: cert, roots: roots}, nil
}

// Cluster returns the id of the cluster.
func (t *Trust) Cluster() string { return t.cluster }

// Verified is what a good certificate says.
type Verified struct {
	Peer
	Serial   string
	NotAfter time.Time
	// Expired marks a certificate that has ended, by less than RenewGrace: its holder may call Renew and nothing else.
	Expired bool
}

// Verify checks a chain, leaf first, in full: signed by the CA, for this use, of this role, of this cluster, within its
// time at now. With grace, a leaf that ended less than RenewGrace ago passes with Expired set; all else must be as good
// as ever.
func (t *Trust) Verify(chain []*x509.Certificate, role Role, use x509.ExtKeyUsage, now time.Time, grace bool) (Verified, error) {
	if len(chain) == 0 {
		return Verified{}, errors.New("no certificate was shown: enrol this host first")
	}
	leaf := chain[0]
	at := now
	expired := now.After(leaf.NotAfter)
	switch {
	case expired && grace && now.Sub(leaf.NotAfter) <= RenewGrace:
		at = leaf.NotAfter
	case expired && grace:
		return Verified{}, say(ErrExpired, "the certificate ended at %s, more than %d days ago: enrol again with a new token",
			stamp(leaf.NotAfter), int(RenewGrace.Hours()/24))
	case expired, now.Before(leaf.NotBefore):
		return Verified{}, ClockError(leaf, now)
	}
	if now.After(t.ca.NotAfter) || now.Before(t.ca.NotBefore) {
		return Verified{}, ClockError(t.ca, now)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: t.roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return Verified{}, say(ErrWrongCluster,
				"the certificate was not signed by the CA of cluster %s: enrol again with a join string of the cluster that is meant", t.cluster)
		}
		return Verified{}, fmt.Errorf("the certificate is not good: %w", err)
	}
	if len(leaf.URIs) != 1 {
		return Verified{}, fmt.Errorf("the certificate names %d identities, wanted 1", len(leaf.URIs))
	}
	p, err := ParsePeer(leaf.URIs[0])
	if err != nil {
		return Verified{}, err
	}
	switch {
	case p.Cluster != t.cluster:
		return Verified{}, say(ErrWrongCluster, "the certificate belongs to cluster %s, and this is %s: enrol again with a join string of this cluster", p.Cluster, t.cluster)
	case p.Role != role:
		return Verified{}, say(ErrWrongRole, "the certificate is that of the %s %s, and only %ss may speak here: connect to the right port", p.Role, p.Name, role)
	}
	return Verified{Peer: p, Serial: serialText(leaf.SerialNumber), NotAfter: leaf.NotAfter, Expired: expired}, nil
}

// Agent returns who is at the other end of a connection that was made with ServerTLS. It looks at the certificate and
// at now only, so a session may call it again and again: an agent whose certificate ends turns Expired, then fails.
func (t *Trust) Agent(cs tls.ConnectionState, now time.Time) (Verified, error) {
	return t.Verify(cs.PeerCertificates, RoleAgent, x509.ExtKeyUsageClientAuth, now, true)
}

// ClockError says, in one sentence, what to do when now is outside the time of cert. It is nil when it is inside.
func ClockError(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return say(ErrClock, "the clock says %s, %s before the certificate begins: set the clock (timedatectl set-ntp true), then try again",
			stamp(now), about(cert.NotBefore.Sub(now)))
	case now.After(cert.NotAfter):
		return say(ErrClock, "the clock says %s, %s after the certificate ended: set the clock if it is wrong (timedatectl set-ntp true), else renew the certificate or enrol again",
			stamp(now), about(now.Sub(cert.NotAfter)))
	}
	return nil
}

// CheckSkew compares the clock of a host that wants to join with the collector's, and says what to do when they differ by
// more than MaxClockSkew.
func CheckSkew(host, collector time.Time) error {
	word, d := "ahead of", host.Sub(collector)
	if d < 0 {
		word, d = "behind", -d
	}
	if d <= MaxClockSkew {
		return nil
	}
	return say(ErrClock, "this host's clock is %s %s the collector's: set it (timedatectl set-ntp true), then enrol again with the same join string", about(d), word)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// about rounds to what a reader needs: "3 hours", "12 minutes", "40 days".
func about(d time.Duration) string {
	unit := func(n int64, word string) string {
		if n == 1 {
			return "1 " + word
		}
		return fmt.Sprintf("%d %ss", n, word)
	}
	switch {
	case d >= 48*time.Hour:
		return unit(int64(d/(24*time.Hour)), "day")
	case d >= time.Hour:
		return unit(int64(d.Round(time.Hour)/time.Hour), "hour")
	case d >= time.Minute:
		return unit(int64(d/time.Minute), "minute")
	}
	return unit(int64(d/time.Second), "second")
}

// pinned returns the certificate in chain whose public key has the pin.
func pinned(chain []*x509.Certificate, pin Pin) (*x509.Certificate, bool) {
	for _, c := range chain {
		if sha256.Sum256(c.RawSubjectPublicKeyInfo) == pin {
			return c, true
		}
	}
	return nil, false
}
