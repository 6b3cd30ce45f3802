package command

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Bounds of what is parsed.
const (
	MaxBody      = 16 << 10 // bytes of a command body
	MaxEnvelope  = 32 << 10 // bytes of an envelope
	MaxReport    = 1 << 20  // bytes of an actor's report
	maxText      = 1024     // bytes of reason, detail and value texts
	maxName      = 256
	maxSigners   = 8
	maxTargets   = 256
	maxEntries   = 1024
	maxLease     = 30 * 24 * time.Hour
	hashLen      = 32
	maxKeyIDText = 64
)

// MarshalBody returns the bytes that are to be signed for a command. They are made once; whoever passes a command on
// passes these bytes.
func MarshalBody(c Command) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &agentv1.CommandBody{
		Id: c.ID, Kind: agentv1.CommandBody_Kind(c.Kind), Host: c.Host, ActorIncarnation: c.ActorIncarnation,
		FenceIncarnation: c.Fence.Incarnation, FenceRevision: c.Fence.Revision, ExpectedPrior: c.ExpectedPrior,
		IssuedUnixMs: c.Issued.UnixMilli(), ExpiresUnixMs: c.Expires.UnixMilli(), LeaseMs: c.Lease.Milliseconds(),
		Risk: c.Risk.String(), Reason: c.Reason, Incident: c.Incident, PermissionsHash: c.PermissionsHash, Of: c.Of, Counter: c.Counter,
	}
	if c.Kind == Apply {
		p.ResourceKey = c.Action.Resource()
		p.Action = &agentv1.Action{Name: c.Action.Name, Target: c.Action.Target.Proto(), Value: c.Action.Value}
		p.Release = &agentv1.Release{StepPercent: uint32(c.Release.Step), StepMs: c.Release.Every.Milliseconds()}
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxBody {
		return nil, fmt.Errorf("command body of %d bytes is over the limit of %d", len(b), MaxBody)
	}
	return b, nil
}

// ParseBody reads a command body strictly: a field that it does not know, a text over its bound or a resource key that
// is not the action's is an error. Verify calls it after the signature was found good; use it alone only on bytes that
// were signed or stored here.
func ParseBody(b []byte) (Command, error) {
	if len(b) > MaxBody {
		return Command{}, fmt.Errorf("command body of %d bytes is over the limit of %d", len(b), MaxBody)
	}
	var p agentv1.CommandBody
	if err := unmarshalStrict(b, &p); err != nil {
		return Command{}, err
	}
	risk, err := ParseRisk(p.GetRisk())
	if err != nil {
		return Command{}, err
	}
	issued, err := timeFromMillis("issue", p.GetIssuedUnixMs())
	if err != nil {
		return Command{}, err
	}
	expires, err := timeFromMillis("expiry", p.GetExpiresUnixMs())
	if err != nil {
		return Command{}, err
	}
	lease, err := durationFromMillis("lease", p.GetLeaseMs())
	if err != nil {
		return Command{}, err
	}
	if p.GetKind() < 0 || p.GetKind() > math.MaxUint8 {
		return Command{}, fmt.Errorf("unknown kind of command %d", p.GetKind())
	}
	c := Command{
		ID: p.GetId(), Kind: Kind(p.GetKind()), Host: p.GetHost(), ActorIncarnation: p.GetActorIncarnation(),
		Fence:         Fence{Incarnation: p.GetFenceIncarnation(), Revision: p.GetFenceRevision()},
		ExpectedPrior: p.GetExpectedPrior(), Issued: issued, Expires: expires, Lease: lease, Risk: risk, Reason: p.GetReason(),
		Incident: p.GetIncident(), PermissionsHash: p.GetPermissionsHash(), Of: p.GetOf(), Counter: p.GetCounter(),
	}
	if a := p.GetAction(); a != nil {
		t, err := TargetFromProto(a.GetTarget())
		if err != nil {
			return Command{}, err
		}
		c.Action = Action{Name: a.GetName(), Target: t, Value: a.GetValue()}
	}
	if r := p.GetRelease(); r != nil {
		every, err := durationFromMillis("release step", r.GetStepMs())
		if err != nil {
			return Command{}, err
		}
		if r.GetStepPercent() > 100 {
			return Command{}, fmt.Errorf("release step of %d percent", r.GetStepPercent())
		}
		c.Release = Release{Step: int(r.GetStepPercent()), Every: every}
	}
	if err := c.validate(); err != nil {
		return Command{}, err
	}
	if c.Kind == Apply && p.GetResourceKey() != c.Action.Resource() {
		return Command{}, fmt.Errorf("resource key %q is not that of the action, %q", p.GetResourceKey(), c.Action.Resource())
	}
	if c.Kind != Apply && (p.GetAction() != nil || p.GetRelease() != nil || p.GetResourceKey() != "") {
		return Command{}, fmt.Errorf("only an apply command carries an action")
	}
	return c, nil
}

