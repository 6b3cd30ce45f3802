package collector

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/identity"
)

// signer signs commands with this collector's own key. The key lives in memory only, is certified by the signing root for a
// day and replaced at half of that; the root signs keys and nothing else. It may be used from many goroutines.
type signer struct {
	root  ed25519.PrivateKey
	name  string
	clock func() time.Time

	mu      sync.Mutex
	key     command.Key
	from    time.Time
	until   time.Time
	replace time.Time
}

func newSigner(root ed25519.PrivateKey, name string, clock func() time.Time) *signer {
	return &signer{root: root, name: name, clock: clock}
}

// sign makes the envelope of a command.
func (s *signer) sign(c command.Command) (command.Envelope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.clock(); !now.Before(s.replace) {
		if err := s.renewLocked(now); err != nil {
			return command.Envelope{}, err
		}
	}
	return command.Sign(c, s.key)
}

func (s *signer) renewLocked(now time.Time) error {
	fresh, err := identity.NewCommandKey(now)
	if err != nil {
		return fmt.Errorf("cannot make a command key: %w", err)
	}
	cert, err := command.CertifyKey(s.root, command.CertifiedKey{
		Public: fresh.Private.Public().(ed25519.PublicKey), Collector: s.name, NotBefore: fresh.NotBefore, NotAfter: fresh.NotAfter,
		MaxRisk: command.R2,
	})
	if err != nil {
		return err
	}
	s.key = command.Key{Private: fresh.Private, Certificate: cert}
	s.from, s.until = fresh.NotBefore, fresh.NotAfter
	s.replace = identity.RenewAt(fresh.NotBefore, fresh.NotAfter, 0.5)
	return nil
}

// current returns id and validity of the key that signs now.
func (s *signer) current() (id string, from, until time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.clock(); !now.Before(s.replace) {
		if err := s.renewLocked(now); err != nil {
			return "", from, until, err
		}
	}
	return command.KeyID(s.key.Private.Public().(ed25519.PublicKey)), s.from, s.until, nil
}

// rotate replaces the key at once.
func (s *signer) rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewLocked(s.clock())
}
