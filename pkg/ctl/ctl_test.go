package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/ctl"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func TestHelp(t *testing.T) {
	f := newFake(t)
	var b strings.Builder
	for _, c := range ctl.Commands() {
		if !c.Ours {
			continue
		}
		r := f.run(append(append([]string{}, c.Path...), "--help")...)
		if r.code != 0 || r.err != "" {
			t.Errorf("%q --help: %+v", c.Path, r)
		}
		if c.Example == "" || !strings.Contains(r.out, "Examples:") {
			t.Errorf("%q has no example", c.Path)
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(line, "evenkeel") {
				t.Errorf("%q: the example %q does not call the command", c.Path, line)
			}
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%q: short help %q", c.Path, c.Short)
		}
		fmt.Fprintf(&b, "$ evenkeel %s\n%s\n", strings.Join(append(c.Path, "--help"), " "), r.out)
	}
	golden(t, "help", b.String())
}

func TestTables(t *testing.T) {
	f := newFake(t)
	f.full()
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	file := filepath.Join(f.home, "shop.yaml")
	must(t, os.WriteFile(file, []byte("kind: Service\n"), 0o600))
	for name, lines := range map[string][]string{
		"resources": {"apply -f " + file, "apply -f " + file + " --dry-run", "diff -f " + file, "get", "get services -l env=prod", "get service/checkout", "get service checkout", "describe service/checkout", "describe components/web", "describe host/web-1", "describe hosts web-1", "describe remediationpolicy/relieve-host", "delete service/checkout"},
		"host":      {"host list", "host ls", "host show web-1", "host admit web-1", "host revoke web-1 --reason stolen"},
		"map":       {"map", "map service/checkout", "map --watch"},
		"incident":  {"incident list", "incident show " + incidentA, "incident show RSTVWX", "incident explain " + incidentA, "incident ack qrstvwx --note 'looking at the batch job'", "incident watch"},
		"action":    {"action list", "action show " + actionA, "action show NPQRS", "action show MNPQRS", "action explain MNPQRS", "action approve MNPQRS", "action deny MNPQRS --reason 'month end'", "action cancel " + actionA, "action watch"},
		"access":    {"token create --ttl 1h --uses 3 --labels role=web", "token list", "token revoke t1"},
		"control":   {"killswitch status", "killswitch on --reason 'network change'", "killswitch off", "audit", "version", "query node_load1", "query --start -5m --end -1m --step 30s node_load1"},
	} {
		golden(t, name, f.scrub(f.transcript(lines...)))
	}
	f.empty()
	golden(t, "empty", f.scrub(f.transcript("get", "get -l env=none", "map", "host list", "host list -l env=none", "incident list", "action list", "token list", "query up", "killswitch status", "audit", "diff -f "+file)))
}

