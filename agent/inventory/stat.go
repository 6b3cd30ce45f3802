package inventory

import (
	"os"
	"syscall"
)

// stat returns the stamp of a file, the zero one where there is none that can be seen.
func (w *Watcher) stat(path string) stamp {
	info, err := os.Stat(w.path(path))
	if err != nil || !info.Mode().IsRegular() {
		return stamp{}
	}
	s := stamp{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Inode = sys.Ino
	}
	return s
}
