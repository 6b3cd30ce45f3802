// Package rig is what the end-to-end tests are built from: real programs in folders of their own, a signing authority
// that plays the collector, a peer that plays the agent on the actor's socket, cgroups, strace, containers and virtual
// machines.
//
// Whatever a test takes from the machine is given back by its cleanup, and carries the prefix "ek2e" or the variable
// EK2E in its environment, so that scripts/e2e/left finds what was not. A rig that cannot be had fails the test by name;
// nothing is skipped. The package owns the goroutines that read programs' output and sockets; they end with the test.
package rig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Prefix starts the name of everything that a rig makes outside its folder.
const Prefix = "ek2e"

// rootVariable names the folder with bin/ where the tests run outside the repository, as in a virtual machine.
const rootVariable = "EK2E_ROOT"

// Root returns the repository's folder.
func Root(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(rootVariable); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; at != "/"; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
	}
	t.Fatalf("%s is in no repository", dir)
	return ""
}

// Binary returns the path of a built program.
func Binary(t testing.TB, name string) string {
	t.Helper()
	p := filepath.Join(Root(t), "bin", name)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is not built: run make build (%v)", name, err)
	}
	return p
}

// Cached returns something that scripts/e2e/prepare fetched.
func Cached(t testing.TB, name string) string {
	t.Helper()
	p := filepath.Join(Root(t), ".state", "cache", name)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is missing: run scripts/e2e/run, which fetches it (%v)", name, err)
	}
	return p
}

// Folder returns a new folder with a short path, for unix addresses are short. Other users may enter it.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", Prefix+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("EK2E_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot remove the test's folder: %v", err)
		}
	})
	return dir
}

// Copy copies a file and keeps its mode.
func Copy(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// Write writes a file that nobody else may change.
func Write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Read returns a file's text without the white space around it.
func Read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Until tries until the condition gives "" and returns how long that took. What the condition gives instead is what is
// wrong, and is what a test fails with when patience ends.
func Until(t testing.TB, patience time.Duration, what string, condition func() string) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		wrong := condition()
		if wrong == "" {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %s: %s", what, patience, wrong)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Process is a running program, the leader of a process group of its own.
type Process struct {
	name   string
	cmd    *exec.Cmd
	output *output
	done   chan struct{}
	err    error // after done
}

// output keeps what a program prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns everything printed so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Start runs a program until the test ends. Its output is shown if the test fails.
func Start(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	return StartCmd(t, exec.Command(program, args...))
}

// StartCmd is Start for a command that is set up further.
func StartCmd(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{name: filepath.Base(cmd.Path), cmd: cmd, output: &output{}, done: make(chan struct{})}
	cmd.Env = Marked(cmd.Env)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.End()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, tail(p.output.String(), 8000))
		}
	})
	return p
}

// Marked returns an environment by which scripts/e2e/left knows a rig's processes.
func Marked(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	return append(env, "EK2E=1")
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns everything that the program printed.
func (p *Process) Output() string { return p.output.String() }

// Signal sends a signal to the program alone.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the program with SIGKILL and waits.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the program to end and returns its exit code.
func (p *Process) Stop(t testing.TB, patience time.Duration) int {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait(t, patience)
}

// Wait waits for the program's own end and returns its exit code.
func (p *Process) Wait(t testing.TB, patience time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s did not end within %s", p.name, patience)
	}
	return exitCode(p.err)
}

// End kills the whole process group, however far it got.
func (p *Process) End() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGCONT)
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// Run runs a program to its end and returns output and exit code.
func Run(t testing.TB, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return RunInput(t, "", program, args...)
}

// RunInput is Run with text on standard input.
func RunInput(t testing.TB, stdin, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Env = Marked(nil)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if code = exitCode(err); code < 0 {
		t.Fatalf("cannot run %s: %v", program, err)
	}
	return out.String(), errs.String(), code
}

// Must runs a program that has to succeed and returns its output.
func Must(t testing.TB, program string, args ...string) string {
	t.Helper()
	stdout, stderr, code := Run(t, program, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", program, strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// Helper returns a command that runs this test program again as something else: see Dispatch.
func Helper(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "EK2E_HELPER="+name)
	return cmd
}

// Dispatch runs a helper and ends the program, where Helper asked for one; else it returns.
func Dispatch(helpers map[string]func(args []string) error) {
	name := os.Getenv("EK2E_HELPER")
	if name == "" {
		return
	}
	helper, ok := helpers[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no helper %q\n", name)
		os.Exit(2)
	}
	if err := helper(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