// What the verbs ask for is what their flags say.
func TestRequests(t *testing.T) {
	f := newFake(t)
	f.full()
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	file := filepath.Join(f.home, "shop.yaml")
	must(t, os.WriteFile(file, []byte("kind: Service\n"), 0o600))
	for line, want := range map[string]proto.Message{
		"apply -f " + file + " --dry-run":            &operatorv1.ApplyRequest{Files: []*operatorv1.File{{Name: file, Text: "kind: Service\n"}}, DryRun: true},
		"get -l env=prod services":                   &operatorv1.ListResourcesRequest{Kind: "services", Selector: "env=prod"},
		"host list -l env=prod":                      &operatorv1.ListHostsRequest{Selector: "env=prod"},
		"host revoke web-1 --reason stolen":          &operatorv1.RevokeHostRequest{Name: "web-1", Reason: "stolen"},
		"map service/checkout":                       &operatorv1.GetMapRequest{Root: "service/checkout"},
		"incident list --state open --host web-1":    &operatorv1.ListIncidentsRequest{State: "open", Host: "web-1"},
		"incident ack " + incidentA + " --note mine": &operatorv1.AcknowledgeIncidentRequest{Id: incidentA, Note: "mine"},
		"action list --phase 'awaiting approval'":    &operatorv1.ListActionsRequest{Phase: "awaiting approval"},
		"action list --host web-1 --incident x":      &operatorv1.ListActionsRequest{Host: "web-1", Incident: "x"},
		"action approve " + actionA:                  &operatorv1.DecideActionRequest{Id: actionA, CommandHash: "3f2a"},
		"action approve " + actionA + " --hash 1234": &operatorv1.DecideActionRequest{Id: actionA, CommandHash: "1234"},
		"action deny mnpqrs --reason 'month end'":    &operatorv1.DecideActionRequest{Id: actionA, Reason: "month end"},
		"token create --role viewer --name wall":     &operatorv1.GetVersionRequest{}, // for the hint
		"token create --replace --admit=false":       &operatorv1.CreateTokenRequest{Ttl: "15m0s", Uses: 1, Replace: true},
		"killswitch on --reason now":                 &operatorv1.SetKillSwitchRequest{On: true, Reason: "now"},
		"killswitch off":                             &operatorv1.SetKillSwitchRequest{},
		"key list":                                   &operatorv1.ListKeysRequest{},
		"key revoke 0123456789abcdef --reason lost":  &operatorv1.RevokeKeyRequest{Id: "0123456789abcdef", Reason: "lost"},
		"key rotate":                                   &operatorv1.RotateKeyRequest{},
		"audit --limit 5 --after 40 --subject x":       &operatorv1.ListAuditRequest{Limit: 5, After: "40", Subject: "x"},
		"query --time 2026-11-25T10:00:00Z node_load1": &operatorv1.QueryRequest{Query: "node_load1", Time: "2026-11-25T10:00:00Z"},
	} {
		f.reply(operatorv1.AccessService_CreateToken_FullMethodName, &operatorv1.CreateTokenResponse{Id: "t1", Join: "join", ExpiresAt: at})
		if strings.Contains(line, "--role") {
			f.reply(operatorv1.AccessService_CreateToken_FullMethodName, &operatorv1.CreateTokenResponse{Id: "o1", Token: "secret", ExpiresAt: at})
		}
		f.asked()
		r := f.run(words(line)...)
		asked := f.asked()
		if r.code != 0 || len(asked) == 0 {
			t.Errorf("%s: %+v, %d requests", line, r, len(asked))
			continue
		}
		if got := asked[len(asked)-1]; !proto.Equal(got, want) {
			t.Errorf("%s asks for %v\nwanted %v", line, got, want)
		}
		if strings.Contains(line, "--role") {
			if want := "its owner: evenkeel login --address 127.0.0.1:8425 --ca-pin sha256:PIN --token-file FILE"; !strings.Contains(r.err, want) || r.out != "secret\n" {
				t.Errorf("%s: %+v", line, r)
			}
		}
	}
}

func TestListsAllPages(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	const list = operatorv1.ResourceService_ListResources_FullMethodName
	f.first[list] = &operatorv1.ListResourcesResponse{Resources: []*operatorv1.Resource{policy()}, NextPageToken: "remediationpolicy/relieve-host"}
	f.reply(list, &operatorv1.ListResourcesResponse{Resources: []*operatorv1.Resource{resource()}})
	r := f.run("get", "-o", "json")
	if r.code != 0 || !strings.Contains(r.out, `"relieve-host"`) || !strings.Contains(r.out, `"checkout"`) || strings.Contains(r.out, `"nextPageToken": "r`) {
		t.Errorf("%+v", r)
	}
	asked := f.asked()
	if len(asked) != 2 || asked[1].(*operatorv1.ListResourcesRequest).PageToken != "remediationpolicy/relieve-host" {
		t.Errorf("asked for %v", asked)
	}
}

