package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/health"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// get is one GET of REST and the call of gRPC that it is the same as.
type get struct {
	path, method string
	request      proto.Message
	reply        proto.Message
}

// gets are all unary GETs, by the path of the REST rules.
func gets() map[string]get {
	const at = "2026-11-25T12:00:00.5Z"
	return map[string]get{
		"/api/v1/resources/{kind}/{name}": {"/api/v1/resources/services/checkout", operatorv1.ResourceService_GetResource_FullMethodName, &operatorv1.GetResourceRequest{Kind: "service", Name: "checkout"}, &operatorv1.Resource{}},
		"/api/v1/resources":               {"/api/v1/resources?kind=services&selector=env%3Dprod&pageSize=1", operatorv1.ResourceService_ListResources_FullMethodName, &operatorv1.ListResourcesRequest{Kind: "Service", Selector: "env=prod", PageSize: 1}, &operatorv1.ListResourcesResponse{}},
		"/api/v1/hosts":                   {"/api/v1/hosts?selector=env%3Dprod", operatorv1.HostService_ListHosts_FullMethodName, &operatorv1.ListHostsRequest{Selector: "env=prod"}, &operatorv1.ListHostsResponse{}},
		"/api/v1/hosts/{name}":            {"/api/v1/hosts/web-1", operatorv1.HostService_GetHost_FullMethodName, &operatorv1.GetHostRequest{Name: "web-1"}, &operatorv1.Host{}},
		"/api/v1/map":                     {"/api/v1/map?root=service/checkout", operatorv1.MapService_GetMap_FullMethodName, &operatorv1.GetMapRequest{Root: "service/checkout"}, &operatorv1.Map{}},
		"/api/v1/incidents":               {"/api/v1/incidents?state=open&host=web-1", operatorv1.IncidentService_ListIncidents_FullMethodName, &operatorv1.ListIncidentsRequest{State: "open", Host: "web-1"}, &operatorv1.ListIncidentsResponse{}},
		"/api/v1/incidents/{id}":          {"/api/v1/incidents/" + incidentA, operatorv1.IncidentService_GetIncident_FullMethodName, &operatorv1.GetIncidentRequest{Id: incidentA}, &operatorv1.Incident{}},
		"/api/v1/incidents/{id}:explain":  {"/api/v1/incidents/" + incidentA + ":explain", operatorv1.IncidentService_ExplainIncident_FullMethodName, &operatorv1.GetIncidentRequest{Id: incidentA}, &operatorv1.Explanation{}},
		"/api/v1/actions":                 {"/api/v1/actions?phase=active", operatorv1.ActionService_ListActions_FullMethodName, &operatorv1.ListActionsRequest{Phase: "active"}, &operatorv1.ListActionsResponse{}},
		"/api/v1/actions/{id}":            {"/api/v1/actions/" + actionA, operatorv1.ActionService_GetAction_FullMethodName, &operatorv1.GetActionRequest{Id: actionA}, &operatorv1.Action{}},
		"/api/v1/actions/{id}:explain":    {"/api/v1/actions/" + actionA + ":explain", operatorv1.ActionService_ExplainAction_FullMethodName, &operatorv1.GetActionRequest{Id: actionA}, &operatorv1.Explanation{}},
		"/api/v1/tokens":                  {"/api/v1/tokens", operatorv1.AccessService_ListTokens_FullMethodName, &operatorv1.ListTokensRequest{}, &operatorv1.ListTokensResponse{}},
		"/api/v1/whoami":                  {"/api/v1/whoami", operatorv1.AccessService_WhoAmI_FullMethodName, &operatorv1.WhoAmIRequest{}, &operatorv1.WhoAmIResponse{}},
		"/api/v1/query":                   {"/api/v1/query?query=up&time=" + at, operatorv1.QueryService_Query_FullMethodName, &operatorv1.QueryRequest{Query: "up", Time: at}, &operatorv1.QueryResponse{}},
		"/api/v1/query_range":             {"/api/v1/query_range?query=up&start=" + at + "&end=2026-11-25T12:01:00Z&step=15s", operatorv1.QueryService_QueryRange_FullMethodName, &operatorv1.QueryRangeRequest{Query: "up", Start: at, End: "2026-11-25T12:01:00Z", Step: "15s"}, &operatorv1.QueryResponse{}},
		"/api/v1/killswitch":              {"/api/v1/killswitch", operatorv1.ControlService_GetKillSwitch_FullMethodName, &operatorv1.GetKillSwitchRequest{}, &operatorv1.KillSwitch{}},
		"/api/v1/audit":                   {"/api/v1/audit?after=41&limit=5&subject=host/web-1", operatorv1.ControlService_ListAudit_FullMethodName, &operatorv1.ListAuditRequest{After: "41", Limit: 5, Subject: "host/web-1"}, &operatorv1.ListAuditResponse{}},
		"/api/v1/review/confirmations":    {"/api/v1/review/confirmations?item=runbook/relieve&limit=5", operatorv1.ReviewService_ListConfirmations_FullMethodName, &operatorv1.ListConfirmationsRequest{Item: "runbook/relieve", Limit: 5}, &operatorv1.ListConfirmationsResponse{}},
		"/api/v1/changes":                 {"/api/v1/changes?ref=host/web-1&host=web-1&since=" + at + "&limit=5", operatorv1.ChangeService_ListChanges_FullMethodName, &operatorv1.ListChangesRequest{Ref: "host/web-1", Host: "web-1", Since: at, Limit: 5}, &operatorv1.ListChangesResponse{}},
		"/api/v1/reason/{question}":       {"/api/v1/reason/contacts?of=host/a&set=component/web%3Dcritical&set=host/b%3Dunknown&at=2026-11-25T10:00:00Z", operatorv1.ReasonService_Ask_FullMethodName, &operatorv1.AskRequest{Question: "contacts", Set: []string{"component/web=critical", "host/b=unknown"}, At: "2026-11-25T10:00:00Z", Args: map[string]string{"of": "host/a"}}, &operatorv1.AskResponse{}},
		"/api/v1/signals":                 {"/api/v1/signals?ref=component/web", operatorv1.SignalService_ListSignals_FullMethodName, &operatorv1.ListSignalsRequest{Ref: "component/web"}, &operatorv1.ListSignalsResponse{}},
		"/api/v1/set":                     {"/api/v1/set", operatorv1.SignalService_ListSetLevels_FullMethodName, &operatorv1.ListSetLevelsRequest{}, &operatorv1.ListSetLevelsResponse{}},
		"/api/v1/keys":                    {"/api/v1/keys", operatorv1.KeyService_ListKeys_FullMethodName, &operatorv1.ListKeysRequest{}, &operatorv1.ListKeysResponse{}},
		"/api/v1/version":                 {"/api/v1/version", operatorv1.ControlService_GetVersion_FullMethodName, &operatorv1.GetVersionRequest{}, &operatorv1.VersionResponse{}},
	}
}

