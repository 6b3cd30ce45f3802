package identity_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/identity"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func TestCheckName(t *testing.T) {
	tests := map[string]string{ // name: part of the error, "" for none
		"web-1":                  "",
		"a":                      "",
		"10.1.2.3":               "",
		strings.Repeat("a", 253): "",
		"":                       "cannot be empty",
		strings.Repeat("a", 254): "has 254 characters",
		"Web":                    `use "web"`,
		"web_1":                  `has the character '_'`,
		"web 1":                  `has the character ' '`,
		"web\n1":                 "has the character",
		"wéb":                    "has the character",
		"-web":                   "starts or ends",
		"web.":                   "starts or ends",
		"a..b":                   "two dots",
		"../x":                   "starts or ends",
		"a/b":                    `has the character '/'`,
	}
	for name, want := range tests {
		err := identity.CheckName(name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestPeer(t *testing.T) {
	p := identity.Peer{Cluster: "c1", Role: identity.RoleAgent, Name: "web-1"}
	if got, err := identity.ParsePeer(p.URI()); err != nil || got != p || p.String() != "spiffe://c1/agent/web-1" {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{
		"spiffe://c1/agent/web-1/", "spiffe://c1/agent/", "spiffe://c1/root/web", "spiffe://c1:1/agent/w", "spiffe://u@c1/agent/w",
		"http://c1/agent/web-1", "spiffe://c1/agent/web%2D1", "spiffe://c1/agent/web-1?x", "spiffe://c1/agent/web-1#x", "spiffe:///agent/web-1",
		"spiffe://c1//agent/web", "spiffe://C1/agent/web", "spiffe:opaque", "spiffe://c1/agent/a/b",
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := identity.ParsePeer(u); err == nil {
			t.Errorf("%s was taken for %v", s, got)
		}
	}
}

func TestNewClusterID(t *testing.T) {
	a, b := identity.NewClusterID(), identity.NewClusterID()
	if a == b || len(a) != 36 || identity.CheckName(a) != nil {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestToken(t *testing.T) {
	tok, text, err := identity.NewToken(identity.TokenSpec{Uses: 2, Labels: map[string]string{"env": "prod"}, CreatedBy: "ann"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := identity.TokenID(text); err != nil || id != tok.ID {
		t.Errorf("id %q, %v, want %q", id, err, tok.ID)
	}
	if strings.Contains(tok.Hash, text) || len(tok.Hash) != 64 {
		t.Errorf("hash %q", tok.Hash)
	}
	if err := tok.Matches(text); err != nil {
		t.Error(err)
	}
	other, otherText, _ := identity.NewToken(identity.TokenSpec{}, noon)
	if err := tok.Matches(otherText); !errors.Is(err, identity.ErrTokenUnknown) || other.ID == tok.ID {
		t.Errorf("another token's text: %v", err)
	}
	if err := (identity.Token{}).Matches(""); err == nil {
		t.Error("the zero token matches the empty text")
	}

	revoked := tok
	revoked.Revoked = true
	tests := map[string]struct {
		tok   identity.Token
		after time.Duration
		state identity.TokenState
		err   error
		text  string
	}{
		"new":            {tok, 0, identity.TokenUsable, nil, ""},
		"one use left":   {tok.Use(), 14 * time.Minute, identity.TokenUsable, nil, ""},
		"used up":        {tok.Use().Use(), 0, identity.TokenUsedUp, identity.ErrTokenUsedUp, "made for 2"},
		"expired":        {tok, 15 * time.Minute, identity.TokenExpired, identity.ErrTokenExpired, "2026-11-25 12:15 UTC"},
		"revoked":        {revoked, 0, identity.TokenRevoked, identity.ErrTokenRevoked, "token create"},
		"revoked is all": {revoked.Use().Use(), time.Hour, identity.TokenRevoked, identity.ErrTokenRevoked, ""},
	}
	for name, tt := range tests {
		now := noon.Add(tt.after)
		if got := tt.tok.State(now); got != tt.state {
			t.Errorf("%s: state %q, want %q", name, got, tt.state)
		}
		err := tt.tok.Usable(now)
		if !errors.Is(err, tt.err) || tt.text != "" && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, tt.err, tt.text)
		}
	}
}

func TestNewTokenRefuses(t *testing.T) {
	for name, spec := range map[string]identity.TokenSpec{
		"negative life": {TTL: -time.Hour}, "too long": {TTL: 31 * 24 * time.Hour}, "negative uses": {Uses: -1}, "too many": {Uses: 1e6},
	} {
		if _, _, err := identity.NewToken(spec, noon); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTokenID(t *testing.T) {
	_, text, _ := identity.NewToken(identity.TokenSpec{}, noon)
	_, op, _ := identity.NewOperator("ann", identity.AccessAdmin, 0, "", noon)
	for _, bad := range []string{"", "x", op, text[:len(text)-1], text + "a", strings.ToUpper(text), text + "_x", "ekjoin__", "ekjoin_../_x"} {
		_, err := identity.TokenID(bad)
		if !errors.Is(err, identity.ErrTokenUnknown) {
			t.Errorf("%q: %v", bad, err)
		}
		if len(bad) > 20 && strings.Contains(err.Error(), bad[20:]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestOperator(t *testing.T) {
	op, text, err := identity.NewOperator("ann", identity.AccessOperator, time.Hour, "first start", noon)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := identity.OperatorID(text); err != nil || id != op.ID {
		t.Errorf("id %q, %v", id, err)
	}
	if _, err := identity.TokenID(text); err == nil {
		t.Error("an operator's token passed for a join token")
	}
	forGood, goodText, _ := identity.NewOperator("bob", identity.AccessAdmin, 0, "", noon)
	revoked := op
	revoked.Revoked = true
	tests := map[string]struct {
		op   identity.Operator
		text string
		now  time.Time
		want error
	}{
		"good":          {op, text, noon, nil},
		"expired":       {op, text, noon.Add(time.Hour), identity.ErrTokenExpired},
		"revoked":       {revoked, text, noon, identity.ErrTokenRevoked},
		"another's":     {op, goodText, noon, identity.ErrTokenUnknown},
		"nobody's":      {identity.Operator{}, "", noon, identity.ErrTokenUnknown},
		"never expires": {forGood, goodText, noon.AddDate(20, 0, 0), nil},
	}
	for name, tt := range tests {
		if err := tt.op.Check(tt.text, tt.now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for name, make := range map[string]func() error{
		"no name":       func() error { _, _, err := identity.NewOperator("", identity.AccessAdmin, 0, "", noon); return err },
		"line in name":  func() error { _, _, err := identity.NewOperator("a\nb", identity.AccessAdmin, 0, "", noon); return err },
		"no such role":  func() error { _, _, err := identity.NewOperator("a", "root", 0, "", noon); return err },
		"negative life": func() error { _, _, err := identity.NewOperator("a", identity.AccessAdmin, -1, "", noon); return err },
	} {
		if make() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAccess(t *testing.T) {
	order := []identity.Access{identity.AccessViewer, identity.AccessOperator, identity.AccessApprover, identity.AccessAdmin}
	for i, a := range order {
		for j, b := range order {
			if a.Includes(b) != (i >= j) {
				t.Errorf("%s includes %s: %v", a, b, a.Includes(b))
			}
		}
		if got, err := identity.ParseAccess(string(a)); got != a || err != nil {
			t.Errorf("parse %s: %v, %v", a, got, err)
		}
		if a.Includes("") || identity.Access("").Includes(a) || identity.Access("root").Includes(a) || a.Includes("root") {
			t.Errorf("an unknown role counts beside %s", a)
		}
	}
	if _, err := identity.ParseAccess("Admin"); err == nil {
		t.Error("roles are lower case")
	}
}

func TestRenewAt(t *testing.T) {
	from, to := noon, noon.Add(100*time.Hour)
	for rnd, want := range map[float64]time.Duration{0: 45 * time.Hour, 0.5: 50 * time.Hour, 0.99: 54*time.Hour + 54*time.Minute} {
		if got := identity.RenewAt(from, to, rnd).Sub(from); got.Round(time.Minute) != want {
			t.Errorf("rnd %v: after %v, want %v", rnd, got, want)
		}
	}
}

func TestCheckSkew(t *testing.T) {
	tests := map[string]struct {
		host time.Duration
		want string
	}{
		"together":   {0, ""},
		"a little":   {-10 * time.Minute, ""},
		"behind":     {-3 * time.Hour, "3 hours behind the collector's"},
		"ahead":      {50 * time.Hour, "2 days ahead of the collector's"},
		"one hour":   {time.Hour, "1 hour ahead"},
		"in minutes": {11 * time.Minute, "11 minutes ahead"},
	}
	for name, tt := range tests {
		err := identity.CheckSkew(noon.Add(tt.host), noon)
		if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, identity.ErrClock) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