// -o json is the API's JSON and nothing else on standard output; -o yaml says the same.
func TestMachineOutput(t *testing.T) {
	f := newFake(t)
	f.full()
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	file := filepath.Join(f.home, "shop.yaml")
	must(t, os.WriteFile(file, []byte("kind: Service\n"), 0o600))
	for line, method := range map[string]string{
		"apply -f " + file:             operatorv1.ResourceService_Apply_FullMethodName,
		"get":                          operatorv1.ResourceService_ListResources_FullMethodName,
		"get service/checkout":         operatorv1.ResourceService_GetResource_FullMethodName,
		"describe service/checkout":    operatorv1.ResourceService_GetResource_FullMethodName,
		"describe host/web-1":          operatorv1.HostService_GetHost_FullMethodName,
		"delete service/checkout":      operatorv1.ResourceService_DeleteResource_FullMethodName,
		"host list":                    operatorv1.HostService_ListHosts_FullMethodName,
		"host show web-1":              operatorv1.HostService_GetHost_FullMethodName,
		"map":                          operatorv1.MapService_GetMap_FullMethodName,
		"incident list":                operatorv1.IncidentService_ListIncidents_FullMethodName,
		"incident show " + incidentA:   operatorv1.IncidentService_GetIncident_FullMethodName,
		"incident explain QRSTVWX":     operatorv1.IncidentService_ExplainIncident_FullMethodName,
		"action list":                  operatorv1.ActionService_ListActions_FullMethodName,
		"action show " + actionA:       operatorv1.ActionService_GetAction_FullMethodName,
		"action explain " + actionA:    operatorv1.ActionService_ExplainAction_FullMethodName,
		"token create":                 operatorv1.AccessService_CreateToken_FullMethodName,
		"token list":                   operatorv1.AccessService_ListTokens_FullMethodName,
		"killswitch status":            operatorv1.ControlService_GetKillSwitch_FullMethodName,
		"audit":                        operatorv1.ControlService_ListAudit_FullMethodName,
		"version":                      operatorv1.ControlService_GetVersion_FullMethodName,
		"query node_load1":             operatorv1.QueryService_Query_FullMethodName,
		"query --start -5m node_load1": operatorv1.QueryService_QueryRange_FullMethodName,
	} {
		want, err := client.JSON(f.replies[method][0])
		must(t, err)
		r := f.run(append(words(line), "-o", "json")...)
		var got bytes.Buffer
		if err := json.Compact(&got, []byte(r.out)); err != nil || r.code != 0 {
			t.Errorf("%s: %v, %+v", line, err, r)
			continue
		}
		if got.String() != f.scrub(string(want)) {
			t.Errorf("%s -o json prints\n%s\nwanted\n%s", line, got.String(), want)
		}
		if strings.Contains(r.err, "evenkeel") {
			t.Errorf("%s -o json gives hints: %s", line, r.err)
		}
		y := f.run(append(words(line), "-o", "yaml")...)
		asJSON, err := yaml.YAMLToJSON([]byte(y.out))
		if err != nil || y.code != 0 {
			t.Errorf("%s -o yaml: %v, %+v", line, err, y)
			continue
		}
		var a, b any
		must(t, json.Unmarshal(asJSON, &a))
		must(t, json.Unmarshal(got.Bytes(), &b))
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s -o yaml says\n%s\nand json\n%s", line, y.out, got.String())
		}
	}
	for _, line := range []string{"action watch", "incident watch", "map --watch"} {
		r := f.run(append(words(line), "-o", "json")...)
		for l := range strings.Lines(r.out) {
			if !json.Valid([]byte(l)) || r.code != 0 {
				t.Errorf("%s: %q is not one JSON a line", line, l)
			}
		}
		if r.out == "" {
			t.Errorf("%s -o json prints nothing", line)
		}
	}
}

