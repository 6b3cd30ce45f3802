package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a program that is started again and again. Its methods belong to the goroutine that started the soak.
type process struct {
	name   string
	argv   []string
	log    string // of all its lives, one after the other
	cmd    *exec.Cmd
	ended  chan struct{} // of this life
	lives  int
	before func(life int) ([]string, error) // words before argv, such as those of strace; nil: none
	after  func(pid int) error
}

// said returns what a life wrote to the log.
func (p *process) said(life int) (string, error) {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(b), fmt.Sprintf("--- life %d at ", life))
	if !ok {
		return "", fmt.Errorf("%s has no life %d", p.log, life)
	}
	_, rest, _ = strings.Cut(rest, "\n")
	rest, _, _ = strings.Cut(rest, "--- life ")
	return rest, nil
}

// start begins a life. Standard output goes to out, or to the log.
func (p *process) start(in io.Reader, out io.Writer) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.lives++
	fmt.Fprintf(log, "--- life %d at %s\n", p.lives, time.Now().UTC().Format(time.RFC3339Nano))
	argv := p.argv
	if p.before != nil {
		words, err := p.before(p.lives)
		if err != nil {
			return err
		}
		argv = append(words, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, log, log
	if out != nil {
		cmd.Stdout = out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	if p.after != nil {
		return p.after(cmd.Process.Pid)
	}
	return nil
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill sends SIGKILL and does not wait.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// stop asks the program to end, and kills it when it does not.
func (p *process) stop(patience time.Duration) error {
	if !p.running() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		p.kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s of being asked to", p.name, patience)
	}
}

// death says how a life ended that was not meant to.
func (p *process) death() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return fmt.Sprintf("%s has ended by itself, %s: %s", p.name, p.cmd.ProcessState, strings.Join(lines[max(0, len(lines)-3):], " | "))
}
