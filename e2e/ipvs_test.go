//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// The weight of a real server in the kernel's load balancer is set, connections follow, everything else of the
// destination stays as it was, and the weight comes back in all ways; with fwmarks and IPv6 alike. This machine's kernel has
// no IPVS, so it is that of a virtual machine.
func TestIPVSWeight(t *testing.T) {
	rig.IPVSVM(t, "ipvs", 4*time.Minute)
}

func insideIPVS(t *testing.T) {
	const service, one, two = "10.9.0.1:80", "10.9.0.2:80", "10.9.0.3:80"
	for _, a := range []string{"10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32"} {
		rig.Must(t, "ip", "addr", "add", a, "dev", "lo")
	}
	for _, line := range []string{
		"-A -t " + service + " -s wrr",
		"-a -t " + service + " -r " + one + " -m -w 100 -x 500 -y 400",
		"-a -t " + service + " -r " + two + " -m -w 100",
		"-A -f 7 -s wrr",
		"-a -f 7 -r 10.9.0.2:80 -m -w 50",
		"-A -u [fd00::1]:53 -s wrr",
		"-a -u [fd00::1]:53 -r [fd00::2]:53 -m -w 60",
	} {
		rig.Must(t, "ipvsadm", strings.Fields(line)...)
	}
	first, second := rig.NewBackend(t, one), rig.NewBackend(t, two)
	share := func() int {
		first.Take()
		second.Take()
		if n := rig.Requests(t, "http://"+service+"/", 44); n != 44 {
			t.Errorf("%d of 44 requests were answered", n)
		}
		a, b := first.Take(), second.Take()
		return a * 100 / max(1, a+b)
	}
	if got := share(); got < 45 || got > 55 {
		t.Fatalf("the first server got %d%% before anything was done", got)
	}
	at := func(service, destination string) command.Target {
		return command.Target{IPVS: &command.IPVSDestination{Service: service, Destination: destination}}
	}
	target, mark, six := at("tcp/"+service, one), at("fwmark/7", "10.9.0.2:80"), at("udp/[fd00::1]:53", "[fd00::2]:53")
	a := rig.NewActor(t, rig.Grant("ipvs.weight", target, 1, 1000), rig.Grant("ipvs.weight", mark, 1, 1000), rig.Grant("ipvs.weight", six, 1, 1000))
	a.Start(t)
	// What ipvsadm prints in full, so that nothing beside the weight may change; it leaves out the thresholds, see below.
	line := func(after, destination string) func() string {
		return func() string {
			_, rest, _ := strings.Cut(rig.Must(t, "ipvsadm", "-S", "-n"), after)
			for l := range strings.Lines(rest) {
				if strings.Contains(l, "-r "+destination) {
					return strings.TrimSpace(l)
				}
			}
			return ""
		}
	}
	read := line("-A -t "+service, one)
	l := rig.Lever{
		Action: command.Action{Name: "ipvs.weight", Target: target, Value: 10}, Read: read, Prior: "-a -t 10.9.0.1:80 -r 10.9.0.2:80 -m -w 100",
		Want: "-a -t 10.9.0.1:80 -r 10.9.0.2:80 -m -w 10", Lease: 5 * time.Second,
		Effect: func(t *testing.T) {
			if got := rig.Must(t, "ipvsadm", "-L", "-n", "--thresholds"); !thresholds.MatchString(got) {
				t.Errorf("the thresholds were lost:\n%s", got)
			}
			if got := share(); got < 4 || got > 16 {
				t.Errorf("the first server got %d%% of the connections with 10 to 100", got)
			} else {
				t.Logf("the first server got %d%% of the connections with 10 to 100", got)
			}
		},
		Drift: func() {
			rig.Must(t, "ipvsadm", strings.Fields("-e -t "+service+" -r "+one+" -m -w 33 -x 500 -y 400")...)
		},
		Drifted: "-a -t 10.9.0.1:80 -r 10.9.0.2:80 -m -w 33",
		Mend: func() {
			rig.Must(t, "ipvsadm", strings.Fields("-e -t "+service+" -r "+one+" -m -w 100 -x 500 -y 400")...)
		},
	}
	l.Try(t, a)
	if got := share(); got < 45 || got > 55 {
		t.Errorf("the first server got %d%% after everything was taken back", got)
	}

	peer := a.Dial(t)
	for _, x := range []struct {
		target command.Target
		read   func() string
	}{{mark, line("-A -f 7", "10.9.0.2:80")}, {six, line("-A -u [fd00::1]:53", "[fd00::2]:53")}} {
		before := x.read()
		c := peer.Do(t, a, command.Action{Name: "ipvs.weight", Target: x.target, Value: 7}, 3*time.Second)
		if got, want := x.read(), weightForm.ReplaceAllString(before, "-w 7"); got != want || before == want {
			t.Errorf("%s: %q became %q", x.target, before, got)
		}
		peer.Await(t, c.ID, command.Reverted, 20*time.Second)
		if got := x.read(); got != before {
			t.Errorf("%s: %q came back as %q", x.target, before, got)
		}
	}
}

var thresholds = regexp.MustCompile(`10\.9\.0\.2:80\s+500\s+400`)

var weightForm = regexp.MustCompile(`-w \d+`)
