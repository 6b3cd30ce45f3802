//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

const (
	generated = 300 // hosts
	apps      = 10  // services over them
)

func hostName(i int) string { return fmt.Sprintf("host-%03d", i) }

// exporter is the helper program that plays 300 hosts, each with a page of metrics of its own, and the till of the shop. A PUT to a page
// makes its host fail or well again, or sets the orders.
func exporter(args []string) error {
	var mu sync.Mutex
	down := map[string]bool{}
	orders := "5"
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		name := strings.TrimPrefix(r.URL.Path, "/")
		switch {
		case r.Method == http.MethodPut && name == "shop":
			orders = r.URL.Query().Get("orders")
		case r.Method == http.MethodPut:
			down[name] = r.URL.Query().Get("down") == "true"
		case down[name]:
			http.Error(w, "down", http.StatusServiceUnavailable)
		case name == "shop":
			fmt.Fprintf(w, "orders_per_second %s\n", orders)
		default:
			fmt.Fprintf(w, "host_load 0.5\n")
		}
	}))
}

// outsideMap is a shop over ten applications, each on thirty of the hosts; every second one has replicas to spare.
func outsideMap() string {
	var b strings.Builder
	doc := func(kind, name, spec string) {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
	}
	doc("Team", "web-ops", "{contacts: [{name: Web on call, phone: '+49 30 1234'}]}")
	var parts []string
	for a := range apps {
		var hosts []string
		for i := a * generated / apps; i < (a+1)*generated/apps; i++ {
			doc("Component", hostName(i), fmt.Sprintf("{owner: team/web-ops, source: {alertmanager: {matchLabels: {instance: %s}, within: 1m}}}", hostName(i)))
			hosts = append(hosts, "{ref: component/"+hostName(i)+"}")
		}
		rule := "worst"
		if a%2 == 1 {
			rule = "quorum, quorum: {need: 25}"
		}
		doc("Service", fmt.Sprintf("app-%d", a), fmt.Sprintf("{layer: application, criticality: 2, owner: team/web-ops, dependsOn: [%s], health: {rule: %s}}", strings.Join(hosts, ", "), rule))
		parts = append(parts, fmt.Sprintf("{ref: service/app-%d}", a))
	}
	doc("Service", "shop", "{criticality: 1, owner: team/web-ops, value: {perHour: 12000, currency: EUR}, dependsOn: ["+strings.Join(parts, ", ")+
		"], indicators: [{name: orders, promql: sum(orders_per_second), levels: {critical: '< 0.1', major: '< 2'}, essential: true}]}")
	return b.String()
}

type mapAnswer struct {
	Nodes []struct {
		Ref, Low, High string
		Why            struct{ Text string }
	}
	Causes []struct {
		Ref, Level, Text string
		Services         []string
		NotInMap         bool
	}
}

type incidentsAnswer struct {
	Incidents []struct {
		ID, State, Title, Cause string
		Services                []string
		Timeline                []struct{ What string }
	}
}

// outsideRig is a collector that knows no agent.
type outsideRig struct {
	*testing.T
	c *rig.Collector
}

// becomes waits until nodes have these levels; a range is written low..high, unknown is all of it.
func (r *outsideRig) becomes(patience time.Duration, what string, want map[string]string) time.Duration {
	r.Helper()
	return rig.Until(r, patience, what, func() string {
		var m mapAnswer
		r.c.JSON(r, &m, "map")
		left := len(want)
		for _, n := range m.Nodes {
			level := n.Low
			if n.Low != n.High {
				level += ".." + n.High
			}
			if w, ok := want[n.Ref]; ok {
				if level != strings.Replace(w, "unknown", "ok..critical", 1) {
					return fmt.Sprintf("%s is %s and not %s: %s", n.Ref, level, w, n.Why.Text)
				}
				left--
			}
		}
		if left > 0 {
			return "not on the map"
		}
		return ""
	})
}

