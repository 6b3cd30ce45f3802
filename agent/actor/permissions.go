package actor

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Permissions is the host owner's word on what may be done here. The zero value permits nothing.
type Permissions struct {
	Hash    []byte // SHA-256 of the file
	Trust   command.Trust
	MaxRisk command.Risk
	Actions []Grant
	Declared
}

// Grant permits one action on named targets, within bounds.
type Grant struct {
	Action   string
	Targets  []command.Target
	Min, Max int64
	MaxLease time.Duration
	Times    int // at most so many applications
	Per      time.Duration
	// WithoutApprover grants the action on a collector's signature alone; only for what could be taken back.
	WithoutApprover bool
}

// Rate returns the grant's limit as it is written: "6/5m".
func (g Grant) Rate() string { return fmt.Sprintf("%d/%s", g.Times, shortDuration(g.Per)) }

// Bounds of a permissions file.
const (
	permissionsVersion = 1
	maxPermissionsFile = 256 << 10
	maxGrants          = 256
	maxGrantTargets    = 256
	longestPer         = 24 * time.Hour
)

// Grant returns the first entry that covers the action and the target, whatever the value.
func (p *Permissions) Grant(a command.Action) (Grant, bool) {
	for _, g := range p.Actions {
		if g.Action == a.Name && slices.ContainsFunc(g.Targets, a.Target.Equal) {
			return g, true
		}
	}
	return Grant{}, false
}

// LoadPermissions reads the file after checking that nobody but its owner could have written it: the file and every
// folder above it belong to root or to uid, and nobody else may write there (a sticky folder such as /tmp apart).
func LoadPermissions(file string, uid int) (Permissions, error) {
	return (&permissionsFile{path: file, uid: uid}).load()
}

// permissionsFile is a permissions file as it was read last. Who may write it is checked, and its text read, each time; a
// text that has not changed is not parsed again.
type permissionsFile struct {
	path   string
	uid    int
	text   []byte
	parsed Permissions // of text; valid where text is not nil
}

func (f *permissionsFile) load() (Permissions, error) {
	b, err := readOwned(f.path, f.uid, maxPermissionsFile)
	if err != nil {
		return Permissions{}, err
	}
	if f.text != nil && bytes.Equal(b, f.text) {
		return f.parsed, nil
	}
	f.text = nil
	p, err := ParsePermissions(b)
	if err != nil {
		return Permissions{}, fmt.Errorf("%s: %w", f.path, err)
	}
	f.text, f.parsed = b, p
	return p, nil
}

// readOwned reads through the descriptor that it has checked.
func readOwned(file string, uid int, most int64) ([]byte, error) {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", real)
	}
	if err := ownedBy(real, info, uid); err != nil {
		return nil, err
	}
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if err != nil {
			return nil, err
		}
		if err := ownedBy(dir, info, uid); err != nil {
			return nil, err
		}
		if dir == "/" {
			break
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", real, most)
	}
	return b, err
}

func ownedBy(name string, info os.FileInfo, uid int) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner cannot be told", name)
	}
	if st.Uid != 0 && int(st.Uid) != uid {
		return fmt.Errorf("%s belongs to uid %d: it must belong to root or to uid %d", name, st.Uid, uid)
	}
	sticky := info.IsDir() && info.Mode()&os.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return fmt.Errorf("%s may be written by others (mode %04o): take that away with chmod go-w", name, info.Mode().Perm())
	}
	return nil
}

// ParsePermissions reads the text strictly. The error lists every problem, each with its line and column.
func ParsePermissions(b []byte) (Permissions, error) {
	sum := sha256.Sum256(b)
	r := &reader{}
	p := Permissions{Hash: sum[:]}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return Permissions{}, fmt.Errorf("not YAML: %s", firstLine(err.Error()))
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return Permissions{}, errors.New("expected one YAML document")
	}
	root := r.mapping(file.Docs[0].Body, "permissions", "version", "signingRoot", "approvers", "revoked", "maxRisk", "places", "plugins", "actions")
	if n := r.integer(root, "version"); n != permissionsVersion && len(r.problems) == 0 {
		r.add(root.at("version"), "version %d is not known here: expected %d", n, permissionsVersion)
	}
	if text := r.text(root, "signingRoot"); text != "" {
		if p.Trust.SigningRoot, err = command.ParsePublicKey(text); err != nil {
			r.add(root.at("signingRoot"), "signingRoot: %v", err)
		}
	}
	for _, n := range r.list(root, "approvers", maxGrants) {
		key, err := command.ParsePublicKey(r.scalar(n, "approver"))
		if err != nil {
			r.add(n, "approvers: %v", err)
			continue
		}
		p.Trust.Approvers = append(p.Trust.Approvers, key)
	}
	if root.has("revoked") {
		for _, n := range r.list(root, "revoked", maxGrants) {
			id := r.scalar(n, "revoked")
			if err := command.CheckKeyID(id); err != nil {
				r.add(n, "revoked: %v", err)
				continue
			}
			p.Trust.Revoked = append(p.Trust.Revoked, id)
		}
	}
	if text := r.text(root, "maxRisk"); text != "" {
		if p.MaxRisk, err = command.ParseRisk(text); err != nil {
			r.add(root.at("maxRisk"), "maxRisk: %v", err)
		}
	}
	p.Declared = r.declared(root)
	grants := r.list(root, "actions", maxGrants)
	for _, n := range grants {
		g := r.grant(n)
		p.Actions = append(p.Actions, g)
		if g.WithoutApprover {
			p.Trust.Waived = append(p.Trust.Waived, command.Waiver{Action: g.Action, Targets: g.Targets})
		}
	}
	p.check(r, p.Actions, grants)
	if len(r.problems) > 0 {
		return Permissions{}, errors.Join(r.problems...)
	}
	return p, nil
}

