//go:build e2e

// Package e2e holds the tests of layer L3: the real programs with real kernels, cgroups, init systems and networks. Each
// test says in its comment what must hold. scripts/e2e/run prepares the machine and runs them, as root on Debian.
package e2e

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

// helpers are the other programs that this test program can be.
var helpers = map[string]func(args []string) error{
	"connect-tcp": connectTCP,
	"direct":      direct,
	"exporter":    exporter,
	"fetch-tcp":   fetchTCP,
	"hog":         hog,
	"knock":       knocking,
	"nap":         nap,
	"serve-tcp":   serveTCP,
	"spin":        spin,
	"spin-pinned": spinPinned,
}

func TestMain(m *testing.M) {
	flag.Parse()
	rig.Dispatch(helpers)
	rig.RunInside(insides)
	os.Exit(m.Run())
}

// spin uses all the CPU it can get on one core.
func spin([]string) error {
	for {
	}
}

// spinPinned does so on the one CPU that it is given, with every thread that it has by then.
func spinPinned(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var mask unix.CPUSet
	mask.Set(n)
	for range 3 { // a thread that is not pinned yet may start another one meanwhile
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range list {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, &mask); err != nil {
				return err
			}
		}
	}
	return spin(nil)
}
