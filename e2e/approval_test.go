//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/client"
)

// The whole way of an action that takes a service out, with real programs under a real systemd: a batch service crowds a
// valuable one, the collector proposes to stop it and waits, and only the signature of another person's own key, made by the
// operator's command, has the actor do it; when the lease ends the batch service runs again. Both sides' audit logs hold
// together and name who signed.
func TestApprovalByKey(t *testing.T) {
	rig.Container(t, "approval", 4*time.Minute)
}

const approvalMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 12000, currency: EUR, loss: {major: 0.5, critical: 1}}, dependsOn: [{ref: component/web}]}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: report}
spec: {criticality: 4, value: {perHour: 40, currency: EUR}, dependsOn: [{ref: component/batch}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {hosts: {names: [host-1]}, unit: web.service}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: batch}
spec: {hosts: {names: [host-1]}, unit: batch.service}
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec: {steps: [{action: unit.stop, verify: {signal: runqueue.delay, of: protected, below: 0.2}}]}
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu, level: major}
  hosts: {names: [host-1]}
  choose: least-value-contributor
  runbook: runbook/relieve-cpu
  mode: auto
  timing: {dwell: 5s, outcome: 5s, cooldown: 1h, lease: 12s}
`

func insideApproval(t *testing.T) {
	dir := rig.Folder(t)
	word, key := filepath.Join(dir, "word"), filepath.Join(dir, "approver.key")
	secret := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret(word, "correct horse battery\n")
	evenkeel := rig.Binary(t, "evenkeel")
	approver := strings.TrimSpace(rig.Must(t, evenkeel, "approver", "init", "--key", key, "--passphrase-file", word)) // approvers: [...]

	permissions := filepath.Join(dir, "permissions.yaml")
	text := rig.PermissionsText("FROM-ENROLMENT", "  - {action: unit.stop, targets: [{unit: batch.service}], min: 1, max: 1, maxLease: 1m, rate: 3/1h}\n")
	rig.Write(t, permissions, strings.Replace(text, "approvers: []", approver, 1))
	spin := fmt.Sprintf("%s/e2e.test", rig.Inside)
	rig.Write(t, "/etc/systemd/system/web.service", "[Service]\nEnvironment=EK2E_HELPER=spin\nExecStart="+spin+"\n")
	rig.Write(t, "/etc/systemd/system/batch.service", "[Service]\nEnvironment=EK2E_HELPER=spin\nExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do "+spin+" & done; wait'\n")
	rig.Must(t, "systemctl", "daemon-reload")

	c := rig.Dev(t, "host-1", "--actor", "--permissions", permissions)
	reaches(t, c.API(t), "host-1", 30*time.Second, "connected")
	file := filepath.Join(dir, "map.yaml")
	rig.Write(t, file, approvalMap)
	if out, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 0 {
		t.Fatalf("apply: %s%s", out, errs)
	}
	// Another person, with another token.
	token, errs, code := c.Evenkeel(t, "token", "create", "--role", "approver", "--name", "ann")
	if code != 0 {
		t.Fatal(errs)
	}
	secret(filepath.Join(dir, "token"), token)
	var who struct{ CaPin string }
	c.JSON(t, &who, "version")
	ann := filepath.Join(dir, "ann.json")
	conf, err := client.Load(c.Context)
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, code := rig.Run(t, evenkeel, "--context", ann, "login", "--address", conf.Address, "--ca-pin", who.CaPin, "--token-file", filepath.Join(dir, "token")); code != 0 {
		t.Fatalf("login: %s%s", out, errs)
	}
	rig.Must(t, "systemctl", "start", "web.service", "batch.service")

	var list struct {
		Actions []struct {
			ID, Phase, State, Name, Target, CommandHash string
			NeedsKey                                    bool
			CommandBody                                 string
		}
	}
	rig.Until(t, time.Minute, "a stop is proposed and waits for a key", func() string {
		c.JSON(t, &list, "action", "list")
		if len(list.Actions) == 0 {
			_, why, _ := c.Evenkeel(t, "incident", "list")
			return "no action: " + why
		}
		if a := list.Actions[0]; a.Phase != "awaiting approval" {
			return a.Phase + " " + a.State
		}
		return ""
	})
	a := list.Actions[0]
	if a.Name != "unit.stop" || a.Target != "unit/batch.service" || !a.NeedsKey || a.CommandBody == "" || property(t, "batch.service", "ActiveState") != "active" {
		t.Fatalf("%+v", a)
	}
	// The policy's author may not, with whatever key; nor may Ann without hers.
	approve := []string{"action", "approve", a.ID, "--key", key, "--passphrase-file", word, "--hash", a.CommandHash}
	if out, errs, code := c.Evenkeel(t, approve...); code != 4 || !strings.Contains(errs, "somebody else") {
		t.Fatalf("by the author: exit code %d, %s%s", code, out, errs)
	}
	if out, errs, code := rig.Run(t, evenkeel, "--context", ann, "action", "approve", a.ID); code == 0 || !strings.Contains(errs, "--key") {
		t.Fatalf("without a key: exit code %d, %s%s", code, out, errs)
	}
	out, errs, code := rig.Run(t, evenkeel, append([]string{"--context", ann}, approve...)...)
	if code != 0 || !strings.Contains(errs, "unit/batch.service") {
		t.Fatalf("exit code %d, %s%s", code, out, errs)
	}
	rig.Until(t, 15*time.Second, "the batch service is stopped", func() string {
		if got := property(t, "batch.service", "ActiveState"); got != "inactive" && got != "failed" {
			return got
		}
		return ""
	})
	rig.Until(t, 40*time.Second, "it runs again when the lease has ended", func() string {
		if got := property(t, "batch.service", "ActiveState"); got != "active" {
			return got
		}
		return ""
	})
	rig.Must(t, "systemctl", "stop", "batch.service", "web.service")

	for side, log := range map[string]string{"collector": filepath.Join(c.Folder, "collector", "audit", "audit.jsonl"), "actor": filepath.Join(c.Folder, "actor", "audit", "audit.jsonl")} {
		t.Log(strings.TrimSpace(rig.Must(t, evenkeel, "audit", "verify", log)))
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range map[string][]string{"collector": {`"who":"ann"`, "approve with key", a.ID}, "actor": {", approver ", `"what":"applied","subject":"` + a.ID, `"what":"reverted","subject":"` + a.ID}}[side] {
			if !strings.Contains(string(b), want) {
				t.Errorf("the %s's audit log has no %s", side, want)
			}
		}
	}
}
