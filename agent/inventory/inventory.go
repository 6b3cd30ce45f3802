// Package inventory notices what was changed on a host between two looks: another boot, packages that came, went or got
// another version, unit files and programs of the watched components that were replaced. A collector puts it beside what
// broke at the same time.
//
// It only reads. What it saw last is kept in a file of the agent's, so that changes while the agent was away are noticed too; the first look
// of all has nothing to compare with and tells nothing.
package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// The kinds of change.
const (
	Boot    = "boot"
	Package = "package"
	Unit    = "unit"
	Binary  = "binary"
)

// Change is one thing that is not as it was. Before and After are empty where there was nothing, or is nothing.
type Change struct {
	Kind      string
	Component string // whose unit or program it is; empty for the host
	What      string // "nginx", "/etc/systemd/system/web.service"
	Before    string
	After     string
	At        time.Time // when it was done, as far as the host tells; else when it was noticed
}

// Component is one whose files are looked at. Empty fields are none.
type Component struct {
	Name string
	Unit string // "web.service"
	Exe  string // absolute path of its program
}

// Config says where to look. Tell is called for each change, from the goroutine of Run.
type Config struct {
	Root  string // of the file system; "/" when empty
	State string // file in which is kept what was seen last
	Every time.Duration
	Now   func() time.Time
	Tell  func(Change)
	Log   *slog.Logger
}

// Watcher looks now and then.
type Watcher struct {
	cfg  Config
	seen seen

	mu         sync.Mutex
	components []Component
	wake       chan struct{} // room for one: there are other components
}

// seen is what the last look found. It is stored as JSON.
type seen struct {
	Version  int                         `json:"version"`
	BootID   string                      `json:"bootId"`
	Database stamp                       `json:"database"` // of the packages
	Packages map[string]string           `json:"packages,omitempty"`
	Files    map[string]map[string]stamp `json:"files"` // by component, then by path
}

const formatVersion = 1

// stamp tells one version of a file from another. The zero one is a file that is not there.
type stamp struct {
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // Unix nanoseconds
	Inode    uint64 `json:"inode"`
}

func (s stamp) String() string {
	if s == (stamp{}) {
		return ""
	}
	return fmt.Sprintf("%d bytes of %s", s.Size, time.Unix(0, s.Modified).UTC().Format(time.RFC3339))
}

// New returns a watcher that knows what the last one saw. A state that cannot be read is none: the look begins anew.
func New(cfg Config) *Watcher {
	w := &Watcher{cfg: cfg, wake: make(chan struct{}, 1)}
	text, err := os.ReadFile(cfg.State)
	if err == nil {
		if err = json.Unmarshal(text, &w.seen); err == nil && w.seen.Version != formatVersion {
			err = fmt.Errorf("it has format %d: this program knows %d", w.seen.Version, formatVersion)
		}
	}
	if err != nil {
		w.seen = seen{}
		if !errors.Is(err, fs.ErrNotExist) {
			cfg.Log.Warn("what was seen of the host cannot be read, changes until now are not noticed", "file", cfg.State, "error", err)
		}
	}
	return w
}

// Watch says which components' files to look at. Any goroutine may call it.
func (w *Watcher) Watch(c []Component) {
	w.mu.Lock()
	w.components = slices.Clone(c)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run looks at once and then every so often until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	for {
		w.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.wake: // so that what is changed from now on has something to be compared with
		}
	}
}

// look compares what is there with what was seen last, tells the difference and keeps it.
func (w *Watcher) look() {
	changed := w.boot()
	changed = w.packages() || changed
	changed = w.files() || changed
	if changed {
		w.seen.Version = formatVersion
		if err := w.keep(); err != nil {
			w.cfg.Log.Warn("cannot keep what was seen of the host", "error", err)
		}
	}
}

func (w *Watcher) keep() error {
	text, err := json.Marshal(w.seen)
	if err != nil {
		return err
	}
	tmp := w.cfg.State + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, w.cfg.State)
}

func (w *Watcher) path(p string) string { return filepath.Join(w.cfg.Root, p) }

func (w *Watcher) boot() bool {
	b, err := os.ReadFile(w.path("/proc/sys/kernel/random/boot_id"))
	if err != nil || len(b) < 36 {
		return false
	}
	id := string(b[:36])
	if id == w.seen.BootID {
		return false
	}
	if w.seen.BootID != "" {
		at := w.cfg.Now()
		if up, err := os.ReadFile(w.path("/proc/uptime")); err == nil {
			var seconds float64
			if _, err := fmt.Sscan(string(up), &seconds); err == nil {
				at = at.Add(-time.Duration(seconds * float64(time.Second))).Truncate(time.Second)
			}
		}
		w.cfg.Tell(Change{Kind: Boot, What: "the kernel", Before: w.seen.BootID, After: id, At: at})
	}
	w.seen.BootID = id
	return true
}

// unitFolders are where unit files stand, the most important first.
var unitFolders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// files looks at the unit files and programs of the components.
func (w *Watcher) files() bool {
	w.mu.Lock()
	components := w.components
	w.mu.Unlock()
	changed := false
	for _, c := range components {
		found := map[string]stamp{}
		if c.Exe != "" {
			found[c.Exe] = w.stat(c.Exe)
		}
		if c.Unit != "" {
			for path, s := range w.unitFiles(c.Unit) {
				found[path] = s
			}
		}
		before, known := w.seen.Files[c.Name]
		if w.seen.Files == nil {
			w.seen.Files = map[string]map[string]stamp{}
		}
		differs := !known
		for _, path := range union(before, found) {
			if before[path] == found[path] {
				continue
			}
			differs = true
			// A path that is looked at for the first time is not new.
			if _, looked := before[path]; !known || !looked && path == c.Exe {
				continue
			}
			w.cfg.Tell(w.fileChange(c, path, before[path], found[path]))
		}
		if differs {
			w.seen.Files[c.Name], changed = found, true
		}
	}
	return changed
}

func (w *Watcher) fileChange(c Component, path string, before, after stamp) Change {
	kind := Unit
	if path == c.Exe {
		kind = Binary
	}
	at := w.cfg.Now()
	// The file's own time is when it was written, unless it was copied with an old one.
	if t := time.Unix(0, after.Modified); after != (stamp{}) && t.After(time.Unix(0, before.Modified)) && t.Before(at) && at.Sub(t) < 2*w.cfg.Every {
		at = t
	}
	return Change{Kind: kind, Component: c.Name, What: path, Before: before.String(), After: after.String(), At: at.UTC()}
}

func union(a, b map[string]stamp) []string {
	var out []string
	for p := range a {
		out = append(out, p)
	}
	for p := range b {
		if _, both := a[p]; !both {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// unitFiles returns the files of a unit that are there, with its drop-ins.
func (w *Watcher) unitFiles(unit string) map[string]stamp {
	out := map[string]stamp{}
	if unit != filepath.Base(unit) {
		return out
	}
	for _, dir := range unitFolders {
		p := filepath.Join(dir, unit)
		if s := w.stat(p); s != (stamp{}) {
			out[p] = s
		}
		drops, err := os.ReadDir(w.path(p + ".d"))
		if err != nil {
			continue
		}
		for _, d := range drops[:min(len(drops), 64)] {
			if drop := filepath.Join(p+".d", d.Name()); filepath.Ext(drop) == ".conf" {
				out[drop] = w.stat(drop)
			}
		}
	}
	return out
}
