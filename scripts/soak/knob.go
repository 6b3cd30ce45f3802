package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// groups are the two cgroups of the soak: the server's, which is given little, and the batch job's, which is squeezed, by
// its weight or by the CPU masks of its tasks.
type groups struct {
	mount, parent, file string
	neutral, squeezed   string // what the batch job's file reads before, and during a command
	pid                 int    // of the batch job, where its masks are what commands change; else 0
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

// knob is what commands change.
func (g *groups) knob() string {
	if g.pid > 0 {
		return fmt.Sprintf("CPUs allowed to process %d", g.pid)
	}
	return filepath.Join(g.dir("batch"), g.file)
}

// reads is what the kernel says of the knob.
func (g *groups) reads() string {
	if g.pid > 0 {
		return masks(g.pid)
	}
	b, err := os.ReadFile(g.knob())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// free reports whether the knob reads as it did before anything happened.
func (g *groups) free() bool { return g.reads() == g.neutral }

// masks lists the CPUs allowed to the tasks of a process, each list once.
func masks(pid int) string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	var lists []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the task has ended
		}
		for line := range strings.Lines(string(b)) {
			if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok && !slices.Contains(lists, strings.TrimSpace(list)) {
				lists = append(lists, strings.TrimSpace(list))
			}
		}
	}
	slices.Sort(lists)
	return strings.Join(lists, " and ")
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
