//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Under a real systemd the shipped actor unit can steer traffic with the shipped drop-ins and not without them, and says so
// before; the responder's unit answers as a user of its own. A stop of the actor takes everything back.
func TestTrafficUnits(t *testing.T) {
	rig.TrafficContainer(t, "traffic", 3*time.Minute)
}

func insideTraffic(t *testing.T) {
	const file = "/etc/nginx/conf.d/shop.conf"
	upstream := "upstream shop { server 127.0.0.1:8001 weight=10; server 127.0.0.1:8002; }\n"
	auth := rig.NewAuthority(t)
	a := &rig.Actor{
		Host: "host-1", Config: actor.DefaultConfig, Permissions: "/etc/evenkeel/permissions.yaml", KillFile: "/etc/evenkeel/kill",
		StateDir: "/var/lib/evenkeel-actor", Socket: "/var/lib/evenkeel-actor/actor.sock", Binary: "/usr/bin/evenkeel-actor", Authority: auth,
	}
	actions := []command.Action{
		{Name: "agentcheck.weight", Target: command.Target{AgentCheck: "web-1"}, Value: 30},
		{Name: "nft.limit", Target: command.Target{Port: "80/tcp"}, Value: 25},
		{Name: "nginx.weights", Target: command.Target{Nginx: &command.NginxServer{File: file, Upstream: "shop", Server: "127.0.0.1:8001"}}, Value: 2},
		{Name: "tc.shape", Target: command.Target{Interface: "lo"}, Value: 500000},
	}
	var grants []string
	for _, x := range actions {
		grants = append(grants, rig.Grant(x.Name, x.Target, 1, 1000000))
	}
	grants[2] = strings.Replace(grants[2], "max: 1000000", "max: 100", 1)
	grants[0] = strings.Replace(grants[0], "max: 1000000", "max: 100", 1)
	grants[3] = strings.Replace(grants[3], "min: 1,", "min: 8,", 1)
	rig.Write(t, a.Permissions, rig.PermissionsText(auth.Root(), grants...))
	rig.Write(t, a.Config, "host: host-1\n")
	rig.Write(t, file, upstream)
	rig.Write(t, "/etc/nginx/nginx.conf", "user www-data;\npid /run/nginx.pid;\nerror_log /var/log/nginx/error.log;\nevents {}\nhttp {\n  access_log off;\n  include conf.d/*.conf;\n"+
		"  server { listen 80; location / { proxy_pass http://shop; } }\n}\n")
	rig.Write(t, "/etc/systemd/system/nginx.service", "[Service]\nType=forking\nPIDFile=/run/nginx.pid\nExecStart=/usr/sbin/nginx -c /etc/nginx/nginx.conf\n")
	rig.Write(t, "/etc/evenkeel/agent-check.env", "LISTEN=127.0.0.1:8426\n")
	rig.Must(t, "systemctl", "daemon-reload")
	rig.Must(t, "systemctl", "start", "nginx.service", "evenkeel-actor.service", "evenkeel-agent-check.service")
	capabilities := func() actor.Capabilities {
		var c actor.Capabilities
		rig.Until(t, time.Minute, "the actor answers", func() string {
			out, errs, code := rig.Run(t, a.Binary, "capabilities", "-o", "json")
			if code != 0 {
				return out + errs
			}
			if err := json.Unmarshal([]byte(out), &c); err != nil || !c.Running {
				return fmt.Sprint(err, c.Running)
			}
			return ""
		})
		return c
	}
	for _, x := range capabilities().Can {
		if x.Action != "nginx.weights" { // the program is there; what its test lacks shows when it is run
			t.Errorf("without a drop-in the actor says that it can do %s", x.Action)
		}
	}

	if err := os.MkdirAll("/etc/systemd/system/evenkeel-actor.service.d", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"network.conf", "nginx.conf", "agent-check.conf"} {
		rig.Copy(t, rig.Inside+"/drop-in/"+name, "/etc/systemd/system/evenkeel-actor.service.d/"+name)
	}
	rig.Must(t, "systemctl", "daemon-reload")
	rig.Must(t, "systemctl", "restart", "evenkeel-actor.service")
	if c := capabilities(); len(c.Can) != len(actions) {
		t.Fatalf("with the drop-ins the actor can %+v, cannot %+v", c.Can, c.Cannot)
	}
	asked := func() string {
		c, err := net.Dial("tcp", "127.0.0.1:8426")
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		fmt.Fprintln(c, "web-1")
		said, _ := io.ReadAll(c)
		return strings.TrimSpace(string(said))
	}
	look := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		weight := "other"
		if string(b) == upstream {
			weight = "before"
		} else if string(b) == strings.Replace(upstream, "weight=10", "weight=2", 1) {
			weight = "2"
		}
		return fmt.Sprint(asked(), " ", strings.Contains(rig.Must(t, "nft", "list", "ruleset"), "limit rate over 25/second"), " ", weight, " ",
			strings.Contains(rig.Must(t, "tc", "qdisc", "show", "dev", "lo"), "tbf ec0e: root refcnt 2 rate 500Mbit"))
	}
	const before, during = "100% false before false", "30% true 2 true"
	if got := look(); got != before {
		t.Fatalf("before: %s", got)
	}
	peer := a.Dial(t)
	for _, x := range actions {
		peer.Do(t, a, x, 5*time.Minute)
	}
	if got := look(); got != during {
		t.Errorf("during the leases: %s", got)
	}
	if info, err := os.Stat("/proc/" + property(t, "evenkeel-agent-check.service", "MainPID")); err != nil || info.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Errorf("the responder runs as root: %v", err)
	}
	rig.Must(t, "systemctl", "stop", "evenkeel-actor.service")
	if got := look(); got != before {
		t.Errorf("after a stop: %s", got)
	}
}
