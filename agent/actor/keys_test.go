package actor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/confine"
	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/command"
)

var batchUnit = command.Target{Unit: "batch.service"}

// keyRig is a rig on whose host a service may be stopped and restarted, with a trail.
func keyRig(t *testing.T) *rig {
	r := rigIn(t)
	r.world.values[batchUnit.String()] = 100
	r.perm.MaxRisk = command.R3
	r.perm.Actions = append(r.perm.Actions,
		Grant{Action: "unit.stop", Targets: []command.Target{batchUnit}, Min: 1, Max: 1, MaxLease: time.Minute, Times: 100, Per: time.Hour},
		Grant{Action: "unit.restart", Targets: []command.Target{batchUnit}, Min: 1, Max: 1, Times: 100, Per: time.Hour})
	r.e.actuators["unit.stop"], r.e.actuators["unit.restart"] = r.world, r.world
	return r
}

func (r *rig) withTrail(t *testing.T) *trail {
	t.Helper()
	tr, err := openTrail(filepath.Join(r.dir, "audit"), r.now.Wall, r.e.log)
	if err != nil {
		t.Fatal(err)
	}
	r.e.trail = tr
	return tr
}

func (r *rig) unit(action string) command.Command {
	c := r.command("a", 1)
	c.Action, c.Risk = command.Action{Name: action, Target: batchUnit, Value: 1}, command.R2
	if action == "unit.restart" {
		c.Risk, c.Lease = command.R3, 0
	}
	return c
}

