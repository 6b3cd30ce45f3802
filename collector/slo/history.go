package slo

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Row is one line of a history: from At on, Ref is in a state, until the next row of the same Ref.
type Row struct {
	Ref manifest.Ref
	At  time.Time
	State
	Line, Column int // of the reference
}

const (
	maxHistory  = 64 << 20
	maxProblems = 20
)

// ReadHistory reads a history as CSV. Its first line is "ref,time,level" or "ref,time,level,origin"; a ref is service/NAME,
// a time RFC 3339 and later than that of the row of the same ref before it, a level one of ok to critical, "unknown", or a
// range such as ok...major. Rows of several services may be mixed. All mistakes are told, up to twenty.
func ReadHistory(file string, text []byte) ([]Row, []manifest.Problem) {
	h := &historyReader{file: file, last: map[manifest.Ref]time.Time{}}
	if len(text) > maxHistory {
		h.tell(0, 0, fmt.Sprintf("the file is larger than %d bytes", maxHistory), "")
		return nil, h.problems
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	r.FieldsPerRecord, r.ReuseRecord = -1, true
	h.csv = r
	head, ok := h.record()
	if !ok {
		if len(h.problems) == 0 {
			h.tell(1, 1, "the file is empty", "its first line is ref,time,level or ref,time,level,origin")
		}
		return nil, h.problems
	}
	if got := strings.Join(head, ","); got != "ref,time,level" && got != "ref,time,level,origin" {
		h.tell(1, 1, fmt.Sprintf("the first line is %q", got), "expected ref,time,level or ref,time,level,origin")
		return nil, h.problems
	}
	columns := len(head)
	for {
		rec, ok := h.record()
		if !ok {
			break
		}
		h.row(rec, columns)
		if len(h.problems) >= maxProblems {
			line, column := r.FieldPos(0)
			h.tell(line, column, "reading ends here: there are too many mistakes", "")
			break
		}
	}
	if len(h.problems) > 0 {
		return nil, h.problems
	}
	return h.rows, nil
}

type historyReader struct {
	file     string
	csv      *csv.Reader
	rows     []Row
	last     map[manifest.Ref]time.Time
	problems []manifest.Problem
}

func (h *historyReader) tell(line, column int, text, hint string) {
	h.problems = append(h.problems, manifest.Problem{File: h.file, Line: line, Column: column, Text: text, Hint: hint})
}

// record returns the next line; a mistake in the syntax ends the reading.
func (h *historyReader) record() ([]string, bool) {
	rec, err := h.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, false
	}
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		h.tell(bad.Line, bad.Column, "this is not CSV: "+bad.Err.Error(), "")
		return nil, false
	}
	return rec, err == nil
}

func (h *historyReader) row(rec []string, columns int) {
	line, column := h.csv.FieldPos(0)
	if len(rec) != columns {
		h.tell(line, column, fmt.Sprintf("there are %d fields: the first line has %d", len(rec), columns), "")
		return
	}
	before := len(h.problems)
	mistake := func(field int, text, hint string) {
		l, c := h.csv.FieldPos(field)
		h.tell(l, c, text, hint)
	}
	row := Row{Ref: manifest.Ref(strings.Clone(rec[0])), Line: line, Column: column}
	if row.Ref.Kind() != "service" || row.Ref.Name() == "" {
		mistake(0, fmt.Sprintf("%q is not a service", rec[0]), "expected service/NAME")
	}
	var err error
	if row.At, err = time.Parse(time.RFC3339Nano, rec[1]); err != nil {
		mistake(1, fmt.Sprintf("%q is not a time", rec[1]), "expected RFC 3339, such as 2026-11-25T10:00:00Z")
	} else if y := row.At.UTC().Year(); y < 1971 || y > 2199 {
		mistake(1, fmt.Sprintf("%q is in the year %d: expected 1971 to 2199", rec[1], y), "")
	} else if last, ok := h.last[row.Ref]; ok && !row.At.After(last) {
		mistake(1, fmt.Sprintf("%q is not after the row of %s before it, of %s", rec[1], row.Ref, last.UTC().Format(time.RFC3339Nano)),
			"rows of a service stand in order of time")
	} else {
		h.last[row.Ref] = row.At
	}
	if row.Health, err = parseHealth(rec[2]); err != nil {
		mistake(2, err.Error(), "")
	}
	if columns == 4 && rec[3] != "" {
		if row.Origin, err = ParseOrigin(rec[3]); err != nil {
			mistake(3, err.Error(), "")
		}
	}
	if len(h.problems) == before {
		h.rows = append(h.rows, row)
	}
}

// parseHealth reads a level, "unknown", or both ends of a range.
func parseHealth(s string) (health.Range, error) {
	if s == "unknown" {
		return health.Unknown, nil
	}
	a, b, isRange := strings.Cut(s, "...")
	low, err := health.ParseLevel(a)
	if err != nil {
		return health.Range{}, fmt.Errorf("%w; or unknown, or a range such as ok...major", err)
	}
	if !isRange {
		return health.Exactly(low), nil
	}
	high, err := health.ParseLevel(b)
	if err != nil {
		return health.Range{}, fmt.Errorf("%w; or unknown, or a range such as ok...major", err)
	}
	if high < low {
		return health.Range{}, fmt.Errorf("%q is not a range: %s is worse than %s", s, low, high)
	}
	return health.Range{Low: low, High: high}, nil
}

// HealthText writes a health as a history has it.
func HealthText(r health.Range) string {
	switch {
	case r.Low == r.High:
		return r.Low.String()
	case r == health.Unknown:
		return "unknown"
	}
	return r.Low.String() + "..." + r.High.String()
}

// Segments returns the history of one service until a moment: the last state holds on. It is empty when there is no row
// before that moment. The first segment begins where the service is first heard of.
func Segments(rows []Row, ref manifest.Ref, until time.Time) []Segment {
	var out []Segment
	for _, r := range rows {
		if r.Ref != ref || !r.At.Before(until) {
			continue
		}
		if n := len(out); n > 0 {
			out[n-1].To = r.At
		}
		out = append(out, Segment{From: r.At, To: until, State: r.State})
	}
	return slices.Clip(out)
}
