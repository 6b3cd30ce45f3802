package probe

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of one file. The largest that a probe wants, /proc/stat of a machine with thousands of
// CPUs and interrupts, stays far below.
const maxFile = 8 << 20

// file is a kernel file that is read again and again from its start, through a descriptor that stays open.
type file struct {
	path []byte // with a zero byte at its end
	fd   int    // -1 while closed
	// lines marks files that the kernel hands out record by record, no more than a page with each read. The others come
	// whole if the buffer is large enough.
	lines bool
}

func newFile(path string, lines bool) file {
	return file{path: append([]byte(path), 0), fd: -1, lines: lines}
}

func (f *file) name() string { return string(f.path[:len(f.path)-1]) }

func (f *file) close() {
	if f.fd >= 0 {
		closeFD(f.fd)
		f.fd = -1
	}
}

func (f *file) open() error {
	if f.fd >= 0 {
		return nil
	}
	fd, errno := openAt(unix.AT_FDCWD, f.path, unix.O_RDONLY)
	if errno != 0 {
		return &os.PathError{Op: "open", Path: f.name(), Err: errno}
	}
	f.fd = fd
	return nil
}

// reader holds the buffer that all probes of a Set read into, one after the other.
type reader struct {
	buf []byte
}

// shortRead is the length below which a read of a file with lines was the last one. The kernel fills at least a page of
// 4096 bytes unless the next record does not fit, and no record of the files read here is longer than 512 bytes.
const shortRead = 4096 - 512

// read returns the content of f, valid until the next read. A failed read closes f; the next one opens it afresh.
func (r *reader) read(f *file) ([]byte, error) {
	if err := f.open(); err != nil {
		return nil, err
	}
	b, errno := r.readFD(f.fd, f.lines)
	if errno != 0 {
		f.close()
		return nil, fmt.Errorf("read %s: %w", f.name(), errno)
	}
	return b, nil
}

// readFD does the same for a descriptor, and answers with the bare error number since some callers expect failures.
func (r *reader) readFD(fd int, lines bool) ([]byte, syscall.Errno) {
	at := 0
	for {
		n, errno := pread(fd, r.buf[at:], at)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		full := n == len(r.buf)-at
		at += n
		switch {
		case full:
			if len(r.buf) >= maxFile {
				return nil, syscall.EFBIG
			}
			bigger := make([]byte, 2*len(r.buf))
			copy(bigger, r.buf)
			r.buf = bigger
			if !lines {
				at = 0 // a record that did not fit is cut; take it again whole
			}
		case n == 0, n < shortRead, !lines:
			return r.buf[:at], 0
		}
	}
}

// The calls below go to the kernel without telling Go's scheduler. All are reads of files that the kernel makes up in
// memory and answers in microseconds. The ordinary way would wake the runtime's monitor thread on each tick of an
// otherwise idle agent, which costs more than the reading.

func pread(fd int, b []byte, at int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(at), 0, 0)
	return int(n), errno
}

// openAt opens the zero-terminated path below the folder dir.
func openAt(dir int, path []byte, flags int) (int, syscall.Errno) {
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))), uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), 0
}

func closeFD(fd int) { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// readLink reads the link at the zero-terminated path below dir into b.
func readLink(dir int, path, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0)
	return int(n), errno
}

// sinceBoot returns the boot clock, which the start times of processes are counted on.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
