package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Runner runs programs.
type Runner struct {
	// Read returns the content of a program's file, after making sure that nobody but its owner could have written it.
	Read func(path string, most int64) ([]byte, error)
	Proc string // default /proc
}

// ShimWord is the hidden subcommand by which this very program runs Shim.
const ShimWord = "plugin-shim"

// environment is all that a program sees of one.
var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "HOME=/"}

// able says why no group can be made for a program on this host.
func (r *Runner) able() error {
	_, err := r.parent()
	return err
}

// parent is the folder of this process's own cgroup of version 2.
func (r *Runner) parent() (string, error) {
	proc := r.Proc
	if proc == "" {
		proc = "/proc"
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return "", err
	}
	mount := ""
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		if f := strings.Fields(before); ok && len(f) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			mount = f[4]
			break
		}
	}
	own, err := os.ReadFile(filepath.Join(proc, "self", "cgroup"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(own)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && mount != "" {
			return filepath.Join(mount, p), nil
		}
	}
	return "", command.Refuse(command.ReasonNotReversible, "no cgroup hierarchy of version 2 is mounted, in which a program could be held together")
}

// run runs a program to its end and returns what it printed.
func (r *Runner) run(ctx context.Context, name string, d Program, args []string) (string, error) {
	content, err := r.Read(d.Exe, MaxProgram)
	if err != nil {
		return "", command.Refuse(command.ReasonDenied, "plugin %s: %v", name, err)
	}
	program, err := seal(name, content, d.SHA256)
	if err != nil {
		return "", err
	}
	defer program.Close()
	group, err := r.group(name)
	if err != nil {
		return "", err
	}
	defer group.remove()
	ids, err := lookup(d.User)
	if err != nil {
		return "", err
	}
	order, err := json.Marshal(order{
		Argv: append([]string{filepath.Base(d.Exe)}, args...), Env: environment, UID: ids.uid, GID: ids.gid,
		Memory: d.Memory, CPU: uint64(d.Timeout/time.Second) + 1,
	})
	if err != nil {
		return "", err
	}
	called := ctx
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	// The death signal is sent when the thread ends that has started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out, errs capped
	out.full, errs.full = cancel, cancel
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ShimWord)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env, cmd.Dir = environment, "/"
	cmd.ExtraFiles = []*os.File{program}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return group.kill() }
	cmd.WaitDelay = time.Second
	err = start(cmd, group, order)
	if err == nil {
		err = cmd.Wait()
	}
	_ = group.kill() // what it left behind goes with it
	switch {
	case out.over || errs.over:
		return "", command.Refuse(command.ReasonNoEffect, "plugin %s said more than %d bytes and was killed", name, maxOutput)
	case called.Err() != nil:
		return "", fmt.Errorf("plugin %s was called off: %w", name, called.Err())
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", command.Refuse(command.ReasonNoEffect, "plugin %s took longer than %s and was killed", name, d.Timeout)
	case err != nil:
		return "", command.Refuse(command.ReasonNoEffect, "plugin %s failed: %v: %s", name, err, clip(errs.String()))
	}
	return out.String(), nil
}

// start starts the shim, puts it into its group, and only then gives it its order: before that it does nothing.
func start(cmd *exec.Cmd, group *holder, order []byte) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = group.add(cmd.Process.Pid)
	if err == nil {
		_, err = in.Write(order)
	}
	if e := in.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return err
}

// seal puts a program into a file in memory that nobody can change any more, and checks its hash there.
func seal(name string, content []byte, want string) (*os.File, error) {
	const flags = unix.MFD_ALLOW_SEALING | unix.MFD_CLOEXEC
	fd, err := unix.MemfdCreate("plugin-"+name, flags|mfdExec)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("plugin-"+name, flags) // a kernel before 6.3
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a file in memory: %w", err)
	}
	w := os.NewFile(uintptr(fd), "plugin-"+name)
	defer w.Close() // what is open for writing is not executed
	if _, err = w.Write(content); err == nil {
		_, err = unix.FcntlInt(w.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot seal a file in memory: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("cannot open a file in memory: %w", err)
	}
	sum := sha256.New()
	_, err = f.WriteTo(sum)
	if got := hex.EncodeToString(sum.Sum(nil)); err != nil || got != strings.ToLower(want) {
		f.Close()
		return nil, command.Refuse(command.ReasonDenied, "plugin %s has the SHA-256 %s, the permissions name %s", name, got, want)
	}
	return f, nil
}

// mfdExec asks for a file that may be executed, whatever the kernel's default.
const mfdExec = 0x10

// holder is the cgroup of one run.
type holder struct{ path string }

func (r *Runner) group(name string) (*holder, error) {
	parent, err := r.parent()
	if err != nil {
		return nil, err
	}
	p, err := os.MkdirTemp(parent, "evenkeel-plugin-"+name+"-")
	if err != nil {
		return nil, command.Refuse(command.ReasonNotReversible, "cannot make a cgroup for plugin %s: %v", name, err)
	}
	// Where the controller is handed down, a fork bomb ends here.
	_ = os.WriteFile(filepath.Join(p, "pids.max"), []byte("64"), 0)
	return &holder{p}, nil
}

func (g *holder) add(pid int) error {
	return os.WriteFile(filepath.Join(g.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

func (g *holder) kill() error {
	return os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
}

// remove waits a moment for the killed to be gone.
func (g *holder) remove() {
	for range 200 {
		if err := os.Remove(g.path); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		_ = g.kill()
		time.Sleep(5 * time.Millisecond)
	}
}

// capped keeps the first bytes of an output and ends the program at the first beyond.
type capped struct {
	bytes.Buffer
	full func()
	over bool
}

func (c *capped) Write(b []byte) (int, error) {
	if c.Len()+len(b) > maxOutput {
		if !c.over {
			c.over = true
			c.full()
		}
		return len(b), nil
	}
	return c.Buffer.Write(b)
}
