package command_test

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/command"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func certified(t testing.TB, root, key ed25519.PrivateKey, most command.Risk) command.Key {
	t.Helper()
	c, err := command.CertifyKey(root, command.CertifiedKey{
		Public: public(key), Collector: "c1", NotBefore: now.Add(-time.Hour), NotAfter: now.Add(23 * time.Hour), MaxRisk: most,
	})
	if err != nil {
		t.Fatal(err)
	}
	return command.Key{Private: key, Certificate: c}
}

func example() command.Command {
	return command.Command{
		ID: "01K8ZZZZZZZZZZZZZZZZZZZZZZ", Kind: command.Apply, Host: "web1", ActorIncarnation: "abc", Fence: command.Fence{Incarnation: 2, Revision: 7},
		Action: command.Action{Name: "cpu.weight", Target: command.Target{Unit: "batch.service"}, Value: 10},
		Issued: now, Expires: now.Add(30 * time.Second), Lease: time.Minute, Risk: command.R1, Reason: "relieve web1", Incident: "i1",
		PermissionsHash: bytes.Repeat([]byte{9}, 32), Release: command.Release{Step: 10, Every: 5 * time.Second},
	}
}

func TestVerify(t *testing.T) {
	root, other, collector, approver := newKey(1), newKey(2), newKey(3), newKey(4)
	trust := command.Trust{SigningRoot: public(root), Approvers: []ed25519.PublicKey{public(approver)}}
	key := certified(t, root, collector, command.R2)
	sign := func(change func(*command.Command), keys ...command.Key) command.Envelope {
		c := example()
		if change != nil {
			change(&c)
		}
		e, err := command.Sign(c, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	raw := func(body []byte) command.Envelope {
		e, err := command.Envelope{Body: body}.With(key)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	restart := func(c *command.Command) { c.Action.Name, c.Risk = "unit.restart", command.R3 }
	good := sign(nil, key)
	for name, c := range map[string]struct {
		envelope command.Envelope
		at       time.Duration
		want     command.Reason
	}{
		"good":                               {envelope: good},
		"no signature":                       {envelope: sign(nil), want: command.ReasonUnsigned},
		"no body":                            {envelope: command.Envelope{Signatures: good.Signatures}, want: command.ReasonMalformed},
		"another root":                       {envelope: sign(nil, certified(t, other, collector, command.R2)), want: command.ReasonUnknownKey},
		"no certificate":                     {envelope: sign(nil, command.Key{Private: collector}), want: command.ReasonUnknownKey},
		"an approver alone":                  {envelope: sign(nil, command.Key{Private: approver}), want: command.ReasonUnknownKey},
		"the root itself":                    {envelope: sign(nil, command.Key{Private: root}), want: command.ReasonUnknownKey},
		"key not yet good":                   {envelope: good, at: -2 * time.Hour, want: command.ReasonKeyExpired},
		"key expired":                        {envelope: good, at: 24 * time.Hour, want: command.ReasonKeyExpired},
		"one bit changed":                    {envelope: flip(good, len(good.Body)-1), want: command.ReasonBadSignature},
		"R2 under an R1 key":                 {envelope: sign(func(c *command.Command) { c.Risk = command.R2 }, certified(t, root, collector, command.R1)), want: command.ReasonRiskNeedsApprover},
		"quota that says R1 under an R1 key": {envelope: sign(func(c *command.Command) { c.Action.Name = "cpu.quota" }, certified(t, root, collector, command.R1)), want: command.ReasonRiskNeedsApprover},
		"R3 by a collector":                  {envelope: sign(restart, key), want: command.ReasonRiskNeedsApprover},
		"restart that says R1":               {envelope: sign(func(c *command.Command) { c.Action.Name = "unit.restart" }, key), want: command.ReasonRiskNeedsApprover},
		"R3 approved":                        {envelope: sign(restart, key, command.Key{Private: approver})},
		"R3 approved by a stranger":          {envelope: sign(restart, key, command.Key{Private: other}), want: command.ReasonRiskNeedsApprover},
		"R3 by an approver alone":            {envelope: sign(restart, command.Key{Private: approver}), want: command.ReasonUnknownKey},
		"not a body":                         {envelope: raw([]byte("\xff\xff")), want: command.ReasonMalformed},
		"an unknown field":                   {envelope: raw(protowire.AppendVarint(protowire.AppendTag(bytes.Clone(good.Body), 99, protowire.VarintType), 1)), want: command.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := trust.Verify(c.envelope, now.Add(c.at))
			if command.ReasonOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Fatalf("got %v, want reason %q", err, c.want)
			}
			if err == nil {
				if again, _ := command.ParseBody(c.envelope.Body); cmp.Diff(again, got.Command) != "" {
					t.Fatal("what was verified is not what is in the body")
				}
			}
		})
	}
	// A signature made for another purpose with the same key is no signature.
	e := command.Envelope{Body: good.Body, Certificates: good.Certificates}
	e.Signatures = []command.Signature{{KeyID: command.KeyID(public(collector)), Sig: ed25519.Sign(collector, good.Body)}}
	if _, err := trust.Verify(e, now); command.ReasonOf(err) != command.ReasonBadSignature {
		t.Fatalf("signature without its prefix: %v", err)
	}
}

func flip(e command.Envelope, i int) command.Envelope {
	e.Body = bytes.Clone(e.Body)
	e.Body[i] ^= 1
	return e
}

func TestEveryBitOfAnEnvelopeCounts(t *testing.T) {
	root, collector := newKey(1), newKey(3)
	trust := command.Trust{SigningRoot: public(root)}
	e, err := command.Sign(example(), certified(t, root, collector, command.R2))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want, err := trust.Verify(e, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			changed, err := command.ParseEnvelope(b)
			if err != nil {
				continue
			}
			if got, err := trust.Verify(changed, now); err == nil && cmp.Diff(want, got) != "" {
				t.Fatalf("bit %d of byte %d changes the command and goes unseen", bit, i)
			}
		}
	}
}

