package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// groups are the two cgroups of the soak: the server's, which is given little, and the batch job's, which is squeezed.
type groups struct {
	mount, parent, file string
	neutral, squeezed   string // what the batch job's file reads before, and during a command
}

const (
	squeeze = 10 // the weight that the runbook sets
)

func makeGroups() (*groups, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("the soak makes cgroups and needs root")
	}
	g := &groups{parent: fmt.Sprintf("/evenkeel-soak-%d", os.Getpid())}
	server := ""
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.shares"); err == nil {
		g.mount, g.file, g.neutral, g.squeezed, server = "/sys/fs/cgroup/cpu", "cpu.shares", "1024", fmt.Sprint(squeeze*1024/100), "256"
	} else {
		g.mount, g.file, g.neutral, g.squeezed, server = "/sys/fs/cgroup", "cpu.weight", "100", fmt.Sprint(squeeze), "25"
		if err := os.WriteFile(filepath.Join(g.mount, "cgroup.subtree_control"), []byte("+cpu"), 0o644); err != nil {
			return nil, fmt.Errorf("this machine has no cpu hierarchy that can be written: %w", err)
		}
	}
	if err := os.Mkdir(g.dir(""), 0o755); err != nil {
		return nil, err
	}
	if g.file == "cpu.weight" {
		if err := os.WriteFile(filepath.Join(g.dir(""), "cgroup.subtree_control"), []byte("+cpu"), 0o644); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"server", "batch"} {
		if err := os.Mkdir(g.dir(name), 0o755); err != nil {
			return nil, err
		}
	}
	return g, os.WriteFile(filepath.Join(g.dir("server"), g.file), []byte(server), 0o644)
}

func (g *groups) dir(name string) string { return filepath.Join(g.mount, g.parent, name) }

// path is what stands in the map and in the permissions.
func (g *groups) path(name string) string { return g.parent + "/" + name }

// knob is the file that commands change.
func (g *groups) knob() string { return filepath.Join(g.dir("batch"), g.file) }

func (g *groups) reads() string {
	b, err := os.ReadFile(g.knob())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func (g *groups) enter(name string) func(pid int) error {
	return func(pid int) error {
		return os.WriteFile(filepath.Join(g.dir(name), "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644)
	}
}

// remove takes the groups away; they are empty once the programs in them ended.
func (g *groups) remove() {
	for _, dir := range []string{g.dir("server"), g.dir("batch"), g.dir("")} {
		for range 50 {
			if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}
