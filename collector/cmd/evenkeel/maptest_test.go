package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The example's own tests hold, and one that does not is told of.
func TestMapTests(t *testing.T) {
	out, errs, code := evenkeel(t, "", "test", "-f", shop)
	if code != 0 || strings.Contains(out, "FAIL") || !strings.HasSuffix(out, " passed, 0 failed\n") || strings.HasPrefix(out, "0") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	wrong := "apiVersion: evenkeel/v1\nkind: MapTest\nmetadata: {name: wrong}\nspec:\n  cases:\n" +
		"    - {name: the web is gone, at: 2026-11-25T10:00:00Z, set: {component/web: critical}, expect: {health: {service/checkout: ok}}}\n"
	out, _, code = evenkeel(t, wrong, "test", "-f", shop, "-f", "-")
	if code != 1 || !strings.Contains(out, "FAIL  maptest/wrong: the web is gone\n      health of service/checkout: expected ok, got critical\n") || !strings.HasSuffix(out, " passed, 1 failed\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, _, code = evenkeel(t, wrong, "test", "-f", shop, "-f", "-", "-o", "json")
	var r struct {
		Kind   string
		Failed int
		Cases  []struct {
			Test     string
			Failures []struct{ Of, Expected, Got string }
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || r.Failed != 1 || r.Kind != "MapTestReport" || r.Cases[len(r.Cases)-1].Failures[0].Got != "critical" {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	for line, want := range map[string]string{"test": "say what to test", "test -f ../../../docs/adr": "holds no .yaml"} {
		if _, errs, code := evenkeel(t, "", strings.Fields(line)...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}
