package probe

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Watch names a component of the map and where it runs on this host. The zero Target is the host itself, which has no
// series of its own; a Check is not for this package.
type Watch struct {
	Component string // "component/web"
	Target    command.Target
}

// Place says where a watched component runs.
type Place struct {
	Component string
	Running   bool
	Processes int
	// Cgroup is the path below the root of the cpu hierarchy, "/" first; where the processes are spread, the deepest
	// one that is above them all.
	Cgroup string
	// Problem says why the component could not be looked for. It is empty where it just does not run.
	Problem string
}

// maxWatches bounds the components watched on one host; those beyond it have a Problem.
const maxWatches = 256

// Components reads the declared components each second: the processes of each, through files that stay open, and finds
// out which processes those are. Processes that start are found on the next tick by the pids given out since, processes
// that end at once by their pidfd, and all are looked through every ten seconds.
type Components struct {
	base
	since   func() time.Duration
	load    file
	layout  layout
	units   *units
	table   *processTable
	members members
	exits   *exits
	later   componentsSlow
	sizes   bool // the kernel tells how many files a process has by the size of a folder
	page    uint32

	pending atomic.Pointer[[]Watch]
	places  atomic.Pointer[[]Place]
	version atomic.Uint64

	list     []*component
	byPID    map[int32]*member
	all      []*member
	exes     []string
	resolved uint64 // generation of the table that the list was resolved with
	last     int32  // pid given out last
	rescan   bool
	lookAll  time.Time // when the cgroups were last walked
	mark     uint64
	gone     []int32
	arena    []byte
	ends     []int
	ports    portFinder
	moved    bool // a place may have changed
}

// component is one watched component. Its counters only rise: they add up what its processes used while they belonged
// to it.
type component struct {
	Watch
	since   int64 // jiffies since boot; processes that started later are newborn
	exe     int16
	user    uint32
	anyUser bool

	invalid bool   // the target makes no sense, and never will
	cgroup  string // of the target, or found
	dir     string // of the target's cgroup
	walked  time.Time
	dirs    []file // cgroup.procs of the target's cgroup and those below it
	sum     uint64
	port    portWatch
	members []*member
	common  []byte // scratch: the deepest cgroup above all

	cpu, runq, exits int64
	slots            block
	delay            block
	fds              block

	problem string
	place   Place
}

// The series of a component.
const (
	compCPU = iota
	compMemory
	compProcesses
	compThreads
	compExits
)

func newComponents(r *reader, cfg Config, host bool, l layout, table *processTable, u *units) *Components {
	c := &Components{
		base: base{"components", groupComponents, fast, r}, since: cfg.now, load: newFile(cfg.Proc+"/loadavg", false),
		layout: l, units: u, table: table, exits: newExits(host, cfg.OnExit), byPID: map[int32]*member{},
		page: uint32(unix.Getpagesize()), ports: newPortFinder(cfg.Proc, table),
	}
	c.members = members{table: table, budget: descriptorBudget()}
	c.later = componentsSlow{base{"components-slow", groupComponentsSlow, slow, r}, c}
	if host {
		var st unix.Stat_t
		c.sizes = unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0
	}
	return c
}

// descriptorBudget leaves half of the descriptors that the process may have for everything else.
func descriptorBudget() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 256
	}
	return int(min(lim.Cur/2, 16384))
}

// SetWatch replaces the list of watched components; it takes effect on the next tick. Components that stay keep their
// counters. Any goroutine may call it.
func (c *Components) SetWatch(l []Watch) {
	l = slices.Clone(l)
	c.pending.Store(&l)
}

// Places returns where the components run, as of the last tick, and a version that rises with each change. The slice must
// not be changed. Any goroutine may call it.
func (c *Components) Places() ([]Place, uint64) {
	v := c.version.Load()
	if p := c.places.Load(); p != nil {
		return *p, v
	}
	return nil, v
}

// Run tells Config.OnExit of the end of watched processes until ctx ends. Without it, they are noticed on the next tick.
func (c *Components) Run(ctx context.Context) error { return c.exits.run(ctx) }

func (c *Components) slow() *componentsSlow { return &c.later }

func (c *Components) Read(t *metric.Table, now time.Time) error {
	if l := c.pending.Swap(nil); l != nil {
		c.apply(t, *l)
	}
	if len(c.list) == 0 {
		c.report()
		return nil
	}
	c.gone = c.exits.take(c.gone[:0])
	for _, pid := range c.gone {
		if p := c.byPID[pid]; p != nil {
			p.exited = true
		}
	}
	if err := c.find(now); err != nil {
		for _, w := range c.list {
			w.end(t)
		}
		return err
	}
	for _, p := range c.all {
		c.members.read(p)
	}
	for _, w := range c.list {
		for _, p := range w.members {
			w.cpu += p.cpuDelta
			w.runq += p.runqDelta
		}
	}
	c.bury(now)
	for _, w := range c.list {
		c.publish(t, w)
	}
	c.report()
	return nil
}

