package actuator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// memorySetting is one bound of the memory controller: memory.high, memory.low or the hard limit. Native text is bytes or
// "max"; the action counts in MiB.
type memorySetting struct {
	name    string // of the file
	version int
}

const (
	mib = 1 << 20
	// noLimitV1 is more than any limit that somebody set: version 1 writes "no limit" as the largest number of whole pages.
	noLimitV1 = 1 << 62
)

func (s memorySetting) file() string { return s.name }

func (s memorySetting) read(root *os.Root, group string) (string, error) {
	text, err := readText(root, path.Join(group, s.name))
	if n, e := strconv.ParseUint(text, 10, 64); err == nil && s.version == 1 && (text == "-1" || e == nil && n >= noLimitV1) {
		text = unlimited
	}
	return text, err
}

func (s memorySetting) write(root *os.Root, group, native string) error {
	if s.version == 1 && native == unlimited {
		native = "-1"
	}
	return writeText(root, path.Join(group, s.name), native)
}

func (memorySetting) native(value int64, _ former) (string, error) {
	return strconv.FormatInt(value*mib, 10), nil
}

// value counts no limit as all memory of the host.
func (s memorySetting) value(native, basis string) (int64, error) {
	if native == unlimited {
		native = basis
	}
	n, err := strconv.ParseInt(native, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds %q, which is no number", s.name, native)
	}
	return n / mib, nil
}

// basis is all memory of the host, in bytes.
func (memorySetting) basis(*os.Root, string) (string, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "", fmt.Errorf("cannot tell the memory of this host: %w", err)
	}
	return strconv.FormatUint(uint64(info.Totalram)*uint64(info.Unit), 10), nil
}

// limitSetting is the hard limit. It is refused below what the group holds and cannot be dropped: the kernel would kill
// processes at once, which nothing takes back.
type limitSetting struct{ memorySetting }

// fit refuses a group that holds whoever would have to give it back.
func (limitSetting) fit(root *os.Root, group string) error { return notOurs(root, group) }

func (s limitSetting) guard(root *os.Root, group string, value int64) error {
	usage, cold := "memory.current", "inactive_file"
	if s.version == 1 {
		usage, cold = "memory.usage_in_bytes", "total_inactive_file"
	}
	used, err := readNumber(root, path.Join(group, usage))
	if err != nil {
		return command.Refuse(command.ReasonNotReversible, "what /%s uses cannot be told: %v", group, plain(err))
	}
	stat, err := readText(root, path.Join(group, "memory.stat"))
	if err != nil {
		return command.Refuse(command.ReasonNotReversible, "what /%s uses cannot be told: %v", group, plain(err))
	}
	used -= min(used, keyed(stat, cold))
	if value*mib < used {
		return command.Refuse(command.ReasonNotReversible, "/%s holds %d MiB: a limit of %d would have its processes killed; use memory.high first", group, used/mib, value)
	}
	return nil
}

// highSetting is the bound above which a group is slowed down.
type highSetting struct{ memorySetting }

// fit refuses a group that holds whoever would have to give it back.
func (highSetting) fit(root *os.Root, group string) error { return notOurs(root, group) }

// lowSetting is a protection. It is handed down from above: where a parent has less, the kernel gives the group no more.
type lowSetting struct{ memorySetting }

func (s lowSetting) guard(root *os.Root, group string, value int64) error {
	for p := path.Dir(group); p != "." && p != "/"; p = path.Dir(p) {
		text, err := readText(root, path.Join(p, s.name))
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < value*mib {
			return command.Refuse(command.ReasonNoEffect, "the group above, /%s, is protected up to %d MiB only: protect it first", p, n/mib)
		}
	}
	return nil
}

// memoryVariants returns the settings of this host for one of "high", "low" and "max".
func memoryVariants(g *cgroups, which string) ([]variant, string) {
	h := g.with("memory")
	bytes := func(v int64) uint64 { return uint64(v) * mib }
	s := memorySetting{"memory." + which, 2}
	switch {
	case h.version == 0:
		return nil, "this host has no cgroup hierarchy with a memory controller"
	case h.version == 1 && which == "max":
		return []variant{{hierarchy: h, setting: limitSetting{memorySetting{"memory.limit_in_bytes", 1}}}}, ""
	case h.version == 1:
		return nil, "the memory controller of this host is that of cgroup version 1, which has no memory." + which
	case which == "max":
		return []variant{{h, limitSetting{s}, "MemoryMax", bytes}}, ""
	case which == "low":
		return []variant{{h, lowSetting{s}, "MemoryLow", bytes}}, ""
	}
	return []variant{{h, highSetting{s}, "MemoryHigh", bytes}}, ""
}

func readNumber(root *os.Root, p string) (int64, error) {
	text, err := readText(root, p)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// keyed returns the number behind a word at the start of a line, 0 where there is none.
func keyed(text, key string) int64 {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}
