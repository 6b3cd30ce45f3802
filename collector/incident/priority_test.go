package incident_test

import (
	"errors"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/pkg/health"
)

func TestPriority(t *testing.T) {
	half := map[health.Level]float64{health.Minor: 0.1, health.Major: 0.5}
	for _, c := range []struct {
		impacts []incident.Impact
		want    incident.Priority
	}{
		{nil, 4},
		{[]incident.Impact{{Criticality: 1, Level: health.Critical}}, 1},
		{[]incident.Impact{{Criticality: 1, Level: health.Major, Loss: half}}, 1},
		{[]incident.Impact{{Criticality: 1, Level: health.Minor, Loss: half}}, 2},
		{[]incident.Impact{{Criticality: 1, Level: health.Major}}, 2}, // nothing is lost, but it is major
		{[]incident.Impact{{Criticality: 1, Level: health.Minor}}, 3},
		{[]incident.Impact{{Criticality: 1, Level: health.OK}}, 4}, // a spare takes it
		{[]incident.Impact{{Criticality: 3, Level: health.Critical}}, 3},
		{[]incident.Impact{{Level: health.Critical}}, 4},
		{[]incident.Impact{{Criticality: 4, Level: health.Critical}, {Criticality: 2, Level: health.Critical}}, 2},
	} {
		if got := incident.PriorityOf(c.impacts); got != c.want {
			t.Errorf("%+v: %s, want %s", c.impacts, got, c.want)
		}
	}
}

// The priority only rises, a loss within another counts once, and time on hold is nobody's.
func TestHoldAndTimes(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	n := 0
	b := incident.New(incident.Config{NewID: func(time.Time) string { n++; return string(rune('a' + n - 1)) }})
	bad := incident.Cause{
		Ref: "component/db", Condition: incident.Bad, Level: health.Critical, Title: "db is down", Began: at.Add(-3 * time.Second),
		Impacts: []incident.Impact{
			{Service: "service/shop", Level: health.Critical, Criticality: 2, Points: 100, Money: 1000, Currency: "EUR"},
			{Service: "service/pay", Level: health.Critical, Criticality: 1, Points: 1000, Money: 500, Currency: "EUR", Within: true},
		},
	}
	i := b.Observe(at, []incident.Cause{bad})[0]
	if perHour, unit := i.PerHour(); i.Priority != 1 || perHour != 1000 || unit != "EUR" {
		t.Errorf("%s, %v %s", i.Priority, perHour, unit)
	}
	better := bad
	better.Impacts = []incident.Impact{{Service: "service/shop", Level: health.OK, Criticality: 2}}
	b.Observe(at.Add(time.Minute), []incident.Cause{better})
	if i, _ = b.Get(at.Add(time.Minute), "a"); i.Priority != 1 {
		t.Errorf("fell to %s", i.Priority)
	}
	if lost, unit := i.Cost.Money["EUR"], "EUR"; lost < 16.6 || lost > 16.7 {
		t.Errorf("%v %s", lost, unit)
	}

	if _, err := b.Resume(at, "a", "ada"); !errors.Is(err, incident.ErrNotOnHold) {
		t.Error(err)
	}
	if _, err := b.Acknowledge(at.Add(2*time.Minute), "a", "ada", ""); err != nil {
		t.Error(err)
	}
	if i, err := b.Hold(at.Add(10*time.Minute), "a", "ada", "waits for the vendor"); err != nil || !i.OnHold() {
		t.Errorf("%+v %v", i, err)
	}
	if _, err := b.Hold(at.Add(10*time.Minute), "a", "ada", "again"); !errors.Is(err, incident.ErrOnHold) {
		t.Error(err)
	}
	if i, err := b.Resume(at.Add(30*time.Minute), "a", "ada"); err != nil || i.OnHold() || i.Held(at.Add(20*time.Minute), at.Add(time.Hour)) != 10*time.Minute {
		t.Errorf("%+v %v", i, err)
	}
	if i, err := b.Link(at.Add(31*time.Minute), "a", "ada", "INC7"); err != nil || i.External != "INC7" {
		t.Errorf("%+v %v", i, err)
	}
	good := incident.Cause{Ref: "component/db", Condition: incident.Good}
	b.Observe(at.Add(59*time.Minute), []incident.Cause{good})
	b.Observe(at.Add(time.Hour), []incident.Cause{good})

	// A second one, still open.
	b.Observe(at.Add(2*time.Hour), []incident.Cause{{Ref: "host/h", Condition: incident.Bad, Level: health.Major, Impacts: bad.Impacts}})
	all := b.List(at.Add(3 * time.Hour))
	byService := incident.ByService(all)
	if len(byService) != 2 || byService[1].Ref != "service/shop" || byService[1].Count != 2 {
		t.Fatalf("%+v", byService)
	}
	want := incident.Times{
		Ref: "service/shop", Count: 2, Detect: 3 * time.Second, Detected: 1, Acknowledge: 2 * time.Minute, Acknowledged: 1,
		Restore: 40 * time.Minute, Median: 40 * time.Minute, Restored: 1,
	}
	if byService[1] != want {
		t.Errorf("%+v", byService[1])
	}
	byCause := incident.ByCause(all)
	if len(byCause) != 2 || byCause[0].Ref != "component/db" || byCause[0].Median != 40*time.Minute || byCause[1].Restored != 0 {
		t.Errorf("%+v", byCause)
	}
	if _, err := b.Hold(at, "a", "ada", "late"); !errors.Is(err, incident.ErrResolved) {
		t.Error(err)
	}
}
