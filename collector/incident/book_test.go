package incident_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/pkg/health"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func newBook() *incident.Book {
	n := 0
	return incident.New(incident.Config{NewID: func(time.Time) string { n++; return fmt.Sprintf("i%d", n) }})
}

func bad(level health.Level, impacts ...incident.Impact) incident.Cause {
	return incident.Cause{Ref: "host/a", Host: "a", Condition: incident.Bad, Level: level, Title: "host a is overloaded", Detail: "cpu", Impacts: impacts}
}

func good() incident.Cause { return incident.Cause{Ref: "host/a", Condition: incident.Good} }

func at(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }

func TestLife(t *testing.T) {
	b := newBook()
	shop := incident.Impact{Service: "service/checkout", Level: health.Critical, Points: 1000, Money: 3600, Currency: "EUR"}
	got := b.Observe(at(0), []incident.Cause{bad(health.Major, shop), bad(health.Minor)})
	if len(got) != 1 || got[0].State != incident.Open || got[0].Level != health.Major {
		t.Fatalf("%+v", got)
	}
	if got := b.Observe(at(5), []incident.Cause{bad(health.Major, shop)}); len(got) != 0 {
		t.Fatalf("a cost alone is no change: %+v", got)
	}
	i, err := b.Acknowledge(at(6), "i1", "ann", "on it")
	if err != nil || i.State != incident.Acknowledged || i.AcknowledgedBy != "ann" {
		t.Fatal(i, err)
	}
	i, _ = b.ActionStarted(at(7), "i1", "act1", "cpu.weight 10 on component/batch")
	if i.State != incident.Mitigating {
		t.Fatal(i.State)
	}
	b.Observe(at(10), []incident.Cause{good()})
	b.Observe(at(30), []incident.Cause{good()}) // well, but the action still holds
	if i, _ = b.Get(at(30), "i1"); i.State != incident.Mitigating {
		t.Fatal(i.State)
	}
	i, _ = b.ActionEnded(at(31), "i1", "act1", "reverted")
	if i.State != incident.Acknowledged {
		t.Fatal(i.State)
	}
	got = b.Observe(at(32), []incident.Cause{good()})
	if len(got) != 1 || got[0].State != incident.Resolved {
		t.Fatalf("%+v", got)
	}
	// Ten seconds of a service worth 3600 EUR an hour.
	if c := got[0].Cost; math.Abs(c.Money["EUR"]-10) > 1e-9 || math.Abs(c.Points-1000.0/360) > 1e-9 {
		t.Fatal(c)
	}
	if _, err := b.Acknowledge(at(33), "i1", "ann", ""); !errors.Is(err, incident.ErrResolved) {
		t.Fatal(err)
	}
	if _, err := b.Get(at(33), "zz"); !errors.Is(err, incident.ErrNotFound) {
		t.Fatal(err)
	}
	// The same cause soon after is the same incident, later it is another.
	if got = b.Observe(at(40), []incident.Cause{bad(health.Critical)}); len(got) != 1 || got[0].ID != "i1" || got[0].Reopened != 1 {
		t.Fatalf("%+v", got)
	}
	b.Observe(at(41), []incident.Cause{good()})
	b.Observe(at(51), []incident.Cause{good()})
	if got = b.Observe(at(51+301), []incident.Cause{bad(health.Critical)}); len(got) != 1 || got[0].ID != "i2" {
		t.Fatalf("%+v", got)
	}
}

func TestUnknownNeitherOpensNorResolvesNorCosts(t *testing.T) {
	b := newBook()
	unknown := incident.Cause{Ref: "host/a"}
	if got := b.Observe(at(0), []incident.Cause{unknown}); len(got) != 0 {
		t.Fatal(got)
	}
	shop := incident.Impact{Service: "service/checkout", Level: health.Critical, Points: 3600}
	b.Observe(at(0), []incident.Cause{bad(health.Major, shop)})
	if got := b.Observe(at(10), nil); len(got) != 1 || got[0].Known {
		t.Fatalf("%+v", got)
	}
	for s := 11; s < 1000; s++ {
		if got := b.Observe(at(s), []incident.Cause{unknown}); len(got) != 0 {
			t.Fatal(got)
		}
	}
	i, _ := b.Get(at(1000), "i1")
	if i.State != incident.Open || math.Abs(i.Cost.Points-10) > 1e-9 {
		t.Fatal(i.State, i.Cost)
	}
}