func TestCertifyKeyRefuses(t *testing.T) {
	root, collector := newKey(1), newKey(3)
	fine := command.CertifiedKey{Public: public(collector), NotBefore: now, NotAfter: now.Add(time.Hour), MaxRisk: command.R2}
	for name, change := range map[string]func(*command.CertifiedKey){
		"R3":        func(k *command.CertifiedKey) { k.MaxRisk = command.R3 },
		"no key":    func(k *command.CertifiedKey) { k.Public = nil },
		"backwards": func(k *command.CertifiedKey) { k.NotAfter = k.NotBefore },
		"long name": func(k *command.CertifiedKey) { k.Collector = strings.Repeat("x", 300) },
	} {
		k := fine
		change(&k)
		if _, err := command.CertifyKey(root, k); err == nil {
			t.Errorf("%s: certified", name)
		}
	}
}

func TestPublicKeyText(t *testing.T) {
	k := public(newKey(1))
	text := command.FormatPublicKey(k)
	if got, err := command.ParsePublicKey(text); err != nil || !got.Equal(k) {
		t.Fatalf("%v %v", got, err)
	}
	for _, bad := range []string{"", "ed25519:", text[8:], text + "A", text[:len(text)-4], "rsa:" + text[8:], text + "\n"} {
		if _, err := command.ParsePublicKey(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t)
		b, err := command.MarshalBody(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := command.ParseBody(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, got); d != "" {
			t.Fatal(d)
		}
	})
}

