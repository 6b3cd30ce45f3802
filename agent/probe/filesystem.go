package probe

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// filesystem asks each mounted local file system for its space. File systems over the network and in user space are left
// out: a server that hangs would hang the agent, and their space belongs to another host's agent.
type filesystem struct {
	base
	file   file
	mounts []mount
	seen   []byte // the mount table that mounts was made from
	statfs func(path []byte, st *unix.Statfs_t) error
	st     unix.Statfs_t
}

type mount struct {
	device, kind, point string
	path                []byte // zero-terminated
	slots               block
	unit                uint32 // bytes of a block, as the series scale it
}

// The series of a mount. All of them end while its numbers cannot be had.
const (
	fsSize = iota
	fsFree
	fsAvail
	fsFiles
	fsFilesFree
	fsReadonly
	fsSeries
)

func newFilesystem(r *reader, proc string) *filesystem {
	return &filesystem{
		base: base{"filesystem", groupFilesystem, slow, r}, file: newFile(proc+"/self/mountinfo", true), statfs: statfs,
	}
}

// statfs goes through Go's scheduler, as a disk that is broken may keep it for long.
func statfs(path []byte, st *unix.Statfs_t) error {
	for {
		_, _, errno := syscall.Syscall(unix.SYS_STATFS, uintptr(unsafe.Pointer(unsafe.SliceData(path))), uintptr(unsafe.Pointer(st)), 0)
		if errno == 0 {
			return nil
		}
		if errno != syscall.EINTR {
			return errno
		}
	}
}

func (f *filesystem) Read(t *metric.Table, _ time.Time) error {
	b, err := f.r.read(&f.file)
	if err != nil {
		f.end(t)
		return err
	}
	if !bytes.Equal(b, f.seen) {
		f.remount(t, b)
	}
	for i := range f.mounts {
		f.read(t, &f.mounts[i])
	}
	return nil
}

func (f *filesystem) read(t *metric.Table, m *mount) {
	if err := f.statfs(m.path, &f.st); err != nil {
		// The mount is gone, or not for us. Others are not concerned.
		m.slots.end(t)
		return
	}
	st := &f.st
	unit := uint32(st.Frsize)
	if unit == 0 {
		unit = uint32(st.Bsize)
	}
	if len(m.slots) > 0 && unit != m.unit {
		m.slots.end(t)
	}
	if len(m.slots) == 0 {
		m.unit = unit
		for i, name := range [fsSeries]string{"size_bytes", "free_bytes", "avail_bytes", "files", "files_free", "readonly"} {
			scale := one
			if i <= fsAvail {
				scale.Mul = unit
			}
			m.slots.start(t, f.desc("node_filesystem_"+name, scale, "device", m.device, "fstype", m.kind, "mountpoint", m.point))
		}
	}
	t.Set(m.slots[fsSize], int64(st.Blocks))
	t.Set(m.slots[fsFree], int64(st.Bfree))
	t.Set(m.slots[fsAvail], int64(st.Bavail))
	t.Set(m.slots[fsFiles], int64(st.Files))
	t.Set(m.slots[fsFilesFree], int64(st.Ffree))
	var readonly int64
	if st.Flags&unix.ST_RDONLY != 0 {
		readonly = 1
	}
	t.Set(m.slots[fsReadonly], readonly)
}

// remount takes over a changed mount table. Mounts that are still there keep their series.
func (f *filesystem) remount(t *metric.Table, b []byte) {
	f.seen = append(f.seen[:0], b...)
	now := parseMounts(b)
	for i := range f.mounts {
		old := &f.mounts[i]
		kept := false
		for j := range now {
			n := &now[j]
			if n.device == old.device && n.kind == old.kind && n.point == old.point {
				n.slots, n.unit, kept = old.slots, old.unit, true
			}
		}
		if !kept {
			old.slots.end(t)
		}
	}
	f.mounts = now
}

func (f *filesystem) end(t *metric.Table) {
	for i := range f.mounts {
		f.mounts[i].slots.end(t)
	}
	f.mounts, f.seen = nil, f.seen[:0]
}

func (f *filesystem) files() []File {
	l := []File{{f.file.name(), f.period, OpRead}}
	for i := range f.mounts {
		l = append(l, File{f.mounts[i].point, f.period, OpStatfs})
	}
	return l
}

func (f *filesystem) close() { f.file.close() }

// maxMounts bounds the mounts shown.
const maxMounts = 256

// parseMounts reads lines of
//
//	36 35 98:0 /root /point options [tags ...] - type device superoptions
//
// and keeps one mount of each local file system, the whole one (root /) before a part that is bound elsewhere. Of two
// mounts on one point the later hides the earlier. Lines that do not look so are passed over.
func parseMounts(b []byte) []mount {
	type found struct {
		mount
		dev   string
		whole bool
	}
	var all []found
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		head, tail, ok := bytes.Cut(line, []byte(" - "))
		if !ok {
			continue
		}
		fields, more := bytes.Fields(head), bytes.Fields(tail)
		if len(fields) < 6 || len(more) < 2 {
			continue
		}
		m := found{dev: string(fields[2]), whole: string(fields[3]) == "/"}
		m.kind, m.device, m.point = string(more[0]), unescape(more[1]), unescape(fields[4])
		if strings.IndexByte(m.point, 0) >= 0 {
			continue
		}
		kept := all[:0]
		for _, o := range all {
			if o.point != m.point {
				kept = append(kept, o)
			}
		}
		all = kept
		if localKind(m.kind) && !systemPoint(m.point) {
			m.path = append([]byte(m.point), 0)
			all = append(all, m)
		}
	}
	var list []mount
	for i, m := range all {
		better := false
		for j, o := range all {
			if o.dev == m.dev && i != j && (o.whole && !m.whole || o.whole == m.whole && j < i) {
				better = true
			}
		}
		if !better && len(list) < maxMounts {
			list = append(list, m.mount)
		}
	}
	return list
}

// localKind tells whether files of that type have space of their own on this host.
func localKind(kind string) bool {
	switch kind {
	case "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
		"erofs", "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs", "overlay", "proc", "pstore", "ramfs", "rootfs",
		"rpc_pipefs", "securityfs", "selinuxfs", "squashfs", "sysfs", "tracefs",
		"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "virtiofs":
		return false
	}
	return !strings.HasPrefix(kind, "fuse") || kind == "fuseblk"
}

// systemPoint tells mounts that belong to the kernel or to a container runtime.
func systemPoint(point string) bool {
	for _, p := range [...]string{"/dev", "/proc", "/sys", "/run/credentials", "/var/lib/docker", "/var/lib/containers"} {
		if rest, ok := strings.CutPrefix(point, p); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// unescape undoes the octal escapes of the mount table, such as \040 for a space.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	var s strings.Builder
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) {
			if c, err := strconv.ParseUint(string(b[i+1:i+4]), 8, 8); err == nil {
				s.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		s.WriteByte(b[i])
	}
	return s.String()
}
