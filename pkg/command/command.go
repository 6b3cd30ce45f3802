// Package command says what may be asked of a host and how: typed actions and their risk, the signed envelope, the
// fence, and the results that come back.
//
// It holds no policy and decides nothing: agent/actor judges commands, collector/remedy makes them. Generated code is
// seen only by wire.go.
package command

import (
	"cmp"
	"fmt"
	"time"
)

// Risk says how bad an action can be, from R0 (looks only) to R3 (cannot be taken back).
type Risk uint8

// The risk classes.
const (
	R0 Risk = iota // observes
	R1             // reversible, no loss of service: weights, affinity
	R2             // reversible, with loss: quota, drain, freeze
	R3             // irreversible: restart, kill
)

// String returns "R0" to "R3".
func (r Risk) String() string { return fmt.Sprintf("R%d", uint8(r)) }

// ParseRisk reads what String writes.
func ParseRisk(s string) (Risk, error) {
	if len(s) == 2 && s[0] == 'R' && s[1] >= '0' && s[1] <= '3' {
		return Risk(s[1] - '0'), nil
	}
	return 0, fmt.Errorf("%q is not a risk class: expected R0, R1, R2 or R3", s)
}

// Kind says what a command does.
type Kind uint8

// The kinds of command.
const (
	Apply Kind = iota + 1
	Renew
	Revert
	Kill
	Lift
	Revoke
)

// Process names running programs by executable and, where User is not empty, owner. Exe is an absolute path, compared
// with /proc/PID/exe.
type Process struct {
	Exe  string `json:"exe"`
	User string `json:"user,omitempty"`
}

// Check is a request that an agent makes: Kind "http" with a URL, or "tcp" with host:port.
type Check struct {
	Kind    string `json:"kind"`
	Address string `json:"address"`
}

// Target is a part of a host. Exactly one field is set; the zero Target is the host itself.
type Target struct {
	Unit    string   `json:"unit,omitempty"`   // systemd unit
	Cgroup  string   `json:"cgroup,omitempty"` // path below the hierarchy's root, "/" first
	Process *Process `json:"process,omitempty"`
	Port    string   `json:"port,omitempty"` // "8080/tcp"
	Check   *Check   `json:"check,omitempty"`
	Sysctl  string   `json:"sysctl,omitempty"` // "net.core.somaxconn"
	Place   string   `json:"place,omitempty"`  // files that the host declares under this name

	// Parts of what steers traffic: see traffic.go.
	HAProxy    *HAProxyServer   `json:"haproxy,omitempty"`
	Nginx      *NginxServer     `json:"nginx,omitempty"`
	IPVS       *IPVSDestination `json:"ipvs,omitempty"`
	Interface  string           `json:"interface,omitempty"`  // network interface
	AgentCheck string           `json:"agentCheck,omitempty"` // name under which a load balancer asks for a weight
}

// String returns the target as one word: "unit/batch.service", "cgroup/a/b", "process/usr/bin/x@user". It is the second
// half of a resource key.
func (t Target) String() string {
	switch {
	case t.Unit != "":
		return "unit/" + t.Unit
	case t.Cgroup != "":
		return "cgroup" + t.Cgroup
	case t.Process != nil && t.Process.User != "":
		return "process" + t.Process.Exe + "@" + t.Process.User
	case t.Process != nil:
		return "process" + t.Process.Exe
	case t.Port != "":
		return "port/" + t.Port
	case t.Check != nil:
		return "check/" + t.Check.Kind + ":" + t.Check.Address
	case t.Sysctl != "":
		return "sysctl/" + t.Sysctl
	case t.Place != "":
		return "place/" + t.Place
	}
	if s := t.trafficText(); s != "" {
		return s
	}
	return "host"
}

// Equal reports whether both name the same part.
func (t Target) Equal(o Target) bool { return t.String() == o.String() }

// Action is one typed change. Value is in the action's own unit, which its row in the catalogue names.
type Action struct {
	Name   string `json:"action"`
	Target Target `json:"target"`
	Value  int64  `json:"value"`
}

// Resource returns the key under which at most one lease is active: two actions on the same knob share it. The knob of
// cpu.weight is "cpu.weight", so that a quota and a weight on one unit do not exclude each other.
func (a Action) Resource() string { return a.Name + ":" + a.Target.String() }

// Fence orders commands across restarts and restores of the collector: first by the cluster's incarnation, then by the
// state engine's revision at which the intent was written.
type Fence struct {
	Incarnation uint64 `json:"incarnation"`
	Revision    uint64 `json:"revision"`
}

