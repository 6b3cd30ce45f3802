package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Errors of tokens, wrapped by sentences that say what to do.
var (
	ErrTokenUnknown = errors.New("unknown token")
	ErrTokenUsedUp  = errors.New("token used up")
	ErrTokenExpired = errors.New("token expired")
	ErrTokenRevoked = errors.New("token revoked")
)

// The bounds of a join token.
const (
	DefaultTokenTTL = 15 * time.Minute
	MaxTokenTTL     = 30 * 24 * time.Hour
	MaxTokenUses    = 100_000
)

const (
	joinPrefix     = "ekjoin"
	operatorPrefix = "ekop"
	tokenIDBytes   = 10
	secretBytes    = 25 // 200 bits
)

// lower is base32 without padding: letters and digits that survive a double click, a phone call and a URL.
var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// TokenState says whether a token can be used. The words are those of the API.
type TokenState string

// The states of a token.
const (
	TokenUsable  TokenState = "usable"
	TokenUsedUp  TokenState = "used up"
	TokenExpired TokenState = "expired"
	TokenRevoked TokenState = "revoked"
)

// TokenSpec is what whoever makes a join token chooses.
type TokenSpec struct {
	TTL       time.Duration // default DefaultTokenTTL, at most MaxTokenTTL
	Uses      int           // default 1, at most MaxTokenUses
	Labels    map[string]string
	Replace   bool // a host of the same name may be replaced
	Admit     bool // hosts that enrol with it need no further admission
	CreatedBy string
}

// Token is a join token as it is kept, under token/ID. The secret is not in it and cannot be had from it.
type Token struct {
	ID        string            `json:"id"`
	Hash      string            `json:"hash"` // hex SHA-256 of the whole text
	Created   time.Time         `json:"created"`
	Expires   time.Time         `json:"expires"`
	Uses      int               `json:"uses"`
	Used      int               `json:"used"`
	Labels    map[string]string `json:"labels,omitempty"`
	Replace   bool              `json:"replace,omitempty"`
	Admit     bool              `json:"admit,omitempty"`
	Revoked   bool              `json:"revoked,omitempty"`
	CreatedBy string            `json:"createdBy,omitempty"`
}

// NewToken makes a join token. The text is shown once, inside a join string, and kept nowhere.
func NewToken(spec TokenSpec, now time.Time) (t Token, text string, err error) {
	if spec.TTL == 0 {
		spec.TTL = DefaultTokenTTL
	}
	if spec.Uses == 0 {
		spec.Uses = 1
	}
	switch {
	case spec.TTL < time.Second || spec.TTL > MaxTokenTTL:
		return Token{}, "", fmt.Errorf("a join token cannot live for %v: give it 1 second to %d days", spec.TTL, int(MaxTokenTTL.Hours()/24))
	case spec.Uses < 1 || spec.Uses > MaxTokenUses:
		return Token{}, "", fmt.Errorf("a join token cannot have %d uses: give it 1 to %d", spec.Uses, MaxTokenUses)
	}
	id, text, hash := newSecret(joinPrefix)
	return Token{
		ID: id, Hash: hash, Created: now.UTC(), Expires: now.Add(spec.TTL).UTC(), Uses: spec.Uses,
		Labels: maps.Clone(spec.Labels), Replace: spec.Replace, Admit: spec.Admit, CreatedBy: spec.CreatedBy,
	}, text, nil
}

// TokenID returns the id in the text of a join token, under which the token is looked up.
func TokenID(text string) (string, error) { return secretID(joinPrefix, "join token", text) }

// Matches reports, in constant time, whether text is this token's. It says nothing of the token's state.
func (t Token) Matches(text string) error {
	if !matches(t.Hash, text) {
		return say(ErrTokenUnknown, "the join token is not known here: make a new one with \"evenkeel token create\"")
	}
	return nil
}

// State returns the state of the token at now.
func (t Token) State(now time.Time) TokenState {
	switch {
	case t.Revoked:
		return TokenRevoked
	case t.Used >= t.Uses:
		return TokenUsedUp
	case !now.Before(t.Expires):
		return TokenExpired
	}
	return TokenUsable
}

// Usable reports, in one sentence, why the token cannot be used at now and what to do; nil if it can.
func (t Token) Usable(now time.Time) error {
	const again = "make a new one with \"evenkeel token create\""
	switch t.State(now) {
	case TokenRevoked:
		return say(ErrTokenRevoked, "the join token was revoked: %s", again)
	case TokenUsedUp:
		return say(ErrTokenUsedUp, "the join token was made for %d and has been used up: %s", t.Uses, again)
	case TokenExpired:
		return say(ErrTokenExpired, "the join token expired at %s: %s", stamp(t.Expires), again)
	}
	return nil
}

