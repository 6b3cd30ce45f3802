package actor

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// HostClock reads both clocks of this host. The wall time carries no monotonic part, so that a clock that is set shows.
func HostClock() Moment {
	m := Moment{Wall: time.Now().Round(0)}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("BUG: this kernel has no CLOCK_BOOTTIME: " + err.Error())
	}
	m.Boot = time.Duration(ts.Nano())
	return m
}

// HostBootID returns the kernel's name for the present boot.
func HostBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell the present boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
