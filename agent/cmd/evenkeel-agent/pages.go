package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart unmaps the program's own code and constants. Most of what is mapped by then was used once, in starting;
// what is used again is mapped again from the page cache, without reading the disk. An agent lives for months on hosts that
// need their memory, so a few hundred page faults once are a good price for a third of its size. It returns how many
// bytes were let go.
//
// A mapping with pages of its own, such as one that was relocated, is left alone: it could not be had again.
func forgetStart() (freed int64) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return 0
	}
	var start, end uint64
	var resident int64
	for line := range strings.Lines(string(smaps)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case len(f) >= 5 && strings.Contains(f[0], "-"):
			start, end, resident = 0, 0, 0
			if len(f) == 6 && f[5] == self && (f[1] == "r-xp" || f[1] == "r--p") {
				from, to, _ := strings.Cut(f[0], "-")
				start, _ = strconv.ParseUint(from, 16, 64)
				end, _ = strconv.ParseUint(to, 16, 64)
			}
		case f[0] == "Rss:":
			resident, _ = strconv.ParseInt(f[1], 10, 64)
		case f[0] == "Anonymous:" && f[1] == "0" && start < end:
			if _, _, errno := unix.RawSyscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED); errno == 0 {
				freed += resident << 10
			}
		}
	}
	return freed
}
