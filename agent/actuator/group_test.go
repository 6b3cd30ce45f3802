package actuator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// fakeV2 makes a tree of files that looks like cgroup version 2.
func fakeV2(t *testing.T, groups ...string) string {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, "cgroup.controllers"), "cpuset cpu io memory pids\n")
	for _, g := range groups {
		put(t, filepath.Join(root, g, "cgroup.procs"), "")
		put(t, filepath.Join(root, g, "cpu.weight"), "100\n")
		put(t, filepath.Join(root, g, "cpu.max"), "max 100000\n")
	}
	return root
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return trimSpace(b)
}

func apply(t *testing.T, c Actuator, target command.Target, value int64) Change {
	t.Helper()
	state, err := c.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	ch := Change{Target: target, State: state, Values: []int64{value}}
	if ch.State, _, err = c.Write(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	return ch
}

func restore(t *testing.T, c Actuator, ch Change, want Standing) {
	t.Helper()
	if s, text, err := c.Restore(t.Context(), ch); err != nil || s != want {
		t.Fatalf("restore: %s %q %v, want %s", s, text, err, want)
	}
}

func TestVersion2(t *testing.T) {
	root := fakeV2(t, "system.slice/batch.service", "a/b")
	set := New(Config{Cgroup: root})
	weight := filepath.Join(root, "system.slice/batch.service/cpu.weight")
	quota := filepath.Join(root, "a/b/cpu.max")
	unit, group := command.Target{Unit: "batch.service"}, command.Target{Cgroup: "/a/b"}

	w := apply(t, set["cpu.weight"], unit, 10)
	if got := get(t, weight); got != "10" || w.State.Text != "100" || w.State.Value != 100 || w.State.PidBound {
		t.Fatalf("weight %s, state %+v", got, w.State)
	}
	q := apply(t, set["cpu.quota"], group, 20)
	if got := get(t, quota); got != "20000 100000" || q.State.Text != "max 100000" {
		t.Fatalf("quota %s, state %+v", got, q.State)
	}
	if s, _, err := set["cpu.weight"].Look(t.Context(), w); s != Ours || err != nil {
		t.Fatalf("%s %v", s, err)
	}
	w.Values = []int64{10, 50}
	if s, _, _ := set["cpu.weight"].Look(t.Context(), w); s != Older {
		t.Fatalf("an earlier value of ours is %s", s)
	}
	restore(t, set["cpu.weight"], w, Before)
	restore(t, set["cpu.quota"], q, Before)
	if get(t, weight) != "100" || get(t, quota) != "max 100000" {
		t.Fatalf("left behind: %s, %s", get(t, weight), get(t, quota))
	}
	restore(t, set["cpu.weight"], w, Before) // twice is no harm

	w = apply(t, set["cpu.weight"], unit, 10)
	put(t, weight, "77\n")
	restore(t, set["cpu.weight"], w, Other)
	if get(t, weight) != "77" {
		t.Fatal("somebody else's weight was overwritten")
	}
	w = apply(t, set["cpu.weight"], unit, 10)
	if w.State.Text != "77" {
		t.Fatalf("prior %q", w.State.Text)
	}
	if err := os.RemoveAll(filepath.Dir(weight)); err != nil {
		t.Fatal(err)
	}
	restore(t, set["cpu.weight"], w, Gone)
}

func TestGroupRefuses(t *testing.T) {
	root := fakeV2(t, "a", "x/same.service", "y/same.service")
	outside := t.TempDir()
	put(t, filepath.Join(outside, "cpu.weight"), "100")
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "bare/cgroup.procs"), "") // the controller is not handed down
	c := New(Config{Cgroup: root})["cpu.weight"]
	for name, want := range map[string]struct {
		target command.Target
		reason command.Reason
	}{
		"root":             {command.Target{Cgroup: "/"}, command.ReasonDenied},
		"root in disguise": {command.Target{Cgroup: "/a/.."}, command.ReasonDenied},
		"absent":           {command.Target{Cgroup: "/nowhere"}, command.ReasonNoTarget},
		"absent unit":      {command.Target{Unit: "none.service"}, command.ReasonNoTarget},
		"two units":        {command.Target{Unit: "same.service"}, command.ReasonNoTarget},
		"no controller":    {command.Target{Cgroup: "/bare"}, command.ReasonNotReversible},
		"process":          {command.Target{Process: &command.Process{Exe: "/bin/true"}}, command.ReasonDenied},
	} {
		if _, err := c.Prior(t.Context(), want.target); command.ReasonOf(err) != want.reason {
			t.Errorf("%s: %v, want %s", name, err, want.reason)
		}
	}
	if _, err := c.Prior(t.Context(), command.Target{Cgroup: "/link"}); err == nil {
		t.Error("a link out of the hierarchy was followed")
	}
	none := New(Config{Proc: t.TempDir()})
	if none["cpu.weight"].(*Group).Able() == nil {
		t.Error("able without a hierarchy")
	}
	if _, err := none["cpu.weight"].Prior(t.Context(), command.Target{Cgroup: "/a"}); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Error(err)
	}
}

