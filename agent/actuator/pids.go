package actuator

import (
	"fmt"
	"os"
	"path"
	"strconv"
)

// pidsSetting is pids.max, the same in both versions: the most processes and threads of a group. What runs goes on; a
// fork beyond the number fails.
type pidsSetting struct{}

// plentyOfPIDs stands for no limit where a release goes back to it in steps: what a host of Debian's settings has.
const plentyOfPIDs = 32768

func (pidsSetting) file() string { return "pids.max" }

func (s pidsSetting) read(root *os.Root, group string) (string, error) {
	return readText(root, path.Join(group, s.file()))
}

func (s pidsSetting) write(root *os.Root, group, native string) error {
	return writeText(root, path.Join(group, s.file()), native)
}

// fit refuses a group that holds whoever would have to give it back: it could no longer start a thread.
func (pidsSetting) fit(root *os.Root, group string) error { return notOurs(root, group) }

func (pidsSetting) native(value int64, _ former) (string, error) {
	return strconv.FormatInt(value, 10), nil
}

func (pidsSetting) value(native, _ string) (int64, error) {
	if native == unlimited {
		return plentyOfPIDs, nil
	}
	n, err := strconv.ParseInt(native, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("pids.max holds %q, which is no number", native)
	}
	return n, nil
}
