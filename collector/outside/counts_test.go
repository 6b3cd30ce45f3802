package outside_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/pkg/health"
)

// counts reads all numbers of a board that are not 0.
func counts(w *world) map[string]float64 {
	out := map[string]float64{}
	c := w.board.Counts()
	for _, f := range c.Families() {
		for _, labels := range f.Labels {
			if v := c.Read(f, labels); v != 0 {
				out[f.Name[len("evenkeel_outside_"):]+" "+labels] = v
			}
		}
	}
	return out
}

func TestCounts(t *testing.T) {
	w := newWorld(t, shop)
	want := map[string]float64{}
	expect := func(now time.Time, change map[string]float64) {
		t.Helper()
		w.state.Update(now, w.board.Flush(now)...)
		for name, v := range change {
			if want[name] = v; v == 0 {
				delete(want, name)
			}
		}
		got := counts(w)
		for name := range got {
			if got[name] != want[name] {
				t.Errorf("at %s %s is %v, want %v", now.Format("15:04:05"), name, got[name], want[name])
			}
		}
		for name := range want {
			if _, there := got[name]; !there {
				t.Errorf("at %s %s is 0, want %v", now.Format("15:04:05"), name, want[name])
			}
		}
	}
	expect(at(0), nil)
	w.tell(at(1), outside.Posted{Signal: "payments", Level: "ok", TTL: "1m"})
	w.tell(at(1), outside.Posted{Signal: "payments", Level: "ok", TTL: "1m"})
	if _, err := w.board.Tell(at(1), "ci", outside.Posted{Ref: "component/none", Level: "ok"}); err == nil {
		t.Error("taken")
	}
	expect(at(1), map[string]float64{`signals_total result="taken"`: 2, `signals_total result="refused"`: 1, `held source="signal"`: 1})
	for range 3 { // it ends once, and is held for a week
		expect(at(61), map[string]float64{`expired_total source="signal"`: 1})
	}
	w.tell(at(70), outside.Posted{Signal: "payments", Level: "ok", TTL: "1m"})
	expect(at(70), map[string]float64{`signals_total result="taken"`: 3})
	expect(at(131), map[string]float64{`expired_total source="signal"`: 2})
	w.tell(at(132), outside.Posted{Signal: "payments", Level: "gone"})
	expect(at(132), map[string]float64{`signals_total result="taken"`: 4, `held source="signal"`: 0})

	foreign := fires("f2", "critical", at(135))
	foreign.Labels["env"] = "test"
	w.alert(at(140), outside.Alertmanager, fires("f1", "critical", at(135)), foreign)
	w.alert(at(141), outside.Alertmanager, fires("f1", "critical", at(135)), over(fires("f3", "critical", at(135))))
	expect(at(141), map[string]float64{
		`alerts_total sender="alertmanager",result="firing"`: 3, `alerts_total sender="alertmanager",result="resolved"`: 1,
		`unmatched_alerts_total sender="alertmanager"`: 1, `held source="alertmanager"`: 2, `heard_time_seconds sender="alertmanager"`: float64(at(141).Unix()),
	})
	w.alert(at(142), outside.Alertmanager, over(fires("f1", "critical", at(142))))
	w.alert(at(142), outside.Alertmanager, fires("f1", "critical", at(135)))
	expect(at(142), map[string]float64{
		`alerts_total sender="alertmanager",result="resolved"`: 2, `alerts_total sender="alertmanager",result="late"`: 1,
		`held source="alertmanager"`: 1, `heard_time_seconds sender="alertmanager"`: float64(at(142).Unix()),
	})
	expect(at(142+300), map[string]float64{`expired_total source="alertmanager"`: 1}) // the sender is silent
	w.alert(at(450), outside.Alertmanager)
	expect(at(450), map[string]float64{`heard_time_seconds sender="alertmanager"`: float64(at(450).Unix())})

	w.board.Answer("component/queue", "promql", health.Exactly(health.OK), "3")
	w.board.Answer("component/queue", "promql", health.Unknown, "no answer")
	w.board.Answer("service/shop", "indicator/orders", health.Exactly(health.Major), "1")
	expect(at(451), map[string]float64{
		`answers_total source="promql",result="said"`: 1, `answers_total source="promql",result="unknown"`: 1, `answers_total source="indicator",result="said"`: 1,
	})
	h, err := w.board.Set(at(460), "component/web", "major", "", "1m", "ann", "a drill")
	if err != nil {
		t.Fatal(err)
	}
	w.board.Put(h)
	expect(at(460), map[string]float64{"set_levels_total ": 1, `held source="set"`: 1})
	expect(at(520), map[string]float64{`expired_total source="set"`: 1, `held source="set"`: 0})
}