func TestExitCodes(t *testing.T) {
	f := newFake(t)
	f.full()
	good := f.good()
	path := f.context("context.json", good)
	open := f.context("open.json", good)
	must(t, os.Chmod(open, 0o644))
	bad := filepath.Join(f.home, "bad.json")
	must(t, os.WriteFile(bad, []byte(`{"address":"x","adress":"y"}`), 0o600))
	half := filepath.Join(f.home, "half.json")
	must(t, os.WriteFile(half, []byte(`{"address":"x"}`), 0o600))
	away, stranger, noCA := good, good, good
	away.Address = "127.0.0.1:1"
	other, err := identity.NewCA("other", time.Now())
	must(t, err)
	stranger.CA, stranger.Token = string(identity.EncodeCertificates(other.DER())), "must-not-be-sent"
	noCA.CA = "nonsense"
	denied := good
	denied.Token = "old"
	file := filepath.Join(f.home, "shop.yaml")
	must(t, os.WriteFile(file, []byte("kind: Service\n"), 0o600))
	must(t, os.MkdirAll(filepath.Join(f.home, "none"), 0o700))
	code := func(c codes.Code, text string) error { return status.Error(c, text) }
	for _, tt := range []struct {
		name, line, context string
		fails               error // of GetVersion
		code                int
		says                string
	}{
		{"done", "version", path, nil, 0, ""},
		{"no context", "map", "", nil, 3, "evenkeel login"},
		{"version without a context", "version", "", nil, 0, ""},
		{"version in JSON without a context", "version -o json", "", nil, 3, "evenkeel login"},
		{"context of others", "version", open, nil, 2, "chmod 600 HOME/open.json"},
		{"context with a mistake", "version", bad, nil, 2, `unknown field "adress"`},
		{"half a context", "version", half, nil, 2, "address, ca and token are all needed"},
		{"no such context", "version", "HOME/nothing", nil, 2, "no such file"},
		{"bad CA", "version", f.context("noca.json", noCA), nil, 2, "run evenkeel login again"},
		{"nobody there", "version", f.context("away.json", away), nil, 3, "cannot reach the collector"},
		{"another cluster", "version", f.context("stranger.json", stranger), nil, 3, "cannot reach the collector"},
		{"old token", "version", f.context("denied.json", denied), nil, 4, "run evenkeel login"},
		{"refused", "version", path, code(codes.PermissionDenied, "wall is a viewer"), 4, "wall is a viewer"},
		{"bad input", "version", path, code(codes.InvalidArgument, "no kind"), 2, "no kind"},
		{"not found", "version", path, code(codes.NotFound, "no such host"), 1, "no such host"},
		{"conflict", "version", path, code(codes.FailedPrecondition, "still referred to"), 1, "still referred to"},
		{"bug", "version", path, code(codes.Internal, "broken"), 1, "broken"},
		{"cancelled by the server", "version", path, code(codes.Canceled, "gone"), 1, "gone"},
		{"outage", "version", path, code(codes.Unavailable, "no quorum"), 3, "no quorum"},
		{"no such verb", "frobnicate", path, nil, 2, "unknown command"},
		{"a slip", "incidnet list", path, nil, 2, "did you mean incident?"},
		{"a slip below", "host lst", path, nil, 2, "did you mean list?"},
		{"no such flag", "map --colour", path, nil, 2, "see evenkeel map --help"},
		{"a flag in the middle of an error", "query --step x up", path, nil, 2, "see evenkeel query --help"},
		{"too many arguments", "map a b", path, nil, 2, "accepts at most 1 arg"},
		{"too few arguments", "host show", path, nil, 2, "accepts 1 arg"},
		{"no such output", "map -o xml", path, nil, 2, "expected table, json or yaml"},
		{"not a reference", "delete checkout", path, nil, 2, "expected KIND/NAME"},
		{"not a time", "query --time noon up", path, nil, 2, "expected RFC 3339"},
		{"no manifests", "apply", path, nil, 2, "-f FILE"},
		{"missing manifest", "apply -f HOME/nothing.yaml", path, nil, 2, "no such file"},
		{"folder without manifests", "apply -f HOME/none", path, nil, 2, "holds no .yaml"},
		{"short id", "action show 12345", path, nil, 2, "last 6 characters"},
		{"differences", "diff -f " + file, path, nil, 1, ""},
	} {
		f.fail(operatorv1.ControlService_GetVersion_FullMethodName, tt.fails)
		f.env["EVENKEEL_CONTEXT"] = strings.ReplaceAll(tt.context, "HOME", f.home)
		r := f.run(words(strings.ReplaceAll(tt.line, "HOME", f.home))...)
		if r.code != tt.code || !strings.Contains(r.err, tt.says) {
			t.Errorf("%s: exit %d, wanted %d; says %q, wanted %q", tt.name, r.code, tt.code, r.err, tt.says)
		}
		if strings.Contains(r.out+r.err, "must-not-be-sent") || strings.Contains(r.err, "good") {
			t.Errorf("%s: a token is printed: %+v", tt.name, r)
		}
	}
	if r := f.run("--context", path, "version"); r.code != 0 {
		t.Errorf("--context: %+v", r)
	}
}

// The problems of a manifest are printed as a compiler does, and nothing is on standard output.
func TestProblems(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	f.reply(operatorv1.ResourceService_Apply_FullMethodName, &operatorv1.ApplyResponse{Problems: mistakes})
	f.reply(operatorv1.ResourceService_Diff_FullMethodName, &operatorv1.DiffResponse{Problems: mistakes[:1]})
	const first = "map/shop.yaml:7:3: unknown key \"critcality\" (did you mean criticality?)\n"
	r := f.runWith(t.Context(), "kind: Service\n", "apply", "-f", "-")
	if want := first + "map/shop.yaml:12:20: component/wbe is not there\nevenkeel: 2 problems found, nothing was changed\n"; r.err != want || r.code != 2 || r.out != "" {
		t.Errorf("%+v", r)
	}
	if asked := f.asked(); len(asked) != 1 || asked[0].(*operatorv1.ApplyRequest).Files[0].Name != "stdin" {
		t.Errorf("asked for %v", asked)
	}
	r = f.runWith(t.Context(), "", "diff", "-f", "-")
	if want := first + "evenkeel: 1 problem found, nothing was changed\n"; r.err != want || r.code != 2 || r.out != "" {
		t.Errorf("%+v", r)
	}
}

