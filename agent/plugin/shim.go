package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// order is what the shim is told on its standard input.
type order struct {
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	UID    int      `json:"uid"`
	GID    int      `json:"gid"`
	Memory int64    `json:"memory"`
	CPU    uint64   `json:"cpu"` // seconds
}

// programFD is where the shim finds the program.
const programFD = 3

// Shim becomes the program that its parent handed down, under the limits and the user that it was told. It returns only
// where it failed.
func Shim() error {
	var o order
	b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	if err != nil || len(o.Argv) == 0 {
		return fmt.Errorf("%s is run by the actor, for itself: %w", ShimWord, errors.Join(err, errors.New("no order on the standard input")))
	}
	runtime.LockOSThread() // what is set below for one thread is kept by the one that calls exec
	null, err := os.Open(os.DevNull)
	if err == nil {
		err = unix.Dup3(int(null.Fd()), 0, 0)
	}
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	if os.Geteuid() == 0 {
		if err := syscall.Setgroups([]int{o.GID}); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
	}
	if os.Getegid() != o.GID {
		if err := syscall.Setgid(o.GID); err != nil {
			return fmt.Errorf("setgid %d: %w", o.GID, err)
		}
	}
	if os.Geteuid() != o.UID {
		if err := syscall.Setuid(o.UID); err != nil {
			return fmt.Errorf("setuid %d: %w", o.UID, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil { // a change of user took it away
		return fmt.Errorf("death signal: %w", err)
	}
	argv, err := syscall.SlicePtrFromStrings(o.Argv)
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(o.Env)
	if err != nil {
		return err
	}
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	for _, l := range []struct {
		which int
		most  uint64
	}{
		{unix.RLIMIT_CPU, o.CPU},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, 16 << 20},
		{unix.RLIMIT_NOFILE, 64},
		{unix.RLIMIT_MEMLOCK, 0},
		{unix.RLIMIT_AS, uint64(o.Memory)}, // the last: nothing may be allocated after it
	} {
		if err := unix.Setrlimit(l.which, &unix.Rlimit{Cur: l.most, Max: l.most}); err != nil {
			return fmt.Errorf("limit %d: %w", l.which, err)
		}
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, programFD, uintptr(unsafe.Pointer(empty)), uintptr(unsafe.Pointer(&argv[0])),
		uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("cannot execute: %w", errno)
}

type ids struct{ uid, gid int }

// lookup finds the user that a program runs as, by name or number. A number that no account has is its own group.
func lookup(name string) (ids, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if n, e := strconv.ParseUint(name, 10, 31); e == nil {
			if u, err = user.LookupId(name); err != nil {
				return ids{int(n), int(n)}, nil
			}
		} else {
			return ids{}, command.Refuse(command.ReasonNoTarget, "there is no user %q on this host", name)
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return ids{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return ids{uid, gid}, err
}
