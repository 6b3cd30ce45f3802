package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/probe"
)

// reading is one thing that the agent was seen to read again and again.
type reading struct {
	Path   string `json:"path"` // a "*" stands for every process
	Op     string `json:"op"`   // read, statfs, list, link
	Period int    `json:"period"`
	Calls  int    `json:"calls"` // system calls that one reading took
	Opens  bool   `json:"opens"` // opened anew for each reading
}

var (
	byDescriptor = regexp.MustCompile(`^\d+ +(?:\S+ +)?(pread64|read|getdents64)\(\d+<([^>]*)>`)
	byOpen       = regexp.MustCompile(`(?:openat\(.*|<\.\.\. openat resumed>.*)= \d+<([^>]*)>`)
	byStatfs     = regexp.MustCompile(`statfs\("([^"]*)"`)
	aProcess     = regexp.MustCompile(`^/proc/\d+/`)
)

// observe watches the system calls of a process and returns what it reads, and how often.
func observe(pid, seconds int, scratch string) ([]reading, error) {
	out := filepath.Join(scratch, "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-y", "-s", "0", "-e", "signal=none",
		"-e", "trace=read,pread64,openat,statfs,getdents64", "-o", out, "-p", strconv.Itoa(pid))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: apt-get install strace", err)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait() // strace ends with the signal that ended it
	f, err := os.Open(out)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	type key struct{ op, path string }
	calls, opens := map[key]int{}, map[string]int{}
	pids := map[string]map[string]bool{}
	name := func(path string) string {
		if m := aProcess.FindString(path); m != "" && !strings.HasPrefix(path, fmt.Sprintf("/proc/%d/", pid)) {
			star := "/proc/*/" + path[len(m):]
			if pids[star] == nil {
				pids[star] = map[string]bool{}
			}
			pids[star][m] = true
			return star
		}
		return path
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if m := byDescriptor.FindStringSubmatch(line); m != nil && kernel(m[2]) {
			op := "read"
			if m[1] == "getdents64" {
				op = "list"
			}
			calls[key{op, name(m[2])}]++
		} else if m := byStatfs.FindStringSubmatch(line); m != nil {
			calls[key{"statfs", m[1]}]++
		} else if m := byOpen.FindStringSubmatch(line); m != nil && kernel(m[1]) {
			opens[name(m[1])]++
		}
	}
	var all []reading
	for k, n := range calls {
		// Each process counts for itself: a walk through them all reads each once.
		each := float64(n) / float64(max(1, len(pids[k.path])))
		rate := each / float64(seconds)
		r := reading{Path: k.path, Op: k.op, Period: 10}
		if rate > 0.5 {
			r.Period = 1
		}
		if each < 2 && len(pids[k.path]) == 0 {
			continue // once, by the way: no period
		}
		r.Calls = max(1, int(math.Round(rate*float64(r.Period))))
		r.Opens = float64(opens[k.path]) > float64(n)/float64(r.Calls)/2
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b reading) int { return strings.Compare(a.Path+a.Op, b.Path+b.Op) })
	return all, nil
}

func kernel(path string) bool {
	return strings.HasPrefix(path, "/proc/") || path == "/proc" || strings.HasPrefix(path, "/sys/")
}

// runtimeReads says that a file is read by Go's runtime, which does so in the raw reader as well.
func runtimeReads(path string) bool {
	switch filepath.Base(path) {
	case "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us":
		return true
	}
	return false
}

// compare prints how what was seen differs from what the probes say that they read.
func compare(seen []reading, pid int) error {
	set, err := probe.New(probe.Config{})
	if err != nil {
		return err
	}
	defer set.Close()
	if err := readTwice(set); err != nil {
		return err
	}
	link := strings.NewReplacer(fmt.Sprintf("/proc/%d/net/", pid), "/proc/net/", fmt.Sprintf("/proc/%d/", pid), "/proc/self/", fmt.Sprintf("/proc/%d/", os.Getpid()), "/proc/self/")
	declared := map[string]bool{}
	for _, f := range set.Files() {
		declared[link.Replace(f.Path)] = true
	}
	var more []string
	for _, r := range seen {
		path := link.Replace(r.Path)
		if !declared[path] {
			more = append(more, r.Path)
		}
		delete(declared, path)
	}
	var less []string
	for path := range declared {
		less = append(less, path)
	}
	slices.Sort(less)
	if len(more) > 0 {
		fmt.Println("seen, but not among what the probes say:", strings.Join(more, " "))
	}
	if len(less) > 0 {
		fmt.Println("said by the probes, but not seen:", strings.Join(less, " "))
	}
	return nil
}
