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

// A starter map of documents of hosts can be simulated beside them.
func TestStarterMap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "map")
	hosts := filepath.Join(t.TempDir(), "hosts.yaml")
	text := "apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: w1, labels: {product: shop, tier: web}}\n---\n" +
		"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: x1}\n"
	if err := os.WriteFile(hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, code := evenkeel(t, "", "map", "init", "-f", hosts, "--dir", dir)
	if code != 0 || !strings.Contains(errs, "gap: host/x1: it is on no map: it has none of the labels product, tier\n") {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	out, errs, code := evenkeel(t, "", "simulate", "-f", dir, "-f", hosts, "--set", "component/shop-web@w1=critical")
	if code != 0 || !strings.Contains(out, "service/shop") || !strings.Contains(out, "component/shop-web is critical") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	out, errs, code = evenkeel(t, "", "map", "init", "-f", hosts, "-f", dir)
	if code != 0 || out != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}
