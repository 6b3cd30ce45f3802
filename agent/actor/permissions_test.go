package actor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

const goodPermissions = `version: 1
signingRoot: ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
approvers: []
maxRisk: R2
actions:
  - {action: cpu.weight, targets: [{unit: batch.service}], min: 10, max: 100, maxLease: 10m, rate: 6/5m}
  - action: process.affinity
    targets: [{process: {exe: /usr/bin/x, user: batch}}, {cgroup: /a/b}]
    min: 25
    max: 100
    maxLease: 90s
    rate: 1/1h
`

func TestPermissions(t *testing.T) {
	p, err := ParsePermissions([]byte(goodPermissions))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Hash) != 32 || p.MaxRisk != command.R2 || len(p.Actions) != 2 || len(p.Trust.SigningRoot) != 32 {
		t.Fatalf("%+v", p)
	}
	g, ok := p.Grant(command.Action{Name: "cpu.weight", Target: command.Target{Unit: "batch.service"}})
	if !ok || g.Min != 10 || g.Max != 100 || g.MaxLease != 10*time.Minute || g.Rate() != "6/5m" {
		t.Fatalf("%+v", g)
	}
	if _, ok := p.Grant(command.Action{Name: "cpu.quota", Target: command.Target{Unit: "batch.service"}}); ok {
		t.Fatal("another action is granted")
	}
	if _, ok := p.Grant(command.Action{Name: "process.affinity", Target: command.Target{Process: &command.Process{Exe: "/usr/bin/x"}}}); ok {
		t.Fatal("any user is granted where one is named")
	}
	b, err := os.ReadFile("../../deploy/examples/permissions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePermissions(b); err != nil {
		t.Fatalf("the example: %v", err)
	}
}

func TestPermissionsRefused(t *testing.T) {
	for _, x := range []struct{ name, old, new, want string }{
		{"unknown key", "maxRisk: R2", "maxRisk: R2\nmaxrisk: R3", `line 5, column 1: permissions: unknown key "maxrisk": did you mean "maxRisk"?`},
		{"unknown key in an action", "rate: 6/5m}", "rate: 6/5m, maxLeese: 1m}", `line 6, column 106: action: unknown key "maxLeese": did you mean "maxLease"?`},
		{"missing key", "min: 10, ", "", `key "min" is missing`},
		{"missing root", "signingRoot: ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n", "", `key "signingRoot" is missing`},
		{"missing approvers", "approvers: []\n", "", `key "approvers" is missing`},
		{"version", "version: 1", "version: 2", "line 1, column 10: version 2 is not known here"},
		{"bad key", "ed25519:11q", "ed25519:1", "line 2, column 14: signingRoot:"},
		{"bad approver", "approvers: []", "approvers: [ed25519:AA==]", "line 3, column 13: approvers:"},
		{"bad risk", "maxRisk: R2", "maxRisk: R9", "is not a risk class"},
		{"unknown action", "action: cpu.weight", "action: cpu.wieght", `action "cpu.wieght" is not known here: did you mean "cpu.weight"?`},
		{"two targets in one", "{unit: batch.service}", "{unit: batch.service, cgroup: /x}", "exactly one of"},
		{"empty target", "{unit: batch.service}", "{}", "exactly one of"},
		{"wrong target", "{unit: batch.service}", "{process: {exe: /x}}", "cpu.weight cannot hold on to a process"},
		{"root cgroup", "{cgroup: /a/b}", "{cgroup: /}", "root cgroup"},
		{"wide range", "min: 10, max: 100", "min: 0, max: 100", "takes 1 to 10000"},
		{"backwards", "min: 10, max: 100", "min: 100, max: 10", "takes 1 to 10000"},
		{"text for a number", "min: 10,", "min: ten,", "min: expected a whole number"},
		{"lease", "maxLease: 10m", "maxLease: soon", "is not a length of time"},
		{"rate", "rate: 6/5m", "rate: lots", "is not of the form"},
		{"twice", "maxRisk: R2", "maxRisk: R2\nmaxRisk: R1", ""},
		{"list for a map", goodPermissions, "- a\n- b\n", "expected keys and values"},
		{"empty", goodPermissions, "", "expected one YAML document"},
		{"two documents", "version: 1", "version: 1\n---\nversion: 1", "expected one YAML document"},
		{"not YAML", "version: 1", "version: [1", "not YAML"},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := strings.Replace(goodPermissions, x.old, x.new, 1)
			if text == goodPermissions {
				t.Fatal("the case changes nothing")
			}
			p, err := ParsePermissions([]byte(text))
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Fatalf("%v\nwant %s", err, x.want)
			}
			if len(p.Actions) != 0 || p.MaxRisk != 0 || p.Trust.SigningRoot != nil {
				t.Fatal("something is permitted beside the error")
			}
		})
	}
	_, err := ParsePermissions([]byte("version: 1\nfoo: 1\nbar: 2\n"))
	if n := strings.Count(err.Error(), "unknown key"); n != 2 {
		t.Fatalf("%d of 2 unknown keys are reported: %v", n, err)
	}
}

