package actuator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// old writes a file of some MiB that was last written some hours ago.
func old(t *testing.T, root, name string, size int, hours int) {
	t.Helper()
	p := filepath.Join(root, name)
	put(t, p, strings.Repeat("x", size*mib))
	at := time.Now().Add(-time.Duration(hours) * time.Hour)
	if err := os.Chtimes(p, at, at); err != nil {
		t.Fatal(err)
	}
}

func left(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, strings.TrimPrefix(p, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func TestRelief(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	old(t, root, "a.log.1", 2, 50)
	old(t, root, "deep/er/b.log.2", 2, 90) // the oldest
	old(t, root, "c.log.3", 2, 40)
	old(t, root, "young.log.4", 2, 1)
	old(t, root, "data.db", 2, 900)
	old(t, root, "twice.log.5", 2, 900)
	if err := os.Link(filepath.Join(root, "twice.log.5"), filepath.Join(outside, "twice")); err != nil {
		t.Fatal(err)
	}
	old(t, outside, "far.log.6", 2, 900)
	for name, to := range map[string]string{"file.log.7": filepath.Join(outside, "far.log.6"), "folder": outside} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := newRelief(time.Now)
	target := command.Target{Place: "logs"}
	if _, err := r.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatalf("nothing is declared: %v", err)
	}
	r.Declare(map[string]Place{"logs": {Root: root, Match: "*.log.*", OlderThan: 24 * time.Hour}})
	before := left(t, root)
	state, err := r.Prior(t.Context(), target)
	if err != nil || state.Text != "3 files, 6 MiB" {
		t.Fatalf("%+v %v", state, err)
	}
	if got := left(t, root); !slices.Equal(got, before) {
		t.Fatal("reading removed something")
	}
	ch := Change{Target: target, State: state, Values: []int64{3}}
	_, text, err := r.Write(t.Context(), ch)
	if err != nil || text != "deleted 2 files, 4 MiB" {
		t.Fatalf("%q %v", text, err)
	}
	want := []string{"c.log.3", "data.db", "file.log.7", "folder", "twice.log.5", "young.log.4"}
	if got := left(t, root); !slices.Equal(got, want) {
		t.Fatalf("left: %v, want %v", got, want)
	}
	if _, _, err := r.Restore(t.Context(), ch); command.ReasonOf(err) != command.ReasonNotReversible {
		t.Fatal(err)
	}
	if _, text, err = r.Write(t.Context(), ch); err != nil || text != "deleted 1 files, 2 MiB" {
		t.Fatalf("%q %v", text, err)
	}
	if _, _, err = r.Write(t.Context(), ch); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Fatal(err)
	}
	if _, err := r.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatal(err)
	}
	if got := left(t, outside); !slices.Equal(got, []string{"far.log.6", "twice"}) {
		t.Fatalf("outside: %v", got)
	}
}

// A file that a program holds open gives its space back when it is emptied, and its name stays.
func TestReliefEmpties(t *testing.T) {
	root := t.TempDir()
	old(t, root, "a.log", 3, 50)
	f, err := os.OpenFile(filepath.Join(root, "a.log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newRelief(time.Now)
	r.Declare(map[string]Place{"logs": {Root: root, Match: "*.log", OlderThan: time.Hour, Empty: true}})
	target := command.Target{Place: "logs"}
	state, err := r.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if _, text, err := r.Write(t.Context(), Change{Target: target, State: state, Values: []int64{1}}); err != nil || text != "emptied 1 files, 3 MiB" {
		t.Fatalf("%q %v", text, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Fatalf("%v %v", info, err)
	}
}

// A place that became a link leads nowhere; a file that was written between look and removal stays.
func TestReliefTrusts(t *testing.T) {
	root := t.TempDir()
	old(t, root, "real/a.log", 1, 50)
	if err := os.Symlink(filepath.Join(root, "real"), filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	r := newRelief(time.Now)
	r.Declare(map[string]Place{"link": {Root: filepath.Join(root, "link"), Match: "*.log", OlderThan: time.Hour}})
	if _, err := r.Prior(t.Context(), command.Target{Place: "link"}); command.ReasonOf(err) != command.ReasonDenied {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(filepath.Join(root, "real"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	info, err := dir.Lstat("a.log")
	if err != nil {
		t.Fatal(err)
	}
	old(t, root, "real/a.log", 1, 2) // written again
	if err := remove(dir, Place{}, oldFile{"a.log", info, mib}); err == nil {
		t.Fatal("a file that was written since was removed")
	}
	if err := os.Remove(filepath.Join(root, "real/a.log")); err != nil {
		t.Fatal(err)
	}
	old(t, root, "real/a.log", 1, 50) // another file of the same name
	if err := remove(dir, Place{Empty: true}, oldFile{"a.log", info, mib}); err == nil {
		t.Fatal("another file was emptied")
	}
}
