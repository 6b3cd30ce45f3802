package remedy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func TestPolicyFromManifest(t *testing.T) {
	set, problems := manifest.Parse("policy.yaml", []byte(`apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu}
  hosts: {matchLabels: {env: prod}}
  runbook: runbook/relieve-cpu
  timing: {lease: 20s, release: 50%/1s}
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps:
    - {action: cpu.weight, to: 10, verify: {signal: runqueue.delay, of: protected, below: 0.1}}
    - {action: process.affinity, cpus: 50%}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p, _ := set.Get("remediationpolicy/relieve-host")
	r, _ := set.Get("runbook/relieve-cpu")
	got := remedy.FromManifest("relieve-host", p.Spec.(*manifest.RemediationPolicy), r.Spec.(*manifest.Runbook))
	want := remedy.Policy{
		Name: "relieve-host", Runbook: "relieve-cpu", Detector: "host-cpu", Level: health.Major, Mode: remedy.Observe,
		Steps: []remedy.Step{{Action: "cpu.weight", Value: 10, Verify: below(0.1)}, {Action: "process.affinity", Value: 50, Verify: below(0.2)}},
		Times: remedy.Times{
			Dwell: 30 * time.Second, Outcome: 15 * time.Second, Cooldown: 5 * time.Minute, Lease: 20 * time.Second,
			Release: command.Release{Step: 50, Every: time.Second}, Steps: 6, Every: 5 * time.Second,
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}
