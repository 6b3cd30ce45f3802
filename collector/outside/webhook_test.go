package outside_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/evenkeel/evenkeel/collector/outside"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadAlertmanager(t *testing.T) {
	m, err := outside.ReadAlertmanager(fixture(t, "alertmanager.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := outside.Message{Left: 2, Alerts: []outside.Alert{
		{
			ID: "1b2c3d4e5f607182", Firing: true, Text: "web-17 answers slowly", Since: time.Date(2026, 11, 25, 11, 58, 3, 828_000_000, time.UTC),
			Labels: map[string]string{"alertname": "Slow", "env": "prod", "instance": "web-17:9100", "service": "web", "severity": "critical"},
		},
		{
			ID: "8172635445362718", Text: "the disk of web-18 is full again", Since: time.Date(2026, 11, 25, 11, 40, 0, 0, time.UTC),
			Labels: map[string]string{"alertname": "DiskFull", "env": "prod", "instance": "web-18:9100", "service": "web", "severity": "warning"},
		},
	}}
	if diff := cmp.Diff(want, m, cmpopts.IgnoreUnexported(outside.Alert{})); diff != "" {
		t.Error(diff)
	}
}

func TestReadZabbix(t *testing.T) {
	m, err := outside.ReadZabbix(fixture(t, "zabbix-problem.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := outside.Message{Alerts: []outside.Alert{{
		ID: "4711", Firing: true, Text: "Queue is 812 long", Since: time.Date(2026, 11, 25, 10, 58, 3, 0, time.UTC),
		Labels: map[string]string{"host": "db-1", "name": "Queue too long", "severity": "high", "scope": "performance", "service": "shop"},
	}}}
	if diff := cmp.Diff(want, m, cmpopts.IgnoreUnexported(outside.Alert{})); diff != "" {
		t.Error(diff)
	}
	m, err = outside.ReadZabbix(fixture(t, "zabbix-resolved.json"))
	if err != nil || m.Alerts[0].Firing || m.Alerts[0].ID != "4711" {
		t.Errorf("%+v %v", m, err)
	}
}

func TestBadBodiesAreToldWithTheirPlace(t *testing.T) {
	alert := func(more string) string { return `{"version":"4","alerts":[{` + more + `}]}` }
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	labels := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"l%d":"v"`, i))
		}
		return `"labels":{` + strings.Join(all, ",") + `}`
	}
	for _, c := range []struct {
		read       func([]byte) (outside.Message, error)
		body, want string
	}{
		{outside.ReadAlertmanager, "", "line 1, column 1: EOF"},
		{outside.ReadAlertmanager, "{\n  \"version\": 4\n}", "line 2, column 15: version must be a string, not number"},
		{outside.ReadAlertmanager, `{"version":"4"} {}`, "line 1, column 17: there is more after the message"},
		{outside.ReadAlertmanager, `{"version":"5","alerts":[]}`, `version "5": expected "4", that of an Alertmanager's webhook`},
		{outside.ReadAlertmanager, alert(`"status":"suppressed","labels":{"a":"b"}`), `alerts[0].status "suppressed": expected firing or resolved`},
		{outside.ReadAlertmanager, alert(`"status":"firing"`), "alerts[0].labels: there is none"},
		{outside.ReadAlertmanager, alert(`"status":"firing",` + labels(65)), "alerts[0].labels: there are 65: the most is 64"},
		{outside.ReadAlertmanager, alert(`"status":"firing","labels":{"a":"` + strings.Repeat("x", 9000) + `"}`), "alerts[0].labels: they have 9001 bytes: the most is 8192"},
		{outside.ReadAlertmanager, `{"version":"4","alerts":[` + many(5001, "{}") + `]}`, "5001 alerts in one message: the most is 5000; set max_alerts of the webhook"},
		{outside.ReadAlertmanager, alert(`"status":"firing",` + labels(1) + `,"fingerprint":"` + strings.Repeat("f", 201) + `"`), "alerts[0].fingerprint has 201 bytes: the most is 200"},
		{outside.ReadZabbix, `{"evnt":"1"}`, `line 1, column 13: unknown field "evnt"`},
		{outside.ReadZabbix, `{"status":"problem"}`, "event is missing: expected the number of the problem's event, {EVENT.ID}"},
		{outside.ReadZabbix, `{"event":"1","status":"1"}`, `status "1": expected problem or resolved`},
		{outside.ReadZabbix, `{"event":"1","status":"problem"}`, "severity: expected 0 (not classified) to 5 (disaster), {EVENT.NSEVERITY}"},
		{outside.ReadZabbix, `{"event":"1","status":"problem","severity":6,"host":"a"}`, "severity: expected 0 (not classified) to 5 (disaster), {EVENT.NSEVERITY}"},
		{outside.ReadZabbix, `{"event":"1","status":"problem","severity":5}`, "host is missing: expected the name of the host, {HOST.HOST}"},
		{outside.ReadZabbix, `{"event":"1","status":"problem","severity":5,"host":"a","startedAt":"now"}`, `startedAt "now" is not a time: expected RFC 3339, such as 2026-11-25T10:00:00Z`},
	} {
		if _, err := c.read([]byte(c.body)); err == nil || err.Error() != c.want {
			t.Errorf("%.80s\n got %v\nwant %s", c.body, err, c.want)
		}
	}
}

