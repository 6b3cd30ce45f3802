package identity_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/identity"
)

func TestParsePin(t *testing.T) {
	ca, err := identity.NewCA("keel", time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	text := ca.Pin().String()
	for _, s := range []string{text, strings.ToUpper(text), " " + text + "\n"} {
		if p, err := identity.ParsePin(s); err != nil || p != ca.Pin() {
			t.Errorf("ParsePin(%q) = %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "sha256:", text[:len(text)-2], text + "00", strings.TrimPrefix(text, "sha256:"), "sha256:" + strings.Repeat("zz", 32)} {
		if _, err := identity.ParsePin(s); err == nil {
			t.Errorf("ParsePin(%q) passed", s)
		}
	}
}