// bury drops the processes that have ended.
func (c *Components) bury(now time.Time) {
	kept := c.all[:0]
	for _, p := range c.all {
		if !p.dead {
			kept = append(kept, p)
			continue
		}
		c.moved, c.rescan = true, true
		for _, w := range p.of {
			w.exits++
			w.remove(p)
			w.port.again = true
		}
		c.exits.ended(p.pid, now)
		delete(c.byPID, p.pid)
		c.members.close(p)
	}
	clear(c.all[len(kept):])
	c.all = kept
}

func (w *component) remove(p *member) {
	if i := slices.Index(w.members, p); i >= 0 {
		w.members = slices.Delete(w.members, i, i+1)
	}
}

func (w *component) end(t *metric.Table) {
	w.slots.end(t)
	w.delay.end(t)
	w.fds.end(t)
}

// publish sets the series of a component. One that could not be looked for has none; one that does not run has zeros.
func (c *Components) publish(t *metric.Table, w *component) {
	if w.problem != "" || w.isHost() {
		w.end(t)
		return
	}
	var rss, threads int64
	scheduled := false
	for _, p := range w.members {
		rss += p.rss
		threads += p.threads
		scheduled = scheduled || p.scheduled
	}
	if len(w.slots) == 0 {
		w.slots.start(t,
			c.desc("evenkeel_component_cpu_seconds_total", jiffies, "component", w.Component),
			c.desc("evenkeel_component_memory_bytes", metric.Scale{Mul: c.page}, "component", w.Component),
			c.desc("evenkeel_component_processes", one, "component", w.Component),
			c.desc("evenkeel_component_threads", one, "component", w.Component),
			c.desc("evenkeel_component_exits_total", one, "component", w.Component),
		)
	}
	t.Set(w.slots[compCPU], w.cpu)
	t.Set(w.slots[compMemory], rss)
	t.Set(w.slots[compProcesses], int64(len(w.members)))
	t.Set(w.slots[compThreads], threads)
	t.Set(w.slots[compExits], w.exits)
	if scheduled && len(w.delay) == 0 {
		w.delay.start(t, c.desc("evenkeel_component_runqueue_seconds_total", nanos, "component", w.Component))
	}
	if len(w.delay) > 0 {
		t.Set(w.delay[0], w.runq)
	}
}

func (w *component) isHost() bool { return w.Target == command.Target{} }

// report publishes the places if any of them changed.
func (c *Components) report() {
	if !c.moved {
		return
	}
	c.moved = false
	changed := c.places.Load() == nil || len(*c.places.Load()) != len(c.list)
	for _, w := range c.list {
		p := Place{Component: w.Component, Problem: w.problem, Processes: len(w.members), Running: len(w.members) > 0, Cgroup: w.cgroup}
		if w.isHost() {
			p.Running, p.Cgroup = w.problem == "", "/"
		}
		if p != w.place {
			w.place, changed = p, true
		}
	}
	if !changed {
		return
	}
	l := make([]Place, 0, len(c.list))
	for _, w := range c.list {
		l = append(l, w.place)
	}
	c.places.Store(&l)
	c.version.Add(1)
}

// apply takes over a new list.
func (c *Components) apply(t *metric.Table, l []Watch) {
	l = slices.DeleteFunc(l, func(w Watch) bool { return w.Target.Check != nil || w.Component == "" })
	slices.SortStableFunc(l, func(a, b Watch) int { return strings.Compare(a.Component, b.Component) })
	l = slices.CompactFunc(l, func(a, b Watch) bool { return a.Component == b.Component })
	old := c.list
	c.list, c.exes = nil, nil
	var cgroups []string
	for i, w := range l {
		var n *component
		if j := slices.IndexFunc(old, func(o *component) bool { return o.Component == w.Component && o.Target.Equal(w.Target) }); j >= 0 {
			n = old[j]
			old = slices.Delete(old, j, j+1)
		} else {
			n = &component{Watch: w, since: int64(c.since() / (10 * time.Millisecond)), sum: math.MaxUint64}
		}
		n.problem = ""
		if i >= maxWatches {
			n.problem = "more components than an agent watches"
		} else {
			n.problem = c.prepare(n)
		}
		n.invalid = n.problem != ""
		if w.Target.Cgroup != "" {
			cgroups = append(cgroups, strings.TrimSuffix(w.Target.Cgroup, "/"))
		}
		c.list = append(c.list, n)
	}
	for _, o := range old {
		for len(o.members) > 0 {
			c.detach(o, o.members[len(o.members)-1])
		}
		o.end(t)
		o.closeDirs()
	}
	slices.Sort(cgroups)
	c.units.declare(slices.Compact(cgroups))
	for i := range c.table.all {
		c.table.all[i].exe = exeUnknown // the numbers of the executables have changed
	}
	c.lookAll, c.resolved, c.rescan, c.moved = time.Time{}, 0, true, true
}

