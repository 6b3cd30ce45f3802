package agent_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/agent"
)

func TestConfigMistakes(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"unknown key":        {"perod: 1s\n", "a.yaml:1:1: perod: unknown key: did you mean \"period\"?"},
		"unknown nested key": {"spool:\n  maxbyte: 1GiB\n", "a.yaml:2:3: spool.maxbyte: unknown key: did you mean \"maxBytes\"?"},
		"nothing like it":    {"units: {quota: 1}\n", "a.yaml:1:9: units.quota: unknown key: the keys here are max"},
		"twice":              {"period: 1s\nperiod: 2s\n", "a.yaml:2:1: not YAML: mapping key \"period\" already defined at [1:1]"},
		"not a duration":     {"period: fast\n", "a.yaml:1:9: period: expected a duration such as 1s or 500ms, found \"fast\""},
		"odd period":         {"period: 3s\n", "a.yaml:1:9: period: 3s is not one of 1s, 2s, 5s, 10s, 20s, 30s, 40s, 50s, 1m"},
		"too fast":           {"period: 100ms\n", "a.yaml:1:9: period: 100ms is not one of 1s, 2s, 5s, 10s, 20s, 30s, 40s, 50s, 1m"},
		"not a size":         {"spool: {maxBytes: lots}\n", "a.yaml:1:19: spool.maxBytes: expected a size such as 256MiB, found \"lots\""},
		"too small":          {"spool: {maxBytes: 1MiB}\n", "a.yaml:1:19: spool.maxBytes: 1MiB is too small: use at least 8MiB"},
		"not a number":       {"units: {max: many}\n", "a.yaml:1:14: units.max: expected a whole number, found \"many\""},
		"not a list":         {"checks: web\n", "a.yaml:1:9: checks: expected a list, found \"web\""},
		"not a mapping":      {"labels: [a]\n", "a.yaml:1:9: labels: expected keys and values, found a list"},
		"not a text":         {"state: {a: b}\n", "a.yaml:1:8: state: expected a text, found keys and values"},
		"no such probe":      {"probes:\n  disable: [cpu, dsk]\n", "a.yaml:2:18: probes.disable[1]: no probe is called \"dsk\": the probes are " + strings.Join(agent.ProbeNames, ", ")},
		"bad address":        {"collector: host\n", "a.yaml:1:12: collector: \"host\" is not host:port"},
		"bad label":          {"labels: {1a: b}\n", "a.yaml:1:14: labels.1a: a label's name starts with a letter and has at most 63 letters, digits, and any of _ . / -"},
		"check without name": {"checks:\n  - tcp: db:1\n", "a.yaml:2:8: checks[0]: a check needs a name"},
		"two kinds of check": {"checks:\n  - {name: a, tcp: db:1, http: http://db/}\n", "a.yaml:2:5: checks[0]: a check has exactly one of http and tcp"},
		"check of a file":    {"checks:\n  - {name: a, http: 'file:///x'}\n", "a.yaml:2:5: checks[0]: \"file:///x\" is not an http or https URL"},
		"same name twice":    {"checks:\n  - {name: a, tcp: db:1}\n  - {name: a, tcp: db:2}\n", "a.yaml:3:12: checks[1].name: two checks are called \"a\""},
		"two documents":      {"period: 1s\n---\nperiod: 2s\n", "a.yaml:3:7: a configuration is one document, and this is a second one"},
		"anchor":             {"labels: &x {a: b}\n", "a.yaml:1:9: labels: anchors, aliases and tags are not read: write the value out"},
		"not YAML":           {"period: [1s\n", "a.yaml:1:9: not YAML: sequence end token ']' not found"},
		"a list as a whole":  {"- period\n", "a.yaml:1:1: expected keys and values, found a list"},
		"everything at once": {
			"perod: 1s\nunits: {max: 0}\nspool: {maxBytes: 1}\n",
			"a.yaml:1:1: perod: unknown key: did you mean \"period\"?\na.yaml:2:14: units.max: 0 is outside 1 to 4096\na.yaml:3:19: spool.maxBytes: 1 is too small: use at least 8MiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := agent.Parse("a.yaml", []byte(tt.in))
			if err == nil || err.Error() != tt.want {
				t.Errorf("\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	for _, in := range []string{"", "# nothing\n", "---\n"} {
		got, err := agent.Parse("a.yaml", []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(agent.Default(), got); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
	d := agent.Default()
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := agent.Load(t.TempDir()+"/none.yaml", true); err != nil {
		t.Error(err)
	}
	if _, err := agent.Load(t.TempDir()+"/none.yaml", false); err == nil {
		t.Error("a file that was named and is missing was read")
	}
}

// The example is good, and sets what its comments say are the defaults.
func TestConfigExample(t *testing.T) {
	data, err := os.ReadFile("../deploy/examples/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := agent.Parse("agent.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	want := agent.Default()
	want.Labels = map[string]string{"role": "web", "site": "fra1"}
	want.Probes.Disable = []string{}
	want.Checks = []agent.Check{
		{Name: "web", HTTP: "http://127.0.0.1:8080/healthz", Timeout: 5 * time.Second}, {Name: "postgres", TCP: "127.0.0.1:5432"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever is in a file, reading it ends with a configuration that is valid or with problems that have a text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "period: 1s\n", "checks: [{name: a, tcp: 'b:1'}]\n", "labels: {a: b}\nspool: {maxBytes: 1GiB}\n", "a: &x [*x]\n", "? [a]\n: b\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		cfg, err := agent.Parse("f", in)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without a text")
			}
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("read and not valid: %v", err)
		}
	})
}
