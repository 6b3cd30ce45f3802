package probe

import (
	"os"
	"path/filepath"
	"strings"
)

// layout says where each kind of reading is found for a cgroup: the folders that its path is appended to, "" where the
// host has none.
type layout struct {
	// version is "v1", "v2", "hybrid" (controllers on v1, an empty v2 beside them) or "none".
	version string

	cpu, cpuacct, memory, io, pids string
	pressure                       string
	// members is the hierarchy in which systemd keeps the processes of its units.
	members string
}

// findLayout looks at what is mounted below root, as every distribution lays it out.
func findLayout(root string) layout {
	l := layout{version: "none"}
	has := func(path ...string) string {
		dir := filepath.Join(path[:len(path)-1]...)
		if _, err := os.Stat(filepath.Join(dir, path[len(path)-1])); err != nil {
			return ""
		}
		return dir
	}
	if has(root, "cgroup.controllers") != "" {
		l.version = "v2"
		l.cpu, l.cpuacct, l.memory, l.io, l.pids, l.pressure, l.members = root, root, root, root, root, root, root
		return l
	}
	names, err := os.ReadDir(root)
	if err != nil {
		return l
	}
	for _, e := range names {
		// "cpu,cpuacct" is one hierarchy under one name, with links for the parts.
		dir := filepath.Join(root, e.Name())
		for _, c := range strings.Split(e.Name(), ",") {
			switch c {
			case "cpu":
				l.cpu = has(dir, "cgroup.procs")
			case "cpuacct":
				l.cpuacct = has(dir, "cpuacct.usage")
			case "memory":
				l.memory = has(dir, "memory.stat")
			case "blkio":
				l.io = has(dir, "cgroup.procs")
			case "pids":
				l.pids = has(dir, "cgroup.procs")
			case "systemd":
				l.members = has(dir, "cgroup.procs")
			}
		}
	}
	if l.cpu != "" || l.cpuacct != "" || l.memory != "" {
		l.version = "v1"
	}
	for _, dir := range []string{filepath.Join(root, "unified"), filepath.Join(root, "systemd")} {
		if has(dir, "cgroup.controllers") != "" {
			l.pressure = dir
			if l.version == "v1" {
				l.version = "hybrid"
			}
			if l.members == "" {
				l.members = dir
			}
			break
		}
	}
	return l
}

// hierarchies returns the distinct hierarchies that have cgroups to show, or to find processes in.
func (l *layout) hierarchies() []string {
	var all []string
next:
	for _, h := range []string{l.cpu, l.cpuacct, l.memory, l.io, l.pids, l.members, l.pressure} {
		if h == "" {
			continue
		}
		for _, o := range all {
			if o == h {
				continue next
			}
		}
		all = append(all, h)
	}
	return all
}

// find returns the folder of the first hierarchy in which the cgroup exists.
func (l *layout) find(path string) (dir string, ok bool) {
	for _, h := range l.hierarchies() {
		dir = h + path
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir, true
		}
	}
	return "", false
}

// unitName returns the name that a cgroup goes by: that of its systemd unit, or its path.
func unitName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for _, suffix := range [...]string{".service", ".scope", ".slice", ".socket", ".mount", ".swap"} {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return path
}

// cpuPath reads /proc/PID/cgroup and returns the path in the hierarchy of the cpu controller.
func cpuPath(b []byte) (path []byte, ok bool) {
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		_, rest, found := cutByte(line, ':')
		if !found {
			continue
		}
		controllers, where, found := cutByte(rest, ':')
		if !found {
			continue
		}
		if len(controllers) == 0 {
			path, ok = where, true // v2; a v1 line for the cpu, if any, goes before
			continue
		}
		for len(controllers) > 0 {
			var c []byte
			c, controllers, _ = cutByte(controllers, ',')
			if string(c) == "cpu" {
				return where, true
			}
		}
	}
	return path, ok
}

func cutByte(b []byte, sep byte) (before, after []byte, found bool) {
	for i, c := range b {
		if c == sep {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}
