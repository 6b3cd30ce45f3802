//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// The shipped actor unit with its drop-ins for sysctl, files and plugins can do these and take them back; without the drop-ins it
// says that it cannot, and changes nothing.
func TestDropInsOfTheActor(t *testing.T) {
	rig.Container(t, "drop-ins", 2*time.Minute)
}

const dropInFolder = "/etc/systemd/system/evenkeel-actor.service.d"

func insideDropIns(t *testing.T) {
	auth, approver := rig.NewAuthority(t), rig.NewKey(t)
	a := &rig.Actor{
		Host: "host-1", Config: actor.DefaultConfig, Permissions: "/etc/evenkeel/permissions.yaml", KillFile: "/etc/evenkeel/kill",
		StateDir: "/var/lib/evenkeel-actor", Socket: "/var/lib/evenkeel-actor/actor.sock", Binary: "/usr/bin/evenkeel-actor", Authority: auth,
	}
	const exe, store, logs = "/usr/local/lib/evenkeel/knob", "/var/lib/cache-share", "/var/log/batch"
	script := strings.ReplaceAll(knobScript, "STORE", store)
	rig.Write(t, exe, script)
	rig.Write(t, filepath.Join(store, "host"), "40") // the knob's file for the host itself
	for _, name := range []string{store, filepath.Join(store, "host")} {
		if err := os.Chown(name, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	rig.Write(t, filepath.Join(logs, "a.log.1"), strings.Repeat("x", 2<<20))
	at := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(logs, "a.log.1"), at, at); err != nil {
		t.Fatal(err)
	}
	declared := fmt.Sprintf("places:\n  - {name: old-logs, root: %s, match: '*.log.*', olderThan: 24h, how: delete}\n"+
		"plugins:\n  - {name: knob, exe: %s, sha256: %x, user: nobody, get: [get, '{target}'], set: [set, '{target}', '{value}']}\n", logs, exe, sha256.Sum256([]byte(script)))
	text := rig.PermissionsText(auth.Root(),
		"  - {action: sysctl, targets: [{sysctl: net.core.somaxconn}], min: 1, max: 8192, maxLease: 10m, rate: 100/5m}\n",
		"  - {action: 'plugin:knob', targets: [{host: self}], min: 1, max: 100, maxLease: 10m, rate: 100/5m}\n",
		onceGrant("file.relief", "place: old-logs", 100))
	text = strings.Replace(text, "approvers: []", "approvers: ["+command.FormatPublicKey(approver.Public().(ed25519.PublicKey))+"]", 1)
	text = strings.Replace(text, "maxRisk: R2", "maxRisk: R3", 1)
	rig.Write(t, a.Permissions, strings.Replace(text, "actions:\n", declared+"actions:\n", 1))
	rig.Write(t, a.Config, "host: host-1\n")

	sysctl := command.Action{Name: "sysctl", Target: command.Target{Sysctl: "net.core.somaxconn"}, Value: 77}
	plugin := command.Action{Name: "plugin:knob", Value: 7}
	relief := command.Action{Name: "file.relief", Target: command.Target{Place: "old-logs"}, Value: 1}
	somaxconn := func() string { return rig.Read(t, "/proc/sys/net/core/somaxconn") }
	knob := func() string { return rig.Read(t, filepath.Join(store, "host")) }
	before := somaxconn()
	begin := func() *approved {
		rig.Must(t, "systemctl", "daemon-reload")
		rig.Must(t, "systemctl", "restart", "evenkeel-actor.service")
		rig.Until(t, time.Minute, "the actor listens", func() string {
			if _, err := actor.AskCapabilities(a.Socket, 5*time.Second); err != nil {
				return err.Error()
			}
			return ""
		})
		return &approved{actor: a, peer: a.Dial(t), approver: approver}
	}

	x := begin()
	for _, action := range []command.Action{sysctl, plugin, relief} {
		lease := time.Minute
		if action.Name == "file.relief" {
			lease = 0
		}
		c := x.send(t, action, lease)
		rig.Until(t, 15*time.Second, action.Name+" is turned down without its drop-in", func() string {
			for _, r := range x.peer.Results(c.ID) {
				switch r.Phase {
				case command.Refused, command.Failed:
					t.Logf("%s without its drop-in: %s, %s: %s", action.Name, r.Phase, r.Reason, r.Detail)
					return ""
				case command.Applied:
					t.Fatalf("%s is applied without its drop-in: %+v", action.Name, r)
				}
			}
			return fmt.Sprint(x.peer.Results(c.ID))
		})
	}
	if _, err := os.Stat(filepath.Join(logs, "a.log.1")); err != nil || somaxconn() != before || knob() != "40" {
		t.Fatalf("something was changed without the drop-ins: %v, %s, %s", err, somaxconn(), knob())
	}

	for _, name := range []string{"sysctl.conf", "files.conf", "plugin.conf"} {
		// The folder of a plugin stands there as an example.
		rig.Write(t, filepath.Join(dropInFolder, name), strings.ReplaceAll(rig.Read(t, filepath.Join(rig.Inside, "drop-in", name)), "#ReadWritePaths", "ReadWritePaths")+"\n")
	}
	x = begin()
	leased := x.do(t, sysctl, 3*time.Second)
	if got := somaxconn(); got != "77" {
		t.Errorf("somaxconn reads %s", got)
	}
	x.do(t, plugin, 5*time.Minute)
	if got := knob(); got != "7" {
		t.Errorf("the program's value is %s", got)
	}
	t.Log(x.once(t, relief).Value)
	if _, err := os.Stat(filepath.Join(logs, "a.log.1")); err == nil {
		t.Error("the old file is still there")
	}
	x.peer.Await(t, leased.ID, command.Reverted, 30*time.Second)
	if got := somaxconn(); got != before {
		t.Errorf("somaxconn reads %s after the lease, was %s", got, before)
	}
	rig.Must(t, "systemctl", "stop", "evenkeel-actor.service")
	if got := knob(); got != "40" {
		t.Errorf("the program's value is %s after a clean stop", got)
	}
}
