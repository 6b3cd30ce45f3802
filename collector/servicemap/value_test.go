package servicemap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const retail = `
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 900, currency: EUR, calendar: calendar/retail, loss: {major: 0.5, critical: 1}}, dependsOn: [{ref: component/web}]}
---
kind: Service
metadata: {name: mail}
spec: {criticality: 2, supportHours: calendar/retail, value: {perHour: 100, currency: EUR}, dependsOn: [{ref: component/web}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1]}, unit: web.service}
---
kind: Calendar
metadata: {name: retail}
spec: {timezone: Europe/Berlin, weekly: [{days: [mon..sun], from: 22:00, to: 06:00, factor: 0.2}], peaks: [{from: 2026-11-27, to: 2026-11-30, factor: 3}]}
`

func TestAValueFollowsItsCalendar(t *testing.T) {
	g := build(t, retail)
	s := servicemap.NewState(g, servicemap.Options{AssumeOK: true})
	s.Update(time.Unix(0, 0), servicemap.Signal{Ref: "component/web@h1", Source: "test", Range: health.Exactly(health.Major)})
	snap := s.Snapshot()
	for at, want := range map[string]string{
		"2026-11-25T12:00:00+01:00": "900 EUR/h 1000; loses 450 EUR/h 500; below it 1000 EUR/h 1100", // mail has support hours and no calendar of its value
		"2026-11-25T23:00:00+01:00": "180 EUR/h 200; loses 90 EUR/h 100; below it 280 EUR/h 300",
		"2026-11-28T23:00:00+01:00": "2700 EUR/h 3000; loses 1350 EUR/h 1500; below it 2800 EUR/h 3100",
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		text := func(v servicemap.Value) string { return v.String() + " " + v.Text(servicemap.UnitPoints) }
		got := text(g.Value("service/shop", when)) + "; loses " + text(snap.Loss("service/shop", when)) + "; below it " + text(g.Value("component/web@h1", when))
		if got != want {
			t.Errorf("at %s:\ngot  %s\nwant %s", at, got, want)
		}
		if w := snap.Worth("service/shop", when); w.Calendar() != nil || w.LossFraction(health.Major) != 0 {
			t.Errorf("a worth keeps more than the value: %+v", w)
		}
	}
	if n, _ := snap.Node("service/shop"); n.Value.String() != "900 EUR/h" {
		t.Errorf("the base value is %s", n.Value)
	}
	if v := g.BaseValue("service/shop"); v.Calendar() == nil || v.LossFraction(health.Major).String() != "0.5" || v.LossFraction(health.Minor) != 0 {
		t.Errorf("the base value is %+v", v)
	}
}

// A set that was stored before there were calendars may name one that is not there.
func TestAValueWithoutItsCalendarIsTheSameAtEveryHour(t *testing.T) {
	set := parse(t, retail)
	g, err := servicemap.New(set.Without("calendar/retail"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Value("service/shop", time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)).String(); got != "900 EUR/h" {
		t.Errorf("it is worth %s", got)
	}
	problems := manifest.Validate(set.Without("calendar/retail"), nil)
	if len(problems) != 2 || !strings.Contains(problems[0].Text, "calendar/retail is not there") {
		t.Errorf("%v", problems)
	}
}
