package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// ErrPassphrase is returned for a passphrase that does not open an approver's key.
var ErrPassphrase = errors.New("the passphrase does not open this approver's key")

const (
	approverBlock = "EVENKEEL APPROVER KEY"
	// maxKeyFile bounds a key file in bytes.
	maxKeyFile = 4 << 10
	// LeastPassphrase is the shortest passphrase that a key is sealed with, in bytes.
	LeastPassphrase = 8

	// argon2id, as RFC 9106 section 4 recommends where memory is scarce; a file carries its own numbers, within bounds.
	argonTime, argonMemory, argonThreads = 3, 64 << 10, 4
	mostArgonTime, mostArgonMemory       = 16, 1 << 20 // memory in KiB
	saltLength                           = 16
)

// Approver is an approver's key file: what it says without being opened. Its key is made on the machine of a person, and
// no collector ever has it.
type Approver struct {
	Path   string
	Public ed25519.PublicKey
	Sealed bool // by a passphrase; otherwise by the file's mode alone
	block  *pem.Block
}

// MakeApprover makes a key and writes its file, mode 0600; it fails where there is a file already. Without a passphrase the
// key lies in it as it is.
func MakeApprover(path string, passphrase []byte) (*Approver, error) {
	if n := len(passphrase); n > 0 && n < LeastPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes: take at least %d", n, LeastPassphrase)
	}
	key, err := NewSigningKey()
	if err != nil {
		return nil, err
	}
	block := &pem.Block{Type: approverBlock, Headers: map[string]string{"Version": "1", "Seal": "none"}, Bytes: key.Seed()}
	public := key.Public().(ed25519.PublicKey)
	block.Headers["Public"] = fmt.Sprintf("%x", []byte(public))
	if len(passphrase) > 0 {
		salt := make([]byte, saltLength)
		_, _ = rand.Read(salt) // never fails
		for name, v := range map[string]int{"Time": argonTime, "Memory": argonMemory, "Threads": argonThreads} {
			block.Headers[name] = strconv.Itoa(v)
		}
		block.Headers["Seal"], block.Headers["Salt"] = "argon2id", fmt.Sprintf("%x", salt)
		s, err := NewSealer(argon2.IDKey(passphrase, salt, argonTime, argonMemory, argonThreads, chacha20poly1305.KeySize))
		if err != nil {
			return nil, err
		}
		block.Bytes = s.Seal(approverBlock+block.Headers["Public"], key.Seed())
	}
	if err := writeNew(path, pem.EncodeToMemory(block)); err != nil {
		return nil, err
	}
	return &Approver{Path: path, Public: public, Sealed: len(passphrase) > 0, block: block}, nil
}

// writeNew writes a file of mode 0600 that was not there; it appears whole or not at all.
func writeNew(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".approver-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: an approver's key is never overwritten; name another file", path)
	} else if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadApprover reads a key file without opening it. A file that others may read is refused.
func ReadApprover(path string) (*Approver, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the approver's key %s can be read by others (mode %04o): have the hosts list another key, for this one may be known", path, mode)
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is not an approver's key", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	a, err := parseApprover(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a.Path = path
	return a, nil
}

func parseApprover(b []byte) (*Approver, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != approverBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("this is not an approver's key: evenkeel approver init makes one")
	}
	if v := block.Headers["Version"]; v != "1" {
		return nil, fmt.Errorf("the approver's key has format %q, which is not known here", v)
	}
	a := &Approver{block: block}
	if n, err := fmt.Sscanf(block.Headers["Public"], "%x", &a.Public); n != 1 || err != nil || len(a.Public) != ed25519.PublicKeySize {
		return nil, errors.New("the approver's key file is damaged: it names no public key")
	}
	switch block.Headers["Seal"] {
	case "none":
	case "argon2id":
		a.Sealed = true
	default:
		return nil, fmt.Errorf("the approver's key is sealed by %q, which is not known here", block.Headers["Seal"])
	}
	return a, nil
}

// Open returns the private key. Where the file is sealed it asks for the passphrase, once.
func (a *Approver) Open(passphrase func() ([]byte, error)) (ed25519.PrivateKey, error) {
	seed := a.block.Bytes
	if a.Sealed {
		word, err := passphrase()
		if err != nil {
			return nil, err
		}
		if seed, err = a.unseal(word); err != nil {
			return nil, err
		}
	}
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("the approver's key file is damaged")
	}
	key := ed25519.NewKeyFromSeed(seed)
	if !a.Public.Equal(key.Public()) {
		return nil, errors.New("the approver's key file is damaged: its public key is not that of the key in it")
	}
	return key, nil
}

func (a *Approver) unseal(passphrase []byte) ([]byte, error) {
	number := func(name string, most int) (uint32, error) {
		n, err := strconv.Atoi(a.block.Headers[name])
		if err != nil || n < 1 || n > most {
			return 0, fmt.Errorf("the approver's key file is damaged: its %s is not a number from 1 to %d", name, most)
		}
		return uint32(n), nil
	}
	rounds, err1 := number("Time", mostArgonTime)
	memory, err2 := number("Memory", mostArgonMemory)
	threads, err3 := number("Threads", 255)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	var salt []byte
	if n, err := fmt.Sscanf(a.block.Headers["Salt"], "%x", &salt); n != 1 || err != nil || len(salt) != saltLength {
		return nil, errors.New("the approver's key file is damaged: it has no salt")
	}
	s, err := NewSealer(argon2.IDKey(passphrase, salt, rounds, memory, uint8(threads), chacha20poly1305.KeySize))
	if err != nil {
		return nil, err
	}
	seed, err := s.Open(approverBlock+a.block.Headers["Public"], a.block.Bytes)
	if err != nil {
		return nil, ErrPassphrase
	}
	return seed, nil
}
