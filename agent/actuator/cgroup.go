package actuator

import (
	"bufio"
	"context"
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

// cgroups is the hierarchy that carries the cpu controller.
type cgroups struct {
	mount   string
	version int    // 1 or 2; 0 where there is none
	units   string // mount of the hierarchy in which systemd keeps its units; empty: mount
	systemd UnitManager
}

// mostGroups bounds a walk for a unit's cgroup.
const mostGroups = 20000

// findCgroups looks for the cpu controller. With a mount given, its files say which version it is.
func findCgroups(cfg Config) *cgroups {
	g := &cgroups{systemd: cfg.Systemd}
	if cfg.Cgroup != "" {
		g.mount, g.version = cfg.Cgroup, 1
		if _, err := os.Stat(filepath.Join(cfg.Cgroup, "cgroup.controllers")); err == nil {
			g.version = 2
		}
		return g
	}
	f, err := os.Open(filepath.Join(cfg.Proc, "self", "mountinfo"))
	if err != nil {
		return g
	}
	defer f.Close()
	g.parseMounts(f)
	if g.version == 2 {
		b, err := os.ReadFile(filepath.Join(g.mount, "cgroup.controllers"))
		if err != nil || !slices.Contains(strings.Fields(string(b)), "cpu") {
			g.mount, g.version = "", 0
		}
	}
	return g
}

// parseMounts takes the cpu hierarchy of version 1 where there is one, else the tree of version 2.
func (g *cgroups) parseMounts(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		f, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(tail) < 3 {
			continue
		}
		mount, options := f[4], strings.Split(tail[2], ",")
		switch {
		case tail[0] == "cgroup" && slices.Contains(options, "cpu"):
			g.mount, g.version = mount, 1
		case tail[0] == "cgroup" && slices.Contains(options, "name=systemd"):
			g.units = mount
		case tail[0] == "cgroup2" && g.version != 1:
			g.mount, g.version = mount, 2
		}
	}
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

// pids lists the processes in a target's cgroup and in all below it.
func (g *cgroups) pids(target command.Target) ([]int, error) {
	if g.version == 0 && g.units == "" {
		return nil, command.Refuse(command.ReasonNoTarget, "this host has no cgroup hierarchy that could be used")
	}
	mounts := []string{g.mount}
	if target.Kind() == command.OnUnit && g.units != "" {
		mounts = []string{g.units, g.mount}
	}
	why := error(command.Refuse(command.ReasonNoTarget, "%s has no cgroup", target))
	for _, mount := range mounts {
		if mount == "" {
			continue
		}
		p, err := g.path(context.Background(), mount, target)
		if err != nil {
			why = err
			continue
		}
		root, err := os.OpenRoot(mount)
		if err != nil {
			return nil, err
		}
		pids, err := groupPIDs(root, p)
		root.Close()
		if err == nil {
			return pids, nil
		}
		why = command.Refuse(command.ReasonNoTarget, "%s has no cgroup below %s", target, mount)
	}
	return nil, why
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
