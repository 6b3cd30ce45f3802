package actuator

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// quotaFiles returns the knob of cpu.quota. Native text is that of version 2 in both: microseconds of CPU time, or
// "max", and the period that they are counted in. The period is never changed.
func quotaFiles(version int) setting {
	if version == 1 {
		return quotaV1{}
	}
	return quotaV2{}
}

const (
	unlimited  = "max"
	leastQuota = 1000 // microseconds: the kernel takes no less
)

type quotaV1 struct{}

func (quotaV1) file() string { return "cpu.cfs_quota_us" }

func (s quotaV1) read(root *os.Root, group string) (string, error) {
	quota, err := readText(root, path.Join(group, s.file()))
	if err != nil {
		return "", err
	}
	period, err := readText(root, path.Join(group, "cpu.cfs_period_us"))
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(quota, "-") {
		quota = unlimited
	}
	return quota + " " + period, nil
}

func (s quotaV1) write(root *os.Root, group, native string) error {
	quota, _, _ := strings.Cut(native, " ")
	if quota == unlimited {
		quota = "-1"
	}
	return writeText(root, path.Join(group, s.file()), quota)
}

func (quotaV1) native(percent int64, was former) (string, error) { return quotaText(percent, was.text) }
func (quotaV1) value(native, _ string) (int64, error)            { return quotaPercent(native) }

type quotaV2 struct{}

func (quotaV2) file() string { return "cpu.max" }

func (s quotaV2) read(root *os.Root, group string) (string, error) {
	return readText(root, path.Join(group, s.file()))
}

func (s quotaV2) write(root *os.Root, group, native string) error {
	return writeText(root, path.Join(group, s.file()), native)
}

func (quotaV2) native(percent int64, was former) (string, error) { return quotaText(percent, was.text) }
func (quotaV2) value(native, _ string) (int64, error)            { return quotaPercent(native) }

func quotaText(percent int64, prior string) (string, error) {
	_, period, err := parseQuota(prior)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(max(percent*period/100, leastQuota), 10) + " " + strconv.FormatInt(period, 10), nil
}

// quotaPercent counts no limit as all CPUs.
func quotaPercent(native string) (int64, error) {
	quota, period, err := parseQuota(native)
	if err != nil {
		return 0, err
	}
	if quota < 0 {
		return int64(runtime.NumCPU()) * 100, nil
	}
	return max(1, quota*100/period), nil
}

func parseQuota(native string) (quota, period int64, err error) {
	q, p, _ := strings.Cut(native, " ")
	period, err = strconv.ParseInt(p, 10, 64)
	if err != nil || period <= 0 {
		return 0, 0, fmt.Errorf("quota %q has no period", native)
	}
	if q == unlimited {
		return -1, period, nil
	}
	quota, err = strconv.ParseInt(q, 10, 64)
	if err != nil || quota < 0 {
		return 0, 0, fmt.Errorf("quota %q is no number", native)
	}
	return quota, period, nil
}