// fuzzBody checks what must hold of every body: it is refused, or what came of it is within bounds and fit to be kept.
func fuzzBody(t *testing.T, read func([]byte) (outside.Message, error), sender outside.Sender, body []byte) {
	m, err := read(body)
	if err != nil {
		if len(m.Alerts) > 0 || err.Error() == "" || strings.Contains(err.Error(), "\n") {
			t.Fatalf("%+v, %q", m, err)
		}
		return
	}
	b := outside.NewBoard()
	set, graph := parsed()
	b.Draw(set, graph)
	if _, err := b.Alerts(at(0), sender, m.Alerts); err != nil {
		t.Fatal(err)
	}
	for _, s := range b.Flush(at(0)) {
		if strings.ContainsAny(s.Text, "\n\r\x00") || !utf8.ValidString(s.Text) {
			t.Fatalf("%q", s.Text)
		}
	}
	records, err := b.Changed()
	if err != nil {
		t.Fatal(err)
	}
	again := outside.NewBoard()
	for _, r := range records {
		if len(r.Value) > 64<<10 || len(r.Key) > 200 {
			t.Fatalf("a record of %d bytes under %s", len(r.Value), r.Key)
		}
		if err := again.Load(r); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzReadAlertmanager(f *testing.F) {
	f.Add(fixture(f, "alertmanager.json"))
	f.Add([]byte(`{"version":"4","alerts":[{"status":"firing","labels":{"severity":"\u0000page\n"},"startsAt":"2026-11-25T10:00:00+02:00","annotations":{"summary":"\ud800"}}]}`))
	f.Add(bytes.Repeat([]byte("["), 20_000))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzBody(t, outside.ReadAlertmanager, outside.Alertmanager, body) })
}

func FuzzReadZabbix(f *testing.F) {
	f.Add(fixture(f, "zabbix-problem.json"))
	f.Add(fixture(f, "zabbix-resolved.json"))
	f.Add([]byte(`{"event":"1","status":"problem","severity":0,"host":"\n","tags":[{"tag":"host","value":"x"},{"tag":"","value":"y"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzBody(t, outside.ReadZabbix, outside.Zabbix, body) })
}

// A record that was changed on disk is an error with its key, and never a panic.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version":1,"signal":{"target":"component/pay","source":"a","level":"odd","at":"2026-11-25T10:00:00Z","until":"2026-11-26T10:00:00Z"}}`))
	f.Add([]byte(`{"version":1,"alert":{"sender":"alertmanager","id":"f","firing":true}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		b := outside.NewBoard()
		if err := b.Load(outside.Record{Key: "outside/x", Value: value}); err != nil {
			if !strings.Contains(err.Error(), "outside/x") {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(value) {
			t.Fatalf("%q was taken", value)
		}
		set, graph := parsed()
		b.Draw(set, graph)
		b.Flush(at(0))
	})
}
