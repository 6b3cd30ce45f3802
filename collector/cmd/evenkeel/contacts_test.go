package main

import (
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/ctl"
)

func TestContacts(t *testing.T) {
	const at = "2026-11-25T03:00:00Z"
	for name, of := range map[string]string{
		"contacts-member": "component/web@web1", "contacts-service": "service/checkout", "contacts-unowned": "component/search", "contacts-host": "host/db1",
	} {
		out, errs, code := evenkeel(t, "", "contacts", "-f", shop, "--of", of, "--at", at)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
		golden(t, name, out)
	}
	out, errs, code := evenkeel(t, "", "contacts", "-f", shop, "--of", "component/san", "--at", at, "-o", "json")
	if code != 0 {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "contacts-json", out)
	// About everything that is bad, the costliest first; and nobody where nothing is.
	out, errs, code = evenkeel(t, "", "contacts", "-f", shop, "--set", "component/web=critical", "--set", "component/san=critical", "--at", at)
	if code != 0 {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "contacts-now", out)
	if out, errs, code = evenkeel(t, "", "contacts", "-f", shop, "--at", at); code != 0 || out != "no service is known to be bad: there is nobody to call\n" {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
}

func TestContactsRefuses(t *testing.T) {
	for _, tt := range []struct {
		flags []string
		says  string
	}{
		{[]string{"-f", shop, "--of", "service/chekout"}, "of: service/chekout is not there"},
		{[]string{"-f", shop, "--of", "team/shop"}, "expected a service, a component, or a host"},
		{[]string{"-f", shop, "--of", "service/checkout", "--at", "noon"}, "expected RFC 3339"},
	} {
		out, errs, code := evenkeel(t, "", append([]string{"contacts"}, tt.flags...)...)
		if code != ctl.ExitUsage || out != "" || !strings.Contains(errs, tt.says) {
			t.Errorf("%q: exit %d, %s%s", tt.flags, code, out, errs)
		}
	}
}