func (r *rig) approved(c command.Command) command.Envelope {
	r.t.Helper()
	e := r.sign(c)
	s := command.Approve(e.Body, approverKey)
	e, err := e.WithApproval(pub(approverKey), s.Sig)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// What takes something out of service needs an approver, and so does a longer lease of it, unless the host forgoes it.
func TestApproverKeys(t *testing.T) {
	r := keyRig(t)
	r.want(r.send(r.unit("unit.stop")), command.Refused, command.ReasonRiskNeedsApprover)
	c := r.unit("unit.stop")
	r.want(r.deliver(r.approved(c)), command.Applied, "")
	renewal := r.other(command.Renew, c.ID)
	renewal.Risk = command.R2
	r.want(r.send(renewal), command.Refused, command.ReasonRiskNeedsApprover)
	renewal = r.other(command.Renew, c.ID)
	r.want(r.deliver(r.approved(renewal)), command.Renewed, "")
	r.want(r.send(r.other(command.Revert, c.ID)), command.Reverted, "") // less needs no approver

	r.perm.Trust.Waived = []command.Waiver{{Action: "unit.stop", Targets: []command.Target{batchUnit}}}
	c = r.unit("unit.stop")
	r.want(r.send(c), command.Applied, "")
	r.want(r.send(r.other(command.Renew, c.ID)), command.Renewed, "")
	r.want(r.send(r.unit("unit.restart")), command.Refused, command.ReasonRiskNeedsApprover)
}

// What cannot be taken back holds no lease: it is done once, and neither its end nor the kill switch undoes it.
func TestOnce(t *testing.T) {
	r := keyRig(t)
	c := r.unit("unit.restart")
	c.Lease = time.Minute
	r.want(r.deliver(r.approved(c)), command.Refused, command.ReasonDenied)
	c = r.unit("unit.stop")
	c.Lease, c.Risk = 0, command.R3 // a stop without an end
	r.want(r.deliver(r.approved(c)), command.Refused, command.ReasonDenied)

	e := r.approved(r.unit("unit.restart"))
	r.want(r.deliver(e), command.Applied, "")
	if len(r.e.s.Leases) != 0 || r.world.values[batchUnit.String()] != 1 {
		t.Fatalf("leases %v, value %d", r.e.s.Leases, r.world.values[batchUnit.String()])
	}
	r.want(r.deliver(e), command.Applied, "") // the stored answer
	r.killed = "kill file"
	r.restart()
	r.tick(time.Minute)
	if r.world.values[batchUnit.String()] != 1 || r.world.writes[1] != 1 {
		t.Fatalf("value %d, written %d times", r.world.values[batchUnit.String()], r.world.writes[1])
	}
}

// A crash at any point of an action that cannot be taken back never runs it twice and never reverts it.
func TestOnceThroughCrashes(t *testing.T) {
	outcomes := map[command.Phase]int{}
	for fuse := range 12 {
		r := keyRig(t)
		c := r.unit("unit.restart")
		e := r.approved(c)
		func() {
			defer func() {
				if x := recover(); x != nil && x != any(crash{}) {
					panic(x)
				}
			}()
			r.world.fuse = fuse
			r.deliver(e)
		}()
		r.world.fuse = -1
		r.restart()
		r.e.actuators["unit.restart"] = r.world
		if len(r.e.s.Leases) != 0 {
			// The rig's engine opened without the actuator, which counts as not to be told.
			t.Fatalf("fuse %d: leases %v", fuse, r.e.s.Leases)
		}
		for _, x := range r.results {
			if x.ID == c.ID && x.Phase != command.Accepted {
				outcomes[x.Phase]++
			}
			if x.Phase == command.Reverted || x.Phase == command.Drifted {
				t.Errorf("fuse %d: %+v", fuse, x)
			}
		}
		if n := r.world.writes[1]; n > 1 {
			t.Errorf("fuse %d: done %d times", fuse, n)
		}
	}
	if outcomes[command.Applied] == 0 || outcomes[command.Indeterminate] == 0 {
		t.Errorf("the crashes led to %v", outcomes)
	}
}

// A pushed revocation only takes trust away: it outlives restarts and a damaged journal, the signer included.
func TestRevocation(t *testing.T) {
	r := keyRig(t)
	id := command.KeyID(pub(approverKey))
	revoke := r.other(command.Revoke, id)
	r.want(r.send(revoke), command.Revoked, "")
	r.want(r.deliver(r.approved(r.unit("unit.stop"))), command.Refused, command.ReasonKeyRevoked)
	r.want(r.send(r.command("a", 50)), command.Applied, "")
	if rep := r.e.report(); !slices.Equal(rep.Revoked, []string{id}) || len(rep.Approvers) != 1 {
		t.Errorf("reported: revoked %v, approvers %v", rep.Revoked, rep.Approvers)
	}
	r.restart()
	r.want(r.deliver(r.approved(r.unit("unit.stop"))), command.Refused, command.ReasonKeyRevoked)

	// Damage in the middle of the journal: what had been revoked before it stays so.
	b, err := os.ReadFile(r.path())
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.LastIndex(b, []byte(`"kind":"refused"`))
	b[i+3] ^= 1
	j, err := frame(entry{Kind: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.path(), append(b, j...), 0o600); err != nil {
		t.Fatal(err)
	}
	was := r.e.s.Incarnation
	r.restart()
	if r.e.s.Incarnation == was || r.e.s.Revoked[id] == "" {
		t.Fatalf("incarnation %s, revoked %v", r.e.s.Incarnation, r.e.s.Revoked)
	}

	// One key cannot use up the room for others.
	for i := len(r.e.s.Revoked); i < MostRevokedBy; i++ {
		r.want(r.send(r.other(command.Revoke, fmt.Sprintf("%016x", i))), command.Revoked, "")
	}
	r.want(r.send(r.other(command.Revoke, "ffffffffffffffff")), command.Refused, command.ReasonBusy)
	r.want(r.send(r.other(command.Revoke, id)), command.Revoked, "") // again changes nothing

	own := command.KeyID(pub(seeded(3)))
	first := r.key
	next, err := command.CertifyKey(rootKey, command.CertifiedKey{
		Public: pub(seeded(9)), Collector: "c1", NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(1000 * time.Hour), MaxRisk: command.R2,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.key = command.Key{Private: seeded(9), Certificate: next}
	r.want(r.send(r.other(command.Revoke, own)), command.Revoked, "")
	r.key = first
	r.want(r.send(r.command("a", 60)), command.Refused, command.ReasonKeyRevoked)
	r.want(r.send(r.other(command.Lift, "")), command.Refused, command.ReasonKeyRevoked)
}

func TestRevokedInTheFile(t *testing.T) {
	r := keyRig(t)
	r.perm.Trust.Revoked = []string{command.KeyID(pub(seeded(3)))}
	r.want(r.send(r.command("a", 50)), command.Refused, command.ReasonKeyRevoked)
}

func TestPermissionsOfKeys(t *testing.T) {
	text := func(more string) string {
		return strings.Replace(goodPermissions, "maxRisk: R2", "maxRisk: R3\nrevoked: [0123456789abcdef]", 1) + more
	}
	stop := "  - {action: unit.stop, targets: [{unit: b.service}], min: 1, max: 1, maxLease: 1m, rate: 1/1h, withoutApprover: true}\n"
	restart := "  - {action: unit.restart, targets: [{unit: b.service}], min: 1, max: 1, rate: 1/1h}\n"
	p, err := ParsePermissions([]byte(text(stop + restart)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Trust.Revoked, []string{"0123456789abcdef"}) || len(p.Trust.Waived) != 1 || p.Trust.Waived[0].Action != "unit.stop" {
		t.Fatalf("%+v", p.Trust)
	}
	for want, text := range map[string]string{
		"needs an approver's signature everywhere": text(strings.Replace(restart, "rate: 1/1h", "rate: 1/1h, withoutApprover: true", 1)),
		"expected true or false":                   text(strings.Replace(stop, "true", "maybe", 1)),
		"is not 16 hex digits":                     strings.Replace(text(stop), "0123456789abcdef", "xyz", 1),
	} {
		if _, err := ParsePermissions([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Every denial is counted, like ones on few lines, and the file holds together offline.
func TestTrail(t *testing.T) {
	r := keyRig(t)
	tr := r.withTrail(t)
	forged := r.sign(r.command("a", 50))
	forged.Signatures = nil
	for range 5000 {
		r.deliver(forged)
	}
	for range 3 {
		r.send(r.unit("unit.stop"))
	}
	c := r.command("a", 50)
	r.want(r.send(c), command.Applied, "")
	r.send(r.other(command.Kill, ""))
	r.e.setKillFile(t.Context(), "x")
	r.e.setKillFile(t.Context(), "x")
	r.e.setKillFile(t.Context(), "")
	r.tick(30 * time.Second)
	tr.close(r.now.Wall)

	f, err := os.Open(filepath.Join(r.dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := map[string]int{}
	var lines []audit.Entry
	if _, err := audit.Verify(f, func(e audit.Entry) { lines = append(lines, e); count[e.What+" "+e.Outcome]++ }); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, e := range lines {
		text.WriteString(e.Who + "|" + e.What + "|" + e.Subject + "|" + e.Outcome + "|" + e.Detail + "\n")
	}
	for _, want := range []string{
		"stranger|command|unverified command|denied|unsigned", "denied|4999 more like it", "stranger|command|unverified command|denied|risk-needs-approver",
		"denied|2 more like it", "collector c1 (" + command.KeyID(pub(seeded(3))) + ")|applied|" + c.ID + "|done|cpu.weight:cgroup/a: \"50\", before \"100\"",
		"|reverted|" + c.ID, "|killed|", "host owner|kill file on|host|done|x",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no line with %q in\n%s", want, text.String())
		}
	}
	for _, once := range []string{"killed done", "kill file on done", "kill file off done", "applied done", "reverted done"} {
		if count[once] != 1 {
			t.Errorf("%d lines say %s", count[once], once)
		}
	}
	if len(lines) > 20 {
		t.Errorf("%d lines", len(lines))
	}
}

// A trail that was tampered with is kept aside, and its successor says so first.
func TestTrailBroken(t *testing.T) {
	r := keyRig(t)
	tr := r.withTrail(t)
	r.send(r.command("a", 50))
	tr.close(r.now.Wall)
	file := filepath.Join(r.dir, "audit", "audit.jsonl")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte("50"), []byte("60"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	tr = r.withTrail(t)
	tr.close(r.now.Wall)
	if b, err = os.ReadFile(file); err != nil || !bytes.Contains(b, []byte(`"what":"audit log broken"`)) {
		t.Errorf("%s %v", b, err)
	}
	if kept, _ := filepath.Glob(filepath.Join(r.dir, "audit.broken-*", "audit.jsonl")); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}

// Each action of the catalogue says what it needs of the process, in names that the kernel has.
func TestNeeds(t *testing.T) {
	for _, s := range command.Catalogue() {
		n, ok := needOf(s.Name)
		if !ok {
			t.Errorf("%s: what it needs is not told, so the actor would give up nothing", s.Name)
		}
		for name := range n.keep {
			if !confine.Known(name) {
				t.Errorf("%s: there is no %s", s.Name, name)
			}
		}
	}
	r := rulesFor([]use{{"cpu.weight", command.OnUnit}, {"process.affinity", command.OnCgroup}, {"cpu.quota", command.OnUnit}}, []string{"/cg"})
	if len(r.Keep) != 3 || r.KeepAll != "" || !slices.Equal(r.Write, []string{"/cg"}) || r.AnyFile != "" {
		t.Errorf("%+v", r)
	}
	if !strings.HasSuffix(r.Keep["CAP_DAC_OVERRIDE"], "for cpu.quota, cpu.weight") {
		t.Errorf("%q", r.Keep["CAP_DAC_OVERRIDE"])
	}
	if r = rulesFor([]use{{"cpu.weight", command.OnUnit}, {"strange.x", command.OnHost}}, nil); r.KeepAll == "" || r.AnyFile == "" || r.Programs == "" {
		t.Errorf("%+v", r)
	}
	if r = rulesFor([]use{{"process.affinity", command.OnProcess}}, nil); r.AnyFile != landlockHides || r.KeepAll != "" {
		t.Errorf("%+v", r)
	}
	if r = rulesFor(nil, nil); len(r.Keep) != 0 {
		t.Errorf("%+v", r)
	}
}

// Who is turned away at the socket stands in the trail with its number, and a start and a stop beside it.
func TestTrailOfTheSocket(t *testing.T) {
	x := start(t, t.TempDir())
	for range 3 {
		a := connect(t, x.cfg.Socket)
		if _, err := a.conn.Write([]byte{0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if _, err := readFrame(a.conn); err == nil {
			t.Fatal("a frame of no length is answered")
		}
	}
	if err := x.stop(); err != nil {
		t.Fatal(err)
	}
	s := &server{}
	for i := range 3 * mostOddities {
		s.turnedAway(uint32(i), notAllowed)
	}
	odd := s.takeOddities()
	if n := odd[oddity{manyUsers, notAllowed}]; len(odd) != mostOddities+1 || n != 2*mostOddities || len(s.takeOddities()) != 0 {
		t.Errorf("%d kinds, %d by many users", len(odd), n)
	}
	text, err := os.ReadFile(filepath.Join(x.cfg.Settings.withDefaults().Audit, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	denied := 0
	if _, err := audit.Verify(bytes.NewReader(text), func(e audit.Entry) {
		if e.Subject == "socket" && e.Outcome == "denied" && strings.Contains(e.Detail, notAFrame) {
			denied++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if denied == 0 || denied > 2 || !bytes.Contains(text, []byte(`"what":"start"`)) || !bytes.Contains(text, []byte(`"what":"stop"`)) {
		t.Errorf("%d lines about frames in\n%s", denied, text)
	}
}

// Where the audit log cannot be had, what is held is taken back all the same.
func TestRevertWithoutTrail(t *testing.T) {
	r := keyRig(t)
	r.want(r.send(r.command("a", 50)), command.Applied, "")
	r.e.j.close()
	dir := filepath.Join(r.dir, "audit")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	cfg := Config{
		Settings: Settings{Host: "web1", State: r.dir, Permissions: filepath.Join(r.dir, "permissions.yaml")}, Actuators: r.e.actuators,
		Clock: func() Moment { return r.now }, BootID: r.boot,
	}
	results, err := RevertOffline(t.Context(), cfg, "")
	if err != nil || len(results) != 1 || results[0].Phase != command.Reverted {
		t.Fatalf("%+v %v", results, err)
	}
	r.wantValue("a", 100)
}
