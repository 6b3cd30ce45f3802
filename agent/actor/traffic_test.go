package actor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Every kind of target that steers traffic can be permitted by name, and only by its whole name.
func TestTrafficTargetsArePermitted(t *testing.T) {
	for _, x := range []struct{ action, target, want string }{
		{"haproxy.weight", "{haproxy: {socket: /run/haproxy/admin.sock, backend: web, server: web-1}}", "haproxy/web/web-1@/run/haproxy/admin.sock"},
		{"nginx.weights", `{nginx: {file: /etc/nginx/conf.d/shop.conf, upstream: shop, server: "10.0.0.7:8080"}}`, "nginx/shop/10.0.0.7:8080@/etc/nginx/conf.d/shop.conf"},
		{"ipvs.weight", `{ipvs: {service: "tcp/10.0.0.1:80", destination: "10.0.0.2:80"}}`, "ipvs/tcp/10.0.0.1:80/10.0.0.2:80"},
		{"nft.limit", "{port: 8080/tcp}", "port/8080/tcp"},
		{"tc.shape", "{interface: eth0}", "interface/eth0"},
		{"agentcheck.weight", "{agentCheck: web-1}", "agent-check/web-1"},
	} {
		text := strings.NewReplacer("action: cpu.weight", "action: "+x.action, "{unit: batch.service}", x.target, ", {cgroup: /a/b}", "").Replace(goodPermissions)
		p, err := ParsePermissions([]byte(text))
		if err != nil || len(p.Actions) == 0 || p.Actions[0].Targets[0].String() != x.want {
			t.Errorf("%s: %+v %v", x.action, p.Actions, err)
			continue
		}
		target, err := command.ParseTarget(x.want)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := p.Grant(command.Action{Name: x.action, Target: target}); !ok {
			t.Errorf("%s on %s is not permitted", x.action, x.want)
		}
	}
	for name, target := range map[string]string{
		"no server":      "{haproxy: {socket: /run/h.sock, backend: web}}",
		"unknown key":    "{haproxy: {socket: /run/h.sock, backend: web, server: s, weight: 3}}",
		"a pattern":      `{haproxy: {socket: /run/h.sock, backend: web, server: "*"}}`,
		"relative":       "{haproxy: {socket: h.sock, backend: web, server: s}}",
		"for the action": "{interface: eth0}",
		"two":            "{interface: eth0, port: 80/tcp}",
	} {
		text := strings.NewReplacer("action: cpu.weight", "action: haproxy.weight", "{unit: batch.service}", target, ", {cgroup: /a/b}", "").Replace(goodPermissions)
		if p, err := ParsePermissions([]byte(text)); err == nil {
			t.Errorf("%s is permitted: %+v", name, p.Actions)
		}
	}
}

func TestTrafficSettings(t *testing.T) {
	s, err := ParseSettings([]byte("host: web1\nnginx: {program: /opt/nginx, pidFile: /run/n.pid}\nagentCheckDir: /run/x\n"))
	if err != nil || s.Nginx.Program != "/opt/nginx" || s.Nginx.PIDFile != "/run/n.pid" || s.AgentCheckDir != "/run/x" {
		t.Errorf("%+v %v", s, err)
	}
	for _, bad := range []string{"nginx: {program: nginx}", "nginx: {shell: /bin/sh}", "agentCheckDir: x", "nginx: /usr/sbin/nginx"} {
		if _, err := ParseSettings([]byte("host: web1\n" + bad + "\n")); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever the catalogue has on what steers traffic, this actor has the code for; and what the shipped documents permit
// is permitted.
func TestTrafficHasCode(t *testing.T) {
	have := trafficActuators(Settings{})
	for _, s := range command.Catalogue() {
		for _, k := range s.Targets {
			switch k {
			case command.OnHAProxy, command.OnNginx, command.OnIPVS, command.OnInterface, command.OnAgentCheck, command.OnPort:
				if have[s.Name] == nil {
					t.Errorf("%s has no code", s.Name)
				}
			}
		}
	}
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "traffic.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	i := strings.Index(goodPermissions, "actions:")
	if !ok || i < 0 {
		t.Fatal("no example")
	}
	if p, err := ParsePermissions([]byte(goodPermissions[:i] + example)); err != nil || len(p.Actions) != 2 {
		t.Errorf("the example of docs/traffic.md: %+v %v", p.Actions, err)
	}
	for name := range have {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/traffic.md does not know %s", name)
		}
	}
}
