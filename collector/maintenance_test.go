package collector

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// The clock of a bubble begins at midnight of 2000-01-01.
const firstMinute = `
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: on-site}
---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: firmware}
spec:
  refs: [REF]
  window: {timezone: UTC, start: 2000-01-01, duration: 60s}
  reason: firmware
  owner: team/on-site
`

// While a host is in maintenance, nothing opens and nothing is done; what is still bad afterwards is taken up then.
func TestMaintenanceOfAHostMutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap+strings.Replace(firstMinute, "REF", "host/a", 1))
		defer w.stop()
		a := w.shop()
		a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
		a.run(15)
		a.crowded()
		a.run(30)
		if n := len(w.commands(command.Apply)); n != 0 || len(w.incidents()) != 0 {
			t.Fatalf("in maintenance: %d commands, incidents %+v", n, w.incidents())
		}
		a.run(20)
		if n := len(w.commands(command.Apply)); n == 0 || len(w.incidents()) != 1 {
			t.Fatalf("afterwards: %d commands, incidents %+v", n, w.incidents())
		}
	})
}

// What is in maintenance is not squeezed for others.
func TestMaintenanceOfAComponentBlocksShedding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap+strings.Replace(firstMinute, "REF", "component/batch", 1))
		defer w.stop()
		a := w.shop()
		a.actor("cpu.weight", command.Target{Cgroup: "/demo/batch"})
		a.run(15)
		a.crowded()
		a.run(30)
		if n := len(w.commands(command.Apply)); n != 0 {
			t.Fatalf("%d commands", n)
		}
		open := w.incidents()
		if len(open) != 1 || open[0].State == incident.Resolved {
			t.Fatalf("incidents: %+v", open)
		}
		plan, _ := w.executor.ExplainIncident(open[0].ID)
		for _, c := range plan.Candidates {
			if c.Component == "component/batch" && c.Why != "it is in maintenance" {
				t.Errorf("batch: %+v", c)
			}
		}
	})
}

// Where maintenance leaves too few members, the service is down as planned: nobody is called. A member that fails beside it is
// another matter.
func TestTooFewMembersInMaintenanceMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := ""
		for _, name := range []string{"x", "y", "z"} {
			pool += strings.ReplaceAll(`
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: NAME}
spec: {}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: index-NAME}
spec: {hosts: {names: [NAME]}, unit: index.service}
`, "NAME", name)
		}
		pool += `
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: search}
spec:
  title: Search
  criticality: 2
  owner: team/on-site
  health: {rule: quorum, quorum: {need: 2}}
  dependsOn: [{ref: component/index-x}, {ref: component/index-y}, {ref: component/index-z}]
`
		work := strings.Replace(firstMinute, "REF", "host/x, host/y", 1)
		w := newWorld(t, state.NewMemory(), shopMap+pool+work)
		defer w.stop()
		a := w.shop()
		set := func(ref, level string) {
			t.Helper()
			h, err := w.signals().Check(t.Context(), ref, level, "", "1h", "ann", "seen on site")
			if err == nil {
				err = w.signals().Set(t.Context(), h)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"x", "y", "z"} {
			set("component/index-"+name+"@"+name, map[bool]string{true: "ok", false: "critical"}[name == "z"])
		}
		set("service/search", "critical") // as its own measure sees it
		a.run(10)
		if w.level("service/search") != "critical" || len(w.incidents()) != 0 {
			t.Fatalf("in maintenance search is %s, incidents %+v", w.level("service/search"), w.incidents())
		}
		set("component/index-z@z", "critical")
		a.run(10)
		if n := len(w.incidents()); n != 1 {
			t.Fatalf("with a member that failed: incidents %+v", w.incidents())
		}
	})
}

// The history says that the time of a service was planned, from the beginning of its maintenance to the end.
func TestMaintenanceOfAServiceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap+strings.Replace(firstMinute, "REF", "service/shop", 1))
		defer w.stop()
		a := w.shop()
		a.run(90)
		var got []string
		for _, row := range w.decider.history.Rows() {
			if row.Ref == "service/shop" {
				got = append(got, row.At.UTC().Format("05 ")+row.Origin.String())
			}
		}
		text := strings.Join(got, ", ")
		if !strings.Contains(text, slo.Planned.String()) || strings.HasSuffix(text, slo.Planned.String()) {
			t.Errorf("kept: %s", text)
		}
	})
}

// While a part is in maintenance the map says that the service is well, and the history that it was down, as planned; afterwards it is its own
// doing again, although nothing about the part changed.
func TestMaintenanceOfAPartIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap+strings.Replace(firstMinute, "REF", "component/server", 1)+`---
apiVersion: evenkeel/v1
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 90%, window: {rolling: 1h}, excluded: leftOut}
`)
		defer w.stop()
		a := w.shop()
		a.run(15)
		h, err := w.signals().Check(t.Context(), "component/server@a", "critical", "", "1h", "ann", "it is being worked on")
		if err == nil {
			err = w.signals().Set(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		a.run(15)
		if w.level("service/shop") != "ok" || len(w.incidents()) != 0 {
			t.Fatalf("in maintenance the shop is %s, incidents %+v", w.level("service/shop"), w.incidents())
		}
		a.run(50)
		var got []string
		for _, row := range w.decider.history.Rows() {
			if row.Ref == "service/shop" {
				got = append(got, row.At.UTC().Format("05 ")+slo.HealthText(row.Health)+" "+row.Origin.String())
			}
		}
		text := strings.Join(got, ", ")
		if !strings.HasSuffix(text, "ok unknown, 16 critical planned, 00 critical own") {
			t.Errorf("kept: %s", text)
		}
		out, problems, err := reasoner{&backend{decider: w.decider}}.Ask(t.Context(), "slo", nil, time.Time{}, nil)
		if err != nil || len(problems) > 0 || !strings.Contains(string(out), `"planned":"46s"`) || !strings.Contains(string(out), `"own":"20s"`) {
			t.Errorf("%s, %v, %v", out, problems, err)
		}
	})
}

// A question about another moment is answered with the maintenance of that moment; and hosts that are on no map can be drawn.
func TestQuestionsAboutAnotherMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap+strings.Replace(firstMinute, "REF", "component/server", 1))
		defer w.stop()
		a := w.shop()
		w.connect("c")
		a.run(90)
		ask := func(question string, at time.Time) string {
			t.Helper()
			out, problems, err := reasoner{&backend{decider: w.decider}}.Ask(t.Context(), question, nil, at, nil)
			if err != nil || len(problems) > 0 {
				t.Fatal(problems, err)
			}
			return string(out)
		}
		for at, want := range map[time.Time]bool{{}: false, time.Date(2000, 1, 1, 0, 0, 30, 0, time.UTC): true} {
			if got := strings.Contains(ask("simulate", at), "not counted: component/server, in maintenance until 2000-01-01T00:01:00Z"); got != want {
				t.Errorf("at %s in maintenance: %v", at, got)
			}
		}
		if out := ask("map-init", time.Time{}); !strings.Contains(out, `"ref":"host/c"`) || strings.Contains(out, `"ref":"host/a"`) {
			t.Errorf("%s", out)
		}
	})
}
