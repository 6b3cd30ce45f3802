package probe

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processTable is the list of all processes, read by whoever needs it next and shared by the rest: the top ones and the
// finding of components. Reading it costs some 8 microseconds a process, so nobody reads it each second.
type processTable struct {
	r    *reader
	l    lister
	proc string
	fd   int // of proc, -1 while closed

	at    time.Time // of the last refresh; zero before the first
	gen   uint64    // rises with each refresh
	all   []process // by pid
	spare []process
	pids  []int32
	// shift is the position of a process in the folder less its pid, where the kernel keeps that the same for all, as
	// procfs does: then new processes are listed without the old ones. Otherwise it is negative.
	shift int64
	path  []byte // scratch
	link  []byte // scratch
}

// process is what the table keeps of one process. It never holds arguments or environment.
type process struct {
	procStat
	topCPU int64 // at the last reading of the top ones
	mark   uint64
	exe    int16 // index of the watched executable, or one of the below
	young  uint8 // ticks during which it may still change by exec
	name   [16]byte
	length uint8
}

const (
	exeUnknown int16 = -2 - iota
	exeOther
)

func (p *process) comm() []byte { return p.name[:p.length] }

// procStat is what is read of /proc/PID/stat.
type procStat struct {
	pid, ppid int32
	state     byte
	thread    bool  // not a process of its own
	cpu       int64 // user and system, in jiffies
	threads   int64
	start     int64 // in jiffies since boot
	rss       int64 // pages
}

func newProcessTable(r *reader, proc string) *processTable {
	return &processTable{r: r, proc: proc, fd: -1, link: make([]byte, 4096)}
}

func (t *processTable) open() error {
	if t.fd >= 0 {
		return nil
	}
	fd, errno := openAt(unix.AT_FDCWD, append([]byte(t.proc), 0), unix.O_RDONLY|unix.O_DIRECTORY)
	if errno != 0 {
		return &os.PathError{Op: "open", Path: t.proc, Err: errno}
	}
	t.fd = fd
	return nil
}

func (t *processTable) close() {
	if t.fd >= 0 {
		closeFD(t.fd)
		t.fd = -1
	}
}

// file returns the zero-terminated path of a file of a process below proc, valid until the next call.
func (t *processTable) file(pid int32, name string) []byte {
	t.path = strconv.AppendInt(t.path[:0], int64(pid), 10)
	t.path = append(t.path, '/')
	t.path = append(t.path, name...)
	t.path = append(t.path, 0)
	return t.path
}

// read opens, reads and closes a file of a process. The result is valid until the next read.
func (t *processTable) read(pid int32, name string, lines bool) ([]byte, syscall.Errno) {
	fd, errno := openAt(t.fd, t.file(pid, name), unix.O_RDONLY)
	if errno != 0 {
		return nil, errno
	}
	b, errno := t.r.readFD(fd, lines)
	closeFD(fd)
	return b, errno
}

// refresh reads all processes.
func (t *processTable) refresh(now time.Time) error {
	if err := t.open(); err != nil {
		return err
	}
	if errno := t.listAll(); errno != 0 {
		t.close()
		return &os.PathError{Op: "list", Path: t.proc, Err: errno}
	}
	slices.Sort(t.pids)
	fresh, old := t.spare[:0], t.all
	for _, pid := range t.pids {
		for len(old) > 0 && old[0].pid < pid {
			old = old[1:]
		}
		var before *process
		if len(old) > 0 && old[0].pid == pid {
			before = &old[0]
		}
		var p process
		if t.examine(pid, &p, before) {
			if t.at.IsZero() {
				p.topCPU = p.cpu // what it used before we looked is no news
			}
			fresh = append(fresh, p)
		}
	}
	t.spare, t.all = t.all, fresh
	t.at = now
	t.gen++
	return nil
}

// listAll fills pids with all processes and learns shift.
func (t *processTable) listAll() syscall.Errno {
	t.pids, t.shift = t.pids[:0], -1
	var position int64 // of the current entry
	regular := true
	errno := t.l.list(t.fd, func(name []byte, _ bool) bool {
		if pid, ok := pidOf(name); ok {
			t.pids = append(t.pids, pid)
			switch shift := position - int64(pid); {
			case len(t.pids) == 1:
				t.shift = shift
			case t.shift != shift:
				regular = false
			}
		}
		position = t.l.next
		return true
	})
	if !regular || len(t.pids) < 2 {
		t.shift = -1
	}
	return errno
}

// listAfter fills pids with the processes whose pids are above last and at most to. Threads have pids of that range too:
// procfs leaves them out by itself, any other folder is asked for each one.
func (t *processTable) listAfter(last, to int32) {
	t.pids = t.pids[:0]
	if t.shift < 0 {
		for pid := last + 1; pid <= to; pid++ {
			t.pids = append(t.pids, pid)
		}
		return
	}
	t.l.listFrom(t.fd, t.shift+int64(last)+1, func(name []byte, _ bool) bool {
		if pid, ok := pidOf(name); ok && pid > last {
			t.pids = append(t.pids, pid)
		}
		return true
	})
}

