package probe

import (
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// units reads cgroups: each first-level one, the services below systemd's slices, and those that components declare. It
// is two probes over one list: what moves each second, and what is dear to read or moves slowly.
type units struct {
	base
	layout layout
	limit  int
	l      lister

	list     []*unit // by path
	declared []string
	looked   time.Time    // when the hierarchies were last walked
	again    bool         // a unit went away, or the declared ones changed: walk them on this tick
	sum      uint64       // over the names found by the last walk
	paths    []string     // found by the last walk
	over     atomic.Int64 // found beyond limit; read by Absent
	path     []byte       // of the folder being walked
	later    unitsSlow
}

// unit is one cgroup.
type unit struct {
	path  string
	fast  []source
	slow  []source
	usage int64 // memory, for the working set
	gone  bool
}

type unitsSlow struct {
	base
	u *units
}

func newUnits(r *reader, l layout, limit int) *units {
	u := &units{base: base{"units", groupUnits, fast, r}, layout: l, limit: limit}
	u.later = unitsSlow{base{"units-slow", groupUnitsSlow, slow, r}, u}
	return u
}

func (u *units) slow() *unitsSlow { return &u.later }

// declare names the cgroups that are shown wherever they stand. It is called by the goroutine that reads.
func (u *units) declare(paths []string) {
	if !slices.Equal(paths, u.declared) {
		u.declared, u.again = slices.Clone(paths), true
	}
}

func (u *units) Read(t *metric.Table, now time.Time) error {
	if u.again || u.looked.IsZero() || now.Sub(u.looked) >= slow || now.Before(u.looked) {
		u.looked = now
		u.discover(t)
	}
	for _, w := range u.list {
		for i := range w.fast {
			u.read(t, &u.base, w, &w.fast[i])
		}
	}
	u.sweep(t)
	return nil
}

func (s *unitsSlow) Read(t *metric.Table, _ time.Time) error {
	for _, w := range s.u.list {
		for i := range w.slow {
			s.u.read(t, &s.base, w, &w.slow[i])
		}
	}
	s.u.sweep(t)
	return nil
}

// read takes one file of a unit. A cgroup that is gone answers "no such device" to a file that is still open.
func (u *units) read(t *metric.Table, p *base, w *unit, s *source) {
	b, errno := u.r.readFD(s.file.fd, s.file.lines)
	if errno == syscall.ENODEV || errno == syscall.ENOENT {
		w.gone = true
		return
	}
	if errno != 0 || !s.parse(t, p, w, b) {
		// Not this file then; the rest of the unit goes on, and this one comes back when it can be read.
		s.slots.end(t)
	}
}

// sweep ends the units that are gone.
func (u *units) sweep(t *metric.Table) {
	for i := 0; i < len(u.list); {
		if w := u.list[i]; w.gone {
			w.end(t)
			u.list = slices.Delete(u.list, i, i+1)
			u.again = true
			continue
		}
		i++
	}
}

func (w *unit) end(t *metric.Table) {
	for _, l := range [...][]source{w.fast, w.slow} {
		for i := range l {
			l[i].slots.end(t)
			l[i].file.close()
		}
	}
}

// discover walks the hierarchies and, if anything changed, opens what is new and ends what went.
func (u *units) discover(t *metric.Table) {
	sum := uint64(fnvOffset)
	for _, h := range u.layout.hierarchies() {
		u.path = append(u.path[:0], h...)
		sum = u.walk(sum, len(h), 0, nil)
	}
	if sum == u.sum && !u.again {
		return
	}
	u.sum, u.again, u.paths = sum, false, u.paths[:0]
	for _, h := range u.layout.hierarchies() {
		u.path = append(u.path[:0], h...)
		u.walk(0, len(h), 0, func(path []byte) { u.paths = append(u.paths, string(path)) })
	}
	slices.Sort(u.paths)
	u.paths = slices.Compact(u.paths)
	over := max(0, len(u.paths)-u.limit)
	u.over.Store(int64(over))
	u.paths = u.paths[:len(u.paths)-over]
	for _, p := range u.declared {
		if _, ok := u.layout.find(p); ok && p != "/" && !slices.Contains(u.paths, p) {
			u.paths = append(u.paths, p)
		}
	}
	slices.Sort(u.paths)

	old := u.list
	u.list = make([]*unit, 0, len(u.paths))
	for _, p := range u.paths {
		if i := slices.IndexFunc(old, func(w *unit) bool { return w.path == p }); i >= 0 {
			u.list = append(u.list, old[i])
			old = slices.Delete(old, i, i+1)
		} else if w := u.open(p); len(w.fast)+len(w.slow) > 0 {
			u.list = append(u.list, w)
		}
	}
	for _, w := range old {
		w.end(t)
	}
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
	maxDepth  = 4
)

// walk goes through the folder u.path, whose first root bytes are the hierarchy, and through the slices in it. It calls
// found, if any, for each unit and adds the names to sum.
func (u *units) walk(sum uint64, root, depth int, found func(path []byte)) uint64 {
	u.path = append(u.path, 0)
	fd, errno := openAt(unix.AT_FDCWD, u.path, unix.O_RDONLY|unix.O_DIRECTORY)
	u.path = u.path[:len(u.path)-1]
	if errno != 0 {
		return sum
	}
	defer closeFD(fd)
	// Slices are gone through after the folder was listed, since the lister has one buffer.
	var slices [16]string
	n := 0
	end := len(u.path)
	u.l.list(fd, func(name []byte, dir bool) bool {
		slice := hasSuffix(name, ".slice")
		if !dir || depth > 0 && !slice && !hasSuffix(name, ".service") {
			return true
		}
		for _, c := range name {
			sum = (sum ^ uint64(c)) * fnvPrime
		}
		sum = (sum ^ '/') * fnvPrime
		u.path = append(append(u.path, '/'), name...)
		if found != nil {
			found(u.path[root:])
		}
		u.path = u.path[:end]
		// user.slice holds the users' own service managers, whose units share names.
		if slice && string(name) != "user.slice" && depth < maxDepth && n < len(slices) {
			slices[n] = u.intern(name)
			n++
		}
		return true
	})
	for _, s := range slices[:n] {
		u.path = append(append(u.path[:end], '/'), s...)
		sum = u.walk(sum, root, depth+1, found)
	}
	u.path = u.path[:end]
	return sum
}

// intern returns name as text, without allocation for the slices that every systemd host has, and those of known units.
func (u *units) intern(name []byte) string {
	switch string(name) {
	case "system.slice":
		return "system.slice"
	case "machine.slice":
		return "machine.slice"
	}
	for _, p := range u.paths {
		if len(p) > len(name) && p[len(p)-len(name)-1] == '/' && p[len(p)-len(name):] == string(name) {
			return p[len(p)-len(name):]
		}
	}
	return string(name)
}

func hasSuffix(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && string(b[len(b)-len(suffix):]) == suffix
}

// unitPath finds the systemd unit called name below the hierarchy that holds its processes, or the one for the cpu.
func (u *units) unitPath(name string) (string, bool) {
	best := ""
	for _, h := range u.layout.hierarchies() {
		u.path = append(u.path[:0], h...)
		u.walk(0, len(h), 0, func(path []byte) {
			if best == "" && hasSuffix(path, name) && len(path) > len(name) && path[len(path)-len(name)-1] == '/' {
				best = string(path)
			}
		})
		if best != "" {
			return best, true
		}
	}
	return "", false
}

// open opens the files of the cgroup at path.
func (u *units) open(path string) *unit {
	w := &unit{path: path}
	label := unitName(path)
	add := func(to *[]source, k kind, dir, name string) bool {
		if dir == "" {
			return false
		}
		s := source{kind: k, unit: label, file: newFile(filepath.Join(dir+path, name), k == kindBlkio || k == kindIO)}
		if err := s.file.open(); err != nil {
			return false
		}
		*to = append(*to, s)
		return true
	}
	if l := &u.layout; l.version == "v2" {
		add(&w.fast, kindCPU, l.cpu, "cpu.stat")
		add(&w.fast, kindMemory, l.memory, "memory.current")
		add(&w.slow, kindMemoryStat, l.memory, "memory.stat")
		add(&w.slow, kindMemoryMax, l.memory, "memory.max")
		add(&w.slow, kindOOM, l.memory, "memory.events")
		add(&w.slow, kindIO, l.io, "io.stat")
	} else {
		add(&w.fast, kindUsage, l.cpuacct, "cpuacct.usage")
		add(&w.fast, kindThrottle, l.cpu, "cpu.stat")
		add(&w.fast, kindMemory, l.memory, "memory.usage_in_bytes")
		add(&w.slow, kindMemoryStat1, l.memory, "memory.stat")
		add(&w.slow, kindOOM, l.memory, "memory.oom_control")
		if !add(&w.slow, kindBlkio, l.io, "blkio.throttle.io_service_bytes_recursive") {
			add(&w.slow, kindBlkio, l.io, "blkio.throttle.io_service_bytes")
		}
	}
	add(&w.slow, kindPids, u.layout.pids, "pids.current")
	add(&w.fast, kindPressureCPU, u.layout.pressure, "cpu.pressure")
	add(&w.fast, kindPressureMemory, u.layout.pressure, "memory.pressure")
	add(&w.fast, kindPressureIO, u.layout.pressure, "io.pressure")
	return w
}

func (u *units) files() []File {
	var l []File
	for _, w := range u.list {
		for i := range w.fast {
			l = append(l, File{w.fast[i].file.name(), u.period, OpRead})
		}
		for i := range w.slow {
			l = append(l, File{w.slow[i].file.name(), u.later.period, OpRead})
		}
	}
	for _, h := range u.layout.hierarchies() {
		l = append(l, File{h, slow, OpList})
	}
	return l
}

func (u *units) close() {
	for _, w := range u.list {
		for _, l := range [...][]source{w.fast, w.slow} {
			for i := range l {
				l[i].file.close()
			}
		}
	}
	u.list = nil
}

// memberDir returns the folder in which the processes of a cgroup are listed.
func (l *layout) memberDir(path string, unit bool) (string, bool) {
	if unit && l.members != "" {
		if dir, ok := l.findIn(l.members, path); ok {
			return dir, true
		}
	}
	return l.find(path)
}

func (l *layout) findIn(hierarchy, path string) (string, bool) {
	one := layout{members: hierarchy}
	return one.find(strings.TrimSuffix(path, "/"))
}
