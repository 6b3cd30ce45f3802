package actuator

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Actions on the priority of a process tree. The kernel lets anybody give way and few take it back, so those whose way
// back needs a privilege are refused without it.

// nice is process.nice: a task gets at least so large a nice value; one that is nicer already is left alone.
type nice struct{}

// privileged says that the way back needs CAP_SYS_NICE, where this process lacks it.
func privileged(p procfs, what string) error {
	if !p.has(unix.CAP_SYS_NICE) {
		return command.Refuse(command.ReasonNotReversible, "%s cannot be taken back without CAP_SYS_NICE, which this actor lacks", what)
	}
	return nil
}

func (nice) able(p procfs) error              { return privileged(p, "a nice value") }
func (nice) fit(p procfs, _ int) error        { return privileged(p, "a nice value") }
func (nice) whole(int) error                  { return nil }
func (nice) threads() bool                    { return true }
func (nice) empty() int                       { return maxNice }
func (nice) join(all, one int) int            { return min(all, one) }
func (nice) neutral(all int) int64            { return int64(all) }
func (nice) text(v int) string                { return strconv.Itoa(v) }
func (nice) parse(s string) (int, error)      { return strconv.Atoi(s) }
func (nice) prefix() string                   { return "nice" }
func (nice) shown(_ int, v int64) string      { return strconv.FormatInt(v, 10) }
func (nice) wanted(prior, _ int, v int64) int { return max(prior, int(v)) }

const maxNice = 19

// get turns the kernel's 40..1 into -20..19.
func (nice) get(tid int) (int, error) {
	v, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	return 20 - v, err
}

func (nice) set(tid, v int) error { return unix.Setpriority(unix.PRIO_PROCESS, tid, v) }

// schedClass is process.sched: 1 is SCHED_BATCH, 2 is SCHED_IDLE. Only tasks of the ordinary classes are moved, and only
// downwards: one with a deadline or of real time keeps its class.
type schedClass struct{}

var schedNames = map[uint32]string{unix.SCHED_NORMAL: "other", unix.SCHED_BATCH: "batch", unix.SCHED_IDLE: "idle", unix.SCHED_FIFO: "fifo", unix.SCHED_RR: "rr", unix.SCHED_DEADLINE: "deadline"}

// schedRank orders the ordinary classes by how far they give way; -1 is none of them.
func schedRank(policy uint32) int64 {
	switch policy {
	case unix.SCHED_NORMAL:
		return 0
	case unix.SCHED_BATCH:
		return 1
	case unix.SCHED_IDLE:
		return 2
	}
	return -1
}

func schedOf(rank int64) uint32 {
	return [...]uint32{unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE}[min(max(rank, 0), 2)]
}

func (schedClass) able(p procfs) error       { return privileged(p, "a scheduling class") }
func (schedClass) fit(p procfs, _ int) error { return privileged(p, "a scheduling class") }
func (schedClass) whole(uint32) error        { return nil }
func (schedClass) threads() bool             { return true }
func (schedClass) empty() uint32             { return unix.SCHED_IDLE }
func (schedClass) neutral(all uint32) int64  { return max(0, schedRank(all)) }
func (schedClass) prefix() string            { return "sched" }

func (schedClass) join(all, one uint32) uint32 {
	return mildest(schedRank, all, one)
}

func (schedClass) wanted(prior, _ uint32, v int64) uint32 {
	return lowered(schedRank, schedOf, prior, v)
}

func (schedClass) shown(_ uint32, v int64) string { return schedNames[schedOf(v)] }

func (schedClass) text(v uint32) string {
	if name, ok := schedNames[v]; ok {
		return name
	}
	return strconv.FormatUint(uint64(v), 10)
}

