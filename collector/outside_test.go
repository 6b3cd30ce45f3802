package collector

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/collector/poll"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const outsideMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec:
  criticality: 1
  value: {perHour: 12000, currency: EUR}
  dependsOn: [{ref: component/web}]
  indicators: [{name: orders, promql: 'orders', levels: {critical: '< 0.1'}, essential: true}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {source: {alertmanager: {matchLabels: {service: web}}}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: pay}
spec: {external: {check: 'https://pay.example/health'}}
`

// asks plays the poller: it answers what the decider wants to be asked.
func (w *world) answer(key string, a poll.Answer) {
	w.Helper()
	if err := w.decider.ask(w.Context(), func(time.Time) {
		if _, ok := w.decider.outside.asked[key]; !ok {
			w.Errorf("nobody asks %s", key)
		}
	}); err != nil {
		w.Fatal(err)
	}
	w.decider.answered(key, a)
	synctest.Wait()
}

func (w *world) signals() signalsBackend { return signalsBackend{&backend{decider: w.decider}} }

func (w *world) alert(id, status, severity string) {
	w.Helper()
	m, err := outside.ReadAlertmanager([]byte(`{"version":"4","alerts":[{"status":"` + status + `","fingerprint":"` + id + `","labels":{"alertname":"Slow","service":"web","severity":"` + severity + `"}}]}`))
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.signals().Alerts(w.Context(), outside.Alertmanager, m); err != nil {
		w.Fatal(err)
	}
}

func (w *world) level(ref manifest.Ref) string {
	w.Helper()
	r, ok := w.decider.snapshot.Load().Range(ref)
	if !ok {
		w.Fatalf("no %s", ref)
	}
	return servicemap.LevelText(r)
}

// After a restart an incident of a query waits for the query's answer, however long that takes.
func TestARestartResolvesNoIncidentOfAQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, outsideMap)
		w.answer("component/pay check", poll.Answer{State: poll.Down, Text: "503"})
		if got := w.incidents(); len(got) != 1 || got[0].Cause != "component/pay" {
			t.Fatalf("%+v", got)
		}
		time.Sleep(time.Second)
		w.stop()
		w = newWorld(t, store, "")
		defer w.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.incidents(); len(got) != 1 || got[0].State != incident.Open {
			t.Fatalf("%+v", got)
		}
		w.answer("component/pay check", poll.Answer{State: poll.Up, Text: "200"})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := w.incidents(); got[0].State != incident.Resolved {
			t.Fatalf("%+v", got)
		}
	})
}

// An alert goes through the map to a service, opens one incident, and resolves it when it is over.
func TestAnAlertBecomesAnIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), outsideMap)
		defer w.stop()
		w.answer("service/shop indicator/orders", poll.Answer{Values: []float64{7}})
		if got := w.level("service/shop"); got != "unknown" {
			t.Errorf("before anything was heard the shop is %s", got)
		}
		w.alert("f1", "firing", "critical")
		if w.level("component/web") != "critical" || w.level("service/shop") != "critical" {
			t.Errorf("web is %s, shop %s", w.level("component/web"), w.level("service/shop"))
		}
		open := w.incidents()
		if len(open) != 1 || open[0].Cause != "component/web" || open[0].Title != "component/web is critical, says alertmanager" ||
			!strings.Contains(open[0].Timeline[0].What, "Slow since") || len(open[0].Services) != 1 {
			t.Fatalf("%+v", open)
		}
		// The shop's own measure falls too: that is what the part does to it, and no second incident.
		w.answer("service/shop indicator/orders", poll.Answer{Values: []float64{0}})
		if open := w.incidents(); len(open) != 1 {
			t.Fatalf("%+v", open)
		}
		w.answer("service/shop indicator/orders", poll.Answer{Values: []float64{7}})
		w.alert("f1", "resolved", "critical")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := w.incidents(); w.level("service/shop") != "ok" || got[0].State != incident.Resolved {
			t.Errorf("shop is %s, %+v", w.level("service/shop"), got)
		}
		// A sender that falls silent makes nothing green and nothing bad.
		time.Sleep(outside.DefaultWithin)
		synctest.Wait()
		if w.level("component/web") != "unknown" || len(w.incidents()) != 1 {
			t.Errorf("web is %s, %+v", w.level("component/web"), w.incidents())
		}
	})
}

// All parts green and orders at zero: the service is critical, the cause is not in the map, and the gap is on the incident.
// The health of a service over time is kept, with whose doing it was.
func TestHealthOfServicesIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), outsideMap)
		defer w.stop()
		w.answer("service/shop indicator/orders", poll.Answer{Values: []float64{7}})
		w.alert("1", "firing", "critical")
		synctest.Wait()
		time.Sleep(2 * time.Second)
		w.alert("1", "resolved", "critical")
		time.Sleep(2 * time.Second)
		var past []string
		for _, r := range w.decider.history.Rows() {
			if r.Ref == "service/shop" {
				past = append(past, slo.HealthText(r.Health)+" "+r.Origin.String())
			}
		}
		if got := strings.Join(past, ", "); !strings.HasSuffix(got, "critical own, ok unknown") {
			t.Errorf("history %s", got)
		}
	})
}

func TestAllPartsGreenAndOrdersAtZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), outsideMap)
		defer w.stop()
		w.alert("f0", "resolved", "critical")
		w.answer("service/shop indicator/orders", poll.Answer{Values: []float64{0}})
		if w.level("component/web") != "ok" || w.level("service/shop") != "critical" {
			t.Fatalf("web is %s, shop %s", w.level("component/web"), w.level("service/shop"))
		}
		open := w.incidents()
		if len(open) != 1 || open[0].Cause != "service/shop" || open[0].Title != "service/shop is critical and all its parts are well: the cause is not in the map" {
			t.Fatalf("%+v", open)
		}
		gaps := 0
		for _, e := range open[0].Timeline {
			if strings.HasPrefix(e.What, "gap in the map, for review: the cause is not in the map: the one part of service/shop, component/web, is well") {
				gaps++
			}
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if after := w.incidents(); gaps != 1 || len(after[0].Timeline) != len(open[0].Timeline) {
			t.Errorf("%d gaps: %+v", gaps, after[0].Timeline)
		}
		if lost, unit := w.incidents()[0].Lost(); lost <= 0 || unit != "EUR" {
			t.Errorf("lost %g %s", lost, unit)
		}
		// A query without an answer says nothing: the incident stays, and its cause is unknown.
		w.answer("service/shop indicator/orders", poll.Answer{Err: context.DeadlineExceeded})
		if got := w.incidents(); got[0].State != incident.Open || got[0].Known || w.level("service/shop") != "unknown" {
			t.Errorf("shop is %s, %+v", w.level("service/shop"), got[0])
		}
	})
}

func TestAnExternalPartIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), outsideMap)
		defer w.stop()
		for _, c := range []struct {
			state poll.State
			want  string
		}{{poll.Up, "ok"}, {poll.Unsure, "unknown"}, {poll.Down, "critical"}} {
			w.answer("component/pay check", poll.Answer{State: c.state, Text: "503"})
			if got := w.level("component/pay"); got != c.want {
				t.Errorf("%d: %s", c.state, got)
			}
		}
	})
}

// What was set by hand opens an incident, and ends it by its own end or by being taken back, where nothing else measures the part.
func TestWhatIsTakenBackEndsItsIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), strings.Replace(outsideMap, "  indicators: [{name: orders, promql: 'orders', levels: {critical: '< 0.1'}, essential: true}]\n", "", 1)+
			"---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: san}\n")
		defer w.stop()
		set := func(ref, level, length string) {
			t.Helper()
			h, err := w.signals().Check(t.Context(), ref, level, "", length, "ann", "a drill")
			if err == nil {
				err = w.signals().Set(t.Context(), h)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.alert("f0", "resolved", "major")
		set("service/shop", "major", "1h")
		set("component/san", "critical", "1m")
		if why, err := w.signals().Tell(t.Context(), "ci", []outside.Posted{{Ref: "component/pay", Level: "minor"}}); err != nil || why[0] != nil {
			t.Fatal(why, err)
		}
		states := func() map[string]incident.State {
			out := map[string]incident.State{}
			for _, i := range w.incidents() {
				out[i.Cause] = i.State
			}
			return out
		}
		if got := states(); got["service/shop"] != incident.Open || got["component/san"] != incident.Open || got["component/pay"] != incident.Open {
			t.Fatalf("%v", got)
		}
		if _, err := w.signals().Unset(t.Context(), "service/shop"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := states(); got["service/shop"] != incident.Resolved || got["component/san"] != incident.Open {
			t.Errorf("%v", got)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if got := states(); got["component/san"] != incident.Resolved || got["component/pay"] != incident.Open {
			t.Errorf("%v", got)
		}
		// A signal that is merely over resolves nothing.
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := states(); got["component/pay"] != incident.Open {
			t.Errorf("%v", got)
		}
	})
}

// What was said, and what was set by hand, is there after a restart, and ends as it would have.
func TestWhatWasSaidSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		w := newWorld(t, store, outsideMap+"---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: tape}\nspec: {source: {signal: backup}}\n")
		w.alert("f1", "firing", "major")
		if why, err := w.signals().Tell(t.Context(), "ci", []outside.Posted{{Signal: "backup", Level: "ok", TTL: "1h"}}); err != nil || why[0] != nil {
			t.Fatal(why, err)
		}
		h, err := w.signals().Check(t.Context(), "component/pay", "minor", "", "2h", "ann", "known")
		if err == nil {
			err = w.signals().Set(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		w.stop()
		time.Sleep(time.Minute)
		w = newWorld(t, store, "")
		defer w.stop()
		for ref, want := range map[manifest.Ref]string{"component/web": "major", "component/tape": "ok", "component/pay": "minor"} {
			if got := w.level(ref); got != want {
				t.Errorf("%s is %s, want %s", ref, got, want)
			}
		}
		hands, err := w.signals().Hands(t.Context())
		if err != nil || len(hands) != 1 || hands[0].By != "ann" {
			t.Fatal(hands, err)
		}
		if _, err := w.signals().Unset(t.Context(), "component/pay"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.signals().Unset(t.Context(), "component/pay"); err == nil {
			t.Error("unset twice")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for ref, want := range map[manifest.Ref]string{"component/web": "unknown", "component/tape": "unknown", "component/pay": "unknown"} {
			if got := w.level(ref); got != want {
				t.Errorf("an hour later %s is %s, want %s", ref, got, want)
			}
		}
	})
}

// A part whose failure is made good above it hits nothing, also while the service is bad by somebody else's doing: no loss is told twice.
func TestWhatIsMadeGoodHitsNothing(t *testing.T) {
	const twins = `---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: twins}
