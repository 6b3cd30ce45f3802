package actuator

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

type procfs struct{ root string }

// process is one line of /proc; (pid, start) names it for the length of a boot.
type process struct {
	pid, ppid, session int
	start              uint64 // clock ticks since boot
}

const kernelThread = 0x00200000

// processes lists all processes that are not the kernel's own. One that ends while being read is left out.
func (p procfs) processes() (map[int]process, error) {
	names, err := readNames(p.root)
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(p.root, name, "stat"))
		if err != nil {
			continue
		}
		if one, ok := parseStat(pid, b); ok {
			all[pid] = one
		}
	}
	return all, nil
}

// parseStat reads the fields after the command name, which may itself hold spaces and brackets.
func parseStat(pid int, b []byte) (process, bool) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return process{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return process{}, false
	}
	ppid, err1 := strconv.Atoi(f[1])
	session, err2 := strconv.Atoi(f[3])
	flags, err3 := strconv.ParseUint(f[6], 10, 64)
	start, err4 := strconv.ParseUint(f[19], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || flags&kernelThread != 0 {
		return process{}, false
	}
	return process{pid: pid, ppid: ppid, session: session, start: start}, true
}

// tasks lists the threads of a process; none if it ended.
func (p procfs) tasks(pid int) []int {
	names, err := readNames(filepath.Join(p.root, strconv.Itoa(pid), "task"))
	if err != nil {
		return nil
	}
	tids := make([]int, 0, len(names))
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// exe returns the program of a process, also where its file has been replaced since.
func (p procfs) exe(pid int) string {
	s, err := os.Readlink(filepath.Join(p.root, strconv.Itoa(pid), "exe"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(s, " (deleted)")
}

// uid returns the real user of a process.
func (p procfs) uid(pid int) (uint32, bool) {
	b, err := os.ReadFile(filepath.Join(p.root, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			f := bytes.Fields(rest)
			if len(f) == 0 {
				return 0, false
			}
			n, err := strconv.ParseUint(string(f[0]), 10, 32)
			return uint32(n), err == nil
		}
	}
	return 0, false
}

// has reports whether this process has a capability in force.
func (p procfs) has(capability int) bool {
	b, err := os.ReadFile(filepath.Join(p.root, "self", "status"))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("CapEff:")); ok {
			caps, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 16, 64)
			return err == nil && caps&(1<<capability) != 0
		}
	}
	return false
}

func lookupUID(name string) (uint32, error) {
	text := name
	if u, err := user.Lookup(name); err == nil {
		text = u.Uid
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, command.Refuse(command.ReasonNoTarget, "there is no user %s on this host", name)
	}
	return uint32(n), nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// gone reports whether an error says that the thing asked about has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENODEV)
}

// cpus is a set of CPU numbers.
type cpus = unix.CPUSet

func cpuNumbers(s cpus) []int {
	var out []int
	for i, left := 0, s.Count(); left > 0; i++ {
		if s.IsSet(i) {
			out = append(out, i)
			left--
		}
	}
	return out
}

// formatCPUs writes a set as the kernel does: "0-3,5".
func formatCPUs(s cpus) string {
	var b strings.Builder
	n := cpuNumbers(s)
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(n[i]))
		if j > i {
			fmt.Fprintf(&b, "-%d", n[j])
		}
		i = j + 1
	}
	return b.String()
}

// parseCPUs reads what formatCPUs writes.
func parseCPUs(text string) (cpus, error) {
	var s cpus
	const most = len(s) * 64
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(from, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(to, 10, 16)
		}
		if err != nil || b < a || b >= uint64(most) {
			return cpus{}, fmt.Errorf("%q is not a list of CPUs", text)
		}
		for i := a; i <= b; i++ {
			s.Set(int(i))
		}
	}
	return s, nil
}

func intersect(a, b cpus) cpus {
	for i := range a {
		a[i] &= b[i]
	}
	return a
}

func unite(a, b cpus) cpus {
	for i := range a {
		a[i] |= b[i]
	}
	return a
}