func drawCommand(t *rapid.T) command.Command {
	id := rapid.StringMatching(`[0-7][0-9A-HJKMNP-TV-Z]{25}`)
	text := rapid.StringMatching(`[ -~]{0,40}`)
	ms := func(most int) time.Duration {
		return time.Duration(rapid.IntRange(1, most).Draw(t, "ms")) * time.Millisecond
	}
	c := command.Command{
		ID: id.Draw(t, "id"), Kind: command.Kind(rapid.IntRange(1, 5).Draw(t, "kind")), Host: rapid.StringMatching(`[a-z0-9.-]{1,20}`).Draw(t, "host"),
		ActorIncarnation: text.Draw(t, "incarnation"), Fence: command.Fence{Incarnation: rapid.Uint64().Draw(t, "fi"), Revision: rapid.Uint64().Draw(t, "fr")},
		ExpectedPrior: text.Draw(t, "prior"), Issued: now.Add(ms(1e9)), Risk: command.Risk(rapid.IntRange(0, 3).Draw(t, "risk")),
		Reason: text.Draw(t, "reason"), Incident: text.Draw(t, "incident"),
	}
	c.Expires = c.Issued.Add(ms(1e6))
	switch c.Kind {
	case command.Apply:
		c.Lease = ms(1e6)
		c.Action = command.Action{Name: rapid.StringMatching(`[a-z]{1,8}\.[a-z]{1,8}`).Draw(t, "action"), Target: drawTarget(t), Value: rapid.Int64().Draw(t, "value")}
		if rapid.Bool().Draw(t, "gradual") {
			c.Release = command.Release{Step: rapid.IntRange(1, 100).Draw(t, "step"), Every: ms(1e5)}
		}
	case command.Renew:
		c.Of, c.Lease, c.Counter = id.Draw(t, "of"), ms(1e6), rapid.Uint32().Draw(t, "counter")
	case command.Revert:
		c.Of = id.Draw(t, "of")
	}
	return c
}

