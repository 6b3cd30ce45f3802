package actuator

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// fakeDisks makes a /sys/block with disks of these numbers, and a loop device.
func fakeDisks(t *testing.T, numbers ...string) string {
	t.Helper()
	sys := t.TempDir()
	for i, n := range numbers {
		put(t, filepath.Join(sys, "block", fmt.Sprintf("vd%c", 'a'+i), "dev"), n+"\n")
		put(t, filepath.Join(sys, "block", fmt.Sprintf("vd%c", 'a'+i), "device", "vendor"), "")
	}
	put(t, filepath.Join(sys, "block", "loop0", "dev"), "7:0\n")
	return sys
}

// kernelIO answers writes to io.max as the kernel does: a line changes one disk. The fake file system cannot, so the
// test carries each line over.
type kernelIO struct {
	t     *testing.T
	file  string
	disks map[string]string // by number: "rbps=max wbps=max riops=max wiops=max"
}

func (k *kernelIO) settle() {
	k.t.Helper()
	for line := range strings.Lines(get(k.t, k.file)) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue // the kernel's own
		}
		name, value, _ := strings.Cut(f[1], "=")
		words := strings.Fields(k.disks[f[0]])
		for i, w := range words {
			if strings.HasPrefix(w, name+"=") {
				words[i] = name + "=" + value
			}
		}
		k.disks[f[0]] = strings.Join(words, " ")
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(k.disks)) {
		if strings.Count(k.disks[n], "=max") < 4 {
			out = append(out, n+" "+k.disks[n])
		}
	}
	put(k.t, k.file, strings.Join(out, "\n")+"\n")
}

const freeDisk = "rbps=max wbps=max riops=max wiops=max"

// The values of one disk and direction go through every standing; what is written leaves the other words of the disk alone.
func TestIOLimitWords(t *testing.T) {
	root := fakeController(t, 2, "batch")
	a := New(Config{Cgroup: root, Sys: fakeDisks(t, "254:0")})["io.limit"].(*IOLimit)
	if err := a.Able(); err != nil {
		t.Fatal(err)
	}
	k := &kernelIO{t, filepath.Join(root, "batch/io.max"), map[string]string{"254:0": "rbps=1000 wbps=max riops=70 wiops=max"}}
	k.settle()
	target := command.Target{Cgroup: "/batch"}
	state, err := a.Prior(t.Context(), target)
	if err != nil || state.Text != "254:0 r=1000 w=max" {
		t.Fatalf("%+v %v", state, err)
	}
	ch := Change{Target: target, State: state, Values: []int64{512}}
	// Reading is held tighter already, so one line is written: that of writing.
	if _, _, err := a.Write(t.Context(), ch); command.ReasonOf(err) == command.ReasonNoEffect {
		k.settle() // the fake kernel has lost the other words by then
	}
	if got := get(t, k.file); got != "254:0 rbps=1000 wbps=524288 riops=70 wiops=max" {
		t.Fatalf("io.max reads %q", got)
	}
	look := func(want Standing) {
		t.Helper()
		if s, text, err := a.Look(t.Context(), ch); s != want || err != nil {
			t.Fatalf("%s %q %v, want %s", s, text, err, want)
		}
	}
	look(Ours)
	if _, text, err := a.Write(t.Context(), ch); err != nil || text != "254:0 r=1000 w=524288" {
		t.Fatalf("written again: %q %v", text, err)
	}
	ch.Values = []int64{512, 1024}
	look(Older)
	put(t, k.file, "254:0 rbps=1000 wbps=77 riops=70 wiops=max\n")
	look(Other)
	if s, _, err := a.Restore(t.Context(), ch); s != Other || err != nil || !strings.Contains(get(t, k.file), "wbps=77") {
		t.Fatalf("%s %v %s", s, err, get(t, k.file))
	}
	put(t, k.file, "254:0 rbps=1000 wbps=1048576 riops=70 wiops=max\n")
	_, _, _ = a.Restore(t.Context(), ch)
	if got := get(t, k.file); got != "254:0 wbps=max" {
		t.Fatalf("given back by %q", got)
	}
	k.settle()
	look(Before)
	if err := os.RemoveAll(filepath.Join(root, "batch")); err != nil {
		t.Fatal(err)
	}
	look(Gone)
}

func TestIOLimitText(t *testing.T) {
	a := &IOLimit{h: hierarchy{version: 1}}
	root := fakeController(t, 1, "batch")
	put(t, filepath.Join(root, "batch/blkio.throttle.read_bps_device"), "8:0 4096\n254:16 18446744073709551615\n")
	dir, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	got, err := a.read(dir, "batch")
	want := map[string]int64{"8:0 r": 4096, "254:16 r": noIOLimit}
	if err != nil || !maps.Equal(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	if text := ioText(map[string]int64{"8:0 r": 4096, "8:0 w": noIOLimit, "254:16 r": noIOLimit, "254:16 w": 1}); text != "254:16 r=max w=1; 8:0 r=4096 w=max" {
		t.Fatal(text)
	}
}

func TestIOLimitRefuses(t *testing.T) {
	root := fakeController(t, 2, "batch")
	for name, tt := range map[string]struct {
		cfg    Config
		target command.Target
		want   command.Reason
	}{
		"no disk":      {Config{Cgroup: root, Sys: fakeDisks(t)}, command.Target{Cgroup: "/batch"}, command.ReasonNoTarget},
		"no such":      {Config{Cgroup: root, Sys: fakeDisks(t, "8:0")}, command.Target{Cgroup: "/none"}, command.ReasonNoTarget},
		"root":         {Config{Cgroup: root, Sys: fakeDisks(t, "8:0")}, command.Target{Cgroup: "/"}, command.ReasonDenied},
		"no hierarchy": {Config{Proc: t.TempDir(), Sys: fakeDisks(t, "8:0")}, command.Target{Cgroup: "/batch"}, command.ReasonNoTarget},
	} {
		if _, err := New(tt.cfg)["io.limit"].Prior(t.Context(), tt.target); command.ReasonOf(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// A disk that comes during the action is held too, and given back with the others.
func TestIOLimitTakesInNewDisks(t *testing.T) {
	root := fakeController(t, 2, "batch")
	sys := fakeDisks(t, "8:0")
	a := New(Config{Cgroup: root, Sys: sys})["io.limit"]
	k := &kernelIO{t, filepath.Join(root, "batch/io.max"), map[string]string{"8:0": freeDisk, "8:16": freeDisk}}
	target := command.Target{Cgroup: "/batch"}
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	ch := Change{Target: target, State: state, Values: []int64{64}}
	k.disks["8:0"] = "rbps=65536 wbps=65536 riops=max wiops=max"
	k.settle()
	if _, changed, err := a.Tend(t.Context(), ch); changed || err != nil {
		t.Fatalf("nothing came: %v %v", changed, err)
	}
	put(t, filepath.Join(sys, "block/vdb/dev"), "8:16\n")
	put(t, filepath.Join(sys, "block/vdb/device/vendor"), "")
	s, changed, err := a.Tend(t.Context(), ch)
	if err != nil || !changed {
		t.Fatalf("%v %v", changed, err)
	}
	ch.State = s
	if !strings.Contains(get(t, k.file), "8:16 wbps=65536") {
		t.Fatalf("wrote %q", get(t, k.file))
	}
	k.disks["8:16"] = "rbps=65536 wbps=65536 riops=max wiops=max"
	k.settle()
	if s, text, err := a.Look(t.Context(), ch); s != Ours || err != nil {
		t.Fatalf("%s %s %v", s, text, err)
	}
}