// rules returns the paths of a verb in the REST rules.
func rules(t *testing.T, verb string) []string {
	t.Helper()
	text, err := os.ReadFile("../../proto/evenkeel/operator/v1/operator.rest.yaml")
	must(t, err)
	var paths []string
	for _, m := range regexp.MustCompile(verb+`: (?:"([^"]+)"|(/[^",}]+))`).FindAllStringSubmatch(string(text), -1) {
		paths = append(paths, m[1]+m[2])
	}
	return paths
}

func TestRESTIsGRPC(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	paths := slices.DeleteFunc(rules(t, "get"), func(p string) bool { return strings.HasSuffix(p, ":watch") })
	if len(paths) != len(gets()) {
		t.Errorf("%d GETs in the rules, %d here: %q", len(paths), len(gets()), paths)
	}
	for _, path := range paths {
		g, ok := gets()[path]
		if !ok {
			t.Errorf("GET %s is not tested", path)
			continue
		}
		must(t, conn.Invoke(w.as("admin"), g.method, g.request, g.reply))
		var answer proto.Message = g.reply
		if a, ok := g.reply.(*operatorv1.AskResponse); ok {
			answer = a.Answer
		}
		want, err := client.JSON(answer)
		must(t, err)
		resp, body := w.do("GET", g.path, "admin", "")
		if resp.StatusCode != 200 || body != string(want) {
			t.Errorf("GET %s answers %d %s\nwanted %s", g.path, resp.StatusCode, body, want)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("GET %s: content type %q", g.path, ct)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("GET %s: %s is %q", g.path, name, got)
			}
		}
		var v any
		must(t, json.Unmarshal([]byte(body), &v))
		vocabulary(t, path, v)
	}
}

