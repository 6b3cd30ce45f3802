package maptest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/maptest"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const estate = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  value: {perHour: 1000, currency: EUR, loss: {major: 0.5, critical: 1}}
  dependsOn: [{ref: component/web}, {ref: component/db}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2]}, unit: a.service, health: {rule: best}, repair: {expected: 10m}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h1]}, unit: db.service, repair: {expected: 30m}}
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: ops}
---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: m}
spec:
  refs: [component/db]
  window: {timezone: UTC, start: 2026-12-01, duration: 1h}
  reason: firmware
  owner: team/ops
---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: of-the-shop}
spec:
  refs: [service/shop]
  window: {timezone: UTC, start: 2026-12-02, duration: 1h}
  reason: a new shop
  owner: team/ops
---
apiVersion: evenkeel/v1
kind: MapTest
metadata: {name: t}
spec:
  cases:
`

func run(text string) string {
	r, problems := maptest.Run([]manifest.File{{Name: "f.yaml", Text: []byte(estate + text)}})
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	for _, c := range r.Cases {
		out = append(out, fmt.Sprintf("%s %s %v", c.Test, c.Name, c.Passed))
		for _, f := range c.Failures {
			out = append(out, fmt.Sprintf("%s: expected %s, got %s", f.Of, f.Expected, f.Got))
		}
	}
	return strings.Join(out, "\n")
}

func TestRun(t *testing.T) {
	lines := strings.Count(estate, "\n")
	for _, c := range []struct{ name, text, want string }{
		{
			"all is well",
			"    - {name: a, at: 2026-11-30T10:00:00Z, expect: {health: {service/shop: ok}, causes: [], order: []}}\n",
			"maptest/t a true",
		},
		{
			"a failure in all its parts",
			"    - name: a\n      at: 2026-11-30T10:00:00Z\n      set: {component/db@h1: critical, component/web@h1: critical}\n      expect:\n" +
				"        health: {service/shop: critical, component/web: ok, component/db: critical}\n        causes: [component/db@h1]\n" +
				"        perHour: {component/db@h1: 1000 EUR}\n        order: [component/db@h1, component/web@h1]\n",
			"maptest/t a true",
		},
		{
			"everything otherwise",
			"    - name: a\n      at: 2026-11-30T10:00:00Z\n      set: {component/db@h1: critical}\n      expect:\n" +
				"        health: {service/shop: ok...minor, component/web: unknown}\n        causes: []\n        perHour: {component/db@h1: 999.5 EUR, component/web: unranked}\n        order: [component/web]\n",
			"maptest/t a false\nhealth of component/web: expected unknown, got ok\nhealth of service/shop: expected ok...minor, got critical\n" +
				"causes: expected none, got component/db@h1\nperHour of component/db@h1: expected 999.5 EUR, got 1000 EUR\n" +
				"perHour of component/web: expected unranked, got it is no cause\norder: expected component/web, got component/db@h1",
		},
		{
			"each case by itself, with its own default and moment",
			"    - {name: a, at: 2026-11-30T10:00:00Z, set: {component/db@h1: critical}, expect: {health: {service/shop: critical}}}\n" +
				"    - {name: b, at: 2026-11-30T10:00:00Z, default: unknown, expect: {health: {service/shop: unknown}}}\n" +
				"    - {name: c, at: 2026-12-01T00:30:00Z, set: {component/db@h1: critical}, expect: {health: {service/shop: ok, component/db: critical}, causes: []}}\n" +
				"    - {name: d, at: 2026-11-30T10:00:00Z, expect: {health: {service/shop: ok}}}\n",
			"maptest/t a true\nmaptest/t b true\nmaptest/t c true\nmaptest/t d true",
		},
		{
			"a service in maintenance has no cause, and the others do",
			"    - {name: a, at: 2026-12-02T00:30:00Z, set: {component/db@h1: critical}, expect: {health: {service/shop: critical}, causes: []}}\n" +
				"    - {name: b, at: 2026-12-02T01:00:00Z, set: {component/db@h1: critical}, expect: {causes: [component/db@h1]}}\n",
			"maptest/t a true\nmaptest/t b true",
		},
		{
			"what is not on the map",
			"    - {name: a, at: 2026-11-30T10:00:00Z, expect: {health: {service/shp: ok}, causes: [component/dbx], order: [], perHour: {}}}\n",
			fmt.Sprintf("f.yaml:%d:124: spec.cases[0].expect.perHour is empty", lines+1),
		},
		{
			"what is not on the map, but for that",
			"    - {name: a, at: 2026-11-30T10:00:00Z, expect: {health: {service/shp: ok}, causes: [component/dbx]}}\n",
			fmt.Sprintf("f.yaml:%d:74: service/shp is not on the map (did you mean \"service/shop\"?)\nf.yaml:%d:88: component/dbx is not on the map (did you mean \"component/db\"?)", lines+1, lines+1),
		},
		{
			"a level that is none",
			"    - {name: a, at: 2026-11-30T10:00:00Z, set: {service/shop: bad}, expect: {causes: []}}\n",
			fmt.Sprintf("f.yaml:%d:63: \"bad\" is not a level: expected ok, info, warning, minor, major, critical or unknown", lines+1),
		},
		{
			"states that cannot be set",
			"    - {name: a, at: 2026-11-30T10:00:00Z, set: {component/db@h2: critical}, expect: {causes: []}}\n",
			fmt.Sprintf("f.yaml:%d:66: component/db@h2 is not on the map (did you mean \"component/db@h1\"?)", lines+1),
		},
		{
			"expectations that mean nothing",
			"    - {name: a, at: 2026-11-30, expect: {health: {service/shop: minor...ok}, perHour: {service/shop: 12 Euro}}}\n    - {name: b, at: 2026-11-30T10:00:00Z, expect: {}}\n    - {name: b, at: 2026-11-30T10:00:00Z, expect: {causes: []}}\n",
			fmt.Sprintf(`f.yaml:%d:21: "2026-11-30" is not a moment: expected RFC 3339, such as 2026-11-27T10:00:00+01:00
f.yaml:%d:65: "minor...ok" is not a health: expected a level, unknown, or a range such as ok...major
f.yaml:%d:102: "12 Euro" is not an amount: expected such as 36000 EUR, 1000 points, or unranked
f.yaml:%d:51: nothing is expected (health, causes, order or perHour)
f.yaml:%d:14: case "b" is there twice`, lines+1, lines+1, lines+1, lines+2, lines+3),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, run(c.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, problems := maptest.Run([]manifest.File{{Name: "f.yaml", Text: []byte("apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: h}\n")}}); len(problems) != 1 {
		t.Errorf("no test: %v", problems)
	}
}
