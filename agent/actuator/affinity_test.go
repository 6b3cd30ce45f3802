package actuator

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/command"
)

const (
	roleVar = "EVENKEEL_TEST_ROLE"
	treeVar = "EVENKEEL_TEST_TREE"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "batch" {
		batch()
		return
	}
	os.Exit(m.Run())
}

// batch is a job that never stops forking: children that end at once, children that stay a while, and orphans, some in
// a session of their own. It writes a line for each round and ends when its standard input does.
func batch() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for round := 0; ; round++ {
		var running []*exec.Cmd
		for _, args := range [][]string{{"true"}, {"sleep", "0.3"}, {"sh", "-c", "sleep 1 & exit"}, {"sh", "-c", "setsid sleep 1 & exit"}, {"sh", "-c", "sleep 0.05; sleep 0.05"}} {
			c := exec.Command(args[0], args[1:]...)
			if c.Start() == nil {
				running = append(running, c)
			}
		}
		for _, c := range running {
			go func() { _ = c.Wait() }()
		}
		_ = running[0].Wait()
		fmt.Println(round)
	}
}

type job struct {
	pid   int
	exe   string
	mark  string
	lines *bufio.Scanner
}

// rounds waits until the job has gone through n more rounds of forking.
func (j *job) rounds(t *testing.T, n int) {
	t.Helper()
	for range n {
		if !j.lines.Scan() {
			t.Fatal("the batch job ended")
		}
	}
}

func startBatch(t *testing.T) *job {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "batch")
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprintf("%d-%s", os.Getpid(), t.Name())
	c := exec.Command(exe)
	c.Env = append(os.Environ(), roleVar+"=batch", treeVar+"="+mark)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = c.Wait()
	})
	j := &job{pid: c.Process.Pid, exe: exe, mark: mark, lines: bufio.NewScanner(out)}
	j.rounds(t, 3)
	return j
}

// masks finds every task of the tree by its environment, which the code under test never looks at.
func (j *job) masks(t *testing.T) map[string]cpus {
	t.Helper()
	out := map[string]cpus{}
	want := []byte(treeVar + "=" + j.mark)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		env, err := os.ReadFile(dir + "/environ")
		if err != nil || !bytes.Contains(env, want) {
			continue
		}
		tasks, _ := os.ReadDir(dir + "/task")
		for _, one := range tasks {
			tid, _ := strconv.Atoi(one.Name())
			var mask cpus
			if unix.SchedGetaffinity(tid, &mask) == nil {
				out[filepath.Base(dir)+"/"+one.Name()] = mask
			}
		}
	}
	return out
}

func needTwoCPUs(t *testing.T) cpus {
	t.Helper()
	var mine cpus
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	if mine.Count() < 2 {
		t.Skipf("this process may use one CPU only (%s): affinity has nothing to narrow", formatCPUs(mine))
	}
	return mine
}

