// Package units makes cgroups with one process each, so that a small host shows as many series as a usual server: every
// unit is a handful of series to the agent.
//
// It writes below the cgroup mount only, in groups of its own name, and takes them away again. It starts no goroutine.
package units

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const mount = "/sys/fs/cgroup"

// Set is some groups and the processes in them.
type Set struct {
	bases []string // folder of each hierarchy
	names []string
	units []*exec.Cmd
	pipes []*os.File
}

// hierarchies returns the folders in which a group has to be made for the agent to see it as a whole unit.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		for _, c := range []string{"+cpu", "+memory", "+io", "+pids"} {
			if err := os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), []byte(c), 0o644); err != nil {
				return nil, err
			}
		}
		return []string{mount}, nil
	}
	var all []string
	seen := map[string]bool{}
	for _, c := range []string{"cpu", "cpuacct", "memory", "blkio", "pids", "unified"} {
		dir, err := filepath.EvalSymlinks(filepath.Join(mount, c))
		if err != nil || seen[dir] {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			continue
		}
		seen[dir] = true
		all = append(all, dir)
	}
	if len(all) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return all, nil
}

// Start makes n groups called prefix-00 and so on, and starts in each what command returns for its number. The standard
// input of each process is a pipe that Tell writes to, and that ends with Stop. It needs root.
func Start(prefix string, n int, command func(i int) *exec.Cmd) (_ *Set, err error) {
	s := &Set{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot make units: %w", err), s.Stop())
		}
	}()
	if s.bases, err = hierarchies(); err != nil {
		return nil, err
	}
	for i := range n {
		name := fmt.Sprintf("%s-%02d", prefix, i)
		s.names = append(s.names, name)
		for _, base := range s.bases {
			if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		s.pipes = append(s.pipes, w)
		cmd := command(i)
		cmd.Stdin = r
		err = cmd.Start()
		_ = r.Close()
		if err != nil {
			return nil, err
		}
		s.units = append(s.units, cmd)
		for _, base := range s.bases {
			if err := os.WriteFile(filepath.Join(base, name, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Shares gives every unit a CPU weight of 100 parts in parts, so that they leave room for what else runs on the machine.
func (s *Set) Shares(weight int) {
	for _, base := range s.bases {
		for _, name := range s.names {
			file, value := filepath.Join(base, name, "cpu.shares"), weight*1024/100
			if base == mount {
				file, value = filepath.Join(base, name, "cpu.weight"), weight
			}
			if _, err := os.Stat(file); err == nil {
				_ = os.WriteFile(file, []byte(strconv.Itoa(value)), 0o644) // a lower weight is a courtesy
			}
		}
	}
}

// Tell writes a line to every process.
func (s *Set) Tell(line string) {
	for _, w := range s.pipes {
		_, _ = w.WriteString(strings.TrimSpace(line) + "\n") // a process that ended is found by Stop
	}
}

// Stop ends the processes and removes the groups.
func (s *Set) Stop() error {
	var errs []error
	for _, w := range s.pipes {
		_ = w.Close()
	}
	for _, c := range s.units {
		done := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		done.Stop()
	}
	for _, base := range s.bases {
		for _, name := range s.names {
			dir := filepath.Join(base, name)
			for try := 0; ; try++ {
				err := os.Remove(dir)
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					break
				}
				if try == 50 { // the kernel may still be ending the process
					errs = append(errs, err)
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	s.pipes, s.units, s.names = nil, nil, nil
	return errors.Join(errs...)
}
