package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// KindMapTest says what a map is to answer. It is read by `evenkeel test` beside the map, and is never applied to a collector.
const KindMapTest = "MapTest"

// MapTest is a list of cases, each by itself.
type MapTest struct {
	Title string        `json:"title,omitempty"`
	Cases []MapTestCase `json:"cases" manifest:"required"`
}

// MapTestCase is a state of the map and what it is to answer then.
type MapTestCase struct {
	Name string  `json:"name" manifest:"required"`
	At   Instant `json:"at" manifest:"required"`
	// Default is how a leaf is read that Set does not name: ok where not stated.
	Default string `json:"default,omitempty" manifest:"enum=ok|unknown"`
	// Set fixes levels: reference to a level, or unknown. On what rests on others it adds an input and hides nothing.
	Set    map[string]string `json:"set,omitempty"`
	Expect Expectation       `json:"expect" manifest:"required"`
}

// Expectation is the answer that is expected; what is not stated may be anything.
type Expectation struct {
	// Health is that of nodes, exactly.
	Health map[string]HealthRange `json:"health,omitempty"`
	// Causes are all of them, the costliest first; an empty list says that there is none.
	Causes *[]string `json:"causes,omitempty"`
	// Order is that in which parts are mended, by start; an empty list says that nothing is to be mended.
	Order *[]string `json:"order,omitempty"`
	// PerHour is what each of these causes costs in an hour.
	PerHour map[string]Amount `json:"perHour,omitempty"`
}

// HealthRange is a health as people write it: a level, unknown, or both ends, such as ok...major.
type HealthRange struct{ health.Range }

// String writes what UnmarshalText reads.
func (h HealthRange) String() string {
	switch {
	case h.Low == h.High:
		return h.Low.String()
	case h.Range == health.Unknown:
		return "unknown"
	}
	return h.Low.String() + "..." + h.High.String()
}

// MarshalText writes what String returns.
func (h HealthRange) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a level, unknown, or both ends of a range, the better one first.
func (h *HealthRange) UnmarshalText(b []byte) error {
	text := string(b)
	if text == "unknown" {
		h.Range = health.Unknown
		return nil
	}
	first, last, is := strings.Cut(text, "...")
	if !is {
		last = first
	}
	low, err1 := health.ParseLevel(first)
	high, err2 := health.ParseLevel(last)
	if err1 != nil || err2 != nil || high < low {
		return fmt.Errorf("%q is not a health: expected a level, unknown, or a range such as ok...major", text)
	}
	h.Range = health.Range{Low: low, High: high}
	return nil
}

// Amount is a number of a unit, written "36000 EUR" or "1000 points"; the zero Amount is written unranked.
type Amount struct {
	Value Decimal
	Unit  string
}

// String writes what UnmarshalText reads.
func (a Amount) String() string {
	if a.Unit == "" {
		return "unranked"
	}
	return a.Value.String() + " " + a.Unit
}

// MarshalText writes what String returns.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads a decimal number and a unit, or unranked.
func (a *Amount) UnmarshalText(b []byte) error {
	text := string(b)
	if text == "unranked" {
		*a = Amount{}
		return nil
	}
	num, unit, _ := strings.Cut(text, " ")
	d, err := ParseDecimal(num)
	if err != nil || unit != "points" && !currency(unit) {
		return fmt.Errorf("%q is not an amount: expected such as 36000 EUR, 1000 points, or unranked", text)
	}
	*a = Amount{d, unit}
	return nil
}

// Instant is a moment on the time line, written in RFC 3339.
type Instant struct{ time.Time }

// UnmarshalText reads RFC 3339, such as 2026-11-27T10:00:00+01:00.
func (i *Instant) UnmarshalText(b []byte) (err error) {
	if i.Time, err = time.Parse(time.RFC3339, string(b)); err != nil {
		return fmt.Errorf("%q is not a moment: expected RFC 3339, such as 2026-11-27T10:00:00+01:00", b)
	}
	return nil
}

func checkMapTest(c *checker, t *MapTest) {
	seen := map[string]bool{}
	for i := range t.Cases {
		k, at := &t.Cases[i], fmt.Sprintf("spec.cases[%d]", i)
		if k.Name != "" && seen[k.Name] {
			c.problemf(at+".name", "case %q is there twice", k.Name)
		}
		seen[k.Name] = true
		e := &k.Expect
		if len(e.Health) == 0 && e.Causes == nil && e.Order == nil && len(e.PerHour) == 0 {
			c.problem(at+".expect", "nothing is expected", "health, causes, order or perHour")
		}
	}
}
