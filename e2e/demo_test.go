//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The demo is honest: it fails where what it claims to show cannot have happened.
func TestDemoFailsWhereNothingCanBeShown(t *testing.T) {
	demo, err := filepath.Abs("../bin/evenkeel-demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ sabotage, says string }{ // without the batch job, another user of the machine may crowd it, and is no target
		{"permissions", "no action worked within 35 s"},
		{"batch", "within 35 s"},
		{"actor", "was not taken back within 25 s"},
	} {
		t.Run(c.sabotage, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, demo, "--break", c.sabotage, "--state", t.TempDir())
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.WaitDelay = 20 * time.Second
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("exit: %v, want code 1", err)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("it does not say why: want %q", c.says)
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}
