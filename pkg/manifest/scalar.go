package manifest

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// micro is how many units of a Decimal, Share or Ratio make one.
const micro = 1_000_000

// Decimal is an exact number with up to six places: an amount of money, a count of cores, a fraction.
type Decimal int64 // millionths

// ParseDecimal reads "12000", "0.5" or "-1.25".
func ParseDecimal(s string) (Decimal, error) {
	body, neg := strings.CutPrefix(s, "-")
	whole, frac, dot := strings.Cut(body, ".")
	if !digits(whole) || dot && !digits(frac) {
		return 0, fmt.Errorf("%q is not a decimal number", s)
	}
	if len(strings.TrimRight(frac, "0")) > 6 {
		return 0, fmt.Errorf("%q has more than six decimal places", s)
	}
	w, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || w > 9_000_000_000_000 {
		return 0, fmt.Errorf("%q is too large: the most is 9000000000000", s)
	}
	f, _ := strconv.ParseInt((frac + "000000")[:6], 10, 64)
	d := Decimal(w*micro + f)
	if neg {
		d = -d
	}
	return d, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// String writes the number without needless zeros.
func (d Decimal) String() string {
	sign := ""
	u := uint64(d)
	if d < 0 {
		sign, u = "-", -u
	}
	s := fmt.Sprintf("%s%d.%06d", sign, u/micro, u%micro)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// Float returns the number as a float64.
func (d Decimal) Float() float64 { return float64(d) / micro }

// Times returns the product, rounded to the nearest millionth. It saturates where the product does not fit.
func (d Decimal) Times(o Decimal) Decimal {
	p := new(big.Int).Mul(big.NewInt(int64(d)), big.NewInt(int64(o)))
	half := big.NewInt(micro / 2)
	if p.Sign() < 0 {
		half.Neg(half)
	}
	p.Add(p, half).Quo(p, big.NewInt(micro))
	if p.IsInt64() {
		return Decimal(p.Int64())
	}
	if p.Sign() < 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}

// MarshalText writes what String returns.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDecimal does.
func (d *Decimal) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDecimal(string(b))
	return err
}

// Share is a part of the whole, above 0 and up to 1, exact to a millionth. It is written "50%" or 0.5.
type Share int64 // millionths

// Of returns how many of n the share is, rounded up.
func (s Share) Of(n int) int { return int((int64(s)*int64(n) + micro - 1) / micro) }

// Float returns the share as a number from 0 to 1.
func (s Share) Float() float64 { return float64(s) / micro }

// MarshalText writes the share in percent.
func (s Share) MarshalText() ([]byte, error) { return []byte((Decimal(s) * 100).String() + "%"), nil }

// UnmarshalText reads "50%" or "0.5".
func (s *Share) UnmarshalText(b []byte) error {
	text := string(b)
	num, percent := strings.CutSuffix(text, "%")
	d, err := ParseDecimal(num)
	if err != nil {
		return fmt.Errorf("%q is not a share: expected a percentage such as 50%% or a fraction such as 0.5", text)
	}
	if percent {
		if d%100 != 0 {
			return fmt.Errorf("%q has more than four decimal places", text)
		}
		d /= 100
	}
	if d <= 0 || d > micro {
		return fmt.Errorf("%q is not a share: it must be above 0%% and at most 100%%", text)
	}
	*s = Share(d)
	return nil
}

// Duration is a span of time, written as 30s, 1h30m or 2d.
type Duration time.Duration

// Std returns the span as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes whole days as days, and leaves out zero parts: "10m", "1h30m", "2d".
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	const day = Duration(24 * time.Hour)
	var b strings.Builder
	if d >= day {
		fmt.Fprintf(&b, "%dd", d/day)
		d %= day
	}
	for _, u := range []struct {
		unit Duration
		name string
	}{{Duration(time.Hour), "h"}, {Duration(time.Minute), "m"}, {Duration(time.Second), "s"}, {Duration(time.Millisecond), "ms"}} {
		if d >= u.unit {
			fmt.Fprintf(&b, "%d%s", d/u.unit, u.name)
			d %= u.unit
		}
	}
	return b.String()
}

// MarshalText writes what String returns.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 30s, 1h30m, 250ms or 2d; the least part is a millisecond, the most 3650 days.
func (d *Duration) UnmarshalText(b []byte) error {
	text := string(b)
	var total time.Duration
	rest := text
	if n, after, ok := strings.Cut(text, "d"); ok && digits(n) {
		days, err := strconv.Atoi(n)
		if err != nil || days > 3650 {
			return fmt.Errorf("%q is too long: the most is 3650d", text)
		}
		total, rest = time.Duration(days)*24*time.Hour, after
	}
	if rest != "" || text == "" {
		if strings.ContainsAny(rest, "-+") {
			return badDuration(text)
		}
		v, err := time.ParseDuration(rest)
		if err != nil {
			return badDuration(text)
		}
		total += v
	}
	if total%time.Millisecond != 0 || total > 3650*24*time.Hour {
		return fmt.Errorf("%q is not a duration that can be kept: whole milliseconds up to 3650d", text)
	}
	*d = Duration(total)
	return nil
}

func badDuration(text string) error {
	return fmt.Errorf("%q is not a duration: expected a number with a unit, such as 30s, 10m, 1h30m or 2d", text)
}

// Bytes is an amount of memory, written as 256MiB, 1GB or a plain count.
type Bytes int64

type unit struct {
	name   string
	factor int64
}

func byteUnits() []unit {
	return []unit{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"B", 1},
	}
}