func TestUnits(t *testing.T) {
	b := newBook()
	eur := incident.Impact{Service: "service/a", Level: health.Critical, Points: 100, Money: 50, Currency: "EUR"}
	plain := incident.Impact{Service: "service/b", Level: health.Major, Points: 10, Loss: map[health.Level]float64{health.Minor: 0.1, health.Critical: 1}}
	b.Observe(at(0), []incident.Cause{bad(health.Major, eur)})
	i, _ := b.Get(at(3600), "i1")
	if v, unit := i.PerHour(); v != 50 || unit != "EUR" {
		t.Fatal(v, unit)
	}
	if v, unit := i.Lost(); v != 50 || unit != "EUR" {
		t.Fatal(v, unit)
	}
	b.Observe(at(3600), []incident.Cause{bad(health.Major, eur, plain)})
	i, _ = b.Get(at(7200), "i1")
	if v, unit := i.PerHour(); v != 101 || unit != "points" {
		t.Fatal(v, unit)
	}
	if v, unit := i.Lost(); math.Abs(v-201) > 1e-9 || unit != "points" {
		t.Fatal(v, unit)
	}
}

// A service without any value has no say in the unit, what is spared is not counted, and what was lost is told in money when it is over too.
func TestUnitOfWhatIsOver(t *testing.T) {
	b := newBook()
	eur := incident.Impact{Service: "service/a", Level: health.Critical, Points: 100, Money: 50, Currency: "EUR"}
	none := incident.Impact{Service: "service/b", Level: health.Critical}
	spared := incident.Impact{Service: "service/c", Level: health.Critical, Points: 1000, Money: 700, Currency: "EUR", Spared: true}
	b.Observe(at(0), []incident.Cause{bad(health.Major, eur, none, spared)})
	i, _ := b.Get(at(3600), "i1")
	if v, unit := i.PerHour(); v != 50 || unit != "EUR" {
		t.Fatal(v, unit)
	}
	well := bad(health.Major)
	well.Condition = incident.Good
	b.Observe(at(3600), []incident.Cause{well})
	b.Observe(at(3700), []incident.Cause{well})
	i, _ = b.Get(at(3700), "i1")
	if v, unit := i.Lost(); v != 50 || unit != "EUR" || i.State != incident.Resolved {
		t.Fatal(v, unit, i.State)
	}
	if last := i.Timeline[len(i.Timeline)-1].What; last != "resolved after 1h1m40s; it cost 50.00 EUR" {
		t.Error(last)
	}
}

func TestRestartResolvesNothingAndRoundTrips(t *testing.T) {
	b := newBook()
	b.Observe(at(0), []incident.Cause{bad(health.Major, incident.Impact{Service: "service/a", Level: health.Critical, Points: 1})})
	before := b.List(at(5))
	blob, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var records []incident.Incident
	if err := json.Unmarshal(blob, &records); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, records); d != "" {
		t.Fatal(d)
	}
	b = newBook()
	if err := b.Load(records); err != nil {
		t.Fatal(err)
	}
	if got := b.Observe(at(9), nil); len(got) != 0 {
		t.Fatal(got)
	}
	got := b.Observe(at(10), []incident.Cause{bad(health.Major)})
	if len(got) != 1 || got[0].ID != "i1" || !got[0].Known {
		t.Fatalf("%+v", got)
	}
	records[0].Version = 2
	if err := b.Load(records); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Fatal(err)
	}
}

