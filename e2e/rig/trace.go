package rig

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Trace is strace around a program: what it writes to cgroups and whose CPU mask it sets, seen from outside.
type Trace struct{ file string }

// NewTrace returns a trace into a file of the test's own.
func NewTrace(t testing.TB) Trace {
	t.Helper()
	return Trace{file: filepath.Join(Folder(t), "strace")}
}

// Wrap is what stands before the program's own words on the command line.
func (tr Trace) Wrap() []string {
	return []string{
		"strace", "-f", "-y", "-qq", "-s", "64", "-o", tr.file,
		"-e", "trace=write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,sendfile,copy_file_range,splice,sched_setaffinity,sched_setattr,sched_setscheduler,setpriority,openat,openat2,open,creat,rename,renameat2",
	}
}

// Calls that change the host as an actor may: a write to an open cgroup file, opening one so that it is emptied, and
// every call that sets how another task is scheduled.
var (
	cgroupWrite = regexp.MustCompile(`\b(write|pwrite64|writev|pwritev2?|ftruncate|sendfile|copy_file_range|splice)\(\d+<[^>]*/cgroup/`)
	truncating  = regexp.MustCompile(`\b(openat2?|open|creat)\(.*/?(cgroup|cpu\.)[^"]*".*O_TRUNC`)
	scheduling  = regexp.MustCompile(`\bsched_set(affinity|attr|scheduler)\(|\bsetpriority\(`)
)

// Writes returns every call so far that changed a cgroup or the scheduling of a task.
func (tr Trace) Writes(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile(tr.file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if cgroupWrite.MatchString(line) || truncating.MatchString(line) || scheduling.MatchString(line) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
