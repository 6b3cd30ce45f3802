//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/identity"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
	"github.com/evenkeel/evenkeel/scripts/loadgen"
)

// The README's three lines are all it takes: token and file on the one side, enroll and run on the other, and within a
// minute the collector shows the host as connected, with its labels. The collector's REST port stays on loopback.
func TestSecondHost(t *testing.T) {
	network := rig.NewNetwork(t)
	c := rig.NewCollector(t, network.Address)
	c.Run(t)
	began := time.Now()
	c.Enrol(t, "web-2", network.Member(t).Namespace)
	connected(t, c, time.Minute, "web-2")
	t.Logf("connected %s after the first line", time.Since(began).Round(100*time.Millisecond))
	var got struct {
		Hosts []struct {
			Name   string
			Labels map[string]string
		}
	}
	c.JSON(t, &got, "host", "list", "-l", "role=web")
	if len(got.Hosts) != 1 || got.Hosts[0].Name != "web-2" {
		t.Errorf("hosts with role=web: %+v", got.Hosts)
	}
	rig.Until(t, 10*time.Second, "its samples can be queried", func() string {
		out, errs, code := c.Evenkeel(t, "query", `node_load1{instance="web-2"}`, "-o", "json")
		if code != 0 || !strings.Contains(out, "web-2") {
			return out + errs
		}
		return ""
	})
}

// A map with one host of each kind and a policy that would act if anything but silence asked for it.
const watchfulMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  criticality: 1
  dependsOn: [{ref: component/web}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec:
  hosts: {names: [web-1]}
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps:
    - {action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.2}}
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu, level: major}
  hosts: {matchLabels: {role: web}}
  choose: least-value-contributor
  runbook: runbook/relieve-cpu
  mode: auto
