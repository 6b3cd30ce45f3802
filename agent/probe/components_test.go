package probe_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// fake is a proc file system made of plain files, on a host that was booted 100 s ago.
type fake struct {
	t    *testing.T
	dir  string
	set  *probe.Set
	comp *probe.Components
	tab  metric.Table
	now  time.Time
	last int
	exit []probe.Exit
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, dir: copyTree(t, "testdata/linux-5.10-v2"), now: t0}
	f.last = 100
	f.loadavg()
	cfg := probe.Config{Proc: filepath.Join(f.dir, "proc"), Cgroup: filepath.Join(f.dir, "cgroup"), OnExit: func(e probe.Exit) { f.exit = append(f.exit, e) }}
	f.set = open(t, probe.WithBootClock(cfg, func() time.Duration { return 100 * time.Second }))
	f.comp = f.set.Components()
	return f
}

func (f *fake) loadavg() {
	write(f.t, filepath.Join(f.dir, "proc/loadavg"), fmt.Sprintf("0.00 0.00 0.00 1/1 %d\n", f.last))
}

type process struct {
	pid, ppid      int
	comm, exe      string
	cpu            int // jiffies, half of them system
	start          int
	rss            int // pages
	waits          []int
	cgroup         string
	state          string
	sockets        []int
	threadOfLeader bool
}

// put writes p into proc, over what was there of it.
func (f *fake) put(p process) {
	f.t.Helper()
	dir := filepath.Join(f.dir, "proc", strconv.Itoa(p.pid))
	signal := 17
	if p.threadOfLeader {
		signal = -1
	}
	if p.state == "" {
		p.state = "S"
	}
	if p.cgroup == "" {
		p.cgroup = "/user.slice"
	}
	write(f.t, filepath.Join(dir, "stat"), fmt.Sprintf(
		"%d (%s) %s %d 1 1 0 -1 4194304 100 0 0 0 %d %d 0 0 20 0 %d 0 %d 10000000 %d 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 %d 0 0 0 0 0\n",
		p.pid, p.comm, p.state, p.ppid, p.cpu-p.cpu/2, p.cpu/2, len(p.waits), p.start, p.rss, signal))
	write(f.t, filepath.Join(dir, "cgroup"), "0::"+p.cgroup+"\n")
	for i, w := range p.waits {
		write(f.t, filepath.Join(dir, "task", strconv.Itoa(p.pid+i), "schedstat"), fmt.Sprintf("999 %d 5\n", w))
	}
	if p.exe != "" {
		os.Remove(filepath.Join(dir, "exe"))
		if err := os.Symlink(p.exe, filepath.Join(dir, "exe")); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "fd"), 0o755); err != nil {
		f.t.Fatal(err)
	}
	for i, inode := range p.sockets {
		link := filepath.Join(dir, "fd", strconv.Itoa(i))
		os.Remove(link)
		if err := os.Symlink(fmt.Sprintf("socket:[%d]", inode), link); err != nil {
			f.t.Fatal(err)
		}
	}
	if p.pid > f.last {
		f.last = p.pid
		f.loadavg()
	}
}

// kill takes a process away. A kernel answers its open files with an error; plain files are emptied to the same effect.
func (f *fake) kill(pid int) {
	f.t.Helper()
	dir := filepath.Join(f.dir, "proc", strconv.Itoa(pid))
	write(f.t, filepath.Join(dir, "stat"), "")
	if err := os.RemoveAll(dir); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) endThread(pid, tid int) {
	f.t.Helper()
	dir := filepath.Join(f.dir, "proc", strconv.Itoa(pid), "task", strconv.Itoa(tid))
	write(f.t, filepath.Join(dir, "schedstat"), "")
	if err := os.RemoveAll(dir); err != nil {
		f.t.Fatal(err)
	}
}