spec: {health: {rule: best}, dependsOn: [{ref: component/one}, {ref: component/two}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: one}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: two}
`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), strings.Replace(outsideMap, "[{ref: component/web}]", "[{ref: component/web}, {ref: component/pay}, {ref: service/twins}]", 1)+twins)
		defer w.stop()
		set := func(ref, level string) {
			t.Helper()
			h, err := w.signals().Check(t.Context(), ref, level, "", "1h", "ann", "a drill")
			if err == nil {
				err = w.signals().Set(t.Context(), h)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		told := func() map[string]string {
			time.Sleep(time.Hour / 4)
			synctest.Wait()
			out := map[string]string{}
			for _, i := range w.incidents() {
				lost, unit := i.Lost()
				out[i.Cause] = fmt.Sprint(i.Services, " ", i.Priority, " ", incident.FormatCost(lost, unit))
			}
			return out
		}
		set("component/two", "ok")
		set("component/one", "critical")
		if got := told(); got["component/one"] != "[] P4 0.00 points" {
			t.Errorf("%v", got)
		}
		set("component/pay", "critical")
		if got := told(); got["component/one"] != "[] P4 0.00 points" || got["component/pay"] != "[service/shop] P1 3000.00 EUR" {
			t.Errorf("%v", got)
		}
		set("component/two", "critical")
		if got := told(); got["component/one"] != "[service/shop service/twins] P1 3000.00 EUR" || got["component/pay"] != "[service/shop] P1 6000.00 EUR" {
			t.Errorf("%v", got)
		}
	})
}

// An incident that a person opened by setting a level ends when that is taken back, though nothing else is known of the part; one that an alert
// opened does not, when its sender has fallen silent.
func TestWhatWasOnlySetIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, alerted := range []bool{false, true} {
			w := newWorld(t, state.NewMemory(), outsideMap)
			if alerted {
				w.alert("f1", "firing", "critical")
				time.Sleep(15 * time.Minute) // nobody speaks
			}
			h, err := w.signals().Check(t.Context(), "component/web", "critical", "", "1h", "ann", "a drill")
			if err == nil {
				err = w.signals().Set(t.Context(), h)
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if i := w.incidents(); len(i) != 1 || i[0].State != incident.Open {
				t.Fatalf("alerted %t: %+v", alerted, i)
			}
			if _, err := w.signals().Unset(t.Context(), "component/web"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			want := incident.Resolved
			if alerted {
				want = incident.Open
			}
			if i := w.incidents(); len(i) != 1 || i[0].State != want || w.level("component/web") != "unknown" {
				t.Errorf("alerted %t: %+v", alerted, i)
			}
			w.stop()
		}
	})
}
