package command_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/command"
)

func drawTrafficTarget(t *rapid.T) command.Target {
	place := rapid.StringMatching(`(/[a-z0-9_.@:-]{0,6}[a-z0-9]){1,3}`)
	name := rapid.StringMatching(`[a-zA-Z0-9_.:-]{1,12}`)
	four := rapid.StringMatching(`10\.[1-9][0-9]?\.0\.[1-9]:[1-9][0-9]{0,3}`)
	six := rapid.StringMatching(`\[2001:db8::[1-9a-f]\]:[1-9][0-9]{0,3}`)
	switch rapid.IntRange(0, 5).Draw(t, "traffic") {
	case 0:
		return command.Target{HAProxy: &command.HAProxyServer{Socket: place.Draw(t, "socket"), Backend: name.Draw(t, "backend"), Server: name.Draw(t, "server")}}
	case 1:
		return command.Target{Nginx: &command.NginxServer{
			File: place.Draw(t, "file"), Upstream: rapid.StringMatching(`[a-z_.-]{1,9}`).Draw(t, "upstream"), Server: four.Draw(t, "server"),
		}}
	case 2:
		proto := rapid.SampledFrom([]string{"tcp/", "udp/"}).Draw(t, "proto")
		return command.Target{IPVS: &command.IPVSDestination{Service: proto + six.Draw(t, "service"), Destination: six.Draw(t, "destination")}}
	case 3:
		return command.Target{IPVS: &command.IPVSDestination{Service: rapid.StringMatching(`fwmark/[1-9][0-9]{0,8}`).Draw(t, "mark"), Destination: four.Draw(t, "destination")}}
	case 4:
		return command.Target{Interface: rapid.StringMatching(`[a-z]{2,8}[0-9.]{0,3}`).Draw(t, "interface")}
	}
	return command.Target{AgentCheck: rapid.StringMatching(`[a-z][a-z0-9_.-]{0,20}`).Draw(t, "name")}
}

func TestTrafficTargetsKeepTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTrafficTarget(t)
		got, err := command.ParseTarget(want.String())
		if err != nil || cmp.Diff(want, got) != "" {
			t.Fatalf("%s: %v %v", want, got, err)
		}
		over, err := command.TargetFromProto(want.Proto())
		if err != nil || cmp.Diff(want, over) != "" {
			t.Fatalf("over the wire %s became %s: %v", want, over, err)
		}
	})
}

func TestTrafficTargetsAreStrict(t *testing.T) {
	for _, bad := range []string{
		"haproxy/web/s", "haproxy/web/s@", "haproxy/web/s@run/x", "haproxy/web@/x", "haproxy//s@/x", "haproxy/web/@/x", "haproxy/web/a/b@/x", "haproxy/we b/s@/x",
		"haproxy/web/s;shutdown@/x", "haproxy/web/s\n@/x", "haproxy/web/s@/x/../y", "haproxy/web/s@/", "haproxy/web/s@/" + strings.Repeat("x", 107), "nginx/u/s;@/x", "nginx/u/{s@/x", "nginx/u/s@x", "nginx/u/@/x",
		"ipvs/tcp/10.0.0.1:80", "ipvs/tcp/10.0.0.1:0/10.0.0.2:80", "ipvs/tcp/0.0.0.0:80/10.0.0.2:80", "ipvs/sctp/10.0.0.1:80/10.0.0.2:80", "ipvs/fwmark/0/10.0.0.2:80",
		"ipvs/fwmark/07/10.0.0.2:80", "ipvs/tcp/10.0.0.1:80/[2001:db8::1]:80", "ipvs/tcp/10.0.0.1:080/10.0.0.2:80", "ipvs/tcp/[2001:DB8::1]:80/[2001:db8::2]:80",
		"interface/", "interface/..", "interface/abcdefghijklmnop", "interface/a b", "interface/a/b", "agent-check/", "agent-check/.x", "agent-check/a/b",
	} {
		if got, err := command.ParseTarget(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, got)
		}
	}
	two := command.Target{Interface: "eth0", AgentCheck: "web"}
	if two.Validate() == nil {
		t.Error("two names in one target are taken")
	}
}

// What takes a server out of service needs an approver, and no weight is a way around that.
func TestNoWeightDrains(t *testing.T) {
	for _, s := range command.Catalogue() {
		switch s.Name {
		case "haproxy.weight", "ipvs.weight", "nginx.weights", "agentcheck.weight":
			if s.Min < 1 {
				t.Errorf("%s takes %d", s.Name, s.Min)
			}
		}
	}
	for _, name := range []string{"haproxy.drain", "haproxy.maint"} {
		if !command.NeedsApprover(command.Command{Kind: command.Apply, Action: command.Action{Name: name}}) {
			t.Errorf("%s needs no approver", name)
		}
	}
}

func FuzzParseTrafficTarget(f *testing.F) {
	for _, s := range []string{
		"haproxy/web/web-1@/run/haproxy/admin.sock", "nginx/shop/10.0.0.7:8080@/etc/nginx/conf.d/shop.conf", "ipvs/tcp/10.0.0.1:80/10.0.0.2:80",
		"ipvs/udp/[2001:db8::1]:53/[2001:db8::2]:53", "ipvs/fwmark/7/10.0.0.2:80", "interface/eth0.5", "agent-check/web-1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := command.ParseTarget(s)
		if err != nil {
			return
		}
		if got.String() != s {
			t.Fatalf("%q became %q", s, got)
		}
		if over, err := command.TargetFromProto(got.Proto()); err != nil || !over.Equal(got) {
			t.Fatalf("%q over the wire: %s %v", s, over, err)
		}
	})
}

func FuzzParseIPVSService(f *testing.F) {
	f.Add("tcp/10.0.0.1:80")
	f.Add("fwmark/7")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := command.ParseIPVSService(s)
		if err == nil && (got.Mark == 0) == (got.Protocol == "") {
			t.Fatalf("%q became %+v", s, got)
		}
	})
}
