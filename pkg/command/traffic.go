package command

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// HAProxyServer is one server of a backend in the HAProxy behind a runtime socket.
type HAProxyServer struct {
	Socket  string `json:"socket"` // absolute path
	Backend string `json:"backend"`
	Server  string `json:"server"`
}

// NginxServer is one server of an upstream block in one of nginx's files.
type NginxServer struct {
	File     string `json:"file"` // absolute path
	Upstream string `json:"upstream"`
	Server   string `json:"server"` // as the file has it: "10.0.0.7:8080", "web-1.example:80"
}

// IPVSDestination is one real server of a virtual service in the kernel's load balancer.
type IPVSDestination struct {
	Service     string `json:"service"`     // "tcp/10.0.0.1:80", "udp/[2001:db8::1]:53" or "fwmark/7"
	Destination string `json:"destination"` // "10.0.0.2:80"
}

// The kinds of target that steer traffic.
const (
	OnHAProxy    TargetKind = "haproxy"
	OnNginx      TargetKind = "nginx"
	OnIPVS       TargetKind = "ipvs"
	OnInterface  TargetKind = "interface"
	OnAgentCheck TargetKind = "agentCheck"
)

// trafficActions change where requests go and how many come in. A weight of 0 is not among the weights: it takes a
// server out of service, which is what drain and maint are for.
var trafficActions = []Spec{
	{
		Name: "agentcheck.weight", Risk: R1, Unit: "percent of the configured weight", Min: 1, Max: 100, Neutral: 100,
		Targets: []TargetKind{OnAgentCheck}, Title: "tell load balancers that ask this host which share of its weight to give it",
	},
	{
		Name: "haproxy.drain", Risk: R2, Unit: "(always 1)", Min: 1, Max: 1,
		Targets: []TargetKind{OnHAProxy}, PrivilegedRevert: true, Title: "give a HAProxy server no new sessions but sticky ones",
	},
	{
		Name: "haproxy.maint", Risk: R2, Unit: "(always 1)", Min: 1, Max: 1,
		Targets: []TargetKind{OnHAProxy}, PrivilegedRevert: true, Title: "take a HAProxy server out of service",
	},
	{
		Name: "haproxy.maxconn", Risk: R2, Unit: "connections", Min: 1, Max: 1000000,
		Targets: []TargetKind{OnHAProxy}, PrivilegedRevert: true, Title: "bound the connections that HAProxy makes to a server",
	},
	{
		Name: "haproxy.weight", Risk: R1, Unit: "weight", Min: 1, Max: 256,
		Targets: []TargetKind{OnHAProxy}, PrivilegedRevert: true, Title: "set a HAProxy server's weight in its backend",
	},
	{
		Name: "ipvs.weight", Risk: R1, Unit: "weight", Min: 1, Max: 65535,
		Targets: []TargetKind{OnIPVS}, PrivilegedRevert: true, Title: "set the weight of a real server in the kernel's load balancer",
	},
	{
		Name: "nft.limit", Risk: R2, Unit: "new connections a second", Min: 1, Max: 1000000,
		Targets: []TargetKind{OnPort}, PrivilegedRevert: true, Title: "drop new connections to a port beyond a rate, until the kernel forgets it by itself",
	},
	{
		Name: "nginx.weights", Risk: R2, Unit: "weight", Min: 1, Max: 65535,
		Targets: []TargetKind{OnNginx}, PrivilegedRevert: true, Title: "set a server's weight in an nginx upstream and reload nginx",
	},
	{
		Name: "tc.shape", Risk: R2, Unit: "kbit/s", Min: 8, Max: 400000000,
		Targets: []TargetKind{OnInterface}, PrivilegedRevert: true, Title: "bound the rate at which a network interface sends",
	},
}

// The longest names, in bytes.
const (
	maxBackend   = 128
	maxInterface = 15 // what the kernel takes
	maxCheckName = 64
	maxSocket    = 107 // what a unix address holds
)

func (t Target) trafficKind() TargetKind {
	switch {
	case t.HAProxy != nil:
		return OnHAProxy
	case t.Nginx != nil:
		return OnNginx
	case t.IPVS != nil:
		return OnIPVS
	case t.Interface != "":
		return OnInterface
	case t.AgentCheck != "":
		return OnAgentCheck
	}
	return OnHost
}

// trafficText names, like process targets, the part first and the place behind an "@".
func (t Target) trafficText() string {
	switch {
	case t.HAProxy != nil:
		return "haproxy/" + t.HAProxy.Backend + "/" + t.HAProxy.Server + "@" + t.HAProxy.Socket
	case t.Nginx != nil:
		return "nginx/" + t.Nginx.Upstream + "/" + t.Nginx.Server + "@" + t.Nginx.File
	case t.IPVS != nil:
		return "ipvs/" + t.IPVS.Service + "/" + t.IPVS.Destination
	case t.Interface != "":
		return "interface/" + t.Interface
	case t.AgentCheck != "":
		return "agent-check/" + t.AgentCheck
	}
	return ""
}