// validate holds what every well-formed command satisfies, made here or received.
func (c Command) validate() error {
	if _, err := ulid.ParseStrict(c.ID); err != nil {
		return fmt.Errorf("command id %q is not a ULID", clip(c.ID))
	}
	if c.Kind < Apply || c.Kind > Revoke {
		return fmt.Errorf("unknown kind of command %d", c.Kind)
	}
	if c.Risk > R3 {
		return fmt.Errorf("unknown risk class %d", c.Risk)
	}
	for _, t := range []struct {
		what, text string
		most       int
	}{
		{"host", c.Host, maxName},
		{"actor incarnation", c.ActorIncarnation, maxName},
		{"expected prior", c.ExpectedPrior, maxText},
		{"reason", c.Reason, maxText},
		{"incident", c.Incident, maxName},
		{"action", c.Action.Name, maxName},
	} {
		if len(t.text) > t.most {
			return fmt.Errorf("%s of %d bytes is over the limit of %d", t.what, len(t.text), t.most)
		}
		if !utf8.ValidString(t.text) {
			return fmt.Errorf("%s is not UTF-8", t.what)
		}
	}
	if c.Host == "" {
		return fmt.Errorf("command names no host")
	}
	if len(c.PermissionsHash) != 0 && len(c.PermissionsHash) != hashLen {
		return fmt.Errorf("permissions hash of %d bytes", len(c.PermissionsHash))
	}
	if !c.Expires.After(c.Issued) {
		return fmt.Errorf("command expires at or before its issue")
	}
	if c.Lease < 0 || c.Lease > maxLease {
		return fmt.Errorf("lease of %s is outside 0 to %s", c.Lease, maxLease)
	}
	if r := c.Release; r.Step < 0 || r.Step > 100 || r.Every < 0 || r.Every > maxLease || (r.Step == 0) != (r.Every == 0) {
		return fmt.Errorf("release of %d percent each %s makes no sense", r.Step, r.Every)
	}
	switch c.Kind {
	case Apply:
		if c.Action.Name == "" {
			return fmt.Errorf("apply command names no action")
		}
		if c.Lease == 0 && c.Risk < R3 {
			return fmt.Errorf("a reversible action needs a lease")
		}
		if c.Of != "" {
			return fmt.Errorf("apply command names another command")
		}
		return c.Action.Target.Validate()
	case Renew, Revert:
		if _, err := ulid.ParseStrict(c.Of); err != nil {
			return fmt.Errorf("command id %q to renew or revert is not a ULID", clip(c.Of))
		}
		if c.Kind == Renew && c.Lease == 0 {
			return fmt.Errorf("renewal names no lease")
		}
	case Kill, Lift:
		if c.Of != "" {
			return fmt.Errorf("kill and lift name no other command")
		}
	case Revoke:
		if err := CheckKeyID(c.Of); err != nil {
			return err
		}
	}
	return nil
}

// Proto returns the target as the wire has it.
func (t Target) Proto() *agentv1.Target {
	switch t.Kind() {
	case OnUnit:
		return &agentv1.Target{Target: &agentv1.Target_Unit{Unit: t.Unit}}
	case OnCgroup:
		return &agentv1.Target{Target: &agentv1.Target_Cgroup{Cgroup: t.Cgroup}}
	case OnProcess:
		return &agentv1.Target{Target: &agentv1.Target_Process{Process: &agentv1.ProcessTarget{Exe: t.Process.Exe, User: t.Process.User}}}
	case OnPort:
		return &agentv1.Target{Target: &agentv1.Target_Port{Port: t.Port}}
	case OnCheck:
		return &agentv1.Target{Target: &agentv1.Target_Check{Check: &agentv1.CheckTarget{Kind: t.Check.Kind, Address: t.Check.Address}}}
	case OnSysctl:
		return &agentv1.Target{Target: &agentv1.Target_Sysctl{Sysctl: t.Sysctl}}
	case OnPlace:
		return &agentv1.Target{Target: &agentv1.Target_Place{Place: t.Place}}
	}
	return t.trafficProto()
}

