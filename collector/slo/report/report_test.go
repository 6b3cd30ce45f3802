package report_test

import (
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/slo"
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
spec: {timezone: UTC, default: 0}
`

// morning is from 8 to 12 on every day, in UTC.
type morning struct{}

func (morning) Spans(from, to time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(time.Time, time.Time) bool) {
		for day := from.UTC().Truncate(24 * time.Hour); day.Before(to); day = day.AddDate(0, 0, 1) {
			a, b := day.Add(8*time.Hour), day.Add(12*time.Hour)
			if a.Before(from) {
				a = from
			}
			if b.After(to) {
				b = to
			}
			if a.Before(b) && !yield(a, b) {
				return
			}
		}
	}
}

// Business hours come from whoever reads calendars.
func TestHours(t *testing.T) {
	files := []manifest.File{{Name: "m", Text: []byte(model)}}
	opt := report.Options{
		At:      time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), // a Wednesday
		History: &manifest.File{Name: "h", Text: []byte("ref,time,level\nservice/a,2026-11-24T00:00:00Z,ok\nservice/a,2026-11-24T11:30:00Z,critical\nservice/a,2026-11-25T09:00:00Z,ok\n")},
	}
	opt.Hours = func(_ *manifest.Set, ref manifest.Ref) (slo.Hours, error) {
		if ref != "calendar/morning" {
			t.Errorf("asked for %s", ref)
		}
		return morning{}, nil
	}
	r, problems := report.Run(files, opt)
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

	opt.Hours = func(*manifest.Set, manifest.Ref) (slo.Hours, error) {
		return nil, errors.New("calendar/morning is empty")
	}
	if _, problems = report.Run(files, opt); len(problems) != 1 || problems[0].String() != "m:8:77: calendar/morning is empty" {
		t.Errorf("%v", problems)
	}
	opt.Hours = nil
	if _, problems = report.Run(files, opt); len(problems) != 1 {
		t.Errorf("%v", problems)
	}
}
