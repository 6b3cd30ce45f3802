package probe

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tableAge is how old the table of processes may get before components read it again. It is a little more than the
// period of the probe of the top processes, which then does it.
const tableAge = slow + fast/2

// rescanAfter is the least time between two looks at all processes when something is suspected.
const rescanAfter = 2 * time.Second

// maxGap is how many pids given out within one tick are asked for one by one, where they cannot be listed.
const maxGap = 256

// find brings the members of all components up to date.
func (c *Components) find(now time.Time) error {
	walk := c.lookAll.IsZero() || now.Sub(c.lookAll) >= slow || now.Before(c.lookAll)
	if walk {
		c.lookAll = now
	}
	tree := false
	for _, w := range c.list {
		switch {
		case w.invalid:
		case w.Target.Unit != "", w.Target.Cgroup != "":
			c.followCgroup(w, walk, now)
		case w.Target.Process != nil, w.Target.Port != "":
			tree = true
		}
	}
	if !tree {
		return nil
	}
	fresh, err := c.lookAtProcesses(now)
	if err != nil {
		return err
	}
	if !fresh && c.resolved == c.table.gen {
		return nil
	}
	scanned := c.resolved != c.table.gen
	c.resolved = c.table.gen
	for _, w := range c.list {
		switch {
		case w.invalid:
			continue
		case w.Target.Process != nil:
			c.followProcess(w)
		case w.Target.Port != "":
			c.followPort(w, scanned)
		default:
			continue
		}
		if scanned || c.moved {
			c.locate(w)
		}
	}
	return nil
}

// lookAtProcesses refreshes the table of processes if it is old or something is suspected, else adds the processes that
// started since the last tick. It reports whether there is anything to resolve.
func (c *Components) lookAtProcesses(now time.Time) (fresh bool, err error) {
	last := c.last
	if b, err := c.r.read(&c.load); err == nil {
		if pid, ok := lastPID(b); ok {
			c.last = pid
		}
	}
	gap := int64(c.last) - int64(last)
	age := now.Sub(c.table.at)
	if gap < 0 || gap > maxGap && c.table.shift < 0 {
		c.rescan = true // the numbers began again, or there are too many to ask for
	}
	if c.table.at.IsZero() || age >= tableAge || age < 0 || c.rescan && age >= rescanAfter {
		c.rescan = false
		return true, c.table.refresh(now)
	}
	for i := range c.table.all {
		if p := &c.table.all[i]; p.young > 0 {
			// It was forked a moment ago and may have turned into something else by exec.
			p.young--
			p.exe, fresh = exeUnknown, true
		}
	}
	if gap > 0 {
		c.table.listAfter(last, c.last)
		for _, pid := range c.table.pids {
			if c.table.insert(pid) {
				fresh = true
			}
		}
	}
	return fresh, nil
}

// followProcess finds the processes that run the executable, and everything below them. Who belonged stays, even if its
// parent has ended and init took it over.
func (c *Components) followProcess(w *component) {
	c.mark++
	for i := range c.table.all {
		p := &c.table.all[i]
		if p.exe == exeUnknown {
			p.exe = c.table.executable(p.pid, c.exes)
		}
		if p.exe != w.exe || p.state == 'Z' {
			continue
		}
		if !w.anyUser {
			if uid, ok := c.table.owner(p.pid); !ok || uid != w.user {
				continue
			}
		}
		p.mark = c.mark
	}
	c.gather(w)
}

// gather makes members of what carries the mark and of all below it.
func (c *Components) gather(w *component) {
	for _, m := range w.members {
		if i, ok := c.table.index(m.pid); ok && c.table.all[i].start == m.start {
			c.table.all[i].mark = c.mark
		}
	}
	c.table.descend(c.mark)
	for i := range c.table.all {
		p := &c.table.all[i]
		if p.mark == c.mark && p.state != 'Z' && p.state != 'X' && !c.belongs(w, p.pid, p.start) {
			c.attach(w, p.pid)
		}
	}
}

// belongs reports whether pid is a member of w. A member with that pid that started at another time has ended; it makes
// room on this tick and the new process is found on the next.
func (c *Components) belongs(w *component, pid int32, start int64) bool {
	m := c.byPID[pid]
	if m == nil {
		return false
	}
	return m.start != start || slices.Contains(m.of, w)
}