// prepare works out what of a target can be worked out once, and returns what is wrong with it.
func (c *Components) prepare(w *component) string {
	switch t := w.Target; {
	case t.Process != nil:
		if w.exe = int16(slices.Index(c.exes, t.Process.Exe)); w.exe < 0 {
			w.exe = int16(len(c.exes))
			c.exes = append(c.exes, t.Process.Exe)
		}
		w.anyUser = t.Process.User == ""
		if !w.anyUser {
			uid, err := lookupUser(t.Process.User)
			if err != nil {
				return err.Error()
			}
			w.user = uid
		}
	case t.Port != "":
		port, err := parsePort(t.Port)
		if err != nil {
			return err.Error()
		}
		w.port = port
	case t.Unit != "", t.Cgroup != "":
		if c.layout.version == "none" {
			return "this host has no cgroups"
		}
		if t.Cgroup != "" && (t.Cgroup[0] != '/' || strings.Contains(t.Cgroup+"/", "/../") || strings.IndexByte(t.Cgroup, 0) >= 0) {
			return "not a path of a cgroup"
		}
	}
	return ""
}

// attach makes pid a member of w.
func (c *Components) attach(w *component, pid int32) {
	p := c.byPID[pid]
	if p == nil {
		if c.table.open() != nil {
			return
		}
		var ok bool
		if p, ok = c.members.open(pid, w.since); !ok {
			return
		}
		c.byPID[pid] = p
		c.all = append(c.all, p)
	}
	p.of = append(p.of, w)
	w.members = append(w.members, p)
	c.exits.add(pid, w.Component, func() bool {
		var s procStat
		return c.members.readStat(p, &s) && s.start == p.start
	})
	c.moved = true
}

// detach takes a process that goes on from w.
func (c *Components) detach(w *component, p *member) {
	w.remove(p)
	p.of = slices.DeleteFunc(p.of, func(o *component) bool { return o == w })
	c.exits.forget(p.pid, w.Component)
	if len(p.of) == 0 {
		delete(c.byPID, p.pid)
		c.members.close(p)
		if i := slices.Index(c.all, p); i >= 0 {
			c.all = slices.Delete(c.all, i, i+1)
		}
	}
	c.moved = true
}

func (w *component) closeDirs() {
	for i := range w.dirs {
		w.dirs[i].close()
	}
	w.dirs, w.dir = nil, ""
}

func (c *Components) files() []File {
	var l []File
	if len(c.list) > 0 {
		l = append(l, File{c.load.name(), c.period, OpRead})
	}
	for _, w := range c.list {
		for i := range w.dirs {
			l = append(l, File{w.dirs[i].name(), c.period, OpRead})
		}
	}
	for _, p := range c.all {
		dir := c.table.proc + "/" + itoa(p.pid)
		l = append(l, File{dir + "/stat", c.period, OpRead}, File{dir + "/fd", c.later.period, OpList})
		for i := range p.list {
			l = append(l, File{dir + "/task/" + itoa(p.list[i].tid) + "/schedstat", c.period, OpRead})
		}
	}
	return l
}

func (c *Components) close() {
	c.exits.close()
	for _, p := range c.all {
		c.members.close(p)
	}
	for _, w := range c.list {
		w.closeDirs()
	}
	c.all, c.list, c.byPID = nil, nil, map[int32]*member{}
	c.load.close()
	c.table.close()
}

// componentsSlow counts the open files of the components' processes.
type componentsSlow struct {
	base
	c *Components
}

func (s *componentsSlow) Read(t *metric.Table, _ time.Time) error {
	for _, w := range s.c.list {
		if w.problem != "" || w.isHost() {
			continue
		}
		var n int64
		denied := false
		for _, p := range w.members {
			v, errno := s.c.members.descriptors(p.pid, s.c.sizes)
			if errno != 0 && errno != unix.ENOENT && errno != unix.ESRCH {
				denied = true
				break
			}
			n += v
		}
		if denied {
			w.fds.end(t) // another user's, and the agent has no right to look
			continue
		}
		if len(w.fds) == 0 {
			w.fds.start(t, s.desc("evenkeel_component_fds", one, "component", w.Component))
		}
		t.Set(w.fds[0], n)
	}
	return nil
}
