package probe_test

import (
	"runtime"
	"testing"

	"github.com/evenkeel/evenkeel/agent/probe"
)

func TestFacts(t *testing.T) {
	f, err := probe.ReadFacts(t.Context(), "testdata/linux-5.10-v2/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if f.OS != runtime.GOOS || f.Arch != runtime.GOARCH || f.Kernel == "" || f.CPUs < 1 || f.Memory == 0 || f.BootTime.IsZero() || f.Cgroup != "v2" {
		t.Errorf("%+v", f)
	}
	if f, err = probe.ReadFacts(t.Context(), "testdata/linux-6.18-hybrid/cgroup"); err != nil || f.Cgroup != "hybrid" {
		t.Errorf("%+v: %v", f, err)
	}
}
