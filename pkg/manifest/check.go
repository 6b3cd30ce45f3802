package manifest

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// kind is one row of the table of kinds: a new kind is a struct, a row and a check.
type kind struct {
	name  string
	spec  func() any // a new, empty spec
	check func(*checker, any)
}

func kinds() []kind {
	return []kind{
		kindOf(KindService, checkService),
		kindOf(KindComponent, checkComponent),
		kindOf(KindHost, checkHost),
		kindOf(KindDetector, checkDetector),
		kindOf(KindRunbook, checkRunbook),
		kindOf(KindRemediationPolicy, checkPolicy),
		kindOf(KindCalendar, checkCalendar),
		kindOf(KindSLO, checkSLO),
		kindOf(KindTeam, checkTeam),
		kindOf(KindVendor, checkVendor),
		kindOf(KindAgreement, checkAgreement),
		kindOf(KindMaintenance, checkMaintenance),
		kindOf(KindChange, checkChange),
		kindOf(KindHostTemplate, checkHostTemplate),
		kindOf(KindMapTest, checkMapTest),
	}
}

func kindOf[T any](name string, check func(*checker, *T)) kind {
	return kind{name, func() any { return new(T) }, func(c *checker, spec any) { check(c, spec.(*T)) }}
}

// laterKinds are kinds of the model that this version does not read yet. A reference to one is held to its form only.
func laterKinds() []string {
	return []string{"Device", "Channel", "Route", "Role", "Binding"}
}

func lookupKind(name string) (kind, bool) {
	for _, k := range kinds() {
		if k.name == name {
			return k, true
		}
	}
	return kind{}, false
}

// resolves reports whether a reference to that kind must be found.
func resolves(refKind string) bool {
	return slices.ContainsFunc(kinds(), func(k kind) bool { return strings.EqualFold(k.name, refKind) })
}

// checker collects what is wrong with one resource beyond its schema.
type checker struct {
	r        *Resource
	told     []Problem // by the reader; a field is not told of twice
	problems []Problem
}

func (c *checker) problem(path, text, hint string) {
	for _, p := range c.told {
		if p.Path == path || path != "spec" && (strings.HasPrefix(p.Path, path+".") || strings.HasPrefix(p.Path, path+"[")) {
			return
		}
	}
	c.problems = append(c.problems, c.r.problem(path, text, hint))
}

func (c *checker) problemf(path, format string, args ...any) {
	c.problem(path, fmt.Sprintf(format, args...), "")
}

func badName(kind, name string) string {
	if len(name) > 200 {
		return "the name is longer than 200 bytes"
	}
	for i := range len(name) {
		ch := name[i]
		lower := ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9'
		upper := ch >= 'A' && ch <= 'Z' && kind == KindHost
		inner := i > 0 && i < len(name)-1 && (ch == '-' || ch == '.' || ch == '_')
		if !lower && !upper && !inner {
			return fmt.Sprintf("%q is not a name: lower-case letters, digits, and between them - . _", name)
		}
	}
	return ""
}

func badRef(text string, allowed []string) string {
	kind, name, ok := strings.Cut(text, "/")
	if !ok || name == "" || kind == "" {
		return fmt.Sprintf("%q is not a reference: expected kind/name, such as %s/x", text, allowed[0])
	}
	if !slices.Contains(allowed, kind) {
		return fmt.Sprintf("%q refers to a %s: expected a %s", text, kind, oneOf(allowed))
	}
	as := ""
	if kind == "host" {
		as = KindHost
	}
	if why := badName(as, name); why != "" {
		return fmt.Sprintf("%q is not a reference: %s", text, why)
	}
	return ""
}

func checkMetadata(c *checker) {
	m := c.r.Metadata
	c.labels("metadata.labels", m.Labels)
	if m.RenamedFrom != "" {
		if why := badName(c.r.Kind, m.RenamedFrom); why != "" {
			c.problem("metadata.renamedFrom", why, "")
		}
		if m.RenamedFrom == m.Name {
			c.problem("metadata.renamedFrom", "renamedFrom is the name itself", "")
		}
	}
}

func (c *checker) labels(at string, labels map[string]string) {
	for k, v := range labels {
		switch {
		case strings.HasPrefix(k, "agent/") && c.r.Kind == KindHost:
			c.problem(join(at, k), fmt.Sprintf("label %q: names that begin with agent/ belong to what an agent says of itself", k), "")
		case k == "" || len(k) > 128 || strings.ContainsFunc(k, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r))
		}):
			c.problem(join(at, k), fmt.Sprintf("%q is not a label's name: letters, digits, and - . _ /", k), "")
		case len(v) > 256 || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
			c.problem(join(at, k), fmt.Sprintf("the value of label %q is too long or has a control character", k), "")
		}
	}
}

