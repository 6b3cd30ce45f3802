package manifest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

var update = flag.Bool("update", false, "write the committed schema anew")

const committed = "../../docs/evenkeel.schema.json"

func TestSchemaIsCommitted(t *testing.T) {
	got, err := manifest.Schema("")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(committed, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs from the structs (run with -update)\n%s", committed, diff)
	}
}

func compiled(t *testing.T, kind string) *jsonschema.Schema {
	t.Helper()
	text, err := manifest.Schema(kind)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(manifest.SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(manifest.SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON turns one document into what a schema sees.
func asJSON(t *testing.T, doc string) (any, bool) {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		return nil, false // no YAML, or a key twice
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	return v, err == nil && v != nil
}

var markers = regexp.MustCompile(`(?m)^---\s*$`)

// Every document of the examples is as the schema says.
func TestSchemaOfExamples(t *testing.T) {
	s := compiled(t, "")
	entries, err := os.ReadDir("../../deploy/examples")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		files, problems := manifest.Read([]string{"../../deploy/examples/" + e.Name()}, nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for _, f := range files {
			for _, doc := range markers.Split(string(f.Text), -1) {
				v, ok := asJSON(t, doc)
				if !ok || strings.Contains(doc, "openslo/") {
					continue
				}
				seen++
				if err := s.Validate(v); err != nil {
					t.Errorf("%s: %v\n%s", f.Name, err, doc)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d documents were looked at", seen)
	}
}

// What Parse writes of what it read is as the schema says, and what it refuses for its form the schema refuses too.
func TestSchemaAgreesWithTheReader(t *testing.T) {
	s := compiled(t, "")
	form := regexp.MustCompile(`unknown key|is missing|is not a value of|must be a (list|mapping|whole number)|must be (text|true)|expected \d+ to \d+$|is not a (duration|level|reference|date|day of the week|decimal number)|refers to a`)
	refused := 0
	for _, c := range append(mistakes(), contactMistakes()...) {
		if markers.MatchString(c.text) || !form.MatchString(c.want) {
			continue
		}
		v, ok := asJSON(t, c.text)
		if !ok {
			continue
		}
		if exempt := strings.Contains(c.want, "a value of cpu.") || strings.Contains(c.want, "a value of memory.") || strings.Contains(c.want, "spec.steps[0]") && !strings.Contains(c.want, ".action") || strings.Contains(c.want, "needs its parameters"); exempt {
			continue
		}
		refused++
		if s.Validate(v) == nil {
			t.Errorf("%s: the schema takes what the reader refuses: %s", c.name, c.want)
		}
	}
	if refused < 20 {
		t.Errorf("only %d mistakes were looked at", refused)
	}
	set, problems := manifest.Load([]string{"../../deploy/examples/shop", "testdata/every-kind.yaml"}, nil)
	problems = slices.DeleteFunc(problems, func(p manifest.Problem) bool { return strings.Contains(p.Text, "is declared twice") })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for r := range set.All() {
		b, err := manifest.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", r.Ref(), err)
		}
	}
}

func TestSchemaOfOneKind(t *testing.T) {
	s := compiled(t, "service")
	host, _ := asJSON(t, "apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: h}\n")
	if s.Validate(host) == nil {
		t.Error("a host is a service")
	}
	if _, err := manifest.Schema("Servce"); err == nil || !strings.Contains(err.Error(), `did you mean "Service"?`) {
		t.Errorf("%v", err)
	}
}

// Each kind and each field says what it is for.
func TestSchemaExplainsEachField(t *testing.T) {
	text, err := manifest.Schema("")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Defs map[string]struct {
			Description string
			Properties  map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if d := doc.Defs["Calendar"]; !strings.HasPrefix(d.Properties["default"].Description, "Default is the factor outside every entry") {
		t.Errorf("%+v", d)
	}
	fields := 0
	for name, d := range doc.Defs {
		if d.Description == "" {
			t.Errorf("%s is not explained", name)
		}
		for key, p := range d.Properties {
			fields++
			if p.Description == "" {
				t.Errorf("%s.%s is not explained", name, key)
			}
		}
	}
	if fields < 200 {
		t.Errorf("only %d fields", fields)
	}
}
