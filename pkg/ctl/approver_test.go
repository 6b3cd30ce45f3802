package ctl_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/command"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// stopBody is the command that an approver is asked to sign.
func stopBody(t *testing.T, change func(*command.Command)) []byte {
	t.Helper()
	c := command.Command{
		ID: actionA, Kind: command.Apply, Host: "web-1", ActorIncarnation: "inc", Fence: command.Fence{Incarnation: 1, Revision: 42},
		Action: command.Action{Name: "unit.stop", Target: command.Target{Unit: "batch.service"}, Value: 1}, Issued: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
		Expires: time.Date(2026, 11, 25, 12, 6, 0, 0, time.UTC), Lease: 10 * time.Minute, Risk: command.R2, Reason: "for component/web\x1b[2J",
	}
	if change != nil {
		change(&c)
	}
	b, err := command.MarshalBody(c)
	must(t, err)
	return b
}

func TestApproverSigns(t *testing.T) {
	f := newFake(t)
	f.full()
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	word := filepath.Join(f.home, "word")
	must(t, os.WriteFile(word, []byte("correct horse\n"), 0o600))

	made := f.run("approver", "init", "--passphrase-file", word)
	if made.code != 0 || !strings.HasPrefix(made.out, "approvers: [ed25519:") {
		t.Fatalf("%+v", made)
	}
	file := filepath.Join(f.home, "config", "evenkeel", "approver.key")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	if again := f.run("approver", "init", "--passphrase-file", word); again.code != 2 || !strings.Contains(again.err, "never overwritten") {
		t.Errorf("%+v", again)
	}
	if shown := f.run("approver", "show"); shown.out != made.out {
		t.Errorf("%+v", shown)
	}
	if both := f.run("approver", "init", "--key", filepath.Join(f.home, "k2")); both.code != 2 || !strings.Contains(both.err, "--without-passphrase") {
		t.Errorf("%+v", both)
	}
	public, err := command.ParsePublicKey(strings.TrimSuffix(strings.TrimPrefix(made.out, "approvers: ["), "]\n"))
	must(t, err)

	body := stopBody(t, nil)
	hash := command.HashBody(body)
	waiting := func(b []byte) *operatorv1.Action {
		x := action()
		x.NeedsKey, x.CommandBody, x.CommandHash = true, b, command.HashBody(b)
		// What the collector says of it is another thing altogether.
		x.Text, x.Name, x.Target = "cpu.weight of unit/batch.service to 10", "cpu.weight", "unit/other.service"
		return x
	}
	f.reply("/evenkeel.operator.v1.ActionService/GetAction", waiting(body))
	approve := func(more ...string) result {
		f.asked()
		return f.run(append([]string{"action", "approve", actionA, "--key", file, "--passphrase-file", word}, more...)...)
	}
	for name, x := range map[string]struct {
		body []byte
		more []string
		code int
		says string
	}{
		"not confirmed":  {body, nil, 2, "--yes"},
		"another hash":   {body, []string{"--hash", "1234"}, 4, "hash is " + hash + " now"},
		"another action": {stopBody(t, func(c *command.Command) { c.ID = actionB }), []string{"--yes"}, 4, "the command is " + actionB},
		"a revocation": {stopBody(t, func(c *command.Command) {
			c.Kind, c.Of, c.Action, c.Lease = command.Revoke, "0123456789abcdef", command.Action{}, 0
		}), []string{"--yes"}, 4, "carries out no action"},
		"no command":       {[]byte("\xff"), []string{"--yes"}, 4, "is no command"},
		"nothing waits":    {nil, []string{"--yes"}, 1, "waits for no key"},
		"wrong passphrase": {body, []string{"--yes", "--passphrase-file", "-"}, 4, "does not open"},
		"no passphrase":    {body, []string{"--yes", "--passphrase-file", ""}, 2, "is sealed"},
		"key that is none": {body, []string{"--yes", "--key", word}, 2, "not an approver's key"},
		"key not there":    {body, []string{"--yes", "--key", word + "x"}, 2, "no such file"},
	} {
		f.reply("/evenkeel.operator.v1.ActionService/GetAction", waiting(x.body))
		f.asked()
		r := f.runWith(f.Context(), "wrong horse\n", append([]string{"action", "approve", actionA, "--key", file, "--passphrase-file", word}, x.more...)...)
		if r.code != x.code || !strings.Contains(r.err, x.says) {
			t.Errorf("%s: %+v", name, r)
		}
		for _, m := range f.asked() {
			if d, ok := m.(*operatorv1.DecideActionRequest); ok {
				t.Errorf("%s: %v was sent", name, d)
			}
		}
	}
	f.reply("/evenkeel.operator.v1.ActionService/GetAction", waiting(body))
	for _, more := range [][]string{{"--yes", "--reason", "agreed"}, {"--hash", hash, "--reason", "agreed"}} {
		r := approve(more...)
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		for _, want := range []string{"host     web-1", "does     unit.stop: stop a service", "on       unit/batch.service", "for      10m0s", "2026-11-25 12:06:00 UTC", hash, "for component/web?[2J"} {
			if !strings.Contains(r.err, want) {
				t.Errorf("%q is not shown:\n%s", want, r.err)
			}
		}
		asked := f.asked()
		d, ok := asked[len(asked)-1].(*operatorv1.DecideActionRequest)
		if !ok || d.CommandHash != hash || d.Key != command.FormatPublicKey(public) || d.Reason != "agreed" {
			t.Fatalf("%v", asked)
		}
		if !ed25519.Verify(public, append([]byte("evenkeel-command-v1\n"), body...), d.Signature) {
			t.Error("the signature does not fit")
		}
	}
}

