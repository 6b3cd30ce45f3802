package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/pkg/identity"
)

// ErrNotEnrolled says that a host has no certificate yet.
var ErrNotEnrolled = errors.New("this host is not enrolled: run \"evenkeel-agent enroll --join-file FILE\" with a join string from \"evenkeel token create\"")

// Enrolment is what a host keeps of the moment when it joined, in enrolment.json. It holds no secret.
type Enrolment struct {
	Version     int       `json:"version"` // 1
	Host        string    `json:"host"`
	Cluster     string    `json:"cluster"`
	Collector   string    `json:"collector"` // host:port of AgentService
	Enrolment   string    `json:"enrolment"` // host:port of EnrolmentService
	SigningRoot string    `json:"signingRoot"`
	At          time.Time `json:"at"`
}

// Identity is the agent's certificate and key in its state folder. Its methods may be called from any goroutine.
type Identity struct {
	Enrolment

	cfg   Config
	now   func() time.Time
	key   *ecdsa.PrivateKey
	trust *identity.Trust
	ca    []byte // DER
	pin   identity.Pin

	mu   sync.Mutex
	cert *tls.Certificate
}

// LoadIdentity reads what Enrol left. The error is ErrNotEnrolled, or says what is wrong with which file.
func LoadIdentity(cfg Config, now func() time.Time) (*Identity, error) {
	id := &Identity{cfg: cfg, now: now}
	data, err := os.ReadFile(cfg.enrolmentFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEnrolled
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the enrolment: %w", err)
	}
	if err := json.Unmarshal(data, &id.Enrolment); err != nil {
		return nil, fmt.Errorf("cannot read the enrolment: %s: %w", cfg.enrolmentFile(), err)
	}
	if id.Version != 1 {
		return nil, fmt.Errorf("%s is of version %d and this agent reads version 1: install the agent that wrote it", cfg.enrolmentFile(), id.Version)
	}
	if id.key, err = loadKey(cfg.keyFile()); err != nil {
		return nil, err
	}
	certs := func(path string) ([]*x509.Certificate, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read a certificate: %w", err)
		}
		all, err := identity.DecodeCertificates(data)
		if err != nil {
			return nil, fmt.Errorf("cannot read a certificate: %s: %w", path, err)
		}
		return all, nil
	}
	ca, err := certs(cfg.caFile())
	if err != nil {
		return nil, err
	}
	id.ca, id.pin = ca[0].Raw, pinOf(ca[0])
	if id.trust, err = identity.NewTrust(id.ca); err != nil {
		return nil, err
	}
	chain, err := certs(cfg.certFile())
	if err != nil {
		return nil, err
	}
	if !id.key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together: move both away and enrol again", cfg.keyFile(), cfg.certFile())
	}
	id.cert = &tls.Certificate{PrivateKey: id.key, Leaf: chain[0]}
	for _, c := range chain {
		id.cert.Certificate = append(id.cert.Certificate, c.Raw)
	}
	return id, nil
}

func pinOf(ca *x509.Certificate) identity.Pin { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key: %w", err)
	}
	key, err := identity.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key: %s: %w", path, err)
	}
	return key, nil
}

// TLS returns a configuration that shows the current certificate and accepts only collectors of the cluster.
func (id *Identity) TLS() *tls.Config {
	return identity.ClientTLS(id.trust, func() (*tls.Certificate, error) {
		id.mu.Lock()
		defer id.mu.Unlock()
		return id.cert, nil
	}, id.now)
}

// Leaf returns the current certificate.
func (id *Identity) Leaf() *x509.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cert.Leaf
}

// Request returns a certificate request for the name and key of this host.
func (id *Identity) Request() ([]byte, error) { return identity.MakeCSR(id.key, id.Host) }

