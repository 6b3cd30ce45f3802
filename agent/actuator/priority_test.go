package actuator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// sleeper starts a shell with a child under a name of its own.
func sleeper(t *testing.T) (exe string, pids func() []int) {
	t.Helper()
	sh, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if sh, err = filepath.EvalSymlinks(sh); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	exe = filepath.Join(t.TempDir(), "sleeper")
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	var all []int
	for range 2 {
		cmd := exec.Command(exe, "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		all = append(all, cmd.Process.Pid)
	}
	return exe, func() []int { return all }
}

// Each setting of real processes is applied, seen by the kernel's own word, given back, and left alone where somebody else
// set it.
func TestProcessSettings(t *testing.T) {
	read := func(format string) func(int) string {
		return func(pid int) string {
			b, err := os.ReadFile(fmt.Sprintf(format, pid))
			if err != nil {
				return err.Error()
			}
			return strings.TrimSpace(string(b))
		}
	}
	field := func(n int) func(int) string {
		return func(pid int) string {
			s := read("/proc/%d/stat")(pid)
			return strings.Fields(s[strings.LastIndexByte(s, ')')+2:])[n-3]
		}
	}
	priority := func(pid int) string {
		v, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
		return fmt.Sprint(int(v))
	}
	for _, tt := range []struct {
		action        string
		value         int64
		read          func(pid int) string
		during, other string
		drift         func(pid int) error
		capability    int
	}{
		{"process.nice", 12, field(19), "12", "3", func(pid int) error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 3) }, unix.CAP_SYS_NICE},
		{"process.sched", 2, field(41), "5", "3", func(pid int) error {
			return unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}, 0)
		}, unix.CAP_SYS_NICE},
		{"process.ionice", 6, priority, fmt.Sprint(2<<13 | 6), fmt.Sprint(3 << 13), func(pid int) error { return ioNice{}.set(pid, 3<<13) }, -1},
		{"process.oom", 400, read("/proc/%d/oom_score_adj"), "400", "900", func(pid int) error {
			return os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("900"), 0)
		}, -1},
	} {
		t.Run(tt.action, func(t *testing.T) {
			exe, pids := sleeper(t)
			a := New(Config{})[tt.action]
			target := command.Target{Process: &command.Process{Exe: exe}}
			if tt.capability >= 0 && !(procfs{"/proc"}).has(tt.capability) {
				if _, err := a.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNotReversible {
					t.Fatalf("without the privilege to take it back: %v", err)
				}
				return
			}
			all := func(want string) {
				t.Helper()
				for _, pid := range pids() {
					if got := tt.read(pid); got != want {
						t.Errorf("process %d reads %s, want %s", pid, got, want)
					}
				}
			}
			before := tt.read(pids()[0])
			ch := apply(t, a, target, tt.value)
			all(tt.during)
			if !ch.State.PidBound {
				t.Error("it would outlive a boot")
			}
			if s, _, err := a.Look(t.Context(), ch); s != Ours || err != nil {
				t.Errorf("%s %v", s, err)
			}
			restore(t, a, ch, Before)
			all(before)
			ch = apply(t, a, target, tt.value)
			if err := tt.drift(pids()[0]); err != nil {
				t.Fatal(err)
			}
			restore(t, a, ch, Other)
			if got := tt.read(pids()[0]); got != tt.other {
				t.Errorf("somebody else's setting became %s", got)
			}
			if got := tt.read(pids()[1]); got != before {
				t.Errorf("the other process was left with %s", got)
			}
			if _, err := a.Prior(t.Context(), command.Target{Process: &command.Process{Exe: "/none"}}); command.ReasonOf(err) != command.ReasonNoTarget {
				t.Error(err)
			}
		})
	}
}

// Two settings of one process are two knobs, and two commands for the same setting share theirs.
func TestProcessKnobsAreApart(t *testing.T) {
	exe, _ := sleeper(t)
	set := New(Config{})
	seen := map[string]string{}
	for _, name := range []string{"process.affinity", "process.nice", "process.ionice", "process.sched", "process.oom"} {
		s, err := set[name].Prior(t.Context(), command.Target{Process: &command.Process{Exe: exe}})
		if command.ReasonOf(err) == command.ReasonNotReversible {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for _, k := range s.Knobs {
			if was := seen[k]; was != "" {
				t.Errorf("%s and %s both hold %s", was, name, k)
			}
			seen[k] = name
		}
	}
}

// Nothing is ever made to want more than it did: the wanted setting gives way at least as far as the prior one, and what is
// of another kind is left alone.
func TestSettingsOnlyGiveWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Int64Range(1, 19).Draw(t, "nice")
		n := rapid.IntRange(-20, 19).Draw(t, "prior nice")
		if got := (nice{}).wanted(n, 0, v); got < n || got < int(v) {
			t.Fatalf("nice %d became %d", n, got)
		}
		io := rapid.IntRange(0, 3).Draw(t, "class")<<ioprioShift | rapid.IntRange(0, 7).Draw(t, "level")
		level := rapid.Int64Range(0, 8).Draw(t, "ionice")
		got := (ioNice{}).wanted(io, 0, level)
		if ioRank(io) < 0 && got != io || ioRank(got) < ioRank(io) || ioRank(io) >= 0 && ioRank(got) < level {
			t.Fatalf("%s became %s for %d", ioNice{}.text(io), ioNice{}.text(got), level)
		}
		policy := rapid.Uint32Range(0, 6).Draw(t, "policy")
		class := rapid.Int64Range(1, 2).Draw(t, "sched")
		if got := (schedClass{}).wanted(policy, 0, class); schedRank(policy) < 0 && got != policy || schedRank(got) < schedRank(policy) {
			t.Fatalf("policy %d became %d", policy, got)
		}
		for _, text := range []string{ioNice{}.text(io), ioNice{}.text(got)} {
			if again, err := (ioNice{}).parse(text); err != nil || ioRank(again) != ioRank(io) && ioRank(again) != ioRank(got) {
				t.Fatalf("%q is read as %d: %v", text, again, err)
			}
		}
		if again, err := (schedClass{}).parse(schedClass{}.text(policy)); err != nil || again != policy {
			t.Fatalf("policy %d is read as %d: %v", policy, again, err)
		}
	})
}
