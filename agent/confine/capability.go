package confine

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// capabilities are the kernel's names by number.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// Known reports whether a text is the name of a capability.
func Known(name string) bool { return slices.Contains(capabilities, name) }

// dropCapabilities keeps what the rules keep of what the process has, in every set and every thread.
func dropCapabilities(rep *Report) error {
	had, err := permitted()
	if err != nil {
		return err
	}
	var keep uint64
	for n, name := range capabilities {
		bit := uint64(1) << n
		why, kept := rep.rules.Keep[name]
		switch {
		case had&bit == 0:
		case rep.rules.KeepAll != "":
			keep |= bit
			rep.Capabilities = append(rep.Capabilities, Capability{name, rep.rules.KeepAll})
		case kept:
			keep |= bit
			rep.Capabilities = append(rep.Capabilities, Capability{name, why})
		default:
			rep.dropped = append(rep.dropped, name)
		}
	}
	if had == 0 {
		return nil
	}
	// The bounding set only matters to programs that are started; without CAP_SETPCAP it stays as it was given.
	if had&(1<<unix.CAP_SETPCAP) != 0 {
		for n := range capabilities {
			if keep&(1<<n) != 0 {
				continue
			}
			if _, _, e := psx.Syscall3(syscall.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0); e != 0 && e != unix.EINVAL {
				return fmt.Errorf("drop %s from the bounding set: %w", capabilities[n], e)
			}
		}
	}
	if _, _, e := psx.Syscall6(syscall.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0); e != 0 && e != unix.EINVAL {
		return fmt.Errorf("clear the ambient set: %w", e)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)}, {Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	if _, _, e := psx.Syscall3(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); e != 0 {
		return e
	}
	return nil
}

func noNewPrivileges() error {
	if _, _, e := psx.Syscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// permitted reads the set that the process could use.
func permitted() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(b, []byte("\nCapPrm:\t"))
	text, _, _ := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return 0, fmt.Errorf("/proc/self/status has no CapPrm")
	}
	return strconv.ParseUint(string(text), 16, 64)
}
