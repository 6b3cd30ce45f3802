//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// bomb forks as fast as it may: children, grandchildren whose parent is gone at once, and sessions of their own. Each
// lives for a second, so that a few hundred are there at any time.
const bomb = `
breed() {
	( nap 1 & nap 1 & )
	alone ek2e-batch -c 'nap 1 & ek2e-batch -c "nap 0.5 & nap 1" & exit' &
	( alone nap 1 & )
}
while :; do breed; breed; breed; nap 0.03; done
`

// A batch job that forks all the time, through double forks and sessions of its own, is narrowed as a whole, and when
// the lease ends no process of it keeps a changed mask: neither what was there, nor what was born during the lease, nor
// what its children went on to become.
func TestActorAffinityOfForkingBatch(t *testing.T) {
	dir := rig.Folder(t)
	// Its programs are copies, so that everything that comes of it is known by the path of its program.
	for name, from := range map[string]string{"ek2e-batch": "sh", "nap": "sleep", "alone": "setsid"} {
		p, err := exec.LookPath(from)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = filepath.EvalSymlinks(p); err != nil {
			t.Fatal(err)
		}
		rig.Copy(t, p, filepath.Join(dir, "bin", name))
	}
	exe := filepath.Join(dir, "bin", "ek2e-batch")
	t.Cleanup(func() { extinguish(t, dir) })
	script := filepath.Join(dir, "bomb")
	rig.Write(t, script, bomb)
	cmd := exec.Command(exe, script)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin"))
	rig.StartCmd(t, cmd)

	target := command.Target{Process: &command.Process{Exe: exe}}
	a := rig.NewActor(t, rig.Grant("process.affinity", target, 1, 100))
	a.Start(t)
	peer := a.Dial(t)
	rig.Until(t, 15*time.Second, "the batch breeds", func() string {
		if n := len(masks(dir)); n < 15 {
			return fmt.Sprintf("%d tasks", n)
		}
		return ""
	})
	prior := allowed(t, os.Getpid())
	for id, mask := range masks(dir) {
		if mask != prior {
			t.Fatalf("task %s starts with CPUs %s, want %s", id, mask, prior)
		}
	}

	const lease = 3 * time.Second
	c := peer.Do(t, a, command.Action{Name: "process.affinity", Target: target, Value: 50}, lease)
	applied := peer.Results(c.ID)[1]
	if applied.Value == prior || applied.Prior != prior {
		t.Fatalf("applied: prior %q, now %q, want a change from %q", applied.Prior, applied.Value, prior)
	}
	// A fork under way may escape for a moment; what is born of a narrowed parent is born so.
	narrow, worst, last := 0, 0, 0
	began := time.Now()
	for time.Since(began) < lease-time.Second {
		escaped := 0
		for _, mask := range masks(dir) {
			switch mask {
			case applied.Value:
				narrow++
			case prior:
				escaped++
			default:
				t.Fatalf("a task has CPUs %s: neither %s nor %s", mask, prior, applied.Value)
			}
		}
		worst, last = max(worst, escaped), escaped
		time.Sleep(50 * time.Millisecond)
	}
	if narrow < 100 {
		t.Errorf("only %d sightings of a narrowed task", narrow)
	}
	if last > 2 {
		t.Errorf("%d tasks still escape the narrowing at the end of the lease", last)
	}

	r := peer.Await(t, c.ID, command.Reverted, lease+5*time.Second)
	for look := range 40 { // the batch goes on forking: nothing of ours may come back
		for id, mask := range masks(dir) {
			if mask != prior {
				t.Fatalf("look %d: task %s still has CPUs %s after the revert (%s)", look, id, mask, r.Detail)
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Logf("%d sightings of narrowed tasks, at most %d not yet narrowed at one moment", narrow, worst)
}

// Every task in a cgroup is narrowed and given back its own mask, also one that had pinned itself before: threads are
// tasks too.
func TestActorAffinityKeepsOwnMasks(t *testing.T) {
	g := rig.CPU(t).Group(t, "batch")
	target := command.Target{Cgroup: g.Path}
	wide := rig.StartCmd(t, rig.Helper(t, "spin"))
	pinned := rig.StartCmd(t, rig.Helper(t, "spin-pinned", "0"))
	g.Add(t, wide.PID())
	g.Add(t, pinned.PID())
	rig.Until(t, 5*time.Second, "the process has pinned itself", func() string {
		if got := allowed(t, pinned.PID()); got != "0" {
			return "CPUs " + got
		}
		return ""
	})
	prior := allowed(t, wide.PID())
	a := rig.NewActor(t, rig.Grant("process.affinity", target, 1, 100))
	a.Start(t)
	peer := a.Dial(t)
	c := peer.Do(t, a, command.Action{Name: "process.affinity", Target: target, Value: 50}, time.Second)
	if got := allowed(t, wide.PID()); got == prior {
		t.Errorf("the wide process still has CPUs %s", got)
	}
	if got := allowed(t, pinned.PID()); got != "0" {
		t.Errorf("the pinned process has CPUs %s: its own CPU is not among those left, so it should be left as it is", got)
	}
	peer.Await(t, c.ID, command.Reverted, 3*time.Second)
	for _, p := range []struct {
		who  *rig.Process
		want string
	}{{wide, prior}, {pinned, "0"}} {
		for id, mask := range tasks(p.who.PID()) {
			if mask != p.want {
				t.Errorf("after the revert task %s has CPUs %s, want %s", id, mask, p.want)
			}
		}
	}
}

// allowed returns the CPUs of a process's main thread as the kernel writes them.
func allowed(t *testing.T, pid int) string {
	t.Helper()
	mask := maskIn(fmt.Sprintf("/proc/%d/status", pid))
	if mask == "" {
		t.Fatalf("process %d is gone", pid)
	}
	return mask
}

func maskIn(status string) string {
	b, err := os.ReadFile(status)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// tasks returns the CPUs of every thread of a process, by "pid/tid".
func tasks(pid int) map[string]string {
	out := map[string]string{}
	dir := fmt.Sprintf("/proc/%d/task", pid)
	list, _ := os.ReadDir(dir)
	for _, task := range list {
		if mask := maskIn(filepath.Join(dir, task.Name(), "status")); mask != "" {
			out[strconv.Itoa(pid)+"/"+task.Name()] = mask
		}
	}
	return out
}

// family lists the processes whose program lies under a folder.
func family(dir string) []int {
	var out []int
	list, _ := os.ReadDir("/proc")
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if exe, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil && strings.HasPrefix(exe, dir+"/") {
			out = append(out, pid)
		}
	}
	return out
}

// masks returns the CPUs of every thread of a family.
func masks(dir string) map[string]string {
	out := map[string]string{}
	for _, pid := range family(dir) {
		for id, mask := range tasks(pid) {
			out[id] = mask
		}
	}
	return out
}

// extinguish ends a family for good.
func extinguish(t *testing.T, dir string) {
	rig.Until(t, 5*time.Second, "the batch ends", func() string {
		all := family(dir)
		for _, pid := range all {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		if len(all) > 0 {
			return fmt.Sprintf("%d processes", len(all))
		}
		return ""
	})
}
