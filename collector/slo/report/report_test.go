package report_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: a}
---
apiVersion: evenkeel/v1
kind: SLO
metadata: {name: a}
spec: {service: service/a, objective: 90%, window: {calendar: week}, hours: calendar/morning}
---
apiVersion: evenkeel/v1
kind: Calendar
metadata: {name: morning}
spec: {timezone: UTC, default: 0, weekly: [{days: [mon..sun], from: 08:00, to: 12:00}]}
`

// Business hours are those of a calendar.
func TestHours(t *testing.T) {
	files := []manifest.File{{Name: "m", Text: []byte(model)}}
	opt := picture.Options{
		At:      time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), // a Wednesday
		History: &manifest.File{Name: "h", Text: []byte("ref,time,level\nservice/a,2026-11-24T00:00:00Z,ok\nservice/a,2026-11-24T11:30:00Z,critical\nservice/a,2026-11-25T09:00:00Z,ok\n")},
	}
	p, problems := picture.FromFiles(files, opt)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r, problems := report.Of(p)
	if len(problems) > 0 || len(r.SLOs) != 1 || r.SLOs[0].Evaluation == nil {
		t.Fatalf("%+v, %v", r, problems)
	}
	s, e := r.SLOs[0], r.SLOs[0].Evaluation
	if s.Window.Period != "100800s" || s.Budget != "10080s" || e.Scheduled != "21600s" || e.BeforeExistence != "14400s" || e.ToCome != "64800s" || e.Bad["unknown"] != "5400s" {
		t.Errorf("%+v, %+v", s, e)
	}
	if len(s.Burns) != 3 || s.Burns[0].Firing == nil || *s.Burns[0].Firing != "no" || s.Burns[1].InLong.Low != 2.5 {
		t.Errorf("%+v", s.Burns)
	}
}

// A declared maintenance of the service is planned time, whatever the history says.
func TestDeclaredMaintenanceIsPlanned(t *testing.T) {
	text := model + `---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: ops}
---
apiVersion: evenkeel/v1
kind: Maintenance
metadata: {name: m}
spec:
  refs: [service/a]
  window: {timezone: UTC, start: 2026-11-24T11:45, end: 2026-11-25T08:15}
  reason: firmware
  owner: team/ops
`
	p, problems := picture.FromFiles([]manifest.File{{Name: "m", Text: []byte(text)}}, picture.Options{
		At: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC),
		History: &manifest.File{Name: "h", Text: []byte("ref,time,level,origin\nservice/a,2026-11-24T00:00:00Z,ok,\n" +
			"service/a,2026-11-24T11:30:00Z,critical,own\nservice/a,2026-11-25T09:00:00Z,ok,\n")},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r, problems := report.Of(p)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	e := r.SLOs[0].Evaluation
	// Of 5400s bad, 900s lie on either evening and morning of the window.
	if e.Bad["own"] != "3600s" || e.Bad["planned"] != "1800s" || e.Excluded != "1800s" || e.Good != "16200s" {
		t.Errorf("%+v", e)
	}
}
