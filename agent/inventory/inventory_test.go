package inventory

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type host struct {
	*testing.T
	root, state string
	now         time.Time
	told        []Change
}

func (h *host) write(path, text string) {
	h.Helper()
	p := filepath.Join(h.root, path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		h.Fatal(err)
	}
	if err := os.Chtimes(p, h.now, h.now); err != nil {
		h.Fatal(err)
	}
}

func (h *host) watcher() *Watcher {
	w := New(Config{
		Root: h.root, State: h.state, Every: 30 * time.Second, Now: func() time.Time { return h.now },
		Tell: func(c Change) { h.told = append(h.told, c) }, Log: slog.New(slog.DiscardHandler),
	})
	w.Watch([]Component{{Name: "component/web", Unit: "web.service", Exe: "/usr/bin/web"}})
	return w
}

func (h *host) wants(what string, want ...Change) {
	h.Helper()
	if len(h.told) != len(want) || len(want) > 0 && !reflect.DeepEqual(h.told, want) {
		h.Errorf("%s: told %+v\nwant %+v", what, h.told, want)
	}
	h.told = nil
}

const status = `Package: nginx
Status: install ok installed
Architecture: amd64
Version: 1.22.1-9
Description: small web server
 Version: is not one

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
`

// Changes are told once, also those that happened while nobody looked, and nothing is told of what is looked at for the first time.
func TestChanges(t *testing.T) {
	h := &host{T: t, root: t.TempDir(), now: time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)}
	h.state = filepath.Join(t.TempDir(), "seen.json")
	boot := "/proc/sys/kernel/random/boot_id"
	h.write(boot, "11111111-1111-1111-1111-111111111111\n")
	h.write("/proc/uptime", "3600.00 7000.00\n")
	h.write("/var/lib/dpkg/status", status)
	h.write("/usr/bin/web", "v1")
	h.write("/lib/systemd/system/web.service", "[Service]")
	w := h.watcher()
	w.look()
	w.look()
	h.wants("at first")

	first := h.now
	h.now = h.now.Add(10 * time.Second)
	changed := h.now
	h.write("/usr/bin/web", "v2 is longer")
	h.write("/etc/systemd/system/web.service.d/limits.conf", "[Service]")
	h.write("/var/lib/dpkg/status", strings.Replace(strings.Replace(status, "1.22.1-9", "1.22.1-9+deb12u1", 1), "deinstall ok config-files", "install ok installed", 1))
	h.now = h.now.Add(5 * time.Second)
	w.look()
	h.wants("replaced",
		Change{Package, "", "gone", "", "1", changed},
		Change{Package, "", "nginx", "1.22.1-9", "1.22.1-9+deb12u1", changed},
		Change{Unit, "component/web", "/etc/systemd/system/web.service.d/limits.conf", "", "9 bytes of " + changed.Format(time.RFC3339), changed},
		Change{Binary, "component/web", "/usr/bin/web", "2 bytes of " + first.Format(time.RFC3339), "12 bytes of " + changed.Format(time.RFC3339), changed},
	)

	// While the agent is away.
	if err := os.Remove(filepath.Join(h.root, "/lib/systemd/system/web.service")); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(2 * time.Hour)
	h.write(boot, "22222222-2222-2222-2222-222222222222\n")
	w = h.watcher()
	w.look()
	w.look()
	h.wants("away",
		Change{Boot, "", "the kernel", "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222", h.now.Add(-time.Hour)},
		Change{Unit, "component/web", "/lib/systemd/system/web.service", "9 bytes of " + first.Format(time.RFC3339), "", h.now},
	)

	// A state that is no longer readable is as none.
	if err := os.WriteFile(h.state, []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.watcher().look()
	h.wants("anew")
}

func TestOtherDatabases(t *testing.T) {
	h := &host{T: t, root: t.TempDir(), now: time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)}
	h.state = filepath.Join(t.TempDir(), "seen.json")
	h.write("/lib/apk/db/installed", "P:musl\nV:1.2.4-r2\n\nP:zlib\nV:1.3-r0\n")
	w := h.watcher()
	w.look()
	h.now = h.now.Add(time.Minute)
	h.write("/lib/apk/db/installed", "P:musl\nV:1.2.5-r0\n")
	w.look()
	h.wants("apk", Change{Package, "", "musl", "1.2.4-r2", "1.2.5-r0", h.now}, Change{Package, "", "zlib", "1.3-r0", "", h.now})

	h = &host{T: t, root: t.TempDir(), now: h.now}
	h.state = filepath.Join(t.TempDir(), "seen.json")
	h.write("/var/lib/rpm/rpmdb.sqlite", "a")
	w = h.watcher()
	w.look()
	before := h.now
	h.now = h.now.Add(time.Minute)
	h.write("/var/lib/rpm/rpmdb.sqlite", "ab")
	w.look()
	h.wants("rpm", Change{Package, "", "/var/lib/rpm/rpmdb.sqlite", "1 bytes of " + before.Format(time.RFC3339), "2 bytes of " + h.now.Format(time.RFC3339), h.now})
}

func FuzzPackages(f *testing.F) {
	f.Add(status)
	f.Add("P:musl\nV:1\n\n")
	f.Add(strings.Repeat("x", 40000) + "\nPackage: a")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range databases {
			got, err := d.parse(strings.NewReader(text))
			if err != nil || len(got) > maxPackages {
				t.Errorf("%d packages, %v", len(got), err)
			}
			for name, version := range got {
				if name == "" || version == "" || strings.ContainsRune(name+version, '\n') {
					t.Errorf("%q %q", name, version)
				}
			}
		}
	})
}
