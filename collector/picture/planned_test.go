package picture_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const worked = estate + `---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: ops}
---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: m}
spec: {refs: [REF], window: {timezone: UTC, start: 2026-12-01T10:00, duration: 2h}, reason: firmware, owner: team/ops}
`

// What nothing but maintenance takes down was meant to be down; what is bad for another reason as well was not.
func TestMaintenanceOfAPartIsPlanned(t *testing.T) {
	for _, c := range []struct{ ref, set, shop, pay string }{
		{"component/web", "", "ok unknown", "ok unknown"},
		{"component/web", "component/web=critical", "critical planned", "ok unknown"},
		{"component/web", "component/web@h=unknown", "unknown planned", "ok unknown"},
		{"component/web", "component/web=critical component/db=major", "major upstream", "major own"},
		{"component/web", "component/web=critical component/gateway=critical", "critical vendor", "critical vendor"},
		{"component/web", "component/web=critical service/shop=major", "critical planned", "ok unknown"}, // its own measure sees what the map foresaw
		{"component/web", "service/shop=major", "major own", "ok unknown"},                               // there is no reason for it in the maintenance
		{"component/db", "component/db=critical", "critical planned", "critical planned"},
		{"component/db", "component/db=critical service/pay=critical", "critical planned", "critical planned"},
		{"service/pay", "component/db=critical", "critical planned", "critical planned"},
		{"service/pay", "component/db=critical component/web=minor", "minor own", "critical planned"},
		{"host/h", "component/web@h=critical component/db@h=critical", "critical planned", "critical planned"},
	} {
		set := map[string]string{}
		for _, s := range strings.Fields(c.set) {
			ref, level, _ := strings.Cut(s, "=")
			set[ref] = level
		}
		p, problems := picture.FromFiles([]manifest.File{{Name: "m", Text: []byte(strings.Replace(worked, "REF", c.ref, 1))}}, picture.Options{
			At: time.Date(2026, 12, 1, 11, 0, 0, 0, time.UTC), Set: set,
		})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		standing := picture.Stand(p.Map)
		for service, want := range map[manifest.Ref]string{"service/shop": c.shop, "service/pay": c.pay} {
			s := standing.Of(service)
			if got := servicemap.LevelText(s.Health) + " " + s.Origin.String(); got != want {
				t.Errorf("%s in maintenance, %s: %s is %s, expected %s", c.ref, c.set, service, got, want)
			}
		}
	}
}

// Where a history does not say why a service was bad, the maintenance of a part says it, if that alone makes it as bad; where it says, it holds.
func TestHistoryIsCutAtMaintenanceOfParts(t *testing.T) {
	for _, c := range []struct{ ref, level, want string }{
		{"component/db", "critical", "09:00 unknown, 10:00 planned, 12:00 unknown"},
		{"component/db", "critical,own", "09:00 own"},
		{"service/shop", "critical,own", "09:00 own, 10:00 planned, 12:00 own"},
		{"component/gateway", "critical", "09:00 unknown, 10:00 planned, 12:00 unknown"},
	} {
		history := "ref,time,level,origin\nservice/shop,2026-12-01T09:00:00Z," + c.level
		if !strings.Contains(c.level, ",") {
			history += ","
		}
		p, problems := picture.FromFiles([]manifest.File{{Name: "m", Text: []byte(strings.Replace(worked, "REF", c.ref, 1))}}, picture.Options{
			At: time.Date(2026, 12, 1, 13, 0, 0, 0, time.UTC), History: &manifest.File{Name: "h", Text: []byte(history + "\n")},
		})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		var got []string
		for _, s := range p.States("service/shop") {
			got = append(got, s.From.Format("15:04 ")+s.Origin.String())
		}
		var rows []string
		for _, r := range p.Rows() {
			rows = append(rows, r.At.Format("15:04 ")+r.Origin.String())
		}
		if strings.Join(got, ", ") != c.want || strings.Join(rows, ", ") != c.want {
			t.Errorf("%s: %v, %v, expected %s", c.ref, got, rows, c.want)
		}
	}
}