// vocabulary checks the words of the API's JSON: levels and phases in lower case, times in RFC 3339, no stray numbers.
func vocabulary(t *testing.T, path string, v any) {
	t.Helper()
	times := regexp.MustCompile(`^(at|since|time|openedAt|resolvedAt|createdAt|endedAt|changedAt|startedAt|expiresAt|leaseUntil|lastSample|certificateExpires)$`)
	levels := []string{"low", "high", "own", "level", "mapped"}
	lower := []string{"phase", "state", "mode", "reach", "outcome", "role", "resultType"}
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			vocabulary(t, path, x)
		}
	case map[string]any:
		for name, x := range v {
			s, isText := x.(string)
			switch {
			case isText && s != "" && times.MatchString(name):
				if _, err := time.Parse(time.RFC3339Nano, s); err != nil || !strings.HasSuffix(s, "Z") {
					t.Errorf("%s: %s %q is not RFC 3339 in UTC", path, name, s)
				}
			case isText && slices.Contains(levels, name) && s != "unknown":
				for _, end := range strings.Split(s, "...") {
					if _, err := health.ParseLevel(end); err != nil {
						t.Errorf("%s: %s %q is not a level", path, name, s)
					}
				}
			case isText && slices.Contains(lower, name) && s != strings.ToLower(s):
				t.Errorf("%s: %s %q is not lower case", path, name, s)
			case isText && name == "risk" && !regexp.MustCompile(`^R[0-3]$`).MatchString(s):
				t.Errorf("%s: risk %q", path, s)
			}
			vocabulary(t, path+"."+name, x)
		}
	}
}

