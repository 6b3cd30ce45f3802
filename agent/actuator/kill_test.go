package actuator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Every process of a real group and of the groups below it is killed, and nobody else.
func TestKill(t *testing.T) {
	set := New(Config{})
	a := set["cgroup.kill"].(*Kill)
	if err := a.Able(); err != nil {
		t.Skip(err)
	}
	for _, mount := range a.groups.all() {
		t.Run(filepath.Base(mount), func(t *testing.T) {
			name := fmt.Sprintf("evenkeel-kill-%d", os.Getpid())
			dir := filepath.Join(mount, name)
			if filepath.Base(mount) == "cpuset" {
				t.Skip("a new group of this controller has no CPUs")
			}
			if err := os.MkdirAll(filepath.Join(dir, "below"), 0o755); err != nil {
				t.Skipf("the hierarchy cannot be written: %v", err)
			}
			t.Cleanup(func() {
				os.Remove(filepath.Join(dir, "below"))
				os.Remove(dir)
			})
			var inside []*exec.Cmd
			start := func(group string) *exec.Cmd {
				c := exec.Command("sleep", "600")
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				if group != "" {
					if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
						t.Fatal(err)
					}
				}
				return c
			}
			target := command.Target{Cgroup: "/" + name}
			if _, err := a.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNoTarget {
				t.Fatalf("an empty group: %v", err)
			}
			for _, g := range []string{dir, dir, filepath.Join(dir, "below")} {
				inside = append(inside, start(g))
			}
			outside := start("")
			t.Cleanup(func() {
				_ = outside.Process.Kill()
				_ = outside.Wait()
			})
			state, err := a.Prior(t.Context(), target)
			if err != nil || state.Text != "3 processes" || !state.PidBound {
				t.Fatalf("%+v %v", state, err)
			}
			ch := Change{Target: target, State: state, Values: []int64{1}}
			if s, _, err := a.Look(t.Context(), ch); s != Other || err != nil {
				t.Fatal(s, err)
			}
			if _, text, err := a.Write(t.Context(), ch); err != nil || text != "0 processes" {
				t.Fatalf("%q %v", text, err)
			}
			for _, c := range inside {
				if err := c.Wait(); err == nil || err.Error() != "signal: killed" {
					t.Errorf("process %d: %v", c.Process.Pid, err)
				}
			}
			if err := outside.Process.Signal(syscall.Signal(0)); err != nil {
				t.Errorf("a process outside of the group: %v", err)
			}
			if s, _, err := a.Look(t.Context(), ch); s != Ours || err != nil {
				t.Fatal(s, err)
			}
			if _, _, err := a.Restore(t.Context(), ch); command.ReasonOf(err) != command.ReasonNotReversible {
				t.Fatal(err)
			}
		})
	}
}

// A group that holds this process is never killed.
func TestKillSparesItsOwn(t *testing.T) {
	root := fakeController(t, 2, "batch")
	put(t, filepath.Join(root, "batch/below/cgroup.procs"), strconv.Itoa(os.Getpid()))
	a := New(Config{Cgroup: root})["cgroup.kill"]
	if _, err := a.Prior(t.Context(), command.Target{Cgroup: "/batch"}); command.ReasonOf(err) != command.ReasonDenied {
		t.Fatal(err)
	}
}