func TestAffinityOfATreeThatForks(t *testing.T) {
	mine := needTwoCPUs(t)
	j := startBatch(t)
	a := New(Config{})["process.affinity"].(*Tree[cpus])
	target := command.Target{Process: &command.Process{Exe: j.exe}}
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if state.Text != formatCPUs(mine) || !state.PidBound {
		t.Fatalf("prior %q, want %q", state.Text, formatCPUs(mine))
	}
	ch := Change{Target: target, State: state, Values: []int64{50}}
	var text string
	if ch.State, text, err = a.Write(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	ours, err := parseCPUs(text)
	if err != nil {
		t.Fatal(err)
	}
	if want := max(1, mine.Count()/2); ours.Count() != want {
		t.Fatalf("50%% of %s became %s", formatCPUs(mine), text)
	}
	for range 6 {
		j.rounds(t, 4)
		next, _, err := a.Tend(t.Context(), ch)
		if err != nil {
			t.Fatal(err)
		}
		ch.State = next
		if s, seen, err := a.Look(t.Context(), ch); err != nil || s != Ours && s != Mixed {
			t.Fatalf("during the lease: %s %s %v", s, seen, err)
		}
	}
	for _, values := range [][]int64{{50, 100}, {50, 100, 50}} { // a superseding command and back
		ch.Values = values
		if ch.State, _, err = a.Write(t.Context(), ch); err != nil {
			t.Fatal(err)
		}
		j.rounds(t, 2)
	}
	// Restored from what a journal kept before the last newborns.
	standing, seen, err := a.Restore(t.Context(), ch)
	if err != nil || standing != Before || seen != formatCPUs(mine) {
		t.Fatalf("restore: %s %s %v", standing, seen, err)
	}
	for round := range 8 {
		all := j.masks(t)
		if len(all) == 0 {
			t.Fatal("the tree was not found")
		}
		for id, mask := range all {
			if mask != mine {
				t.Errorf("round %d after the revert: task %s still has mask %s", round, id, formatCPUs(mask))
			}
		}
		j.rounds(t, 1)
	}
}

func TestAffinityLeavesOthersAlone(t *testing.T) {
	mine := needTwoCPUs(t)
	j := startBatch(t)
	a := New(Config{})["process.affinity"].(*Tree[cpus])
	target := command.Target{Process: &command.Process{Exe: j.exe}}
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	ch := Change{Target: target, State: state, Values: []int64{50}}
	var text string
	if ch.State, text, err = a.Write(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	// Somebody else moves the main thread to the other half.
	ours, _ := parseCPUs(text)
	theirs := mine
	for i := range theirs {
		theirs[i] &^= ours[i]
	}
	if err := unix.SchedSetaffinity(j.pid, &theirs); err != nil {
		t.Fatal(err)
	}
	if s, _, err := a.Look(t.Context(), ch); err != nil || s != Other {
		t.Fatalf("look: %s %v", s, err)
	}
	if s, _, err := a.Restore(t.Context(), ch); err != nil || s != Other {
		t.Fatalf("restore: %s %v", s, err)
	}
	var now cpus
	if err := unix.SchedGetaffinity(j.pid, &now); err != nil || now != theirs {
		t.Fatalf("main thread has %s, somebody had set %s", formatCPUs(now), formatCPUs(theirs))
	}
}

func TestAffinityRefuses(t *testing.T) {
	mine := needTwoCPUs(t)
	a := New(Config{})["process.affinity"].(*Tree[cpus])
	if err := a.Able(); err != nil {
		t.Fatal(err)
	}
	_, err := a.Prior(t.Context(), command.Target{Process: &command.Process{Exe: "/nowhere/at/all"}})
	if command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatalf("nothing runs: %v", err)
	}
	_, err = a.Prior(t.Context(), command.Target{Process: &command.Process{Exe: "/bin/true", User: "nobody-of-that-name"}})
	if command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatalf("no such user: %v", err)
	}
	j := startBatch(t)
	var one cpus
	one.Set(cpuNumbers(mine)[0])
	for _, tid := range a.proc.tasks(j.pid) {
		_ = unix.SchedSetaffinity(tid, &one)
	}
	all, err := a.proc.processes()
	if err != nil {
		t.Fatal(err)
	}
	for pid := range a.descend(all, []int{j.pid}) {
		for _, tid := range a.proc.tasks(pid) {
			_ = unix.SchedSetaffinity(tid, &one)
		}
	}
	j.rounds(t, 3)
	deadline := time.Now().Add(5 * time.Second)
	for { // the children from before the pinning live for up to a second
		_, err = a.Prior(t.Context(), command.Target{Process: &command.Process{Exe: j.exe}})
		if command.ReasonOf(err) == command.ReasonNotReversible || time.Now().After(deadline) {
			break
		}
		j.rounds(t, 1)
	}
	if command.ReasonOf(err) != command.ReasonNotReversible {
		t.Fatalf("one CPU: %v", err)
	}
}

func TestCPUListText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want cpus
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 200), 1, 40).Draw(t, "cpus") {
			want.Set(n)
		}
		got, err := parseCPUs(formatCPUs(want))
		if err != nil || got != want {
			t.Fatalf("%s became %s: %v", formatCPUs(want), formatCPUs(got), err)
		}
	})
	for _, bad := range []string{"", "a", "1-", "3-1", "99999", "1,,2", "-1"} {
		if _, err := parseCPUs(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1234 1 2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := parseStat(7, b); ok && p.pid != 7 {
			t.Fatal("another process")
		}
	})
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,5")
	f.Fuzz(func(t *testing.T, s string) {
		if set, err := parseCPUs(s); err == nil {
			if again, err := parseCPUs(formatCPUs(set)); err != nil || again != set {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte(`{"allowed":"0-1","masks":["0"],"tasks":[[1,2,3,0]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := newAffinity(procfs{"/proc"}, &cgroups{}).parse(State{Data: b})
		if err != nil {
			return
		}
		if s, err := tr.state(); err != nil || strings.Contains(s.Text, " ") {
			t.Fatalf("%+v %v", s, err)
		}
	})
}

func BenchmarkTend(b *testing.B) {
	a := New(Config{})["process.affinity"].(*Tree[cpus])
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	a.self = -1 // the benchmark narrows nothing: it looks at itself with all its CPUs
	target := command.Target{Process: &command.Process{Exe: self}}
	state, err := a.Prior(b.Context(), target)
	if err != nil {
		b.Skipf("this process cannot be looked at: %v", err)
	}
	ch := Change{Target: target, State: state, Values: []int64{100}}
	all, err := a.proc.processes()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ch.State, _, err = a.Tend(b.Context(), ch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(all)), "processes")
}
