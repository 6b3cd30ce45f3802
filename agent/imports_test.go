package agent_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The agent's program holds nothing that could act on a host, and none of the engines that are too large for it.
func TestAgentCannotAct(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/evenkeel-agent")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("only %d packages listed", len(deps))
	}
	const ours = "github.com/evenkeel/evenkeel/"
	for _, dep := range deps {
		for _, banned := range []string{
			ours + "agent/actuator", ours + "collector", "go.etcd.io/", "github.com/prometheus/", "github.com/VictoriaMetrics/", "github.com/hashicorp/",
			"github.com/coreos/go-systemd", "github.com/godbus",
		} {
			if strings.HasPrefix(dep, banned) {
				t.Errorf("the agent reaches %s", dep)
			}
		}
		if dep == ours+"agent/actor" {
			t.Errorf("the agent reaches %s", dep)
		}
	}
}

// acting are the calls that change other processes, cgroups or the network. No source file of the agent's own packages
// names one.
var acting = []string{
	"SchedSetaffinity", "SchedSetAttr", "Setpriority", "Kill(", "PidfdSendSignal", "Prlimit", "PtraceAttach", "Reboot(", "Mount(", "Unmount(",
	"InitModule", "Setns(", "Unshare(", "Sethostname", "Adjtimex", "Settimeofday", "exec.Command", "StartProcess", "ForkExec", "syscall.Exec(",
}

func TestNoActingCalls(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{$d := .Dir}}{{range .GoFiles}}{{$.ImportPath}} {{$d}}/{{.}}\n{{end}}", "./cmd/evenkeel-agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(path, "github.com/evenkeel/evenkeel/") || strings.Contains(path, "/proto/") {
			continue
		}
		seen++
		data := readFile(t, file)
		for _, call := range acting {
			if strings.Contains(data, call) {
				t.Errorf("%s names %s", file, call)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d files looked at", seen)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
