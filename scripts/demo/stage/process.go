package stage

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Process is one program that was started.
type Process struct {
	Ended chan error // receives the exit once
	cmd   *exec.Cmd
	name  string
	// out is kept open: a program whose standard output nobody can read dies of its next word.
	out *os.File
}

// PID returns the process' id, 0 for none.
func (p *Process) PID() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Spawn starts a program of bin with its complaints in the log folder of state, and returns what it prints. It shares the
// caller's session, and dies with the thread that called: lock it.
func Spawn(bin, state, name string, args ...string) (*Process, io.Reader, error) {
	logs := filepath.Join(state, "log")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, nil, err
	}
	errs, err := os.Create(filepath.Join(logs, name+".log"))
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Stderr = errs
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = write
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Start()
	write.Close()
	errs.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p := &Process{cmd: cmd, Ended: make(chan error, 1), name: name, out: read}
	go func() { p.Ended <- cmd.Wait() }()
	return p, read, nil
}

// Terminate asks the process to end, and kills it when it does not.
func (p *Process) Terminate(patience time.Duration) error {
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil // it has ended already
	}
	select {
	case <-p.Ended:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.Ended
		return fmt.Errorf("%s did not end within %s and was killed", p.name, patience)
	}
}
