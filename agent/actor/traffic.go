package actor

import (
	"path/filepath"

	"github.com/evenkeel/evenkeel/agent/traffic/agentcheck"
	"github.com/evenkeel/evenkeel/agent/traffic/haproxy"
	"github.com/evenkeel/evenkeel/agent/traffic/ipvs"
	"github.com/evenkeel/evenkeel/agent/traffic/nft"
	"github.com/evenkeel/evenkeel/agent/traffic/nginx"
	"github.com/evenkeel/evenkeel/agent/traffic/tc"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// trafficActuators are the actions that change where requests go.
func trafficActuators(s Settings) map[string]Actuator {
	return map[string]Actuator{
		"agentcheck.weight": agentcheck.Weight(s.AgentCheckDir), "ipvs.weight": ipvs.Weight(), "nft.limit": nft.Limit(), "nginx.weights": nginx.Weights(s.Nginx), "tc.shape": tc.Shape(),
		"haproxy.weight": haproxy.Weight(), "haproxy.drain": haproxy.Drain(), "haproxy.maint": haproxy.Maint(), "haproxy.maxconn": haproxy.MaxConn(),
	}
}

// trafficSettings reads what an actor's settings say of the systems that steer traffic.
func (r *reader) trafficSettings(m fields, s *Settings) {
	if m.has("nginx") {
		p := r.mapping(m.at("nginx"), "nginx", "program", "config", "pidFile")
		for key, to := range map[string]*string{"program": &s.Nginx.Program, "config": &s.Nginx.Config, "pidFile": &s.Nginx.PIDFile} {
			if p.has(key) {
				if *to = r.text(p, key); !filepath.IsAbs(*to) {
					r.add(p.at(key), "%s: %q is not an absolute path", key, *to)
				}
			}
		}
	}
	if m.has("agentCheckDir") {
		if s.AgentCheckDir = r.text(m, "agentCheckDir"); !filepath.IsAbs(s.AgentCheckDir) {
			r.add(m.at("agentCheckDir"), "agentCheckDir: %q is not an absolute path", s.AgentCheckDir)
		}
	}
}

// trafficTargets are the keys of a target, in a permissions file, that steers traffic.
var trafficTargets = []string{"haproxy", "nginx", "ipvs", "interface", "agentCheck"}

// trafficTarget reads such a target; the zero one where the mapping names another kind.
func (r *reader) trafficTarget(m fields) command.Target {
	var t command.Target
	switch {
	case m.has("haproxy"):
		p := r.mapping(m.at("haproxy"), "haproxy", "socket", "backend", "server")
		t.HAProxy = &command.HAProxyServer{Socket: r.text(p, "socket"), Backend: r.text(p, "backend"), Server: r.text(p, "server")}
	case m.has("nginx"):
		p := r.mapping(m.at("nginx"), "nginx", "file", "upstream", "server")
		t.Nginx = &command.NginxServer{File: r.text(p, "file"), Upstream: r.text(p, "upstream"), Server: r.text(p, "server")}
	case m.has("ipvs"):
		p := r.mapping(m.at("ipvs"), "ipvs", "service", "destination")
		t.IPVS = &command.IPVSDestination{Service: r.text(p, "service"), Destination: r.text(p, "destination")}
	case m.has("interface"):
		t.Interface = r.text(m, "interface")
	case m.has("agentCheck"):
		t.AgentCheck = r.text(m, "agentCheck")
	}
	return t
}
