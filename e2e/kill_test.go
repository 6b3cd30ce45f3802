//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

// Collector, agent and actor are killed at random moments, alone and together, and started again: what was acked is found
// by query with its value, no command is carried out twice, everything is taken back. scripts/soak says how that is known;
// make soak runs the same for an hour.
func TestKills(t *testing.T) {
	root := rig.Root(t)
	cmd := exec.Command(filepath.Join(root, "scripts", "soak", "run"))
	cmd.Env = append(rig.Marked(nil), "ROUNDS=8", "DURATION=3m")
	if os.Getenv("EK2E_KEEP") != "" {
		cmd.Env = append(cmd.Env, "KEEP=1")
	}
	out, err := cmd.CombinedOutput()
	t.Log("\n" + strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("the soak failed: %v", err)
	}
}
