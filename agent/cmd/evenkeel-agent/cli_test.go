package main

import (
	"bytes"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent"
)

var update = flag.Bool("update", false, "write the golden files anew")

func invoke(t *testing.T, in string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), args, strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

// Every verb's help is looked at by a person when it changes.
func TestHelp(t *testing.T) {
	for _, verb := range []string{"", "enroll", "run", "status", "doctor", "check", "config", "config check", "record", "version", "completion"} {
		t.Run(verb, func(t *testing.T) {
			code, out, errOut := invoke(t, "", append(strings.Fields(verb), "--help")...)
			if code != 0 || errOut != "" {
				t.Fatalf("code %d, %s", code, errOut)
			}
			if verb != "config" && !strings.Contains(out, "Examples:") {
				t.Error("help without an example")
			}
			golden(t, "help-"+strings.ReplaceAll("agent "+verb, " ", "-")+".txt", out)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", strings.TrimSuffix(name, "-.txt"))
	if !strings.HasSuffix(path, ".txt") {
		path += ".txt"
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (refresh with -update):\n%s", path, got)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", "state: "+dir+"/state\nchecks: [{name: web, tcp: '127.0.0.1:1'}]\n")
	bad := write("bad.yaml", "perod: 1s\nunits: {max: 0}\n")
	for name, tt := range map[string]struct {
		args []string
		in   string
		code int
		want string
	}{
		"unknown verb":           {args: []string{"enrol"}, code: 2, want: "unknown command \"enrol\""},
		"unknown flag":           {args: []string{"run", "--fast"}, code: 2, want: "unknown flag: --fast"},
		"too many arguments":     {args: []string{"status", "now"}, code: 2, want: "unknown command \"now\""},
		"unknown output":         {args: []string{"status", "-o", "xml"}, code: 2, want: "unknown output \"xml\": expected table or json"},
		"configuration missing":  {args: []string{"run", "--config", dir + "/none.yaml"}, code: 2, want: "cannot read the configuration: open " + dir + "/none.yaml: no such file"},
		"configuration bad":      {args: []string{"run", "--config", bad}, code: 2, want: "bad.yaml:1:1: perod: unknown key: did you mean \"period\"?\nevenkeel-agent: "},
		"config check bad":       {args: []string{"config", "check", "--config", bad}, code: 2, want: "bad.yaml:2:14: units.max: 0 is outside 1 to 4096"},
		"config check missing":   {args: []string{"config", "check", "--config", dir + "/none.yaml"}, code: 2, want: "no such file"},
		"run without enrolment":  {args: []string{"run", "--config", good}, code: 2, want: "this host is not enrolled: run \"evenkeel-agent enroll"},
		"run with a bad level":   {args: []string{"run", "--config", good, "--log-level", "loud"}, code: 2, want: "unknown log level \"loud\""},
		"enroll without a file":  {args: []string{"enroll", "--config", good}, code: 2, want: "--join-file is missing"},
		"enroll, file missing":   {args: []string{"enroll", "--config", good, "--join-file", dir + "/none"}, code: 2, want: "cannot read the join string: open"},
		"enroll with nonsense":   {args: []string{"enroll", "--config", good, "--join-file", "-"}, in: "hello", code: 2, want: "that is not a join string"},
		"enroll with nothing":    {args: []string{"enroll", "--config", good, "--join-file", "-"}, code: 2, want: "the join string is empty"},
		"status, nothing there":  {args: []string{"status", "--config", good}, code: 3, want: "no agent is running with the state folder"},
		"check without --once":   {args: []string{"check", "web", "--config", good}, code: 2, want: "to make one now, add --once"},
		"check unknown":          {args: []string{"check", "db", "--once", "--config", good}, code: 2, want: "no check is called \"db\""},
		"record without a place": {args: []string{"record", "--config", good}, code: 2, want: "--out is missing"},
		"record for no time":     {args: []string{"record", "--config", good, "--out", dir + "/rec", "--for", "0s"}, code: 2, want: "too short"},
		"record over something":  {args: []string{"record", "--config", good, "--out", dir}, code: 2, want: "is not empty"},
		"completion of nothing":  {args: []string{"completion", "csh"}, code: 2, want: "no completion for \"csh\""},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errOut := invoke(t, tt.in, tt.args...)
			if code != tt.code || !strings.Contains(errOut, tt.want) || !strings.HasPrefix(errOut, "evenkeel-agent: ") {
				t.Errorf("code %d, %q; want %d, %q", code, errOut, tt.code, tt.want)
			}
		})
	}
}

func TestGoodVerbs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	l, err := net.Listen("unix", filepath.Join(dir, "x.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(path, []byte("state: "+dir+"/state\nchecks: [{name: web, tcp: '127.0.0.1:1', timeout: 1s}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := invoke(t, "", "config", "check", "--config", path); code != 0 || !strings.Contains(out, "is good") {
		t.Errorf("config check: %d %s", code, out)
	}
	if code, out, _ := invoke(t, "", "check", "web", "--once", "--config", path); code != 1 || !strings.HasPrefix(out, "web is down: connection refused") {
		t.Errorf("check: %d %s", code, out)
	}
	if code, out, _ := invoke(t, "", "check", "web", "--once", "-o", "json", "--config", path); code != 1 || !strings.Contains(out, `"up": false`) {
		t.Errorf("check: %d %s", code, out)
	}
	if code, out, _ := invoke(t, "", "version"); code != 0 || !strings.HasPrefix(out, "evenkeel-agent ") {
		t.Errorf("version: %d %s", code, out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, _ := invoke(t, "", "completion", shell); code != 0 || len(out) < 1000 {
			t.Errorf("completion %s: %d, %d bytes", shell, code, len(out))
		}
	}
	if code, out, _ := invoke(t, "", "doctor", "--config", path); code != 1 || !strings.Contains(out, "fail  state folder") || !strings.Contains(out, "ok    probes") {
		t.Errorf("doctor: %d\n%s", code, out)
	}
}

func TestPrintStatus(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	st := agent.Status{Version: "1", Host: "web-1", PID: 7, Started: at.Add(-time.Hour), At: at, Series: 500, Ticks: 3600}
	st.Session.Connected, st.Session.Address, st.Session.Since = true, "collector:8421", at.Add(-time.Minute)
	st.Session.Certificate, st.Session.AckedSeq, st.Session.AckedAt = at.Add(time.Hour), 3598, at.Add(-2*time.Second)
	st.Spool = agent.SpoolStatus{Bytes: 1 << 20, MaxBytes: 256 << 20, LastSeq: 3600}
	st.Actor.Problem = "no actor is installed or running on this host"
	st.Probes = []agent.ProbeStatus{{Name: "cpu"}, {Name: "disk", Error: "open /proc/diskstats: permission denied"}}
	var running, crashed bytes.Buffer
	if err := printStatus(&running, st, true, at); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-running.txt", running.String())
	st.Session.Connected, st.Session.Error, st.Session.Attempts = false, "connection refused", 4
	if err := printStatus(&crashed, st, false, at.Add(26*time.Hour)); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-crashed.txt", crashed.String())
}
