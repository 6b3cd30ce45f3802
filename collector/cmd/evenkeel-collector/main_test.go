package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/version"
)

var update = flag.Bool("update", false, "write the golden files anew")

func run(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), append([]string{}, args...), &o, &e)
	return o.String(), e.String(), code
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHelp(t *testing.T) {
	var all strings.Builder
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%q lacks an example or a short help", path)
		}
		out, errs, code := run(t, append(append([]string{}, path...), "--help")...)
		if code != 0 || errs != "" || !strings.Contains(out, "Examples:") {
			t.Errorf("%q --help: exit %d, %s%s", path, code, out, errs)
		}
		fmt.Fprintf(&all, "$ evenkeel-collector %s\n%s\n", strings.Join(append(path, "--help"), " "), out)
		for _, sub := range c.Commands() {
			walk(sub, append(append([]string{}, path...), sub.Name()))
		}
	}
	walk(command(io.Discard), nil)
	const path = "testdata/help.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("the help differs from %s (run with -update and read the difference):\n%s", path, all.String())
	}
}

func TestConfigCheck(t *testing.T) {
	for _, example := range []string{"../../../deploy/examples/collector.yaml", write(t, "empty.yaml", "")} {
		if out, errs, code := run(t, "config", "check", "--config", example); code != 0 || out != example+": ok\n" || errs != "" {
			t.Errorf("%s: exit %d, %s%s", example, code, out, errs)
		}
	}
	path := write(t, "collector.yaml", `name: keel-1
stat: /var/lib/keel
listen:
  http: "8420"
  agnts: 127.0.0.1:8421
store: {interval: 10ms, minFree: 12parsecs}
logLevel: loud
`)
	out, errs, code := run(t, "config", "check", "--config", path)
	if code != exitUsage || out != "" {
		t.Errorf("exit %d, %s", code, out)
	}
	// Every mistake at once, each with its line and column.
	for _, want := range []string{
		"\n" + path + `:2:1: stat: unknown key: did you mean "state"?`,
		path + `:4:9: `, `"8420" is not an address`,
		path + `:5:3: listen.agnts: unknown key: did you mean "agents"?`,
		path + `:6:19: `, "not between 1s and 5m",
		path + `:6:34: `, "12parsecs",
		path + `:7:11: `, `"loud" is not a level`,
	} {
		if !strings.Contains("\n"+errs, want) {
			t.Errorf("the mistakes lack %q:\n%s", want, errs)
		}
	}
	// run refuses the same file before it opens anything.
	if _, again, code := run(t, "run", "--config", path); code != exitUsage || again != errs {
		t.Errorf("run: exit %d, %s", code, again)
	}
	if _, errs, code := run(t, "config", "check", "--config", path+"x"); code != exitUsage || !strings.Contains(errs, "no such file") {
		t.Errorf("no such file: exit %d, %s", code, errs)
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"rnu"}, "unknown command"},
		{[]string{"run", "now"}, "evenkeel-collector run --help"},
		{[]string{"run", "--cnfig", "x"}, "unknown flag"},
		{[]string{"config", "chek"}, "evenkeel-collector config --help"},
		{[]string{"dev", "--state", dir, "--permissions", "p.yaml"}, "give --actor too"},
		{[]string{"dev", "--state", dir, "--host", "not a name"}, "name:"},
	} {
		if out, errs, code := run(t, tt.args...); code != exitUsage || !strings.Contains(errs, tt.says) || out != "" {
			t.Errorf("%q: exit %d, %s%s", tt.args, code, out, errs)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("what was refused left %v, %v", left, err)
	}
	if out, _, code := run(t, "version"); code != 0 || out != version.Line("evenkeel-collector")+"\n" {
		t.Errorf("version: exit %d, %s", code, out)
	}
	if out, _, code := run(t); code != 0 || !strings.Contains(out, "Exit codes:") {
		t.Errorf("no arguments: exit %d, %s", code, out)
	}
}

// A state folder that cannot be used is a failure of the machine, not of what was typed.
func TestRunFails(t *testing.T) {
	file := write(t, "file", "")
	config := write(t, "collector.yaml", "state: "+file+"/below\n")
	if _, errs, code := run(t, "run", "--config", config); code != exitFailed || !strings.Contains(errs, "cannot use the state folder") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestDevFlags(t *testing.T) {
	cmd := devCommand(io.Discard)
	for name, want := range map[string]string{"state": ".state/dev", "host": "", "map": "[]", "actor": "false", "permissions": "", "default-ports": "false", "quiet": "false"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || f.DefValue != want || f.Usage == "" {
			t.Errorf("--%s: %+v, wanted the default %q", name, f, want)
		}
	}
}
