package table_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/table"
)

func read(text string) (rows int, told []string) {
	for _, p := range table.Read("f.csv", []byte(text), []string{"ref", "at", "n", "what?", "note?"}, func(r *table.Row) {
		rows++
		r.Ref("ref", "service", "host")
		r.Time("at")
		r.Number("n", 1, 4)
		if r.Text("what") != "" {
			r.OneOf("what", "good", "bad")
		}
	}) {
		told = append(told, p.String())
	}
	return rows, told
}

func TestRead(t *testing.T) {
	const head = "ref,at,n\n"
	for name, tt := range map[string]struct {
		text string
		rows int
		want []string
	}{
		"nothing":       {"", 0, []string{"f.csv:1:1: the file is empty (its first line is ref,at,n, and then what,note where they are known)"}},
		"another head":  {"ref,when,n\n", 0, []string{`f.csv:1:1: the first line is "ref,when,n" (expected ref,at,n, and then what,note where they are known)`}},
		"too wide":      {"ref,at,n,what,note,more\n", 0, []string{`f.csv:1:1: the first line is "ref,at,n,what,note,more" (expected ref,at,n, and then what,note where they are known)`}},
		"only a head":   {head, 0, nil},
		"a row":         {head + "service/a,2026-11-25T10:00:00Z,1\n", 1, nil},
		"wider":         {"\ufeffref,at,n,what\nhost/a,,4,good\n", 1, nil},
		"fields":        {head + "service/a,2026-11-25T10:00:00Z\n", 0, []string{"f.csv:2:1: there are 2 fields: the first line has 3"}},
		"no reference":  {head + "web,,1\n", 1, []string{`f.csv:2:1: "web" is not a reference to a service, host (expected such as service/NAME)`}},
		"no time":       {head + "service/a,noon,1\n", 1, []string{`f.csv:2:11: "noon" is not a time (expected RFC 3339, such as 2026-11-25T10:00:00Z)`}},
		"far away":      {head + "service/a,1066-10-14T09:00:00Z,1\n", 1, []string{`f.csv:2:11: "1066-10-14T09:00:00Z" is in the year 1066: expected 1971 to 2199 (expected RFC 3339, such as 2026-11-25T10:00:00Z)`}},
		"no number":     {head + "service/a,,5\n", 1, []string{`f.csv:2:12: "5" is not a whole number from 1 to 4`}},
		"another word":  {"ref,at,n,what\nhost/a,,4,goood\n", 1, []string{`f.csv:2:11: "goood" is not a value of what: expected good, bad (did you mean "good"?)`}},
		"no CSV":        {head + "a,\"b\n", 0, []string{"f.csv:2:6: this is not CSV: extraneous or missing \" in quoted-field"}},
		"many mistakes": {head + strings.Repeat("web,,1\n", 50), 20, nil},
	} {
		rows, told := read(tt.text)
		if name == "many mistakes" {
			if len(told) != 21 || told[20] != "f.csv:22:1: reading ends here: there are too many mistakes" {
				t.Errorf("%d: %q", len(told), told)
			}
			told = nil
		}
		if diff := cmp.Diff(tt.want, told); diff != "" || rows != tt.rows {
			t.Errorf("%s: %d rows\n%s", name, rows, diff)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("ref,at,n\nservice/a,2026-11-25T10:00:00Z,1\n")
	f.Add("ref,at,n,what\nhost/a,,4,\"go\nod\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, told := read(text)
		if len(told) > 64 {
			t.Errorf("%d problems", len(told))
		}
		if rows == 0 && len(told) == 0 && strings.Count(text, "\n") > 1 && strings.HasPrefix(text, "ref,at,n\nservice/") {
			t.Error("a row was passed over")
		}
	})
}
