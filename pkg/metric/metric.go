// Package metric holds the values that travel through Evenkeel: what a series is, how its raw readings become numbers,
// and the table in which an agent keeps the readings of its current tick.
//
// It does no I/O, knows no wire format (that is pkg/chain) and owns no goroutine. A Table belongs to one goroutine.
package metric

import "math"

// Label is one name and value of a series' identity.
type Label struct{ Name, Value string }

// Scale turns a raw integer reading into the number that people see: raw * Mul / Div, with 0 standing for 1. Readings
// travel raw since rounded decimals compress worst. Jiffies are {Div: 100}, KiB are {Mul: 1024}.
type Scale struct{ Mul, Div uint32 }

// Value returns raw in the unit of its series. The division comes last, so 7 jiffies are exactly the float 0.07.
func (s Scale) Value(raw int64) float64 {
	v := float64(raw)
	if s.Mul > 1 {
		v *= float64(s.Mul)
	}
	if s.Div > 1 {
		v /= float64(s.Div)
	}
	return v
}

// Group numbers the probes of an agent, 0 to 63. The series of a group are read together, so a tick holds a sample for
// each live series of the groups that ran on it, and for no other.
type Group uint8

// MaxGroups bounds Group, so that a tick's groups fit one word.
const MaxGroups = 64

// Ref numbers a series within one run of an agent. It is never used again in that run.
type Ref uint32

// Desc is the identity of a series and how to read it. Labels are sorted by name, unique, and hold neither instance nor
// job: a collector adds those from the agent's certificate.
type Desc struct {
	Name   string
	Labels []Label
	Scale  Scale
	// Float marks a series whose raw readings are math.Float64bits of its value; Scale is then not used.
	Float bool
	Group Group
}

// Value returns a raw reading of d as a number.
func (d *Desc) Value(raw int64) float64 {
	if d.Float {
		return math.Float64frombits(uint64(raw))
	}
	return d.Scale.Value(raw)
}

// Label returns the value of the label called name, and whether there is one.
func (d *Desc) Label(name string) (string, bool) {
	for i := range d.Labels {
		if d.Labels[i].Name == name {
			return d.Labels[i].Value, true
		}
	}
	return "", false
}
