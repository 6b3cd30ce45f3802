package document_test

import (
	"bytes"
	"encoding/csv"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/document"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() *document.Document {
	return &document.Document{
		Title: "Bericht für “Kasse” <3", Subtitle: "Money in €, with | and * and _.", Date: "2026-11-25T10:00:00Z",
		Sections: []document.Section{
			{Heading: "At a glance", Level: 1, Text: []string{"One\nsentence.", "Another [one](x)."}, Table: &document.Table{
				Columns: []document.Column{{Name: "Service"}, {Name: "Cost", Number: true}},
				Rows:    [][]string{{"Überblick", "12.5 €"}, {"a|b", "-3"}, {"=1+1", "7"}, {"<script>alert(1)</script>", "-"}},
			}},
			{Heading: "Nothing", Level: 2, Text: []string{}},
			{Heading: "=2+2", Level: 1, Text: []string{}, Table: &document.Table{Columns: []document.Column{{Name: "@x"}}, Rows: [][]string{{"+49 30 1"}}}},
		},
	}
}

func TestGolden(t *testing.T) {
	html, err := document.HTML(sample())
	if err != nil {
		t.Fatal(err)
	}
	table, err := document.CSV(sample())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"md": document.Markdown(sample()), "html": html, "csv": table} {
		path := filepath.Join("testdata", "sample."+name)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%v); got\n%s", path, err, got)
		}
	}
	if bytes.Contains(html, []byte("<script")) || bytes.Contains(html, []byte("http")) {
		t.Error("the page runs a script, or needs something beside it")
	}
}

// The same document gives the same PDF; it holds text, and long tables go on with their head on another page.
func TestPDF(t *testing.T) {
	d := sample()
	for range 120 {
		d.Sections[0].Table.Rows = append(d.Sections[0].Table.Rows, []string{strings.Repeat("wide words and ", 20) + strings.Repeat("x", 200), "1"})
	}
	first, err := document.PDF(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := document.PDF(d)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("%d bytes, then %d: %v", len(first), len(again), err)
	}
	if n := bytes.Count(first, []byte("/Type /Page\n")); n < 5 || !bytes.HasPrefix(first, []byte("%PDF-")) {
		t.Errorf("%d pages", n)
	}
	d.Date = "today"
	if _, err := document.PDF(d); err == nil {
		t.Error("a document without a date was written")
	}
}

// No text breaks a format: CSV reads back with as many fields as there are columns, and every line of a table in Markdown has as many bars.
func TestAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &document.Document{Title: rapid.String().Draw(t, "title"), Date: "2026-11-25T10:00:00Z"}
		table := &document.Table{Columns: make([]document.Column, rapid.IntRange(1, 4).Draw(t, "columns"))}
		for i := range table.Columns {
			table.Columns[i] = document.Column{Name: rapid.String().Draw(t, "name"), Number: rapid.Bool().Draw(t, "number")}
		}
		for range rapid.IntRange(0, 3).Draw(t, "rows") {
			table.Rows = append(table.Rows, rapid.SliceOfN(rapid.String(), len(table.Columns), len(table.Columns)).Draw(t, "row"))
		}
		d.Sections = []document.Section{{Heading: rapid.String().Draw(t, "heading"), Level: 1, Table: table}}
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		text, err := document.CSV(d)
		if err != nil {
			t.Fatal(err)
		}
		r := csv.NewReader(bytes.NewReader(text))
		r.FieldsPerRecord = -1
		records, err := r.ReadAll()
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, rec := range records {
			for _, f := range rec {
				if f != "" && strings.ContainsRune("=+@\t\r", rune(f[0])) {
					t.Fatalf("a spreadsheet would work out %q", f)
				}
			}
		}
		for line := range strings.Lines(string(document.Markdown(d))) {
			if strings.HasPrefix(line, "|") && strings.Count(line, "|")-strings.Count(line, `\|`) != len(table.Columns)+1 {
				t.Fatalf("%q", line)
			}
		}
		if _, err := document.PDF(d); err != nil {
			t.Fatal(err)
		}
		if _, err := document.HTML(d); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCheck(t *testing.T) {
	d := sample()
	d.Sections[0].Table.Rows[1] = []string{"one"}
	if err := d.Check(); err == nil || err.Error() != "At a glance: row 2 has 1 fields and the table 2 columns" {
		t.Error(err)
	}
}