func (r *reader) grant(n ast.Node) Grant {
	m := r.mapping(n, "action", "action", "targets", "min", "max", "maxLease", "rate", "withoutApprover")
	g := Grant{Action: r.text(m, "action"), Min: r.integer(m, "min"), Max: r.integer(m, "max")}
	spec, known := command.Lookup(g.Action)
	if !known && g.Action != "" {
		var names []string
		for _, s := range command.Catalogue() {
			names = append(names, s.Name)
		}
		r.add(m.at("action"), "action %q is not known here%s", g.Action, nearest(g.Action, names))
	}
	if known && m.has("min") && m.has("max") && (g.Min < spec.Min || g.Max > spec.Max || g.Min > g.Max) {
		r.add(m.at("min"), "min %d and max %d: %s takes %d to %d %s", g.Min, g.Max, g.Action, spec.Min, spec.Max, spec.Unit)
	}
	for _, t := range r.list(m, "targets", maxGrantTargets) {
		target, ok := r.target(t)
		if !ok {
			continue
		}
		if known && !spec.On(target.Kind()) {
			r.add(t, "%s cannot hold on to a %s", g.Action, target.Kind())
			continue
		}
		g.Targets = append(g.Targets, target)
	}
	if m.has("withoutApprover") {
		g.WithoutApprover = r.boolean(m, "withoutApprover")
		if known && g.WithoutApprover && spec.Once() {
			r.add(m.at("withoutApprover"), "withoutApprover: %s cannot be taken back, so it needs an approver's signature everywhere", g.Action)
		}
	}
	if known && spec.Once() && !m.has("maxLease") {
		// What cannot be taken back has no lease.
	} else if text := r.text(m, "maxLease"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			r.add(m.at("maxLease"), "maxLease %q is not a length of time such as 10m", text)
		}
		g.MaxLease = d
	}
	if text := r.text(m, "rate"); text != "" {
		var ok bool
		if g.Times, g.Per, ok = parseRate(text); !ok {
			r.add(m.at("rate"), "rate %q is not of the form 6/5m, within a day", text)
		}
	}
	return g
}

func (r *reader) target(n ast.Node) (command.Target, bool) {
	m := r.mapping(n, "target", append([]string{"unit", "cgroup", "process", "port", "sysctl", "place", "host"}, trafficTargets...)...)
	had := len(r.problems)
	var t command.Target
	if len(m.nodes) != 1 {
		r.add(n, "a target names exactly one of unit, cgroup, process, port, sysctl, place, host and what steers traffic (see docs/traffic.md)")
		return t, false
	}
	switch {
	case m.has("unit"):
		t.Unit = r.text(m, "unit")
	case m.has("cgroup"):
		t.Cgroup = r.text(m, "cgroup")
	case m.has("process"):
		p := r.mapping(m.at("process"), "process", "exe", "user")
		t.Process = &command.Process{Exe: r.text(p, "exe")}
		if p.has("user") {
			t.Process.User = r.text(p, "user")
		}
	case m.has("port"):
		t.Port = r.text(m, "port")
	case m.has("sysctl"):
		t.Sysctl = r.text(m, "sysctl")
	case m.has("place"):
		t.Place = r.text(m, "place")
	case m.has("host"):
		if what := r.text(m, "host"); what != "self" && what != "" {
			r.add(m.at("host"), "host: %q: the one host that can be meant is self", what)
		}
	default:
		t = r.trafficTarget(m)
	}
	if len(r.problems) > had {
		return t, false
	}
	if err := t.Validate(); err != nil || t.Kind() == command.OnHost && !m.has("host") {
		r.add(n, "target: %v", err)
		return t, false
	}
	return t, true
}

var rateForm = regexp.MustCompile(`\A([1-9][0-9]{0,3})/([0-9a-z.]+)\z`)

func parseRate(text string) (int, time.Duration, bool) {
	m := rateForm.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, false
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, 0, false
	}
	d, err := time.ParseDuration(m[2])
	return n, d, err == nil && d > 0 && d <= longestPer
}

// shortDuration leaves out the zero parts that time.Duration prints: 5m0s is 5m.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
