package actor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/confine"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/version"
)

// HostActuators returns what can act on this host, and a function that lets go of it.
func HostActuators(s Settings) (map[string]Actuator, func()) {
	var cfg actuator.Config
	free := func() {}
	if actuator.SystemdRuns() {
		sd := &actuator.Systemd{}
		cfg.Systemd, free = sd, sd.Close
	}
	out := map[string]Actuator{}
	for name, a := range actuator.New(cfg) {
		out[name] = a
	}
	maps.Copy(out, trafficActuators(s))
	return out, free
}

// Capabilities is what an actor can do, cannot do, holds, and whom it believes.
type Capabilities struct {
	Version         string   `json:"version"`
	Host            string   `json:"host"`
	Running         bool     `json:"running"`
	Incarnation     string   `json:"incarnation,omitempty"`
	PermissionsFile string   `json:"permissionsFile"`
	PermissionsHash string   `json:"permissionsHash,omitempty"`
	Problem         string   `json:"problem,omitempty"` // why everything is denied
	Killed          string   `json:"killed,omitempty"`  // why everything is stopped
	SigningRoot     string   `json:"signingRoot,omitempty"`
	Approvers       []string `json:"approvers"`
	MaxRisk         string   `json:"maxRisk,omitempty"`
	Can             []Can    `json:"can"`
	Cannot          []Cannot `json:"cannot"`
	Leases          []Held   `json:"leases"`
	// RevokedKeys are not believed: those of the permissions file and those that were revoked by command.
	RevokedKeys []string `json:"revokedKeys"`
	// Process is what the running actor keeps of its privileges; nil where none runs.
	Process *confine.Report `json:"process,omitempty"`
	Audit   *AuditHead      `json:"audit,omitempty"` // of the running actor
}

// AuditHead names the last line of the audit log: whoever keeps it elsewhere sees when lines are missing at the end.
type AuditHead struct {
	Folder string `json:"folder"`
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"`
}

// Can is one permission with what it means on this host.
type Can struct {
	Action   string   `json:"action"`
	Does     string   `json:"does"`
	Risk     string   `json:"risk"`
	Targets  []string `json:"targets"`
	Min      int64    `json:"min"`
	Max      int64    `json:"max"`
	Unit     string   `json:"unit"`
	MaxLease string   `json:"maxLease"`
	Rate     string   `json:"rate"`
	// Signed says whose signatures it needs: "collector", or "collector and approver".
	Signed string `json:"signed"`
}

// Cannot is an action that is known and not to be had here.
type Cannot struct {
	Action string `json:"action"`
	Why    string `json:"why"`
}

// Held is one change in force.
type Held struct {
	ID       string `json:"id"`
	Resource string `json:"resource"`
	Value    int64  `json:"value"`
	Prior    string `json:"prior"`
	Phase    string `json:"phase"`
	Left     string `json:"left"` // of the lease
}

// abler is an actuator that can say why it would not work on this host at all.
type abler interface{ Able() error }

// describe makes the capabilities from permissions, or from the problem with them.
func describe(s Settings, p Permissions, problem string, actuators map[string]Actuator) Capabilities {
	c := Capabilities{
		Version: version.Version, Host: s.Host, PermissionsFile: s.Permissions, Problem: problem, Approvers: []string{}, Can: []Can{}, Cannot: []Cannot{}, Leases: []Held{}, RevokedKeys: []string{},
	}
	if problem == "" {
		c.PermissionsHash, c.MaxRisk = hex.EncodeToString(p.Hash), p.MaxRisk.String()
		c.SigningRoot = command.FormatPublicKey(p.Trust.SigningRoot)
		for _, k := range p.Trust.Approvers {
			c.Approvers = append(c.Approvers, command.FormatPublicKey(k))
		}
		c.RevokedKeys = append(c.RevokedKeys, p.Trust.Revoked...)
	}
	p.apply(actuators, nil)
	specs := command.Catalogue()
	for name := range p.Plugins {
		if spec, ok := command.Lookup("plugin:" + name); ok {
			specs = append(specs, spec)
		}
	}
	slices.SortFunc(specs, func(a, b command.Spec) int { return strings.Compare(a.Name, b.Name) })
	for _, spec := range specs {
		why := ""
		a, has := actuators[spec.Name]
		switch {
		case problem != "":
			why = "everything is denied"
		case !slices.ContainsFunc(p.Actions, func(g Grant) bool { return g.Action == spec.Name }):
			why = "the permissions file does not list it"
		case spec.Risk > p.MaxRisk:
			why = fmt.Sprintf("its risk %s is over maxRisk %s", spec.Risk, p.MaxRisk)
		case !has:
			why = "this actor has no code for it"
		default:
			if able, ok := a.(abler); ok {
				if err := able.Able(); err != nil {
					why = plainDetail(err)
				}
			}
		}
		if why != "" {
			c.Cannot = append(c.Cannot, Cannot{Action: spec.Name, Why: why})
			continue
		}
		for _, g := range p.Actions {
			if g.Action != spec.Name {
				continue
			}
			can := Can{
				Action: g.Action, Does: spec.Title, Risk: spec.Risk.String(), Targets: []string{}, Min: g.Min, Max: g.Max, Unit: spec.Unit,
				MaxLease: shortDuration(g.MaxLease), Rate: g.Rate(), Signed: "collector",
			}
			if p.Trust.NeedsApprover(command.Command{Kind: command.Apply, Action: command.Action{Name: g.Action, Target: g.Targets[0]}}) {
				can.Signed = "collector and approver"
			}
			for _, t := range g.Targets {
				can.Targets = append(can.Targets, t.String())
			}
			c.Can = append(c.Can, can)
		}
	}
	return c
}

// Inspect reads permissions and kill file without a running actor.
func Inspect(s Settings, uid int, actuators map[string]Actuator) Capabilities {
	p, err := LoadPermissions(s.Permissions, uid)
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	c := describe(s, p, problem, actuators)
	c.Killed = killFileThere(s.KillFile)
	return c
}

func (e *engine) capabilities(s Settings) Capabilities {
	c := describe(s, e.perm, e.problem, e.actuators)
	c.Running, c.Incarnation, c.Killed = true, e.s.Incarnation, e.killed()
	c.Process = e.confined
	for _, id := range slices.Sorted(maps.Keys(e.s.Revoked)) {
		if !slices.Contains(c.RevokedKeys, id) {
			c.RevokedKeys = append(c.RevokedKeys, id)
		}
	}
	if e.trail != nil {
		c.Audit = &AuditHead{Folder: s.Audit}
		c.Audit.Seq, c.Audit.Hash = e.trail.log.Head()
	}
	if e.unable != nil {
		c.Can = slices.DeleteFunc(c.Can, func(x Can) bool {
			why := e.unable(x.Action)
			if why != "" {
				c.Cannot = append(c.Cannot, Cannot{Action: x.Action, Why: why})
			}
			return why != ""
		})
	}
	now := e.clock().Boot
	for _, key := range slices.Sorted(maps.Keys(e.s.Leases)) {
		l := e.s.Leases[key]
		c.Leases = append(c.Leases, Held{
			ID: l.ID, Resource: key, Value: l.value(), Prior: l.State.Text, Phase: string(l.Phase), Left: max(0, l.Deadline-now).Round(time.Second).String(),
		})
	}
	return c
}

// ErrRunning is returned by RevertOffline while an actor holds the state folder.
var ErrRunning = errors.New("the actor is running")
