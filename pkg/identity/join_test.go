package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/identity"
)

func exampleJoin(t testing.TB) (identity.Join, string) {
	t.Helper()
	_, text, err := identity.NewToken(identity.TokenSpec{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	j := identity.Join{Address: "collector.example:8425", Pin: identity.Pin{1, 2, 3}, Token: text}
	s, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return j, s
}

func TestJoin(t *testing.T) {
	j, s := exampleJoin(t)
	got, err := identity.ParseJoin(s)
	if err != nil || got != j {
		t.Errorf("%#v, %v", got, err)
	}
	if got, err := identity.ParseJoin("  " + s[:40] + "\r\n  " + s[40:] + "\n"); err != nil || got != j {
		t.Errorf("wrapped by a terminal: %#v, %v", got, err)
	}
	for _, shown := range []string{fmt.Sprint(j), fmt.Sprintf("%v %+v %#v %s", j, j, j, &j)} {
		if strings.Contains(shown, j.Token) {
			t.Errorf("a log shows the secret: %s", shown)
		}
	}
	for _, addr := range []string{"127.0.0.1:1", "[::1]:8425", "[fe80::1%eth0]:65535", "h:8425"} {
		j.Address = addr
		s, err := j.Encode()
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if got, err := identity.ParseJoin(s); err != nil || got != j {
			t.Errorf("%s: %v, %v", addr, got, err)
		}
	}
	for _, addr := range []string{"", "h", "h:0", "h:65536", ":8425", "h/x:1", "h:+1", "a b:1", "h:1/2"} {
		j.Address = addr
		if s, err := j.Encode(); err == nil {
			t.Errorf("address %q was encoded: %s", addr, s)
		}
	}
}

func TestParseJoinSaysWhatIsWrong(t *testing.T) {
	_, s := exampleJoin(t)
	parts := strings.Split(s, "/")
	tests := map[string]struct{ in, want string }{
		"empty":                  {" \n", "is empty"},
		"something else":         {"hello", "not a join string"},
		"another version":        {strings.Replace(s, "join-1", "join-2", 1), `version "evenkeel-join-2"`},
		"cut in the version":     {s[:8], "cut off after its beginning"},
		"cut in the address":     {s[:20], "2 of 5 parts"},
		"cut in the pin":         {strings.Join(parts[:3], "/"), "3 of 5 parts"},
		"cut before the end":     {strings.Join(parts[:4], "/"), "4 of 5 parts"},
		"cut in the checksum":    {s[:len(s)-3], "within its last part"},
		"two strings":            {s + "/" + s, "copy one string only"},
		"a letter changed":       {strings.Replace(s, "example", "exbmple", 1), "checksum does not fit"},
		"upper case":             {strings.ToUpper(s), "not a join string"},
		"the wrong file":         {strings.Repeat("x", 5000), "too many"},
		"a whole file of spaces": {strings.Repeat(" ", 5000), "too many"},
	}
	for name, tt := range tests {
		_, err := identity.ParseJoin(tt.in)
		if !errors.Is(err, identity.ErrJoin) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), parts[3][10:]) {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
}

// Every single change of a character, and every cut, is noticed.
func TestParseJoinNoticesDamage(t *testing.T) {
	_, s := exampleJoin(t)
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(s)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			b = b[:i]
		} else if c := byte(rapid.IntRange('!', '~').Draw(t, "char")); c != b[i] {
			b[i] = c
		} else {
			return
		}
		if _, err := identity.ParseJoin(string(b)); err == nil {
			t.Fatalf("%q was taken", b)
		}
	})
}

func FuzzParseJoin(f *testing.F) {
	_, s := exampleJoin(f)
	for _, seed := range []string{s, "", "evenkeel-join-1/", "evenkeel-join-1////", "evenkeel-join-9/a/b/c/d", s[:60]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		j, err := identity.ParseJoin(s)
		if err != nil {
			if !errors.Is(err, identity.ErrJoin) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error %q", err)
			}
			return
		}
		again, err := j.Encode()
		if err != nil || again != strings.Join(strings.Fields(s), "") {
			t.Errorf("%q became %q, %v", s, again, err)
		}
	})
}
