package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test program be the process that is confined: nothing of that can be undone.
func TestMain(m *testing.M) {
	if dir := os.Getenv("EVENKEEL_CONFINED"); dir != "" {
		if err := json.NewEncoder(os.Stdout).Encode(inside(dir)); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// outcome is what a confined process found that it can do.
type outcome struct {
	Report                         Report
	Err                            string
	Inside, Outside, Exec, Unshare string
	Status                         map[string]string
	Lacks, LacksNothing            string
}

func inside(dir string) outcome {
	var o outcome
	rep, err := Apply(Rules{Keep: map[string]string{"CAP_SYS_NICE": "the test"}, Write: []string{filepath.Join(dir, "in"), filepath.Join(dir, "missing")}})
	o.Report = rep
	if err != nil {
		o.Err = err.Error()
		return o
	}
	say := func(err error) string { return fmt.Sprint(err) }
	// Threads that began before count as well: the goroutine may be on any.
	o.Inside = say(os.WriteFile(filepath.Join(dir, "in", "f"), []byte("x"), 0o600))
	o.Outside = say(os.WriteFile(filepath.Join(dir, "out"), []byte("x"), 0o600))
	program := exec.Command("/bin/true")
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stderr, os.Stderr // not /dev/null, which is out of reach too
	o.Exec = say(program.Run())
	o.Unshare = say(unix.Unshare(unix.CLONE_NEWUTS))
	b, _ := os.ReadFile("/proc/self/status")
	o.Status = map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			o.Status[k] = strings.TrimSpace(v)
		}
	}
	o.Lacks = rep.Lacks(Rules{Keep: map[string]string{"CAP_NET_ADMIN": "x", "CAP_SYS_NICE": "y"}, Write: []string{"/elsewhere"}, Programs: "z"})
	o.LacksNothing = rep.Lacks(Rules{Keep: map[string]string{"CAP_SYS_NICE": "y"}, Write: []string{filepath.Join(dir, "in")}})
	return o
}

func TestApply(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EVENKEEL_CONFINED="+dir)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if o.Err != "" {
		t.Fatal(o.Err)
	}
	t.Logf("%+v", o.Report)
	if o.Status["NoNewPrivs"] != "1" || !o.Report.NoNewPrivileges {
		t.Error("new privileges may be had")
	}
	if o.Inside != "<nil>" {
		t.Errorf("writing where it may: %s", o.Inside)
	}
	if strings.Contains(o.Report.Files, "Landlock") == (o.Outside == "<nil>") && !strings.Contains(o.Report.Files, "has no Landlock") {
		t.Errorf("writing elsewhere: %s, though %s", o.Outside, o.Report.Files)
	}
	if strings.Contains(o.Report.Calls, "seccomp)") {
		if !strings.Contains(o.Exec, syscall.EPERM.Error()) || !strings.Contains(o.Unshare, syscall.EPERM.Error()) {
			t.Errorf("a program: %s; a namespace: %s", o.Exec, o.Unshare)
		}
	}
	if os.Geteuid() == 0 {
		const nice = "0000000000800000" // CAP_SYS_NICE
		if o.Status["CapEff"] != nice || o.Status["CapPrm"] != nice || o.Status["CapInh"] != "0000000000000000" {
			t.Errorf("effective %s, permitted %s", o.Status["CapEff"], o.Status["CapPrm"])
		}
		if len(o.Report.Capabilities) != 1 || o.Report.Capabilities[0] != (Capability{"CAP_SYS_NICE", "the test"}) {
			t.Errorf("kept: %v", o.Report.Capabilities)
		}
		if !strings.Contains(o.Lacks, "CAP_NET_ADMIN") || strings.Contains(o.Lacks, "CAP_SYS_NICE") {
			t.Errorf("lacks %q", o.Lacks)
		}
	}
	if !strings.Contains(o.Lacks, "starting programs") || !strings.Contains(o.Lacks, "/elsewhere") || o.LacksNothing != "" {
		t.Errorf("lacks %q and %q", o.Lacks, o.LacksNothing)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); o.Outside != "<nil>" && !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused write left a file")
	}
}

// A process that gave up nothing lacks nothing.
func TestLacksNothing(t *testing.T) {
	var rep Report
	if why := rep.Lacks(Rules{Keep: map[string]string{"CAP_KILL": "x"}, Write: []string{"/x"}, Programs: "y", AnyFile: "z", KeepAll: "w"}); why != "" {
		t.Error(why)
	}
}
