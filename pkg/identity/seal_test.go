package identity_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/identity"
)

func sealer(t testing.TB, b byte) *identity.Sealer {
	t.Helper()
	s, err := identity.NewSealer(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeal(t *testing.T) {
	s := sealer(t, 1)
	secret := []byte("the CA's key")
	sealed := s.Seal("ca/root", secret)
	if bytes.Contains(sealed, secret) || bytes.Equal(sealed, s.Seal("ca/root", secret)) {
		t.Error("sealing hides nothing, or the same thing twice")
	}
	if got, err := s.Open("ca/root", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
	tests := map[string]struct {
		s       *identity.Sealer
		purpose string
		sealed  []byte
		want    string
	}{
		"another node's key": {sealer(t, 2), "ca/root", sealed, "restore the node key file"},
		"another purpose":    {s, "ca/signing", sealed, "that of something else"},
		"cut":                {s, "ca/root", sealed[:len(sealed)-1], "was changed"},
		"nothing":            {s, "ca/root", nil, "damaged or of another version"},
		"another version":    {s, "ca/root", append([]byte("EKSEAL2\n"), sealed[8:]...), "damaged or of another version"},
	}
	for name, tt := range tests {
		_, err := tt.s.Open(tt.purpose, tt.sealed)
		if !errors.Is(err, identity.ErrSealed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestSealNoticesEveryBit(t *testing.T) {
	s := sealer(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOf(rapid.Byte()).Draw(t, "secret")
		sealed := s.Seal("p", secret)
		if got, err := s.Open("p", sealed); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%q, %v", got, err)
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := s.Open("p", sealed); !errors.Is(err, identity.ErrSealed) {
			t.Fatalf("a changed bit: %v", err)
		}
	})
}

func TestOpenSealer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "node.key")
	var sealers [4]*identity.Sealer
	var wg sync.WaitGroup
	for i := range sealers { // several first starts at once agree on one key
		wg.Go(func() {
			var err error
			if sealers[i], err = identity.OpenSealer(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sealed := sealers[0].Seal("p", []byte("x"))
	again, err := identity.OpenSealer(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(sealers[:], again) {
		if got, err := s.Open("p", sealed); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("files %v", left)
	}

	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.OpenSealer(path); err == nil || !strings.Contains(err.Error(), "can be read by others (mode 0640)") {
		t.Errorf("a key that others may read: %v", err)
	}
	if s, err := identity.LoadSealer(path); err != nil { // a credential's mode is the service manager's business
		t.Error(err)
	} else if _, err := s.Open("p", sealed); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.OpenSealer(path); err == nil || !strings.Contains(err.Error(), "is not a node key") {
		t.Errorf("rubbish: %v", err)
	}
	if _, err := identity.LoadSealer(path + ".none"); err == nil {
		t.Error("a credential that is not there was made")
	}
	if _, err := identity.NewSealer([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func FuzzOpenSealed(f *testing.F) {
	s := sealer(f, 1)
	f.Add("p", s.Seal("p", []byte("secret")))
	f.Add("p", []byte("EKSEAL1\n"))
	f.Add("", []byte{})
	f.Add("q", append([]byte("EKSEAL1\n"), make([]byte, 48)...))
	f.Fuzz(func(t *testing.T, purpose string, sealed []byte) {
		if secret, err := s.Open(purpose, sealed); err != nil {
			if !errors.Is(err, identity.ErrSealed) {
				t.Errorf("error %v", err)
			}
		} else if purpose != "p" || string(secret) != "secret" {
			t.Errorf("%q was opened to %q for %q", sealed, secret, purpose)
		}
	})
}
