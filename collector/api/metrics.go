package api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics is the page of the collector's own numbers. The library writes no help texts, and a page without them fails
// promtool, so each family is registered here with its own.
type Metrics struct {
	set  *metrics.Set
	help map[string]string
	kind map[string]string
}

// NewMetrics returns an empty page.
func NewMetrics() *Metrics {
	return &Metrics{set: metrics.NewSet(), help: map[string]string{}, kind: map[string]string{}}
}

// Gauge adds a number that is read when the page is. The name is a family's, with labels where it has some. Call it
// before the page is served.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.describe(name, "gauge", help)
	m.set.NewGauge(name, read)
}

// Counter adds a number that only grows, read when the page is. Its family ends in _total. Call it before the page is
// served.
func (m *Metrics) Counter(name, help string, read func() uint64) {
	m.describe(name, "counter", help)
	m.set.NewGauge(name, func() float64 { return float64(read()) })
}

func (m *Metrics) describe(name, kind, help string) {
	family, _, _ := strings.Cut(name, "{")
	m.help[family], m.kind[family] = help, kind
}

// write prints the page in the text format, families in order, each under its help and type.
func (m *Metrics) write(w io.Writer) {
	var page bytes.Buffer
	m.set.WritePrometheus(&page)
	families := map[string][]string{}
	for lines := bufio.NewScanner(&page); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		family := line[:strings.IndexAny(line, "{ ")]
		families[family] = append(families[family], line)
	}
	names := make([]string, 0, len(families))
	for f := range families {
		names = append(names, f)
	}
	slices.Sort(names)
	for _, f := range names {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f, m.help[f], f, m.kind[f])
		slices.Sort(families[f])
		for _, line := range families[f] {
			fmt.Fprintln(w, line)
		}
	}
}
