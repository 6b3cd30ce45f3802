// Package version says which Evenkeel this is. The linker sets Version; the rest comes from the build's own record.
// It prints nothing and compares nothing.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the release, set at build time.
var Version = "0.1.0-dev"

// Revision returns the commit that was built, or "unknown" where the build kept none.
func Revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// Line returns the one line that every binary prints for `version`.
func Line(program string) string {
	return fmt.Sprintf("%s %s (%s, %s %s/%s)", program, Version, Revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
