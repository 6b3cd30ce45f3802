package probe

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// portWatch is a listening port and who was found to own it.
type portWatch struct {
	number uint16
	udp    bool
	inodes []uint64
	again  bool // an owner has ended: look again
}

func parsePort(s string) (portWatch, error) {
	n, proto, _ := strings.Cut(s, "/")
	v, err := strconv.ParseUint(n, 10, 16)
	if err != nil || v == 0 || proto != "tcp" && proto != "udp" {
		return portWatch{}, fmt.Errorf("%q is not a port such as 8080/tcp", s)
	}
	return portWatch{number: uint16(v), udp: proto == "udp"}, nil
}

// portFinder finds the processes behind listening sockets: the socket's inode in /proc/net, and the process that has a
// descriptor of it. The second is dear, so it is done only when the sockets changed or an owner ended.
type portFinder struct {
	table  *processTable
	tcp    [2]file // IPv4, IPv6
	udp    [2]file
	l      lister
	inodes []uint64
	pids   []int32 // scratch
	path   []byte
	link   [64]byte
}

func newPortFinder(proc string, table *processTable) portFinder {
	return portFinder{
		table: table,
		tcp:   [2]file{newFile(proc+"/net/tcp", true), newFile(proc+"/net/tcp6", true)},
		udp:   [2]file{newFile(proc+"/net/udp", true), newFile(proc+"/net/udp6", true)},
	}
}

// maxSockets bounds the sockets on one port; servers that share a port open one for each worker.
const maxSockets = 64

// listening fills f.inodes with the sockets that listen on the port.
func (f *portFinder) listening(p *portWatch) error {
	f.inodes = f.inodes[:0]
	files := &f.tcp
	if p.udp {
		files = &f.udp
	}
	var last error
	read := 0
	for i := range files {
		// Opened each time: the list may be long, and its head is all that is wanted.
		if err := files[i].open(); err != nil {
			last = err
			continue
		}
		read++
		for at := 0; at < maxFile; {
			n, errno := pread(files[i].fd, f.table.r.buf, at)
			if errno != 0 || n == 0 {
				break
			}
			b := f.table.r.buf[:n]
			end := bytes.LastIndexByte(b, '\n') + 1
			if end == 0 {
				break
			}
			at += end
			if !f.scan(p, b[:end]) {
				break
			}
		}
		files[i].close()
	}
	if read == 0 {
		return last
	}
	slices.Sort(f.inodes)
	return nil
}

// scan reads lines of /proc/net/tcp or udp and reports whether the next ones are of interest. The kernel puts the
// listening sockets of TCP first.
func (f *portFinder) scan(p *portWatch, b []byte) bool {
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		port, state, inode, ok := parseSocket(line)
		if !ok {
			continue // the heading
		}
		if !p.udp && state != 0x0A {
			return false
		}
		if port == p.number && (!p.udp || state == 0x07) && inode > 0 && len(f.inodes) < maxSockets {
			f.inodes = append(f.inodes, inode)
		}
	}
	return true
}

// parseSocket reads "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 582 1 ...".
func parseSocket(line []byte) (port uint16, state byte, inode uint64, ok bool) {
	var fields [10][]byte
	for i := range fields {
		if fields[i], line = cutField(line); len(fields[i]) == 0 {
			return 0, 0, 0, false
		}
	}
	colon := bytes.LastIndexByte(fields[1], ':')
	p, ok1 := hex(fields[1][colon+1:])
	s, ok2 := hex(fields[3])
	v, end, ok3 := number(fields[9], 0)
	if colon < 0 || !ok1 || !ok2 || !ok3 || end != len(fields[9]) || v < 0 || p > 0xffff || s > 0xff {
		return 0, 0, 0, false
	}
	return uint16(p), byte(s), uint64(v), true
}

func hex(b []byte) (v uint32, ok bool) {
	if len(b) == 0 || len(b) > 8 {
		return 0, false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint32(c-'0')
		case c >= 'A' && c <= 'F':
			v = v<<4 | uint32(c-'A'+10)
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint32(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// owners marks the processes that hold one of f.inodes. denied says that some processes could not be looked into.
func (f *portFinder) owners(mark uint64) (found, denied bool) {
	for i := range f.table.all {
		p := &f.table.all[i]
		if p.pid == 2 || p.ppid == 2 {
			continue // kernel threads
		}
		fd, errno := openAt(f.table.fd, f.table.file(p.pid, "fd"), unix.O_RDONLY|unix.O_DIRECTORY)
		if errno != 0 {
			denied = denied || errno == unix.EACCES || errno == unix.EPERM
			continue
		}
		holds := false
		errno = f.l.list(fd, func(name []byte, _ bool) bool {
			f.path = append(append(f.path[:0], name...), 0)
			n, errno := readLink(fd, f.path, f.link[:])
			const prefix = "socket:["
			if errno == 0 && n > len(prefix) && string(f.link[:len(prefix)]) == prefix {
				v, _, _ := number(f.link[:n], len(prefix))
				holds = slices.Contains(f.inodes, uint64(v))
			}
			return !holds
		})
		denied = denied || errno == unix.EACCES || errno == unix.EPERM
		closeFD(fd)
		if holds {
			p.mark, found = mark, true
		}
	}
	return found, denied
}

// followPort finds the processes that listen on the port, and everything below them.
func (c *Components) followPort(w *component, scanned bool) {
	if w.port.number == 0 {
		return // it is no port; the problem says so
	}
	c.mark++
	if scanned {
		problem := ""
		if err := c.ports.listening(&w.port); err != nil {
			problem = err.Error()
		} else if same := slices.Equal(c.ports.inodes, w.port.inodes); len(c.ports.inodes) > 0 && (!same || w.port.again || len(w.members) == 0) {
			found, denied := c.ports.owners(c.mark)
			if !found && denied {
				problem = "cannot see who listens on " + w.Target.Port + ": the agent may not look into other users' processes"
			}
		}
		w.port.inodes = append(w.port.inodes[:0], c.ports.inodes...)
		w.port.again = false
		if problem != w.problem {
			w.problem, c.moved = problem, true
		}
	}
	c.gather(w)
}