// Replace checks a renewed certificate, stores it and shows it from the next handshake on.
func (id *Identity) Replace(chain [][]byte, ca []byte) error {
	if len(ca) == 0 {
		ca = id.ca
	}
	leaf, err := identity.CheckIssued(chain, ca, id.pin, id.Host, &id.key.PublicKey, id.now())
	if err != nil {
		return err
	}
	if err := writeFile(id.cfg.certFile(), identity.EncodeCertificates(chain...), 0o600); err != nil {
		return err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.cert = &tls.Certificate{Certificate: chain, PrivateKey: id.key, Leaf: leaf}
	return nil
}

// Address returns where the collector is: from the configuration, else from the enrolment.
func (id *Identity) Address() string {
	if id.cfg.Collector != "" {
		return id.cfg.Collector
	}
	return id.Collector
}

// EnrolRequest is what Enrol needs.
type EnrolRequest struct {
	Config Config
	Join   string // the join string
	Name   string // wanted agent id; empty: the host's name, or the name that is enrolled already
	// Dial and Now have defaults: TCP, and time.Now.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Now  func() time.Time
}

// Enrol makes the host's key, exchanges the join string for a certificate and stores both. already says that there was
// nothing to do. Each error is one sentence that says what to do.
func Enrol(ctx context.Context, r EnrolRequest) (e Enrolment, already bool, err error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	join, err := identity.ParseJoin(r.Join)
	if err != nil {
		return e, false, &UsageError{err}
	}
	cfg := r.Config
	old, err := LoadIdentity(cfg, r.Now)
	switch {
	case errors.Is(err, ErrNotEnrolled):
	case err != nil:
		return e, false, err
	case old.pin != join.Pin:
		return e, false, &UsageError{fmt.Errorf("this host is enrolled with cluster %s and the join string is of another: stop the agent and move %s away first", old.Cluster, cfg.State)}
	case r.Name != "" && r.Name != old.Host:
		return e, false, &UsageError{fmt.Errorf("this host is enrolled as %s: to rename it, stop the agent and move %s away first", old.Host, cfg.State)}
	case r.Now().Before(old.Leaf().NotAfter.Add(identity.RenewGrace)):
		return old.Enrolment, true, nil
	default:
		r.Name = old.Host // the certificate ended too long ago to be renewed: the same host joins again
	}
	if r.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return e, false, fmt.Errorf("cannot find this host's name: %w; give it with --name", err)
		}
		r.Name = strings.ToLower(name)
	}
	if err := identity.CheckName(r.Name); err != nil {
		return e, false, &UsageError{fmt.Errorf("%w; give another with --name", err)}
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return e, false, fmt.Errorf("cannot make the state folder: %w; run this as the agent's user or as root", err)
	}
	// The key is on disk before it is shown to anyone: a second try after a crash is then the same host.
	key, err := loadKey(cfg.keyFile())
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(cfg.keyFile())
	}
	if err != nil {
		return e, false, err
	}
	csr, err := identity.MakeCSR(key, r.Name)
	if err != nil {
		return e, false, err
	}
	got, err := link.Enrol(ctx, link.Enrolment{
		Address: join.Address, TLS: identity.PinTLS(join.Pin, r.Now), Token: join.Token, Host: r.Name, CSR: csr, Dial: r.Dial, Now: r.Now,
	})
	if err != nil {
		return e, false, err
	}
	if _, err := identity.CheckIssued(got.Chain, got.CA, join.Pin, r.Name, &key.PublicKey, r.Now()); err != nil {
		return e, false, err
	}
	e = Enrolment{
		Version: 1, Host: r.Name, Cluster: got.Cluster, Collector: got.Address, Enrolment: join.Address, SigningRoot: got.SigningRoot,
		At: r.Now().UTC().Truncate(time.Second),
	}
	if _, _, err := net.SplitHostPort(e.Collector); err != nil {
		return e, false, fmt.Errorf("the collector gave no usable address for agents (%q): set its advertised address", e.Collector)
	}
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return e, false, err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{
		{cfg.caFile(), identity.EncodeCertificates(got.CA)},
		{cfg.certFile(), identity.EncodeCertificates(got.Chain...)},
		{cfg.enrolmentFile(), append(text, '\n')}, // last: it is what says that the host is enrolled
	} {
		if err := writeFile(f.path, f.data, 0o600); err != nil {
			return e, false, err
		}
	}
	return e, false, nil
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	data, err := identity.MarshalKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, data, 0o600)
}

// writeFile replaces a file as a whole: after a crash it is the old one or the new one.
func writeFile(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// UsageError is a mistake in what a person gave: a command's exit code for it is 2.
type UsageError struct{ Err error }

// Error returns the text of Err.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UsageError) Unwrap() error { return e.Err }
