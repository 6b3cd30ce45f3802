package report_test

import (
	"os"
	"testing"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		f    report.Figure
		want string
	}{
		{report.Figure{Name: "wire-bytes", Value: 1.8734, Unit: "bytes", Op: "<=", Goal: 2}, "figure wire-bytes 1.873 bytes goal <= 2 ok"},
		{report.Figure{Name: "agent-rss", Value: 17.5, Unit: "MiB", Op: "<=", Goal: 16}, "figure agent-rss 17.5 MiB goal <= 16 short"},
		{report.Figure{Name: "x", Value: 3, Unit: "s", Op: ">=", Goal: 2}, "figure x 3 s goal >= 2 ok"},
	} {
		if got := c.f.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	values := make([]float64, 20)
	for i := range values {
		values[i] = float64(20 - i)
	}
	if got := report.Quantile(values, 0.95); got != 19 {
		t.Errorf("p95 of 1..20 is %g, want 19", got)
	}
	if got := report.Median(values); got != 10.5 {
		t.Errorf("median of 1..20 is %g, want 10.5", got)
	}
	if values[0] != 20 {
		t.Error("the values were changed")
	}
}

func TestCPUOfThisProcess(t *testing.T) {
	before, err := report.CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	x := 1.0
	for range 20_000_000 {
		x *= 1.0000001
	}
	after, err := report.CPU(os.Getpid())
	if err != nil || after <= before || x < 1 {
		t.Errorf("the clock went from %s to %s, %v", before, after, err)
	}
}