func (schedClass) parse(s string) (uint32, error) {
	for v, name := range schedNames {
		if name == s {
			return v, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

func (schedClass) get(tid int) (uint32, error) {
	a, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return 0, err
	}
	return a.Policy, nil
}

// set changes the class and nothing beside it: the nice value may be somebody else's by now.
func (schedClass) set(tid int, policy uint32) error {
	a, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return err
	}
	a.Policy = policy
	return unix.SchedSetAttr(tid, a, 0)
}

// ioNice is process.ionice: levels 0 to 7 of the best-effort class, 8 is the idle class. A task that gives way further, or
// is of the real-time class, is left alone. The way back needs no privilege for one's own processes.
type ioNice struct{}

// The numbers of ioprio(2): the class stands above 13 bits of level.
const (
	ioprioProcess  = 1
	ioprioShift    = 13
	ioprioNone     = 0 // the level follows from the nice value
	ioprioRealtime = 1
	ioprioBest     = 2
	ioprioIdle     = 3
	ioIdle         = 8 // the action's value
	ioMiddle       = 4 // what a nice value of 0 comes to
)

func ioRank(prio int) int64 {
	switch level := int64(prio & (1<<ioprioShift - 1)); prio >> ioprioShift {
	case ioprioNone:
		return ioMiddle
	case ioprioBest:
		return min(level, ioIdle-1)
	case ioprioIdle:
		return ioIdle
	}
	return -1
}

func ioOf(value int64) int {
	if value >= ioIdle {
		return ioprioIdle << ioprioShift
	}
	return ioprioBest<<ioprioShift | int(max(value, 0))
}

func (ioNice) able(procfs) error           { return nil }
func (ioNice) fit(p procfs, pid int) error { return ownOrNice(p, pid, "I/O priority") }
func (ioNice) whole(int) error             { return nil }
func (ioNice) threads() bool               { return true }
func (ioNice) empty() int                  { return ioprioIdle << ioprioShift }
func (ioNice) neutral(all int) int64       { return max(0, ioRank(all)) }
func (ioNice) prefix() string              { return "ionice" }
func (ioNice) shown(_ int, v int64) string { return ioNice{}.text(ioOf(v)) }

func (ioNice) join(all, one int) int {
	return mildest(ioRank, all, one)
}

func (ioNice) wanted(prior, _ int, v int64) int {
	return lowered(ioRank, ioOf, prior, v)
}

func (ioNice) text(v int) string {
	level := strconv.Itoa(v & (1<<ioprioShift - 1))
	switch v >> ioprioShift {
	case ioprioNone:
		return "none"
	case ioprioRealtime:
		return "realtime " + level
	case ioprioBest:
		return "best-effort " + level
	case ioprioIdle:
		return "idle"
	}
	return strconv.Itoa(v)
}

func (ioNice) parse(s string) (int, error) {
	switch s {
	case "none":
		return ioprioNone, nil
	case "idle":
		return ioprioIdle << ioprioShift, nil
	}
	class := 0
	for prefix, c := range map[string]int{"realtime ": ioprioRealtime, "best-effort ": ioprioBest} {
		if len(s) > len(prefix) && s[:len(prefix)] == prefix {
			s, class = s[len(prefix):], c<<ioprioShift
		}
	}
	n, err := strconv.Atoi(s)
	return class | n, err
}

func (ioNice) get(tid int) (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioProcess, uintptr(tid), 0)
	if errno != 0 {
		return 0, errno
	}
	if int(v)>>ioprioShift == ioprioIdle {
		v = ioprioIdle << ioprioShift // the idle class has no levels, whatever was written
	}
	return int(v), nil
}

func (ioNice) set(tid, v int) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, uintptr(tid), uintptr(v)); errno != 0 {
		return errno
	}
	return nil
}

// mildest is the one of two settings that gives way less; a rank below 0 is of a setting that does not count.
func mildest[T any](rank func(T) int64, all, one T) T {
	if r := rank(one); r >= 0 && r < rank(all) {
		return one
	}
	return all
}

// lowered is the setting of a rank, where the prior one gives way less and counts.
func lowered[T any](rank func(T) int64, of func(int64) T, prior T, to int64) T {
	if r := rank(prior); r >= 0 && r < to {
		return of(to)
	}
	return prior
}
