package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// maxCSR bounds a certificate signing request in bytes.
const maxCSR = 4 << 10

// CommandKeyLife is how long a collector's command key is certified for; it is replaced at half of it.
const CommandKeyLife = 24 * time.Hour

// NewKey makes the key of a certificate: ECDSA P-256. It never leaves the machine that made it.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// MarshalKey returns a certificate's key as PEM, for a file of mode 0600.
func MarshalKey(key *ecdsa.PrivateKey) ([]byte, error) { return marshalPrivate(key) }

// ParseKey reads what MarshalKey writes.
func ParseKey(b []byte) (*ecdsa.PrivateKey, error) {
	key, err := parsePrivate(b)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P256() {
		return k, nil
	}
	return nil, errors.New("the key is not an ECDSA P-256 key: remove the file to have a new one made, then enrol again")
}

// NewSigningKey makes an Ed25519 key: the signing root of a cluster, an approver's key, or a collector's command key.
func NewSigningKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// MarshalSigningKey returns a signing key as PEM; it is a secret, to be sealed before it is stored.
func MarshalSigningKey(key ed25519.PrivateKey) ([]byte, error) { return marshalPrivate(key) }

// ParseSigningKey reads what MarshalSigningKey writes.
func ParseSigningKey(b []byte) (ed25519.PrivateKey, error) {
	key, err := parsePrivate(b)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(ed25519.PrivateKey); ok {
		return k, nil
	}
	return nil, errors.New("the signing key is not an Ed25519 key")
}

// CommandKey is the key with which one collector signs commands, for as long as the signing root certifies it.
type CommandKey struct {
	Private             ed25519.PrivateKey
	NotBefore, NotAfter time.Time
}

// NewCommandKey makes a collector's command key, good for CommandKeyLife and, for hosts whose clock is slow, a little
// before now.
func NewCommandKey(now time.Time) (CommandKey, error) {
	key, err := NewSigningKey()
	return CommandKey{Private: key, NotBefore: now.Add(-MaxClockSkew), NotAfter: now.Add(CommandKeyLife)}, err
}

func marshalPrivate(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parsePrivate(b []byte) (any, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no private key in PEM form was found")
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

// MakeCSR returns a certificate signing request, DER, for an agent's key. The name in it is a courtesy to the reader: a
// CA takes the name from the approval, not from here.
func MakeCSR(key *ecdsa.PrivateKey, host string) ([]byte, error) {
	if err := CheckName(host); err != nil {
		return nil, err
	}
	name := host
	if len(name) > 64 { // the upper bound of a common name
		name = name[:64]
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
}

// ParseCSR checks a certificate signing request and returns the public key in it: ECDSA P-256, its owner's signature
// good. Nothing else in a request counts.
func ParseCSR(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("the certificate request has %d bytes: at most %d are accepted", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate request cannot be read: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request is not for an ECDSA P-256 key: make one with this version's agent")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	return key, nil
}

// KeyHash names a public key: hex SHA-256 of its SPKI. A host record keeps it, so that an enrolment that is repeated
// with the same key is known as such.
func KeyHash(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// EncodeCertificates returns DER certificates as one PEM text.
func EncodeCertificates(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// DecodeCertificates reads what EncodeCertificates writes; it fails if there is none, or something else between them.
func DecodeCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("found a %q where a certificate was expected", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out, b = append(out, cert), rest
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM form was found")
	}
	return out, nil
}
