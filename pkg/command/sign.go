package command

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	commandText     = "evenkeel-command-v1\n"
	keyText         = "evenkeel-command-key-v1\n"
	publicKeyPrefix = "ed25519:"
	maxCertificate  = 1024
	maxCollector    = 256
)

// Envelope is a command under signature. Body stays byte for byte what was signed.
type Envelope struct {
	Body         []byte
	Signatures   []Signature
	Certificates []KeyCertificate
}

// Signature is one key's signature over the body.
type Signature struct {
	KeyID string
	Sig   []byte
}

// KeyCertificate binds a collector's command key to the signing root.
type KeyCertificate struct {
	Body []byte
	Sig  []byte
}

// CertifiedKey is what a KeyCertificate says.
type CertifiedKey struct {
	KeyID               string // KeyID(Public)
	Public              ed25519.PublicKey
	Collector           string
	NotBefore, NotAfter time.Time
	MaxRisk             Risk // R2 at most
}

// Key signs commands. Certificate is that of a collector's key and empty for an approver's.
type Key struct {
	Private     ed25519.PrivateKey
	Certificate KeyCertificate
}

// Refusal is the error of Verify and of an actor's judgement: a reason's code and a sentence for people.
type Refusal struct {
	Reason Reason
	Detail string
}

// Error returns the code and the sentence.
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

// Refuse returns a *Refusal.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// ReasonOf returns the code inside an error, or "" where there is none.
func ReasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

// KeyID names a public key: the first 16 hex digits of its SHA-256.
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// FormatPublicKey returns a key as a permissions file has it: "ed25519:" and base64.
func FormatPublicKey(public ed25519.PublicKey) string {
	return publicKeyPrefix + base64.StdEncoding.EncodeToString(public)
}

// ParsePublicKey reads what FormatPublicKey writes.
func ParsePublicKey(s string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(s, publicKeyPrefix)
	if !ok {
		return nil, fmt.Errorf("a public key starts with %q", publicKeyPrefix)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != ed25519.PublicKeySize || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("after %q come the 32 bytes of an Ed25519 key in base64", publicKeyPrefix)
	}
	return b, nil
}

// Hash names the exact bytes of a body, for deduplication and approval: hex SHA-256.
func (e Envelope) Hash() string { return HashBody(e.Body) }

// HashBody returns the hex SHA-256 of a body.
func HashBody(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Sign makes the envelope of a command. The command is marshalled here and never again.
func Sign(c Command, keys ...Key) (Envelope, error) {
	body, err := MarshalBody(c)
	if err != nil {
		return Envelope{}, fmt.Errorf("cannot sign command: %w", err)
	}
	e := Envelope{Body: body}
	for _, k := range keys {
		if e, err = e.With(k); err != nil {
			return Envelope{}, err
		}
	}
	return e, nil
}

// With returns the envelope with one more signature, as an approver adds it. The receiver is not changed.
func (e Envelope) With(k Key) (Envelope, error) {
	if len(k.Private) != ed25519.PrivateKeySize {
		return Envelope{}, errors.New("cannot sign command: no private key")
	}
	if len(e.Signatures) >= maxSigners {
		return Envelope{}, errors.New("cannot sign command: too many signatures")
	}
	public := k.Private.Public().(ed25519.PublicKey)
	out := Envelope{Body: e.Body}
	out.Signatures = append(append(out.Signatures, e.Signatures...), Signature{KeyID: KeyID(public), Sig: ed25519.Sign(k.Private, signedText(commandText, e.Body))})
	out.Certificates = append(out.Certificates, e.Certificates...)
	if len(k.Certificate.Body) != 0 {
		out.Certificates = append(out.Certificates, k.Certificate)
	}
	return out, nil
}

// CertifyKey has the signing root vouch for a collector's key. The key id is set here; a risk over R2 is an error,
// because what cannot be taken back is never a collector's to sign alone.
func CertifyKey(root ed25519.PrivateKey, k CertifiedKey) (KeyCertificate, error) {
	k.KeyID = KeyID(k.Public)
	if err := k.validate(); err != nil {
		return KeyCertificate{}, fmt.Errorf("cannot certify command key: %w", err)
	}
	body, err := k.marshal()
	if err != nil {
		return KeyCertificate{}, fmt.Errorf("cannot certify command key: %w", err)
	}
	return KeyCertificate{Body: body, Sig: ed25519.Sign(root, signedText(keyText, body))}, nil
}

func (k CertifiedKey) validate() error {
	switch {
	case len(k.Public) != ed25519.PublicKeySize:
		return errors.New("public key is not 32 bytes")
	case k.KeyID != KeyID(k.Public):
		return errors.New("key id is not that of the key")
	case k.MaxRisk > R2:
		return fmt.Errorf("a collector's key may not reach %s", k.MaxRisk)
	case !k.NotAfter.After(k.NotBefore):
		return errors.New("it ends at or before its start")
	case len(k.Collector) > maxCollector:
		return errors.New("collector name is too long")
	}
	return nil
}

// Verify checks the root's signature, then the contents, then the time. The error is a *Refusal.
func (k KeyCertificate) Verify(root ed25519.PublicKey, now time.Time) (CertifiedKey, error) {
	if len(k.Body) > maxCertificate || len(root) != ed25519.PublicKeySize {
		return CertifiedKey{}, Refuse(ReasonUnknownKey, "key certificate cannot be checked")
	}
	if !ed25519.Verify(root, signedText(keyText, k.Body), k.Sig) {
		return CertifiedKey{}, Refuse(ReasonUnknownKey, "key certificate is not signed by this host's signing root")
	}
	c, err := parseCertifiedKey(k.Body)
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return CertifiedKey{}, Refuse(ReasonMalformed, "key certificate: %v", err)
	}
	if now.Before(c.NotBefore) || !now.Before(c.NotAfter) {
		return CertifiedKey{}, Refuse(ReasonKeyExpired, "key %s of collector %s is good from %s to %s", c.KeyID, clip(c.Collector),
			c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	return c, nil
}

func signedText(prefix string, body []byte) []byte {
	return append([]byte(prefix), body...)
}
