package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/memnet"
)

func mustCA(t testing.TB, cluster string) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA(cluster, noon.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// agent is a host with a key and a certificate.
type agent struct {
	key    *ecdsa.PrivateKey
	issued identity.Issued
	cert   tls.Certificate
}

func mustAgent(t testing.TB, ca *identity.CA, host string, at time.Time) agent {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.MakeCSR(key, host)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueAgent(csr, host, at)
	if err != nil {
		t.Fatal(err)
	}
	return agent{key, issued, tls.Certificate{Certificate: issued.Chain, PrivateKey: key}}
}

// shake runs a handshake and one byte each way, and returns what each end says of it.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	n := memnet.New()
	defer n.Close()
	l, err := n.Host("collector").Listen("collector:8421")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			raw, err := l.Accept()
			if err != nil {
				return err
			}
			c := tls.Server(raw, server)
			defer c.Close()
			if err := c.Handshake(); err != nil {
				return err
			}
			state = c.ConnectionState()
			_, err = io.Copy(c, io.LimitReader(c, 1))
			return err
		}()
	}()
	raw, err := n.Host("agent").Dial(t.Context(), "collector:8421")
	if err != nil {
		t.Fatal(err)
	}
	clientErr = func() error {
		c := tls.Client(raw, client)
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}()
	return state, <-done, clientErr
}

func TestHandshake(t *testing.T) {
	ca, other := mustCA(t, "cluster-1"), mustCA(t, "cluster-2")
	impostor := mustCA(t, "cluster-1") // another key under the same name
	good := mustAgent(t, ca, "web-1", noon)
	server := func(ca *identity.CA, at time.Time) tls.Certificate {
		c, err := ca.IssueServer("collector-1", []string{"localhost", "127.0.0.1"}, at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	collector := server(ca, noon)
	none := tls.Certificate{}
	day := 24 * time.Hour

	tests := map[string]struct {
		server      tls.Certificate
		client      tls.Certificate
		serverClock time.Duration
		clientClock time.Duration
		revoked     string
		serverErr   string // part of it; "" for none at either end
		clientErr   string // where it is the client that refuses
		expired     bool
	}{
		"good":                              {server: collector, client: good.cert},
		"good, server's clock behind":       {server: collector, client: good.cert, serverClock: -9 * time.Minute},
		"good, client's clock behind":       {server: collector, client: good.cert, clientClock: -9 * time.Minute},
		"expired an hour ago":               {server: collector, client: good.cert, serverClock: 25 * time.Hour, expired: true},
		"expired 29 days ago":               {server: server(ca, noon.Add(20*day)), client: good.cert, serverClock: 29*day + 24*time.Hour, clientClock: 21 * day, expired: true},
		"expired beyond grace":              {server: collector, client: good.cert, serverClock: 31*day + time.Minute, serverErr: "more than 30 days ago"},
		"not valid yet":                     {server: collector, client: good.cert, serverClock: -5 * time.Hour, serverErr: "5 hours before the certificate begins: set the clock"},
		"revoked":                           {server: collector, client: good.cert, revoked: good.issued.Serial, serverErr: "certificate of host web-1 was revoked"},
		"another one revoked":               {server: collector, client: good.cert, revoked: "00ff"},
		"expired and revoked":               {server: collector, client: good.cert, serverClock: 25 * time.Hour, revoked: good.issued.Serial, serverErr: "was revoked"},
		"no certificate":                    {server: collector, client: none, serverErr: "didn't provide a certificate"},
		"another cluster's agent":           {server: collector, client: mustAgent(t, other, "web-1", noon).cert, serverErr: "not signed by the CA of cluster cluster-1"},
		"forged CA of the same name":        {server: collector, client: mustAgent(t, impostor, "web-1", noon).cert, serverErr: "not signed by the CA"},
		"a forged one that expired":         {server: collector, client: mustAgent(t, impostor, "web-1", noon).cert, serverClock: 25 * time.Hour, serverErr: "not signed by the CA"},
		"a collector on the agents' port":   {server: collector, client: collector, serverErr: "only agents may speak here"},
		"self-made":                         {server: collector, client: selfMade(t), serverErr: "not signed by the CA"},
		"another cluster's collector":       {server: server(other, noon), client: good.cert, clientErr: "not signed by the CA of cluster cluster-1"},
		"an agent that plays collector":     {server: mustAgent(t, ca, "evil", noon).cert, client: good.cert, clientErr: "incompatible key usage"},
		"client's clock behind by hours":    {server: collector, client: good.cert, clientClock: -7 * time.Hour, clientErr: "7 hours before the certificate begins"},
		"client's clock ahead by 40 days":   {server: collector, client: good.cert, clientClock: 40 * day, clientErr: "10 days after the certificate ended"},
		"client's clock ahead by 11 years":  {server: collector, client: good.cert, clientClock: 11 * 365 * day, clientErr: "set the clock"},
		"server's clock ahead by 11 years":  {server: collector, client: good.cert, serverClock: 11 * 365 * day, serverErr: "more than 30 days ago"},
		"the key does not fit the identity": {server: collector, client: tls.Certificate{Certificate: good.issued.Chain, PrivateKey: mustAgent(t, ca, "x", noon).key}, serverErr: "invalid signature"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			serverNow, clientNow := noon.Add(tt.serverClock), noon.Add(tt.clientClock)
			srv := identity.ServerTLS(identity.ServerConfig{
				Trust:       ca.Trust(),
				Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tt.server, nil },
				Revoked:     func(serial string) bool { return serial == tt.revoked },
				Clock:       func() time.Time { return serverNow },
			})
			cli := identity.ClientTLS(ca.Trust(), func() (*tls.Certificate, error) { return &tt.client, nil },
				func() time.Time { return clientNow })
			state, serverErr, clientErr := shake(t, srv, cli)
			switch {
			case tt.serverErr != "":
				if serverErr == nil || !strings.Contains(serverErr.Error(), tt.serverErr) {
					t.Errorf("server: %v, want %q", serverErr, tt.serverErr)
				}
				if clientErr == nil {
					t.Error("the client noticed nothing")
				}
			case tt.clientErr != "":
				if clientErr == nil || !strings.Contains(clientErr.Error(), tt.clientErr) {
					t.Errorf("client: %v, want %q", clientErr, tt.clientErr)
				}
			case serverErr != nil || clientErr != nil:
				t.Errorf("server: %v, client: %v", serverErr, clientErr)
			default:
				v, err := ca.Trust().Agent(state, serverNow)
				if err != nil || v.Name != "web-1" || v.Role != identity.RoleAgent || v.Cluster != "cluster-1" ||
					v.Expired != tt.expired || v.Serial != good.issued.Serial {
					t.Errorf("%+v, %v", v, err)
				}
				if state.Version != tls.VersionTLS13 || state.DidResume {
					t.Errorf("version %x, resumed %v", state.Version, state.DidResume)
				}
			}
		})
	}
}

