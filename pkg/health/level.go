// Package health says how well something is, and how the health of many becomes the health of one: levels, ranges under
// missing data, edge maps and the rules of a node.
//
// It is pure: no I/O, no clock, no goroutine. The definitions are those of the design, section 6.
package health

import (
	"encoding/json"
	"fmt"
)

// Level orders how bad something is. Unknown is not a Level: it is told apart by Range.
type Level uint8

// The levels, best first.
const (
	OK Level = iota
	Info
	Warning
	Minor
	Major
	Critical
)

var levelNames = [...]string{"ok", "info", "warning", "minor", "major", "critical"}

// String returns the level as people write it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// ParseLevel reads a level as String writes it.
func ParseLevel(s string) (Level, error) {
	for i, n := range levelNames {
		if n == s {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a level: expected ok, info, warning, minor, major or critical", s)
}

// MarshalJSON writes the level as a lower-case string.
func (l Level) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (l *Level) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := ParseLevel(s)
	*l = v
	return err
}

// MarshalText writes the level in lower case, also as the key of a map.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (l *Level) UnmarshalText(b []byte) error {
	v, err := ParseLevel(string(b))
	*l = v
	return err
}

// Range is what can be said of a health while data may be missing: Low is the level with every unknown input read as
// ok, High with every unknown input read as critical. They are equal when everything is known.
type Range struct {
	Low  Level `json:"low"`
	High Level `json:"high"`
}

// Exactly is the range of a known level.
func Exactly(l Level) Range { return Range{l, l} }

// Unknown is the range of something of which nothing is known.
var Unknown = Range{OK, Critical}
