package strict_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/strict"
)

type config struct {
	State  string            `yaml:"state"`
	Every  time.Duration     `yaml:"every"`
	Quiet  bool              `yaml:"quiet"`
	Max    strict.Bytes      `yaml:"max"`
	Many   int               `yaml:"many"`
	Labels map[string]string `yaml:"labels"`
	Listen listen            `yaml:"listen"`
	Checks []listen          `yaml:"checks"`
}

type listen struct {
	Address string `yaml:"address"`
}

func TestDecode(t *testing.T) {
	c := config{State: "kept"}
	err := strict.Decode("a.yaml", []byte("every: 2s\nquiet: true\nmax: 8MiB\nmany: 3\nlabels: {a: b}\nlisten: {address: x}\nchecks: [{address: y}]\n"), &c).Err()
	if err != nil {
		t.Fatal(err)
	}
	if c.State != "kept" || c.Every != 2*time.Second || !c.Quiet || c.Max != 8<<20 || c.Many != 3 || c.Labels["a"] != "b" || c.Listen.Address != "x" || c.Checks[0].Address != "y" {
		t.Errorf("got %+v", c)
	}
}

func TestEveryMistakeIsToldInItsPlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"stat: x\n", `a.yaml:1:1: stat: unknown key: did you mean "state"?`},
		{"listen:\n  adress: x\n", `a.yaml:2:3: listen.adress: unknown key: did you mean "address"?`},
		{"every: soon\n", `a.yaml:1:8: every: expected a duration such as 1s or 500ms, found "soon"`},
		{"many: [1]\n", "a.yaml:1:7: many: expected a whole number, found a list"},
		{"max: big\n", `a.yaml:1:6: max: expected a size such as 256MiB, found "big"`},
		{"quiet: maybe\n", `a.yaml:1:8: quiet: expected true or false, found "maybe"`},
		{"labels: 3\n", `a.yaml:1:9: labels: expected keys and values, found "3"`},
		{"state: a\nstate: b\n", "state"},
		{"state: &a x\n", "anchors"},
		{"a: [\n", "not YAML"},
		{"state: a\n---\nstate: b\n", "one document"},
	} {
		var got config
		err := strict.Decode("a.yaml", []byte(c.text), &got).Err()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
}

func TestAllAtOnceAndTheCallersOwn(t *testing.T) {
	var c config
	d := strict.Decode("a.yaml", []byte("many: x\nstat: y\nstate: z\n"), &c)
	d.Complain("state", "%s is not a folder", c.State)
	err := d.Err()
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), "a.yaml:3:8: state: z is not a folder") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("state: a\nlisten: {address: b}\n"))
	f.Add([]byte("a: &b [*b]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c config
		_ = strict.Decode("a.yaml", b, &c).Err()
	})
}
