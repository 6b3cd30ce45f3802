package actuator

import (
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// freezeSetting is cgroup.freeze, and the freezer of version 1: every process of the group stands still where it is.
// Native text is "1" for frozen and "0".
type freezeSetting struct{ version int }

const (
	frozenWithin = time.Second // a task in the middle of a page-in takes its time
	freezePause  = 2 * time.Millisecond
)

func (s freezeSetting) file() string {
	if s.version == 1 {
		return "freezer.state"
	}
	return "cgroup.freeze"
}

// read returns what was asked of the group itself, not what it inherits.
func (s freezeSetting) read(root *os.Root, group string) (string, error) {
	if s.version == 1 {
		return readText(root, path.Join(group, "freezer.self_freezing"))
	}
	return readText(root, path.Join(group, s.file()))
}

// write returns when the processes do stand still, or after a second of waiting for that.
func (s freezeSetting) write(root *os.Root, group, native string) error {
	text := native
	if s.version == 1 {
		text = map[string]string{"0": "THAWED", "1": "FROZEN"}[native]
	}
	if err := writeText(root, path.Join(group, s.file()), text); err != nil || native != "1" {
		return err
	}
	for end := time.Now().Add(frozenWithin); ; time.Sleep(freezePause) {
		still, err := s.still(root, group)
		if err != nil || still {
			return err
		}
		if time.Now().After(end) {
			return command.Refuse(command.ReasonNoEffect, "cgroup /%s does not stand still after %s", group, frozenWithin)
		}
	}
}

func (s freezeSetting) still(root *os.Root, group string) (bool, error) {
	if s.version == 1 {
		text, err := readText(root, path.Join(group, s.file()))
		return text == "FROZEN", err
	}
	text, err := readText(root, path.Join(group, "cgroup.events"))
	return slices.Contains(strings.Split(text, "\n"), "frozen 1"), err
}

func (freezeSetting) native(int64, former) (string, error) { return "1", nil }

func (freezeSetting) value(native, _ string) (int64, error) {
	if native == "1" {
		return 1, nil
	}
	return 0, nil
}

// fit refuses a group that holds whoever would have to thaw it.
func (freezeSetting) fit(root *os.Root, group string) error { return notOurs(root, group) }

// notOurs refuses a group that holds this process or the host's init.
func notOurs(root *os.Root, group string) error {
	pids, err := groupPIDs(root, group)
	if err != nil {
		return err
	}
	for _, pid := range []int{1, os.Getpid()} {
		if slices.Contains(pids, pid) {
			return command.Refuse(command.ReasonDenied, "cgroup /%s holds process %d, which must go on", group, pid)
		}
	}
	return nil
}

// freezeVariants prefers the freezer of version 1 where it is mounted: who mounted it uses it.
func freezeVariants(g *cgroups) []variant {
	var out []variant
	if mount := g.v1["freezer"]; mount != "" {
		out = append(out, variant{hierarchy: hierarchy{mount, 1}, setting: freezeSetting{1}})
	}
	if g.v2 != "" {
		out = append(out, variant{hierarchy: hierarchy{g.v2, 2}, setting: freezeSetting{2}})
	}
	return out
}
