package identity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func word(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

func TestApproverKey(t *testing.T) {
	for name, passphrase := range map[string]string{"sealed": "correct horse", "plain": ""} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "new", "approver.key")
			made, err := MakeApprover(path, []byte(passphrase))
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v %v", info.Mode(), err)
			}
			if _, err := MakeApprover(path, []byte(passphrase)); err == nil {
				t.Fatal("a key was overwritten")
			}
			a, err := ReadApprover(path)
			if err != nil || !a.Public.Equal(made.Public) || a.Sealed != (passphrase != "") {
				t.Fatalf("%+v %v", a, err)
			}
			key, err := a.Open(word(passphrase))
			if err != nil || !made.Public.Equal(key.Public()) {
				t.Fatal(err)
			}
			if a.Sealed {
				if _, err := a.Open(word("wrong horse")); !errors.Is(err, ErrPassphrase) {
					t.Errorf("another passphrase: %v", err)
				}
				b, err := os.ReadFile(path)
				if err != nil || bytes.Contains(b, key.Seed()) {
					t.Errorf("the key lies open: %v", err)
				}
			}
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadApprover(path); err == nil {
				t.Error("a key that others may read is used")
			}
		})
	}
	if _, err := MakeApprover(filepath.Join(t.TempDir(), "k"), []byte("short")); err == nil {
		t.Error("a short passphrase is taken")
	}
}

// A key file that was changed never gives a key that signs under the public key of another.
func TestApproverKeyDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "approver.key")
	if _, err := MakeApprover(path, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was, err := parseApprover(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		a, err := parseApprover(c)
		if err != nil {
			continue
		}
		if key, err := a.Open(word("")); err == nil && !was.Public.Equal(key.Public()) {
			t.Fatalf("byte %d changes the key", i)
		}
	}
}

func FuzzParseApprover(f *testing.F) {
	path := filepath.Join(f.TempDir(), "approver.key")
	if _, err := MakeApprover(path, nil); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("-----BEGIN EVENKEEL APPROVER KEY-----\nVersion: 1\n\nAA==\n-----END EVENKEEL APPROVER KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseApprover(b)
		if err != nil || a.Sealed {
			return
		}
		if key, err := a.Open(nil); err == nil && !a.Public.Equal(key.Public()) {
			t.Fatal("a key under another's name")
		}
	})
}