// followCgroup reads which processes are in the cgroup of a target and below it.
func (c *Components) followCgroup(w *component, walk bool, now time.Time) {
	if walk || len(w.dirs) == 0 && now.Sub(w.walked) >= rescanAfter {
		w.walked = now
		c.walkCgroup(w)
	}
	c.mark++
	for i := range w.dirs {
		b, err := c.r.read(&w.dirs[i])
		// On cgroup v1 an open cgroup.procs answers from a list that the kernel keeps as long as it is read once a second: a
		// process that came later would never be seen.
		w.dirs[i].close()
		if err != nil {
			if i == 0 {
				w.closeDirs() // it was removed, and may be made anew
				break
			}
			continue // one below was removed; the next walk leaves it out
		}
		for at := 0; at < len(b); at++ {
			pid, next, ok := number(b, at)
			at = next
			if !ok || pid <= 0 || pid > 1<<30 {
				continue // 0 is a process that this namespace has no number for
			}
			m := c.byPID[int32(pid)]
			if m == nil || !slices.Contains(m.of, w) {
				// attach may read files into the same buffer, so the rest is read afresh afterwards.
				c.ports.pids = append(c.ports.pids[:0], int32(pid))
				for at++; at < len(b); at++ {
					if pid, next, ok = number(b, at); ok && pid > 0 && pid <= 1<<30 {
						c.ports.pids = append(c.ports.pids, int32(pid))
					}
					at = next
				}
				for _, pid := range c.ports.pids {
					if m := c.byPID[pid]; m == nil || !slices.Contains(m.of, w) {
						c.attach(w, pid)
					}
					if m := c.byPID[pid]; m != nil {
						m.mark = c.mark
					}
				}
				break
			}
			m.mark = c.mark
		}
	}
	for i := 0; i < len(w.members); {
		m := w.members[i]
		if m.mark != c.mark {
			var s procStat
			if c.members.readStat(m, &s) && s.start == m.start && s.state != 'Z' && s.state != 'X' && !m.exited {
				c.detach(w, m) // it was moved to another cgroup
				continue
			}
		}
		i++
	}
}

// walkCgroup finds the folder of a target and those below it.
func (c *Components) walkCgroup(w *component) {
	if w.dir == "" || !c.subtree(w.dir) {
		path, unit := w.Target.Cgroup, w.Target.Unit != ""
		if unit {
			found, ok := c.units.unitPath(w.Target.Unit)
			if !ok {
				c.lost(w, "")
				return
			}
			path = found
		}
		dir, ok := c.layout.memberDir(path, unit)
		if !ok || !c.subtree(dir) {
			// A unit that is stopped has no cgroup: its component does not run, which is no problem. Any other cgroup
			// that is not there may be misspelt.
			if !unit {
				c.lost(w, "no such cgroup")
			} else {
				c.lost(w, "")
			}
			return
		}
		w.closeDirs()
		w.dir, w.cgroup, w.problem, c.moved = dir, path, "", true
	}
	sum := uint64(fnvOffset)
	for _, b := range c.arena {
		sum = (sum ^ uint64(b)) * fnvPrime
	}
	if sum == w.sum && len(w.dirs) > 0 {
		return
	}
	dir := w.dir
	w.closeDirs()
	w.dir, w.sum = dir, sum
	from := 0
	for _, end := range c.ends {
		w.dirs = append(w.dirs, newFile(string(c.arena[from:end-1])+"/cgroup.procs", true))
		from = end
	}
}

// lost says that the cgroup of w is not on this host now.
func (c *Components) lost(w *component, problem string) {
	if w.problem != problem || w.cgroup != "" {
		c.moved = true
	}
	w.closeDirs()
	w.problem, w.cgroup = problem, ""
}

// maxSubtree bounds the cgroups below a target that are looked into.
const maxSubtree = 128

// subtree writes dir and all folders below it to the arena, each with a zero byte at its end. It reports whether dir is
// there.
func (c *Components) subtree(dir string) bool {
	c.arena = append(append(c.arena[:0], dir...), 0)
	c.ends = append(c.ends[:0], len(c.arena))
	from := 0
	for n := 0; n < len(c.ends); n++ {
		to := c.ends[n]
		fd, errno := openAt(unix.AT_FDCWD, c.arena[from:to], unix.O_RDONLY|unix.O_DIRECTORY)
		if errno != 0 && n == 0 {
			return false
		}
		if errno == 0 {
			c.members.l.list(fd, func(name []byte, isDir bool) bool {
				if isDir && len(c.ends) < maxSubtree {
					c.arena = append(c.arena, c.arena[from:to-1]...)
					c.arena = append(append(append(c.arena, '/'), name...), 0)
					c.ends = append(c.ends, len(c.arena))
				}
				return true
			})
			closeFD(fd)
		}
		from = to
	}
	return true
}

// maxLocated bounds the processes whose cgroups are compared.
const maxLocated = 64

// locate finds the deepest cgroup that is above all members.
func (c *Components) locate(w *component) {
	w.common = w.common[:0]
	for n, p := range w.members {
		if n >= maxLocated {
			break
		}
		b, errno := c.table.read(p.pid, "cgroup", true)
		if errno != 0 {
			continue
		}
		path, ok := cpuPath(b)
		if !ok {
			continue
		}
		if len(w.common) == 0 {
			w.common = append(w.common, path...)
		}
		w.common = w.common[:commonPath(w.common, path)]
	}
	if w.cgroup != string(w.common) {
		w.cgroup, c.moved = string(w.common), true
	}
}

// commonPath returns how much of a is a path above b as well, or b itself; at least the root.
func commonPath(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if (n == len(a) || a[n] == '/') && (n == len(b) || b[n] == '/') {
		return max(n, min(1, len(a)))
	}
	for n > 0 && a[n-1] != '/' {
		n--
	}
	if n > 1 {
		n--
	}
	return max(n, min(1, len(a)))
}

func lookupUser(name string) (uint32, error) {
	if v, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(v), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("no user %s on this host", name)
	}
	v, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("user %s has no number", name)
	}
	return uint32(v), nil
}

func itoa(v int32) string { return strconv.Itoa(int(v)) }