func TestGathersFolders(t *testing.T) {
	f := newFake(t)
	f.full()
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	dir := filepath.Join(f.home, "map")
	must(t, os.MkdirAll(filepath.Join(dir, "deep"), 0o700))
	for _, name := range []string{"a.yaml", "b.yml", "deep/c.json", "README.md", "odd.txt"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	if r := f.run("apply", "-f", dir, "-f", filepath.Join(dir, "odd.txt")); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	var names []string
	for _, file := range f.asked()[0].(*operatorv1.ApplyRequest).Files {
		names = append(names, f.scrub(file.Name))
	}
	if got := strings.Join(names, " "); got != "HOME/map/a.yaml HOME/map/b.yml HOME/map/deep/c.json HOME/map/odd.txt" {
		t.Errorf("sent %s", got)
	}
}

func TestLogin(t *testing.T) {
	f := newFake(t)
	f.full()
	token := filepath.Join(f.home, "token")
	must(t, os.WriteFile(token, []byte("good\n"), 0o600))
	pin := f.ca.Pin().String()
	other, err := identity.NewCA("other", time.Now())
	must(t, err)
	saved := filepath.Join(f.home, "config", "evenkeel", "context.json")
	for _, tt := range []struct {
		name, address, pin, file, stdin string
		code                            int
		says                            string
	}{
		{"wrong pin", address, other.Pin().String(), token, "", 4, "no token was sent"},
		{"not a pin", address, "sha256:12", token, "", 2, "64 hexadecimal digits"},
		{"nobody there", "127.0.0.1:1", pin, token, "", 3, "cannot reach 127.0.0.1:1"},
		{"no token file", address, pin, token + "x", "", 2, "cannot read the token"},
		{"empty token", address, pin, "-", "\n", 2, "holds no token"},
		{"wrong token", address, pin, "-", "bad", 4, "no usable token"},
		{"nothing given", "", "", "", "", 2, "login needs"},
	} {
		r := f.runWith(t.Context(), tt.stdin, "login", "--address", tt.address, "--ca-pin", tt.pin, "--token-file", tt.file)
		if r.code != tt.code || !strings.Contains(r.err, tt.says) || r.out != "" {
			t.Errorf("%s: %+v", tt.name, r)
		}
		if _, err := os.Stat(saved); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: a context was saved", tt.name)
		}
	}
	r := f.run("login", "--address", address, "--ca-pin", pin, "--token-file", token)
	if want := "logged in at 127.0.0.1:8425 as ada (admin); context kept in HOME/config/evenkeel/context.json\n"; r.out != want || r.code != 0 {
		t.Errorf("%+v", r)
	}
	if c, err := client.Load(saved); err != nil || c != f.good() {
		t.Errorf("saved %+v, %v", c, err)
	}
	if r := f.run("host", "list"); r.code != 0 {
		t.Errorf("after login: %+v", r)
	}
	named := filepath.Join(f.home, "named.json")
	if r := f.runWith(t.Context(), "good", "login", "--context", named, "--address", address, "--ca-pin", strings.ToUpper(pin), "--token-file", "-"); r.code != 0 || !strings.Contains(r.out, "HOME/named.json") {
		t.Errorf("with --context: %+v", r)
	}
}

// A watch that the user ends is no failure, and ends the call at the collector.
func TestInterrupt(t *testing.T) {
	f := newFake(t)
	f.full()
	f.waiting = true
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan result)
	var out lines = func(string) { cancel() }
	go func() {
		code := ctl.Run(ctx, []string{"action", "watch"}, ctl.Env{In: strings.NewReader(""), Out: out, Err: out, Getenv: func(k string) string { return f.env[k] }, Dial: f.net.Host("operator").Dial})
		done <- result{code: code}
	}()
	if r := <-done; r.code != 0 {
		t.Errorf("exit %d", r.code)
	}
}

// lines calls a function with what is written.
type lines func(string)

func (l lines) Write(b []byte) (int, error) {
	l(string(b))
	return len(b), nil
}

