package probe

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lister reads folders without allocation. Its buffer is apart from the reader's, so that files can be read while a
// folder is being listed.
type lister struct {
	buf []byte
	// next is the position of the entry after the one that f is called with.
	next int64
}

// list calls f with each name in the folder open at fd and whether it is a folder itself. The name is valid during the
// call. f stops the listing by returning false.
func (l *lister) list(fd int, f func(name []byte, dir bool) bool) syscall.Errno {
	return l.listFrom(fd, 0, f)
}

// listFrom does so from a position on.
func (l *lister) listFrom(fd int, at int64, f func(name []byte, dir bool) bool) syscall.Errno {
	if l.buf == nil {
		l.buf = make([]byte, 8<<10)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_LSEEK, uintptr(fd), uintptr(at), 0); errno != 0 {
		return errno
	}
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(l.buf))), uintptr(len(l.buf)))
		if errno != 0 {
			return errno
		}
		if n == 0 {
			return 0
		}
		if !l.entries(l.buf[:n], f) {
			return 0
		}
	}
}

// entries walks the records of getdents64: inode (8), offset (8), length (2), type (1), name, zero.
func (l *lister) entries(b []byte, f func(name []byte, dir bool) bool) bool {
	for len(b) > 19 {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= 19 || size > len(b) {
			return true
		}
		name := b[19:size]
		l.next = int64(binary.NativeEndian.Uint64(b[8:]))
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		if string(name) != "." && string(name) != ".." && !f(name, b[18] == unix.DT_DIR) {
			return false
		}
		b = b[size:]
	}
	return true
}
