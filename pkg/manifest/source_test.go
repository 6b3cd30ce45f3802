package manifest_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func source(text string) string { return compHead + "  source: " + text + "\n" }

func indicator(text string) string {
	return svcHead + "  indicators: [{name: orders, promql: 'sum(rate(orders_total[5m]))', levels: {" + text + "}}]\n"
}

func TestMistakesInSources(t *testing.T) {
	tell(t, []mistake{
		{"two sources", source("{signal: a, promql: {query: up, levels: {critical: '< 1'}}}"), `f.yaml:5:11: spec.source takes exactly one of alertmanager, zabbix, signal and promql`},
		{"no source", source("{}"), `f.yaml:5:11: spec.source takes exactly one of alertmanager, zabbix, signal and promql`},
		{"a source and hosts", compHead + "  hosts: {names: [a]}\n  source: {signal: a}\n", `f.yaml:5:3: at most one of hosts, source and external may be set, not 2`},
		{"signal's name", source("{signal: Orders OK}"), `f.yaml:5:20: "Orders OK" is not a name: lower-case letters, digits, and between them - . _`},
		{"no labels", source("{alertmanager: {severity: level}}"), `f.yaml:5:26: spec.source.alertmanager.matchLabels is missing`},
		{"empty labels", source("{alertmanager: {matchLabels: {}}}"), `f.yaml:5:40: spec.source.alertmanager.matchLabels is empty`},
		{"a level of a severity", source("{zabbix: {matchLabels: {host: a}, levels: {high: bad}}}"), `f.yaml:5:60: "bad" is not a level: expected ok, info, warning, minor, major or critical (known: critical, info, major, minor, ok, warning)`},
		{"a severity twice", source("{zabbix: {matchLabels: {host: a}, levels: {High: major, high: minor}}}"), `f.yaml:5:73: severity "high" is the same as "High": capital letters do not count`},
		{"silence too short", source("{alertmanager: {matchLabels: {a: b}, within: 5s}}"), `f.yaml:5:56: spec.source.alertmanager.within is 5s: expected 1m to 1d`},
		{"no query", source("{promql: {levels: {critical: '< 1'}}}"), `f.yaml:5:20: spec.source.promql.query is missing`},
		{"asked too often", source("{promql: {query: up, every: 1s, levels: {critical: '< 1'}}}"), `f.yaml:5:39: spec.source.promql.every is 1s: expected 5s to 1h`},
		{"a level for ok", source("{promql: {query: up, levels: {ok: '< 1'}}}"), `f.yaml:5:45: ok is what holds when no other level does`},
		{"a level out of reach", indicator("critical: '< 2', major: '< 0.1'"), `f.yaml:5:103: major can never be reached: whatever is < 0.1 is < 2 too, which makes it critical`},
		{"the same level twice", indicator("critical: '>= 2', minor: '> 2'"), `f.yaml:5:104: minor can never be reached: whatever is > 2 is >= 2 too, which makes it critical`},
		{"a check of an agent", compHead + "  external: {check: login}\n", `f.yaml:5:21: check "login" is of an agent's own files, and an external part has no agent (a URL, or host:port)`},
	})
}

func TestSourcesAreRead(t *testing.T) {
	set, problems := manifest.Parse("f.yaml", []byte(source(`{alertmanager: {matchLabels: {service: web}, severity: prio, levels: {P1: critical}, otherwise: minor, within: 5m}}`)+
		"---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: q}\nspec: {source: {promql: {query: up, levels: {critical: '< 1', major: '< 2', info: '> 9'}, every: 30s}}}\n"))
	for _, p := range problems {
		t.Error(p)
	}
	web, _ := manifest.SpecOf[manifest.Component](set, "component/web")
	a := web.Source.Alertmanager
	if a.MatchLabels["service"] != "web" || a.Severity != "prio" || a.Levels["P1"] != health.Critical || *a.Otherwise != health.Minor || a.Within.Std() != 5*time.Minute {
		t.Errorf("%+v", a)
	}
	q, _ := manifest.SpecOf[manifest.Component](set, "component/q")
	if p := q.Source.PromQL; p.Query != "up" || p.Every.Std() != 30*time.Second || !p.Levels[health.Major].Holds(1.5) {
		t.Errorf("%+v", p)
	}
}