// TargetFromProto returns a valid target; a nil or empty one is the host itself.
func TargetFromProto(p *agentv1.Target) (Target, error) {
	var t Target
	switch v := p.GetTarget().(type) {
	case nil:
		return t, nil
	case *agentv1.Target_Unit:
		t.Unit = v.Unit
	case *agentv1.Target_Cgroup:
		t.Cgroup = v.Cgroup
	case *agentv1.Target_Process:
		t.Process = &Process{Exe: v.Process.GetExe(), User: v.Process.GetUser()}
	case *agentv1.Target_Port:
		t.Port = v.Port
	case *agentv1.Target_Check:
		t.Check = &Check{Kind: v.Check.GetKind(), Address: v.Check.GetAddress()}
	case *agentv1.Target_Sysctl:
		t.Sysctl = v.Sysctl
	case *agentv1.Target_Place:
		t.Place = v.Place
	default:
		t = trafficFromProto(p)
	}
	if t.Kind() == OnHost {
		return Target{}, fmt.Errorf("target names nothing")
	}
	return t, t.Validate()
}

// Proto returns the envelope as the wire has it; the body's bytes are shared, not copied.
func (e Envelope) Proto() *agentv1.SignedCommand {
	p := &agentv1.SignedCommand{Body: e.Body}
	for _, s := range e.Signatures {
		p.Signatures = append(p.Signatures, &agentv1.Signature{KeyId: s.KeyID, Sig: s.Sig})
	}
	for _, c := range e.Certificates {
		p.KeyCertificates = append(p.KeyCertificates, c.Marshal())
	}
	return p
}

// EnvelopeFromProto checks sizes and takes the parts; nothing is verified.
func EnvelopeFromProto(p *agentv1.SignedCommand) (Envelope, error) {
	if p == nil || len(p.GetBody()) == 0 {
		return Envelope{}, fmt.Errorf("envelope has no body")
	}
	if len(p.GetBody()) > MaxBody || len(p.GetSignatures()) > maxSigners || len(p.GetKeyCertificates()) > maxSigners {
		return Envelope{}, fmt.Errorf("envelope is over its bounds")
	}
	e := Envelope{Body: p.GetBody()}
	for _, s := range p.GetSignatures() {
		if len(s.GetKeyId()) > maxKeyIDText {
			return Envelope{}, fmt.Errorf("key id of %d bytes", len(s.GetKeyId()))
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: s.GetKeyId(), Sig: s.GetSig()})
	}
	for _, c := range p.GetKeyCertificates() {
		k, err := ParseKeyCertificate(c)
		if err != nil {
			return Envelope{}, err
		}
		e.Certificates = append(e.Certificates, k)
	}
	return e, nil
}

// Marshal returns the envelope's bytes for a ledger or a journal. The body inside is the body that was signed.
func (e Envelope) Marshal() ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(e.Proto())
	if err == nil && len(b) > MaxEnvelope {
		err = fmt.Errorf("envelope of %d bytes is over the limit of %d", len(b), MaxEnvelope)
	}
	return b, err
}

// ParseEnvelope reads what Marshal wrote; nothing is verified.
func ParseEnvelope(b []byte) (Envelope, error) {
	if len(b) > MaxEnvelope {
		return Envelope{}, fmt.Errorf("envelope of %d bytes is over the limit of %d", len(b), MaxEnvelope)
	}
	var p agentv1.SignedCommand
	if err := unmarshalStrict(b, &p); err != nil {
		return Envelope{}, err
	}
	return EnvelopeFromProto(&p)
}

// Marshal returns the certificate's bytes, as envelopes and state carry them.
func (k KeyCertificate) Marshal() []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&agentv1.KeyCertificate{Body: k.Body, Sig: k.Sig})
	if err != nil {
		panic("BUG: two byte strings cannot be marshalled: " + err.Error())
	}
	return b
}

// ParseKeyCertificate reads what Marshal wrote; nothing is verified.
func ParseKeyCertificate(b []byte) (KeyCertificate, error) {
	if len(b) > maxCertificate {
		return KeyCertificate{}, fmt.Errorf("key certificate of %d bytes is over the limit of %d", len(b), maxCertificate)
	}
	var p agentv1.KeyCertificate
	if err := unmarshalStrict(b, &p); err != nil {
		return KeyCertificate{}, err
	}
	return KeyCertificate{Body: p.GetBody(), Sig: p.GetSig()}, nil
}

