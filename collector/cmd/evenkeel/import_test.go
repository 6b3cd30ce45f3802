package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is imported can be simulated as it is, and is not written over.
func TestImportedFilesAreAMap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "map")
	csv := "service,owner,criticality,hours,vendor,dependsOn\nshop,sales,1,24x7,,pay\npay,,2,mon..fri 08:00-18:00,Acme,\n"
	out, errs, code := evenkeel(t, csv, "import", "csv", "-", "--timezone", "Europe/Berlin", "--dir", dir)
	if code != 0 || strings.Count(out, "\n") != 4 || !strings.Contains(errs, "gap: service/pay (line 3): no owner") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	ics := "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Christmas\nDTSTART:20261225\nEND:VEVENT\nEND:VCALENDAR\n"
	out, errs, code = evenkeel(t, ics, "import", "ical", "-", "--name", "holidays", "--timezone", "Europe/Berlin")
	if code != 0 {
		t.Fatalf("exit %d, %s", code, errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "holidays.yaml"), []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code = evenkeel(t, "", "simulate", "-f", dir, "--set", "service/pay=critical")
	if code != 0 || !strings.Contains(out, "worst of 1 input: service/pay is critical") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	_, errs, code = evenkeel(t, csv, "import", "csv", "-", "--timezone", "Europe/Berlin", "--dir", dir)
	if code != 2 || !strings.Contains(errs, "is there already") {
		t.Errorf("exit %d, %s", code, errs)
	}
	_, errs, code = evenkeel(t, "service,criticality\nshop,9\n", "import", "csv", "-")
	if code != 2 || !strings.HasPrefix(errs, "stdin:2:6: spec.criticality is 9: expected 1 to 4\n") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