func TestPermissionsOwner(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "permissions.yaml")
	reset := func() {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(goodPermissions), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	uid := os.Geteuid()
	reset()
	if _, err := LoadPermissions(file, uid); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"group may write":        func() error { return os.Chmod(file, 0o620) },
		"others may write":       func() error { return os.Chmod(file, 0o602) },
		"folder open to others":  func() error { return os.Chmod(dir, 0o757) },
		"folder open to a group": func() error { return os.Chmod(dir, 0o775) },
	} {
		reset()
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPermissions(file, uid); err == nil || !strings.Contains(err.Error(), "written by others") {
			t.Errorf("%s: %v", name, err)
		}
	}
	reset()
	if err := os.Chmod(dir, os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPermissions(file, uid); err != nil {
		t.Errorf("sticky folder: %v", err)
	}
	reset()
	if uid == 0 {
		if err := os.Chown(file, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPermissions(file, uid); err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") {
			t.Errorf("another's file: %v", err)
		}
		if _, err := LoadPermissions(file, 12345); err != nil {
			t.Errorf("the actor's own file: %v", err)
		}
	}
	// The folder of a link's target counts, not only that of the link.
	other := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "p"), []byte(goodPermissions), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(other, "p"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPermissions(link, uid); err == nil {
		t.Error("a link into an open folder is followed")
	}
	if _, err := LoadPermissions(dir, uid); err == nil {
		t.Error("a folder is read")
	}
	if _, err := LoadPermissions(filepath.Join(dir, "none"), uid); err == nil {
		t.Error("a missing file is read")
	}
}

func TestSettings(t *testing.T) {
	s, err := ParseSettings([]byte("host: web1\npermissions: /etc/evenkeel/p/permissions.yaml\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Host: "web1", State: "/var/lib/evenkeel-actor", Permissions: "/etc/evenkeel/p/permissions.yaml", KillFile: "/etc/evenkeel/p/kill",
		Socket: "/var/lib/evenkeel-actor/actor.sock", Audit: "/var/lib/evenkeel-actor/audit",
	}
	if s != want {
		t.Fatalf("%+v", s)
	}
	for text, want := range map[string]string{
		"":                                "one YAML document",
		"state: /x":                       `key "host" is missing`,
		"host: Web1":                      "is not an agent id",
		"host: a\nstate: x":               "is not an absolute path",
		"host: a\nsockett: /x":            `did you mean "socket"?`,
		"host: a\nagentUser: nobody-such": "there is no user",
		"host: a\nsocket: /" + strings.Repeat("x", 120): "a unix address holds 107",
	} {
		if _, err := ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParsePermissions(f *testing.F) {
	f.Add([]byte(goodPermissions))
	f.Add([]byte(declaredPermissions))
	f.Add([]byte("actions: [{targets: [{process: 1}]}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePermissions(b)
		if err != nil {
			if len(p.Actions) != 0 {
				t.Fatal("something is permitted beside the error")
			}
			return
		}
		for _, g := range p.Actions {
			spec, ok := command.Lookup(g.Action)
			if !ok || g.Min < spec.Min || g.Max > spec.Max || g.Min > g.Max || g.MaxLease <= 0 || g.Times < 1 || g.Per <= 0 {
				t.Fatalf("grant %+v", g)
			}
			for _, target := range g.Targets {
				if target.Validate() != nil || target.Kind() == command.OnHost && !spec.On(command.OnHost) {
					t.Fatalf("target %+v", target)
				}
			}
		}
	})
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte("host: web1\nstate: /x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSettings(b); err == nil && (s.Host == "" || s.Socket == "") {
			t.Fatalf("%+v", s)
		}
	})
}
