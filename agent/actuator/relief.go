package actuator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Place is where a host's owner lets old files be removed.
type Place struct {
	Root      string        // absolute path of a folder that is no link
	Match     string        // pattern of a file's own name, as path.Match reads it
	OlderThan time.Duration // since it was last written
	Empty     bool          // cut to nothing instead of deleted: for files that a program holds open
}

// Relief is file.relief: it frees so many MiB in a declared place by deleting or emptying its files, oldest first, and stops
// when that is reached. Only ordinary files with one name, on the folder's own file system, are touched; links are not
// followed and nothing outside of the folder can be reached. It cannot be taken back.
type Relief struct {
	places atomic.Pointer[map[string]Place]
	clock  func() time.Time
}

// mostFiles bounds a walk.
const mostFiles = 200000

func newRelief(clock func() time.Time) *Relief {
	r := &Relief{clock: clock}
	r.Declare(nil)
	return r
}

// Declare says which places there are, by their names, instead of those before.
func (a *Relief) Declare(places map[string]Place) { a.places.Store(&places) }

type oldFile struct {
	path  string
	info  fs.FileInfo
	bytes int64 // that its blocks take
}

// Prior tells what could be freed.
func (a *Relief) Prior(_ context.Context, target command.Target) (State, error) {
	_, root, err := a.open(target)
	if err != nil {
		return State{}, err
	}
	defer root.Close()
	files, total, err := a.files(target, root)
	if err != nil {
		return State{}, err
	}
	if len(files) == 0 {
		return State{}, command.Refuse(command.ReasonNoTarget, "%s has no old file that could be removed", target)
	}
	return State{Text: fmt.Sprintf("%d files, %d MiB", len(files), total/mib), Knobs: []string{target.String()}}, nil
}

// Write frees the oldest files until the value is reached.
func (a *Relief) Write(ctx context.Context, c Change) (State, string, error) {
	place, root, err := a.open(c.Target)
	if err != nil {
		return c.State, "", err
	}
	defer root.Close()
	files, _, err := a.files(c.Target, root)
	if err != nil {
		return c.State, "", err
	}
	freed, count := int64(0), 0
	var last error
	for _, f := range files {
		if freed >= c.Value()*mib || ctx.Err() != nil {
			break
		}
		if err := remove(root, place, f); err != nil {
			last = err // the next one may do
			continue
		}
		freed, count = freed+f.bytes, count+1
	}
	what := "deleted"
	if place.Empty {
		what = "emptied"
	}
	text := fmt.Sprintf("%s %d files, %d MiB", what, count, freed/mib)
	if count == 0 {
		if last == nil {
			last = errors.New("they are gone already")
		}
		return c.State, text, command.Refuse(command.ReasonNoEffect, "no file of %s could be removed: %v", c.Target, last)
	}
	return c.State, text, ctx.Err()
}

// remove takes away the file that was found, and no other that has its name by now.
func remove(root *os.Root, p Place, f oldFile) error {
	now, err := root.Lstat(f.path)
	if err != nil {
		return err
	}
	if !os.SameFile(now, f.info) || !now.ModTime().Equal(f.info.ModTime()) {
		return fmt.Errorf("%s is in use", f.path)
	}
	if !p.Empty {
		return root.Remove(f.path)
	}
	file, err := root.OpenFile(f.path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if now, err = file.Stat(); err != nil {
		return err
	}
	if !os.SameFile(now, f.info) {
		return fmt.Errorf("%s is in use", f.path)
	}
	return file.Truncate(0)
}

// Look cannot tell what was there: a removal that was interrupted is for people.
func (a *Relief) Look(_ context.Context, c Change) (Standing, string, error) {
	_, root, err := a.open(c.Target)
	if err != nil {
		return 0, "", err
	}
	defer root.Close()
	files, total, err := a.files(c.Target, root)
	return Other, fmt.Sprintf("%d files, %d MiB", len(files), total/mib), err
}

// Restore refuses: what was removed is gone.
func (a *Relief) Restore(context.Context, Change) (Standing, string, error) {
	return 0, "", command.Refuse(command.ReasonNotReversible, "removed files do not come back")
}

// Tend does nothing.
func (a *Relief) Tend(_ context.Context, c Change) (State, bool, error) { return c.State, false, nil }

func (a *Relief) open(target command.Target) (Place, *os.Root, error) {
	place, ok := (*a.places.Load())[target.Place]
	if target.Kind() != command.OnPlace || !ok {
		return Place{}, nil, command.Refuse(command.ReasonNoTarget, "the permissions declare no %s", target)
	}
	info, err := os.Lstat(place.Root)
	if err != nil {
		return Place{}, nil, command.Refuse(command.ReasonNoTarget, "%s: %v", target, err)
	}
	if !info.IsDir() {
		return Place{}, nil, command.Refuse(command.ReasonDenied, "%s of %s is no folder", place.Root, target)
	}
	root, err := os.OpenRoot(place.Root)
	return place, root, err
}

// files returns what may go, oldest first.
func (a *Relief) files(target command.Target, root *os.Root) (files []oldFile, total int64, err error) {
	place := (*a.places.Load())[target.Place]
	top, err := root.Stat(".")
	if err != nil {
		return nil, 0, err
	}
	device := top.Sys().(*syscall.Stat_t).Dev
	before := a.clock().Add(-place.OlderThan)
	seen := 0
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if seen++; seen > mostFiles {
			return command.Refuse(command.ReasonDenied, "%s holds more than %d files", target, mostFiles)
		}
		if err != nil {
			return nil // files come and go while one looks
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Dev != device {
			if d.IsDir() && p != "." {
				return fs.SkipDir // another file system
			}
			return nil
		}
		if match, _ := path.Match(place.Match, d.Name()); !match || !info.Mode().IsRegular() || st.Nlink != 1 || st.Blocks == 0 || info.ModTime().After(before) {
			return nil
		}
		files = append(files, oldFile{p, info, st.Blocks * 512})
		total += st.Blocks * 512
		return nil
	})
	slices.SortFunc(files, func(x, y oldFile) int {
		return cmp.Or(x.info.ModTime().Compare(y.info.ModTime()), cmp.Compare(x.path, y.path))
	})
	return files, total, err
}
