package actuator

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// controllerFiles are what a kernel of 8 CPUs shows of a group that nobody has touched.
var controllerFiles = map[int]map[string]string{
	1: {
		"cpu.shares": "1024", "cpu.idle": "0", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000", "cpuset.cpus": "0-7", "tasks": "",
		"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "104857600", "memory.stat": "cache 1\ntotal_inactive_file 52428800\n",
		"pids.max": "max", "freezer.state": "FROZEN", "freezer.self_freezing": "0",
		"blkio.throttle.read_bps_device": "", "blkio.throttle.write_bps_device": "",
	},
	2: {
		"cpu.weight": "100", "cpu.idle": "0", "cpu.max": "max 100000", "cpuset.cpus": "", "cpuset.cpus.effective": "0-7", "cgroup.threads": "",
		"memory.high": "max", "memory.low": "0", "memory.max": "max", "memory.current": "104857600", "memory.stat": "anon 1\ninactive_file 52428800\n",
		"pids.max": "max", "cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 1\n", "io.max": "",
	},
}

func fakeController(t *testing.T, version int, groups ...string) string {
	t.Helper()
	root := t.TempDir()
	if version == 2 {
		put(t, filepath.Join(root, "cgroup.controllers"), "cpuset cpu io memory pids\n")
	}
	for _, g := range groups {
		put(t, filepath.Join(root, g, "cgroup.procs"), "")
		for name, text := range controllerFiles[version] {
			put(t, filepath.Join(root, g, name), text+"\n")
		}
	}
	return root
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		action       string
		version      int
		file, during string
		value        int64
		prior        string
		baseline     int64 // prior in the action's unit; -1: that of this machine's memory
	}{
		{"cpu.weight", 1, "cpu.shares", "102", 10, "1024", 100},
		{"cpu.weight", 2, "cpu.weight", "10", 10, "100", 100},
		{"cpu.quota", 1, "cpu.cfs_quota_us", "20000", 20, "max 100000", int64(runtime.NumCPU()) * 100},
		{"cpu.quota", 2, "cpu.max", "20000 100000", 20, "max 100000", int64(runtime.NumCPU()) * 100},
		{"cpu.idle", 1, "cpu.idle", "1", 1, "0 1024", 0},
		{"cpu.idle", 2, "cpu.idle", "1", 1, "0 100", 0},
		{"cpuset.cpus", 1, "cpuset.cpus", "6-7", 25, "0-7", 100},
		{"cpuset.cpus", 2, "cpuset.cpus", "6-7", 25, "inherited", 100},
		{"memory.limit", 1, "memory.limit_in_bytes", "67108864", 64, "max", -1},
		{"memory.limit", 2, "memory.max", "67108864", 64, "max", -1},
		{"memory.high", 2, "memory.high", "67108864", 64, "max", -1},
		{"memory.low", 2, "memory.low", "67108864", 64, "0", 0},
		{"pids.max", 1, "pids.max", "50", 50, "max", plentyOfPIDs},
		{"pids.max", 2, "pids.max", "50", 50, "max", plentyOfPIDs},
		{"cgroup.freeze", 2, "cgroup.freeze", "1", 1, "0", 0},
	} {
		t.Run(fmt.Sprintf("%s of version %d", tt.action, tt.version), func(t *testing.T) {
			root := fakeController(t, tt.version, "batch")
			file := filepath.Join(root, "batch", tt.file)
			untouched := get(t, file)
			target := command.Target{Cgroup: "/batch"}
			c := New(Config{Cgroup: root})[tt.action].(*Group)
			if spec, ok := command.Lookup(tt.action); !ok || !spec.On(command.OnCgroup) || tt.value < spec.Min || tt.value > spec.Max {
				t.Fatalf("the catalogue has %+v", spec)
			}
			if err := c.Able(); err != nil {
				t.Fatal(err)
			}
			ch := apply(t, c, target, tt.value)
			if got := get(t, file); got != tt.during {
				t.Errorf("%s reads %q, want %q", tt.file, got, tt.during)
			}
			if ch.State.Text != tt.prior || ch.State.PidBound || tt.baseline >= 0 && ch.State.Value != tt.baseline || tt.baseline < 0 && ch.State.Value < 64 {
				t.Errorf("state %+v, want prior %q, %d", ch.State, tt.prior, tt.baseline)
			}
			if s, _, err := c.Look(t.Context(), ch); s != Ours || err != nil {
				t.Errorf("after the write: %s %v", s, err)
			}
			restore(t, c, ch, Before)
			if got := get(t, file); normal(got) != normal(untouched) {
				t.Errorf("given back as %q, was %q", got, untouched)
			}
			restore(t, c, ch, Before) // twice is no harm

			if tt.action != "cpu.idle" && tt.action != "cgroup.freeze" { // which have no third value
				ch = apply(t, c, target, tt.value)
				put(t, file, drifted(tt.during)+"\n")
				restore(t, c, ch, Other)
				if got := get(t, file); got != drifted(tt.during) {
					t.Errorf("somebody else's value was overwritten: %s", got)
				}
			}
			if err := os.RemoveAll(filepath.Join(root, "batch")); err != nil {
				t.Fatal(err)
			}
			restore(t, c, ch, Gone)
		})
	}
}