// Whatever happens, a cause has at most one incident that is not resolved, the cost never falls, and a timeline stays
// within its bound and in order.
func TestBookProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBook()
		now := 0
		cost := map[string]float64{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += rapid.SampledFrom([]int{1, 1, 2, 11, 400}).Draw(t, "dt")
			var causes []incident.Cause
			for _, ref := range []string{"host/a", "host/b"} {
				c := incident.Cause{Ref: ref, Condition: incident.Condition(rapid.IntRange(0, 2).Draw(t, "condition")), Level: health.Major, Title: "bad"}
				c.Impacts = []incident.Impact{{Service: "service/x", Level: health.Level(rapid.IntRange(0, 5).Draw(t, "level")), Points: 10}}
				causes = append(causes, c)
			}
			b.Observe(at(now), causes)
			open := map[string]int{}
			for _, i := range b.List(at(now)) {
				if i.State != incident.Resolved {
					open[i.Cause]++
				}
				if i.Cost.Points < cost[i.ID] {
					t.Fatalf("cost of %s fell from %v to %v", i.ID, cost[i.ID], i.Cost.Points)
				}
				cost[i.ID] = i.Cost.Points
				for k := 1; k < len(i.Timeline); k++ {
					if i.Timeline[k].At.Before(i.Timeline[k-1].At) {
						t.Fatal("timeline out of order")
					}
				}
				if len(i.Timeline) > 200 {
					t.Fatal(len(i.Timeline))
				}
			}
			for c, n := range open {
				if n > 1 {
					t.Fatalf("%d open incidents of %s", n, c)
				}
			}
		}
	})
}

// An objective that calls is told to an incident once, with its priority; what it opened alone is another matter once the cause is bad by itself.
func TestCalls(t *testing.T) {
	b := newBook()
	page := incident.Call{Objective: "slo/checkout", Over: "1h", Priority: 2}
	b.Observe(at(0), []incident.Cause{bad(health.Minor, incident.Impact{Service: "service/checkout", Criticality: 4, Level: health.Minor})})
	if i, err := b.Join(at(1), "i1", page, "it burns"); err != nil || i.Priority != 2 || len(i.Calls) != 1 {
		t.Fatalf("%+v, %v", i, err)
	}
	again, _ := b.Join(at(2), "i1", page, "it burns")
	told := 0
	for _, e := range again.Timeline {
		if e.What == "it burns" {
			told++
		}
	}
	if told != 1 || len(again.Calls) != 1 {
		t.Errorf("%+v", again)
	}
	if _, err := b.Join(at(2), "i9", page, "it burns"); !errors.Is(err, incident.ErrNotFound) {
		t.Error(err)
	}

	burns := incident.Cause{Ref: "service/shop", Condition: incident.Bad, Level: health.Warning, Title: "the budget burns", Call: &page, Impacts: []incident.Impact{{Service: "service/shop", Criticality: 1}}}
	opened := b.Observe(at(3), []incident.Cause{bad(health.Minor), burns})
	if len(opened) != 1 || !opened[0].Budget || opened[0].Priority != 2 || len(b.OfBudgets()) != 1 {
		t.Fatalf("%+v", opened)
	}
	itself := incident.Cause{Ref: "service/shop", Condition: incident.Bad, Level: health.Critical, Title: "it is critical", Detail: "says ann"}
	if got := b.Observe(at(4), []incident.Cause{bad(health.Minor), burns, itself}); len(got) != 1 || got[0].Budget || got[0].Level != health.Critical || len(b.OfBudgets()) != 0 {
		t.Fatalf("%+v", got)
	}
	for s := 5; s < 20; s++ {
		b.Observe(at(s), []incident.Cause{bad(health.Minor), {Ref: "service/shop", Condition: incident.Good}})
	}
	if _, err := b.Join(at(21), "i2", page, "it burns"); !errors.Is(err, incident.ErrResolved) {
		t.Error(err)
	}
	// Within five minutes it is the old one again, of the budget alone this time.
	if got := b.Observe(at(30), []incident.Cause{bad(health.Minor), burns}); len(got) != 1 || got[0].ID != "i2" || !got[0].Budget || got[0].Reopened != 1 {
		t.Fatalf("%+v", got)
	}
}

// What an incident bears out of the map is noted once, and borne out stays so.
func TestForetold(t *testing.T) {
	b := newBook()
	b.Observe(at(0), []incident.Cause{bad(health.Major)})
	for i, step := range []struct{ seen, news, is bool }{{false, true, false}, {false, false, false}, {true, true, true}, {false, false, true}} {
		_, news := b.Foretold(at(i+1), "i1", "service/a>component/b", step.seen)
		got, err := b.Get(at(i+1), "i1")
		if err != nil || news != step.news || len(got.Edges) != 1 || got.Edges[0].Seen != step.is || !got.Edges[0].Since.Equal(at(1)) {
			t.Errorf("step %d: new %v, %+v, %v", i, news, got.Edges, err)
		}
	}
	if _, news := b.Foretold(at(9), "i9", "service/a>component/b", true); news {
		t.Error("of an incident that is not there")
	}
}
