package identity

import (
	"encoding/hex"
	"errors"
	"strings"
)

const pinPrefix = "sha256:"

// String returns the pin as people copy it: "sha256:" and 64 hexadecimal digits. A pin is no secret.
func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

// ParsePin reads what String writes, in either case and with white space around it.
func ParsePin(s string) (Pin, error) {
	var p Pin
	digits, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(s)), pinPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(p) {
		return p, errors.New("a CA pin is sha256: and 64 hexadecimal digits: copy it from \"evenkeel version\" of somebody who is logged in, or from the collector's log")
	}
	copy(p[:], b)
	return p, nil
}