func TestRESTChanges(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/api/v1/apply", `{"files":[{"name":"a.yaml","text":"x"}]}`, 200, `"verb":"changed"`},
		{"POST", "/api/v1/apply", `{"files":[{"name":"a.yaml","text":"mistake"}]}`, 200, `"line":3,"column":5`},
		{"POST", "/api/v1/diff", `{"files":[]}`, 200, `"path":"spec.criticality","from":"2","to":"1"`},
		{"DELETE", "/api/v1/resources/service/checkout", "", 200, `{"ref":"service/checkout"}`},
		{"POST", "/api/v1/hosts/web-1:admit", `{}`, 200, `"name":"web-1"`},
		{"POST", "/api/v1/hosts/web-1:revoke", `{"reason":"stolen"}`, 200, `"name":"web-1"`},
		{"POST", "/api/v1/incidents/" + incidentA + ":acknowledge", `{"note":"mine"}`, 200, incidentA},
		{"POST", "/api/v1/incidents/" + incidentA + ":hold", `{"reason":"waits for the vendor"}`, 200, `"onHold":true`},
		{"POST", "/api/v1/incidents/" + incidentA + ":hold", `{}`, 400, "reason: say what it waits for"},
		{"POST", "/api/v1/incidents/" + incidentA + ":resume", `{}`, 200, `"priority":"P1"`},
		{"POST", "/api/v1/incidents/" + incidentA + ":link", `{"external":"INC7"}`, 200, `"external":"INC7"`},
		{"GET", "/api/v1/incidents/" + incidentA, "", 200, `"contacts":{"at":`},
		{"POST", "/api/v1/actions/" + actionA + ":approve", `{"commandHash":"abcd"}`, 200, actionA},
		{"POST", "/api/v1/actions/" + actionA + ":approve", `{}`, 400, "set commandHash"},
		{"POST", "/api/v1/actions/" + actionA + ":deny", `{"reason":"no"}`, 200, actionA},
		{"POST", "/api/v1/actions/" + actionA + ":cancel", `{}`, 200, actionA},
		{"POST", "/api/v1/tokens", `{"ttl":"1h","uses":3}`, 200, `"join":"the-secret","token":""`},
		{"POST", "/api/v1/tokens", `{"role":"viewer","name":"wall"}`, 200, `"join":"","token":"the-secret"`},
		{"POST", "/api/v1/tokens", `{"role":"viewer"}`, 400, "needs a name"},
		{"POST", "/api/v1/tokens", `{"role":"viewer","name":"ada\nadmin"}`, 400, "1 to 64 characters"},
		{"POST", "/api/v1/tokens", `{"role":"viewer","name":"Ada.L+keel@example.com"}`, 200, "the-secret"},
		{"POST", "/api/v1/tokens", `{"role":"root","name":"x"}`, 400, "expected viewer, operator, approver, admin or signaller"},
		{"POST", "/api/v1/tokens", `{"ttl":"-1h"}`, 400, "not a duration"},
		{"POST", "/api/v1/tokens", `{"ttl":"9000h"}`, 400, "not a duration"},
		{"DELETE", "/api/v1/tokens/t1", "", 200, `{"id":"t1"}`},
		{"PUT", "/api/v1/killswitch", `{"on":true,"reason":"now"}`, 200, `"on":true`},
		{"POST", "/api/v1/set", `{"ref":"component/web","level":"critical","for":"1h","reason":"test"}`, 200, `"ref":"component/web","level":"critical","by":"ada-admin","reason":"test"`},
		{"POST", "/api/v1/set", `{"ref":"component/web","levle":"critical"}`, 400, "levle"},
		{"POST", "/api/v1/unset", `{"ref":"component/web"}`, 200, `"unset":{"ref":"component/web"`},
		{"POST", "/api/v1/signals", `{"signals":[]}`, 400, "expected 1 to 1000"},
		{"POST", "/api/v1/simulate", `{"files":[{"name":"a","text":"x"}],"set":{"component/web":"critical"},"at":"2026-11-25T10:00:00Z","default":"unknown"}`, 200, `"set":"critical","unknown":true`},
		{"POST", "/api/v1/simulate", `{"default":"bad"}`, 400, "expected ok or unknown"},
		{"POST", "/api/v1/simulate", `{}`, 200, `"text":"nothing"`},
		{"GET", "/api/v1/reason/contacts?of=host/a&set=component/web=critical&at=2026-11-25T10:00:00Z", "", 200, `{"at":"2026-11-25T10:00:00Z","kind":"contacts","of":"host/a","set":"[{component/web critical}]"}`},
		{"POST", "/api/v1/changes", `{"changes":[{"what":"checkout 4.12.0","refs":["service/checkout"],"at":"2026-11-25T10:00:00Z","external":"CHG7"}]}`, 200, `"kind":"declared","what":"checkout 4.12.0","before":"","after":"","by":"ada-admin","external":"CHG7"`},
		{"POST", "/api/v1/changes", `{"changes":[{"what":"x","state":"rolledBack"}]}`, 200, `"state":"rolledBack"`},
		{"POST", "/api/v1/changes", `{"changes":[{"what":"x","state":"planned"}]}`, 400, `changes[0].state: \"planned\" is not one of done, failed, rolledBack`},
		{"POST", "/api/v1/changes", `{"changes":[]}`, 400, "expected 1 to 1000"},
		{"POST", "/api/v1/changes", `{"changes":[{"what":""}]}`, 400, "changes[0].what: say what was changed"},
		{"POST", "/api/v1/changes", `{"changes":[{"what":"x"},{"what":"x","at":"noon"}]}`, 400, `changes[1].at: \"noon\" is not a time`},
		{"POST", "/api/v1/changes", `{"changes":[{"what":"x","host":"web-1"}]}`, 400, "leave them out"},
		{"POST", "/api/v1/changes", `{"changes":[{"what":"x","refs":["service/chekout"]}]}`, 400, "service/chekout is not on the map"},
		{"GET", "/api/v1/changes", "", 200, `"id":"2"`},
		{"POST", "/api/v1/review/confirmations", `{"item":"runbook/relieve","note":"fine"}`, 200, `"item":"runbook/relieve","at":"2026-11-25T12:00:00.123456789Z","by":"ada-admin","note":"fine"`},
		{"POST", "/api/v1/review/confirmations", `{"item":"runbook/relieve","note":"fine","by":"ann"}`, 200, `"by":"ann"`},
		{"POST", "/api/v1/review/confirmations", `{"item":"runbook/relieve"}`, 400, "say what the review found"},
		{"POST", "/api/v1/review/confirmations", `{"item":"runbook/relive","note":"fine"}`, 400, "runbook/relive is not there"},
		{"GET", "/api/v1/review/confirmations?item=runbook/relieve", "", 200, `"id":"r1"`},
		{"GET", "/api/v1/reason/contacts?set=component/web", "", 400, "expected REF=LEVEL"},
		{"GET", "/api/v1/reason/contacts?at=noon", "", 400, "is not a time"},
		{"GET", "/api/v1/reason/slo", "", 400, "live:1:1: nothing"},
		{"GET", "/api/v1/reason/weather", "", 400, "is not a question"},
	} {
		resp, body := w.do(tt.method, tt.path, "admin", tt.body)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s %s answers %d %s\nwanted %d with %s", tt.method, tt.path, tt.body, resp.StatusCode, body, tt.status, tt.says)
		}
	}
}