func parseTraffic(kind, rest string) (Target, error) {
	var t Target
	switch kind {
	case "haproxy", "nginx":
		names, place, _ := strings.Cut(rest, "@")
		outer, server, ok := strings.Cut(names, "/")
		if !ok {
			return t, fmt.Errorf("expected %s/GROUP/SERVER@/PATH", kind)
		}
		if kind == "haproxy" {
			t.HAProxy = &HAProxyServer{Socket: place, Backend: outer, Server: server}
		} else {
			t.Nginx = &NginxServer{File: place, Upstream: outer, Server: server}
		}
	case "ipvs":
		i := strings.LastIndexByte(rest, '/')
		if i < 0 {
			return t, fmt.Errorf("expected ipvs/tcp/ADDRESS:PORT/ADDRESS:PORT or ipvs/fwmark/NUMBER/ADDRESS:PORT")
		}
		t.IPVS = &IPVSDestination{Service: rest[:i], Destination: rest[i+1:]}
	case "interface":
		t.Interface = rest
	case "agent-check":
		t.AgentCheck = rest
	default:
		return t, fmt.Errorf("expected unit/, cgroup/, process/, port/, check/, sysctl/, place/, haproxy/, nginx/, ipvs/, interface/, agent-check/ or host")
	}
	return t, nil
}

func (t Target) validTraffic() error {
	switch {
	case t.HAProxy != nil:
		if err := validFile("socket", t.HAProxy.Socket); err != nil {
			return err
		}
		if len(t.HAProxy.Socket) > maxSocket {
			return fmt.Errorf("socket: the path has %d bytes, a unix address holds %d", len(t.HAProxy.Socket), maxSocket)
		}
		if err := validName("backend", t.HAProxy.Backend, maxBackend, "_-.:"); err != nil {
			return err
		}
		return validName("server", t.HAProxy.Server, maxBackend, "_-.:")
	case t.Nginx != nil:
		if err := validFile("file", t.Nginx.File); err != nil {
			return err
		}
		if err := validName("upstream", t.Nginx.Upstream, maxBackend, "_-."); err != nil {
			return err
		}
		return validName("server", t.Nginx.Server, maxBackend, "_-.:[]")
	case t.IPVS != nil:
		service, err := ParseIPVSService(t.IPVS.Service)
		if err != nil {
			return err
		}
		to, err := parseAddrPort("destination", t.IPVS.Destination)
		if err == nil && service.Mark == 0 && service.Address.Addr().Is4() != to.Addr().Is4() {
			err = fmt.Errorf("destination %s is not of the same family as service %s", t.IPVS.Destination, t.IPVS.Service)
		}
		return err
	case t.Interface != "":
		if t.Interface == "." || t.Interface == ".." {
			return fmt.Errorf("interface %q cannot be the name of one", t.Interface)
		}
		return validName("interface", t.Interface, maxInterface, "_-.")
	case t.AgentCheck != "":
		if t.AgentCheck[0] == '.' {
			return fmt.Errorf("name %q of an agent check begins with a dot", t.AgentCheck)
		}
		return validName("name of an agent check", t.AgentCheck, maxCheckName, "_-.")
	}
	return nil
}

// IPVSService is a virtual service: Mark, or Protocol "tcp" or "udp" with Address.
type IPVSService struct {
	Protocol string
	Address  netip.AddrPort
	Mark     uint32
}

// ParseIPVSService reads "tcp/10.0.0.1:80", "udp/[2001:db8::1]:53" or "fwmark/7".
func ParseIPVSService(s string) (IPVSService, error) {
	kind, rest, _ := strings.Cut(s, "/")
	switch kind {
	case "fwmark":
		n, err := strconv.ParseUint(rest, 10, 32)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != rest {
			return IPVSService{}, fmt.Errorf("service %q: expected fwmark/NUMBER", s)
		}
		return IPVSService{Mark: uint32(n)}, nil
	case "tcp", "udp":
		a, err := parseAddrPort("service", rest)
		return IPVSService{Protocol: kind, Address: a}, err
	}
	return IPVSService{}, fmt.Errorf("service %q: expected tcp/ADDRESS:PORT, udp/ADDRESS:PORT or fwmark/NUMBER", s)
}

// parseAddrPort takes an address only in the one way in which it is written here.
func parseAddrPort(what, s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.String() != s || a.Addr().Is4In6() || a.Addr().Zone() != "" || a.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("%s %q is not of the form 10.0.0.1:80 or [2001:db8::1]:80", what, s)
	}
	return a, nil
}

func validFile(what, s string) error {
	if s == "/" {
		return fmt.Errorf("%s %q is no file", what, s)
	}
	return validPath(what, s)
}

func validName(what, s string, most int, beside string) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("%s %q: expected 1 to %d characters", what, clip(s), most)
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte(beside, c) < 0 {
			return fmt.Errorf("%s %q: character %q cannot be part of it", what, s, c)
		}
	}
	return nil
}
