package manifest_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	if set.Len() != 7 {
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
