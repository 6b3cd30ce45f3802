// Package confine gives up, for the rest of a process's life, what it will not need: capabilities, new privileges, writing
// outside a few folders, starting programs, and system calls that only an attacker would miss.
//
// It refuses to fail open silently: Report says of each measure whether it is in force and, if not, why. What the kernel
// lacks is left out and said; what the kernel has and refuses is an error. It owns no goroutine; Apply changes every
// thread of the process and cannot be undone.
package confine

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Rules say what a process keeps.
type Rules struct {
	// Keep are the capabilities that are kept, each with what it is for, as far as the process has them.
	Keep map[string]string
	// KeepAll, where not empty, says why no capability can be given up.
	KeepAll string
	// Write are folders below which files may be written, made and removed. Those that are not there are left out.
	Write []string
	// AnyFile, where not empty, says why files cannot be told in advance: writing is then not confined.
	AnyFile string
	// Programs, where not empty, says why programs must be started.
	Programs string
}

// Report is what is in force.
type Report struct {
	Capabilities    []Capability `json:"capabilities"` // those that are kept
	NoNewPrivileges bool         `json:"noNewPrivileges"`
	Files           string       `json:"files"`
	Programs        string       `json:"programs"`
	Calls           string       `json:"calls"`
	Limits          string       `json:"limits"`

	dropped []string
	rules   Rules
}

// Capability is one that is kept, and what for.
type Capability struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

const (
	mostFiles  = 1024     // open at one time
	memoryGoal = 96 << 20 // bytes: from there on the garbage collector works harder
)

// Apply gives up everything that the rules do not keep. It is called once, before anything from outside is listened to.
func Apply(r Rules) (Report, error) {
	rep := Report{rules: r, Capabilities: []Capability{}}
	debug.SetMemoryLimit(memoryGoal)
	for what, limit := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: mostFiles} {
		var had unix.Rlimit
		if err := unix.Getrlimit(what, &had); err != nil {
			return rep, fmt.Errorf("cannot read a resource limit: %w", err)
		}
		most := min(limit, had.Max)
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return rep, fmt.Errorf("cannot set a resource limit: %w", err)
		}
	}
	rep.Limits = fmt.Sprintf("no core file, %d open files, garbage collected from %d MiB on", mostFiles, memoryGoal>>20)
	if err := dropCapabilities(&rep); err != nil {
		return rep, fmt.Errorf("cannot give up capabilities: %w", err)
	}
	if err := noNewPrivileges(); err != nil {
		return rep, fmt.Errorf("cannot forgo new privileges: %w", err)
	}
	rep.NoNewPrivileges = true
	if err := confineFiles(&rep); err != nil {
		return rep, fmt.Errorf("cannot confine the files that are written: %w", err)
	}
	if err := confineCalls(&rep); err != nil {
		return rep, fmt.Errorf("cannot filter system calls: %w", err)
	}
	return rep, nil
}

// Lacks says what was given up that others rules would keep, "" if nothing. A zero Report lacks nothing.
func (rep *Report) Lacks(r Rules) string {
	var out []string
	for name := range r.Keep {
		if slices.Contains(rep.dropped, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	if r.KeepAll != "" && rep.rules.KeepAll == "" && len(rep.dropped) > 0 {
		out = append(out, "every capability")
	}
	confined := rep.NoNewPrivileges // Apply ran
	if confined && rep.rules.AnyFile == "" {
		switch missing := slices.DeleteFunc(slices.Clone(r.Write), func(dir string) bool { return slices.Contains(rep.rules.Write, dir) }); {
		case r.AnyFile != "":
			out = append(out, "what Landlock withholds")
		case len(missing) > 0:
			out = append(out, "writing below "+strings.Join(missing, ", "))
		}
	}
	if confined && r.Programs != "" && rep.rules.Programs == "" {
		out = append(out, "starting programs")
	}
	return strings.Join(out, ", ")
}

// readOnly are the rights to look at files and folders, without running them.
const readOnly = landlock.AccessFSSet(ll.AccessFSReadFile | ll.AccessFSReadDir)

func confineFiles(rep *Report) error {
	abi, err := ll.LandlockGetABIVersion()
	switch {
	case rep.rules.AnyFile != "":
		rep.Files = "any may be written: " + rep.rules.AnyFile
		return nil
	case err != nil || abi < 1:
		rep.Files = "any may be written: this kernel has no Landlock"
		return nil
	}
	var there []string
	for _, dir := range rep.rules.Write {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			there = append(there, dir)
		}
	}
	rules := []landlock.Rule{landlock.PathAccess(readOnly, "/")}
	if rep.rules.Programs != "" {
		rules[0] = landlock.RODirs("/")
	}
	if len(there) > 0 {
		rules = append(rules, landlock.RWDirs(there...))
	}
	if err := landlock.V5.BestEffort().Restrict(rules...); err != nil {
		return err
	}
	rep.Files = fmt.Sprintf("only those below %s may be written (Landlock %d)", strings.Join(there, ", "), abi)
	return nil
}

// forbidden are calls that no action makes. They fail with EPERM, so that a library that tries goes on without.
var forbidden = []string{
	"acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module", "finit_module",
	"fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "kexec_file_load",
	"kexec_load", "keyctl", "mount", "mount_setattr", "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open",
	"personality", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setdomainname",
	"sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd",
}

func confineCalls(rep *Report) error {
	names := slices.Clone(forbidden)
	rep.Programs = "none can be started"
	if rep.rules.Programs == "" {
		names = append(names, "execve", "execveat")
	} else {
		rep.Programs = "may be started: " + rep.rules.Programs
	}
	if !seccomp.Supported() {
		rep.Calls = "any: this kernel has no seccomp filters"
		if rep.rules.Programs == "" {
			rep.Programs = "may be started: this kernel has no seccomp filters"
		}
		return nil
	}
	err := seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno, Names: names}},
		},
	})
	if err != nil {
		return err
	}
	rep.Calls = fmt.Sprintf("%d are refused (seccomp)", len(names))
	return nil
}
