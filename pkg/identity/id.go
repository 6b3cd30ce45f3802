// Package identity says who is who: names of hosts and clusters, the built-in CA and its certificates, join and
// operator tokens, signing keys, and how secrets are sealed at rest.
//
// It stores nothing but the node's own sealing key, opens no socket and owns no goroutine: callers bring the state
// engine, the listener and the clock. It takes an identity only from a verified certificate or a token that was
// approved, never from a payload. Every error that a person may see is one sentence that says what to do.
package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Role says what the holder of a certificate is.
type Role string

// The roles of certificates. An agent can do nothing that a collector can, and the other way round.
const (
	RoleAgent     Role = "agent"
	RoleCollector Role = "collector"
)

// Peer is the identity in a certificate: spiffe://CLUSTER/ROLE/NAME.
type Peer struct {
	Cluster string
	Role    Role
	Name    string
}

// URI returns the peer as its certificate carries it.
func (p Peer) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: p.Cluster, Path: "/" + string(p.Role) + "/" + p.Name}
}

// String returns the URI as text.
func (p Peer) String() string { return p.URI().String() }

// ParsePeer reads what Peer.URI writes, and nothing else: no port, user, query, or spelling that another URI shares.
func ParsePeer(u *url.URL) (Peer, error) {
	role, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	p := Peer{Cluster: u.Host, Role: Role(role), Name: name}
	switch {
	case p.Role != RoleAgent && p.Role != RoleCollector:
		return Peer{}, fmt.Errorf("%q names no role of this project", u)
	case CheckName(p.Name) != nil || CheckName(p.Cluster) != nil || p.String() != u.String():
		return Peer{}, fmt.Errorf("%q is not an identity: expected spiffe://CLUSTER/ROLE/NAME", u)
	}
	return p, nil
}

// CheckName reports what is wrong with the name of a host, which is its agent's id, or of a collector. A name is 1 to
// 253 characters of a-z, 0-9, "." and "-", and starts and ends with a letter or digit.
func CheckName(name string) error {
	if name == "" {
		return errors.New("a host's name cannot be empty: give it one with 1 to 253 characters of a-z, 0-9, \".\" and \"-\"")
	}
	if len(name) > 253 {
		return fmt.Errorf("the name %.20q... has %d characters: use at most 253", name, len(name))
	}
	for i, r := range name {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		case (r == '.' || r == '-') && i > 0 && i < len(name)-1:
		case 'A' <= r && r <= 'Z':
			return fmt.Errorf("the name %q has the capital letter %q: use %q", name, r, strings.ToLower(name))
		case r == '.' || r == '-':
			return fmt.Errorf("the name %q starts or ends with %q: start and end with a letter or digit", name, r)
		default:
			return fmt.Errorf("the name %q has the character %q: use only a-z, 0-9, \".\" and \"-\"", name, r)
		}
	}
	if strings.Contains(name, "..") {
		return fmt.Errorf("the name %q has two dots in a row: leave one out", name)
	}
	return nil
}

// NewClusterID returns a random id for a new cluster, in the form of a UUID.
func NewClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
