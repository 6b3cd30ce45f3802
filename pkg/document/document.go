// Package document is a report as a reader sees it: headings, sentences and tables; and the ways to write one: Markdown, one HTML file
// without a script, CSV, and PDF. The same document always gives the same bytes.
//
// It is pure, and it knows nothing of what a report is about: every word and number stands in the document.
package document

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Document is one, as the API's JSON.
type Document struct {
	Title    string    `json:"title"`
	Subtitle string    `json:"subtitle"`
	Date     string    `json:"date"` // RFC 3339: when it was made
	Sections []Section `json:"sections"`
}

// Section is a heading with what stands below it: sentences, then a table.
type Section struct {
	Heading string   `json:"heading"`
	Level   int      `json:"level"` // 1, or 2 below a section of level 1
	Text    []string `json:"text"`
	Table   *Table   `json:"table"` // null where there is none
}

// Table has as many fields in each row as there are columns.
type Table struct {
	Columns []Column   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Column is a column of a table.
type Column struct {
	Name   string `json:"name"`
	Number bool   `json:"number"` // to be aligned to the right
}

// Check reports what is wrong with a document that came from outside.
func (d *Document) Check() error {
	for _, s := range d.Sections {
		if s.Table == nil {
			continue
		}
		for i, r := range s.Table.Rows {
			if len(r) != len(s.Table.Columns) {
				return fmt.Errorf("%s: row %d has %d fields and the table %d columns", s.Heading, i+1, len(r), len(s.Table.Columns))
			}
		}
	}
	return nil
}

// Markdown writes a document as Markdown, its tables aligned.
func Markdown(d *Document) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", line(d.Title), line(d.Subtitle))
	for _, s := range d.Sections {
		fmt.Fprintf(&b, "\n%s %s\n", strings.Repeat("#", s.Level+1), line(s.Heading))
		for _, t := range s.Text {
			fmt.Fprintf(&b, "\n%s\n", line(t))
		}
		if s.Table != nil {
			b.WriteString("\n")
			s.Table.markdown(&b)
		}
	}
	return []byte(b.String())
}

// escape is for what Markdown would read as something else.
var escape = strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", "[", `\[`, "#", `\#`)

// line writes text for one line of Markdown.
func line(s string) string { return escape.Replace(strings.Join(strings.Fields(s), " ")) }

func (t *Table) markdown(b *strings.Builder) {
	cells := make([][]string, 0, len(t.Rows)+1)
	head := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = line(c.Name)
	}
	cells = append(cells, head)
	for _, r := range t.Rows {
		row := make([]string, len(r))
		for i, f := range r {
			row[i] = line(f)
		}
		cells = append(cells, row)
	}
	width := make([]int, len(t.Columns))
	for i := range width {
		width[i] = 3
		for _, r := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	for n, r := range cells {
		for i, f := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(f))
			if t.Columns[i].Number {
				f = pad + f
			} else {
				f += pad
			}
			fmt.Fprintf(b, "| %s ", f)
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, c := range t.Columns {
			if c.Number {
				fmt.Fprintf(b, "|%s:", strings.Repeat("-", width[i]+1))
			} else {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", width[i]+2))
			}
		}
		b.WriteString("|\n")
	}
}