func (r *outsideRig) put(url string) {
	r.Helper()
	req, err := http.NewRequest(http.MethodPut, url, nil)
	if err != nil {
		r.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	resp.Body.Close()
}

// With no agent at all, Debian's own Prometheus and Alertmanager over 300 hosts give health, cause, impact, an incident, whom to call, and a
// service that is bad though all its parts are well. When the Alertmanager is gone, what hangs on it is unknown.
func TestNoAgentAtAll(t *testing.T) {
	dir := rig.Folder(t)
	pages, prometheus, alertmanager := rig.Free(t), rig.Free(t), rig.Free(t)
	rig.StartCmd(t, rig.Helper(t, "exporter", pages))

	c := rig.NewCollector(t, "127.0.0.1")
	c.Configure(t, fmt.Sprintf("sources: {prometheus: {url: 'http://%s', every: 5s}}\n", prometheus))
	c.Run(t)
	r := &outsideRig{t, c}
	file := filepath.Join(dir, "map.yaml")
	rig.Write(t, file, outsideMap())
	if out, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 0 {
		t.Fatalf("apply: %d\n%s%s", code, out, errs)
	}
	_, token := c.Token(t, "signaller")

	// What is shipped, with our addresses and shorter times.
	root := rig.Root(t)
	conf := rig.Read(t, filepath.Join(root, "deploy/alertmanager/alertmanager.yml"))
	for from, to := range map[string]string{
		"https://keel.example:8420": c.REST(t), "/etc/alertmanager/evenkeel-token": token,
		"group_wait: 5s ": "group_wait: 1s ", "group_interval: 30s": "group_interval: 1s", "group_interval: 1m": "group_interval: 5s", "repeat_interval: 1m": "repeat_interval: 5s",
	} {
		if !strings.Contains(conf, from) {
			t.Fatalf("the shipped alertmanager.yml lacks %q", from)
		}
		conf = strings.ReplaceAll(conf, from, to)
	}
	rig.Write(t, filepath.Join(dir, "alertmanager.yml"), conf)
	rig.Write(t, filepath.Join(dir, "evenkeel.yml"), rig.Read(t, filepath.Join(root, "deploy/alertmanager/evenkeel.yml"))+"\n")
	rig.Write(t, filepath.Join(dir, "rules.yml"), `groups:
  - name: hosts
    rules:
      - alert: HostDown
        expr: up{job="hosts"} == 0
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.instance }} does not answer'}
`)
	var targets strings.Builder
	for i := range generated {
		fmt.Fprintf(&targets, "      - {targets: ['%s'], labels: {instance: %s, __metrics_path__: /%s}}\n", pages, hostName(i), hostName(i))
	}
	rig.Write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}
rule_files: [rules.yml, evenkeel.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ['%s']}]}]}
scrape_configs:
  - job_name: shop
    metrics_path: /shop
    static_configs: [{targets: ['%s']}]
  - job_name: hosts
    static_configs:
%s`, alertmanager, pages, targets.String()))
	am := rig.StartCmd(t, rig.Foreign(t, "usr/bin/prometheus-alertmanager", "--config.file="+filepath.Join(dir, "alertmanager.yml"), "--storage.path="+filepath.Join(dir, "alerts"),
		"--web.listen-address="+alertmanager, "--cluster.listen-address="))
	rig.Answers(t, "http://"+alertmanager+"/-/ready")
	// A Prometheus knows of its Alertmanager some seconds after its first alert, and tells it of that a minute later if it is not told otherwise.
	rig.StartCmd(t, rig.Foreign(t, "usr/bin/prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--rules.alert.resend-delay=5s", "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+prometheus))
	rig.Answers(t, "http://"+prometheus+"/-/ready")

	all := map[string]string{"service/shop": "ok", "service/app-0": "ok"}
	for i := range generated {
		all["component/"+hostName(i)] = "ok"
	}
	t.Logf("all is well %s after the start", r.becomes(90*time.Second, "all is well", all))

	// A host without a spare, and one of which there are enough.
	r.put("http://" + pages + "/" + hostName(7) + "?down=true")
	r.put("http://" + pages + "/" + hostName(37) + "?down=true")
	took := r.becomes(60*time.Second, "the failures are seen", map[string]string{
		"component/" + hostName(7): "critical", "component/" + hostName(37): "critical", "service/app-0": "critical", "service/app-1": "ok", "service/shop": "critical",
	})
	t.Logf("host to service in %s", took)
	var m mapAnswer
	c.JSON(t, &m, "map")
	if len(m.Causes) != 1 || m.Causes[0].Ref != "component/"+hostName(7) || strings.Join(m.Causes[0].Services, " ") != "service/app-0 service/shop" || !strings.Contains(m.Causes[0].Text, hostName(7)+" does not answer") {
		t.Errorf("causes: %+v", m.Causes)
	}
	incident := func(cause string) string {
		var in incidentsAnswer
		c.JSON(t, &in, "incident", "list")
		for _, i := range in.Incidents {
			if i.Cause == cause {
				return i.State + ": " + i.Title + " " + strings.Join(i.Services, " ")
			}
		}
		return fmt.Sprintf("no incident of %s: %+v", cause, in)
	}
	if got := incident("component/" + hostName(7)); got != "open: component/host-007 is critical, says alertmanager service/app-0 service/shop" {
		t.Error(got)
	}
	var contacts struct {
		Steps []struct{ Name, Phone string }
	}
	c.JSON(t, &contacts, "contacts", "--of", "component/"+hostName(7))
	if !slices.ContainsFunc(contacts.Steps, func(s struct{ Name, Phone string }) bool { return s.Phone == "+49 30 1234" }) {
		t.Errorf("contacts: %+v", contacts)
	}
	r.put("http://" + pages + "/" + hostName(7) + "?down=false")
	r.put("http://" + pages + "/" + hostName(37) + "?down=false")
	r.becomes(60*time.Second, "all is well again", all)
	rig.Until(t, 60*time.Second, "the incident is resolved", func() string {
		if got := incident("component/" + hostName(7)); !strings.HasPrefix(got, "resolved") {
			return got
		}
		return ""
	})

	// All parts green and orders at zero.
	r.put("http://" + pages + "/shop?orders=0")
	r.becomes(60*time.Second, "the missing orders are seen", map[string]string{"service/shop": "critical", "service/app-0": "ok"})
	m = mapAnswer{}
	c.JSON(t, &m, "map")
	if len(m.Causes) != 1 || m.Causes[0].Ref != "service/shop" || !m.Causes[0].NotInMap || !strings.Contains(m.Causes[0].Text, "the cause is not in the map: all 10 parts of service/shop are well") {
		t.Errorf("causes: %+v", m.Causes)
	}
	if got := incident("service/shop"); !strings.Contains(got, "the cause is not in the map") {
		t.Error(got)
	}
	r.put("http://" + pages + "/shop?orders=5")
	r.becomes(60*time.Second, "the orders are back", map[string]string{"service/shop": "ok"})
	// The gap stays in the queue for review until somebody has looked at it, also through a crash.
	gaps := func() string {
		var byCommand, byREST struct {
			Gaps []struct {
				Service, Incident string
				Now               bool
			}
		}
		c.JSON(t, &byCommand, "review")
		c.GET(t, &byREST, "/api/v1/reason/review")
		if fmt.Sprint(byCommand) != fmt.Sprint(byREST) {
			t.Errorf("%+v and %+v", byCommand, byREST)
		}
		var out []string
		for _, g := range byREST.Gaps {
			if g.Incident == "" || g.Now {
				t.Errorf("%+v", g)
			}
			out = append(out, g.Service)
		}
		return strings.Join(out, " ")
	}
	if got := gaps(); got != "service/shop" {
		t.Errorf("gaps in the queue: %q", got)
	}
	if out, errs, code := c.Evenkeel(t, "review", "confirm", "service/shop", "--note", "orders need the bank"); code != 0 || out != "service/shop is confirmed by first-admin\n" {
		t.Errorf("review confirm: %d %s%s", code, out, errs)
	}
	if got := gaps(); got != "" {
		t.Errorf("gaps after the review: %q", got)
	}
	if out, _, _ := c.Evenkeel(t, "audit"); !strings.Contains(out, "confirm review") || !strings.Contains(out, "orders need the bank") {
		t.Errorf("the audit log does not tell: %s", out)
	}

	// By hand, through a restart of the collector, and taken back.
	if out, errs, code := c.Evenkeel(t, "set", "component/"+hostName(1), "major", "--for", "1h", "--reason", "a drill"); code != 0 {
		t.Errorf("set: %d %s%s", code, out, errs)
	}
	r.becomes(10*time.Second, "what was set counts", map[string]string{"component/" + hostName(1): "major", "service/app-0": "major"})
	c.Kill()
	c.Run(t)
	if got := gaps(); got != "" {
		t.Errorf("gaps after a crash: %q", got)
	}
	r.becomes(30*time.Second, "what was set and said is there after a crash", map[string]string{"component/" + hostName(1): "major", "component/" + hostName(2): "ok", "service/app-0": "major", "service/app-1": "ok"})
	if out, _, code := c.Evenkeel(t, "unset", "component/"+hostName(1)); code != 0 || !strings.Contains(out, "no longer set to major by first-admin") {
		t.Errorf("unset: %d %s", code, out)
	}
	r.becomes(10*time.Second, "what is measured counts again", map[string]string{"component/" + hostName(1): "ok"})

	// Silence is not health.
	am.Stop(t, 10*time.Second)
	r.becomes(100*time.Second, "the silence is seen", map[string]string{"component/" + hostName(7): "unknown", "service/app-0": "unknown"})
}
