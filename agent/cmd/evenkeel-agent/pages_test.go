package main

import (
	"bytes"
	"context"
	"testing"
)

// The program goes on as before with its code unmapped, and did have some of it mapped.
func TestForgetStart(t *testing.T) {
	version := func() string {
		var out bytes.Buffer
		if code := execute(context.Background(), []string{"version"}, nil, &out, &out); code != 0 {
			t.Fatalf("exit code %d: %s", code, out.String())
		}
		return out.String()
	}
	before := version()
	if n := forgetStart(); n < 1<<20 {
		t.Errorf("%d bytes were let go", n)
	}
	if after := version(); after != before {
		t.Errorf("%q, was %q", after, before)
	}
}
