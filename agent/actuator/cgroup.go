package actuator

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// cgroups is the hierarchies of this host.
type cgroups struct {
	v1          map[string]string // mount by controller
	v2          string            // mount of version 2; empty: not mounted
	controllers []string          // that version 2 has at its root
	units       string            // mount of the version 1 hierarchy in which systemd keeps its units
	systemd     UnitManager
}

// hierarchy is one tree of cgroups.
type hierarchy struct {
	mount   string
	version int // 1 or 2; 0: there is none
}

// has says why a path is no cgroup of the hierarchy, nil if it is one.
func (h hierarchy) has(p string) error {
	root, err := os.OpenRoot(h.mount)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Stat(p); errors.Is(err, fs.ErrNotExist) {
		return command.Refuse(command.ReasonNoTarget, "there is no cgroup /%s below %s", p, h.mount)
	} else if err != nil {
		return err
	}
	return nil
}

// mostGroups bounds a walk for a unit's cgroup.
const mostGroups = 20000

// v1Controllers are those of version 1 that an action uses.
var v1Controllers = []string{"cpu", "cpuset", "memory", "blkio", "pids", "freezer"}

// findCgroups looks for the hierarchies. With a mount given, its files say which version it is.
func findCgroups(cfg Config) *cgroups {
	g := &cgroups{systemd: cfg.Systemd, v1: map[string]string{}}
	if cfg.Cgroup != "" {
		if _, err := os.Stat(filepath.Join(cfg.Cgroup, "cgroup.controllers")); err == nil {
			g.v2 = cfg.Cgroup
			g.controllers = rootControllers(g.v2)
			return g
		}
		for _, c := range v1Controllers {
			g.v1[c] = cfg.Cgroup
		}
		return g
	}
	f, err := os.Open(filepath.Join(cfg.Proc, "self", "mountinfo"))
	if err != nil {
		return g
	}
	defer f.Close()
	g.parseMounts(f)
	if g.v2 != "" {
		g.controllers = rootControllers(g.v2)
	}
	return g
}

func rootControllers(mount string) []string {
	b, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// parseMounts takes the first mount of each hierarchy.
func (g *cgroups) parseMounts(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		f, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(tail) < 3 {
			continue
		}
		mount, options := f[4], strings.Split(tail[2], ",")
		switch {
		case tail[0] == "cgroup2" && g.v2 == "":
			g.v2 = mount
		case tail[0] == "cgroup" && slices.Contains(options, "name=systemd"):
			g.units = cmp.Or(g.units, mount)
		case tail[0] == "cgroup":
			for _, c := range v1Controllers {
				if slices.Contains(options, c) && g.v1[c] == "" {
					g.v1[c] = mount
				}
			}
		}
	}
}

// with returns the hierarchy that carries a controller: a controller that version 1 has bound is not in version 2.
func (g *cgroups) with(controller string) hierarchy {
	if mount := g.v1[controller]; mount != "" {
		return hierarchy{mount, 1}
	}
	name := controller
	if name == "blkio" {
		name = "io"
	}
	if g.v2 != "" && slices.Contains(g.controllers, name) {
		return hierarchy{g.v2, 2}
	}
	return hierarchy{}
}

// all returns every hierarchy, each once.
func (g *cgroups) all() []string {
	var out []string
	add := func(mount string) {
		if mount != "" && !slices.Contains(out, mount) {
			out = append(out, mount)
		}
	}
	add(g.with("cpu").mount)
	add(g.v2)
	for _, c := range v1Controllers {
		add(g.v1[c])
	}
	return out
}

// path returns where a target's cgroup is below the mount, without a leading slash. It is never the root.
func (g *cgroups) path(ctx context.Context, mount string, target command.Target) (string, error) {
	var p string
	switch target.Kind() {
	case command.OnCgroup:
		p = target.Cgroup
	case command.OnUnit:
		var err error
		if p, err = g.unitPath(ctx, mount, target.Unit); err != nil {
			return "", err
		}
	default:
		return "", command.Refuse(command.ReasonDenied, "%s has no cgroup", target)
	}
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "", command.Refuse(command.ReasonDenied, "the root cgroup is never written")
	}
	return p, nil
}

// unitPath asks systemd, and where it does not run looks for the one cgroup with the unit's name.
func (g *cgroups) unitPath(ctx context.Context, mount, unit string) (string, error) {
	if g.systemd != nil {
		p, err := g.systemd.ControlGroup(ctx, unit)
		if err != nil {
			return "", fmt.Errorf("cannot ask systemd for unit %s: %w", unit, err)
		}
		if p == "" || p == "/" {
			return "", command.Refuse(command.ReasonNoTarget, "unit %s is not running", unit)
		}
		return p, nil
	}
	var found []string
	seen := 0
	err := filepath.WalkDir(mount, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // groups come and go while one looks
		}
		if seen++; seen > mostGroups {
			return fmt.Errorf("more than %d cgroups", mostGroups)
		}
		if d.Name() == unit && p != mount {
			found = append(found, strings.TrimPrefix(p, mount))
		}
		return nil
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot look for unit %s: %w", unit, err)
	case len(found) == 0:
		return "", command.Refuse(command.ReasonNoTarget, "unit %s has no cgroup below %s", unit, mount)
	case len(found) > 1:
		return "", command.Refuse(command.ReasonNoTarget, "unit %s names %d cgroups: %s", unit, len(found), strings.Join(found, ", "))
	}
	return found[0], nil
}

// pids lists the processes in a target's cgroup and in all below it, in the first hierarchy that has it.
func (g *cgroups) pids(target command.Target) ([]int, error) {
	mounts := g.all()
	if target.Kind() == command.OnUnit && g.units != "" {
		mounts = append([]string{g.units}, mounts...)
	}
	if len(mounts) == 0 {
		return nil, command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy that could be used")
	}
	var first error
	for _, mount := range mounts {
		p, err := g.path(context.Background(), mount, target)
		if err == nil {
			var root *os.Root
			if root, err = os.OpenRoot(mount); err != nil {
				return nil, err
			}
			pids, why := groupPIDs(root, p)
			root.Close()
			if why == nil {
				return pids, nil
			}
			err = command.Refuse(command.ReasonNoTarget, "%s has no cgroup below %s", target, mount)
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func groupPIDs(root *os.Root, p string) ([]int, error) {
	if _, err := root.Stat(path.Join(p, "cgroup.procs")); err != nil {
		return nil, err
	}
	var pids []int
	err := fs.WalkDir(root.FS(), p, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // groups come and go while one looks
		}
		b, err := root.ReadFile(path.Join(p, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for _, text := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(text); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

func trimSpace(b []byte) string { return strings.TrimSpace(string(b)) }