func (k CertifiedKey) marshal() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&agentv1.KeyCertificateBody{
		KeyId: k.KeyID, PublicKey: k.Public, Collector: k.Collector, NotBeforeUnixMs: k.NotBefore.UnixMilli(),
		NotAfterUnixMs: k.NotAfter.UnixMilli(), MaxRisk: k.MaxRisk.String(),
	})
}

func parseCertifiedKey(b []byte) (CertifiedKey, error) {
	var p agentv1.KeyCertificateBody
	if err := unmarshalStrict(b, &p); err != nil {
		return CertifiedKey{}, err
	}
	risk, err := ParseRisk(p.GetMaxRisk())
	if err != nil {
		return CertifiedKey{}, err
	}
	from, err := timeFromMillis("start", p.GetNotBeforeUnixMs())
	if err != nil {
		return CertifiedKey{}, err
	}
	to, err := timeFromMillis("end", p.GetNotAfterUnixMs())
	if err != nil {
		return CertifiedKey{}, err
	}
	return CertifiedKey{
		KeyID: p.GetKeyId(), Public: p.GetPublicKey(), Collector: p.GetCollector(), NotBefore: from, NotAfter: to, MaxRisk: risk,
	}, nil
}

// Proto returns the result as the wire has it. Texts over their bound are cut.
func (r Result) Proto() *agentv1.CommandResult {
	return &agentv1.CommandResult{
		Id: r.ID, Ordinal: r.Ordinal, Phase: agentv1.CommandResult_Phase(r.Phase), Reason: clip(string(r.Reason)), Detail: clip(r.Detail),
		Prior: clip(r.Prior), Value: clip(r.Value), TimeUnixMs: r.Time.UnixMilli(), ActorIncarnation: r.ActorIncarnation,
		LeaseLeftMs: r.LeaseLeft.Milliseconds(),
	}
}

// ResultFromProto checks and takes a result. The texts come from a host and are not to be trusted further than as texts.
func ResultFromProto(p *agentv1.CommandResult) (Result, error) {
	if p.GetPhase() < agentv1.CommandResult_Phase(Accepted) || p.GetPhase() > agentv1.CommandResult_Phase(Revoked) {
		return Result{}, fmt.Errorf("unknown phase %d", p.GetPhase())
	}
	if len(p.GetId()) > maxName || len(p.GetActorIncarnation()) > maxName {
		return Result{}, fmt.Errorf("result with an over-long id")
	}
	for _, s := range []string{p.GetReason(), p.GetDetail(), p.GetPrior(), p.GetValue()} {
		if len(s) > maxText {
			return Result{}, fmt.Errorf("result with a text of %d bytes", len(s))
		}
	}
	at, err := timeFromMillis("result", p.GetTimeUnixMs())
	if err != nil {
		return Result{}, err
	}
	left, err := durationFromMillis("lease", p.GetLeaseLeftMs())
	if err != nil {
		return Result{}, err
	}
	return Result{
		ID: p.GetId(), Ordinal: p.GetOrdinal(), Phase: Phase(p.GetPhase()), Reason: Reason(p.GetReason()), Detail: p.GetDetail(),
		Prior: p.GetPrior(), Value: p.GetValue(), Time: at, ActorIncarnation: p.GetActorIncarnation(), LeaseLeft: left,
	}, nil
}

// Proto returns the permission as the wire has it.
func (p Permission) Proto() *agentv1.Permission {
	out := &agentv1.Permission{Action: p.Action, Min: p.Min, Max: p.Max, MaxLeaseMs: p.MaxLease.Milliseconds(), Rate: p.Rate, WithoutApprover: p.WithoutApprover}
	for _, t := range p.Targets {
		out.Targets = append(out.Targets, t.Proto())
	}
	return out
}

// PermissionFromProto checks and takes one permission.
func PermissionFromProto(p *agentv1.Permission) (Permission, error) {
	if len(p.GetAction()) > maxName || len(p.GetRate()) > maxName || len(p.GetTargets()) > maxTargets {
		return Permission{}, fmt.Errorf("permission is over its bounds")
	}
	lease, err := durationFromMillis("lease", p.GetMaxLeaseMs())
	if err != nil {
		return Permission{}, err
	}
	out := Permission{Action: p.GetAction(), Min: p.GetMin(), Max: p.GetMax(), MaxLease: lease, Rate: p.GetRate(), WithoutApprover: p.GetWithoutApprover()}
	for _, t := range p.GetTargets() {
		target, err := TargetFromProto(t)
		if err != nil {
			return Permission{}, err
		}
		out.Targets = append(out.Targets, target)
	}
	return out, nil
}