func pidOf(name []byte) (int32, bool) {
	if len(name) == 0 || name[0] < '1' || name[0] > '9' {
		return 0, false
	}
	v, i, ok := number(name, 0)
	return int32(v), ok && i == len(name) && v <= 1<<30
}

// examine reads one process into p, taking over what is still true of before.
func (t *processTable) examine(pid int32, p, before *process) bool {
	b, errno := t.read(pid, "stat", false)
	if errno != 0 {
		return false
	}
	comm, ok := parseStat(b, &p.procStat)
	if !ok || p.thread {
		return false
	}
	p.pid = pid
	p.length = uint8(copy(p.name[:], comm))
	p.exe = exeUnknown
	if before != nil && before.start == p.start {
		p.topCPU, p.mark, p.young = before.topCPU, before.mark, before.young
		if p.young == 0 && bytes.Equal(before.comm(), p.comm()) {
			p.exe = before.exe
		}
	}
	return true
}

// insert examines one pid that may be new. It reports whether the table grew.
func (t *processTable) insert(pid int32) bool {
	i, found := t.index(pid)
	var before *process
	if found {
		before = &t.all[i]
	}
	var p process
	if !t.examine(pid, &p, before) {
		return false
	}
	if found {
		same := before.start == p.start
		*before = p
		return !same
	}
	p.young = 3
	t.all = slices.Insert(t.all, i, p)
	return true
}

func (t *processTable) index(pid int32) (int, bool) {
	lo, hi := 0, len(t.all)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.all[mid].pid < pid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(t.all) && t.all[lo].pid == pid
}

// executable says which of the paths the process runs: an index, or exeOther. A process whose file was replaced by an
// upgrade still runs the old one, which the kernel then calls "deleted".
func (t *processTable) executable(pid int32, paths []string) int16 {
	n, errno := readLink(t.fd, t.file(pid, "exe"), t.link)
	if errno != 0 {
		return exeOther
	}
	const deleted = " (deleted)"
	exe := t.link[:n]
	for i, p := range paths {
		if string(exe) == p || len(exe) == len(p)+len(deleted) && string(exe[:len(p)]) == p && string(exe[len(p):]) == deleted {
			return int16(i)
		}
	}
	return exeOther
}

// owner returns the user that the process runs as.
func (t *processTable) owner(pid int32) (uid uint32, ok bool) {
	fd, errno := openAt(t.fd, t.file(pid, "."), unix.O_PATH|unix.O_DIRECTORY)
	if errno != 0 {
		return 0, false
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, false
	}
	return st.Uid, true
}

// descend marks everything below the processes that carry mark.
func (t *processTable) descend(mark uint64) {
	for again := true; again; {
		again = false
		for i := range t.all {
			p := &t.all[i]
			if p.mark == mark || p.ppid <= 2 {
				continue // children of init and kernel threads belong to nobody
			}
			if j, ok := t.index(p.ppid); ok && t.all[j].mark == mark {
				// A child that has a lower pid than its parent may itself have been passed already.
				p.mark, again = mark, true
			}
		}
	}
}

// parseStat reads /proc/PID/stat into s and returns the name of the process. The name may hold anything, brackets and
// spaces included, so the last bracket ends it.
func parseStat(b []byte, s *procStat) (comm []byte, ok bool) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open || shut+3 >= len(b) {
		return nil, false
	}
	pid, _, ok := number(b, 0)
	if !ok {
		return nil, false
	}
	s.pid, s.state = int32(pid), b[shut+2]
	// Field 4 comes next; 14 and 15 are the times, 20 threads, 22 start, 24 rss, 38 the signal that its end sends.
	i := shut + 3
	var cpu int64
	for field := 4; field <= 38; field++ {
		v, next, good := number(b, i)
		if !good {
			return nil, false
		}
		i = next
		switch field {
		case 4:
			s.ppid = int32(v)
		case 14, 15:
			cpu += v
		case 20:
			s.threads = v
		case 22:
			s.start = v
		case 24:
			s.rss = v
		case 38:
			s.thread = v == -1 // threads send none, and only they
		}
	}
	s.cpu = cpu
	return b[open+1 : shut], true
}

// lastPID reads the pid given out last from /proc/loadavg: "0.56 0.72 0.71 1/94 15249".
func lastPID(b []byte) (int32, bool) {
	b = bytes.TrimRight(b, "\n")
	i := bytes.LastIndexByte(b, ' ')
	v, _, ok := number(b, i+1)
	return int32(v), ok && i > 0 && v >= 0 && v <= 1<<30
}

// text makes a label value of a process name, which the kernel does not promise to be UTF-8.
func text(b []byte) string { return strings.ToValidUTF8(string(b), "?") }