// tick lets d go by and reads.
func (f *fake) tick(d time.Duration) map[string]float64 {
	f.t.Helper()
	f.tab.Next()
	f.now = f.now.Add(d)
	for _, p := range f.set.Probes() {
		if p.Name() == "components" || p.Name() == "components-slow" {
			if err := p.Read(&f.tab, f.now); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	return values(&f.tab)
}

func (f *fake) want(got map[string]float64, component string, want map[string]float64) {
	f.t.Helper()
	full := map[string]float64{}
	for k, v := range want {
		full["evenkeel_component_"+k+`{component="`+component+`"}`] = v
	}
	check(f.t, got, full)
}

func watch(name string, t command.Target) probe.Watch {
	return probe.Watch{Component: "component/" + name, Target: t}
}

func byExe(exe string) command.Target {
	return command.Target{Process: &command.Process{Exe: exe}}
}

func TestProcessTree(t *testing.T) {
	f := newFake(t)
	web := process{pid: 200, ppid: 1, comm: "web", exe: "/usr/bin/web", cpu: 500, start: 50, rss: 10, waits: []int{1e9, 2e9}, sockets: []int{1, 2, 3}}
	child := process{pid: 150, ppid: 200, comm: "w) S 1 (x", exe: "/bin/sh", cpu: 40, start: 60, rss: 5, waits: []int{3e9}}
	other := process{pid: 300, ppid: 1, comm: "other", exe: "/usr/bin/other", cpu: 1, start: 70, waits: []int{0}}
	f.put(web)
	f.put(child)
	f.put(other)
	f.comp.SetWatch([]probe.Watch{watch("web", byExe("/usr/bin/web")), watch("none", byExe("/usr/bin/none"))})
	got := f.tick(0)
	// What was used before anybody looked does not count.
	f.want(got, "component/web", map[string]float64{
		"cpu_seconds_total": 0, "runqueue_seconds_total": 0, "memory_bytes": 15 * float64(os.Getpagesize()), "processes": 2,
		"threads": 3, "exits_total": 0, "fds": 3,
	})
	f.want(got, "component/none", map[string]float64{"processes": 0, "threads": 0, "cpu_seconds_total": 0, "exits_total": 0})
	places, version := f.comp.Places()
	if d := cmp.Diff([]probe.Place{
		{Component: "component/none"},
		{Component: "component/web", Running: true, Processes: 2, Cgroup: "/user.slice"},
	}, places); d != "" {
		t.Error(d)
	}

	// Both worked, a thread more, one second later.
	web.cpu, web.waits = 600, []int{1.5e9, 2.25e9, 1e8}
	child.cpu, child.waits = 45, []int{3e9 + 5}
	f.put(web)
	f.put(child)
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"cpu_seconds_total": 1.05, "runqueue_seconds_total": 0.850000005, "threads": 4})
	if _, v := f.comp.Places(); v != version {
		t.Error("a place changed for no reason")
	}

	// A child is born and found by its pid; it counts from its birth. A thread of another process is none of our processes.
	f.put(process{pid: 301, ppid: 150, comm: "kid", exe: "/bin/kid", cpu: 7, start: 10050, rss: 1, waits: []int{1e9}})
	f.put(process{pid: 302, ppid: 200, comm: "thread", cpu: 7, start: 10050, threadOfLeader: true})
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"cpu_seconds_total": 1.12, "runqueue_seconds_total": 1.850000005, "processes": 3})

	// The middle of the tree ends: the counters keep what it used, the orphan still belongs, the exit is told.
	f.kill(150)
	f.put(process{pid: 301, ppid: 1, comm: "kid", exe: "/bin/kid", cpu: 8, start: 10050, rss: 1, waits: []int{1e9}})
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"cpu_seconds_total": 1.13, "processes": 2, "exits_total": 1})
	got = f.tick(10 * time.Second)
	f.want(got, "component/web", map[string]float64{"processes": 2, "exits_total": 1})
	if d := cmp.Diff([]probe.Exit{{Component: "component/web", PID: 150, Time: t0.Add(3 * time.Second)}}, f.exit); d != "" {
		t.Error(d)
	}

	// A thread ends: its wait stays counted.
	f.endThread(200, 202)
	web.waits = web.waits[:2]
	f.put(web)
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"runqueue_seconds_total": 1.850000005, "threads": 3})

	// All end, and the pid is used again by the same program, before we look.
	f.kill(301)
	f.kill(200)
	web.start, web.cpu, web.waits = 20000, 3, []int{1e9}
	f.put(web)
	f.tick(time.Second)
	f.tick(2 * time.Second)
	got = f.tick(10 * time.Second)
	f.want(got, "component/web", map[string]float64{"cpu_seconds_total": 1.16, "runqueue_seconds_total": 2.850000005, "processes": 1, "exits_total": 3})

	// Nobody watches any more.
	f.comp.SetWatch(nil)
	got = f.tick(time.Second)
	for k := range got {
		t.Errorf("%s is still there", k)
	}
	if places, _ := f.comp.Places(); len(places) != 0 {
		t.Errorf("places %+v", places)
	}
}

