package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// source is a reading that is ready to be made: its paths end with a zero byte.
type source struct {
	reading
	path []byte
	fd   int
}

// runReader is the raw reader that the agent is compared with. It reads what the agent was seen to read, with as many
// calls, at the same periods, into one buffer, and drops it. Files stay open where the agent keeps them open. It makes its
// calls past Go's scheduler, as the agent does: the cheapest way that a Go program has.
func runReader(in io.Reader) error {
	debug.SetGCPercent(-1)
	var list []reading
	if err := json.NewDecoder(in).Decode(&list); err != nil {
		return err
	}
	var fast, slow []source
	for _, r := range list {
		s := source{reading: r, path: append([]byte(r.Path), 0), fd: -1}
		star := strings.HasPrefix(r.Path, "/proc/*/")
		if star {
			s.path = append([]byte(r.Path[len("/proc/*/"):]), 0)
		}
		if !star && !r.Opens && r.Op != "statfs" {
			fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue // a cgroup that has gone since, which the agent no longer reads either
			}
			s.fd = fd
		}
		if r.Period == 1 {
			fast = append(fast, s)
		} else {
			slow = append(slow, s)
		}
	}
	k := &raw{buf: make([]byte, 1<<20), names: make([]byte, 64<<10)}
	second := time.Now().Truncate(time.Second)
	for tick := 0; ; tick++ {
		second = second.Add(time.Second)
		time.Sleep(time.Until(second))
		if late := time.Since(second); late > time.Second { // it was stopped
			second = second.Add(late.Truncate(time.Second))
		}
		k.all(fast)
		if tick%10 == 0 {
			k.all(slow)
		}
	}
}

// raw makes the calls.
type raw struct {
	buf   []byte
	names []byte
}

func (k *raw) all(list []source) {
	for i := range list {
		s := &list[i]
		switch {
		case strings.HasPrefix(s.Path, "/proc/*/"):
			k.processes(s)
		case s.Op == "statfs":
			var st unix.Statfs_t
			syscall.RawSyscall(unix.SYS_STATFS, uintptr(unsafe.Pointer(&s.path[0])), uintptr(unsafe.Pointer(&st)), 0)
		default:
			fd := s.fd
			if s.Opens {
				fd = k.open(unix.AT_FDCWD, s.path)
			}
			if s.Op == "list" {
				k.list(fd, s.Calls)
			} else {
				k.read(fd, s.Calls)
			}
			if s.Opens {
				syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
			}
		}
	}
}

func (k *raw) open(dir int, path []byte) int {
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(fd)
}

func (k *raw) read(fd, calls int) {
	at := uintptr(0)
	for range calls {
		n, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&k.buf[at])), uintptr(len(k.buf))-at, at, 0, 0)
		if errno != 0 {
			return
		}
		at += n
	}
}

// list returns the bytes of the names, of the first call that gave any.
func (k *raw) list(fd, calls int) []byte {
	syscall.RawSyscall(unix.SYS_LSEEK, uintptr(fd), 0, 0)
	at := uintptr(0)
	for range calls {
		n, _, errno := syscall.RawSyscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(&k.names[at])), uintptr(len(k.names))-at)
		if errno != 0 {
			return nil
		}
		at += n
	}
	return k.names[:at]
}

// processes lists the processes and reads one file of each.
func (k *raw) processes(s *source) {
	if s.fd < 0 {
		s.fd, _ = unix.Open("/proc", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	var path [64]byte
	for b := k.list(s.fd, 2); len(b) > 19; {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		name := b[19:size]
		b = b[size:]
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		n := copy(path[:], name[:bytes.IndexByte(name, 0)])
		n += copy(path[n:], "/")
		copy(path[n:], s.path)
		fd := k.open(s.fd, path[:])
		if fd < 0 {
			continue
		}
		k.read(fd, s.Calls)
		syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	}
}
