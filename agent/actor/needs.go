package actor

import (
	"bufio"
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/agent/confine"
	"github.com/evenkeel/evenkeel/agent/traffic/agentcheck"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// need is what an action takes of the process: to act and to take back.
type need struct {
	keep     map[string]string // capabilities, and what for
	cgroups  bool              // writes below the cgroup hierarchies
	write    []string          // other folders that it writes below
	anyFile  string            // why its files are not known here
	programs string            // why it starts programs
}

const (
	othersFiles    = "write cgroup files that belong to another user"
	othersTasks    = "change tasks of other users"
	othersPrograms = "see which program a process runs"
)

var (
	groupFiles = need{keep: map[string]string{"CAP_DAC_OVERRIDE": othersFiles}, cgroups: true}
	tasks      = need{keep: map[string]string{"CAP_SYS_NICE": othersTasks, "CAP_SYS_PTRACE": othersPrograms}}
	network    = need{keep: map[string]string{"CAP_NET_ADMIN": "change traffic rules"}}
)

// needs has the actions by name or, with a dot or colon at the end, by family. A name that is in no row keeps everything:
// least privilege must not be bought with an action that works in tests alone.
var needs = map[string]need{
	"cgroup.freeze": groupFiles,
	"cpu.":          groupFiles,
	"cpuset.":       groupFiles,
	"io.":           groupFiles,
	"memory.":       groupFiles,
	"pids.":         groupFiles,
	"unit.":         groupFiles, // systemd does it on the word of this user; a property that systemd forgot is written back here
	"process.":      tasks,
	"process.oom": {
		keep:  map[string]string{"CAP_SYS_RESOURCE": "lower an OOM score again", "CAP_DAC_OVERRIDE": "write files of other users' processes", "CAP_SYS_PTRACE": othersPrograms},
		write: []string{"/proc"},
	},
	"cgroup.kill": {keep: map[string]string{"CAP_DAC_OVERRIDE": othersFiles, "CAP_KILL": "kill processes of other users"}, cgroups: true},
	"file.relief": {
		keep:    map[string]string{"CAP_DAC_OVERRIDE": "remove files of other users", "CAP_FOWNER": "remove them where only their owner may"},
		anyFile: "places stand in the permissions",
	},
	"plugin:": {
		keep:    map[string]string{"CAP_DAC_OVERRIDE": othersFiles, "CAP_SETUID": "run programs as their user", "CAP_SETGID": "run programs as their user"},
		cgroups: true, anyFile: "what a plugin writes is not known", programs: "plugins that the permissions declare",
	},
	"sysctl":   {keep: map[string]string{"CAP_NET_ADMIN": "set network sysctls"}, write: []string{"/proc/sys"}},
	"haproxy.": {keep: map[string]string{"CAP_DAC_OVERRIDE": "speak to HAProxy's socket"}},
	"ipvs.":    network,
	"nft.":     network,
	"tc.":      network,
	"nginx.": {
		keep: map[string]string{
			"CAP_DAC_OVERRIDE": "write nginx' files", "CAP_KILL": "have nginx reload", "CAP_CHOWN": "keep the owner of nginx' files",
			"CAP_NET_BIND_SERVICE": "have nginx test a configuration with low ports", "CAP_SYS_PTRACE": othersPrograms,
		},
		anyFile: "nginx' files stand in the permissions", programs: "nginx -t",
	},
	"agentcheck.": {write: []string{agentcheck.DefaultDir}},
}

// needOf finds an action's row: the whole name, or the longest family that it belongs to.
func needOf(action string) (need, bool) {
	if n, ok := needs[action]; ok {
		return n, true
	}
	for i := len(action) - 1; i > 0; i-- {
		if action[i] == '.' || action[i] == ':' {
			if n, ok := needs[action[:i+1]]; ok {
				return n, true
			}
		}
	}
	return need{}, false
}

// use is one action on one kind of target.
type use struct {
	action string
	kind   command.TargetKind
}

// Landlock has the kernel treat other processes as a debugger would be treated, so their programs cannot be told.
const landlockHides = "Landlock would hide which program a process runs"

// rulesFor are the rules of confinement under which some actions can be carried out and taken back.
func rulesFor(uses []use, cgroups []string) confine.Rules {
	r := confine.Rules{Keep: map[string]string{}}
	why := map[string][]string{}
	for _, u := range uses {
		a := u.action
		n, ok := needOf(a)
		if u.kind == command.OnProcess {
			r.AnyFile = cmp.Or(r.AnyFile, landlockHides)
		}
		if !ok {
			r.KeepAll = a + " needs what is not told here"
			r.AnyFile, r.Programs = r.KeepAll, r.KeepAll
			continue
		}
		for name, what := range n.keep {
			r.Keep[name] = cmp.Or(r.Keep[name], what)
			if !slices.Contains(why[name], a) {
				why[name] = append(why[name], a)
			}
		}
		if n.cgroups {
			r.Write = append(r.Write, cgroups...)
		}
		r.Write = append(r.Write, n.write...)
		r.AnyFile, r.Programs = cmp.Or(r.AnyFile, n.anyFile), cmp.Or(r.Programs, n.programs)
	}
	for name, users := range why {
		slices.Sort(users)
		r.Keep[name] += ", for " + strings.Join(users, ", ")
	}
	slices.Sort(r.Write)
	r.Write = slices.Compact(r.Write)
	return r
}

// confinement is what this actor keeps, under its permissions and with what it holds from before.
func (e *engine) confinement(s Settings) confine.Rules {
	uses := usesOf(e.perm.Actions)
	for l := range maps.Values(e.s.Leases) {
		uses = append(uses, use{l.Action.Name, l.Action.Target.Kind()})
	}
	r := rulesFor(uses, cgroupMounts("/proc/self/mounts"))
	r.Write = append(r.Write, s.State, s.Audit, filepath.Dir(s.Socket))
	if s.AgentCheckDir != "" {
		r.Write = append(r.Write, s.AgentCheckDir)
	}
	slices.Sort(r.Write)
	r.Write = slices.Compact(r.Write)
	return r
}

func usesOf(grants []Grant) []use {
	var uses []use
	for _, g := range grants {
		for _, t := range g.Targets {
			if u := (use{g.Action, t.Kind()}); !slices.Contains(uses, u) {
				uses = append(uses, u)
			}
		}
	}
	return uses
}

// lacking says why an action that became permitted later cannot be carried out by this process. Where one target of it
// cannot be reached, none is: the word on an action is to be simple.
func (e *engine) lacking(rep *confine.Report, action string) string {
	granted := slices.DeleteFunc(slices.Clone(e.perm.Actions), func(g Grant) bool { return g.Action != action })
	if lacks := rep.Lacks(rulesFor(usesOf(granted), cgroupMounts("/proc/self/mounts"))); lacks != "" {
		return action + " was not permitted when this actor started, which then gave up " + lacks + ": restart evenkeel-actor"
	}
	return ""
}

// cgroupMounts lists where the cgroup hierarchies are.
func cgroupMounts(file string) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if x := strings.Fields(s.Text()); len(x) > 2 && (x[2] == "cgroup" || x[2] == "cgroup2") {
			out = append(out, x[1])
		}
	}
	return out
}
