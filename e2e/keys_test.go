//go:build e2e

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// A key that is revoked by the operator's command is believed by the real actor no more, which says so; the collector signs
// with its next key and is believed; and the kill switch stands in the audit log once.
func TestRevokedKeys(t *testing.T) {
	g := rig.CPU(t).Group(t, "batch")
	permissions := filepath.Join(rig.Folder(t), "permissions.yaml")
	rig.Write(t, permissions, rig.PermissionsText("FROM-ENROLMENT", rig.Grant("cpu.weight", command.Target{Cgroup: g.Path}, 10, 100)))
	c := rig.Dev(t, "host-1", "--actor", "--permissions", permissions)
	reaches(t, c.API(t), "host-1", 30*time.Second, "connected")
	socket := filepath.Join(c.Folder, "actor", "actor.sock")
	type key struct {
		ID, Use, RevokedAt, RevokedBy string
		Hosts                         []string
	}
	keys := func() []key {
		t.Helper()
		var list struct{ Keys []key }
		c.JSON(t, &list, "key", "list")
		return list.Keys
	}
	first := keys()
	if len(first) != 1 || first[0].Use != "collector" || first[0].RevokedAt != "" {
		t.Fatalf("%+v", first)
	}
	lost := first[0].ID
	if out, errs, code := c.Evenkeel(t, "key", "revoke", lost, "--reason", "laptop lost"); code != 0 {
		t.Fatal(out, errs)
	}
	rig.Until(t, 15*time.Second, "the host confirms it", func() string {
		all := keys()
		i := slices.IndexFunc(all, func(k key) bool { return k.ID == lost })
		if len(all) != 2 || i < 0 || all[i].RevokedAt == "" || !slices.Equal(all[i].Hosts, []string{"host-1"}) {
			return strings.Join(all[max(i, 0)].Hosts, ",")
		}
		return ""
	})
	caps, err := actor.AskCapabilities(socket, 5*time.Second)
	if err != nil || !slices.Contains(caps.RevokedKeys, lost) {
		t.Fatalf("%v %v", caps.RevokedKeys, err)
	}
	// The order of a kill, signed by the next key, is believed.
	if out, errs, code := c.Evenkeel(t, "killswitch", "on", "--reason", "test"); code != 0 {
		t.Fatal(out, errs)
	}
	rig.Until(t, 5*time.Second, "the actor obeys the next key", func() string {
		if caps, err = actor.AskCapabilities(socket, 5*time.Second); err != nil || caps.Killed == "" {
			return "not killed"
		}
		return ""
	})
	out, errs, code := c.Evenkeel(t, "audit", "--subject", "cluster", "-o", "json")
	if code != 0 || strings.Count(out, "kill switch on") != 1 {
		t.Errorf("the kill switch stands in the audit log other than once: %s%s", out, errs)
	}
	t.Log(strings.TrimSpace(rig.Must(t, rig.Binary(t, "evenkeel"), "audit", "verify", filepath.Join(c.Folder, "collector", "audit", "audit.jsonl"), "--head",
		headOf(t, filepath.Join(c.Folder, "collector", "audit", "audit.jsonl")))))
}

// headOf returns the head that a first verification prints.
func headOf(t *testing.T, log string) string {
	t.Helper()
	out := rig.Must(t, rig.Binary(t, "evenkeel"), "audit", "verify", log)
	_, head, ok := strings.Cut(strings.TrimSpace(out), "head ")
	if !ok {
		t.Fatal(out)
	}
	return head
}
