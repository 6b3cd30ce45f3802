// Package report prints the figures of the project in their one form and keeps the arithmetic of comparing runs: medians,
// ranges and paired ratios. It measures nothing itself.
package report

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Figure is one number with its goal.
type Figure struct {
	Name  string
	Value float64
	Unit  string
	Op    string // "<=" or ">="
	Goal  float64
}

// OK reports whether the goal is reached.
func (f Figure) OK() bool {
	if f.Op == ">=" {
		return f.Value >= f.Goal
	}
	return f.Value <= f.Goal
}

// String returns the line that make figure prints.
func (f Figure) String() string {
	verdict := "ok"
	if !f.OK() {
		verdict = "short"
	}
	return fmt.Sprintf("figure %s %s %s goal %s %s %s", f.Name, number(f.Value), f.Unit, f.Op, number(f.Goal), verdict)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// Exit prints the figures and ends the program: 0 when all goals are reached, 1 when one is not.
func Exit(figures ...Figure) {
	code := 0
	for _, f := range figures {
		fmt.Println(f)
		if !f.OK() {
			code = 1
		}
	}
	os.Exit(code)
}

// Fail ends a figure that could not be taken, which is not the same as one that is short.
func Fail(name string, err error) {
	fmt.Fprintf(os.Stderr, "figure %s could not be taken: %v\n", name, err)
	os.Exit(2)
}

// Median returns the middle of values, which it does not change. It panics on none.
func Median(values []float64) float64 {
	s := slices.Clone(values)
	slices.Sort(s)
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// Quantile returns the smallest value that at least the share q of values does not exceed: of 20 values, q 0.95 is the
// nineteenth. It panics on none.
func Quantile(values []float64, q float64) float64 {
	s := slices.Clone(values)
	slices.Sort(s)
	i := int(q*float64(len(s))+0.999999) - 1
	return s[min(max(i, 0), len(s)-1)]
}

// Range prints "median [lowest-highest]".
func Range(values []float64) string {
	return fmt.Sprintf("%s [%s-%s]", number(Median(values)), number(slices.Min(values)), number(slices.Max(values)))
}

// CPU returns the CPU time that a process has used, to the nanosecond, from its own clock. It works for any process on
// the machine that the caller may see.
func CPU(pid int) (time.Duration, error) {
	// The clock id of another process' CPU clock is made from its pid: see clock_getcpuclockid(3).
	id := int32(^uint32(pid)<<3 | 2)
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptrOf(&ts), 0)
	if errno != 0 {
		return 0, fmt.Errorf("cannot read the CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}
