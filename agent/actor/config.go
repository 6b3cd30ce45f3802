package actor

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml/parser"

	"github.com/evenkeel/evenkeel/agent/traffic/nginx"
)

// Settings is the actor's configuration file.
type Settings struct {
	Host        string // agent id of this host, as commands name it
	State       string // folder of journal and socket, 0700; default /var/lib/evenkeel-actor
	Permissions string // default /etc/evenkeel/permissions.yaml
	KillFile    string // default "kill" beside Permissions
	Socket      string // default actor.sock in State
	Audit       string // folder of the audit log; default "audit" in State
	AgentUser   string // user of the agent, who may connect beside root and the actor's own user; empty: nobody else

	Nginx         nginx.Config // whose upstreams nginx.weights changes; default that of Debian's package
	AgentCheckDir string       // folder of agentcheck.weight, which the responder reads; default agentcheck.DefaultDir
}

// Default paths.
const (
	DefaultConfig      = "/etc/evenkeel/actor.yaml"
	defaultState       = "/var/lib/evenkeel-actor"
	defaultPermissions = "/etc/evenkeel/permissions.yaml"
	longestSocket      = 107 // bytes that a unix address holds
)

// LoadSettings reads a configuration file strictly and fills in what it leaves out.
func LoadSettings(file string) (Settings, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Settings{}, err
	}
	s, err := ParseSettings(b)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// ParseSettings reads the text of a configuration file; every problem is in the error.
func ParseSettings(b []byte) (Settings, error) {
	var s Settings
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return s, fmt.Errorf("not YAML: %s", firstLine(err.Error()))
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return s, errors.New("expected one YAML document with the key host")
	}
	r := &reader{}
	m := r.mapping(file.Docs[0].Body, "config", "host", "state", "permissions", "killFile", "socket", "audit", "agentUser", "nginx", "agentCheckDir")
	r.trafficSettings(m, &s)
	s.Host = r.text(m, "host")
	for key, to := range map[string]*string{
		"state": &s.State, "permissions": &s.Permissions, "killFile": &s.KillFile, "socket": &s.Socket, "audit": &s.Audit, "agentUser": &s.AgentUser,
	} {
		if m.has(key) {
			*to = r.text(m, key)
		}
	}
	s = s.withDefaults()
	if s.Host != "" && !hostForm.MatchString(s.Host) {
		r.add(m.at("host"), "host %q is not an agent id: 1 to 253 of a-z, 0-9, dot and dash", s.Host)
	}
	for _, p := range []struct{ key, path string }{
		{"state", s.State}, {"permissions", s.Permissions}, {"killFile", s.KillFile}, {"socket", s.Socket}, {"audit", s.Audit},
	} {
		if !filepath.IsAbs(p.path) {
			r.add(m.at(p.key), "%s: %q is not an absolute path", p.key, p.path)
		}
	}
	if len(s.Socket) > longestSocket {
		r.add(m.at("socket"), "socket: the path has %d bytes, a unix address holds %d: choose a shorter one", len(s.Socket), longestSocket)
	}
	if s.AgentUser != "" {
		if _, _, err := agentIDs(s.AgentUser); err != nil {
			r.add(m.at("agentUser"), "agentUser: %v", err)
		}
	}
	return s, errors.Join(r.problems...)
}

var hostForm = regexp.MustCompile(`\A[a-z0-9.-]{1,253}\z`)

func (s Settings) withDefaults() Settings {
	if s.State == "" {
		s.State = defaultState
	}
	if s.Permissions == "" {
		s.Permissions = defaultPermissions
	}
	if s.KillFile == "" {
		s.KillFile = filepath.Join(filepath.Dir(s.Permissions), "kill")
	}
	if s.Socket == "" {
		s.Socket = filepath.Join(s.State, "actor.sock")
	}
	if s.Audit == "" {
		s.Audit = filepath.Join(s.State, "audit")
	}
	return s
}

// agentIDs returns uid and primary group of a user given by name or number.
func agentIDs(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return 0, 0, fmt.Errorf("there is no user %q on this host", name)
		}
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}
