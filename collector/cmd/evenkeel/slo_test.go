package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/ctl"
)

const sloDir = "testdata/slo"

// What is promised, and how it stands: three objectives, one of them without history.
func TestSLOShow(t *testing.T) {
	const at = "2026-11-25T10:00:00Z"
	for name, flags := range map[string][]string{
		"slo":              nil,
		"slo-history":      {"--history", sloDir + "/states.csv"},
		"slo-history-json": {"--history", sloDir + "/states.csv", "-o", "json"},
	} {
		out, errs, code := evenkeel(t, "", append([]string{"slo", "show", "-f", sloDir, "--at", at}, flags...)...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
		golden(t, name, out)
	}
	help, _, code := evenkeel(t, "", "slo", "show", "--help")
	if code != 0 || !strings.Contains(help, "Examples:\n  evenkeel slo show") {
		t.Errorf("exit %d, %s", code, help)
	}
	golden(t, "slo-help", help)
}

// The spans of the JSON add up exactly.
func TestSLOPartsAddUp(t *testing.T) {
	out, errs, code := evenkeel(t, "", "slo", "show", "-f", sloDir, "--history", sloDir+"/states.csv", "--at", "2026-11-25T10:00:00.123456789Z", "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d, %s", code, errs)
	}
	var r struct {
		SLOs []struct {
			Ref        string
			Evaluation *struct {
				Scheduled, Good, Unsure string
				Bad                     map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range r.SLOs {
		if s.Evaluation == nil {
			continue
		}
		n++
		var sum time.Duration
		for _, text := range append([]string{s.Evaluation.Good, s.Evaluation.Unsure}, values(s.Evaluation.Bad)...) {
			sum += span(t, text)
		}
		if sum != span(t, s.Evaluation.Scheduled) || len(s.Evaluation.Bad) != 5 {
			t.Errorf("%s: the parts add up to %s, not to %s", s.Ref, sum, s.Evaluation.Scheduled)
		}
	}
	if n != 2 {
		t.Errorf("%d objectives were evaluated", n)
	}
}

func values(m map[string]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func span(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Error(err)
	}
	return d
}

func TestSLORefuses(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "h.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const hours = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: a}
---
apiVersion: evenkeel/v1
kind: SLO
metadata: {name: a}
spec: {service: service/a, objective: 99%, window: {rolling: 1d}, hours: calendar/office}
`
	for _, tt := range []struct {
		stdin string
		flags []string
		says  string
	}{
		{"", []string{"-f", sloDir, "--at", "today"}, "expected RFC 3339"},
		{"", []string{"-f", sloDir, "--history", "nowhere.csv"}, "no such file"},
		{"", []string{"-f", sloDir, "--history", file("")}, "h.csv:1:1: the file is empty"},
		{"", []string{"-f", sloDir, "--history", file("ref,time\n")}, `h.csv:1:1: the first line is "ref,time"`},
		{"", []string{"-f", sloDir, "--history", file("ref,time,level\nservice/checkout,2026-11-25T10:00:00Z,okay\n")}, `h.csv:2:39: "okay" is not a level`},
		{"", []string{"-f", sloDir, "--history", file("ref,time,level\nservice/chekout,2026-11-25T10:00:00Z,ok\n")}, `h.csv:2:1: service/chekout is not among the manifests (did you mean "service/checkout"?)`},
		{strings.Replace(hours, "service/a,", "service/b,", 1), []string{"-f", "-"}, "stdin:8:17: service/b is not there"},
		{hours, []string{"-f", "-"}, "calendar/office"},
	} {
		out, errs, code := evenkeel(t, tt.stdin, append([]string{"slo", "show"}, tt.flags...)...)
		if code != ctl.ExitUsage || out != "" || !strings.Contains(errs, tt.says) {
			t.Errorf("%q: exit %d, %s%s", tt.flags, code, out, errs)
		}
	}
}
