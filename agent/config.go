package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/agent/check"
	"github.com/evenkeel/evenkeel/pkg/strict"
)

// Config is what agent.yaml says. Every key has a default, so an empty file, or none, is a valid configuration.
type Config struct {
	// State is the agent's folder: key, certificates, spool, status socket. Default /var/lib/evenkeel-agent.
	State string `yaml:"state" json:"state"`
	// Collector is host:port of the collector's AgentService. Default: the address from the enrolment.
	Collector string `yaml:"collector" json:"collector,omitempty"`
	// Period is the time between two ticks: 1 s to 1 min, a divisor of 10 s or a multiple of it.
	Period time.Duration `yaml:"period" json:"period"`
	// Labels are what the host says of itself. On the map they have the prefix agent/.
	Labels map[string]string `yaml:"labels" json:"labels,omitempty"`
	// ActorSocket is where the actor of this host listens, if there is one. Default /var/lib/evenkeel-actor/actor.sock.
	ActorSocket string `yaml:"actorSocket" json:"actorSocket"`
	Spool       Spool  `yaml:"spool" json:"spool"`
	Probes      Probes `yaml:"probes" json:"probes"`
	// Checks are requests that this host makes each 15 s, whatever the collector asks for.
	Checks []Check `yaml:"checks" json:"checks,omitempty"`
	Units  Units   `yaml:"units" json:"units"`
}

// Spool bounds what is kept for a collector that is away.
type Spool struct {
	// MaxBytes is the cap on disk; when it is reached the oldest batches are dropped and counted. Default 256MiB.
	MaxBytes strict.Bytes `yaml:"maxBytes" json:"maxBytes"`
}

// Probes says what is not to be read.
type Probes struct {
	Disable []string `yaml:"disable" json:"disable,omitempty"`
}

// Check is a request made from this host: exactly one of HTTP and TCP is set.
type Check struct {
	Name    string        `yaml:"name" json:"name"`
	HTTP    string        `yaml:"http" json:"http,omitempty"` // URL
	TCP     string        `yaml:"tcp" json:"tcp,omitempty"`   // host:port
	Timeout time.Duration `yaml:"timeout" json:"timeout,omitempty"`
	Status  int           `yaml:"status" json:"status,omitempty"` // expected HTTP status; 0: any below 400
}

// Units bounds the systemd units and cgroups shown.
type Units struct {
	Max int `yaml:"max" json:"max"` // default 256
}

// ProbeNames are the probes that can be disabled.
var ProbeNames = []string{
	"components", "components-slow", "cpu", "disk", "filesystem", "load", "memory", "network", "pressure", "self", "tcp", "top", "units",
	"units-slow", "vmstat",
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		State: "/var/lib/evenkeel-agent", Period: time.Second, ActorSocket: "/var/lib/evenkeel-actor/actor.sock",
		Spool: Spool{MaxBytes: 256 << 20}, Units: Units{Max: 256},
	}
}

// Load reads and validates a file. The error is a strict.Problems with everything that is wrong, or that of reading. A file
// that does not exist at the default place is not an error: mayMiss.
func Load(path string, mayMiss bool) (Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && mayMiss {
		return Default(), nil
	}
	if err != nil {
		return Config{}, &UsageError{fmt.Errorf("cannot read the configuration: %w", err)}
	}
	return Parse(path, data)
}