func TestRESTErrors(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		code, says         string
	}{
		{"GET", "/api/v1/hosts/nope", "", 404, "not_found", "no such host: nope"},
		{"GET", "/api/v1/resources/service/nope", "", 404, "not_found", "no such resource"},
		{"GET", "/api/v1/resources?kind=servce", "", 400, "invalid_argument", "expected one of service, component"},
		{"GET", "/api/v1/resources?selector=prod", "", 400, "invalid_argument", "expected LABEL=VALUE"},
		{"GET", "/api/v1/map?root=service/nope", "", 404, "not_found", "not on the map"},
		{"GET", "/api/v1/incidents?state=new", "", 400, "invalid_argument", "expected open, acknowledged"},
		{"GET", "/api/v1/actions?phase=new", "", 400, "invalid_argument", "awaiting approval"},
		{"GET", "/api/v1/query?query=bad(", "", 400, "invalid_argument", "unclosed"},
		{"GET", "/api/v1/query?query=much", "", 429, "resource_exhausted", "limits"},
		{"GET", "/api/v1/query?query=outage", "", 503, "unavailable", "reopened"},
		{"GET", "/api/v1/query?query=up&time=noon", "", 400, "invalid_argument", "not a time"},
		{"GET", "/api/v1/query_range?query=up&step=1", "", 400, "invalid_argument", "not a duration"},
		{"GET", "/api/v1/audit?after=x", "", 400, "invalid_argument", "not a sequence number"},
		{"GET", "/api/v1/audit?limit=x", "", 400, "invalid_argument", "limit"},
		{"GET", "/api/v1/actions?phse=active", "", 400, "invalid_argument", "phse"},
		{"POST", "/api/v1/apply", `{"files":[],"dryrun":true}`, 400, "invalid_argument", "dryrun"},
		{"POST", "/api/v1/apply", `{"files":`, 400, "invalid_argument", ""},
		{"GET", "/api/v1/nothing", "", 404, "not_found", ""},
		{"PUT", "/api/v1/apply", "", 405, "method_not_allowed", ""},
	} {
		resp, body := w.do(tt.method, tt.path, "admin", tt.body)
		var e struct{ Code, Message string }
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			t.Errorf("%s %s answers %q: %v", tt.method, tt.path, body, err)
			continue
		}
		if resp.StatusCode != tt.status || tt.code != "" && e.Code != tt.code || !strings.Contains(e.Message, tt.says) || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s answers %d %+v", tt.method, tt.path, resp.StatusCode, e)
		}
	}
	if len(w.done()) != 0 {
		t.Errorf("errors changed %q", w.done())
	}
}

