package actor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// TestJudge makes one thing wrong at a time, for every reason that a judgement can give.
func TestJudge(t *testing.T) {
	type setup struct {
		command *command.Command
		view    *View
		seal    func(command.Command) command.Envelope
	}
	covered := map[command.Reason]bool{}
	for name, x := range map[string]struct {
		change func(*setup)
		want   command.Reason
	}{
		"good":                 {func(*setup) {}, ""},
		"permissions unusable": {func(s *setup) { s.view.Problem = "the file is not there" }, command.ReasonPermissionsBad},
		"unsigned": {func(s *setup) {
			s.seal = func(c command.Command) command.Envelope { e, _ := command.Sign(c); return e }
		}, command.ReasonUnsigned},
		"unknown key":                     {func(s *setup) { s.seal = sealWith(command.Key{Private: strangerKey}) }, command.ReasonUnknownKey},
		"bad signature":                   {func(s *setup) { s.seal = sealThen(func(e *command.Envelope) { e.Body[3] ^= 1 }) }, command.ReasonBadSignature},
		"malformed":                       {func(s *setup) { s.seal = sealBody(t, []byte("\xff")) }, command.ReasonMalformed},
		"no body":                         {func(s *setup) { s.seal = func(command.Command) command.Envelope { return command.Envelope{} } }, command.ReasonMalformed},
		"key expired":                     {func(s *setup) { s.view.Received.Wall = epoch.Add(2000 * time.Hour) }, command.ReasonKeyExpired},
		"R3 without approver":             {func(s *setup) { s.command.Risk = command.R3 }, command.ReasonRiskNeedsApprover},
		"another host":                    {func(s *setup) { s.command.Host = "web2" }, command.ReasonWrongHost},
		"another incarnation":             {func(s *setup) { s.command.ActorIncarnation = "old" }, command.ReasonWrongIncarnation},
		"no incarnation":                  {func(s *setup) { s.command.ActorIncarnation = "" }, command.ReasonWrongIncarnation},
		"id with other contents":          {func(s *setup) { s.view.Seen = func(string) (Seen, bool) { return Seen{Hash: "other"}, true } }, command.ReasonReplayed},
		"clock was set":                   {func(s *setup) { s.view.Stepped = time.Hour }, command.ReasonClockSkew},
		"revert though the clock was set": {func(s *setup) { asRevert(s.command); holdLease(s.view, LeaseView{}); s.view.Stepped = time.Hour }, ""},
		"issued in the future":            {func(s *setup) { s.command.Issued = epoch.Add(3 * time.Second) }, command.ReasonNotYetValid},
		"issued within the skew":          {func(s *setup) { s.command.Issued = epoch.Add(time.Second) }, ""},
		"good for too long":               {func(s *setup) { s.command.Expires = epoch.Add(MaxValid + time.Second) }, command.ReasonDenied},
		"good for as long as may be":      {func(s *setup) { s.command.Expires = epoch.Add(MaxValid) }, ""},
		"expired by the wall":             {func(s *setup) { s.view.Now.Wall = s.command.Expires }, command.ReasonExpired},
		"a millisecond to go":             {func(s *setup) { s.view.Now.Wall = s.command.Expires.Add(-time.Millisecond) }, ""},
		"expired by the boot clock":       {func(s *setup) { s.view.Now.Boot += time.Minute }, command.ReasonExpired},
		"killed":                          {func(s *setup) { s.view.Killed = "kill file" }, command.ReasonKilled},
		"other permissions":               {func(s *setup) { s.command.PermissionsHash = make([]byte, 32) }, command.ReasonPermissionsChanged},
		"no permissions hash":             {func(s *setup) { s.command.PermissionsHash = nil }, command.ReasonPermissionsChanged},
		"unknown action":                  {func(s *setup) { s.command.Action.Name = "disk.erase" }, command.ReasonDenied},
		"wrong kind of target":            {func(s *setup) { s.command.Action.Target = command.Target{Port: "80/tcp"} }, command.ReasonDenied},
		"the host as target":              {func(s *setup) { s.command.Action.Target = command.Target{} }, command.ReasonDenied},
		"target not listed":               {func(s *setup) { s.command.Action.Target = cgroup("z") }, command.ReasonDenied},
		"action not listed":               {func(s *setup) { s.view.Permissions.Actions = nil }, command.ReasonDenied},
		"over maxRisk":                    {func(s *setup) { s.command.Action.Name = "cpu.quota"; s.command.Action.Value = 50 }, command.ReasonDenied},
		"risk in the body counts":         {func(s *setup) { s.command.Risk = command.R2 }, command.ReasonDenied},
		"outside the legal range":         {func(s *setup) { s.command.Action.Value = 10001 }, command.ReasonDenied},
		"below min":                       {func(s *setup) { s.view.Permissions.Actions[0].Min = 60 }, command.ReasonDenied},
		"above max":                       {func(s *setup) { s.view.Permissions.Actions[0].Max = 40 }, command.ReasonDenied},
		"lease too long":                  {func(s *setup) { s.command.Lease = 2 * time.Minute }, command.ReasonDenied},
		"release too long":                {func(s *setup) { s.command.Release = command.Release{Step: 1, Every: time.Hour} }, command.ReasonDenied},
		"same fence":                      {func(s *setup) { s.view.Fence = func(string) command.Fence { return s.command.Fence } }, command.ReasonOldFence},
		"newer incarnation seen":          {func(s *setup) { s.view.Fence = func(string) command.Fence { return command.Fence{Incarnation: 2} } }, command.ReasonOldFence},
		"rate used up":                    {func(s *setup) { s.view.Applied = func(Grant, time.Time) int { return 1000 } }, command.ReasonRateLimited},
		"too many leases":                 {func(s *setup) { s.view.Leases = MostLeases }, command.ReasonBusy},
		"renewal of nothing":              {func(s *setup) { asRenewal(s.command) }, command.ReasonUnknownCommand},
		"renewal":                         {func(s *setup) { asRenewal(s.command); holdLease(s.view, LeaseView{Counter: 4}) }, ""},
		"renewal again":                   {func(s *setup) { asRenewal(s.command); holdLease(s.view, LeaseView{Counter: 5}) }, command.ReasonReplayed},
		"renewal while releasing":         {func(s *setup) { asRenewal(s.command); holdLease(s.view, LeaseView{Releasing: true}) }, command.ReasonUnknownCommand},
		"renewal while killed":            {func(s *setup) { asRenewal(s.command); holdLease(s.view, LeaseView{}); s.view.Killed = "x" }, command.ReasonKilled},
		"renewal too long":                {func(s *setup) { asRenewal(s.command); holdLease(s.view, LeaseView{}); s.command.Lease = time.Hour }, command.ReasonDenied},
		"renewal of what is withdrawn":    {func(s *setup) { asRenewal(s.command); holdLease(s.view, LeaseView{}); s.view.Permissions.Actions = nil }, command.ReasonDenied},
		"renewal of a value now over max": {func(s *setup) {
			asRenewal(s.command)
			holdLease(s.view, LeaseView{})
			s.view.Permissions.Actions[0].Max = 5
		}, command.ReasonDenied},
		"renewal under other permissions": {func(s *setup) {
			asRenewal(s.command)
			holdLease(s.view, LeaseView{})
			s.command.PermissionsHash = make([]byte, 32)
		}, command.ReasonPermissionsChanged},
		"revert of nothing": {func(s *setup) { asRevert(s.command) }, command.ReasonUnknownCommand},
		"revert":            {func(s *setup) { asRevert(s.command); holdLease(s.view, LeaseView{}) }, ""},
		"revert while killed and withdrawn": {func(s *setup) {
			asRevert(s.command)
			holdLease(s.view, LeaseView{})
			s.view.Killed = "x"
			s.view.Permissions.Actions = nil
		}, ""},
		"kill": {func(s *setup) { asKill(s.command) }, ""},
		"old kill": {func(s *setup) {
			asKill(s.command)
			s.view.Fence = func(string) command.Fence { return s.command.Fence }
		}, command.ReasonOldFence},
	} {
		t.Run(name, func(t *testing.T) {
			key := collectorKey(t)
			c := command.Command{
				ID: "01K8ZZZZZZZZZZZZZZZZZZZZZZ", Kind: command.Apply, Host: "web1", ActorIncarnation: "inc", Fence: command.Fence{Incarnation: 1, Revision: 7},
				Action: command.Action{Name: "cpu.weight", Target: cgroup("a"), Value: 50}, Issued: epoch, Expires: epoch.Add(30 * time.Second),
				Lease: 20 * time.Second, Risk: command.R1, PermissionsHash: testPermissions().Hash,
			}
			at := Moment{Wall: epoch, Boot: time.Hour}
			v := View{
				Host: "web1", Incarnation: "inc", Now: at, Received: at, Permissions: testPermissions(),
				Seen:    func(string) (Seen, bool) { return Seen{}, false },
				Fence:   func(string) command.Fence { return command.Fence{} },
				Lease:   func(string) (LeaseView, bool) { return LeaseView{}, false },
				Applied: func(Grant, time.Time) int { return 0 },
			}
			s := &setup{&c, &v, sealWith(key)}
			x.change(s)
			_, verdict, why := Judge(v, s.seal(c))
			switch {
			case why == nil && x.want != "":
				t.Fatalf("permitted, want %s", x.want)
			case why != nil && why.Reason != x.want:
				t.Fatalf("%v, want %q", why, x.want)
			case why == nil && verdict != Do:
				t.Fatalf("verdict %d", verdict)
			case why != nil && (why.Detail == "" || strings.Contains(why.Detail, "%!")):
				t.Fatalf("detail %q", why.Detail)
			}
		})
		covered[x.want] = true
	}
	covered[reasonOf(JudgePrior(command.Command{ExpectedPrior: "100"}, "50"))] = true
	if JudgePrior(command.Command{ExpectedPrior: "100"}, "100") != nil || JudgePrior(command.Command{}, "7") != nil {
		t.Error("a prior that fits is refused")
	}
	for _, want := range []command.Reason{
		command.ReasonUnsigned, command.ReasonUnknownKey, command.ReasonBadSignature, command.ReasonMalformed, command.ReasonKeyExpired,
		command.ReasonRiskNeedsApprover, command.ReasonWrongHost, command.ReasonWrongIncarnation, command.ReasonExpired, command.ReasonNotYetValid,
		command.ReasonClockSkew, command.ReasonReplayed, command.ReasonOldFence, command.ReasonDenied, command.ReasonPermissionsChanged,
		command.ReasonPermissionsBad, command.ReasonKilled, command.ReasonRateLimited, command.ReasonPriorDiffers, command.ReasonUnknownCommand, command.ReasonBusy,
	} {
		if !covered[want] {
			t.Errorf("no case for %s", want)
		}
	}
}

