package actuator

import (
	"fmt"
	"os"
	"path"
	"strconv"
)

// weightFiles returns the knob of cpu.weight: the weight itself in version 2, shares in version 1, where 1024 shares are
// a weight of 100.
func weightFiles(version int) setting {
	if version == 1 {
		return sharesV1{}
	}
	return weightV2{}
}

const (
	leastShares = 2
	mostShares  = 262144
)

type sharesV1 struct{}

func (sharesV1) file() string { return "cpu.shares" }

func (s sharesV1) read(root *os.Root, group string) (string, error) {
	return readText(root, path.Join(group, s.file()))
}

func (s sharesV1) write(root *os.Root, group, native string) error {
	return writeText(root, path.Join(group, s.file()), native)
}

func (sharesV1) native(weight int64, _ former) (string, error) {
	return strconv.FormatInt(min(max(weight*1024/100, leastShares), mostShares), 10), nil
}

func (sharesV1) value(native, _ string) (int64, error) {
	n, err := strconv.ParseInt(native, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cpu.shares holds %q, which is no number", native)
	}
	return max(1, n*100/1024), nil
}

type weightV2 struct{}

func (weightV2) file() string { return "cpu.weight" }

func (s weightV2) read(root *os.Root, group string) (string, error) {
	return readText(root, path.Join(group, s.file()))
}

func (s weightV2) write(root *os.Root, group, native string) error {
	return writeText(root, path.Join(group, s.file()), native)
}

func (weightV2) native(weight int64, _ former) (string, error) {
	return strconv.FormatInt(weight, 10), nil
}

func (weightV2) value(native, _ string) (int64, error) {
	n, err := strconv.ParseInt(native, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cpu.weight holds %q, which is no number", native)
	}
	return n, nil
}
