//go:build e2e

package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

const soundMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  criticality: 1
  dependsOn: [{ref: component/web}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec:
  hosts: {names: [web-1]}
`

// A map with a loop, an unknown key or a dangling reference is refused by the real command against the real collector,
// with file, line and column on standard error and exit code 2, and nothing of it is kept, not even what is sound.
func TestBadMapsAreRefused(t *testing.T) {
	c := rig.NewCollector(t, "127.0.0.1")
	c.Run(t)
	dir := rig.Folder(t)
	for _, tt := range []struct {
		name, from, to string
		at             string // line:column of the mistake
		says           string
	}{
		{"loop", "criticality: 1\n  dependsOn: [{ref: component/web}]", "criticality: 1\n  dependsOn: [{ref: component/web}, {ref: service/shop}]", "6", "service/shop"},
		{"unknown key", "criticality: 1", "criticalty: 1", "5:3", "criticality"},
		{"dangling reference", "ref: component/web", "ref: component/wbe", "6:", "component/wbe"},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-")+".yaml")
			rig.Write(t, file, strings.Replace(soundMap, tt.from, tt.to, 1))
			for _, verb := range []string{"diff", "apply"} {
				out, errs, code := c.Evenkeel(t, verb, "-f", file)
				if code != 2 {
					t.Errorf("%s: exit code %d, want 2\n%s%s", verb, code, out, errs)
				}
				if want := regexp.QuoteMeta(file) + `:\d+:\d+: `; !regexp.MustCompile(want).MatchString(errs) || !strings.Contains(errs, file+":"+tt.at) || !strings.Contains(errs, tt.says) {
					t.Errorf("%s says %q, want %s:%s and %q", verb, errs, file, tt.at, tt.says)
				}
			}
			var got struct{ Resources []any }
			c.JSON(t, &got, "get", "service")
			if len(got.Resources) != 0 {
				t.Errorf("something was kept: %v", got.Resources)
			}
		})
	}
	// A loop over two services names its whole path.
	file := filepath.Join(dir, "two.yaml")
	second := "---\napiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: mall}\nspec:\n  criticality: 2\n  dependsOn: [{ref: service/shop}]\n"
	rig.Write(t, file, strings.Replace(soundMap, "ref: component/web", "ref: service/mall", 1)+second)
	if _, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 2 || !strings.Contains(errs, "service/shop") || !strings.Contains(errs, "service/mall") {
		t.Errorf("a loop of two: exit code %d, %q", code, errs)
	}

	// The sound one is taken, twice, and the second time changes nothing.
	file = filepath.Join(dir, "sound.yaml")
	rig.Write(t, file, soundMap)
	for range 2 {
		if out, errs, code := c.Evenkeel(t, "apply", "-f", file); code != 0 {
			t.Fatalf("the sound map: exit code %d\n%s%s", code, out, errs)
		}
	}
	if out, errs, code := c.Evenkeel(t, "diff", "-f", file); code != 0 {
		t.Errorf("diff after apply: exit code %d\n%s%s", code, out, errs)
	}
}
