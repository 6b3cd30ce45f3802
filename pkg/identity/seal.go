package identity

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrSealed is wrapped by errors about sealed bytes that cannot be opened.
var ErrSealed = errors.New("sealed value cannot be opened")

// Layout of sealed bytes: magic with version, id of the key, nonce, ciphertext with tag. All of it, and the purpose, is
// authenticated.
const (
	sealMagic   = "EKSEAL1\n"
	sealKeyID   = 8
	sealHeader  = len(sealMagic) + sealKeyID
	sealMinimum = sealHeader + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	keyFileHead = "evenkeel-node-key-1 "
)

// Sealer keeps secrets from whoever can read the state engine or its backups but not this node's key:
// XChaCha20-Poly1305 with random nonces. It may be used from many goroutines.
type Sealer struct {
	aead cipher.AEAD
	id   [sealKeyID]byte
}

// NewSealer returns a Sealer with a key of 32 bytes.
func NewSealer(key []byte) (*Sealer, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the node key: %w", err)
	}
	s := &Sealer{aead: aead}
	sum := sha256.Sum256(append([]byte("evenkeel node key id\n"), key...))
	copy(s.id[:], sum[:])
	return s, nil
}

// OpenSealer returns the Sealer whose key is in the file at path, which is made, with mode 0600, if it is not there. A
// file that others may read is refused. Losing the file is losing the CA: back it up apart from the state.
func OpenSealer(path string) (*Sealer, error) {
	for {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			if err := makeKeyFile(path); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, fmt.Errorf("cannot make the node key: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open the node key: %w", err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return nil, fmt.Errorf("the node key %s can be read by others (mode %04o): run chmod 600 on it, and think about who may have read it", path, mode)
		}
		return LoadSealer(path)
	}
}

// LoadSealer returns the Sealer whose key is in the file at path, which must be there, whatever its mode: for a
// credential that the service manager provides, such as $CREDENTIALS_DIRECTORY/node-key.
func LoadSealer(path string) (*Sealer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the node key: %w", err)
	}
	text, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte(keyFileHead))
	key, err := base64.StdEncoding.DecodeString(string(text))
	if !ok || err != nil || len(key) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%s is not a node key: restore it from its backup", path)
	}
	return NewSealer(key)
}

// makeKeyFile writes a new key so that the file appears whole or not at all; it fails if there is one.
func makeKeyFile(path string) error {
	var key [chacha20poly1305.KeySize]byte
	_, _ = rand.Read(key[:]) // never fails
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".node-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = fmt.Fprintf(f, "%s%s\n", keyFileHead, base64.StdEncoding.EncodeToString(key[:]))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Seal encrypts secret for purpose, such as the key under which it is stored: it opens for that purpose alone, so
// sealed values cannot be exchanged for one another.
func (s *Sealer) Seal(purpose string, secret []byte) []byte {
	out := make([]byte, sealHeader+chacha20poly1305.NonceSizeX, sealMinimum+len(secret))
	copy(out, sealMagic)
	copy(out[len(sealMagic):], s.id[:])
	_, _ = rand.Read(out[sealHeader:]) // never fails
	return s.aead.Seal(out, out[sealHeader:], secret, additional(out[:sealHeader], purpose))
}

// Open returns what was sealed for purpose.
func (s *Sealer) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealMinimum || !bytes.HasPrefix(sealed, []byte(sealMagic)) {
		return nil, say(ErrSealed, "the sealed value of %s is damaged or of another version: restore it from a backup", purpose)
	}
	if id := sealed[len(sealMagic):sealHeader]; !bytes.Equal(id, s.id[:]) {
		return nil, say(ErrSealed, "%s was sealed with the node key %s, and this node has %s: restore the node key file that belongs to this state",
			purpose, hex.EncodeToString(id), hex.EncodeToString(s.id[:]))
	}
	nonce, box := sealed[sealHeader:sealHeader+chacha20poly1305.NonceSizeX], sealed[sealHeader+chacha20poly1305.NonceSizeX:]
	secret, err := s.aead.Open(nil, nonce, box, additional(sealed[:sealHeader], purpose))
	if err != nil {
		return nil, say(ErrSealed, "the sealed value of %s was changed or is that of something else: restore it from a backup", purpose)
	}
	return secret, nil
}

func additional(header []byte, purpose string) []byte {
	return append(append(make([]byte, 0, len(header)+len(purpose)), header...), purpose...)
}
