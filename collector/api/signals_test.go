package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// fakeSignals takes what is about the nodes of its map, and keeps nothing.
type fakeSignals struct{ *fake }

func (f fakeSignals) Tell(_ context.Context, by string, posted []outside.Posted) ([]error, error) {
	why := make([]error, len(posted))
	for i, p := range posted {
		if !f.snapshot.Graph().Has(manifest.Ref(p.Ref)) {
			why[i] = fmt.Errorf("%s is not on the map", p.Ref)
			continue
		}
		if err := f.did("tell %s %s by %s", p.Ref, p.Level, by); err != nil {
			return nil, err
		}
	}
	return why, nil
}

func (f fakeSignals) Signals(context.Context) ([]outside.Signal, error) {
	return []outside.Signal{{Target: "component/web", Source: "probe", Level: "major", At: noon, Until: noon.Add(time.Minute)}, {Target: "signal:orders", Source: "probe", Level: "ok", At: noon, Until: noon}}, nil
}

func (f fakeSignals) Alerts(_ context.Context, sender outside.Sender, m outside.Message) (outside.Taken, error) {
	err := f.did("%s says %d", sender, len(m.Alerts))
	return outside.Taken{Firing: len(m.Alerts)}, err
}

func (f fakeSignals) Check(_ context.Context, ref, level, _, _, by, reason string) (outside.Hand, error) {
	if !f.snapshot.Graph().Has(manifest.Ref(ref)) {
		return outside.Hand{}, fmt.Errorf("%s is not on the map: %w", ref, api.ErrInvalid)
	}
	return outside.Hand{Ref: manifest.Ref(ref), Level: level, By: by, Reason: reason, At: noon, Until: noon.Add(time.Hour)}, nil
}

func (f fakeSignals) Set(_ context.Context, h outside.Hand) error {
	return f.did("set %s %s", h.Ref, h.Level)
}

func (f fakeSignals) Unset(_ context.Context, ref manifest.Ref) (outside.Hand, error) {
	return outside.Hand{Ref: ref, Level: "critical", By: "ada"}, f.did("unset %s", ref)
}

func (f fakeSignals) Hands(context.Context) ([]outside.Hand, error) {
	return []outside.Hand{{Ref: "component/web", Level: "critical", By: "ada", At: noon, Until: noon.Add(time.Hour)}}, nil
}

// One signal that cannot be placed costs none of the others.
func TestABatchOfSignals(t *testing.T) {
	w := newWorld(t)
	resp, body := w.do("POST", "/api/v1/signals", "signaller", `{"signals":[{"ref":"component/web","level":"major"},{"ref":"component/wbe","level":"major"}]}`)
	want := `{"taken":1,"refused":[{"index":1,"ref":"component/wbe","text":"component/wbe is not on the map"}]}`
	if resp.StatusCode != 200 || strings.TrimSpace(body) != want {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if got := w.done(); len(got) != 1 || got[0] != "tell component/web major by ada-signaller" {
		t.Errorf("%q", got)
	}
	client := operatorv1.NewSignalServiceClient(w.dial())
	for n, want := range map[int]codes.Code{0: codes.InvalidArgument, 1000: codes.OK, 1001: codes.InvalidArgument} {
		r := &operatorv1.TellSignalsRequest{}
		for range n {
			r.Signals = append(r.Signals, &operatorv1.Signal{Ref: "component/wbe", Level: "ok"})
		}
		if _, err := client.TellSignals(w.as("signaller"), r); status.Code(err) != want {
			t.Errorf("%d signals: %v", n, err)
		}
	}
	if resp, body := w.do("GET", "/api/v1/signals?ref=component/web", "viewer", ""); resp.StatusCode != 200 || strings.Contains(body, "orders") || !strings.Contains(body, `"level":"major"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestWebhooks(t *testing.T) {
	w := newWorld(t)
	const am, zbx = "/api/v1/webhooks/alertmanager", "/api/v1/webhooks/zabbix"
	good := `{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"A"},"startsAt":"2026-11-25T10:00:00Z"}]}`
	for _, tt := range []struct {
		path, token, body string
		code              int
		says              string
	}{
		{am, "signaller", good, 200, `{"firing":1,"resolved":0,"late":0,"unmatched":0,"left":0}`},
		{am, "operator", good, 200, ""},
		{am, "viewer", good, 403, "needs the role signaller"},
		{am, "", good, 401, "unauthenticated"},
		{am, "signaller", `{"version":"3"}`, 400, `version \"3\": expected \"4\"`},
		{am, "signaller", "{\n x", 400, "line 2, column"},
		{am, "signaller", strings.Repeat(" ", outside.MaxBody+1), 413, "at most 4 MiB"},
		{zbx, "signaller", `{"event":"7","status":"problem","severity":4,"host":"web-1"}`, 200, `"firing":1`},
		{zbx, "signaller", `{"event":"7","status":"problem","severity":9,"host":"web-1"}`, 400, "severity: expected 0"},
		{"/api/v1/webhooks/nagios", "signaller", good, 404, "not_found"},
	} {
		if resp, body := w.do("POST", tt.path, tt.token, tt.body); resp.StatusCode != tt.code || !strings.Contains(body, tt.says) {
			t.Errorf("%s as %q: %d %s, want %d %s", tt.path, tt.token, resp.StatusCode, body, tt.code, tt.says)
		}
	}
	for _, tt := range []struct {
		err  error
		code int
	}{{fmt.Errorf("%w: 9 alerts", outside.ErrFull), http.StatusTooManyRequests}, {errors.New("stopping"), http.StatusServiceUnavailable}} {
		w.failWith(tt.err)
		if resp, body := w.do("POST", am, "signaller", good); resp.StatusCode != tt.code {
			t.Errorf("%v: %d %s", tt.err, resp.StatusCode, body)
		}
	}
	_, page := w.do("GET", "/metrics", "viewer", "")
	samples, err := parse(page)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		`{sender="alertmanager",result="taken"}`: 2, `{sender="alertmanager",result="denied"}`: 2, `{sender="alertmanager",result="malformed"}`: 2,
		`{sender="alertmanager",result="too_large"}`: 1, `{sender="alertmanager",result="full"}`: 1, `{sender="alertmanager",result="failed"}`: 1,
		`{sender="zabbix",result="taken"}`: 1, `{sender="zabbix",result="malformed"}`: 1, `{sender="zabbix",result="failed"}`: 0,
	} {
		if got := samples["evenkeel_api_webhook_deliveries_total"+name]; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// A signaller tells and does not look.
func TestASignallerMayOnlyTell(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/metrics", "/api/v1/openapi.json", "/api/v1/map", "/api/v1/set", "/api/v1/whoami"} {
		if resp, body := w.do("GET", path, "signaller", ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if resp, body := w.do("POST", "/api/v1/set", "operator", `{"ref":"component/nothere","level":"ok"}`); resp.StatusCode != 400 || !strings.Contains(body, "not on the map") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
