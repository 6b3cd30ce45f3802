package overload

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// Whose values a condition reads.
const (
	OfSubject = ""       // the detector's own subject, or the host's where the signal has no subjects
	OfValued  = "valued" // any component whose service has a value
	OfAny     = "any"    // any subject of the signal
)

// Detector says when a subject is at risk and when it is overloaded. It is data: the same engine runs them all.
type Detector struct {
	Name   string
	Signal string
	Scope  string // host | unit | process | device | check
	Act    *Condition
	Warn   *Condition
	// Leave says when a raised detector comes back to healthy; none means: the entry condition has not been met by any
	// sample for thirty seconds.
	Leave     *Condition
	Level     health.Level // of a leaf when overloaded; at risk gives at most warning
	AppliesTo string       // "host" or "components"
}

// Condition is met when Need of the last Out samples are on or beyond the threshold, or all samples for For. Exactly one of
// Above and Below is set, in the signal's own unit. And adds conditions that must be met on the same tick.
type Condition struct {
	Signal string // "": the detector's
	Of     string
	Above  *float64
	Below  *float64
	Need   int
	Out    int
	For    time.Duration
	And    []Condition
}

const (
	maxOut     = 600 // ticks; a window keeps as many
	leaveAfter = 30 * time.Second
)

// Set is a list of detectors made ready. It is immutable and shared by all hosts.
type Set struct {
	detectors []*compiled
	bySignal  [][]*compiled // by number of the main signal
}

type compiled struct {
	Detector
	signal           int
	act, warn, leave *condition
}

type condition struct {
	signal    int
	of        string
	above     bool
	strict    bool // a value on the threshold does not count
	threshold float32
	need, out int
	hold      time.Duration
	and       []condition
}

// Compile checks the detectors and makes a Set. The error joins one error for each mistake.
func Compile(detectors []Detector) (*Set, error) {
	set := &Set{bySignal: make([][]*compiled, len(signals))}
	var errs []error
	seen := map[string]bool{}
	for _, d := range detectors {
		c, err := compile(d)
		if err == nil && seen[d.Name] {
			err = errors.New("the name is used twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("detector %s: %w", d.Name, err))
			continue
		}
		seen[d.Name] = true
		set.detectors = append(set.detectors, c)
		set.bySignal[c.signal] = append(set.bySignal[c.signal], c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return set, nil
}

func compile(d Detector) (*compiled, error) {
	n, ok := signalNumber(d.Signal)
	if !ok {
		return nil, fmt.Errorf("no signal %q", d.Signal)
	}
	if d.Act == nil && d.Warn == nil {
		return nil, errors.New("neither act nor warn is given")
	}
	if d.AppliesTo == "" {
		d.AppliesTo = "host"
	}
	c := &compiled{Detector: d, signal: n}
	var err error
	for _, part := range []struct {
		name string
		in   *Condition
		out  **condition
	}{{"act", d.Act, &c.act}, {"warn", d.Warn, &c.warn}, {"leave", d.Leave, &c.leave}} {
		if part.in == nil {
			continue
		}
		if *part.out, err = compileCondition(*part.in, n); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		if (*part.out).signal != n {
			return nil, fmt.Errorf("%s: its first condition must read %s", part.name, d.Signal)
		}
	}
	if c.leave == nil {
		entry := c.warn
		if entry == nil {
			entry = c.act
		}
		c.leave = &condition{signal: n, above: !entry.above, strict: true, threshold: entry.threshold, hold: leaveAfter}
	}
	return c, nil
}

func compileCondition(in Condition, main int) (*condition, error) {
	c := &condition{signal: main, of: in.Of, need: in.Need, out: in.Out, hold: in.For}
	if in.Signal != "" {
		n, ok := signalNumber(in.Signal)
		if !ok {
			return nil, fmt.Errorf("no signal %q", in.Signal)
		}
		c.signal = n
	}
	switch {
	case (in.Above == nil) == (in.Below == nil):
		return nil, errors.New("exactly one of above and below is needed")
	case in.Above != nil:
		c.above, c.threshold = true, float32(*in.Above)
	default:
		c.threshold = float32(*in.Below)
	}
	if math.IsNaN(float64(c.threshold)) {
		return nil, errors.New("the threshold is not a number")
	}
	if !slices.Contains([]string{OfSubject, OfValued, OfAny}, in.Of) {
		return nil, fmt.Errorf("of %q: expected valued or any", in.Of)
	}
	switch {
	case in.For < 0, in.For > 10*time.Minute:
		return nil, errors.New("for is more than the ten minutes that are kept")
	case in.For > 0 && (in.Need != 0 || in.Out != 0):
		return nil, errors.New("either for or of, not both")
	case in.For == 0 && c.need == 0 && c.out == 0:
		c.need, c.out = 1, 1
	case in.For == 0 && (c.need < 1 || c.out < c.need || c.out > maxOut):
		return nil, fmt.Errorf("%d/%d samples: expected 1 <= n <= m <= %d", c.need, c.out, maxOut)
	}
	for _, a := range in.And {
		sub, err := compileCondition(a, main)
		if err != nil {
			return nil, fmt.Errorf("and: %w", err)
		}
		c.and = append(c.and, *sub)
	}
	return c, nil
}

// Signals returns the names of the signals that the set's detectors read.
func (s *Set) Signals() []string {
	var out []string
	var walk func(c *condition)
	walk = func(c *condition) {
		if c == nil {
			return
		}
		out = append(out, signals[c.signal].Name)
		for i := range c.and {
			walk(&c.and[i])
		}
	}
	for _, d := range s.detectors {
		walk(d.act)
		walk(d.warn)
		walk(d.leave)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
