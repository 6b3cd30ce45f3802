// Package table reads the CSV files that reasoning takes beside manifests: a first line that names the columns, and rows whose every
// mistake is told with its line and column.
//
// It is pure, and it takes no column that it was not asked for.
package table

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const (
	// MaxSize is the largest file that is read, in bytes.
	MaxSize     = 16 << 20
	maxProblems = 20
)

// Row is one line of a table. Its readers tell of what they cannot read, and return the zero value then.
type Row struct {
	Line int
	t    *reader
	rec  []string
}

type reader struct {
	file     string
	csv      *csv.Reader
	columns  []string
	problems []manifest.Problem
}

// Read calls row for each line of a CSV file whose first line names exactly these columns, in this order; those that end in "?" may be
// left out, from the right. It returns all mistakes, up to twenty; where there are some, what row made of it is of no use.
func Read(file string, text []byte, columns []string, row func(*Row)) []manifest.Problem {
	t := &reader{file: file}
	if len(text) > MaxSize {
		t.tell(0, 0, fmt.Sprintf("the file is larger than %d bytes", MaxSize), "")
		return t.problems
	}
	t.csv = csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	t.csv.FieldsPerRecord = -1
	head, ok := t.record()
	if !ok {
		if len(t.problems) == 0 {
			t.tell(1, 1, "the file is empty", "its first line is "+header(columns))
		}
		return t.problems
	}
	if t.columns = match(head, columns); t.columns == nil {
		t.tell(1, 1, fmt.Sprintf("the first line is %q", strings.Join(head, ",")), "expected "+header(columns))
		return t.problems
	}
	for {
		rec, ok := t.record()
		if !ok {
			return t.problems
		}
		line, column := t.csv.FieldPos(0)
		switch {
		case len(t.problems) >= maxProblems:
			t.tell(line, column, "reading ends here: there are too many mistakes", "")
			return t.problems
		case len(rec) != len(t.columns):
			t.tell(line, column, fmt.Sprintf("there are %d fields: the first line has %d", len(rec), len(t.columns)), "")
		default:
			row(&Row{line, t, rec})
		}
	}
}

// match returns the columns that a first line has, or nil where it has others.
func match(head, columns []string) []string {
	if len(head) > len(columns) {
		return nil
	}
	var out []string
	for i, c := range columns {
		name, optional := strings.CutSuffix(c, "?")
		switch {
		case i < len(head) && head[i] == name:
			out = append(out, name)
		case i < len(head) || !optional:
			return nil
		}
	}
	return out
}

func header(columns []string) string {
	var all, most []string
	for _, c := range columns {
		name, optional := strings.CutSuffix(c, "?")
		all = append(all, name)
		if !optional {
			most = append(most, name)
		}
	}
	out := strings.Join(most, ",")
	if len(most) < len(all) {
		out += ", and then " + strings.Join(all[len(most):], ",") + " where they are known"
	}
	return out
}

func (t *reader) tell(line, column int, text, hint string) {
	t.problems = append(t.problems, manifest.Problem{File: t.file, Line: line, Column: column, Text: text, Hint: hint})
}

// record returns the next line; a mistake in the syntax ends the reading.
func (t *reader) record() ([]string, bool) {
	rec, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, false
	}
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		t.tell(bad.Line, bad.Column, "this is not CSV: "+bad.Err.Error(), "")
		return nil, false
	}
	return rec, err == nil
}

// Mistake tells of a mistake in a column.
func (r *Row) Mistake(column, text, hint string) {
	line, at := r.t.csv.FieldPos(max(slices.Index(r.t.columns, column), 0))
	r.t.tell(line, at, text, hint)
}

// Text returns a field; empty where the column is not there.
func (r *Row) Text(column string) string {
	if i := slices.Index(r.t.columns, column); i >= 0 {
		return r.rec[i]
	}
	return ""
}

// Needed returns a field that must not be empty.
func (r *Row) Needed(column string) string {
	s := r.Text(column)
	if s == "" {
		r.Mistake(column, column+" is missing", "")
	}
	return s
}

// Time returns a moment; the zero time where the field is empty.
func (r *Row) Time(column string) time.Time {
	s := r.Text(column)
	if s == "" {
		return time.Time{}
	}
	t, err := Moment(s)
	if err != nil {
		r.Mistake(column, err.Error(), "expected RFC 3339, such as 2026-11-25T10:00:00Z")
	}
	return t
}

// Moment reads a time in RFC 3339, of the years 1971 to 2199.
func Moment(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%q is not a time", s)
	case t.UTC().Year() < 1971 || t.UTC().Year() > 2199:
		return time.Time{}, fmt.Errorf("%q is in the year %d: expected 1971 to 2199", s, t.UTC().Year())
	}
	return t, nil
}

// Number returns a whole number from least to most.
func (r *Row) Number(column string, least, most int) int {
	n, err := strconv.Atoi(r.Text(column))
	if err != nil || n < least || n > most {
		r.Mistake(column, fmt.Sprintf("%q is not a whole number from %d to %d", r.Text(column), least, most), "")
		return 0
	}
	return n
}

// OneOf returns a field that is one of some words.
func (r *Row) OneOf(column string, words ...string) string {
	s := r.Text(column)
	if !slices.Contains(words, s) {
		r.Mistake(column, fmt.Sprintf("%q is not a value of %s: expected %s", s, column, strings.Join(words, ", ")), manifest.Nearest(s, words))
		return ""
	}
	return s
}

// Ref returns a reference of one of some kinds.
func (r *Row) Ref(column string, kinds ...string) manifest.Ref {
	ref := manifest.Ref(r.Text(column))
	if !slices.Contains(kinds, ref.Kind()) || ref.Name() == "" {
		r.Mistake(column, fmt.Sprintf("%q is not a reference to a %s", ref, strings.Join(kinds, ", ")), "expected such as "+kinds[0]+"/NAME")
		return ""
	}
	return ref
}