func TestHealthAndReadiness(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if resp, body := w.do("GET", path, "", ""); resp.StatusCode != 200 || body != "ok\n" {
			t.Errorf("%s answers %d %q", path, resp.StatusCode, body)
		}
	}
	w.mu.Lock()
	w.ready = errors.New("the collector is stopping")
	w.mu.Unlock()
	if resp, body := w.do("GET", "/readyz", "", ""); resp.StatusCode != 503 || body != "not ready: the collector is stopping\n" {
		t.Errorf("/readyz answers %d %q", resp.StatusCode, body)
	}
	if resp, _ := w.do("GET", "/healthz", "", ""); resp.StatusCode != 200 {
		t.Error("/healthz is about more than being alive")
	}
}

func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	resp, body := w.do("GET", "/api/v1/openapi.json", "viewer", "")
	var doc struct {
		Swagger string
		Info    struct{ Title, Version string }
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 || doc.Swagger == "" || doc.Info.Title == "" {
		t.Fatalf("%d, %v, %+v", resp.StatusCode, err, doc.Info)
	}
	n := 0
	for _, verb := range []string{"get", "post", "put", "delete"} {
		for _, path := range rules(t, verb) {
			n++
			if _, ok := doc.Paths[path][verb]; !ok {
				t.Errorf("OpenAPI lacks %s %s", verb, path)
			}
		}
	}
	if listed := len(api.Needs()) - 1; n != listed { // all but enrolment
		t.Errorf("%d REST rules for %d methods", n, listed)
	}
}

func TestRefusesToServeInTheClear(t *testing.T) {
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("the operators' port does without a certificate")
	}
	for address, refused := range map[string]bool{"0.0.0.0": true, "192.0.2.1": true, "::": true, "127.0.0.1": false, "127.1.2.3": false, "::1": false} {
		err := bound(t, address)
		if (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
		if refused && !strings.Contains(err.Error(), "http.certificate") {
			t.Errorf("%s: %v does not say what to do", address, err)
		}
	}
}

// bound makes, and does not run, a server whose HTTP listener says that it is at address.
func bound(t *testing.T, address string) error {
	t.Helper()
	var cfg api.Config
	newWorld(t, func(c *api.Config) { cfg = *c })
	cfg.Metrics = api.NewMetrics()
	cfg.HTTP = listenerAt{cfg.HTTP, &net.TCPAddr{IP: net.ParseIP(address), Port: 8420}}
	_, err := api.New(cfg)
	return err
}

type listenerAt struct {
	net.Listener
	addr net.Addr
}

func (l listenerAt) Addr() net.Addr { return l.addr }

func TestLimits(t *testing.T) {
	w := newWorld(t)
	// A body of more than a request may have, announced and not.
	big := `{"files":[{"name":"a","text":"` + strings.Repeat("x", api.MaxReceive) + `"}]}`
	if resp, body := w.do("POST", "/api/v1/apply", "admin", big); resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "too_large") {
		t.Errorf("a large body: %d %.200s", resp.StatusCode, body)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://keel:8420/api/v1/apply", onlyReader{strings.NewReader(big)})
	must(t, err)
	r.Header.Set("Authorization", "Bearer admin")
	if resp, err := w.http.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode/100 != 4 {
			t.Errorf("a large body without a length: %d", resp.StatusCode)
		}
	}
	if resp, _ := w.do("GET", "/api/v1/version", strings.Repeat("x", 2*api.MaxHeaders), ""); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large headers: %d", resp.StatusCode)
	}
	resources := operatorv1.NewResourceServiceClient(w.dial())
	_, err = resources.Apply(w.as("admin"), &operatorv1.ApplyRequest{Files: []*operatorv1.File{{Text: strings.Repeat("x", api.MaxReceive)}}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a large message: %v", err)
	}
	if _, err = resources.Apply(w.as(strings.Repeat("x", 2*api.MaxHeaders)), &operatorv1.ApplyRequest{}); err == nil {
		t.Error("large metadata passed")
	}
	if len(w.done()) != 0 {
		t.Errorf("what is over a limit changed %q", w.done())
	}
}

type onlyReader struct{ r *strings.Reader }

func (o onlyReader) Read(b []byte) (int, error) { return o.r.Read(b) }
