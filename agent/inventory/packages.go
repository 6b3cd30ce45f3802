package inventory

import (
	"bufio"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// databases are where package managers keep what is installed, in text.
var databases = []struct {
	path  string
	parse func(io.Reader) (map[string]string, error)
}{
	{"/var/lib/dpkg/status", parseDpkg},
	{"/lib/apk/db/installed", parseApk},
}

// opaque are databases that only tell that something changed.
var opaque = []string{"/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages"}

// packages looks whether the database of packages is another one, and only then reads it.
func (w *Watcher) packages() bool {
	for _, d := range databases {
		s := w.stat(d.path)
		if s == (stamp{}) {
			continue
		}
		if s == w.seen.Database {
			return false
		}
		f, err := os.Open(w.path(d.path))
		if err != nil {
			w.cfg.Log.Warn("cannot read the packages", "error", err)
			return false
		}
		defer f.Close()
		now, err := d.parse(f)
		if err != nil {
			w.cfg.Log.Warn("cannot read the packages", "file", d.path, "error", err)
			return false
		}
		if w.seen.Packages != nil {
			at := time.Unix(0, s.Modified).UTC()
			for _, name := range slices.Sorted(maps.Keys(merged(w.seen.Packages, now))) {
				if before, after := w.seen.Packages[name], now[name]; before != after {
					w.cfg.Tell(Change{Kind: Package, What: name, Before: before, After: after, At: at})
				}
			}
		}
		w.seen.Database, w.seen.Packages = s, now
		return true
	}
	for _, path := range opaque {
		s := w.stat(path)
		if s == (stamp{}) {
			continue
		}
		if s == w.seen.Database {
			return false
		}
		if w.seen.Database != (stamp{}) {
			w.cfg.Tell(Change{Kind: Package, What: path, Before: w.seen.Database.String(), After: s.String(), At: time.Unix(0, s.Modified).UTC()})
		}
		w.seen.Database = s
		return true
	}
	return false
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// maxPackages bounds what is kept of a database.
const maxPackages = 20000

// parseDpkg reads dpkg's status file: the versions of what is installed, by name, with the architecture where a name has several.
func parseDpkg(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	var name, version, arch string
	installed := false
	end := func() {
		if installed && name != "" && version != "" && len(out) < maxPackages {
			if have, twice := out[name]; twice && have != version {
				name += ":" + arch
			}
			out[name] = version
		}
		name, version, arch, installed = "", "", "", false
	}
	err := lines(r, func(line string) {
		if line == "" {
			end()
			return
		}
		key, value, ok := strings.Cut(line, ": ")
		if !ok {
			return
		}
		switch key {
		case "Package":
			name = strings.Clone(value)
		case "Version":
			version = strings.Clone(value)
		case "Architecture":
			arch = strings.Clone(value)
		case "Status":
			installed = strings.HasSuffix(value, " installed")
		}
	})
	end()
	return out, err
}

// parseApk reads apk's installed file.
func parseApk(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	var name, version string
	end := func() {
		if name != "" && version != "" && len(out) < maxPackages {
			out[name] = version
		}
		name, version = "", ""
	}
	err := lines(r, func(line string) {
		switch {
		case line == "":
			end()
		case strings.HasPrefix(line, "P:"):
			name = strings.Clone(line[2:])
		case strings.HasPrefix(line, "V:"):
			version = strings.Clone(line[2:])
		}
	})
	end()
	return out, err
}

// lines calls f with each line; what is longer than a line of interest can be comes in pieces that match no key.
func lines(r io.Reader, f func(string)) error {
	b := bufio.NewReaderSize(r, 16<<10)
	continued := false
	for {
		line, more, err := b.ReadLine()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !continued {
			f(string(line))
		}
		continued = more
	}
}
