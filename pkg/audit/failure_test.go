package audit

import (
	"errors"
	"testing"
	"time"
)

// failing is a file whose next write or sync fails, as on a full or broken disk.
type failing struct {
	file
	writes, syncs, truncates int // that fail from now on
}

func (f *failing) Write(b []byte) (int, error) {
	if f.writes > 0 {
		f.writes--
		n, _ := f.file.Write(b[:len(b)/2])
		return n, errors.New("no space left on device")
	}
	return f.file.Write(b)
}

func (f *failing) Sync() error {
	if f.syncs > 0 {
		f.syncs--
		return errors.New("input/output error")
	}
	return f.file.Sync()
}

func (f *failing) Truncate(size int64) error {
	if f.truncates > 0 {
		f.truncates--
		return errors.New("input/output error")
	}
	return f.file.Truncate(size)
}

// An entry that could not be written leaves nothing behind that would break the chain for those after it.
func TestTroubleWithTheDiskBreaksNoChain(t *testing.T) {
	for name, trouble := range map[string]failing{
		"half a line": {writes: 2}, "not synced": {syncs: 2}, "both": {writes: 1, syncs: 1}, "not even cut back": {writes: 1, truncates: 1},
	} {
		dir := t.TempDir()
		l, err := Open(dir, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		written := 0
		add := func() {
			if l.Append(t.Context(), "ann", "apply", "service/s", "done", "") == nil {
				written++
			}
		}
		add()
		trouble.file = l.file
		l.file = &trouble
		for range 4 {
			add()
		}
		if want := map[bool]int{false: 3, true: 1}[name == "not even cut back"]; written != want {
			t.Errorf("%s: %d entries were taken, want %d", name, written, want)
		}
		if err := l.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again, err := Open(dir, time.Now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if seq, _ := again.Head(); seq != uint64(written) {
			t.Errorf("%s: the log has %d entries, %d were taken", name, seq, written)
		}
		if all, err := again.List(0, 10, ""); err != nil || len(all) != written {
			t.Errorf("%s: %d entries listed, %v", name, len(all), err)
		}
		again.Close()
	}
}