// A program found by its path is found after a package upgrade too, and after the shell that started it turned into it.
func TestExecutableChanges(t *testing.T) {
	f := newFake(t)
	f.put(process{pid: 200, ppid: 1, comm: "web", exe: "/usr/bin/web (deleted)", start: 50, waits: []int{0}})
	f.comp.SetWatch([]probe.Watch{watch("web", byExe("/usr/bin/web"))})
	got := f.tick(0)
	f.want(got, "component/web", map[string]float64{"processes": 1})
	f.put(process{pid: 201, ppid: 1, comm: "sh", exe: "/bin/sh", start: 10001, waits: []int{0}})
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"processes": 1})
	f.put(process{pid: 201, ppid: 1, comm: "web", exe: "/usr/bin/web", start: 10001, waits: []int{0}})
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"processes": 2})
}

func TestUserOfProcess(t *testing.T) {
	f := newFake(t)
	f.put(process{pid: 200, ppid: 1, comm: "web", exe: "/usr/bin/web", start: 50, waits: []int{0}})
	me := strconv.Itoa(os.Getuid())
	f.comp.SetWatch([]probe.Watch{
		watch("mine", command.Target{Process: &command.Process{Exe: "/usr/bin/web", User: me}}),
		watch("theirs", command.Target{Process: &command.Process{Exe: "/usr/bin/web", User: "4294967294"}}),
		watch("typo", command.Target{Process: &command.Process{Exe: "/usr/bin/web", User: "no-such-user"}}),
	})
	got := f.tick(0)
	f.want(got, "component/mine", map[string]float64{"processes": 1})
	f.want(got, "component/theirs", map[string]float64{"processes": 0})
	if _, ok := got[`evenkeel_component_processes{component="component/typo"}`]; ok {
		t.Error("a component that cannot be looked for has series")
	}
	places, _ := f.comp.Places()
	if p := places[2]; p.Running || p.Problem != "no user no-such-user on this host" {
		t.Errorf("%+v", p)
	}
}

func TestUnitAndCgroup(t *testing.T) {
	f := newFake(t)
	unit := filepath.Join(f.dir, "cgroup/system.slice/nginx.service")
	for pid := 200; pid < 204; pid++ {
		f.put(process{pid: pid, ppid: 1, comm: "nginx", exe: "/usr/sbin/nginx", start: 50, cpu: 10, rss: 1, waits: []int{0}, cgroup: "/system.slice/nginx.service"})
	}
	write(t, filepath.Join(unit, "cgroup.procs"), "200\n201\n")
	write(t, filepath.Join(unit, "workers/cgroup.procs"), "202\n")
	f.comp.SetWatch([]probe.Watch{
		watch("nginx", command.Target{Unit: "nginx.service"}),
		watch("workers", command.Target{Cgroup: "/system.slice/nginx.service/workers"}),
		watch("stopped", command.Target{Unit: "stopped.service"}),
		watch("lost", command.Target{Cgroup: "/no/such"}),
		watch("bad", command.Target{Cgroup: "/../etc"}),
		watch("host", command.Target{}),
		watch("site", command.Target{Check: &command.Check{Kind: "http", Address: "http://x"}}),
	})
	got := f.tick(0)
	f.want(got, "component/nginx", map[string]float64{"processes": 3})
	f.want(got, "component/workers", map[string]float64{"processes": 1})
	f.want(got, "component/stopped", map[string]float64{"processes": 0})
	places, _ := f.comp.Places()
	if d := cmp.Diff([]probe.Place{
		{Component: "component/bad", Problem: "not a path of a cgroup"},
		{Component: "component/host", Running: true, Cgroup: "/"},
		{Component: "component/lost", Problem: "no such cgroup"},
		{Component: "component/nginx", Running: true, Processes: 3, Cgroup: "/system.slice/nginx.service"},
		{Component: "component/stopped"},
		{Component: "component/workers", Running: true, Processes: 1, Cgroup: "/system.slice/nginx.service/workers"},
	}, places); d != "" {
		t.Error(d)
	}

	// One moves away alive, one ends, one comes.
	f.kill(201)
	write(t, filepath.Join(unit, "cgroup.procs"), "203\n")
	got = f.tick(time.Second)
	f.want(got, "component/nginx", map[string]float64{"processes": 2, "exits_total": 1})
	f.want(got, "component/workers", map[string]float64{"processes": 1, "exits_total": 0})

	// The unit that did not run starts.
	write(t, filepath.Join(f.dir, "cgroup/system.slice/stopped.service/cgroup.procs"), "200\n")
	got = f.tick(2 * time.Second)
	f.want(got, "component/stopped", map[string]float64{"processes": 1})
}