// Proto returns the report as the wire has it.
func (r ActorReport) Proto() *agentv1.ActorReport {
	out := &agentv1.ActorReport{
		Present: r.Present, Incarnation: r.Incarnation, PermissionsHash: r.PermissionsHash, MaxRisk: r.MaxRisk.String(), Killed: r.Killed,
		Problem: clip(r.Problem), Approvers: r.Approvers, Revoked: r.Revoked,
	}
	for _, p := range r.Permissions {
		out.Permissions = append(out.Permissions, p.Proto())
	}
	return out
}

// ActorReportFromProto checks and takes a report.
func ActorReportFromProto(p *agentv1.ActorReport) (ActorReport, error) {
	if len(p.GetPermissions()) > maxEntries || len(p.GetIncarnation()) > maxName || len(p.GetProblem()) > maxText {
		return ActorReport{}, fmt.Errorf("actor report is over its bounds")
	}
	if n := len(p.GetPermissionsHash()); n != 0 && n != hashLen {
		return ActorReport{}, fmt.Errorf("permissions hash of %d bytes", n)
	}
	if err := checkReportedKeys(p.GetApprovers(), p.GetRevoked()); err != nil {
		return ActorReport{}, err
	}
	var risk Risk
	if p.GetMaxRisk() != "" {
		var err error
		if risk, err = ParseRisk(p.GetMaxRisk()); err != nil {
			return ActorReport{}, err
		}
	}
	out := ActorReport{
		Present: p.GetPresent(), Incarnation: p.GetIncarnation(), PermissionsHash: p.GetPermissionsHash(), MaxRisk: risk, Killed: p.GetKilled(),
		Problem: p.GetProblem(), Approvers: p.GetApprovers(), Revoked: p.GetRevoked(),
	}
	for _, e := range p.GetPermissions() {
		permission, err := PermissionFromProto(e)
		if err != nil {
			return ActorReport{}, err
		}
		out.Permissions = append(out.Permissions, permission)
	}
	return out, nil
}

// Marshal returns the report's bytes, as the actor's socket and the session carry them.
func (r ActorReport) Marshal() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(r.Proto())
}

// ParseActorReport reads what Marshal wrote.
func ParseActorReport(b []byte) (ActorReport, error) {
	if len(b) > MaxReport {
		return ActorReport{}, fmt.Errorf("actor report of %d bytes is over the limit of %d", len(b), MaxReport)
	}
	var p agentv1.ActorReport
	if err := unmarshalStrict(b, &p); err != nil {
		return ActorReport{}, err
	}
	return ActorReportFromProto(&p)
}

// Marshal returns the result's bytes, as a journal keeps them.
func (r Result) Marshal() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(r.Proto())
}

// ParseResult reads what Marshal wrote.
func ParseResult(b []byte) (Result, error) {
	var p agentv1.CommandResult
	if err := unmarshalStrict(b, &p); err != nil {
		return Result{}, err
	}
	return ResultFromProto(&p)
}

func unmarshalStrict(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("not a %s", m.ProtoReflect().Descriptor().Name())
	}
	return refuseUnknown(m.ProtoReflect())
}

func refuseUnknown(m protoreflect.Message) error {
	if len(m.GetUnknown()) != 0 {
		return fmt.Errorf("%s has a field that is not known here", m.Descriptor().Name())
	}
	var err error
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range v.List().Len() {
				if err = refuseUnknown(v.List().Get(i).Message()); err != nil {
					break
				}
			}
		default:
			err = refuseUnknown(v.Message())
		}
		return err == nil
	})
	return err
}

// latest is the last moment that a message may name: the end of the year 9999, beyond which times do not print as
// RFC 3339.
const latest = 253402300799999

func timeFromMillis(what string, ms int64) (time.Time, error) {
	if ms < 0 || ms > latest {
		return time.Time{}, fmt.Errorf("%s time %d is outside the years 1970 to 9999", what, ms)
	}
	return time.UnixMilli(ms).UTC(), nil
}

func durationFromMillis(what string, ms int64) (time.Duration, error) {
	if ms < 0 || ms > int64(maxLease/time.Millisecond) {
		return 0, fmt.Errorf("%s of %d ms is outside 0 to %s", what, ms, maxLease)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// clip cuts a text at the last whole character within the bound and makes it valid UTF-8.
func clip(s string) string {
	if len(s) <= maxText && utf8.ValidString(s) {
		return s
	}
	out := make([]byte, 0, maxText)
	for _, r := range s {
		if len(out)+utf8.RuneLen(r) > maxText {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
