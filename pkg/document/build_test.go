package document_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/document"
)

func TestBuild(t *testing.T) {
	got := document.NewSection("A", "none", "Name,#Count", [][]string{{"x", "1"}})
	want := document.Section{Heading: "A", Level: 1, Text: []string{}, Table: &document.Table{
		Columns: []document.Column{{Name: "Name"}, {Name: "Count", Number: true}}, Rows: [][]string{{"x", "1"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := document.NewSection("A", "none", "Name", nil); got.Table != nil || got.Text[0] != "none" {
		t.Errorf("%+v", got)
	}
	for in, want := range map[string]string{"5400s": "1h30m", "-60s": "-1m", "0s": "0s", "never": "never", "": ""} {
		if got := document.Span(in); got != want {
			t.Errorf("Span(%q) = %q, want %q", in, got, want)
		}
	}
	if document.Dash("") != "-" || document.Dash("x") != "x" || document.Between("1", "1") != "1" || document.Between("1", "2") != "1...2" {
		t.Error("a dash, or a range")
	}
}
