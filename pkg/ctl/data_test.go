package ctl_test

import (
	"google.golang.org/protobuf/types/known/structpb"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

const (
	at        = "2026-11-25T12:00:00.123456789Z"
	later     = "2026-11-25T12:00:31.5Z"
	incidentA = "01KCX3V8S9YJ5M6N7P8QRSTVWX"
	incidentB = "01KCX3V8S9YJ5M6N7P9QRSTVWY"
	actionA   = "01KCX3V8T0ABCDEFGHJKMNPQRS"
	actionB   = "01KCX3V8T0ABCDEFGHJKMNPQRT"
)

var timeline = []*operatorv1.Event{{At: at, Actor: "evenkeel", What: "host/web-1 is overloaded"}, {At: later, Actor: "ada", What: "acknowledged: looking at the batch job"}}

func host() *operatorv1.Host {
	return &operatorv1.Host{
		Name: "web-1", State: "admitted", Reach: "connected", Since: at, Labels: map[string]string{"env": "prod", "role": "web"}, AgentVersion: "0.1.0",
		LastSample: later, ClockSkew: "12ms", CertificateExpires: at, Level: "major", Os: "debian 12 linux", Kernel: "6.1.0", Cpus: 4, Memory: "8.0 GiB", Cgroup: "v2", Series: 512,
		Actor: &operatorv1.Actor{Present: true, MaxRisk: "R2", Actions: []string{"cpu.weight on unit/batch.service, 10 to 100, at most 10m0s, 6/5m"}},
		Verdicts: []*operatorv1.Verdict{{
			Detector: "host-cpu", Scope: "host", State: "overloaded", Level: "major", Since: at, Evidence: "cpu.pressure.some 71 % > 40 % in 2 of 3 ticks",
		}},
	}
}

func silentHost() *operatorv1.Host {
	return &operatorv1.Host{Name: "db-1", State: "pending", Reach: "never seen", Since: at, Level: "unknown", Actor: &operatorv1.Actor{}}
}

func incident() *operatorv1.Incident {
	return &operatorv1.Incident{
		Id: incidentA, State: "acknowledged", Title: "host/web-1 is overloaded", Level: "major", Cause: "host/web-1", Host: "web-1",
		Services: []string{"service/checkout", "service/orders"}, CostSoFar: "12.50 EUR", PerHour: "6000.00 EUR", OpenedAt: at, AcknowledgedBy: "ada",
		Actions: []string{actionA}, Timeline: timeline,
	}
}

func action() *operatorv1.Action {
	return &operatorv1.Action{
		Id: actionA, Phase: "awaiting approval", State: "proposed", Reason: "mode is approve", Incident: incidentA, Policy: "remediationpolicy/relieve-host", Host: "web-1",
		Component: "component/batch", Protects: "component/web", Name: "cpu.weight", Target: "unit/batch.service", Value: "10", Prior: "100", Risk: "R1", Mode: "approve",
		LeaseUntil: later, CommandHash: "3f2a", Fence: "1/42", CreatedAt: at, Effect: "not judged yet", Text: "cpu.weight of unit/batch.service to 10, for component/web", Timeline: timeline,
	}
}

func explanation(ref string) *operatorv1.Explanation {
	return &operatorv1.Explanation{
		Ref: ref, Text: "host/web-1 is overloaded; component/batch is squeezed", Timeline: timeline,
		Candidates: []*operatorv1.Candidate{
			{Component: "component/batch", Host: "web-1", Contribution: "1.42 cores, 71 %", Value: "1 points/h", Limitable: true, OnMap: true, Chosen: true, Why: "the least value"},
			{Component: "process/backup", Host: "web-1", Contribution: "0.40 cores, 20 %", Why: "not on the map"},
		},
		Gates: []*operatorv1.Gate{{Name: "kill switch", Open: true, Text: "off"}, {Name: "cooldown", Open: false, Text: "4m10s left"}},
	}
}

func drawn() *operatorv1.Map {
	return &operatorv1.Map{
		At: at,
		Nodes: []*operatorv1.Node{
			{Ref: "service/checkout", Title: "Checkout", Low: "major", High: "major", Value: "12000 EUR/h", Why: &operatorv1.Why{Text: "worst of 2 inputs: component/web", Inputs: []*operatorv1.WhyInput{{Ref: "component/web"}, {Ref: "component/san"}}}},
			{Ref: "component/web", Low: "major", High: "critical", Why: &operatorv1.Why{Text: "2 of 3 inputs needed"}},
			{Ref: "component/san", Title: "Disk array", Low: "ok", High: "critical", Why: &operatorv1.Why{Text: "no data"}},
		},
		Causes: []*operatorv1.Cause{
			{Ref: "component/web", Level: "major", Services: []string{"service/checkout"}, PerHour: "6000.00", Unit: "EUR"},
			{Ref: "component/lonely", Level: "critical"},
		},
	}
}

func resource() *operatorv1.Resource {
	spec, err := structpb.NewStruct(map[string]any{"title": "Checkout", "criticality": 1, "dependsOn": []any{map[string]any{"ref": "component/web"}}})
	if err != nil {
		panic(err)
	}
	return &operatorv1.Resource{
		ApiVersion: "evenkeel/v1", Kind: "Service", Metadata: &operatorv1.Metadata{Name: "checkout", Labels: map[string]string{"env": "prod"}}, Spec: spec,
		Revision: "42", ChangedAt: at, ChangedBy: "ada", PricedAt: "2026-01-15", PricedBy: "Sales", FormerRefs: []string{"service/basket"},
	}
}

func policy() *operatorv1.Resource {
	return &operatorv1.Resource{ApiVersion: "evenkeel/v1", Kind: "RemediationPolicy", Metadata: &operatorv1.Metadata{Name: "relieve-host"}, ChangedBy: "shipped"}
}

var changes = []*operatorv1.Change{
	{Ref: "service/checkout", Verb: "changed", Fields: []*operatorv1.FieldChange{{Path: "spec.criticality", From: "2", To: "1"}, {Path: "spec.owner", To: "team/payments"}}},
	{Ref: "component/web", Verb: "created"},
	{Ref: "component/san", Verb: "unchanged"},
}

var mistakes = []*operatorv1.Problem{
	{File: "map/shop.yaml", Line: 7, Column: 3, Path: "spec.critcality", Text: `unknown key "critcality"`, Hint: "did you mean criticality?"},
	{File: "map/shop.yaml", Line: 12, Column: 20, Path: "spec.dependsOn[0].ref", Text: "component/wbe is not there"},
}

// full answers every method with something.
func (f *fake) full() {
	o := func(service, method string) string { return "/evenkeel.operator.v1." + service + "Service/" + method }
	f.reply(o("Resource", "Apply"), &operatorv1.ApplyResponse{Changes: changes})
	f.reply(o("Resource", "Diff"), &operatorv1.DiffResponse{Changes: changes})
	f.reply(o("Resource", "GetResource"), resource())
	f.reply(o("Resource", "ListResources"), &operatorv1.ListResourcesResponse{Resources: []*operatorv1.Resource{policy(), resource()}})
	f.reply(o("Resource", "DeleteResource"), &operatorv1.DeleteResourceResponse{Ref: "service/checkout"})
	f.reply(o("Host", "ListHosts"), &operatorv1.ListHostsResponse{Hosts: []*operatorv1.Host{silentHost(), host()}})
	for _, m := range []string{"GetHost", "AdmitHost", "RevokeHost"} {
		f.reply(o("Host", m), host())
	}
	f.reply(o("Map", "GetMap"), drawn())
	f.reply(o("Map", "WatchMap"), drawn(), &operatorv1.Map{At: later, Nodes: []*operatorv1.Node{{Ref: "service/checkout", Low: "ok", High: "ok"}}})
	f.reply(o("Incident", "ListIncidents"), &operatorv1.ListIncidentsResponse{Incidents: []*operatorv1.Incident{incident(), {Id: incidentB, State: "resolved", Level: "minor", Title: "component/san is slow", OpenedAt: at}}})
	f.reply(o("Incident", "GetIncident"), incident())
	f.reply(o("Incident", "AcknowledgeIncident"), incident())
	f.reply(o("Incident", "ExplainIncident"), explanation("incident/"+incidentA))
	f.reply(o("Incident", "WatchIncidents"), incident(), incident())
	f.reply(o("Action", "ListActions"), &operatorv1.ListActionsResponse{Actions: []*operatorv1.Action{action(), {Id: actionB, Phase: "reverted", Host: "web-1", Name: "process.affinity", Component: "component/batch", Value: "50", Reason: "lease ended"}}})
	for _, m := range []string{"GetAction", "ApproveAction", "DenyAction", "CancelAction"} {
		f.reply(o("Action", m), action())
	}
	f.reply(o("Action", "ExplainAction"), explanation("action/"+actionA))
	f.reply(o("Action", "WatchActions"), action())
	f.reply(o("Access", "CreateToken"), &operatorv1.CreateTokenResponse{Id: "t1", Join: "evenkeel-join-1/127.0.0.1:8425/pin/secret/00000000", ExpiresAt: at})
	f.reply(o("Access", "ListTokens"), &operatorv1.ListTokensResponse{Tokens: []*operatorv1.Token{{Id: "t1", State: "usable", UsesLeft: 3, ExpiresAt: at, Labels: map[string]string{"role": "web"}, CreatedBy: "ada"}, {Id: "o1", State: "usable", Role: "admin", Name: "ada", CreatedBy: "first start"}}})
	f.reply(o("Access", "RevokeToken"), &operatorv1.RevokeTokenResponse{Id: "t1"})
	f.reply(o("Access", "WhoAmI"), &operatorv1.WhoAmIResponse{Name: "ada", Role: "admin"})
	key := &operatorv1.Key{Id: "0123456789abcdef", Use: "collector", Owner: "c1", NotBefore: at, NotAfter: later}
	f.reply(o("Key", "ListKeys"), &operatorv1.ListKeysResponse{Keys: []*operatorv1.Key{key, {Id: "fedcba9876543210", Use: "approver", RevokedAt: at, RevokedBy: "ada", Reason: "laptop lost", Hosts: []string{"web-1"}}}})
	f.reply(o("Key", "RevokeKey"), key)
	f.reply(o("Key", "RotateKey"), key)
	f.reply(o("Query", "Query"), &operatorv1.QueryResponse{ResultType: "vector", Result: []*operatorv1.SeriesValues{{Metric: map[string]string{"__name__": "node_load1", "instance": "web-1", "job": "node"}, Values: []*operatorv1.Point{{Time: at, Value: "0.25"}}}}})
	f.reply(o("Query", "QueryRange"), &operatorv1.QueryResponse{ResultType: "matrix", Warnings: []string{"one host is silent"}, Result: []*operatorv1.SeriesValues{{Metric: map[string]string{"instance": "web-1"}, Values: []*operatorv1.Point{{Time: at, Value: "0.25"}, {Time: later, Value: "0.5"}}}}})
	f.reply(o("Control", "GetKillSwitch"), &operatorv1.KillSwitch{On: true, By: "ada", At: at, Reason: "network change"})
	f.reply(o("Control", "SetKillSwitch"), &operatorv1.KillSwitch{})
	f.reply(o("Control", "ListAudit"), &operatorv1.ListAuditResponse{Entries: []*operatorv1.AuditEntry{{Seq: "41", At: at, Who: "ada", What: "apply", Subject: "service/checkout", Outcome: "done", Detail: "changed"}, {Seq: "42", At: later, Who: "wall", What: "call", Subject: "evenkeel.operator.v1.ControlService/SetKillSwitch", Outcome: "denied"}}})
	f.reply(o("Control", "GetVersion"), &operatorv1.VersionResponse{Version: "0.1.0", Revision: "abc", Go: "go1.26", ClusterId: "keel-1", StartedAt: at, CaPin: f.ca.Pin().String()})
}

// empty answers as a collector on which nothing has been done yet.
func (f *fake) empty() {
	o := func(service, method string) string { return "/evenkeel.operator.v1." + service + "Service/" + method }
	f.reply(o("Resource", "ListResources"), &operatorv1.ListResourcesResponse{})
	f.reply(o("Resource", "Diff"), &operatorv1.DiffResponse{Changes: changes[2:]})
	f.reply(o("Host", "ListHosts"), &operatorv1.ListHostsResponse{})
	f.reply(o("Map", "GetMap"), &operatorv1.Map{At: at})
	f.reply(o("Incident", "ListIncidents"), &operatorv1.ListIncidentsResponse{})
	f.reply(o("Action", "ListActions"), &operatorv1.ListActionsResponse{})
	f.reply(o("Access", "ListTokens"), &operatorv1.ListTokensResponse{})
	f.reply(o("Query", "Query"), &operatorv1.QueryResponse{ResultType: "vector"})
	f.reply(o("Control", "GetKillSwitch"), &operatorv1.KillSwitch{})
	f.reply(o("Control", "ListAudit"), &operatorv1.ListAuditResponse{})
}
