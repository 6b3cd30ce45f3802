package api

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Token is a join token, or an operator's where Role is set. Secrets are not kept.
type Token struct {
	ID        string
	Expires   time.Time
	UsesLeft  int
	Labels    map[string]string
	CreatedBy string
	Role      string
	Name      string
	State     string // usable | used up | expired | revoked
}

// NewToken is what a token is made from. Role and Name are those of an operator; empty makes a join token.
type NewToken struct {
	TTL     time.Duration
	Uses    int
	Labels  map[string]string
	Replace bool
	Admit   bool
	Role    string
	Name    string
	By      string
}

// Tokens makes and forgets tokens.
type Tokens interface {
	// CreateToken returns the token and its secret: a join string, or an operator's token. It is shown this once.
	CreateToken(ctx context.Context, t NewToken) (Token, string, error)
	ListTokens(ctx context.Context) ([]Token, error)
	RevokeToken(ctx context.Context, id string) error
}

type access struct {
	operatorv1.UnimplementedAccessServiceServer
	server *Server
}

const (
	defaultTTL = 15 * time.Minute
	maxTTL     = 366 * 24 * time.Hour
)

func (a *access) CreateToken(ctx context.Context, r *operatorv1.CreateTokenRequest) (*operatorv1.CreateTokenResponse, error) {
	n := NewToken{
		TTL: defaultTTL, Uses: max(1, int(r.Uses)), Labels: r.Labels, Replace: r.Replace, Admit: r.Admit, Role: r.Role, Name: r.Name,
		By: who(ctx).Name,
	}
	if r.Ttl != "" {
		d, err := time.ParseDuration(r.Ttl)
		if err != nil || d <= 0 || d > maxTTL {
			return nil, status.Errorf(codes.InvalidArgument, "ttl %q is not a duration between 1s and 8784h", r.Ttl)
		}
		n.TTL = d
	}
	if n.Role != "" {
		if _, err := ParseRole(n.Role); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "role %q: %v", n.Role, err)
		}
		if n.Name == "" {
			return nil, status.Error(codes.InvalidArgument, "an operator's token needs a name: set name")
		}
		if !operatorName(n.Name) {
			return nil, status.Errorf(codes.InvalidArgument, "name %q: use 1 to 64 characters of a-z, A-Z, 0-9 and . _ @ + -, as in ada@example.com", n.Name)
		}
	}
	what := "create join token"
	if n.Role != "" {
		what = "create " + n.Role + " token"
	}
	t, secret, err := a.server.cfg.Tokens.CreateToken(ctx, n)
	if err != nil {
		return nil, a.server.failed(err)
	}
	if err := a.server.record(ctx, what, "token/"+t.ID, t.Name); err != nil {
		// Nobody has seen the secret, and nobody will.
		if undo := a.server.cfg.Tokens.RevokeToken(context.WithoutCancel(ctx), t.ID); undo != nil {
			a.server.cfg.Log.Error("an unrecorded token was not revoked", "token", t.ID, "error", undo)
		}
		return nil, err
	}
	out := &operatorv1.CreateTokenResponse{Id: t.ID, ExpiresAt: stamp(t.Expires)}
	if n.Role == "" {
		out.Join = secret
	} else {
		out.Token = secret
	}
	return out, nil
}

// operatorName bounds what stands in every line of the audit log.
func operatorName(s string) bool {
	for _, r := range s {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._@+-", r)) {
			return false
		}
	}
	return len(s) <= 64
}

func (a *access) ListTokens(ctx context.Context, _ *operatorv1.ListTokensRequest) (*operatorv1.ListTokensResponse, error) {
	all, err := a.server.cfg.Tokens.ListTokens(ctx)
	if err != nil {
		return nil, a.server.failed(err)
	}
	out := &operatorv1.ListTokensResponse{}
	for _, t := range all {
		out.Tokens = append(out.Tokens, &operatorv1.Token{
			Id: t.ID, ExpiresAt: stamp(t.Expires), UsesLeft: int32(t.UsesLeft), Labels: t.Labels, CreatedBy: t.CreatedBy,
			Role: t.Role, Name: t.Name, State: t.State,
		})
	}
	return out, nil
}

func (a *access) RevokeToken(ctx context.Context, r *operatorv1.RevokeTokenRequest) (*operatorv1.RevokeTokenResponse, error) {
	return change(ctx, a.server, "revoke token", "token/"+r.Id, "", func() (*operatorv1.RevokeTokenResponse, error) {
		return &operatorv1.RevokeTokenResponse{Id: r.Id}, a.server.cfg.Tokens.RevokeToken(ctx, r.Id)
	})
}

func (a *access) WhoAmI(ctx context.Context, _ *operatorv1.WhoAmIRequest) (*operatorv1.WhoAmIResponse, error) {
	p := who(ctx)
	return &operatorv1.WhoAmIResponse{Name: p.Name, Role: p.Role.String()}, nil
}
