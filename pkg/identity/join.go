package identity

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strconv"
	"strings"
	"unicode"
)

// ErrJoin is wrapped by errors about a join string that cannot be read.
var ErrJoin = errors.New("join string cannot be read")

const (
	joinVersion   = "evenkeel-join-1"
	joinParts     = 5
	maxJoinString = 1024
)

// Join is what a host needs to enrol: where, whom to believe, and with which token.
type Join struct {
	Address string // host:port of the enrolment port
	Pin     Pin    // of the cluster's CA
	Token   string // the secret
}

// Encode returns the one string to copy: version/address/pin/token/checksum. It holds a secret: it belongs in a file of
// mode 0600 or on standard input, never on a command line or in a log.
func (j Join) Encode() (string, error) {
	if err := checkAddress(j.Address); err != nil {
		return "", err
	}
	if _, err := TokenID(j.Token); err != nil {
		return "", err
	}
	s := strings.Join([]string{joinVersion, j.Address, lower.EncodeToString(j.Pin[:]), j.Token}, "/")
	return s + "/" + checksum(s), nil
}

// String returns the join without its secret, for logs.
func (j Join) String() string { return "join at " + j.Address }

// GoString does the same for %#v.
func (j Join) GoString() string { return j.String() }

// ParseJoin reads what Encode writes. White space anywhere is what terminals and mail programs put in, and is dropped.
// An error says what is wrong and what to do; it never repeats the secret.
func ParseJoin(s string) (Join, error) {
	if len(s) > 2*maxJoinString {
		return Join{}, say(ErrJoin, "the join string has %d characters, which is too many: copy only the line that \"evenkeel token create\" printed", len(s))
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
	parts := strings.Split(s, "/")
	switch {
	case s == "":
		return Join{}, say(ErrJoin, "the join string is empty: copy the line that \"evenkeel token create\" printed")
	case strings.HasPrefix(joinVersion+"/", s):
		return Join{}, say(ErrJoin, "the join string is cut off after its beginning: copy it again as a whole")
	case strings.HasPrefix(parts[0], "evenkeel-join-") && parts[0] != joinVersion:
		return Join{}, say(ErrJoin, "the join string is of version %q and this agent reads %q: install the agent of the collector's version", clip(parts[0]), joinVersion)
	case parts[0] != joinVersion:
		return Join{}, say(ErrJoin, "that is not a join string: it does not begin with %q", joinVersion+"/")
	case len(parts) < joinParts:
		return Join{}, say(ErrJoin, "the join string is cut off: it has %d of %d parts; copy it again as a whole", len(parts), joinParts)
	case len(parts) > joinParts:
		return Join{}, say(ErrJoin, "the join string has %d parts, wanted %d: copy one string only", len(parts), joinParts)
	}
	sum := parts[joinParts-1]
	want := checksum(strings.TrimSuffix(s, "/"+sum))
	switch {
	case len(sum) < len(want):
		return Join{}, say(ErrJoin, "the join string is cut off within its last part: copy it again as a whole")
	case sum != want:
		return Join{}, say(ErrJoin, "the join string was changed while it was copied, its checksum does not fit: copy it again")
	}
	j := Join{Address: parts[1], Token: parts[3]}
	if err := checkAddress(j.Address); err != nil {
		return Join{}, say(ErrJoin, "the join string has no good address: %v; make a new one with \"evenkeel token create\"", err)
	}
	if !isLower(parts[2], len(j.Pin)) {
		return Join{}, say(ErrJoin, "the join string has no good pin: make a new one with \"evenkeel token create\"")
	}
	_, _ = lower.Decode(j.Pin[:], []byte(parts[2]))
	if _, err := TokenID(j.Token); err != nil {
		return Join{}, say(ErrJoin, "the join string has no good token: make a new one with \"evenkeel token create\"")
	}
	return j, nil
}

func checksum(s string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(s))) }

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", clip(addr))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port between 1 and 65535", clip(addr))
	}
	ok := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-:%_", r)
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return !ok(r) }) {
		return fmt.Errorf("%q has no good host", clip(addr))
	}
	return nil
}

// clip shortens outside text for an error.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
