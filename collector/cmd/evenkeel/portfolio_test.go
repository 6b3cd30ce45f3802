package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/ctl"
)

// The portfolio is a document too, in every format of a report.
func TestPortfolioDocument(t *testing.T) {
	args := []string{
		"portfolio", "-f", shop, "--history", "testdata/history.csv", "--at", "2026-11-25T10:00:00Z", "--timezone", "Europe/Berlin", "--set", "component/web=critical",
	}
	for _, format := range []string{"md", "html", "csv", "json", "pdf"} {
		out, errs, code := evenkeel(t, "", append(args, "--format", format)...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", format, code, errs)
		}
		switch format {
		case "md", "csv":
			golden(t, "portfolio."+format, out)
		case "html":
			if !strings.Contains(out, "<h1>Service portfolio</h1>") || strings.Contains(out, "<script") {
				t.Error(out)
			}
		case "json":
			if same, _, _ := evenkeel(t, "", append(args, "-o", "json")...); strings.Join(strings.Fields(same), "") != strings.Join(strings.Fields(out), "") {
				t.Errorf("the JSON is another one than that of -o json")
			}
		case "pdf":
			if !strings.HasPrefix(out, "%PDF-1.") || !strings.HasSuffix(out, "%%EOF\n") {
				t.Errorf("%d bytes are no PDF", len(out))
			}
		}
		file := filepath.Join(t.TempDir(), "portfolio")
		if _, errs, code = evenkeel(t, "", append(args, "--format", format, "--to", file)...); code != 0 || !strings.Contains(errs, "bytes") {
			t.Errorf("%s: exit %d, %s", format, code, errs)
		}
		if again, err := os.ReadFile(file); err != nil || string(again) != out {
			t.Errorf("%s: the file is another one: %v", format, err)
		}
	}
	for _, tt := range [][2]string{{"--format doc", "expected md, html, csv, json or pdf"}, {"--to x", "say --format"}} {
		if _, errs, code := evenkeel(t, "", append(args, strings.Fields(tt[0])...)...); code != ctl.ExitUsage || !strings.Contains(errs, tt[1]) {
			t.Errorf("%s: exit %d, %s", tt[0], code, errs)
		}
	}
}