func drawTarget(t *rapid.T) command.Target {
	path := rapid.StringMatching(`(/[a-z0-9_.-]{0,6}[a-z0-9]){1,3}`)
	switch rapid.IntRange(0, 7).Draw(t, "target") {
	case 0:
		return command.Target{Unit: rapid.StringMatching(`[a-zA-Z0-9:_.\\@-]{0,10}[a-z]\.(service|slice|scope)`).Draw(t, "unit")}
	case 1:
		return command.Target{Cgroup: path.Draw(t, "cgroup")}
	case 2:
		return command.Target{Process: &command.Process{Exe: path.Draw(t, "exe"), User: rapid.StringMatching(`([a-z_][a-z0-9_.-]{0,6})?`).Draw(t, "user")}}
	case 3:
		return command.Target{Port: rapid.StringMatching(`[1-9][0-9]{0,3}/(tcp|udp)`).Draw(t, "port")}
	case 4:
		return command.Target{Check: &command.Check{Kind: "tcp", Address: rapid.StringMatching(`[a-z]{1,9}:[1-9][0-9]{0,3}`).Draw(t, "address")}}
	case 5:
		return command.Target{Sysctl: rapid.SampledFrom(command.Sysctls()).Draw(t, "sysctl")}
	case 6:
		return command.Target{Place: rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,20}`).Draw(t, "place")}
	}
	return command.Target{}
}

func TestTargetText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTarget(t)
		got, err := command.ParseTarget(want.String())
		if err != nil || cmp.Diff(want, got) != "" {
			t.Fatalf("%s: %v %v", want, got, err)
		}
	})
	for _, bad := range []string{
		"", "unit/", "unit", "unit/a b.service", "unit/a", "unit/../x.service", "cgroup/", "cgroup", "cgroup/../a", "cgroup/a/", "process/", "process/usr/../x",
		"process/a@b@c", "process/a@-x", "port/0/tcp", "port/080/tcp", "port/1/sctp", "port/65536/tcp", "check/http:ftp://x", "check/tcp:x", "check/icmp:x", "host/x", "x/y", "cgroup/a\nb",
		"sysctl/", "sysctl/kernel.core_pattern", "sysctl/net/core/somaxconn", "sysctl/net.core.somaxconn\n", "place/", "place/../x", "place/A", "place/-a",
	} {
		if got, err := command.ParseTarget(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, got)
		}
	}
	two := command.Target{Unit: "a.service", Cgroup: "/a"}
	if two.Validate() == nil {
		t.Error("two names in one target are taken")
	}
}

func TestReportAndResultRoundTrip(t *testing.T) {
	report := command.ActorReport{
		Present: true, Incarnation: "x", PermissionsHash: bytes.Repeat([]byte{1}, 32), MaxRisk: command.R2, Killed: true, Problem: "p",
		Permissions: []command.Permission{{Action: "cpu.weight", Targets: []command.Target{{Unit: "a.service"}}, Min: 1, Max: 9, MaxLease: time.Minute, Rate: "6/5m"}},
	}
	b, err := report.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := command.ParseActorReport(b); err != nil || cmp.Diff(report, got) != "" {
		t.Fatalf("%v %s", err, cmp.Diff(report, got))
	}
	result := command.Result{
		ID: "i", Ordinal: 4, Phase: command.Refused, Reason: command.ReasonDenied, Detail: strings.Repeat("é", 600), Prior: "1", Value: "2", Time: now,
		ActorIncarnation: "x", LeaseLeft: time.Second,
	}
	got, err := command.ResultFromProto(result.Proto())
	if err != nil {
		t.Fatal(err)
	}
	result.Detail = strings.Repeat("é", 512)
	if d := cmp.Diff(result, got); d != "" {
		t.Fatal(d)
	}
}

func TestCatalogue(t *testing.T) {
	last := ""
	for _, s := range command.Catalogue() {
		if s.Name <= last {
			t.Errorf("%s stands after %s", s.Name, last)
		}
		last = s.Name
		if s.Once() != (s.Risk == command.R3) || s.Min > s.Max || s.Unit == "" || s.Title == "" || len(s.Targets) == 0 || s.Neutral != 0 && (s.Neutral < s.Min || s.Neutral > s.Max) {
			t.Errorf("row %+v does not hold together", s)
		}
		if got, ok := command.Lookup(s.Name); !ok || cmp.Diff(s, got) != "" {
			t.Errorf("%s is not found", s.Name)
		}
	}
}

func FuzzParseBody(f *testing.F) {
	b, err := command.MarshalBody(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := command.ParseBody(b)
		if err != nil {
			return
		}
		again, err := command.MarshalBody(c)
		if err != nil {
			t.Fatalf("%+v was parsed and cannot be written: %v", c, err)
		}
		if got, err := command.ParseBody(again); err != nil || cmp.Diff(c, got) != "" {
			t.Fatalf("%v %s", err, cmp.Diff(c, got))
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	root, collector := newKey(1), newKey(3)
	trust := command.Trust{SigningRoot: public(root)}
	e, err := command.Sign(example(), certified(f, root, collector, command.R2))
	if err != nil {
		f.Fatal(err)
	}
	b, err := e.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := command.ParseEnvelope(b)
		if err != nil {
			return
		}
		if _, err := trust.Verify(got, now); err == nil && !bytes.Equal(got.Body, e.Body) {
			t.Fatal("a body that nobody signed was verified")
		}
	})
}

func FuzzParseActorReport(f *testing.F) {
	b, err := command.ActorReport{Present: true, MaxRisk: command.R1}.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := command.ParseActorReport(b); err == nil {
			if _, err := r.Marshal(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	f.Add("sysctl/net.core.somaxconn")
	f.Add("place/old-logs")
	f.Add("process/usr/bin/x@user")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := command.ParseTarget(s); err == nil && got.String() != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	root, collector := newKey(1), newKey(3)
	trust := command.Trust{SigningRoot: public(root)}
	e, err := command.Sign(example(), certified(b, root, collector, command.R2))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Verify(e, now); err != nil {
			b.Fatal(err)
		}
	}
}