// Parse is Load for what was read already; file is for the messages.
func Parse(file string, data []byte) (Config, error) {
	cfg := Default()
	d := strict.Decode(file, data, &cfg)
	cfg.check(d.Complain)
	if err := d.Err(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// Validate returns a strict.Problems with everything that is wrong, or nil.
func (c *Config) Validate() error {
	var ps strict.Problems
	c.check(func(path, format string, args ...any) {
		ps = append(ps, strict.Problem{File: "configuration", Path: path, Text: fmt.Sprintf(format, args...)})
	})
	if len(ps) > 0 {
		return ps
	}
	return nil
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_./-]{0,62}$`)

const (
	minSpool  = 8 << 20 // two segments
	maxLabels = 32
	maxChecks = 64
)

func (c *Config) check(problem func(path, format string, args ...any)) {
	if c.State == "" {
		problem("state", "cannot be empty")
	}
	if c.Collector != "" {
		if host, port, err := net.SplitHostPort(c.Collector); err != nil || host == "" || port == "" {
			problem("collector", "%q is not host:port", c.Collector)
		}
	}
	if c.Period < time.Second || c.Period > time.Minute || (10*time.Second)%c.Period != 0 && c.Period%(10*time.Second) != 0 {
		problem("period", "%v is not one of 1s, 2s, 5s, 10s, 20s, 30s, 40s, 50s, 1m", c.Period)
	}
	if len(c.Labels) > maxLabels {
		problem("labels", "%d labels: use at most %d", len(c.Labels), maxLabels)
	}
	for k, v := range c.Labels {
		if !labelName.MatchString(k) {
			problem("labels."+k, "a label's name starts with a letter and has at most 63 letters, digits, and any of _ . / -")
		}
		if len(v) > 253 {
			problem("labels."+k, "the value has %d characters: use at most 253", len(v))
		}
	}
	if c.Spool.MaxBytes < minSpool {
		problem("spool.maxBytes", "%v is too small: use at least %v", c.Spool.MaxBytes, strict.Bytes(minSpool))
	}
	for i, name := range c.Probes.Disable {
		if !slices.Contains(ProbeNames, name) {
			problem(fmt.Sprintf("probes.disable[%d]", i), "no probe is called %q: the probes are %s", name, strings.Join(ProbeNames, ", "))
		}
	}
	if c.Units.Max < 1 || c.Units.Max > 4096 {
		problem("units.max", "%d is outside 1 to 4096", c.Units.Max)
	}
	if len(c.Checks) > maxChecks {
		problem("checks", "%d checks: use at most %d", len(c.Checks), maxChecks)
	}
	names := map[string]bool{}
	for i, k := range c.Checks {
		path := fmt.Sprintf("checks[%d]", i)
		switch {
		case k.Name == "":
			problem(path, "a check needs a name")
		case strings.Contains(k.Name, "/") || len(k.Name) > 100:
			problem(path+".name", "%q: a check's name has at most 100 characters and no slash", k.Name)
		case names[k.Name]:
			problem(path+".name", "two checks are called %q", k.Name)
		}
		names[k.Name] = true
		if (k.HTTP == "") == (k.TCP == "") {
			problem(path, "a check has exactly one of http and tcp")
			continue
		}
		if err := k.Spec().Validate(); err != nil {
			problem(path, "%v", err)
		}
	}
}

// Spec returns the check as agent/check makes it.
func (k Check) Spec() check.Spec {
	s := check.Spec{Name: k.Name, Kind: "http", Address: k.HTTP, Timeout: k.Timeout, Status: k.Status}
	if k.TCP != "" {
		s.Kind, s.Address = "tcp", k.TCP
	}
	return s
}

// The files in the state folder.
func (c *Config) keyFile() string       { return filepath.Join(c.State, "key.pem") }
func (c *Config) certFile() string      { return filepath.Join(c.State, "cert.pem") }
func (c *Config) caFile() string        { return filepath.Join(c.State, "ca.pem") }
func (c *Config) enrolmentFile() string { return filepath.Join(c.State, "enrolment.json") }
func (c *Config) spoolDir() string      { return filepath.Join(c.State, "spool") }
func (c *Config) socketFile() string    { return filepath.Join(c.State, "agent.sock") }
func (c *Config) inventoryFile() string { return filepath.Join(c.State, "seen.json") }
func (c *Config) lastStatus() string    { return filepath.Join(c.State, "last-status.json") }
