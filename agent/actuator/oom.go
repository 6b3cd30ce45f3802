package actuator

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// oomPreference is process.oom: when memory runs out, the kernel takes these processes first. A score is only ever raised,
// and what raised it may lower it again as far as it was: the kernel's floor is never above what is read.
type oomPreference struct{ proc procfs }

const leastOOM, mostOOM = -1000, 1000

func (oomPreference) able(procfs) error { return nil }

func (k oomPreference) fit(p procfs, pid int) error {
	f, err := os.OpenFile(k.file(pid), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrPermission) {
		return command.Refuse(command.ReasonNotReversible, "oom_score_adj of process %d cannot be written by this user", pid)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func (k oomPreference) file(pid int) string {
	return filepath.Join(k.proc.root, strconv.Itoa(pid), "oom_score_adj")
}

func (k oomPreference) get(pid int) (int, error) {
	b, err := os.ReadFile(k.file(pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(trimSpace(b))
}

func (k oomPreference) set(pid, v int) error {
	f, err := os.OpenFile(k.file(pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(v))
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func (oomPreference) whole(int) error                  { return nil }
func (oomPreference) threads() bool                    { return false }
func (oomPreference) empty() int                       { return mostOOM }
func (oomPreference) join(all, one int) int            { return min(all, one) }
func (oomPreference) neutral(all int) int64            { return int64(max(all, leastOOM)) }
func (oomPreference) wanted(prior, _ int, v int64) int { return max(prior, int(v)) }
func (oomPreference) shown(_ int, v int64) string      { return strconv.FormatInt(v, 10) }
func (oomPreference) text(v int) string                { return strconv.Itoa(v) }
func (oomPreference) parse(s string) (int, error)      { return strconv.Atoi(s) }
func (oomPreference) prefix() string                   { return "oom" }
