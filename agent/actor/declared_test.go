package actor

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/plugin"
	"github.com/evenkeel/evenkeel/pkg/command"
)

const declaredPermissions = `version: 1
signingRoot: ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
approvers: []
maxRisk: R3
places:
  - {name: old-logs, root: /var/log/batch, match: "*.log.*", olderThan: 24h, how: empty}
plugins:
  - name: cache-share
    exe: /usr/local/lib/cache-share
    sha256: 9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08
    user: cache
    get: [get, "{target}"]
    set: [set, "{target}", "{value}"]
    timeout: 10s
    memory: 64
actions:
  - {action: file.relief, targets: [{place: old-logs}], min: 1, max: 2048, maxLease: 1m, rate: 3/24h}
  - {action: "plugin:cache-share", targets: [{unit: cache.service}, {host: self}, {port: 80/tcp}], min: 10, max: 100, maxLease: 10m, rate: 6/5m}
  - {action: sysctl, targets: [{sysctl: net.core.somaxconn}], min: 128, max: 8192, maxLease: 30m, rate: 3/1h}
`

func TestDeclared(t *testing.T) {
	p, err := ParsePermissions([]byte(declaredPermissions))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Places["old-logs"]; got != (actuator.Place{Root: "/var/log/batch", Match: "*.log.*", OlderThan: 24 * time.Hour, Empty: true}) {
		t.Errorf("%+v", got)
	}
	if got := p.Plugins["cache-share"]; got.Exe != "/usr/local/lib/cache-share" || got.Timeout != 10*time.Second || got.Memory != 64<<20 || len(got.Set) != 3 ||
		!strings.HasPrefix(got.SHA256, "9f86d0") || got.User != "cache" {
		t.Errorf("%+v", got)
	}
	for _, a := range []command.Action{
		{Name: "plugin:cache-share"},
		{Name: "plugin:cache-share", Target: command.Target{Port: "80/tcp"}},
		{Name: "sysctl", Target: command.Target{Sysctl: "net.core.somaxconn"}},
		{Name: "file.relief", Target: command.Target{Place: "old-logs"}},
	} {
		if _, ok := p.Grant(a); !ok {
			t.Errorf("%s is not granted", a.Resource())
		}
	}
	actuators := map[string]Actuator{"file.relief": actuator.New(actuator.Config{})["file.relief"]}
	c := describe(Settings{Host: "a"}, p, "", actuators)
	if len(c.Can) < 2 || actuators["plugin:cache-share"] == nil {
		t.Errorf("can: %+v", c.Can)
	}
}

func TestDeclaredRefused(t *testing.T) {
	for _, x := range []struct{ name, old, new, want string }{
		{"the root of all", "root: /var/log/batch", "root: /", `root "/": expected a clean absolute path of two parts or more`},
		{"a top folder", "root: /var/log/batch", "root: /var", `root "/var"`},
		{"a system folder", "root: /var/log/batch", "root: /etc/cron.d", `root "/etc/cron.d"`},
		{"a path that climbs", "root: /var/log/batch", "root: /var/log/../../etc", `root "/var/log/../../etc"`},
		{"every file", `match: "*.log.*"`, `match: "*"`, `match "*": expected a pattern`},
		{"a path as a pattern", `match: "*.log.*"`, `match: "a/*"`, `match "a/*": expected a pattern`},
		{"a bad pattern", `match: "*.log.*"`, `match: "[a"`, `match "[a": expected a pattern`},
		{"no age", "olderThan: 24h, ", "", `key "olderThan" is missing`},
		{"another way", "how: empty", "how: shred", `how "shred": expected delete or empty`},
		{"a relative program", "exe: /usr/local/lib/cache-share", "exe: cache-share", `exe "cache-share" is not a clean absolute path`},
		{"a short hash", "sha256: 9F86", "sha256: 86", "sha256: expected 64 hex digits"},
		{"no user", "    user: cache\n", "", `key "user" is missing`},
		{"a set without the value", `, "{value}"]`, "]", "set: one of the words must be {value}"},
		{"a long time", "timeout: 10s", "timeout: 10m", `timeout "10m" is not a length of time such as 10m, up to 10s`},
		{"no memory", "memory: 64", "memory: 0", "memory: expected 1 to 65536 MiB"},
		{"a name with a slash", "name: cache-share", "name: ../cache", `name "../cache": expected 1 to 63`},
		{"a plugin that is not declared", `action: "plugin:cache-share"`, `action: "plugin:other"`, "no plugin of that name is declared"},
		{"a place that is not declared", "{place: old-logs}", "{place: other}", "place other is not declared"},
		{"an unknown parameter", "sysctl: net.core.somaxconn", "sysctl: kernel.core_pattern", `sysctl "kernel.core_pattern" is not one that can be set`},
		{"another host", "{host: self}", "{host: web2}", "the one host that can be meant is self"},
		{"a weight of the host", `action: "plugin:cache-share"`, "action: cpu.weight", "cpu.weight cannot hold on to a host"},
		{"twice", "plugins:\n", "  - {name: old-logs, root: /a/b, match: x, olderThan: 1h, how: delete}\nplugins:\n", `name "old-logs" stands twice`},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := strings.Replace(declaredPermissions, x.old, x.new, 1)
			if text == declaredPermissions {
				t.Fatal("nothing was replaced")
			}
			if _, err := ParsePermissions([]byte(text)); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %q", err, x.want)
			}
		})
	}
}

// A program that is taken out of the permissions is not asked to act any more, and still gives back.
func TestDeclarationGoes(t *testing.T) {
	p, err := ParsePermissions([]byte(declaredPermissions))
	if err != nil {
		t.Fatal(err)
	}
	actuators := map[string]Actuator{}
	p.apply(actuators, nil)
	if _, ok := actuators["plugin:cache-share"].(*plugin.Plugin); !ok {
		t.Fatalf("%v", actuators)
	}
	Permissions{}.apply(actuators, nil)
	target := command.Target{Unit: "cache.service"}
	if _, err := actuators["plugin:cache-share"].Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatal(err)
	}
	fresh := map[string]Actuator{}
	Permissions{}.apply(fresh, map[string]lease{"x": {Action: command.Action{Name: "plugin:cache-share"}}})
	if fresh["plugin:cache-share"] == nil {
		t.Fatal("after a restart nobody can give back what a plugin holds")
	}
}

// Every row of the catalogue has code behind it on a host, and a row of what it needs of the process.
func TestEveryActionHasCode(t *testing.T) {
	able, free := HostActuators(Settings{})
	defer free()
	for _, s := range command.Catalogue() {
		if able[s.Name] == nil {
			t.Errorf("%s is in the catalogue and no actuator carries it out", s.Name)
		}
		if _, ok := needOf(s.Name); !ok {
			t.Errorf("%s: what it needs of the process is not told", s.Name)
		}
	}
}