func TestSimulate(t *testing.T) {
	f := newFake(t)
	var asked ctl.ReasonOptions
	f.reason = func(question string, files []manifest.File, o ctl.ReasonOptions) ([]byte, []manifest.Problem, error) {
		if asked = o; question != "simulate" {
			t.Errorf("asked for %s", question)
		}
		switch text := string(files[0].Text); text {
		case "mistake":
			return nil, []manifest.Problem{{File: files[0].Name, Line: 3, Column: 9, Text: `unknown key "mistake"`, Hint: "did you mean title?"}}, nil
		case "failure":
			return nil, nil, errors.New("cannot reason")
		}
		return []byte(`{"apiVersion":"evenkeel/v1","kind":"Simulation","at":"2026-11-25T10:00:00Z","nodes":[{"ref":"component/web","low":"ok","high":"critical","own":"unknown","score":null,"why":{"rule":"worst","inputs":[],"text":"no data"}}],"causes":[{"ref":"component/web","level":"critical","services":["service/checkout"],"perHour":"12000","unit":"EUR"}],"order":[{"ref":"component/web","start":"2026-11-25T10:00:00Z","end":"2026-11-25T10:20:00Z","reinstates":["service/checkout"]}],"problems":[]}`), nil, nil
	}
	r := f.runWith(t.Context(), "good", "simulate", "-f", "-", "--set", "component/web=critical", "--set", "component/web@web-1=ok", "--at", "2026-11-25T10:00:00Z", "--default", "unknown")
	golden(t, "simulate", r.out)
	if r.code != 0 || r.err != "" || !slices.Equal(asked.Set, []ctl.Assumption{{Ref: "component/web", Level: "critical"}, {Ref: "component/web@web-1", Level: "ok"}}) || asked.Default != "unknown" || asked.At.Hour() != 10 {
		t.Errorf("%+v, %+v", r, asked)
	}
	for _, tt := range []struct {
		stdin, args string
		code        int
		says        string
	}{
		{"mistake", "", 2, "stdin:3:9: unknown key \"mistake\" (did you mean title?)\nevenkeel: 1 problem found"},
		{"failure", "", 2, "cannot reason"},
		{"good", "--set component/web", 2, "expected REF=LEVEL"},
		{"good", "--at noon", 2, "expected RFC 3339"},
		{"good", "--default maybe", 2, "expected ok or unknown"},
	} {
		r := f.runWith(t.Context(), tt.stdin, append([]string{"simulate", "-f", "-"}, strings.Fields(tt.args)...)...)
		if r.code != tt.code || !strings.Contains(r.err, tt.says) || r.out != "" {
			t.Errorf("%q %s: %+v", tt.stdin, tt.args, r)
		}
	}
}

