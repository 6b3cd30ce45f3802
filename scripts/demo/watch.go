package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// watch prints what the collector says of incidents and actions as it happens, and passes the actions on. done ends it.
func (d *demo) watch(ctx context.Context) (<-chan *operatorv1.Action, func()) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *operatorv1.Action, 64)
	var all sync.WaitGroup
	all.Go(func() {
		s, err := d.api.Incidents.WatchIncidents(ctx, &operatorv1.ListIncidentsRequest{})
		if err != nil {
			return
		}
		told := map[string]int{}
		for {
			i, err := s.Recv()
			if err != nil {
				return
			}
			for _, e := range i.Timeline[min(told[i.Id], len(i.Timeline)):] {
				d.say("incident %s: %s", short(i.Id), e.What)
			}
			told[i.Id] = len(i.Timeline)
		}
	})
	all.Go(func() {
		s, err := d.api.Actions.WatchActions(ctx, &operatorv1.ListActionsRequest{})
		if err != nil {
			return
		}
		told := map[string]int{}
		for {
			a, err := s.Recv()
			if err != nil {
				return
			}
			for _, e := range a.Timeline[min(told[a.Id], len(a.Timeline)):] {
				d.say("action %s: %s", short(a.Id), e.What)
			}
			told[a.Id] = len(a.Timeline)
			select {
			case out <- a:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, func() { cancel(); all.Wait() }
}

// short is the part of an id that tells two of one run apart.
func short(id string) string {
	if len(id) > 6 {
		return id[len(id)-6:]
	}
	return id
}

// writeFiles writes the map that the demo applies and the permissions that the host's owner would write. The signing
// root is filled in by evenkeel-collector dev.
func (d *demo) writeFiles() error {
	server, batch := d.target("demo-server", "server"), d.target("demo-batch", "batch")
	runbook := "{action: process.affinity, cpus: 50%, verify: {signal: runqueue.delay, of: protected, below: 0.2}}"
	permitted := "{action: process.affinity, targets: [{" + batch + "}], min: 10, max: 100, maxLease: 1m, rate: 20/5m}"
	if d.place.groups() {
		runbook = "{action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.2}}"
		permitted = "{action: cpu.weight, targets: [{" + batch + "}], min: 10, max: 100, maxLease: 1m, rate: 20/5m}"
	}
	if d.sabotage == "permissions" {
		permitted = "{action: cpu.quota, targets: [{unit: other.service}], min: 10, max: 100, maxLease: 1m, rate: 20/5m}"
	}
	if err := os.MkdirAll(filepath.Join(d.state, "map"), 0o755); err != nil {
		return err
	}
	manifest := strings.NewReplacer("SERVER", server, "BATCH", batch, "STEP", runbook).Replace(demoMap)
	if err := os.WriteFile(filepath.Join(d.state, "map", "demo.yaml"), []byte(manifest), 0o644); err != nil {
		return err
	}
	permissions := fmt.Sprintf("version: 1\nsigningRoot: FROM-ENROLMENT\napprovers: []\nmaxRisk: R2\nactions:\n  - %s\n", permitted)
	return os.WriteFile(filepath.Join(d.state, "permissions.in.yaml"), []byte(permissions), 0o644)
}

// target says how the map finds a process of the demo.
func (d *demo) target(program, group string) string {
	if d.place.groups() {
		return "cgroup: " + d.place.parent + "/" + group
	}
	return "process: {exe: " + filepath.Join(d.bin, program) + "}"
}

const demoMap = `# The demo's map: a shop that earns money, and a report that can wait.
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  title: Shop
  layer: business
  criticality: 1
  value: {perHour: 12000, currency: EUR, loss: {minor: 0.1, major: 0.5, critical: 1}}
  dependsOn: [{ref: component/shop-server}]
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: report}
spec:
  title: Nightly report
  layer: business
  criticality: 4
  value: {perHour: 40, currency: EUR}
  dependsOn: [{ref: component/report-batch}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: shop-server}
spec:
  hosts: {names: [demo-host]}
  SERVER
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: report-batch}
spec:
  hosts: {names: [demo-host]}
  BATCH
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps:
    - STEP
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu, level: major}
  hosts: {names: [demo-host]}
  choose: least-value-contributor
  runbook: runbook/relieve-cpu
  mode: auto
  timing: {dwell: 5s, outcome: 5s, cooldown: 0s, lease: 20s, release: 100%/1s}
  episode: {steps: 6, every: 5s}
`
