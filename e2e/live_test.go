//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

const shopMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  title: Shop
  criticality: 1
  owner: team/shop
  value: {perHour: 12000, currency: EUR, loss: {critical: 1}}
  dependsOn: [{ref: component/shop-server}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: shop-server}
spec:
  hosts: {names: [web-1]}
  process: {exe: %s, user: root}
  repair: {expected: 20m, team: team/web}
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: shop}
spec:
  contacts: [{name: Shop desk, phone: "+49 30 100"}]
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: web}
spec:
  contacts: [{name: Web on call, phone: "+49 30 200"}]
---
apiVersion: evenkeel/v1
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 99.9%%, window: {rolling: 1d}, bad: major}
`

// Within two seconds of a real process' death the component, the service, the incident, its cost, the plan and the contacts say so, through the
// command and through REST alike; and all of it is over when the process is back.
func TestDeathOfAProcessReachesTheBusiness(t *testing.T) {
	c := rig.NewCollector(t, "127.0.0.1")
	c.Run(t)
	c.Enrol(t, "web-1", "")
	connected(t, c, time.Minute, "web-1")
	dir := rig.Folder(t)
	server, file := filepath.Join(dir, "shopd"), filepath.Join(dir, "map.yaml")
	rig.Must(t, "cp", rig.Binary(t, "demo-server"), server)
	rig.Write(t, file, fmt.Sprintf(shopMap, server))
	process := rig.Start(t, server)
	if out, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 0 {
		t.Fatalf("apply: %s%s", out, errs)
	}
	api := c.API(t)
	rig.Until(t, 20*time.Second, "all is well", func() string { return levels(t, c, "ok") })
	level(t, api, "component/shop-server@web-1", "ok")

	killed := time.Now()
	process.Signal(syscall.SIGKILL)
	rig.Until(t, 10*time.Second, "the service is critical", func() string { return levels(t, c, "critical") })
	var list struct {
		Incidents []struct {
			ID, Cause, Level, Priority, PerHour, OpenedAt, State string
			Services                                             []string
		}
	}
	c.REST(t, &list, "/api/v1/incidents")
	t.Logf("seen through REST %.2f s after the kill", time.Since(killed).Seconds())
	if len(list.Incidents) != 1 {
		t.Fatalf("%+v", list)
	}
	i := list.Incidents[0]
	if i.Cause != "component/shop-server@web-1" || i.Level != "critical" || i.Priority != "P1" || i.PerHour != "12000.00 EUR" || strings.Join(i.Services, " ") != "service/shop" {
		t.Errorf("%+v", i)
	}
	opened, err := time.Parse(time.RFC3339Nano, i.OpenedAt)
	if took := opened.Sub(killed); err != nil || took > 2*time.Second {
		t.Errorf("opened %s after the kill, want within 2s (%v)", took, err)
	} else {
		t.Logf("opened %.2f s after the kill", took.Seconds())
	}

	// The same, by the command and by REST.
	var plan, planned struct {
		Steps []struct {
			Ref, Team  string
			Reinstates []string
		}
		Unit string
	}
	c.JSON(t, &plan, "recovery-plan")
	c.REST(t, &planned, "/api/v1/reason/recovery-plan")
	for _, p := range []any{plan, planned} {
		if got, want := fmt.Sprintf("%+v", p), "{Steps:[{Ref:component/shop-server@web-1 Team:team/web Reinstates:[service/shop]}] Unit:EUR}"; got != want {
			t.Errorf("plan %s", got)
		}
	}
	var call, called struct {
		Steps []struct{ Name, Phone, Call string }
	}
	c.JSON(t, &call, "contacts", "--of", i.Cause)
	c.REST(t, &called, "/api/v1/reason/contacts?of="+i.Cause)
	if fmt.Sprint(call) != fmt.Sprint(called) || !strings.Contains(fmt.Sprint(call), "{Web on call +49 30 200 now}") {
		t.Errorf("contacts %v and %v", call, called)
	}
	var shown struct {
		CostSoFar string
		Contacts  struct{ Of string }
		Plan      struct{ Unit string }
	}
	time.Sleep(time.Until(killed.Add(4 * time.Second))) // for a cost that is not rounded away
	c.JSON(t, &shown, "incident", "show", i.ID)
	cost := 0.0
	if _, err := fmt.Sscanf(shown.CostSoFar, "%f EUR", &cost); err != nil || cost < 3 || cost > 200 || shown.Contacts.Of != i.Cause || shown.Plan.Unit != "EUR" {
		t.Errorf("%+v %v", shown, err)
	}
	var slos struct {
		SLOs []struct {
			Evaluation *struct{ Bad map[string]string }
		}
	}
	c.JSON(t, &slos, "slo", "show")
	if len(slos.SLOs) != 1 || slos.SLOs[0].Evaluation == nil || slos.SLOs[0].Evaluation.Bad["own"] == "0s" {
		t.Errorf("%+v", slos)
	}

	// What is only supposed changes nothing.
	c.JSON(t, &plan, "recovery-plan", "--set", "component/shop-server=ok")
	// The program is replaced before it starts again, and whoever looks for the cause is told.
	rig.Must(t, "cp", "--remove-destination", rig.Binary(t, "demo-server"), server)
	rig.Start(t, server)
	rig.Until(t, 20*time.Second, "all is well again", func() string { return levels(t, c, "ok") })
	rig.Until(t, 30*time.Second, "the incident is over", func() string {
		c.REST(t, &list, "/api/v1/incidents")
		if len(list.Incidents) != 1 || list.Incidents[0].State != "resolved" {
			return fmt.Sprintf("%+v", list)
		}
		return ""
	})
	rig.Until(t, 60*time.Second, "the change of the program is known", func() string {
		var changes struct {
			Changes []struct {
				Kind, What, Host string
				Refs             []string
			}
		}
		c.REST(t, &changes, "/api/v1/changes")
		want := fmt.Sprintf("[{binary %s web-1 [component/shop-server@web-1]}]", server)
		if got := fmt.Sprint(changes.Changes); got != want {
			return got + ", want " + want
		}
		return ""
	})
	out, _, _ := c.Evenkeel(t, "incident", "times")
	if !strings.Contains(out, "service/shop") || !strings.Contains(out, i.Cause) {
		t.Error(out)
	}
}

// levels asks REST for the map, and says what is not at a level of the component's member and the service.
func levels(t *testing.T, c *rig.Collector, want string) string {
	var m struct {
		Nodes []struct{ Ref, Low, High string }
	}
	c.REST(t, &m, "/api/v1/map")
	seen := 0
	for _, n := range m.Nodes {
		if n.Ref == "service/shop" || n.Ref == "component/shop-server@web-1" {
			if seen++; n.Low != want || n.High != want {
				return fmt.Sprintf("%+v", n)
			}
		}
	}
	if seen != 2 {
		return fmt.Sprintf("%d of 2 nodes are there", seen)
	}
	return ""
}