// Use returns the token with one use gone. Write it back only if it has not changed since it was read.
func (t Token) Use() Token {
	t.Used++
	return t
}

// Access is the role of an operator: what its bearer may do. Each includes those before it, but for AccessSignaller, which only tells
// what it sees and includes nothing else.
type Access string

// The roles of operators.
const (
	AccessViewer   Access = "viewer"
	AccessOperator Access = "operator"
	AccessApprover Access = "approver"
	AccessAdmin    Access = "admin"

	AccessSignaller Access = "signaller"
)

func (r Access) rank() int {
	for i, known := range []Access{AccessViewer, AccessOperator, AccessApprover, AccessAdmin} {
		if r == known {
			return i + 1
		}
	}
	return 0
}

// Includes reports whether r may do what o may. An unknown role includes nothing and is included by nothing.
func (r Access) Includes(o Access) bool { return o.rank() > 0 && r.rank() >= o.rank() }

// ParseAccess reads a role.
func ParseAccess(s string) (Access, error) {
	if r := Access(s); r.rank() > 0 || r == AccessSignaller {
		return r, nil
	}
	return "", fmt.Errorf("%q is not a role: use viewer, operator, approver, admin or signaller", s)
}

// Operator is an operator's token as it is kept, under operator/ID, without its secret.
type Operator struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      Access    `json:"role"`
	Hash      string    `json:"hash"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"` // zero: never
	Revoked   bool      `json:"revoked,omitempty"`
	CreatedBy string    `json:"createdBy,omitempty"`
}

// NewOperator makes an operator's token; ttl 0 is for good. The text is shown once.
func NewOperator(name string, role Access, ttl time.Duration, createdBy string, now time.Time) (o Operator, text string, err error) {
	if _, err := ParseAccess(string(role)); err != nil {
		return Operator{}, "", err
	}
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Operator{}, "", errors.New("an operator needs a name of 1 to 100 printable characters: give it one")
	}
	if ttl < 0 {
		return Operator{}, "", fmt.Errorf("an operator's token cannot live for %v: give it a time that is not negative", ttl)
	}
	id, text, hash := newSecret(operatorPrefix)
	o = Operator{ID: id, Name: name, Role: role, Hash: hash, Created: now.UTC(), CreatedBy: createdBy}
	if ttl > 0 {
		o.Expires = now.Add(ttl).UTC()
	}
	return o, text, nil
}

// OperatorID returns the id in the text of an operator's token, under which it is looked up.
func OperatorID(text string) (string, error) {
	return secretID(operatorPrefix, "operator's token", text)
}

// State returns the state of the token at now.
func (o Operator) State(now time.Time) TokenState {
	switch {
	case o.Revoked:
		return TokenRevoked
	case !o.Expires.IsZero() && !now.Before(o.Expires):
		return TokenExpired
	}
	return TokenUsable
}

// Check reports why text does not make its bearer this operator at now; nil if it does.
func (o Operator) Check(text string, now time.Time) error {
	if !matches(o.Hash, text) {
		return say(ErrTokenUnknown, "the operator's token is not known here: log in again with \"evenkeel login\"")
	}
	switch o.State(now) {
	case TokenRevoked:
		return say(ErrTokenRevoked, "the operator's token was revoked: ask an admin for a new one")
	case TokenExpired:
		return say(ErrTokenExpired, "the operator's token expired at %s: ask an admin for a new one", stamp(o.Expires))
	}
	return nil
}

// newSecret returns the text PREFIX_ID_SECRET and what is kept of it. The secret has 200 random bits, so that a plain
// hash is enough at rest.
func newSecret(prefix string) (id, text, hash string) {
	var b [tokenIDBytes + secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	id = lower.EncodeToString(b[:tokenIDBytes])
	text = prefix + "_" + id + "_" + lower.EncodeToString(b[tokenIDBytes:])
	return id, text, hashOf(text)
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func matches(hash, text string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(hashOf(text))) == 1
}

// secretID checks the form of a token's text and returns its id. Errors never repeat the text.
func secretID(prefix, what, text string) (string, error) {
	parts := strings.Split(text, "_")
	switch {
	case parts[0] != prefix:
		return "", say(ErrTokenUnknown, "that is not a %s: it does not begin with %q", what, prefix+"_")
	case len(parts) != 3 || !isLower(parts[1], tokenIDBytes) || !isLower(parts[2], secretBytes):
		return "", say(ErrTokenUnknown, "the %s is incomplete or was changed: copy it again as a whole", what)
	}
	return parts[1], nil
}

// isLower reports whether s encodes n bytes in the one way there is.
func isLower(s string, n int) bool {
	b, err := lower.DecodeString(s)
	return err == nil && len(b) == n && lower.EncodeToString(b) == s
}