func checkService(c *checker, s *Service) {
	if v := s.Value; v != nil {
		c.textLine("spec.value.author", "the author", v.Author)
		if v.PerHour < 0 {
			c.problemf("spec.value.perHour", "value per hour %s is below 0", v.PerHour)
		}
		if v.Currency != "" && !currency(v.Currency) {
			c.problem("spec.value.currency", fmt.Sprintf("%q is not a currency", v.Currency), "three capital letters, such as EUR")
		}
		last, lastLevel := Decimal(0), ""
		for l := health.OK; l <= health.Critical; l++ {
			f, ok := v.Loss[l]
			at := "spec.value.loss." + l.String()
			switch {
			case !ok:
				continue
			case l == health.OK:
				c.problem(at, "there is no loss at ok", "")
			case f < 0 || f > micro:
				c.problemf(at, "loss %s is not a fraction from 0 to 1", f)
			case f < last:
				c.problemf(at, "loss must rise with the level: %s has %s, but %s has %s", l, f, lastLevel, last)
			}
			last, lastLevel = max(last, f), l.String()
		}
	}
	seen := map[Ref]bool{}
	for i, d := range s.DependsOn {
		at := fmt.Sprintf("spec.dependsOn[%d]", i)
		if d.Ref != "" && seen[d.Ref] {
			c.problemf(at+".ref", "%s is listed twice", d.Ref)
		}
		seen[d.Ref] = true
		if s.Health != nil && s.Health.Rule == "score" && d.Weight != nil && *d.Weight > health.EssentialWeight {
			c.problemf(at+".weight", "weight %d: score takes 1 to 10, and 11 for essential", *d.Weight)
		}
	}
	names := map[string]bool{}
	for i, ind := range s.Indicators {
		at := fmt.Sprintf("spec.indicators[%d]", i)
		if ind.Name != "" && names[ind.Name] {
			c.problemf(at+".name", "indicator %q is declared twice", ind.Name)
		}
		names[ind.Name] = true
		c.promql(at, at+".promql", ind.PromQL, ind.Levels)
	}
	c.health("spec.health", s.Health)
}

func currency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}

func (c *checker) health(at string, h *Health) {
	if h == nil {
		return
	}
	for _, p := range []struct {
		rule string
		set  bool
		need bool
	}{
		{"quorum", h.Quorum != nil, true},
		{"threshold", h.Threshold != nil, true},
		{"exponential", h.Exponential != nil, true},
	} {
		if p.set && h.Rule != p.rule {
			c.problem(at+"."+p.rule, fmt.Sprintf("%s.%s is for rule %s", at, p.rule, p.rule), "write rule: "+p.rule)
		}
		if !p.set && h.Rule == p.rule {
			c.problem(at+".rule", fmt.Sprintf("rule %s needs its parameters in %s.%s", p.rule, at, p.rule), "")
		}
	}
	if q := h.Quorum; q != nil && (q.Need > 0) == (q.Share != nil) {
		c.problem(at+".quorum", at+".quorum takes exactly one of need and share", "")
	}
	if e := h.Exponential; e != nil && e.Base <= micro {
		c.problemf(at+".exponential.base", "base %s is not above 1", e.Base)
	}
	for i, a := range h.Also {
		p := fmt.Sprintf("%s.also[%d]", at, i)
		if (a.AtLeast != nil) == (a.LessThan != nil) {
			c.problem(p, p+" takes exactly one of atLeast and lessThan", "")
		}
		if strings.HasSuffix(strings.ToLower(a.When), "percent") {
			for name, v := range map[string]*int{"atLeast": a.AtLeast, "lessThan": a.LessThan} {
				if v != nil && *v > 100 {
					c.problemf(p+"."+name, "%s is %d percent: the most is 100", name, *v)
				}
			}
		}
		if a.Then == health.OK {
			c.problem(p+".then", "a rule that makes things ok has no effect", "")
		}
		if a.AtLeast != nil && a.Level == health.OK {
			c.problem(p+".level", "every input is at least ok: the rule would always fire", "")
		}
	}
}