func TestPort(t *testing.T) {
	f := newFake(t)
	const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	listen := heading +
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0\n" +
		"   1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000000000000000 100 0 0 10 0\n" +
		"   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0000000000000000 100 0 0 10 0\n"
	write(t, filepath.Join(f.dir, "proc/net/tcp"), listen)
	f.put(process{pid: 200, ppid: 1, comm: "web", exe: "/usr/bin/web", start: 50, waits: []int{0}, sockets: []int{5, 4711}})
	f.put(process{pid: 201, ppid: 200, comm: "worker", exe: "/usr/bin/web", start: 50, waits: []int{0}})
	f.put(process{pid: 202, ppid: 1, comm: "client", exe: "/usr/bin/c", start: 50, waits: []int{0}, sockets: []int{4713}})
	f.comp.SetWatch([]probe.Watch{watch("web", command.Target{Port: "8080/tcp"}), watch("free", command.Target{Port: "9/tcp"}), watch("bad", command.Target{Port: "http"})})
	got := f.tick(0)
	f.want(got, "component/web", map[string]float64{"processes": 2})
	f.want(got, "component/free", map[string]float64{"processes": 0})
	places, _ := f.comp.Places()
	if places[0].Problem == "" || places[1].Running || places[2].Cgroup != "/user.slice" {
		t.Errorf("%+v", places)
	}

	// The server is replaced by another one on the same port.
	f.kill(200)
	f.kill(201)
	write(t, filepath.Join(f.dir, "proc/net/tcp"), heading)
	got = f.tick(time.Second)
	f.want(got, "component/web", map[string]float64{"processes": 0, "exits_total": 2})
	write(t, filepath.Join(f.dir, "proc/net/tcp"), listen)
	f.put(process{pid: 210, ppid: 1, comm: "web", exe: "/usr/bin/web", start: 11000, waits: []int{0}, sockets: []int{4711}})
	got = f.tick(2 * time.Second)
	f.want(got, "component/web", map[string]float64{"processes": 1})
}

// With no descriptors left, files are opened each time, and the numbers are the same.
func TestNoDescriptorsLeft(t *testing.T) {
	f := newFake(t)
	f.comp.SpendDescriptors()
	p := process{pid: 200, ppid: 1, comm: "web", exe: "/usr/bin/web", cpu: 10, start: 50, waits: []int{1, 2, 3}}
	f.put(p)
	f.comp.SetWatch([]probe.Watch{watch("web", byExe("/usr/bin/web"))})
	f.tick(0)
	p.cpu, p.waits = 110, []int{1e9 + 1, 2, 3}
	f.put(p)
	f.want(f.tick(time.Second), "component/web", map[string]float64{"cpu_seconds_total": 1, "runqueue_seconds_total": 1, "threads": 3})
}