// normal evens out the two ways in which version 1 writes no limit.
func normal(s string) string {
	return strings.Replace(s, "9223372036854771712", "-1", 1)
}

func drifted(during string) string {
	if during == "6-7" {
		return "2-3"
	}
	return strings.Replace("7"+during, " 100000", " 100000", 1)
}

// A kernel that lets no populated group go back to inheriting is told what the group would inherit: that counts as given back.
func TestCpusetThatCannotInheritAgain(t *testing.T) {
	root := fakeController(t, 2, "batch")
	put(t, filepath.Join(root, "cpuset.cpus.effective"), "0-7\n")
	c := New(Config{Cgroup: root})["cpuset.cpus"]
	ch := apply(t, c, command.Target{Cgroup: "/batch"}, 50)
	put(t, filepath.Join(root, "batch/cpuset.cpus"), "0-7\n")
	restore(t, c, ch, Before)
	put(t, filepath.Join(root, "batch/cpuset.cpus"), "0-6\n")
	restore(t, c, ch, Other)
}

// The freezer of version 1 keeps what was asked in one file and what came of it in another.
func TestFreezerOfVersion1(t *testing.T) {
	root := fakeController(t, 1, "batch")
	c := New(Config{Cgroup: root})["cgroup.freeze"]
	target := command.Target{Cgroup: "/batch"}
	state, err := c.Prior(t.Context(), target)
	if err != nil || state.Text != "0" {
		t.Fatalf("%+v %v", state, err)
	}
	ch := Change{Target: target, State: state, Values: []int64{1}}
	if _, _, err := c.Write(t.Context(), ch); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Fatalf("a group that does not freeze: %v", err)
	}
	if got := get(t, filepath.Join(root, "batch", "freezer.state")); got != "FROZEN" {
		t.Fatalf("state %s", got)
	}
	put(t, filepath.Join(root, "batch", "freezer.self_freezing"), "1\n")
	if _, _, err := c.Write(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
}