// String writes the amount in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits()[:4] {
		if b != 0 && int64(b)%u.factor == 0 {
			return fmt.Sprintf("%d%s", int64(b)/u.factor, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

// MarshalText writes what String returns.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads an amount with or without a unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := string(text)
	num, factor := s, int64(1)
	for _, u := range byteUnits() {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			num, factor = strings.TrimSpace(n), u.factor
			break
		}
	}
	if n, err := strconv.ParseInt(num, 10, 64); err == nil && digits(num) && n <= math.MaxInt64/factor {
		*b = Bytes(n * factor)
		return nil
	}
	d, err := ParseDecimal(num)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not an amount of memory: expected a number with B, KiB, MiB, GiB, kB, MB or GB", s)
	}
	whole := new(big.Int).Mul(big.NewInt(int64(d)), big.NewInt(factor))
	whole, rest := whole.QuoRem(whole, big.NewInt(micro), new(big.Int))
	if rest.Sign() != 0 || !whole.IsInt64() {
		return fmt.Errorf("%q is not a whole number of bytes that can be kept", s)
	}
	*b = Bytes(whole.Int64())
	return nil
}

// Quantity is a bound or a value as it was written: 40%, 0.5, 20ms or 256MiB.
type Quantity struct {
	text  string
	value float64
}

// Value returns the quantity in base units: a fraction for percents, seconds for times, bytes for sizes.
func (q Quantity) Value() float64 { return q.value }

// IsPercent reports whether it was written in percent.
func (q Quantity) IsPercent() bool { return strings.HasSuffix(q.text, "%") }

// String returns the quantity as it was written.
func (q Quantity) String() string { return q.text }

// MarshalText writes what String returns.
func (q Quantity) MarshalText() ([]byte, error) { return []byte(q.text), nil }

// ParseQuantity reads a number with or without a unit: %, ns, us, ms, s, m, h, d, /s, or one of bytes.
func ParseQuantity(s string) (Quantity, error) {
	num := s
	factor := 1.0
	for _, u := range []struct {
		name   string
		factor float64
	}{
		{"%", 0.01},
		{"/s", 1},
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"B", 1},
		{"ns", 1e-9},
		{"us", 1e-6},
		{"ms", 1e-3},
		{"s", 1},
		{"m", 60},
		{"h", 3600},
		{"d", 86400},
	} {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			num, factor = strings.TrimSpace(n), u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || strings.ContainsAny(num, "xX_") {
		return Quantity{}, fmt.Errorf("%q is not a quantity: expected a number, with or without a unit such as %%, ms, s or MiB", s)
	}
	switch factor {
	case 0.01:
		v /= 100 // exact where the factor is not
	case 1e-3:
		v /= 1e3
	case 1e-6:
		v /= 1e6
	case 1e-9:
		v /= 1e9
	default:
		v *= factor
	}
	return Quantity{text: s, value: v}, nil
}

// UnmarshalText reads what ParseQuantity does.
func (q *Quantity) UnmarshalText(b []byte) (err error) {
	*q, err = ParseQuantity(string(b))
	return err
}

// Ticks is "in Need of the last Last ticks", written 2/3.
type Ticks struct{ Need, Last int }

// String writes "2/3".
func (t Ticks) String() string { return fmt.Sprintf("%d/%d", t.Need, t.Last) }

// MarshalText writes what String returns.
func (t Ticks) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads "2/3"; the last is at most 600, which is what a window keeps.
func (t *Ticks) UnmarshalText(b []byte) error {
	k, n, ok := strings.Cut(string(b), "/")
	need, err1 := strconv.Atoi(k)
	last, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || !digits(k) || !digits(n) || need < 1 || need > last || last > 600 {
		return fmt.Errorf("%q is not a number of ticks: expected such as 2/3, in 2 of the last 3, with at most 600", b)
	}
	*t = Ticks{need, last}
	return nil
}

// Release says how an action is given back: Percent of the way each Every. The zero Release is at once, written "now".
type Release struct {
	Percent int
	Every   time.Duration
}

// String writes "10%/5s", or "now".
func (r Release) String() string {
	if r == (Release{}) {
		return "now"
	}
	return fmt.Sprintf("%d%%/%s", r.Percent, Duration(r.Every))
}

// MarshalText writes what String returns.
func (r Release) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what String writes.
func (r *Release) UnmarshalText(b []byte) error {
	text := string(b)
	if text == "now" {
		*r = Release{}
		return nil
	}
	p, every, _ := strings.Cut(text, "/")
	num, ok := strings.CutSuffix(p, "%")
	n, err := strconv.Atoi(num)
	var d Duration
	if derr := d.UnmarshalText([]byte(every)); !ok || !digits(num) || err != nil || derr != nil || n < 1 || n > 100 || d <= 0 {
		return fmt.Errorf("%q is not a release: expected such as 10%%/5s, or now", text)
	}
	*r = Release{Percent: n, Every: d.Std()}
	return nil
}

// Bounds is a comparison that maps a value to a level: "< 0.1", ">= 20ms".
type Bounds struct {
	Op    string
	Value Quantity
}

// Holds reports whether v satisfies the comparison.
func (b Bounds) Holds(v float64) bool {
	switch w := b.Value.Value(); b.Op {
	case "<":
		return v < w
	case "<=":
		return v <= w
	case ">":
		return v > w
	case ">=":
		return v >= w
	default:
		return false
	}
}

// String writes "< 0.1".
func (b Bounds) String() string { return b.Op + " " + b.Value.String() }

// MarshalText writes what String returns.
func (b Bounds) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a comparison.
func (b *Bounds) UnmarshalText(text []byte) error {
	s := string(text)
	for _, op := range []string{"<=", ">=", "<", ">"} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			q, err := ParseQuantity(strings.TrimSpace(rest))
			if err != nil {
				break
			}
			*b = Bounds{op, q}
			return nil
		}
	}
	return fmt.Errorf("%q is not a comparison: expected <, <=, > or >= and a number", s)
}