func TestAuditVerify(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(f.home, "audit")
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	l, err := audit.New(audit.Config{Dir: dir, Clock: func() time.Time { return now }, MaxBytes: 2000, Keep: 3})
	must(t, err)
	for i := range 40 {
		must(t, l.Append(t.Context(), "ann", "apply", fmt.Sprintf("service/s%d", i), "done", ""))
	}
	seq, hash := l.Head()
	must(t, l.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	verify := func(more ...string) result {
		return f.run(append(append([]string{"audit", "verify"}, files...), more...)...)
	}
	if r := verify(); r.code != 0 || !strings.Contains(r.out, fmt.Sprintf("head %d:%s", seq, hash)) || !strings.Contains(r.err, "the log begins with entry") {
		t.Fatalf("%+v", r)
	}
	if r := verify("--head", fmt.Sprintf("%d:%s", seq, hash)); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if r := verify("--head", "41:"+hash); r.code != 1 || !strings.Contains(r.err, "lines are missing at its end") {
		t.Errorf("%+v", r)
	}
	for _, head := range []string{"x", "0:ab", "1:"} {
		if r := verify("--head", head); r.code != 2 {
			t.Errorf("--head %s: %+v", head, r)
		}
	}
	if r := f.run("audit", "verify", files[0], files[2], files[3]); r.code != 1 || !strings.Contains(r.err, "line 1") {
		t.Errorf("with a file left out: %+v", r)
	}
	last := files[3] // audit.jsonl sorts behind audit-N.jsonl
	b, err := os.ReadFile(last)
	must(t, err)
	lines := bytes.SplitAfter(b, []byte("\n"))
	for name, x := range map[string]struct {
		text []byte
		line int
	}{
		"a word":      {bytes.Replace(b, []byte("ann"), []byte("bob"), 1), 1},
		"a space":     {bytes.Replace(b, []byte(`,"who"`), []byte(`, "who"`), 1), 1},
		"a field":     {bytes.Replace(b, []byte(`{"seq"`), []byte(`{"x":1,"seq"`), 1), 1},
		"a line gone": {bytes.Join(append(append([][]byte{}, lines[:1]...), lines[2:]...), nil), 2},
		"exchanged":   {bytes.Join([][]byte{lines[0], lines[2], lines[1]}, nil), 2},
		"rubbish":     {append(append([]byte{}, lines[0]...), "rubbish\n"...), 2},
	} {
		must(t, os.WriteFile(last, x.text, 0o600))
		if r := verify(); r.code != 1 || !strings.Contains(r.err, fmt.Sprintf("%s: line %d:", f.scrub(last), x.line)) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	must(t, os.WriteFile(last, b[:len(b)-5], 0o600))
	if r := verify(); r.code != 0 || !strings.Contains(r.err, "cut short") {
		t.Errorf("a torn line: %+v", r)
	}
}