func TestSettingsRefuse(t *testing.T) {
	self := fmt.Sprint(os.Getpid())
	for name, tt := range map[string]struct {
		action  string
		version int
		set     map[string]string // files of /batch
		value   int64
		want    command.Reason
	}{
		"a limit below what is held":        {"memory.limit", 2, nil, 49, command.ReasonNotReversible},
		"the same in version 1":             {"memory.limit", 1, nil, 49, command.ReasonNotReversible},
		"a limit above it":                  {"memory.limit", 2, nil, 51, ""},
		"use that cannot be told":           {"memory.limit", 2, map[string]string{"memory.stat": "-"}, 60, command.ReasonNotReversible},
		"high in version 1":                 {"memory.high", 1, nil, 60, command.ReasonNoTarget},
		"low in version 1":                  {"memory.low", 1, nil, 60, command.ReasonNoTarget},
		"one CPU":                           {"cpuset.cpus", 2, map[string]string{"cpuset.cpus.effective": "3"}, 50, command.ReasonNotReversible},
		"no CPUs":                           {"cpuset.cpus", 1, map[string]string{"cpuset.cpus": ""}, 50, command.ReasonNoTarget},
		"groups below in version 1":         {"cpuset.cpus", 1, map[string]string{"below/cpuset.cpus": "0-7"}, 50, command.ReasonNotReversible},
		"groups below in version 2":         {"cpuset.cpus", 2, map[string]string{"below/cpuset.cpus": "0-7"}, 50, ""},
		"a task with CPUs of its own":       {"cpuset.cpus", 2, map[string]string{"cgroup.threads": self, "cpuset.cpus.effective": "0-63"}, 50, command.ReasonNotReversible},
		"a freeze of the actor":             {"cgroup.freeze", 2, map[string]string{"cgroup.procs": self}, 1, command.ReasonDenied},
		"a freeze of the actor, further in": {"cgroup.freeze", 2, map[string]string{"below/cgroup.procs": self}, 1, command.ReasonDenied},
		"a freeze of init":                  {"cgroup.freeze", 1, map[string]string{"cgroup.procs": "1"}, 1, command.ReasonDenied},
		"a limit on the actor":              {"memory.limit", 2, map[string]string{"cgroup.procs": self}, 500, command.ReasonDenied},
		"slowing the actor down":            {"memory.high", 2, map[string]string{"cgroup.procs": self}, 500, command.ReasonDenied},
		"no more threads for the actor":     {"pids.max", 1, map[string]string{"below/cgroup.procs": self}, 5, command.ReasonDenied},
		"a protection of the actor":         {"memory.low", 2, map[string]string{"cgroup.procs": self}, 5, ""},
		"no controller":                     {"pids.max", 2, map[string]string{"pids.max": "-"}, 1, command.ReasonNotReversible},
		"a kernel without idle":             {"cpu.idle", 1, map[string]string{"cpu.idle": "-"}, 1, command.ReasonNotReversible},
	} {
		t.Run(name, func(t *testing.T) {
			root := fakeController(t, tt.version, "batch")
			for file, text := range tt.set {
				if text == "-" {
					if err := os.Remove(filepath.Join(root, "batch", file)); err != nil {
						t.Fatal(err)
					}
					continue
				}
				put(t, filepath.Join(root, "batch", file), text+"\n")
			}
			before := get(t, filepath.Join(root, "batch", "cgroup.procs"))
			c := New(Config{Cgroup: root})[tt.action]
			target := command.Target{Cgroup: "/batch"}
			state, err := c.Prior(t.Context(), target)
			if err == nil {
				_, _, err = c.Write(t.Context(), Change{Target: target, State: state, Values: []int64{tt.value}})
			}
			if command.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if got := get(t, filepath.Join(root, "batch", "cgroup.procs")); got != before {
				t.Fatal("the group was changed")
			}
		})
	}
}

// A protection that a group above does not share has no effect, and is not promised.
func TestMemoryLowNeedsItsParents(t *testing.T) {
	root := fakeController(t, 2, "shop", "shop/web")
	c := New(Config{Cgroup: root})["memory.low"]
	target := command.Target{Cgroup: "/shop/web"}
	state, err := c.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	ch := Change{Target: target, State: state, Values: []int64{64}}
	if _, _, err := c.Write(t.Context(), ch); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "shop/memory.low"), "67108864\n")
	if _, _, err := c.Write(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
}

// An idle group comes back with the weight that it had, and a weight cannot be set beside it.
func TestIdleKeepsTheWeight(t *testing.T) {
	root := fakeController(t, 2, "batch")
	set := New(Config{Cgroup: root})
	target := command.Target{Cgroup: "/batch"}
	put(t, filepath.Join(root, "batch/cpu.weight"), "250\n")
	ch := apply(t, set["cpu.idle"], target, 1)
	put(t, filepath.Join(root, "batch/cpu.weight"), "0\n") // as the kernel shows it then
	weight, err := set["cpu.weight"].Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(ch.State.Knobs, " "), weight.Knobs[0]) {
		t.Errorf("idle holds %v, a weight %v", ch.State.Knobs, weight.Knobs)
	}
	restore(t, set["cpu.idle"], ch, Before)
	if got := get(t, filepath.Join(root, "batch/cpu.weight")); got != "250" {
		t.Errorf("the weight came back as %s", got)
	}
}

// Whatever a percentage leaves of whatever set: never nothing, never another CPU, never fewer for more.
func TestPickCPUs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all cpus
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 200), 1, 64).Draw(t, "cpus") {
			all.Set(n)
		}
		p := rapid.Int64Range(1, 100).Draw(t, "percent")
		got, more := pickCPUs(all, p), pickCPUs(all, min(p+1, 100))
		if got.Count() < 1 || intersect(got, all) != got || got.Count() > more.Count() || pickCPUs(all, 100) != all {
			t.Fatalf("%d%% of %s is %s", p, formatCPUs(all), formatCPUs(got))
		}
		if low := cpuNumbers(all); got.Count() < len(low) && got.IsSet(low[0]) {
			t.Fatalf("%d%% of %s is %s: not the highest", p, formatCPUs(all), formatCPUs(got))
		}
	})
}
