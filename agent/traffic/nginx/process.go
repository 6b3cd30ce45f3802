package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// process is the nginx of this host.
type process struct{ cfg Config }

func (p process) able() error {
	if unix.Access(p.cfg.Program, unix.X_OK) != nil {
		return command.Refuse(command.ReasonNotReversible, "there is no program %s that could test a configuration: set nginx.program in the actor's settings", p.cfg.Program)
	}
	return nil
}

// test runs nginx -t with fixed arguments. What it says is cut to its first complaint.
func (p process) test(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, testPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.cfg.Program, "-t", "-q", "-c", p.cfg.Config)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	said := &bounded{most: 4096}
	cmd.Stdout, cmd.Stderr = said, said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); line != "" {
		return errors.New(line[:min(len(line), 300)])
	}
	return fmt.Errorf("%s -t: %w", filepath.Base(p.cfg.Program), err)
}

// bounded keeps the first bytes that are written to it and takes the others.
type bounded struct {
	bytes.Buffer
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), b.most-b.Len())])
	return len(p), nil
}

// master returns the process id in the pid file, 0 if none runs: a number that another program has by now is not it.
func (p process) master() (int, error) {
	b, err := os.ReadFile(p.cfg.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, nil
	}
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("cannot see which program process %d is: %w", pid, err)
	}
	want, err := filepath.EvalSymlinks(p.cfg.Program)
	if err != nil {
		return 0, err
	}
	if strings.TrimSuffix(exe, " (deleted)") != want { // an upgrade leaves the old program running
		return 0, nil
	}
	return pid, nil
}

func (p process) reload() error {
	pid, err := p.master()
	if err != nil {
		return err
	}
	if pid == 0 {
		return errors.New("nginx does not run")
	}
	return unix.Kill(pid, unix.SIGHUP)
}

func (p process) workers() (map[int]time.Time, bool, error) {
	master, err := p.master()
	if err != nil || master == 0 {
		return nil, false, err
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false, err
	}
	booted := time.Now().Add(-traffic.Boottime())
	out := map[int]time.Time{}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it ended while one looks
		}
		parent, started, ok := parseStat(stat)
		if !ok || parent != master {
			continue
		}
		title, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !bytes.HasPrefix(title, []byte("nginx: worker process")) || bytes.Contains(title, []byte("shutting down")) {
			continue
		}
		out[pid] = booted.Add(started)
	}
	return out, true, nil
}

// ticks is how many of the kernel's ticks make a second in /proc.
const ticks = 100

// parseStat reads parent and start, the latter since the boot.
func parseStat(b []byte) (parent int, started time.Duration, ok bool) {
	i := bytes.LastIndexByte(b, ')') // the name before it may hold anything
	if i < 0 {
		return 0, 0, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(f[19], 10, 64)
	if err != nil || n < 0 || n > 1<<50 {
		return 0, 0, false
	}
	return parent, time.Duration(n) * (time.Second / ticks), true
}

// readFile returns a plain file and when it was written last. A link is refused: it could be written through, and the
// file that is named would stay.
func readFile(name string) ([]byte, time.Time, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, time.Time{}, command.Refuse(command.ReasonNotReversible, "%s is a link: name the file that it leads to", name)
	} else if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, command.Refuse(command.ReasonNotReversible, "%s is not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return b, info.ModTime(), err
}

// writable says why the file could not be replaced.
func writable(name string) error {
	if err := unix.Access(filepath.Dir(name), unix.W_OK); err != nil {
		return command.Refuse(command.ReasonNotReversible, "folder %s cannot be written: %v", filepath.Dir(name), err)
	}
	return nil
}

// writeFile puts a file in the place of another at once, with its owner and mode. The name of the new one begins with a
// dot until then, which no include pattern takes.
func writeFile(name string, b []byte) (err error) {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".evenkeel-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return fmt.Errorf("cannot keep the owner of %s: %w", name, err)
		}
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
