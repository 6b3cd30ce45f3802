package api

import (
	"context"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/health"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Host is a host as the collector knows it.
type Host struct {
	Name               string
	State              string // pending | admitted | revoked
	Reach              string // connected | silent | agent lost | down | never seen
	Since              time.Time
	Labels             map[string]string
	AgentVersion       string
	LastSample         time.Time
	ClockSkew          time.Duration
	CertificateExpires time.Time
	Actor              command.ActorReport
	Verdicts           []overload.Verdict
	Level              health.Range
	OS, Kernel, Cgroup string
	CPUs               int
	Memory             uint64
	Series             int
}

// Hosts knows the hosts.
type Hosts interface {
	List(ctx context.Context) ([]Host, error) // by name
	Get(ctx context.Context, name string) (Host, error)
	Admit(ctx context.Context, name string) (Host, error)
	Revoke(ctx context.Context, name, reason string) (Host, error)
}

type hosts struct {
	operatorv1.UnimplementedHostServiceServer
	server *Server
}

func (h *hosts) ListHosts(ctx context.Context, r *operatorv1.ListHostsRequest) (*operatorv1.ListHostsResponse, error) {
	match, err := selector(r.Selector)
	if err != nil {
		return nil, err
	}
	all, err := h.server.cfg.Hosts.List(ctx)
	if err != nil {
		return nil, h.server.failed(err)
	}
	out := &operatorv1.ListHostsResponse{}
	for i := range all {
		if match(all[i].Labels) {
			out.Hosts = append(out.Hosts, hostTo(&all[i]))
		}
	}
	return out, nil
}

func (h *hosts) GetHost(ctx context.Context, r *operatorv1.GetHostRequest) (*operatorv1.Host, error) {
	host, err := h.server.cfg.Hosts.Get(ctx, r.Name)
	if err != nil {
		return nil, h.server.failed(err)
	}
	return hostTo(&host), nil
}

func (h *hosts) AdmitHost(ctx context.Context, r *operatorv1.AdmitHostRequest) (*operatorv1.Host, error) {
	host, err := change(ctx, h.server, "admit", "host/"+r.Name, "", func() (Host, error) { return h.server.cfg.Hosts.Admit(ctx, r.Name) })
	if err != nil {
		return nil, err
	}
	return hostTo(&host), nil
}

func (h *hosts) RevokeHost(ctx context.Context, r *operatorv1.RevokeHostRequest) (*operatorv1.Host, error) {
	host, err := change(ctx, h.server, "revoke", "host/"+r.Name, r.Reason, func() (Host, error) { return h.server.cfg.Hosts.Revoke(ctx, r.Name, r.Reason) })
	if err != nil {
		return nil, err
	}
	return hostTo(&host), nil
}

func hostTo(h *Host) *operatorv1.Host {
	out := &operatorv1.Host{
		Name: h.Name, State: h.State, Reach: h.Reach, Since: stamp(h.Since), Labels: h.Labels, AgentVersion: h.AgentVersion,
		LastSample: stamp(h.LastSample), CertificateExpires: stamp(h.CertificateExpires), Level: rangeWord(h.Level), Os: h.OS,
		Kernel: h.Kernel, Cpus: int32(h.CPUs), Cgroup: h.Cgroup, Series: int32(h.Series),
		Actor: &operatorv1.Actor{
			Present: h.Actor.Present, MaxRisk: h.Actor.MaxRisk.String(), Killed: h.Actor.Killed, Problem: h.Actor.Problem,
			PermissionsHash: fmt.Sprintf("%x", h.Actor.PermissionsHash),
		},
	}
	if h.Memory > 0 {
		out.Memory = fmt.Sprintf("%.1f GiB", float64(h.Memory)/(1<<30))
	}
	if !h.LastSample.IsZero() {
		out.ClockSkew = h.ClockSkew.Round(time.Millisecond).String()
	}
	for _, p := range h.Actor.Permissions {
		for _, t := range p.Targets {
			out.Actor.Actions = append(out.Actor.Actions, fmt.Sprintf("%s on %s, %d to %d, at most %s, %s", p.Action, t, p.Min, p.Max, p.MaxLease, p.Rate))
		}
	}
	for i := range h.Verdicts {
		out.Verdicts = append(out.Verdicts, verdictTo(&h.Verdicts[i]))
	}
	return out
}

func verdictTo(v *overload.Verdict) *operatorv1.Verdict {
	out := &operatorv1.Verdict{
		Detector: v.Detector, Scope: v.Scope, Subject: v.Subject, State: v.State.String(), Level: v.Level.String(), Since: stamp(v.Since),
	}
	for i, e := range v.Evidence {
		if i > 0 {
			out.Evidence += "; "
		}
		out.Evidence += e.Text
	}
	return out
}

// rangeWord writes a health: one word when it is known, both ends when it is not, unknown when nothing is.
func rangeWord(r health.Range) string {
	switch {
	case r == health.Unknown:
		return "unknown"
	case r.Low == r.High:
		return r.Low.String()
	}
	return r.Low.String() + "..." + r.High.String()
}
