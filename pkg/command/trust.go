package command

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"
)

// Trust is whom a host believes: the root that certifies collectors' keys, and approvers' keys, which chain to nothing
// that a collector holds. It comes from the host's permissions file; what is pushed can only add to Revoked.
type Trust struct {
	SigningRoot ed25519.PublicKey
	Approvers   []ed25519.PublicKey
	// Revoked are the ids of keys, of collectors and approvers alike, that are not believed whoever vouches for them.
	Revoked []string
	// Waived are the actions for which the host forgoes the approver. What is of R3 needs one all the same.
	Waived []Waiver
}

// Waiver forgoes an approver's signature for one action on named targets.
type Waiver struct {
	Action  string
	Targets []Target
}

// Verified is a command whose signatures hold, and who made them.
type Verified struct {
	Command
	Collector CertifiedKey
	Approvers []string // ids of the approvers' keys that signed, each once
}

// Signers names those who signed, for a log: "collector c1 (3f...)", "approver 9a...".
func (v Verified) Signers() string {
	out := fmt.Sprintf("collector %s (%s)", clip(v.Collector.Collector), v.Collector.KeyID)
	for _, a := range v.Approvers {
		out += ", approver " + a
	}
	return out
}

// CheckKeyID reports whether a text can be what KeyID returns.
func CheckKeyID(id string) error {
	ok := len(id) == 16
	for i := range len(id) {
		ok = ok && (id[i] >= '0' && id[i] <= '9' || id[i] >= 'a' && id[i] <= 'f')
	}
	if !ok {
		return fmt.Errorf("key id %q is not 16 hex digits in lower case", clip(id))
	}
	return nil
}

// NeedsApprover reports whether a command needs an approver's signature on this host. A host waives it only by name and
// target, and never for R3.
func (t Trust) NeedsApprover(c Command) bool {
	if !NeedsApprover(c) {
		return false
	}
	return EffectiveRisk(c) >= R3 || !slices.ContainsFunc(t.Waived, func(w Waiver) bool {
		return w.Action == c.Action.Name && slices.ContainsFunc(w.Targets, c.Action.Target.Equal)
	})
}

// Verify checks the signatures over the bytes, and only then parses them. A command needs the signature of a collector's
// key that the signing root certifies; one of R3, or of a name that takes something out of service and that the host has
// not waived, needs an approver's beside it. One bad signature by a known key refuses the whole; so does one by a revoked
// key. The error is a *Refusal.
func (t Trust) Verify(e Envelope, now time.Time) (Verified, error) {
	if len(e.Body) == 0 || len(e.Body) > MaxBody || len(e.Signatures) > maxSigners || len(e.Certificates) > maxSigners {
		return Verified{}, Refuse(ReasonMalformed, "envelope is empty or over its bounds")
	}
	if len(e.Signatures) == 0 {
		return Verified{}, Refuse(ReasonUnsigned, "command carries no signature")
	}
	text := signedText(commandText, e.Body)
	var v Verified
	var why error = Refuse(ReasonUnknownKey, "no signature is by a key that this host knows")
	for _, s := range e.Signatures {
		if slices.Contains(t.Revoked, s.KeyID) {
			return Verified{}, Refuse(ReasonKeyRevoked, "key %s is revoked on this host", clip(s.KeyID))
		}
		public, certified, err := t.key(s.KeyID, e.Certificates, now)
		if err != nil {
			why = err
			continue
		}
		if !ed25519.Verify(public, text, s.Sig) {
			return Verified{}, Refuse(ReasonBadSignature, "signature by key %s does not fit the command", clip(s.KeyID))
		}
		switch {
		case certified == nil:
			if !slices.Contains(v.Approvers, s.KeyID) {
				v.Approvers = append(v.Approvers, s.KeyID)
			}
		case v.Collector.KeyID == "" || certified.MaxRisk > v.Collector.MaxRisk:
			v.Collector = *certified
		}
	}
	if v.Collector.KeyID == "" {
		return Verified{}, why
	}
	var err error
	if v.Command, err = ParseBody(e.Body); err != nil {
		return Verified{}, Refuse(ReasonMalformed, "%v", err)
	}
	if t.NeedsApprover(v.Command) && len(v.Approvers) == 0 {
		return Verified{}, Refuse(ReasonRiskNeedsApprover, "%s of risk %s needs the signature of an approver that this host lists",
			clip(v.Action.Name), EffectiveRisk(v.Command))
	}
	if risk := EffectiveRisk(v.Command); risk > v.Collector.MaxRisk && len(v.Approvers) == 0 {
		return Verified{}, Refuse(ReasonRiskNeedsApprover, "key of collector %s reaches %s, the command is %s", clip(v.Collector.Collector), v.Collector.MaxRisk, risk)
	}
	return v, nil
}

// key finds the public key behind an id: an approver's, or one with a certificate in the envelope.
func (t Trust) key(id string, certificates []KeyCertificate, now time.Time) (ed25519.PublicKey, *CertifiedKey, error) {
	for _, a := range t.Approvers {
		if KeyID(a) == id {
			return a, nil, nil
		}
	}
	var why error = Refuse(ReasonUnknownKey, "no certificate for key %s", clip(id))
	for _, k := range certificates {
		c, err := k.Verify(t.SigningRoot, now)
		if err != nil {
			why = err
			continue
		}
		if c.KeyID == id {
			return c.Public, &c, nil
		}
	}
	return nil, nil, why
}

// Approve signs a command's exact bytes with an approver's key.
func Approve(body []byte, key ed25519.PrivateKey) Signature {
	return Signature{KeyID: KeyID(key.Public().(ed25519.PublicKey)), Sig: ed25519.Sign(key, signedText(commandText, body))}
}

// WithApproval returns the envelope with an approver's signature, after checking that it fits the body. The receiver is
// not changed.
func (e Envelope) WithApproval(public ed25519.PublicKey, sig []byte) (Envelope, error) {
	if len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, signedText(commandText, e.Body), sig) {
		return Envelope{}, Refuse(ReasonBadSignature, "the approver's signature does not fit the command: ask for the action again and sign what is shown")
	}
	id := KeyID(public)
	for _, s := range e.Signatures {
		if s.KeyID == id {
			return Envelope{}, Refuse(ReasonReplayed, "key %s has signed this command already", id)
		}
	}
	if len(e.Signatures) >= maxSigners {
		return Envelope{}, Refuse(ReasonMalformed, "a command carries at most %d signatures", maxSigners)
	}
	out := e
	out.Signatures = append(slices.Clone(e.Signatures), Signature{KeyID: id, Sig: slices.Clone(sig)})
	return out, nil
}

// checkReportedKeys checks what an actor says of approvers and revoked keys.
func checkReportedKeys(approvers, revoked []string) error {
	if len(approvers) > maxEntries || len(revoked) > maxEntries {
		return fmt.Errorf("actor report is over its bounds")
	}
	for _, a := range approvers {
		if _, err := ParsePublicKey(a); err != nil {
			return fmt.Errorf("actor report names an approver: %w", err)
		}
	}
	for _, id := range revoked {
		if err := CheckKeyID(id); err != nil {
			return err
		}
	}
	return nil
}
