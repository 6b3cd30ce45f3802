package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const permissionsFile = "permissions.in.yaml"

// Files are the parts of the map and of the host's permissions that differ between callers.
type Files struct {
	Timing  string // of the policy
	Episode string
	Rate    string // that the host permits
	// Deny permits something else than what the runbook asks for.
	Deny bool
}

// WriteFiles writes the map, and the permissions that the host's owner would write. The signing root is filled in by
// evenkeel-collector dev.
func (s *Stage) WriteFiles(f Files) error {
	server, batch := s.target("demo-server", "server"), s.target("demo-batch", "batch")
	runbook := "{action: process.affinity, cpus: 50%, verify: {signal: runqueue.delay, of: protected, below: 0.2}}"
	permitted := "{action: process.affinity, targets: [{" + batch + "}], min: 10, max: 100, maxLease: 1m, rate: " + f.Rate + "}"
	if s.Place.Groups() {
		runbook = "{action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.2}}"
		permitted = "{action: cpu.weight, targets: [{" + batch + "}], min: 10, max: 100, maxLease: 1m, rate: " + f.Rate + "}"
	}
	if f.Deny {
		permitted = "{action: cpu.quota, targets: [{unit: other.service}], min: 10, max: 100, maxLease: 1m, rate: " + f.Rate + "}"
	}
	if err := os.MkdirAll(filepath.Join(s.State, "map"), 0o755); err != nil {
		return err
	}
	manifest := strings.NewReplacer("HOST", Host, "SERVER", server, "BATCH", batch, "STEP", runbook, "TIMING", f.Timing, "EPISODE", f.Episode).Replace(twoServices)
	if err := os.WriteFile(filepath.Join(s.State, "map", "demo.yaml"), []byte(manifest), 0o644); err != nil {
		return err
	}
	permissions := fmt.Sprintf("version: 1\nsigningRoot: FROM-ENROLMENT\napprovers: []\nmaxRisk: R2\nactions:\n  - %s\n", permitted)
	return os.WriteFile(filepath.Join(s.State, permissionsFile), []byte(permissions), 0o644)
}

// target says how the map finds one of the two processes.
func (s *Stage) target(program, group string) string {
	if s.Place.Groups() {
		return "cgroup: " + s.Place.Parent() + "/" + group
	}
	return "process: {exe: " + filepath.Join(s.Bin, program) + "}"
}

const twoServices = `# A shop that earns money, and a report that can wait.
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  title: Shop
  layer: business
  criticality: 1
  owner: team/shop
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
  owner: team/shop
  value: {perHour: 40, currency: EUR}
  dependsOn: [{ref: component/report-batch}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: shop-server}
spec:
  hosts: {names: [HOST]}
  SERVER
  repair: {expected: 10m, team: team/web}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: report-batch}
spec:
  hosts: {names: [HOST]}
  BATCH
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
  hosts: {names: [HOST]}
  choose: least-value-contributor
  runbook: runbook/relieve-cpu
  mode: auto
  timing: TIMING
  episode: EPISODE
`
