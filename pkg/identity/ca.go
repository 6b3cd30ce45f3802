package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync"
	"time"
)

// The lives of certificates.
const (
	caYears    = 10
	AgentLife  = 24 * time.Hour
	ServerLife = 30 * 24 * time.Hour
	// RenewGrace is how long after its end a certificate may still be exchanged for a new one, and do nothing else.
	RenewGrace = 30 * 24 * time.Hour
	// MaxClockSkew is how far a host's clock may be off. Certificates begin this much before they are made.
	MaxClockSkew = 10 * time.Minute
)

// Pin is the SHA-256 of a CA's public key (SPKI). Whoever has it knows the CA when it shows up.
type Pin [sha256.Size]byte

// CA is the root of a cluster's certificates. It may be used from many goroutines.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	cluster string
}

// NewCA makes the CA of a cluster, good for ten years.
func NewCA(cluster string, now time.Time) (*CA, error) {
	if err := CheckName(cluster); err != nil {
		return nil, fmt.Errorf("cannot make a CA: %w", err)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "Evenkeel CA", Organization: []string{cluster}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(caYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: cluster}},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, cluster: cluster}, nil
}

// Marshal returns the CA with its key as PEM. It is a secret: seal it before it is stored.
func (c *CA) Marshal() ([]byte, error) {
	key, err := MarshalKey(c.key)
	if err != nil {
		return nil, err
	}
	return append(key, EncodeCertificates(c.cert.Raw)...), nil
}

// ParseCA reads what Marshal writes.
func ParseCA(b []byte) (*CA, error) {
	key, err := ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA: %w", err)
	}
	i := bytes.Index(b, []byte("-----BEGIN CERTIFICATE"))
	if i < 0 {
		return nil, errors.New("cannot read the CA: it has no certificate")
	}
	certs, err := DecodeCertificates(b[i:])
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA: %w", err)
	}
	cluster, err := clusterOf(certs[0])
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("cannot read the CA: its key and its certificate do not belong together")
	}
	return &CA{cert: certs[0], key: key, cluster: cluster}, nil
}

// clusterOf returns the cluster whose CA cert is.
func clusterOf(cert *x509.Certificate) (string, error) {
	if !cert.IsCA || len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" || cert.URIs[0].Path != "" || CheckName(cert.URIs[0].Host) != nil {
		return "", errors.New("the CA certificate is not one of an Evenkeel cluster: take ca.pem from its collector")
	}
	return cert.URIs[0].Host, nil
}

// Cluster returns the id of the CA's cluster.
func (c *CA) Cluster() string { return c.cluster }

// DER returns the CA's certificate.
func (c *CA) DER() []byte { return bytes.Clone(c.cert.Raw) }

// Pin returns the CA's pin.
func (c *CA) Pin() Pin { return sha256.Sum256(c.cert.RawSubjectPublicKeyInfo) }

// Trust returns what it takes to verify the CA's certificates.
func (c *CA) Trust() *Trust {
	t, err := NewTrust(c.cert.Raw)
	if err != nil {
		panic("BUG: identity: a CA does not trust itself: " + err.Error())
	}
	return t
}

// Issued is a certificate that a CA has made.
type Issued struct {
	Chain               [][]byte // DER, leaf first, then the CA
	Serial              string
	NotBefore, NotAfter time.Time
}

// IssueAgent makes the certificate of the agent called host for the key in a certificate signing request, good for
// AgentLife. Host must come from the approved token or the certificate that is being renewed, never from the request.
func (c *CA) IssueAgent(csr []byte, host string, now time.Time) (Issued, error) {
	if err := CheckName(host); err != nil {
		return Issued{}, err
	}
	key, err := ParseCSR(csr)
	if err != nil {
		return Issued{}, err
	}
	return c.issue(&x509.Certificate{
		NotBefore: now.Add(-MaxClockSkew), NotAfter: now.Add(AgentLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, Peer{c.cluster, RoleAgent, host}, key)
}

// IssueServer makes a certificate, with a new key, for the collector called name, which is reached under hosts (DNS
// names and IP addresses). It serves both ends of a connection and is good for ServerLife. The CA is part of its chain,
// so that who has only the pin can find it.
func (c *CA) IssueServer(name string, hosts []string, now time.Time) (tls.Certificate, error) {
	if err := CheckName(name); err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		NotBefore: now.Add(-MaxClockSkew), NotAfter: now.Add(ServerLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	key, err := NewKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	issued, err := c.issue(tmpl, Peer{c.cluster, RoleCollector, name}, &key.PublicKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(issued.Chain[0])
	return tls.Certificate{Certificate: issued.Chain, PrivateKey: key, Leaf: leaf}, err
}

func (c *CA) issue(tmpl *x509.Certificate, p Peer, key *ecdsa.PublicKey) (Issued, error) {
	tmpl.SerialNumber = newSerial()
	tmpl.Subject = pkix.Name{Organization: []string{string(p.Role)}}
	if len(p.Name) <= 64 {
		tmpl.Subject.CommonName = p.Name
	}
	tmpl.BasicConstraintsValid = true
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.URIs = []*url.URL{p.URI()}
	if tmpl.NotAfter.After(c.cert.NotAfter) {
		tmpl.NotAfter = c.cert.NotAfter
	}
	if !tmpl.NotAfter.After(tmpl.NotBefore) {
		return Issued{}, fmt.Errorf("the CA ended at %s: make a new one, or set this machine's clock", stamp(c.cert.NotAfter))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, key, c.key)
	if err != nil {
		return Issued{}, fmt.Errorf("cannot sign the certificate of %s: %w", p, err)
	}
	return Issued{
		Chain: [][]byte{der, c.DER()}, Serial: serialText(tmpl.SerialNumber),
		NotBefore: tmpl.NotBefore, NotAfter: tmpl.NotAfter,
	}, nil
}

// ServerSource hands out a collector's certificate and makes a new one at half of its life, so that a server never has
// to be restarted for it. It may be used from many goroutines.
type ServerSource struct {
	ca    *CA
	name  string
	hosts []string
	clock func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
}

// NewServerSource returns a source whose first certificate is made; the arguments are those of CA.IssueServer.
func NewServerSource(ca *CA, name string, hosts []string, clock func() time.Time) (*ServerSource, error) {
	s := &ServerSource{ca: ca, name: name, hosts: hosts, clock: clock}
	_, err := s.Get(nil)
	return s, err
}

// Get has the shape of tls.Config.GetCertificate; it does not look at its argument. When no new certificate can be made
// it goes on with the old one.
func (s *ServerSource) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && now.Before(RenewAt(s.current.Leaf.NotBefore, s.current.Leaf.NotAfter, 0.5)) {
		return s.current, nil
	}
	cert, err := s.ca.IssueServer(s.name, s.hosts, now)
	if err != nil && s.current == nil {
		return nil, err
	}
	if err == nil {
		s.current = &cert
	}
	return s.current, nil
}

// RenewAt returns when to exchange a certificate for a new one: at half of its life, spread over a tenth of it by rnd, a
// random number in [0, 1) that the caller keeps for the life of the certificate. A fleet that enrolled in one minute
// does not renew in one.
func RenewAt(notBefore, notAfter time.Time, rnd float64) time.Time {
	life := notAfter.Sub(notBefore)
	return notBefore.Add(time.Duration((0.45 + 0.1*rnd) * float64(life)))
}

func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

func serialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }
