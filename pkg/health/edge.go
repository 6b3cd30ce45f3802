package health

import (
	"fmt"
	"strconv"
	"strings"
)

// Propagation is what an edge does to a level that passes over it.
type Propagation uint8

// The ways of passing a level on.
const (
	AsIs Propagation = iota
	Increase
	Decrease
	Ignore
	Fixed
)

// EdgeMap is a Propagation with its parameter. The zero EdgeMap passes a level on as it is.
type EdgeMap struct {
	How Propagation
	By  int   // of Increase and Decrease, 1 to 5
	To  Level // of Fixed
}

// Apply returns the level as it arrives. Ok stays ok over every edge: nothing is wrong, so nothing is passed on. An edge
// with Ignore has no input and is not applied.
func (m EdgeMap) Apply(l Level) Level {
	if l == OK {
		return OK
	}
	switch m.How {
	case Increase:
		return min(Critical, l+Level(m.By))
	case Decrease:
		if int(l) <= m.By {
			return OK
		}
		return l - Level(m.By)
	case Fixed:
		return m.To
	default:
		return l
	}
}

// ApplyRange maps both ends.
func (m EdgeMap) ApplyRange(r Range) Range { return Range{m.Apply(r.Low), m.Apply(r.High)} }

// String writes "asIs", "increase:1", "decrease:1", "ignore" or "fixed:minor".
func (m EdgeMap) String() string {
	switch m.How {
	case Increase:
		return fmt.Sprintf("increase:%d", m.By)
	case Decrease:
		return fmt.Sprintf("decrease:%d", m.By)
	case Ignore:
		return "ignore"
	case Fixed:
		return "fixed:" + m.To.String()
	default:
		return "asIs"
	}
}

// ParseEdgeMap reads what String writes.
func ParseEdgeMap(s string) (EdgeMap, error) {
	how, arg, has := strings.Cut(s, ":")
	switch how {
	case "asIs", "ignore":
		if has {
			return EdgeMap{}, fmt.Errorf("%q takes no parameter", how)
		}
		if how == "ignore" {
			return EdgeMap{How: Ignore}, nil
		}
		return EdgeMap{}, nil
	case "increase", "decrease":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 || n > 5 || len(arg) != 1 {
			return EdgeMap{}, fmt.Errorf("%q needs a number of levels from 1 to 5, such as %s:1", s, how)
		}
		if how == "increase" {
			return EdgeMap{How: Increase, By: n}, nil
		}
		return EdgeMap{How: Decrease, By: n}, nil
	case "fixed":
		l, err := ParseLevel(arg)
		if err != nil {
			return EdgeMap{}, fmt.Errorf("%q needs a level, such as fixed:minor", s)
		}
		return EdgeMap{How: Fixed, To: l}, nil
	}
	return EdgeMap{}, fmt.Errorf("%q is not a propagation: expected asIs, increase:N, decrease:N, ignore or fixed:LEVEL", s)
}

// MarshalText writes what String returns.
func (m EdgeMap) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what ParseEdgeMap does.
func (m *EdgeMap) UnmarshalText(b []byte) (err error) {
	*m, err = ParseEdgeMap(string(b))
	return err
}