func checkComponent(c *checker, s *Component) {
	c.exclusive("spec", "hosts, source and external", s.Hosts != nil, s.Source != nil, s.External != nil)
	targets := []bool{s.Unit != "", s.Cgroup != "", s.Process != nil, s.Port != "", s.Check != nil, s.Interface != ""}
	c.exclusive("spec", "unit, cgroup, process, port, check and interface", targets...)
	if s.Hosts == nil && slices.Contains(targets, true) {
		c.problem("spec", "a unit, cgroup, process, port, check or interface is on hosts", "say which in spec.hosts")
	}
	c.hosts("spec.hosts", s.Hosts)
	if s.Unit != "" && !validUnit(s.Unit) {
		c.problem("spec.unit", fmt.Sprintf("%q is not a unit with a cgroup", s.Unit), "a name that ends in .service, .slice or .scope")
	}
	if s.Cgroup != "" && (!cleanPath(s.Cgroup) || s.Cgroup == "/") {
		c.problem("spec.cgroup", fmt.Sprintf("%q is not a cgroup", s.Cgroup), "a clean path below the hierarchy's root, such as /a/b")
	}
	if p := s.Process; p != nil && p.Exe != "" && (!cleanPath(p.Exe) || p.Exe == "/" || strings.Contains(p.Exe, "@")) {
		c.problem("spec.process.exe", fmt.Sprintf("%q is not a program", p.Exe), "a clean absolute path")
	}
	if p := s.Process; p != nil && !validUser(p.User) {
		c.problemf("spec.process.user", "%q is not a user name", p.User)
	}
	if s.Port != "" && !validPort(s.Port) {
		c.problem("spec.port", fmt.Sprintf("%q is not a port", s.Port), "such as 8080/tcp")
	}
	if n := s.Interface; len(n) > 15 || strings.ContainsAny(n, "/ \t") {
		c.problemf("spec.interface", "%q is not the name of a network interface", n)
	}
	c.check("spec.check", s.Check)
	c.source("spec.source", s.Source)
	if e := s.External; e != nil {
		c.check("spec.external.check", e.Check)
		if e.Check != nil && e.Check.Name != "" {
			c.problem("spec.external.check", fmt.Sprintf("check %q is of an agent's own files, and an external part has no agent", e.Check.Name), "a URL, or host:port")
		}
	}
	if r := s.Repair; r != nil {
		for i, ref := range r.After {
			if slices.Contains(r.After[:i], ref) && ref != "" {
				c.problemf(fmt.Sprintf("spec.repair.after[%d]", i), "%s is listed twice", ref)
			}
		}
	}
	if g := s.Guarantee; g != nil && g.CPU < 0 {
		c.problemf("spec.guarantee.cpu", "%s cores is below 0", g.CPU)
	}
	if h := s.Health; h != nil && s.Hosts == nil {
		c.problem("spec.health", "health says how that of the hosts' members is joined, and there are no hosts", "")
	}
	c.health("spec.health", s.Health)
}

func (c *checker) exclusive(path, names string, set ...bool) {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	if n > 1 {
		c.problems = append(c.problems, c.r.problem(path, fmt.Sprintf("at most one of %s may be set, not %d", names, n), ""))
	}
}

func (c *checker) exactlyOne(path, names string, set ...bool) {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	if n != 1 {
		c.problem(path, fmt.Sprintf("%s takes exactly one of %s", path, names), "")
	}
}

func (c *checker) hosts(at string, h *Hosts) {
	if h == nil {
		return
	}
	c.exactlyOne(at, "matchLabels and names", len(h.MatchLabels) > 0, len(h.Names) > 0)
	c.labels(at+".matchLabels", h.MatchLabels)
	for i, n := range h.Names {
		p := fmt.Sprintf("%s.names[%d]", at, i)
		if why := badName(KindHost, n); why != "" {
			c.problem(p, why, "")
		} else if slices.Contains(h.Names[:i], n) {
			c.problemf(p, "host %q is listed twice", n)
		}
	}
}

func (c *checker) check(at string, k *Check) {
	if k == nil {
		return
	}
	c.exactlyOne(at, "http, tcp and name", k.HTTP != "", k.TCP != "", k.Name != "")
	if k.HTTP != "" {
		if u, err := url.Parse(k.HTTP); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(k.HTTP) > 1024 {
			c.problemf(at, "%q is not an http or https URL", k.HTTP)
		}
	}
	if k.TCP != "" {
		host, port, err := net.SplitHostPort(k.TCP)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			c.problem(at, fmt.Sprintf("%q is not an address", k.TCP), "expected host:port")
		}
	}
	if k.Name != "" {
		if why := badName("", k.Name); why != "" {
			c.problem(at, why, "")
		}
	}
}

func checkFromWord(s string) Check {
	switch {
	case strings.Contains(s, "://"):
		return Check{HTTP: s}
	case strings.Contains(s, ":"):
		return Check{TCP: s}
	}
	return Check{Name: s}
}

func cleanPath(s string) bool {
	return strings.HasPrefix(s, "/") && path.Clean(s) == s && len(s) <= 1024 &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func validUnit(s string) bool {
	for i := range len(s) {
		ch := s[i]
		if !(ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || strings.IndexByte(`:_.\@-`, ch) >= 0) {
			return false
		}
	}
	for _, suffix := range []string{".service", ".slice", ".scope"} {
		if name, ok := strings.CutSuffix(s, suffix); ok && name != "" && name != "-" {
			return len(s) <= 255
		}
	}
	return false
}

func validUser(s string) bool {
	for i := range len(s) {
		ch := s[i]
		if !(ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || ch == '_') && (i == 0 || strings.IndexByte("-.$", ch) < 0) {
			return false
		}
	}
	return len(s) <= 64
}

func validPort(s string) bool {
	num, proto, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(num, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == num && (proto == "tcp" || proto == "udp")
}

func checkHost(c *checker, h *Host) {
	c.labels("spec.labels", h.Labels)
	for k, v := range h.Labels {
		if w, ok := c.r.Metadata.Labels[k]; ok && w != v {
			c.problemf("spec.labels."+k, "label %q is %q here and %q in metadata", k, v, w)
		}
	}
	if a := h.Address; strings.ContainsAny(a, " \t\n/") || len(a) > 253 {
		c.problemf("spec.address", "%q is not an address", a)
	}
}
