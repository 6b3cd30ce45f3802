package probe

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// member is a process that belongs to at least one watched component. Its files stay open, so that a pid used again for
// another process is never mistaken for it.
type member struct {
	pid     int32
	start   int64
	newborn bool // it started under our eyes: all of its time counts
	first   bool // not read yet
	exited  bool // its pidfd said so
	dead    bool // to be dropped at the end of this tick
	mark    uint64
	of      []*component

	stat  int // descriptors; -1 where the budget is used up
	tasks int
	list  []task

	procStat
	cpuDelta, runqDelta int64 // of this tick
	scheduled           bool  // the kernel tells run-queue delays
}

// task is one thread.
type task struct {
	tid  int32
	fd   int
	wait int64 // nanoseconds on the run queue so far
}

// members reads processes. It keeps their files open as long as the budget of descriptors lasts, and opens them each time
// beyond it.
type members struct {
	table  *processTable
	l      lister
	budget int
	path   []byte
	tids   []int32
}

// maxTasks bounds the threads that are read one by one in one process; the rest is not counted.
const maxTasks = 10000

// open makes a member of pid, or says that there is no such process.
func (m *members) open(pid int32, since int64) (*member, bool) {
	p := &member{pid: pid, first: true, stat: -1, tasks: -1}
	b, errno := m.table.read(pid, "stat", false)
	if errno != 0 {
		return nil, false
	}
	if _, ok := parseStat(b, &p.procStat); !ok || p.thread || p.state == 'Z' || p.state == 'X' {
		return nil, false
	}
	p.procStat.pid = pid
	p.start, p.newborn = p.procStat.start, p.procStat.start >= since
	return p, true
}

func (m *members) spend() bool {
	if m.budget <= 0 {
		return false
	}
	m.budget--
	return true
}

func (m *members) release(fd int) {
	if fd >= 0 {
		closeFD(fd)
		m.budget++
	}
}

func (m *members) close(p *member) {
	m.release(p.stat)
	m.release(p.tasks)
	for i := range p.list {
		m.release(p.list[i].fd)
	}
	p.stat, p.tasks, p.list = -1, -1, nil
}

// read takes the member's numbers of this tick. A process that has ended but was not yet waited for still tells its last.
func (m *members) read(p *member) {
	p.cpuDelta, p.runqDelta = 0, 0
	var now procStat
	if !m.readStat(p, &now) || now.start != p.start {
		p.dead = true
		return
	}
	before := p.procStat.cpu
	if p.first {
		if before = now.cpu; p.newborn {
			before = 0
		}
	}
	p.cpuDelta = max(0, now.cpu-before)
	if now.cpu < p.procStat.cpu && !p.first {
		now.cpu = p.procStat.cpu // the kernel rounds user and system apart
	}
	p.procStat = now
	if now.state == 'Z' || now.state == 'X' || p.exited {
		p.dead = true
		return
	}
	m.readTasks(p)
	p.first = false
}

func (m *members) readStat(p *member, s *procStat) bool {
	if p.stat < 0 {
		fd, errno := openAt(m.table.fd, m.table.file(p.pid, "stat"), unix.O_RDONLY)
		if errno != 0 {
			return false
		}
		if !m.spend() {
			b, errno := m.table.r.readFD(fd, false)
			closeFD(fd)
			if errno != 0 {
				return false
			}
			_, ok := parseStat(b, s)
			return ok
		}
		p.stat = fd
	}
	b, errno := m.table.r.readFD(p.stat, false)
	if errno != 0 {
		return false
	}
	_, ok := parseStat(b, s)
	return ok
}

// readTasks adds up how long the threads waited for a CPU since the last tick.
func (m *members) readTasks(p *member) {
	ended := false
	for i := 0; i < len(p.list); {
		k := &p.list[i]
		wait, errno := m.readWait(p, k)
		if errno != 0 {
			// The thread has ended; the order of the others does not matter.
			m.release(k.fd)
			last := len(p.list) - 1
			p.list[i] = p.list[last]
			p.list = p.list[:last]
			ended = true
			continue
		}
		if d := wait - k.wait; d > 0 {
			p.runqDelta += d
		}
		k.wait = wait
		i++
	}
	if !ended && int64(len(p.list)) == min(p.threads, maxTasks) && !p.first {
		return
	}
	m.listTasks(p)
}

// listTasks takes in the threads that are not known yet.
func (m *members) listTasks(p *member) {
	dir := p.tasks
	if dir < 0 {
		var errno syscall.Errno
		if dir, errno = openAt(m.table.fd, m.table.file(p.pid, "task"), unix.O_RDONLY|unix.O_DIRECTORY); errno != 0 {
			return
		}
		if m.spend() {
			p.tasks = dir
		} else {
			defer closeFD(dir)
		}
	}
	m.tids = m.tids[:0]
	if m.l.list(dir, func(name []byte, _ bool) bool {
		if v, i, ok := number(name, 0); ok && i == len(name) && v > 0 && v <= 1<<30 && len(m.tids) < maxTasks {
			m.tids = append(m.tids, int32(v))
		}
		return true
	}) != 0 {
		return
	}
	// Both lists are in the order of birth but for threads that ended, so the search is short.
	for n, tid := range m.tids {
		known := n < len(p.list) && p.list[n].tid == tid
		for i := 0; !known && i < len(p.list); i++ {
			known = p.list[i].tid == tid
		}
		if known || len(p.list) >= maxTasks {
			continue
		}
		k := task{tid: tid, fd: -1}
		wait, errno := m.readWait(p, &k)
		if errno != 0 {
			m.release(k.fd)
			continue
		}
		p.scheduled = true
		if !p.first || p.newborn {
			p.runqDelta += wait
		}
		k.wait = wait
		p.list = append(p.list, k)
	}
}

// readWait reads the second number of /proc/PID/task/TID/schedstat.
func (m *members) readWait(p *member, k *task) (int64, syscall.Errno) {
	fd, keep := k.fd, true
	if fd < 0 {
		m.path = strconv.AppendInt(m.path[:0], int64(p.pid), 10)
		m.path = append(m.path, "/task/"...)
		m.path = strconv.AppendInt(m.path, int64(k.tid), 10)
		m.path = append(m.path, "/schedstat\x00"...)
		var errno syscall.Errno
		if fd, errno = openAt(m.table.fd, m.path, unix.O_RDONLY); errno != 0 {
			return 0, errno
		}
		if keep = m.spend(); keep {
			k.fd = fd
		}
	}
	b, errno := m.table.r.readFD(fd, false)
	if !keep {
		closeFD(fd)
	}
	if errno != 0 {
		return 0, errno
	}
	_, i, ok := number(b, 0)
	wait, _, ok2 := number(b, i)
	if !ok || !ok2 {
		return 0, syscall.EINVAL
	}
	return wait, 0
}

// descriptors counts the open files of a process. Since Linux 6.2 the folder's size says it; before, and where size is
// false, they are listed.
func (m *members) descriptors(pid int32, size bool) (int64, syscall.Errno) {
	fd, errno := openAt(m.table.fd, m.table.file(pid, "fd"), unix.O_RDONLY|unix.O_DIRECTORY)
	if errno != 0 {
		return 0, errno
	}
	defer closeFD(fd)
	if size {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil {
			return st.Size, 0
		}
	}
	var n int64
	errno = m.l.list(fd, func([]byte, bool) bool { n++; return true })
	return n, errno
}
