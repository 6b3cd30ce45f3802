package command_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// A host that lists no waiver needs an approver for what takes something out of service; a waiver counts for its action
// and target alone, and for nothing that cannot be taken back. A revoked key spoils every command that it touches.
func TestTrustOfAHost(t *testing.T) {
	root, collector, approver, second := newKey(1), newKey(3), newKey(4), newKey(5)
	key := certified(t, root, collector, command.R2)
	approve := command.Key{Private: approver}
	batch, web := command.Target{Unit: "batch.service"}, command.Target{Unit: "web.service"}
	stop := func(c *command.Command) {
		c.Action, c.Risk = command.Action{Name: "unit.stop", Target: batch, Value: 1}, command.R2
	}
	restart := func(c *command.Command) {
		c.Action, c.Risk, c.Lease, c.Release = command.Action{Name: "unit.restart", Target: batch, Value: 1}, command.R3, 0, command.Release{}
	}
	waive := func(name string, targets ...command.Target) []command.Waiver {
		return []command.Waiver{{Action: name, Targets: targets}}
	}
	for name, x := range map[string]struct {
		change func(*command.Command)
		keys   []command.Key
		trust  func(*command.Trust)
		want   command.Reason
	}{
		"stop by a collector":                 {change: stop, keys: []command.Key{key}, want: command.ReasonRiskNeedsApprover},
		"stop approved":                       {change: stop, keys: []command.Key{key, approve}},
		"stop waived":                         {change: stop, keys: []command.Key{key}, trust: func(t *command.Trust) { t.Waived = waive("unit.stop", web, batch) }},
		"stop waived elsewhere":               {change: stop, keys: []command.Key{key}, trust: func(t *command.Trust) { t.Waived = waive("unit.stop", web) }, want: command.ReasonRiskNeedsApprover},
		"another action waived":               {change: stop, keys: []command.Key{key}, trust: func(t *command.Trust) { t.Waived = waive("cgroup.freeze", batch) }, want: command.ReasonRiskNeedsApprover},
		"restart waived all the same":         {change: restart, keys: []command.Key{key}, trust: func(t *command.Trust) { t.Waived = waive("unit.restart", batch) }, want: command.ReasonRiskNeedsApprover},
		"stop that says R3 is not waived":     {change: func(c *command.Command) { stop(c); c.Risk = command.R3 }, keys: []command.Key{key}, trust: func(t *command.Trust) { t.Waived = waive("unit.stop", batch) }, want: command.ReasonRiskNeedsApprover},
		"collector's key revoked":             {keys: []command.Key{key}, trust: func(t *command.Trust) { t.Revoked = []string{keyID(collector)} }, want: command.ReasonKeyRevoked},
		"approver's key revoked":              {change: stop, keys: []command.Key{key, approve}, trust: func(t *command.Trust) { t.Revoked = []string{keyID(approver)} }, want: command.ReasonKeyRevoked},
		"one approver of two revoked":         {change: stop, keys: []command.Key{key, approve, {Private: second}}, trust: func(t *command.Trust) { t.Revoked = []string{keyID(second)} }, want: command.ReasonKeyRevoked},
		"two approvers":                       {change: restart, keys: []command.Key{key, approve, {Private: second}}},
		"a collector's key as its approver":   {change: restart, keys: []command.Key{key, {Private: collector}}, want: command.ReasonRiskNeedsApprover},
		"approver whom this host never named": {change: restart, keys: []command.Key{key, {Private: newKey(6)}}, want: command.ReasonRiskNeedsApprover},
	} {
		t.Run(name, func(t *testing.T) {
			trust := command.Trust{SigningRoot: public(root), Approvers: []ed25519.PublicKey{public(approver), public(second)}}
			if x.trust != nil {
				x.trust(&trust)
			}
			c := example()
			if x.change != nil {
				x.change(&c)
			}
			e, err := command.Sign(c, x.keys...)
			if err != nil {
				t.Fatal(err)
			}
			v, err := trust.Verify(e, now)
			if command.ReasonOf(err) != x.want || (err == nil) != (x.want == "") {
				t.Fatalf("got %v, want %q", err, x.want)
			}
			if err == nil && len(v.Approvers) != len(x.keys)-1 {
				t.Errorf("approvers %v", v.Approvers)
			}
		})
	}
}

func keyID(k ed25519.PrivateKey) string { return command.KeyID(public(k)) }

// An approval made elsewhere is added to the bytes that the collector signed, and to no others.
func TestApprovalFitsOneBody(t *testing.T) {
	root, collector, approver := newKey(1), newKey(3), newKey(4)
	trust := command.Trust{SigningRoot: public(root), Approvers: []ed25519.PublicKey{public(approver)}}
	c := example()
	c.Action, c.Risk = command.Action{Name: "unit.stop", Target: command.Target{Unit: "batch.service"}, Value: 1}, command.R2
	e, err := command.Sign(c, certified(t, root, collector, command.R2))
	if err != nil {
		t.Fatal(err)
	}
	s := command.Approve(e.Body, approver)
	approved, err := e.WithApproval(public(approver), s.Sig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Verify(approved, now); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Verify(e, now); command.ReasonOf(err) != command.ReasonRiskNeedsApprover {
		t.Errorf("the envelope before it was approved: %v", err)
	}
	if _, err := approved.WithApproval(public(approver), s.Sig); command.ReasonOf(err) != command.ReasonReplayed {
		t.Errorf("the same approval twice: %v", err)
	}
	if _, err := e.WithApproval(public(collector), s.Sig); command.ReasonOf(err) != command.ReasonBadSignature {
		t.Errorf("under another key: %v", err)
	}
	c.Expires = c.Expires.Add(time.Second)
	later, err := command.Sign(c, certified(t, root, collector, command.R2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := later.WithApproval(public(approver), s.Sig); command.ReasonOf(err) != command.ReasonBadSignature {
		t.Errorf("on a command that expires later: %v", err)
	}
}

// A revocation names a key; it survives the wire and nothing else passes for one.
func TestRevokeBody(t *testing.T) {
	c := command.Command{
		ID: example().ID, Kind: command.Revoke, Host: "web1", ActorIncarnation: "inc", Issued: now, Expires: now.Add(time.Minute), Of: keyID(newKey(3)),
	}
	b, err := command.MarshalBody(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := command.ParseBody(b); err != nil || got.Of != c.Of || got.Kind != command.Revoke {
		t.Fatalf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", example().ID} {
		c.Of = bad
		if _, err := command.MarshalBody(c); err == nil {
			t.Errorf("%q passes for the id of a key", bad)
		}
	}
}
