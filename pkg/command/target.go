package command

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// The longest texts that a target may carry.
const (
	maxUnit    = 255
	maxPath    = 1024
	maxUser    = 64
	maxAddress = 1024
)

// ParseTarget reads a target as Target.String writes it: "unit/batch.service", "cgroup/a/b", "process/usr/bin/x@user",
// "port/8080/tcp", "check/http:http://127.0.0.1/", "sysctl/net.core.somaxconn", "place/old-logs", "host". The result is valid.
func ParseTarget(s string) (Target, error) {
	var t Target
	kind, rest, _ := strings.Cut(s, "/")
	switch kind {
	case "host":
		if s != "host" {
			return Target{}, fmt.Errorf("%q is not a target: nothing may follow host", s)
		}
	case "unit":
		t.Unit = rest
	case "cgroup":
		t.Cgroup = "/" + rest
	case "process":
		exe, user, _ := strings.Cut(rest, "@")
		t.Process = &Process{Exe: "/" + exe, User: user}
	case "port":
		t.Port = rest
	case "check":
		k, address, _ := strings.Cut(rest, ":")
		t.Check = &Check{Kind: k, Address: address}
	case "sysctl":
		t.Sysctl = rest
	case "place":
		t.Place = rest
	default:
		var err error
		if t, err = parseTraffic(kind, rest); err != nil {
			return Target{}, fmt.Errorf("%q is not a target: %w", s, err)
		}
	}
	if kind != "host" && t.Kind() == OnHost {
		return Target{}, fmt.Errorf("%q is not a target: %s names nothing", s, kind)
	}
	if err := t.Validate(); err != nil {
		return Target{}, err
	}
	if t.String() != s {
		return Target{}, fmt.Errorf("%q is not a target: it would be written %q", s, t)
	}
	return t, nil
}

// Validate reports the first thing that is wrong with a target: more than one field set, a path that is not clean, a
// character that a name cannot have. The root cgroup is not a target.
func (t Target) Validate() error {
	set := 0
	for _, is := range []bool{
		t.Unit != "", t.Cgroup != "", t.Process != nil, t.Port != "", t.Check != nil, t.Sysctl != "", t.Place != "",
		t.HAProxy != nil, t.Nginx != nil, t.IPVS != nil, t.Interface != "", t.AgentCheck != "",
	} {
		if is {
			set++
		}
	}
	if set > 1 {
		return fmt.Errorf("a target names exactly one thing, this one %d", set)
	}
	switch t.Kind() {
	case OnUnit:
		return validUnit(t.Unit)
	case OnCgroup:
		if t.Cgroup == "/" {
			return fmt.Errorf("the root cgroup is not a target")
		}
		return validPath("cgroup", t.Cgroup)
	case OnProcess:
		if err := validPath("exe", t.Process.Exe); err != nil {
			return err
		}
		if t.Process.Exe == "/" || strings.Contains(t.Process.Exe, "@") {
			return fmt.Errorf("exe %q is not a program that can be named here", t.Process.Exe)
		}
		return validUser(t.Process.User)
	case OnPort:
		number, proto, _ := strings.Cut(t.Port, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 || proto != "tcp" && proto != "udp" || strconv.FormatUint(n, 10) != number {
			return fmt.Errorf("port %q is not of the form 8080/tcp", t.Port)
		}
	case OnCheck:
		return validCheck(*t.Check)
	case OnSysctl:
		return validSysctl(t.Sysctl)
	case OnPlace:
		return validPlace(t.Place)
	}
	return t.validTraffic()
}

func validUnit(s string) error {
	if len(s) > maxUnit {
		return fmt.Errorf("unit name is longer than %d bytes", maxUnit)
	}
	for i := range len(s) {
		c := s[i]
		if !isAlnum(c) && !strings.ContainsRune(`:_.\@-`, rune(c)) {
			return fmt.Errorf("unit %q: character %q cannot be part of a unit's name", s, c)
		}
	}
	for _, suffix := range []string{".service", ".slice", ".scope"} {
		if name, ok := strings.CutSuffix(s, suffix); ok && name != "" && name != "-" {
			return nil
		}
	}
	return fmt.Errorf("unit %q has no cgroup of its own: expected a .service, .slice or .scope", s)
}

func validPath(what, s string) error {
	if len(s) > maxPath {
		return fmt.Errorf("%s is longer than %d bytes", what, maxPath)
	}
	if !strings.HasPrefix(s, "/") || path.Clean(s) != s {
		return fmt.Errorf("%s %q is not a clean absolute path", what, s)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return fmt.Errorf("%s %q has a control character", what, s)
		}
	}
	return nil
}

func validUser(s string) error {
	if len(s) > maxUser {
		return fmt.Errorf("user name is longer than %d bytes", maxUser)
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' && (i == 0 || c != '-' && c != '.' && c != '$') {
			return fmt.Errorf("user %q: character %q cannot be part of a user's name", s, c)
		}
	}
	return nil
}

func validCheck(c Check) error {
	if len(c.Address) > maxAddress {
		return fmt.Errorf("check address is longer than %d bytes", maxAddress)
	}
	switch c.Kind {
	case "http":
		u, err := url.Parse(c.Address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("check address %q is not an http or https URL", c.Address)
		}
	case "tcp":
		host, port, err := net.SplitHostPort(c.Address)
		if err != nil || host == "" {
			return fmt.Errorf("check address %q is not host:port", c.Address)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("check address %q has no port", c.Address)
		}
	default:
		return fmt.Errorf("check kind %q is not http or tcp", c.Kind)
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
