package actuator

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/command"
)

func TestSysctl(t *testing.T) {
	proc := t.TempDir()
	file := filepath.Join(proc, "sys/net/core/somaxconn")
	put(t, file, "128\n")
	put(t, filepath.Join(proc, "sys/kernel/core_pattern"), "core\n")
	put(t, filepath.Join(proc, "sys/net/core/optmem_max"), "1\t2\n")
	a := New(Config{Proc: proc})["sysctl"]
	target := command.Target{Sysctl: "net.core.somaxconn"}
	ch := apply(t, a, target, 4096)
	if got := get(t, file); got != "4096" || ch.State.Value != 128 || ch.State.Text != "128" || ch.State.PidBound {
		t.Fatalf("%s, %+v", got, ch.State)
	}
	ch.Values = append(ch.Values, 2048)
	if s, _, err := a.Look(t.Context(), ch); s != Older || err != nil {
		t.Fatal(s, err)
	}
	put(t, file, "128\n")
	if s, _, err := a.Look(t.Context(), ch); s != Before || err != nil {
		t.Fatal(s, err)
	}
	ch = apply(t, a, target, 4096)
	put(t, file, "777\n")
	restore(t, a, ch, Other)
	if get(t, file) != "777" {
		t.Fatal("somebody else's value was overwritten")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	restore(t, a, ch, Gone)
	for _, tt := range []struct {
		target command.Target
		want   command.Reason
	}{
		{target, command.ReasonNoTarget},
		{command.Target{Sysctl: "kernel.core_pattern"}, command.ReasonDenied},
		{command.Target{Sysctl: "../../etc/passwd"}, command.ReasonDenied},
		{command.Target{Sysctl: "net.core.optmem_max"}, command.ReasonNotReversible},
		{command.Target{}, command.ReasonDenied},
	} {
		if _, err := a.Prior(t.Context(), tt.target); command.ReasonOf(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.target, err, tt.want)
		}
	}
}