`

// An agent that goes silent turns its host unknown within three periods and a second. Where the host answers, it is
// "agent lost"; where it does not answer the collector and another agent, it is "down", and both are named. Neither
// starts an action, and both end when the agent is heard again.
func TestSilence(t *testing.T) {
	network := rig.NewNetwork(t)
	c := rig.NewCollector(t, network.Address)
	c.Run(t)
	started := time.Now()
	silent := network.Member(t)
	agent := c.Enrol(t, "web-1", silent.Namespace)
	c.Enrol(t, "web-2", network.Member(t).Namespace)
	connected(t, c, time.Minute, "web-1", "web-2")
	file := filepath.Join(rig.Folder(t), "map.yaml")
	rig.Write(t, file, watchfulMap)
	if out, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 0 {
		t.Fatalf("apply: %s%s", out, errs)
	}
	api := c.API(t)
	time.Sleep(time.Until(started.Add(32 * time.Second))) // after its own start a collector calls nobody silent

	// The process stands still, its host answers.
	stop := time.Now()
	agent.Signal(syscall.SIGSTOP)
	h := reaches(t, api, "web-1", 15*time.Second, "silent", "agent lost")
	if took := time.Since(stop); took > 6*time.Second {
		t.Errorf("the host was unknown %s after its agent stood still, want 4s and what it takes to look", took)
	}
	h = reaches(t, api, "web-1", 30*time.Second, "agent lost")
	level(t, api, "component/web@web-1", "unknown")
	t.Logf("agent lost after %s, last sample %s, since %s", time.Since(stop).Round(100*time.Millisecond), h.GetLastSample(), h.GetSince())
	agent.Signal(syscall.SIGCONT)
	reaches(t, api, "web-1", 30*time.Second, "connected")

	// The cable is out: nobody gets an answer.
	cut := time.Now()
	silent.Cut(t)
	reaches(t, api, "web-1", 15*time.Second, "silent", "down")
	if took := time.Since(cut); took > 6*time.Second {
		t.Errorf("the host was unknown %s after the cut", took)
	}
	reaches(t, api, "web-1", 40*time.Second, "down")
	t.Logf("down after %s", time.Since(cut).Round(100*time.Millisecond))
	var told string
	rig.Until(t, 10*time.Second, "an incident names both observers", func() string {
		list, err := api.Incidents.ListIncidents(context.Background(), &operatorv1.ListIncidentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		told = fmt.Sprint(list.GetIncidents())
		for _, i := range list.GetIncidents() {
			if text := fmt.Sprint(i); strings.Contains(text, "down") && strings.Contains(text, "collector") && strings.Contains(text, "web-2") {
				return ""
			}
		}
		return told
	})
	silent.Mend(t)
	reaches(t, api, "web-1", time.Minute, "connected")

	actions, err := api.Actions.ListActions(context.Background(), &operatorv1.ListActionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(actions.GetActions()) != 0 {
		t.Errorf("silence led to actions: %v", actions.GetActions())
	}
}

// A collector that is killed and started again opens no incident about the fifty agents that it does not hear for a
// while: what it has not heard in its own life says nothing.
func TestCollectorRestartOpensNoIncident(t *testing.T) {
	const fleet, apart = 50, 12 * time.Second
	c := rig.NewCollector(t, "127.0.0.1")
	c.Run(t)
	out, errs, code := c.Evenkeel(t, "token", "create", "--uses", fmt.Sprint(fleet))
	if code != 0 {
		t.Fatal(errs)
	}
	join, err := identity.ParseJoin(out)
	if err != nil {
		t.Fatal(err)
	}
	agents, trust, err := loadgen.Enrol(t.Context(), join, "sim", fleet)
	if err != nil {
		t.Fatal(err)
	}
	var hosts strings.Builder
	for i := range fleet {
		fmt.Fprintf(&hosts, "apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: part-%d}\nspec: {hosts: {names: [sim-%d]}}\n---\n", i+1, i+1)
	}
	file := filepath.Join(rig.Folder(t), "map.yaml")
	rig.Write(t, file, strings.TrimSuffix(hosts.String(), "---\n"))
	if out, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 0 {
		t.Fatalf("apply: %s%s", out, errs)
	}
	stream := func(ticks int) func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = loadgen.Run(ctx, loadgen.Config{
				Address: c.Agents, Trust: trust, Agents: agents, Pace: time.Second,
				Ticks: loadgen.Messages(20, ticks, time.Now(), time.Second, nil),
			})
		}()
		return func() { cancel(); <-done }
	}
	everybody := func() string {
		var got struct {
			Hosts []struct{ Reach string }
		}
		c.JSON(t, &got, "host", "list")
		n := 0
		for _, h := range got.Hosts {
			if h.Reach == "connected" {
				n++
			}
		}
		if n != fleet {
			return fmt.Sprintf("%d of %d are connected", n, fleet)
		}
		return ""
	}
	end := stream(600)
	rig.Until(t, 30*time.Second, "the fleet is connected", everybody)
	c.Kill()
	end()
	c.Run(t)
	again := time.Now()
	time.Sleep(apart)
	defer stream(600)()
	rig.Until(t, 30*time.Second, "the fleet is connected again", everybody)
	time.Sleep(time.Until(again.Add(40 * time.Second))) // past the quiet time after its start

	api := c.API(t)
	incidents, err := api.Incidents.ListIncidents(context.Background(), &operatorv1.ListIncidentsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(incidents.GetIncidents()) != 0 {
		t.Errorf("the restart opened incidents: %v", incidents.GetIncidents())
	}
	if wrong := everybody(); wrong != "" {
		t.Error(wrong)
	}
}

func connected(t *testing.T, c *rig.Collector, patience time.Duration, names ...string) {
	t.Helper()
	rig.Until(t, patience, "hosts are connected", func() string {
		var got struct {
			Hosts []struct{ Name, Reach string }
		}
		c.JSON(t, &got, "host", "list")
		up := map[string]bool{}
		for _, h := range got.Hosts {
			up[h.Name] = h.Reach == "connected"
		}
		for _, n := range names {
			if !up[n] {
				return fmt.Sprintf("%s is not: %v", n, got.Hosts)
			}
		}
		return ""
	})
}

func reaches(t *testing.T, api *client.Client, host string, patience time.Duration, want ...string) *operatorv1.Host {
	t.Helper()
	var h *operatorv1.Host
	rig.Until(t, patience, host+" is "+strings.Join(want, " or "), func() string {
		var err error
		if h, err = api.Hosts.GetHost(context.Background(), &operatorv1.GetHostRequest{Name: host}); err != nil {
			return err.Error()
		}
		for _, w := range want {
			if h.GetReach() == w {
				return ""
			}
		}
		return "it is " + h.GetReach()
	})
	return h
}

// level waits for a node of the map to have a level of its own.
func level(t *testing.T, api *client.Client, ref, want string) {
	t.Helper()
	rig.Until(t, 10*time.Second, ref+" is "+want, func() string {
		m, err := api.Map.GetMap(context.Background(), &operatorv1.GetMapRequest{})
		if err != nil {
			return err.Error()
		}
		for _, n := range m.GetNodes() {
			if n.GetRef() == ref {
				if n.GetOwn() == want {
					return ""
				}
				return "it is " + n.GetOwn() + ": " + n.GetWhy().GetText()
			}
		}
		return "it is not on the map"
	})
}
