package reason_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

var fence, code = regexp.MustCompile("(?s)```.*?```"), regexp.MustCompile("`[^`]+`")

const retail = "../../deploy/examples/retail"

// Every field of an answer about the worked example is named on a page that is about it.
func TestFieldsAreDocumented(t *testing.T) {
	var maps []manifest.File
	names, err := filepath.Glob(retail + "/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		maps = append(maps, manifest.File{Name: name, Text: []byte(content(t, name))})
	}
	at := time.Date(2026, 11, 26, 19, 0, 0, 0, time.UTC)
	bad := map[string]string{"component/san": "critical", "component/payment-provider": "critical"}
	for _, c := range []struct {
		question, pages string
		set             map[string]string
		args            reason.Args
	}{
		{"simulate", "reason", bad, nil},
		{"recovery-plan", "recovery", bad, nil},
		{"cause", "causes", bad, nil},
		{"impact", "causes", nil, reason.Args{"of": "component/san"}},
		{"contacts", "slo", bad, reason.Args{"of": "component/san"}},
		{"slo", "slo", nil, nil},
		{"whatif", "whatif", nil, reason.Args{"take": "component/san", "for": "2h", "horizon": "7d"}},
		{"portfolio", "reports", nil, nil},
		{"report", "reports slo coverage", nil, reason.Args{"month": "2026-10", "timezone": "Europe/Berlin", "incidents": content(t, retail+"/incidents.csv"), "faults": content(t, retail+"/faults.csv")}},
		{"coverage", "coverage", nil, nil},
		{"agreements", "coverage", nil, reason.Args{"incidents": content(t, retail+"/incidents.csv")}},
		{"review", "review", nil, reason.Args{"outcomes": content(t, retail+"/outcomes.csv")}},
		{"changes", "review", bad, reason.Args{"changes": content(t, retail+"/changes.csv")}},
		{"warning", "warning", nil, reason.Args{"series": content(t, retail+"/series.csv")}},
	} {
		t.Run(c.question, func(t *testing.T) {
			out, problems, err := reason.FromFiles(c.question, maps, picture.Options{
				At: at, Set: c.set, History: &manifest.File{Name: "history.csv", Text: []byte(content(t, retail+"/history.csv"))},
			}, c.args)
			if err != nil || len(problems) > 0 {
				t.Fatal(problems, err)
			}
			var answer any
			if err := json.Unmarshal(out, &answer); err != nil {
				t.Fatal(err)
			}
			var named []string
			for page := range strings.FieldsSeq(c.pages) {
				text := fence.ReplaceAllString(content(t, "../../docs/"+page+".md"), "")
				for _, words := range code.FindAllString(text, -1) {
					named = append(named, strings.FieldsFunc(words, func(r rune) bool { return strings.ContainsRune("`.[] ", r) })...)
				}
			}
			for _, field := range fields(answer) {
				if !slices.Contains(named, field) && field != "apiVersion" && field != "kind" {
					t.Errorf("no page of %s names %s", c.pages, field)
				}
			}
		})
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fields returns the names of all fields in an answer, but for those that are data: units of amounts.
func fields(x any) (out []string) {
	switch x := x.(type) {
	case map[string]any:
		for name, value := range x {
			if name != "EUR" && name != "points" {
				out = append(out, name)
			}
			out = append(out, fields(value)...)
		}
	case []any:
		for _, value := range x {
			out = append(out, fields(value)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
