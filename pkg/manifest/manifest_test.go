package manifest_test

import (
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func everyKind(t testing.TB) *manifest.Set {
	t.Helper()
	text, err := os.ReadFile("testdata/every-kind.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set, problems := manifest.Parse("every-kind.yaml", text)
	problems = append(problems, manifest.Validate(set, nil)...)
	for _, p := range problems {
		t.Error(p)
	}
	return set
}

func TestEveryKindIsReadAndKept(t *testing.T) {
	set := everyKind(t)
	if set.Len() != 19 {
		t.Fatalf("read %d resources", set.Len())
	}
	for r := range set.All() {
		b, err := manifest.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := manifest.Decode(b)
		if err != nil {
			t.Fatalf("%s: %v\n%s", r.Ref(), err, b)
		}
		again, err := manifest.Encode(back)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(b), string(again)); diff != "" {
			t.Errorf("%s changed on its way through the store:\n%s", r.Ref(), diff)
		}
		// What is stored is also a manifest.
		set2, problems := manifest.Parse("stored.json", b)
		if len(problems) > 0 {
			t.Errorf("%s as JSON: %v", r.Ref(), problems)
		}
		for _, c := range manifest.Diff(manifest.NewSet(r), set2) {
			if c.Verb != manifest.Unchanged {
				t.Errorf("%s reads back differently: %+v", r.Ref(), c)
			}
		}
		if _, err := manifest.SpecMap(r); err != nil {
			t.Error(err)
		}
	}
}

func TestDiffTellsEveryField(t *testing.T) {
	before, _ := manifest.Parse("before", []byte(`
apiVersion: evenkeel/v1
kind: Service
metadata: {name: a}
spec: {criticality: 1, dependsOn: [{ref: component/x}]}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: old, labels: {team: x}}
spec: {title: Old}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: x}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: gone}
`))
	after, problems := manifest.Parse("after", []byte(`
apiVersion: evenkeel/v1
kind: Service
metadata: {name: a}
spec: {criticality: 2, title: A, dependsOn: [{ref: component/x, weight: 3}]}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: new, renamedFrom: old, labels: {team: x}}
spec: {title: Old}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: x}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: fresh}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := []manifest.Change{
		{Ref: "component/x", Verb: manifest.Unchanged},
		{Ref: "host/fresh", Verb: manifest.Created},
		{Ref: "host/gone", Verb: manifest.Deleted},
		{Ref: "service/a", Verb: manifest.Changed, Fields: []manifest.FieldChange{
			{Path: "spec.criticality", From: "1", To: "2"},
			{Path: "spec.dependsOn[0].weight", To: "3"},
			{Path: "spec.title", To: "A"},
		}},
		{Ref: "service/new", Verb: manifest.Renamed, From: "service/old", Fields: []manifest.FieldChange{
			{Path: "metadata.name", From: "old", To: "new"},
			{Path: "metadata.renamedFrom", To: "old"},
		}},
	}
	if diff := cmp.Diff(want, manifest.Diff(before, after)); diff != "" {
		t.Error(diff)
	}
	merged := before.Merge(after)
	if _, still := merged.Get("service/old"); still || merged.Len() != 5 {
		t.Errorf("merged: %d resources, service/old still there: %v", merged.Len(), still)
	}
}

func TestRenameThatLeavesSomebodyBehind(t *testing.T) {
	before, _ := manifest.Parse("before", []byte("apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: a}\nspec: {dependsOn: [{ref: component/x}]}\n---\n"+
		"apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: x}\n"))
	after, _ := manifest.Parse("f.yaml", []byte("apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: y, renamedFrom: x}\n"))
	got := manifest.Validate(after, before)
	if len(got) != 1 || got[0].String() != "f.yaml:3:34: service/a still refers to component/x (change it in the same step)" {
		t.Errorf("%v", got)
	}
	if refs := before.Referrers("component/x"); len(refs) != 1 || refs[0] != "service/a" {
		t.Errorf("referrers: %v", refs)
	}
}

func TestLoadReadsFoldersAndStdin(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml":      "apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: a}\n",
		"sub/b.yml":   "# only a comment\n---\napiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: b}\n---\n",
		".hidden.yml": "no",
		"notes.txt":   "no",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set, problems := manifest.Load([]string{dir, "-"}, strings.NewReader("apiVersion: evenkeel/v1\r\nkind: Host\r\nmetadata: {name: c}\r\n"))
	if set.Len() != 3 || len(problems) != 0 {
		t.Errorf("%d resources, %v", set.Len(), problems)
	}
	if _, problems = manifest.Load([]string{filepath.Join(dir, "none")}, nil); len(problems) != 1 {
		t.Errorf("a missing file: %v", problems)
	}
}

func TestTimesHaveTheStatedDefaults(t *testing.T) {
	var p manifest.RemediationPolicy
	zero := manifest.Duration(0)
	p.Timing.Cooldown = &zero
	want := manifest.Times{
		Dwell: 30 * time.Second, Outcome: 15 * time.Second, Cooldown: 0, Lease: 10 * time.Minute,
		Release: manifest.Release{Percent: 10, Every: 5 * time.Second}, EpisodeSteps: 6, EpisodeEvery: 5 * time.Second,
	}
	if diff := cmp.Diff(want, p.Times()); diff != "" {
		t.Error(diff)
	}
}

func TestScalarsReadWhatTheyWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := manifest.Decimal(rapid.Int64Range(-9e18, 9e18).Draw(t, "decimal"))
		back, err := manifest.ParseDecimal(d.String())
		if err != nil || back != d {
			t.Fatalf("%d: %q read as %d, %v", int64(d), d, int64(back), err)
		}
		span := manifest.Duration(rapid.Int64Range(0, 3650*86400*1000).Draw(t, "ms") * int64(time.Millisecond))
		var span2 manifest.Duration
		if err := span2.UnmarshalText([]byte(span.String())); err != nil || span2 != span {
			t.Fatalf("%d: %q read as %d, %v", span, span, span2, err)
		}
		size := manifest.Bytes(rapid.Int64Range(0, 1<<45).Draw(t, "bytes"))
		var size2 manifest.Bytes
		if err := size2.UnmarshalText([]byte(size.String())); err != nil || size2 != size {
			t.Fatalf("%d: %q read as %d, %v", size, size, size2, err)
		}
		share := manifest.Share(rapid.Int64Range(1, 1_000_000).Draw(t, "share"))
		n := rapid.IntRange(0, 5000).Draw(t, "n")
		exact := new(big.Rat).Mul(big.NewRat(int64(share), 1_000_000), big.NewRat(int64(n), 1))
		k := share.Of(n)
		if big.NewRat(int64(k), 1).Cmp(exact) < 0 || big.NewRat(int64(k-1), 1).Cmp(exact) >= 0 {
			t.Fatalf("%v of %d is %d", share.Float(), n, k)
		}
	})
}

func TestWhatWouldCostTooMuchIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"size of a file":     {strings.Repeat("#", 4<<20+1), "f: the file is larger than 4194304 bytes"},
		"size of a document": {"---\na: b\n---\n" + strings.Repeat("#", 64<<10), "f:3:1: this document has 65540 bytes: the most is 65536 (documents are set apart by ---)"},
		"brackets":           {"a:\n  " + strings.Repeat("[", 65), "f:2:1: this is nested too deeply"},
		"marks":              {strings.Repeat("- ", 65), "f:1:1: this is nested too deeply"},
		"indent":             {strings.Repeat(" ", 401) + "a", "f:1:1: this is nested too deeply"},
	} {
		_, problems := manifest.Parse("f", []byte(c.text))
		if len(problems) == 0 || problems[len(problems)-1].String() != c.want {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/every-kind.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, m := range slices.Concat(mistakes(), sloMistakes(), contactMistakes()) {
		f.Add([]byte(m.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		set, problems := manifest.Parse("f", text)
		for _, p := range problems {
			if p.Text == "" || p.Line < 0 || p.Column < 0 {
				t.Fatalf("a problem without text or place: %+v", p)
			}
		}
		manifest.Validate(set, nil)
		if len(problems) > 0 {
			return
		}
		for r := range set.All() {
			b, err := manifest.Encode(r)
			if err != nil {
				t.Fatal(err)
			}
			back, err := manifest.Decode(b)
			if err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			again, err := manifest.Encode(back)
			if err != nil || string(again) != string(b) {
				t.Fatalf("%v\n%s\n%s", err, b, again)
			}
			written, err := manifest.YAML(r)
			if err != nil {
				t.Fatal(err)
			}
			read, problems := manifest.Parse("again", written)
			if len(problems) > 0 || read.Len() != 1 {
				t.Fatalf("%v\n%s\n%s", problems, b, written)
			}
			same, _ := read.Get(r.Ref())
			if c, err := manifest.Encode(same); err != nil || string(c) != string(b) {
				t.Fatalf("%v\n%s\n%s", err, b, c)
			}
		}
	})
}