func selfMade(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		URIs:        []*url.URL{identity.Peer{Cluster: "cluster-1", Role: identity.RoleAgent, Name: "web-1"}.URI()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A session that looks again at its own certificate sees it expire, and at last fail.
func TestAgentOverTime(t *testing.T) {
	ca := mustCA(t, "cluster-1")
	a := mustAgent(t, ca, "web-1", noon)
	leaf, err := x509.ParseCertificate(a.issued.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	for after, want := range map[time.Duration]string{
		0: "good", 24 * time.Hour: "good", 24*time.Hour + time.Second: "expired", 31 * 24 * time.Hour: "expired", 31*24*time.Hour + time.Second: "failed",
	} {
		v, err := ca.Trust().Agent(state, noon.Add(after))
		got := "good"
		if err != nil {
			got = "failed"
		} else if v.Expired {
			got = "expired"
		}
		if got != want {
			t.Errorf("after %v: %s (%v), want %s", after, got, err, want)
		}
	}
}

func TestPinTLS(t *testing.T) {
	ca, other := mustCA(t, "cluster-1"), mustCA(t, "cluster-2")
	cert, err := ca.IssueServer("collector-1", nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	// A collector of another cluster that shows our CA beside its own certificate.
	stolen, err := other.IssueServer("collector-1", nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	stolen.Certificate = [][]byte{stolen.Certificate[0], ca.DER()}
	tests := map[string]struct {
		server tls.Certificate
		pin    identity.Pin
		clock  time.Duration
		want   error
		text   string
	}{
		"right":         {cert, ca.Pin(), 0, nil, ""},
		"wrong pin":     {cert, other.Pin(), 0, identity.ErrWrongPin, "not the one that made the join string"},
		"borrowed CA":   {stolen, ca.Pin(), 0, identity.ErrWrongCluster, "not signed by the CA"},
		"clock behind":  {cert, ca.Pin(), -5 * time.Hour, identity.ErrClock, "set the clock"},
		"an agent's":    {mustAgent(t, ca, "evil", noon).cert, ca.Pin(), 0, nil, "incompatible key usage"},
		"pin of a leaf": {cert, sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo), 0, nil, "not one of an Evenkeel cluster"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := identity.PublicTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tt.server, nil })
			_, serverErr, err := shake(t, srv, identity.PinTLS(tt.pin, func() time.Time { return noon.Add(tt.clock) }))
			if tt.text == "" {
				if err != nil || serverErr != nil {
					t.Errorf("%v, server %v", err, serverErr)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

func TestTLS12IsRefused(t *testing.T) {
	ca := mustCA(t, "cluster-1")
	cert, err := ca.IssueServer("collector-1", nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	srv := identity.PublicTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil })
	if _, _, err := shake(t, srv, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 passed")
	}
}

func TestExplainHandshake(t *testing.T) {
	bad := &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}
	if got := identity.ExplainHandshake(fmt.Errorf("transport: %w", bad)); !strings.Contains(got.Error(), "enrol again") {
		t.Error(got)
	}
	if got := identity.ExplainHandshake(io.EOF); got != io.EOF {
		t.Error(got)
	}
	if got := identity.ExplainHandshake(nil); got != nil {
		t.Error(got)
	}
}

func TestCA(t *testing.T) {
	ca := mustCA(t, "cluster-1")
	b, err := ca.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := identity.ParseCA(b)
	if err != nil || again.Pin() != ca.Pin() || again.Cluster() != "cluster-1" || !bytes.Equal(again.DER(), ca.DER()) {
		t.Fatalf("%v, %v", again, err)
	}
	mustAgent(t, again, "web-1", noon)
	other, _ := mustCA(t, "cluster-1").Marshal()
	for name, bad := range map[string][]byte{
		"nothing": nil, "half": b[:len(b)/2], "mixed": append(b[:bytes.Index(b, []byte("-----BEGIN CERT"))], other[bytes.Index(other, []byte("-----BEGIN CERT")):]...),
	} {
		if _, err := identity.ParseCA(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := identity.NewCA("Not A Name", noon); err == nil {
		t.Error("a bad cluster id was taken")
	}
	if _, err := identity.NewTrust(mustAgent(t, ca, "web-1", noon).issued.Chain[0]); err == nil {
		t.Error("an agent's certificate passed for a CA")
	}
	if _, err := ca.IssueServer("c", nil, noon.AddDate(11, 0, 0)); err == nil || !strings.Contains(err.Error(), "the CA ended") {
		t.Errorf("a dead CA signs: %v", err)
	}
}

func TestCSR(t *testing.T) {
	ca := mustCA(t, "cluster-1")
	key, _ := identity.NewKey()
	csr, err := identity.MakeCSR(key, "asked-for")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueAgent(csr, "approved", noon)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := identity.CheckIssued(issued.Chain, ca.DER(), ca.Pin(), "approved", &key.PublicKey, noon)
	if err != nil || leaf.Subject.CommonName != "approved" || len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster-1/agent/approved" {
		t.Errorf("the name must be the approved one: %v", err)
	}
	if life := issued.NotAfter.Sub(noon); life != 24*time.Hour {
		t.Errorf("life %v", life)
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("an agent's certificate can sign")
	}

	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	wrongCurve, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	wrongKind, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, ed)
	forged := bytes.Clone(csr)
	forged[len(forged)-1] ^= 1
	for name, bad := range map[string][]byte{
		"nothing": nil, "too long": make([]byte, 10000), "P-384": wrongCurve, "Ed25519": wrongKind, "forged": forged, "cut": csr[:50],
	} {
		if _, err := ca.IssueAgent(bad, "web-1", noon); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	if _, err := ca.IssueAgent(csr, "web 1", noon); err == nil {
		t.Error("a bad name was signed")
	}
	if _, err := identity.MakeCSR(key, "Web"); err == nil {
		t.Error("a request for a bad name was made")
	}

	elsewhere := mustCA(t, "cluster-1")
	otherKey, _ := identity.NewKey()
	for name, check := range map[string]func() error{
		"another host": func() error {
			_, err := identity.CheckIssued(issued.Chain, ca.DER(), ca.Pin(), "x", &key.PublicKey, noon)
			return err
		},
		"another key": func() error {
			_, err := identity.CheckIssued(issued.Chain, ca.DER(), ca.Pin(), "approved", &otherKey.PublicKey, noon)
			return err
		},
		"another CA": func() error {
			_, err := identity.CheckIssued(issued.Chain, elsewhere.DER(), ca.Pin(), "approved", &key.PublicKey, noon)
			return err
		},
		"not signed": func() error {
			_, err := identity.CheckIssued(issued.Chain, elsewhere.DER(), elsewhere.Pin(), "approved", &key.PublicKey, noon)
			return err
		},
		"no certificate": func() error {
			_, err := identity.CheckIssued(nil, ca.DER(), ca.Pin(), "approved", &key.PublicKey, noon)
			return err
		},
		"out of time": func() error {
			_, err := identity.CheckIssued(issued.Chain, ca.DER(), ca.Pin(), "approved", &key.PublicKey, noon.Add(-3*time.Hour))
			return err
		},
	} {
		if check() == nil {
			t.Errorf("%s: the answer was believed", name)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	key, _ := identity.NewKey()
	csr, _ := identity.MakeCSR(key, "web-1")
	f.Add(csr)
	f.Add([]byte{})
	f.Add(csr[:40])
	f.Fuzz(func(t *testing.T, der []byte) {
		if key, err := identity.ParseCSR(der); err == nil && key.Curve != elliptic.P256() {
			t.Errorf("a key on %v", key.Curve)
		}
	})
}

func TestKeys(t *testing.T) {
	key, _ := identity.NewKey()
	b, err := identity.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := identity.ParseKey(b); err != nil || !again.Equal(key) {
		t.Errorf("%v", err)
	}
	signing, _ := identity.NewSigningKey()
	sb, err := identity.MarshalSigningKey(signing)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := identity.ParseSigningKey(sb); err != nil || !again.Equal(signing) {
		t.Errorf("%v", err)
	}
	if _, err := identity.ParseKey(sb); err == nil {
		t.Error("a signing key passed for a certificate's")
	}
	if _, err := identity.ParseSigningKey(b); err == nil {
		t.Error("a certificate's key passed for a signing key")
	}
	if _, err := identity.ParseKey([]byte("rubbish")); err == nil {
		t.Error("rubbish passed for a key")
	}
	ck, err := identity.NewCommandKey(noon)
	if err != nil || len(ck.Private) != ed25519.PrivateKeySize || ck.NotAfter.Sub(noon) != 24*time.Hour || !ck.NotBefore.Before(noon) {
		t.Errorf("%v to %v, %v", ck.NotBefore, ck.NotAfter, err)
	}
	h1, _ := identity.KeyHash(&key.PublicKey)
	other, _ := identity.NewKey()
	h2, _ := identity.KeyHash(&other.PublicKey)
	if h1 == h2 || len(h1) != 64 {
		t.Errorf("hashes %q and %q", h1, h2)
	}
}

func TestCertificatesPEM(t *testing.T) {
	ca := mustCA(t, "cluster-1")
	a := mustAgent(t, ca, "web-1", noon)
	certs, err := identity.DecodeCertificates(identity.EncodeCertificates(a.issued.Chain...))
	if err != nil || len(certs) != 2 || !bytes.Equal(certs[1].Raw, ca.DER()) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	key, _ := identity.MarshalKey(a.key)
	for name, bad := range map[string][]byte{"nothing": nil, "a key": key} {
		if _, err := identity.DecodeCertificates(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestServerSource(t *testing.T) {
	ca := mustCA(t, "cluster-1")
	now := noon
	src, err := identity.NewServerSource(ca, "collector-1", []string{"localhost", "::1"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first, _ := src.Get(nil)
	now = noon.Add(14 * 24 * time.Hour)
	if c, _ := src.Get(nil); c != first {
		t.Error("renewed too early")
	}
	if err := first.Leaf.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	if err := first.Leaf.VerifyHostname("::1"); err != nil {
		t.Error(err)
	}
	now = noon.Add(16 * 24 * time.Hour)
	second, err := src.Get(nil)
	if err != nil || second == first || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("not renewed: %v", err)
	}
	now = noon.AddDate(11, 0, 0)
	if c, err := src.Get(nil); err != nil || c != second {
		t.Errorf("with a dead CA: %v", err)
	}
	if _, err := identity.NewServerSource(ca, "bad name", nil, func() time.Time { return now }); err == nil {
		t.Error("a bad name was taken")
	}
}

func BenchmarkVerifyAgent(b *testing.B) {
	ca := mustCA(b, "cluster-1")
	leaf, err := x509.ParseCertificate(mustAgent(b, ca, "web-1", noon).issued.Chain[0])
	if err != nil {
		b.Fatal(err)
	}
	trust, state := ca.Trust(), tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Agent(state, noon); err != nil {
			b.Fatal(err)
		}
	}
}