// Compare returns -1, 0 or 1 as f is older than, equal to or newer than o.
func (f Fence) Compare(o Fence) int {
	return cmp.Or(cmp.Compare(f.Incarnation, o.Incarnation), cmp.Compare(f.Revision, o.Revision))
}

// String returns "incarnation/revision".
func (f Fence) String() string { return fmt.Sprintf("%d/%d", f.Incarnation, f.Revision) }

// Release says how a lease is given back: Step percent of the way each Every; the zero Release is at once.
type Release struct {
	Step  int           `json:"step"`
	Every time.Duration `json:"every"`
}

// Command is the signed body of an envelope.
type Command struct {
	ID               string // ULID
	Kind             Kind
	Host             string // agent id
	ActorIncarnation string
	Fence            Fence
	Action           Action // of Apply; the others name a command in Of
	ExpectedPrior    string // "": any
	Issued, Expires  time.Time
	Lease            time.Duration
	Risk             Risk
	Reason           string
	Incident         string
	PermissionsHash  []byte
	Of               string // the command that is renewed or reverted, the key that is revoked
	Counter          uint32
	Release          Release
}

// Phase is where a command stands at the actor.
type Phase uint8

// The phases, as the wire numbers them.
const (
	Accepted Phase = iota + 1
	Applied
	Refused
	Failed
	Renewed
	Reverted
	Drifted
	RevertFailed
	Indeterminate
	NotApplied
	Releasing
	Killed
	Lifted
	Revoked
)

var phaseNames = [...]string{
	"", "accepted", "applied", "refused", "failed", "renewed", "reverted", "drifted", "revert failed", "indeterminate",
	"not applied", "releasing", "killed", "lifted", "revoked",
}

// String returns the phase in lower case.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Reason is the code of a refusal or failure. The same words stand in the API, the CLI and the log.
type Reason string

// The reasons of an actor.
const (
	ReasonUnsigned           Reason = "unsigned"
	ReasonUnknownKey         Reason = "unknown-key"
	ReasonBadSignature       Reason = "bad-signature"
	ReasonMalformed          Reason = "malformed"
	ReasonKeyExpired         Reason = "key-expired"
	ReasonKeyRevoked         Reason = "key-revoked"
	ReasonRiskNeedsApprover  Reason = "risk-needs-approver"
	ReasonWrongHost          Reason = "wrong-host"
	ReasonWrongIncarnation   Reason = "wrong-incarnation"
	ReasonExpired            Reason = "expired"
	ReasonNotYetValid        Reason = "not-yet-valid"
	ReasonClockSkew          Reason = "clock-skew"
	ReasonReplayed           Reason = "replayed"
	ReasonOldFence           Reason = "old-fence"
	ReasonDenied             Reason = "denied"
	ReasonPermissionsChanged Reason = "permissions-changed"
	ReasonPermissionsBad     Reason = "permissions-unusable"
	ReasonKilled             Reason = "killed"
	ReasonRateLimited        Reason = "rate-limited"
	ReasonPriorDiffers       Reason = "prior-differs"
	ReasonNoTarget           Reason = "no-target"
	ReasonNotReversible      Reason = "not-reversible"
	ReasonNoEffect           Reason = "no-effect"
	ReasonUnknownCommand     Reason = "unknown-command"
	ReasonBusy               Reason = "busy"
)

// Result is what an actor says of a command. Results are kept by the actor and sent again until they are stored.
type Result struct {
	ID               string // of the command
	Ordinal          uint32
	Phase            Phase
	Reason           Reason
	Detail           string
	Prior, Value     string
	Time             time.Time
	ActorIncarnation string
	LeaseLeft        time.Duration
}

// Permission is one entry of a host's permissions file as its actor reports it.
type Permission struct {
	Action   string
	Targets  []Target
	Min, Max int64
	MaxLease time.Duration
	Rate     string // "6/5m"
	// WithoutApprover says that the host grants the action on a collector's signature alone, where it would need an
	// approver's beside it. Nothing of R3 is ever granted so.
	WithoutApprover bool
}

// ActorReport is what an actor says of itself. It lets a collector plan; the actor alone decides.
type ActorReport struct {
	Present         bool
	Incarnation     string
	PermissionsHash []byte
	Permissions     []Permission
	MaxRisk         Risk
	Killed          bool
	Problem         string
	Approvers       []string // public keys as FormatPublicKey writes them
	Revoked         []string // ids of keys that were revoked by command and are not believed there
}

// Permits returns the permission that covers the action's name and target, whatever its value.
func (r *ActorReport) Permits(a Action) (Permission, bool) {
	for _, p := range r.Permissions {
		if p.Action != a.Name {
			continue
		}
		for _, t := range p.Targets {
			if t.Equal(a.Target) {
				return p, true
			}
		}
	}
	return Permission{}, false
}
