package collector

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/strict"
)

// Config is what collector.yaml says. Every key has a default, so an empty file, or none, is a valid configuration.
type Config struct {
	// Name is this collector's name in the cluster. Default: the host's name.
	Name string `yaml:"name" json:"name"`
	// State is the collector's folder. Default /var/lib/evenkeel-collector.
	State string `yaml:"state" json:"state"`
	// Listen says where each port is; loopback by default.
	Listen Listen `yaml:"listen" json:"listen"`
	// Advertise is the host name or address under which agents reach this collector; it goes into join strings.
	// Default: that of listen.agents.
	Advertise string `yaml:"advertise" json:"advertise,omitempty"`
	// HTTP holds the certificate of the REST port; without one it refuses to bind beyond loopback.
	HTTP HTTP `yaml:"http" json:"http"`
	// SealKey is the file with the key that seals the CA and the signing root. Default: seal.key in the state folder.
	SealKey string `yaml:"sealKey" json:"sealKey,omitempty"`
	Store   Store  `yaml:"store" json:"store"`
	Engine  Engine `yaml:"stateEngine" json:"stateEngine"`
	// Sources say where the health of what has no agent is asked for.
	Sources Sources `yaml:"sources" json:"sources"`
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel string `yaml:"logLevel" json:"logLevel"`
}

// Listen holds the addresses of the ports.
type Listen struct {
	HTTP      string `yaml:"http" json:"http"`           // default 127.0.0.1:8420
	Agents    string `yaml:"agents" json:"agents"`       // default 127.0.0.1:8421
	Operators string `yaml:"operators" json:"operators"` // default 127.0.0.1:8425
}

// HTTP is a certificate and its key, as PEM files. Both or none.
type HTTP struct {
	Certificate string `yaml:"certificate" json:"certificate,omitempty"`
	Key         string `yaml:"key" json:"key,omitempty"`
}

// Store bounds the samples.
type Store struct {
	// Interval is the time between two stored samples of a series while nothing happens. Default 15s; 1s keeps all.
	Interval time.Duration `yaml:"interval" json:"interval"`
	// Retention is how long samples are kept. Default 720h.
	Retention time.Duration `yaml:"retention" json:"retention"`
	// MaxBytes caps the folder of samples; the oldest go first. Default 20GiB.
	MaxBytes strict.Bytes `yaml:"maxBytes" json:"maxBytes"`
	// MinFree is the free space at which samples are no longer taken in. Default 512MiB.
	MinFree strict.Bytes `yaml:"minFree" json:"minFree"`
}

// Engine is the state engine.
type Engine struct {
	// MinFree is the free space at which the state engine takes no writes. Default 256MiB.
	MinFree strict.Bytes `yaml:"minFree" json:"minFree"`
}

// Sources are the systems that are asked.
type Sources struct {
	Prometheus Prometheus `yaml:"prometheus" json:"prometheus"`
}

// Prometheus is where the queries of components and indicators go: to a remote one, or to the collector's own samples where URL is empty.
type Prometheus struct {
	// URL is its base, such as http://prometheus.example:9090.
	URL string `yaml:"url" json:"url,omitempty"`
	// BearerTokenFile holds the token that is sent; it is read anew for each query.
	BearerTokenFile string `yaml:"bearerTokenFile" json:"bearerTokenFile,omitempty"`
	// Every is how often a query is asked that does not say so itself. Default 30s.
	Every time.Duration `yaml:"every" json:"every"`
}

// Default returns the configuration of an empty file.
func Default() Config {
	name, err := os.Hostname()
	if err != nil || identity.CheckName(name) != nil {
		name = "collector-1"
	}
	return Config{
		Name: name, State: "/var/lib/evenkeel-collector", LogLevel: "info",
		Listen: Listen{HTTP: "127.0.0.1:8420", Agents: "127.0.0.1:8421", Operators: "127.0.0.1:8425"},
		Store:  Store{Interval: 15 * time.Second, Retention: 30 * 24 * time.Hour, MaxBytes: 20 << 30, MinFree: 512 << 20},
		Engine: Engine{MinFree: 256 << 20}, Sources: Sources{Prometheus: Prometheus{Every: 30 * time.Second}},
	}
}

// Load reads and checks a configuration file. A file that is not there is an error unless mayMiss is set.
func Load(path string, mayMiss bool) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		if mayMiss && os.IsNotExist(err) {
			return Default(), nil
		}
		return Config{}, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a configuration; file is for the messages. The error is a strict.Problems with everything that is wrong.
func Parse(file string, data []byte) (Config, error) {
	c := Default()
	d := strict.Decode(file, data, &c)
	c.check(d.Complain)
	return c, d.Err()
}

func (c *Config) check(complain func(path, format string, args ...any)) {
	if err := identity.CheckName(c.Name); err != nil {
		complain("name", "%v", err)
	}
	if !filepath.IsAbs(c.State) {
		complain("state", "%q is not an absolute path", c.State)
	}
	for path, address := range map[string]string{"listen.http": c.Listen.HTTP, "listen.agents": c.Listen.Agents, "listen.operators": c.Listen.Operators} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			complain(path, "%q is not an address: expected HOST:PORT such as 127.0.0.1:8420", address)
		}
	}
	if (c.HTTP.Certificate == "") != (c.HTTP.Key == "") {
		complain("http", "certificate and key go together: one of them is missing")
	}
	if c.Store.Interval < time.Second || c.Store.Interval > 5*time.Minute {
		complain("store.interval", "%s is not between 1s and 5m", c.Store.Interval)
	}
	if c.Store.Retention < time.Hour {
		complain("store.retention", "%s is less than 1h", c.Store.Retention)
	}
	if c.Store.MaxBytes < 64<<20 {
		complain("store.maxBytes", "%s is less than 64MiB", c.Store.MaxBytes)
	}
	c.Sources.Prometheus.check(complain)
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		complain("logLevel", "%q is not a level: expected debug, info, warn or error", c.LogLevel)
	}
}

func (p *Prometheus) check(complain func(path, format string, args ...any)) {
	if p.Every < 5*time.Second || p.Every > time.Hour {
		complain("sources.prometheus.every", "%s is not between 5s and 1h", p.Every)
	}
	if p.BearerTokenFile != "" && !filepath.IsAbs(p.BearerTokenFile) {
		complain("sources.prometheus.bearerTokenFile", "%q is not an absolute path", p.BearerTokenFile)
	}
	if p.URL == "" {
		if p.BearerTokenFile != "" {
			complain("sources.prometheus.bearerTokenFile", "a token without a url: write sources.prometheus.url")
		}
		return
	}
	u, err := url.Parse(p.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		complain("sources.prometheus.url", "%q is not an http or https URL", p.URL)
	case u.User != nil:
		complain("sources.prometheus.url", "the URL holds a user: put a token into bearerTokenFile")
	case p.BearerTokenFile != "" && u.Scheme == "http" && !loopback(u.Hostname()):
		complain("sources.prometheus.url", "a token is not sent over plain http to another machine: use https")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
