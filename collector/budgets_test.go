package collector

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/poll"
	"github.com/evenkeel/evenkeel/collector/report"
	"github.com/evenkeel/evenkeel/collector/state"
)

// What is slow for a while is no more than a warning, which opens no incident; that it is so too often is what the objective is for.
const slowMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  criticality: 2
  value: {perHour: 600, currency: EUR, loss: {warning: 0.1, critical: 1}}
  dependsOn: [{ref: component/pay}]
  indicators: [{name: orders, promql: 'orders', levels: {warning: '< 2', critical: '< 0.1'}}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: pay}
spec: {external: {check: 'https://pay.example/health'}}
---
apiVersion: evenkeel/v1
kind: SLO
metadata: {name: quick}
spec: {service: service/shop, objective: 99%, window: {rolling: 28d}, bad: warning}
`

func (w *world) orders(rate float64) {
	w.Helper()
	w.answer("service/shop indicator/orders", poll.Answer{Values: []float64{rate}})
}

func (w *world) pay(s poll.State) {
	w.Helper()
	w.answer("component/pay check", poll.Answer{State: s, Text: "asked"})
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func lines(i incident.Incident, part string) (n int) {
	for _, e := range i.Timeline {
		if strings.Contains(e.What, part) {
			n++
		}
	}
	return n
}

// An objective whose budget burns too fast over both windows opens an incident on its service, of the priority that its severity has, and one that is
// at the edge neither closes it nor opens another.
func TestABudgetThatBurnsOpensAnIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, slowMap)
		w.pay(poll.Up)
		w.orders(7)
		w.pass(2 * time.Hour)
		w.orders(1)
		w.pass(8 * time.Minute)
		if got := w.incidents(); len(got) != 0 {
			t.Fatalf("before 2 %% of the budget are gone: %+v", got)
		}
		w.pass(20 * time.Second) // 13.44 times 1 % of an hour are 8 minutes and 4 seconds
		got := w.incidents()
		if len(got) != 1 || got[0].Cause != "service/shop" || got[0].Priority != 2 || got[0].State != incident.Open || got[0].Level.String() != "warning" ||
			got[0].Title != "the error budget of service/shop burns too fast, by slo/quick" || !strings.Contains(got[0].Timeline[0].What, ": over 1h and 5m at 13.6 and 100 times the rate that lasts, beyond the 13.4 of a page") || !strings.Contains(got[0].Timeline[0].What, "; now it is warning, by itself") {
			t.Fatalf("%+v", got)
		}
		if rate, unit := got[0].PerHour(); rate != 60 || unit != "EUR" {
			t.Errorf("it costs %v %s an hour", rate, unit)
		}
		w.orders(7)
		w.pass(2 * time.Minute) // the short window is at 60
		if got := w.incidents(); got[0].State != incident.Open {
			t.Fatalf("%+v", got)
		}
		// A restart neither closes it nor opens another.
		w.stop()
		w = newWorld(t, store, "", w.past)
		defer w.stop()
		w.pay(poll.Up)
		w.orders(7)
		w.pass(30 * time.Second)
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Open {
			t.Fatalf("after a restart: %+v", got)
		}
		if lines(w.incidents()[0], "service/shop is well") != 0 {
			t.Errorf("%+v", w.incidents())
		}
		w.pass(3 * time.Minute)
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Resolved || got[0].Priority != 2 {
			t.Fatalf("%+v", got)
		}
		p, err := w.decider.picture(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if faults := report.KnownFaults(p); len(faults) != 0 {
			t.Errorf("a budget is no fault of its own: %+v", faults)
		}
	})
}

// Where an incident hits the service already, the objective is told there, once, and opens none of its own; not either when it is over.
func TestABudgetJoinsWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), slowMap)
		defer w.stop()
		w.pay(poll.Up)
		w.orders(7)
		w.pass(2 * time.Hour)
		w.pay(poll.Down)
		w.pass(10 * time.Minute)
		got := w.incidents()
		if len(got) != 1 || got[0].Cause != "component/pay" || lines(got[0], "the error budget of slo/quick burns too fast: over") != 1 {
			t.Fatalf("%+v", got)
		}
		w.pay(poll.Up)
		w.pass(20 * time.Second)
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Resolved {
			t.Fatalf("it was mended: %+v", got)
		}
		w.pass(time.Minute)
		if got := w.incidents(); len(got) != 1 {
			t.Fatalf("the windows remember what was mended: %+v", got)
		}
		// But when it goes on otherwise, that is another matter.
		w.orders(1)
		w.pass(20 * time.Second)
		got = w.incidents()
		if len(got) != 2 || got[0].Cause != "service/shop" || !got[0].Budget {
			t.Fatalf("%+v", got)
		}
		// It is bad by itself now: the incident is that, and ends with it.
		w.orders(0)
		w.pass(2 * time.Second)
		if got := w.incidents(); len(got) != 2 || got[0].Budget || got[0].Level.String() != "critical" {
			t.Fatalf("%+v", got)
		}
		w.orders(7)
		w.pass(20 * time.Second)
		if got := w.incidents(); len(got) != 2 || got[0].State != incident.Resolved {
			t.Fatalf("%+v", got)
		}
	})
}

// Data that are missing call nobody, and an objective that is taken away closes what it opened.
func TestABudgetThatIsNotKnownToBurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), slowMap)
		defer w.stop()
		w.pay(poll.Up)
		w.orders(7)
		w.pass(2 * time.Hour)
		w.answer("service/shop indicator/orders", poll.Answer{Err: context.DeadlineExceeded})
		w.pass(time.Hour)
		if got := w.incidents(); len(got) != 0 {
			t.Fatalf("without data: %+v", got)
		}
		w.orders(1)
		w.pass(10 * time.Minute)
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Open {
			t.Fatalf("%+v", got)
		}
		if _, err := w.keeper.Delete(t.Context(), "slo", "quick"); err != nil {
			t.Fatal(err)
		}
		w.pass(15 * time.Second)
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Resolved {
			t.Fatalf("without its objective: %+v", got)
		}
	})
}

// What an incident has cost so far is not lost by a restart, though nothing about it changed for long.
func TestCostsOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, slowMap)
		w.orders(7)
		w.pay(poll.Down)
		w.pass(30*time.Minute + 30*time.Second)
		lost := func() float64 {
			got := w.incidents()
			if len(got) != 1 {
				t.Fatalf("%+v", got)
			}
			sum, _ := got[0].Lost()
			return sum
		}
		before := lost()
		w.stop()
		w = newWorld(t, store, "", w.past)
		defer w.stop()
		if after := lost(); before < 300 || after < before-10 || after > before {
			t.Errorf("%.2f EUR before, %.2f after", before, after)
		}
	})
}
