package document

import (
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// NewTable makes a table of columns with commas between them; those that begin with # hold numbers.
func NewTable(columns string, rows [][]string) *Table {
	t := &Table{Rows: rows}
	for name := range strings.SplitSeq(columns, ",") {
		name, number := strings.CutPrefix(name, "#")
		t.Columns = append(t.Columns, Column{Name: name, Number: number})
	}
	return t
}

// NewSection makes a section with a table, or with a sentence where there are no rows.
func NewSection(heading, empty, columns string, rows [][]string) Section {
	s := Section{Heading: heading, Level: 1, Text: []string{}}
	if len(rows) == 0 {
		s.Text = []string{empty}
		return s
	}
	s.Table = NewTable(columns, rows)
	return s
}

// Dash returns a text, or a dash for an empty one.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Between writes a range; one value where both ends are the same.
func Between(low, high string) string {
	if low == high {
		return low
	}
	return low + "..." + high
}

// Span writes a duration in decimal seconds, such as 5400s, as people read it: 1h30m. What is none is left as it is.
func Span(seconds string) string {
	d, err := time.ParseDuration(seconds)
	if err != nil {
		return seconds
	}
	if d < 0 {
		return "-" + manifest.Duration(-d).String()
	}
	return manifest.Duration(d).String()
}