func reasonOf(r *command.Refusal) command.Reason {
	if r == nil {
		return ""
	}
	return r.Reason
}

func sealWith(keys ...command.Key) func(command.Command) command.Envelope {
	return func(c command.Command) command.Envelope {
		e, err := command.Sign(c, keys...)
		if err != nil {
			panic(err)
		}
		return e
	}
}

func sealThen(change func(*command.Envelope)) func(command.Command) command.Envelope {
	return func(c command.Command) command.Envelope {
		e := sealWith(collectorKey(failer{}))(c)
		change(&e)
		return e
	}
}

func sealBody(t *testing.T, body []byte) func(command.Command) command.Envelope {
	return func(command.Command) command.Envelope {
		e, err := command.Envelope{Body: body}.With(collectorKey(t))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

// failer turns a failing helper into a panic where no test is at hand.
type failer struct{}

func (failer) Helper()                   {}
func (failer) Fatal(a ...any)            { panic(a) }
func (failer) Fatalf(f string, a ...any) { panic(errors.New(f)) }

func asRenewal(c *command.Command) {
	c.Kind, c.Action, c.Of, c.Counter, c.Lease = command.Renew, command.Action{}, "01K8YYYYYYYYYYYYYYYYYYYYYY", 5, 20*time.Second
}

func asRevert(c *command.Command) {
	c.Kind, c.Action, c.Of, c.Lease = command.Revert, command.Action{}, "01K8YYYYYYYYYYYYYYYYYYYYYY", 0
}

func asKill(c *command.Command) {
	c.Kind, c.Action, c.Lease, c.PermissionsHash = command.Kill, command.Action{}, 0, nil
}

func holdLease(v *View, l LeaseView) {
	l.Action = command.Action{Name: "cpu.weight", Target: cgroup("a"), Value: 50}
	v.Lease = func(id string) (LeaseView, bool) { return l, id == "01K8YYYYYYYYYYYYYYYYYYYYYY" }
}

func TestSameBytesAgain(t *testing.T) {
	r := rigIn(t)
	c := r.command("a", 50)
	r.want(r.send(c), command.Applied, "")
	again := r.want(r.send(c), command.Applied, "")
	if again.Ordinal != 2 || r.world.writes[50] != 1 {
		t.Fatalf("%+v, %d writes", again, r.world.writes[50])
	}
}
