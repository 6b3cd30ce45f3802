package agent

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// settle gives back to the kernel what only the start needed: free heap, and the pages of the program's own file that
// were mapped while it started. Those are read-only and unchanged, so the kernel maps again, from its cache, the few that
// are still in use. Without it an agent carries the code of reading its configuration for as long as it runs.
func settle() {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		if from, to, ok := ownPages(line, exe); ok {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
		}
	}
}

// ownPages reads a line of /proc/self/maps, and returns its addresses if it maps exe privately and read-only.
func ownPages(line, exe string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) != 6 || f[5] != exe || f[1] != "r-xp" && f[1] != "r--p" {
		return 0, 0, false
	}
	a, b, ok := strings.Cut(f[0], "-")
	if !ok {
		return 0, 0, false
	}
	x, errA := strconv.ParseUint(a, 16, 64)
	y, errB := strconv.ParseUint(b, 16, 64)
	if errA != nil || errB != nil || y <= x {
		return 0, 0, false
	}
	return uintptr(x), uintptr(y), true
}
