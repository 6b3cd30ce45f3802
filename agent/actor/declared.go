package actor

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/plugin"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Declared is what a host's owner gives names to, for actions to be permitted on: folders that may be relieved of old files,
// and programs that set a value.
type Declared struct {
	Places  map[string]actuator.Place
	Plugins map[string]plugin.Program
}

const maxDeclared = 64

var hexSum = regexp.MustCompile(`\A[0-9a-fA-F]{64}\z`)

// holy are folders in which no old file is ever superfluous.
var holy = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"}

// declared reads the optional parts places and plugins.
func (r *reader) declared(root fields) Declared {
	d := Declared{Places: map[string]actuator.Place{}, Plugins: map[string]plugin.Program{}}
	if root.has("places") {
		for _, n := range r.list(root, "places", maxDeclared) {
			m := r.mapping(n, "place", "name", "root", "match", "olderThan", "how")
			p := actuator.Place{Root: r.text(m, "root"), Match: r.text(m, "match"), OlderThan: r.span(m, "olderThan", 0)}
			if p.Root != "" && (!filepath.IsAbs(p.Root) || filepath.Clean(p.Root) != p.Root || strings.Count(p.Root, "/") < 2 ||
				slices.ContainsFunc(holy, func(h string) bool { return p.Root == h || strings.HasPrefix(p.Root, h+"/") })) {
				r.add(m.at("root"), "root %q: expected a clean absolute path of two parts or more, outside of %s", p.Root, strings.Join(holy, ", "))
			}
			if _, err := path.Match(p.Match, ""); err != nil || strings.Contains(p.Match, "/") || strings.Trim(p.Match, "*") == "" && p.Match != "" {
				r.add(m.at("match"), "match %q: expected a pattern of file names such as *.log.*, which is not all of them", p.Match)
			}
			switch how := r.text(m, "how"); how {
			case "delete", "":
			case "empty":
				p.Empty = true
			default:
				r.add(m.at("how"), "how %q: expected delete or empty", how)
			}
			if name := r.name(m, d.Places[r.peek(m)].Root != ""); name != "" {
				d.Places[name] = p
			}
		}
	}
	if root.has("plugins") {
		for _, n := range r.list(root, "plugins", maxDeclared) {
			m := r.mapping(n, "plugin", "name", "exe", "sha256", "user", "get", "set", "timeout", "memory")
			p := plugin.Program{
				Exe: r.text(m, "exe"), SHA256: strings.ToLower(r.text(m, "sha256")), User: r.text(m, "user"), Get: r.words(m, "get"), Set: r.words(m, "set"),
				Timeout: plugin.DefaultTimeout, Memory: plugin.DefaultMemory,
			}
			if m.has("timeout") {
				p.Timeout = r.span(m, "timeout", plugin.MaxTimeout)
			}
			if m.has("memory") {
				p.Memory = r.integer(m, "memory") << 20
				if p.Memory < 1<<20 || p.Memory > 64<<30 {
					r.add(m.at("memory"), "memory: expected 1 to 65536 MiB")
				}
			}
			if p.Exe != "" && (!filepath.IsAbs(p.Exe) || filepath.Clean(p.Exe) != p.Exe) {
				r.add(m.at("exe"), "exe %q is not a clean absolute path", p.Exe)
			}
			if p.SHA256 != "" && !hexSum.MatchString(p.SHA256) {
				r.add(m.at("sha256"), "sha256: expected 64 hex digits, as sha256sum prints them")
			}
			if len(p.Set) > 0 && !slices.Contains(p.Set, plugin.ValueWord) {
				r.add(m.at("set"), "set: one of the words must be %s", plugin.ValueWord)
			}
			if name := r.name(m, d.Plugins[r.peek(m)].Exe != ""); name != "" {
				d.Plugins[name] = p
			}
		}
	}
	return d
}

// peek returns the name of a declaration if it is one, without a word about it.
func (r *reader) peek(m fields) string {
	if s, ok := m.nodes["name"].(*ast.StringNode); ok {
		return s.Value
	}
	return ""
}

// name returns the name of a declaration, "" where it cannot be one.
func (r *reader) name(m fields, taken bool) string {
	name := r.text(m, "name")
	switch {
	case name == "":
		return ""
	case !command.ValidName(name):
		r.add(m.at("name"), "name %q: expected 1 to 63 of a-z, 0-9 and dash", name)
	case taken:
		r.add(m.at("name"), "name %q stands twice", name)
	}
	return name
}

// span returns a length of time above zero; most is its bound, 0 for none.
func (r *reader) span(m fields, key string, most time.Duration) time.Duration {
	text := r.text(m, key)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || most > 0 && d > most {
		bound := ""
		if most > 0 {
			bound = ", up to " + shortDuration(most)
		}
		r.add(m.at(key), "%s %q is not a length of time such as 10m%s", key, text, bound)
	}
	return d
}

// words returns a list of texts.
func (r *reader) words(m fields, key string) []string {
	var out []string
	for _, n := range r.list(m, key, 32) {
		out = append(out, r.scalar(n, key))
	}
	if m.has(key) && len(out) == 0 {
		r.add(m.at(key), "%s: at least one word is needed", key)
	}
	return out
}

// check holds the grants to what is declared.
func (d Declared) check(r *reader, grants []Grant, nodes []ast.Node) {
	for i, g := range grants {
		if name, is := command.Plugin(g.Action); is && d.Plugins[name].Exe == "" {
			r.add(nodes[i], "action %s: no plugin of that name is declared under plugins", g.Action)
		}
		for _, t := range g.Targets {
			if t.Kind() == command.OnPlace && d.Places[t.Place].Root == "" {
				r.add(nodes[i], "place %s is not declared under places", t.Place)
			}
		}
	}
}

// apply tells the actuators what is declared now. An actuator of a program stays when its declaration goes: what it holds is
// to be given back.
func (d Declared) apply(actuators map[string]Actuator, leases map[string]lease) {
	if r, ok := actuators["file.relief"].(*actuator.Relief); ok {
		r.Declare(d.Places)
	}
	add := func(name string) {
		if actuators["plugin:"+name] == nil {
			actuators["plugin:"+name] = plugin.New(name, &plugin.Runner{Read: readProgram})
		}
	}
	for name := range d.Plugins {
		add(name)
	}
	for _, l := range leases {
		if name, is := command.Plugin(l.Action.Name); is {
			add(name)
		}
	}
	for key, a := range actuators {
		p, ok := a.(*plugin.Plugin)
		if !ok {
			continue
		}
		if x, ok := d.Plugins[strings.TrimPrefix(key, "plugin:")]; ok {
			p.Declare(&x)
		} else {
			p.Declare(nil)
		}
	}
}

// readProgram reads a program's file as a permissions file is read: nobody else may be able to write it.
func readProgram(file string, most int64) ([]byte, error) {
	b, err := readOwned(file, os.Geteuid(), most)
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s is empty", file)
	}
	return b, err
}
