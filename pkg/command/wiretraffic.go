package command

import agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"

func (t Target) trafficProto() *agentv1.Target {
	switch {
	case t.HAProxy != nil:
		return &agentv1.Target{Target: &agentv1.Target_Haproxy{
			Haproxy: &agentv1.HAProxyTarget{Socket: t.HAProxy.Socket, Backend: t.HAProxy.Backend, Server: t.HAProxy.Server},
		}}
	case t.Nginx != nil:
		return &agentv1.Target{Target: &agentv1.Target_Nginx{
			Nginx: &agentv1.NginxTarget{File: t.Nginx.File, Upstream: t.Nginx.Upstream, Server: t.Nginx.Server},
		}}
	case t.IPVS != nil:
		return &agentv1.Target{Target: &agentv1.Target_Ipvs{
			Ipvs: &agentv1.IPVSTarget{Service: t.IPVS.Service, Destination: t.IPVS.Destination},
		}}
	case t.Interface != "":
		return &agentv1.Target{Target: &agentv1.Target_Interface{Interface: t.Interface}}
	case t.AgentCheck != "":
		return &agentv1.Target{Target: &agentv1.Target_AgentCheck{AgentCheck: t.AgentCheck}}
	}
	return &agentv1.Target{}
}

// trafficFromProto returns what is not yet validated; the zero Target for what is not of this kind.
func trafficFromProto(p *agentv1.Target) Target {
	var t Target
	switch v := p.GetTarget().(type) {
	case *agentv1.Target_Haproxy:
		t.HAProxy = &HAProxyServer{Socket: v.Haproxy.GetSocket(), Backend: v.Haproxy.GetBackend(), Server: v.Haproxy.GetServer()}
	case *agentv1.Target_Nginx:
		t.Nginx = &NginxServer{File: v.Nginx.GetFile(), Upstream: v.Nginx.GetUpstream(), Server: v.Nginx.GetServer()}
	case *agentv1.Target_Ipvs:
		t.IPVS = &IPVSDestination{Service: v.Ipvs.GetService(), Destination: v.Ipvs.GetDestination()}
	case *agentv1.Target_Interface:
		t.Interface = v.Interface
	case *agentv1.Target_AgentCheck:
		t.AgentCheck = v.AgentCheck
	}
	return t
}