func TestRecoveryPlan(t *testing.T) {
	f := newFake(t)
	var asked ctl.ReasonOptions
	answer := `{"steps":[{"ref":"component/san","start":"2026-11-25T10:00:00Z","end":"2026-11-25T12:00:00Z","team":"","contact":"vendor/disks","reinstates":[]},{"ref":"component/db@db1","start":"2026-11-25T12:00:00Z","end":"2026-11-25T12:30:00Z","team":"team/dba","contact":"team/shop","reinstates":["service/checkout","service/orders"]}],"cost":"30000","lowerBound":"27500.5","exact":false,"firstComeCost":"42000","severityCost":"30000","unit":"EUR"}`
	f.reason = func(question string, files []manifest.File, o ctl.ReasonOptions) ([]byte, []manifest.Problem, error) {
		if asked = o; question != "recovery-plan" {
			t.Errorf("asked for %s", question)
		}
		if string(files[0].Text) == "mistake" {
			return nil, []manifest.Problem{{File: files[0].Name, Line: 3, Column: 9, Text: `unknown key "mistake"`}}, nil
		}
		return []byte(answer), nil, nil
	}
	args := []string{"recovery-plan", "-f", "-", "--set", "component/san=critical", "--set", "component/db@db1=major", "--at", "2026-11-25T10:00:00Z"}
	r := f.runWith(t.Context(), "good", args...)
	golden(t, "recovery", r.out)
	if r.code != 0 || r.err != "" || !slices.Equal(asked.Set, []ctl.Assumption{{Ref: "component/san", Level: "critical"}, {Ref: "component/db@db1", Level: "major"}}) || asked.At.Hour() != 10 {
		t.Errorf("%+v, %+v", r, asked)
	}
	if r = f.runWith(t.Context(), "good", append(args, "-o", "json")...); r.code != 0 || !strings.Contains(r.out, `"lowerBound": "27500.5"`) {
		t.Errorf("%+v", r)
	}
	// People read hundredths: the bound is rounded down, or it would promise too much.
	plain := strings.NewReplacer(`"27500.5"`, `"27500.509999"`, `"cost":"30000"`, `"cost":"30000.005"`).Replace(answer)
	answer, plain = plain, answer
	if r = f.runWith(t.Context(), "good", args...); !strings.Contains(r.out, "30000.01 EUR ") || !strings.Contains(r.out, "no order costs less than 27500.5 EUR\n") || !strings.Contains(r.out, " 12000 EUR\n") {
		t.Errorf("%+v", r)
	}
	answer = strings.Replace(plain, `"exact":false`, `"exact":true`, 1)
	if r = f.runWith(t.Context(), "good", args...); r.code != 0 || !strings.Contains(r.out, "no order costs less\n") {
		t.Errorf("%+v", r)
	}
	if r = f.runWith(t.Context(), "mistake", args...); r.code != 2 || r.out != "" || !strings.Contains(r.err, "stdin:3:9: unknown key") {
		t.Errorf("%+v", r)
	}
	if r = f.runWith(t.Context(), "good", "recovery-plan", "-f", "-", "--set", "component/san"); r.code != 2 || !strings.Contains(r.err, "expected REF=LEVEL") {
		t.Errorf("%+v", r)
	}
	answer = `{"steps":[],"cost":"0","lowerBound":"0","exact":true,"firstComeCost":"0","severityCost":"0","unit":"points"}`
	if r = f.runWith(t.Context(), "good", "recovery-plan", "-f", "-"); r.code != 0 || r.out != "nothing is broken\n" {
		t.Errorf("%+v", r)
	}
	if r = f.runWith(t.Context(), "good", "simulate"); r.code != 2 || !strings.Contains(r.err, "-f FILE") {
		t.Errorf("%+v", r)
	}
}

// Without files, the collector is asked.
func TestReasonOnline(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	answer, err := structpb.NewStruct(map[string]any{"steps": []any{}, "cost": "0", "lowerBound": "0", "exact": true, "firstComeCost": "0", "severityCost": "0", "unit": "EUR"})
	must(t, err)
	f.reply(operatorv1.ReasonService_Ask_FullMethodName, &operatorv1.AskResponse{Answer: answer})
	r := f.run("contacts", "--of", "host/web-1", "--set", "component/san=critical", "-o", "json")
	want := &operatorv1.AskRequest{Question: "contacts", Set: []string{"component/san=critical"}, Args: map[string]string{"of": "host/web-1"}}
	if asked := f.asked(); r.code != 0 || !strings.Contains(r.out, `"unit": "EUR"`) || len(asked) != 1 || !proto.Equal(asked[0], want) {
		t.Errorf("%+v, %v", r, asked)
	}
	if r = f.run("recovery-plan"); r.code != 0 || r.out != "nothing is broken\n" {
		t.Errorf("%+v", r)
	}
	if r = f.run("slo", "show", "--history", "/dev/null"); r.code != 2 || !strings.Contains(r.err, "--history goes with -f") {
		t.Errorf("%+v", r)
	}
}

func TestCompletion(t *testing.T) {
	f := newFake(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := f.run("completion", shell); r.code != 0 || !strings.Contains(r.out, "evenkeel") || len(r.out) < 1000 {
			t.Errorf("completion %s: exit %d, %d bytes, %s", shell, r.code, len(r.out), r.err)
		}
	}
	if r := f.run("__complete", "inc"); !strings.Contains(r.out, "incident\t") {
		t.Errorf("completing inc: %+v", r)
	}
}

// No output carries a colour, whatever the terminal or the environment says.
func TestNoColours(t *testing.T) {
	f := newFake(t)
	f.full()
	f.env["EVENKEEL_CONTEXT"], f.env["TERM"], f.env["CLICOLOR_FORCE"] = f.context("context.json", f.good()), "xterm-256color", "1"
	for _, line := range []string{"map", "host list", "incident list", "--help", "nonsense", "map -o yaml", "map -o json"} {
		if r := f.run(words(line)...); strings.ContainsRune(r.out+r.err, 0x1b) {
			t.Errorf("%s: %q", line, r.out+r.err)
		}
	}
}