// fakeSystemd keeps properties and, unless it is lazy, writes the kernel's file as systemd would.
type fakeSystemd struct {
	root  string
	lazy  bool
	props map[string]uint64
}

func (s *fakeSystemd) ControlGroup(_ context.Context, unit string) (string, error) {
	if unit == "off.service" {
		return "", nil
	}
	return "/system.slice/" + unit, nil
}

func (s *fakeSystemd) Property(_ context.Context, _, name string) (uint64, error) {
	if v, ok := s.props[name]; ok {
		return v, nil
	}
	return unset, nil
}

func (s *fakeSystemd) SetProperty(_ context.Context, unit, name string, v uint64) error {
	if s.props == nil {
		return errors.New("refused")
	}
	s.props[name] = v
	if s.lazy {
		return nil
	}
	text := "100"
	if v != unset {
		text = fmt.Sprint(v)
	}
	return os.WriteFile(filepath.Join(s.root, "system.slice", unit, "cpu.weight"), []byte(text+"\n"), 0o644)
}

func TestUnitsThroughSystemd(t *testing.T) {
	root := fakeV2(t, "system.slice/batch.service")
	unit := command.Target{Unit: "batch.service"}
	sd := &fakeSystemd{root: root, props: map[string]uint64{}}
	c := New(Config{Cgroup: root, Systemd: sd})["cpu.weight"]
	ch := apply(t, c, unit, 10)
	if sd.props["CPUWeight"] != 10 {
		t.Fatalf("properties %v", sd.props)
	}
	restore(t, c, ch, Before)
	if sd.props["CPUWeight"] != unset || get(t, filepath.Join(root, "system.slice/batch.service/cpu.weight")) != "100" {
		t.Fatalf("properties %v", sd.props)
	}
	if _, err := c.Prior(t.Context(), command.Target{Unit: "off.service"}); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatal(err)
	}
	// An accepted call that changes no kernel file is no effect.
	sd.lazy = true
	state, err := c.Prior(t.Context(), unit)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Write(t.Context(), Change{Target: unit, State: state, Values: []int64{10}}); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Fatalf("lazy systemd: %v", err)
	}
}

func TestMounts(t *testing.T) {
	const v1 = "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
	g := cgroups{v1: map[string]string{}}
	g.parseMounts(strings.NewReader(v1))
	if h := g.with("cpu"); h.version != 1 || h.mount != "/sys/fs/cgroup/cpu,cpuacct" || g.units != "/sys/fs/cgroup/systemd" || g.v2 != "/sys/fs/cgroup/unified" {
		t.Errorf("hybrid: %+v", g)
	}
	g = cgroups{v1: map[string]string{}}
	g.parseMounts(strings.NewReader("30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\nrubbish\n"))
	g.controllers = []string{"cpu", "io"}
	if h := g.with("blkio"); h.version != 2 || h.mount != "/sys/fs/cgroup" || g.with("memory").version != 0 {
		t.Errorf("unified: %+v", g)
	}
}

func TestRealVersion1(t *testing.T) {
	set := New(Config{})
	g := set["cpu.weight"].(*Group).groups
	if g.with("cpu").version != 1 {
		t.Skip("the cpu controller of this host is not in a cgroup v1 hierarchy")
	}
	name := fmt.Sprintf("evenkeel-test-%d", os.Getpid())
	dir := filepath.Join(g.with("cpu").mount, name)
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrPermission) || err != nil && strings.Contains(err.Error(), "read-only") {
		t.Skipf("the cpu hierarchy cannot be written: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	target := command.Target{Cgroup: "/" + name}

	w := apply(t, set["cpu.weight"], target, 10)
	if got := get(t, dir+"/cpu.shares"); got != "102" {
		t.Fatalf("shares %s", got)
	}
	w.Values = append(w.Values, 55)
	if _, text, err := set["cpu.weight"].Write(t.Context(), w); err != nil || text != "563" {
		t.Fatalf("%s %v", text, err)
	}
	restore(t, set["cpu.weight"], w, Before)
	q := apply(t, set["cpu.quota"], target, 25)
	if got := get(t, dir+"/cpu.cfs_quota_us"); got != "25000" {
		t.Fatalf("quota %s", got)
	}
	restore(t, set["cpu.quota"], q, Before)
	if get(t, dir+"/cpu.shares") != "1024" || get(t, dir+"/cpu.cfs_quota_us") != "-1" {
		t.Fatalf("left behind: %s, %s", get(t, dir+"/cpu.shares"), get(t, dir+"/cpu.cfs_quota_us"))
	}
	w = apply(t, set["cpu.weight"], target, 10)
	if err := os.WriteFile(dir+"/cpu.shares", []byte("300"), 0o644); err != nil {
		t.Fatal(err)
	}
	restore(t, set["cpu.weight"], w, Other)
	if get(t, dir+"/cpu.shares") != "300" {
		t.Fatal("somebody else's shares were overwritten")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	restore(t, set["cpu.weight"], w, Gone)
}