func TestComponentsDoNotAllocate(t *testing.T) {
	f := newFake(t)
	unit := filepath.Join(f.dir, "cgroup/system.slice/nginx.service")
	f.put(process{pid: 200, ppid: 1, comm: "web", exe: "/usr/bin/web", cpu: 10, start: 50, waits: []int{1, 2, 3}, sockets: []int{1}})
	f.put(process{pid: 210, ppid: 1, comm: "nginx", exe: "/usr/bin/nginx", cpu: 10, start: 50, waits: []int{1}})
	write(t, filepath.Join(unit, "cgroup.procs"), "210\n")
	f.comp.SetWatch([]probe.Watch{
		watch("web", byExe("/usr/bin/web")), watch("nginx", command.Target{Unit: "nginx.service"}),
		watch("workers", command.Target{Cgroup: "/system.slice/nginx.service"}), watch("host", command.Target{}),
	})
	step := func() {
		f.tab.Next()
		f.now = f.now.Add(time.Second)
		for _, p := range f.set.Probes() {
			if err := p.Read(&f.tab, f.now); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 12 {
		step()
	}
	if n := testing.AllocsPerRun(50, step); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}

func TestTop(t *testing.T) {
	f := newFake(t)
	put := func(pid, cpu int, comm string) {
		f.put(process{pid: pid, ppid: 1, comm: comm, start: 50, cpu: cpu, rss: pid, waits: []int{0}})
	}
	for i := range 30 {
		put(200+i, 1000, "p")
	}
	top := find(t, f.set, "top")
	read := func() map[string]float64 {
		f.tab.Next()
		f.now = f.now.Add(10 * time.Second)
		if err := top.Read(&f.tab, f.now); err != nil {
			t.Fatal(err)
		}
		return values(&f.tab)
	}
	if got := read(); len(got) != 0 {
		t.Errorf("%d series before anything was used", len(got))
	}
	for i := range 30 {
		put(200+i, 1000+i, "p")
	}
	got := read()
	if len(got) != 20 {
		t.Errorf("%d series, want 20", len(got))
	}
	check(t, got, map[string]float64{
		`evenkeel_process_cpu_seconds_total{comm="p",pid="229"}`: 10.29,
		`evenkeel_process_cpu_seconds_total{comm="p",pid="220"}`: 10.20,
		`evenkeel_process_memory_bytes{comm="p",pid="220"}`:      220 * float64(os.Getpagesize()),
	})
	// 220 falls a little behind and stays; 229 does nothing and goes; a name that changed is another series.
	for i := range 30 {
		put(200+i, 2000+2*i, "p")
	}
	put(220, 2037, "p")
	put(228, 2056, "q")
	put(229, 1029, "p")
	got = read()
	check(t, got, map[string]float64{
		`evenkeel_process_cpu_seconds_total{comm="p",pid="220"}`: 20.37,
		`evenkeel_process_cpu_seconds_total{comm="p",pid="219"}`: 20.38,
		`evenkeel_process_cpu_seconds_total{comm="q",pid="228"}`: 20.56,
	})
	if len(got) != 20 {
		t.Errorf("%d series, want 20", len(got))
	}
	for _, k := range []string{`evenkeel_process_cpu_seconds_total{comm="p",pid="229"}`, `evenkeel_process_cpu_seconds_total{comm="p",pid="228"}`} {
		if _, ok := got[k]; ok {
			t.Errorf("%s is still there", k)
		}
	}
}

// The end of a real process is told at once, while nobody reads.
func TestExitIsToldAtOnce(t *testing.T) {
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	cat, err = filepath.EvalSymlinks(cat)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cat)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan probe.Exit, 100)
	s := open(t, probe.Config{OnExit: func(e probe.Exit) { exited <- e }})
	c := s.Components()
	// As a child of this test it belongs to the test's own component too.
	c.SetWatch([]probe.Watch{self(t)[0], {Component: "component/cat", Target: byExe(cat)}})
	var tab metric.Table
	now := t0
	for {
		if err := c.Read(&tab, now); err != nil {
			t.Fatal(err)
		}
		tab.Next()
		now = now.Add(2 * time.Second)
		if values(&tab)[`evenkeel_component_processes{component="component/cat"}`] >= 1 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	begin := time.Now()
	in.Close()
	want := map[string]bool{"component/cat": true, "component/self": true}
	for len(want) > 0 {
		select {
		case e := <-exited:
			if e.PID == cmd.Process.Pid {
				delete(want, e.Component)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no exit told of %v", want)
		}
	}
	t.Logf("told after %v", time.Since(begin))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Read(&tab, now); err != nil {
		t.Fatal(err)
	}
	k := `evenkeel_component_exits_total{component="component/cat"}`
	if got := values(&tab)[k]; got < 1 {
		t.Errorf("%s = %v", k, got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for len(exited) > 0 {
		if e := <-exited; e.PID == cmd.Process.Pid {
			t.Errorf("told twice: %+v", e)
		}
	}
}
