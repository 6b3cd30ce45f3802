package collector

import (
	"log/slog"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// What is asked of a component by a signal of units is answered by its unit, or by its cgroup where that is no unit of
// systemd; what is asked of the host, or of a component that runs nowhere, is not.
func TestLastOfAComponentsUnit(t *testing.T) {
	set, err := overload.Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(time.Now, set, slog.New(slog.DiscardHandler))
	h := f.host("a")
	for i, unit := range []string{"web.service", "/jobs/batch"} {
		h.engine.Bind(i, &metric.Desc{
			Name: "evenkeel_unit_pressure_memory_waiting_seconds_total", Labels: []metric.Label{{Name: "unit", Value: unit}}, Scale: metric.Scale{Div: 1_000_000}, Group: 1,
		})
	}
	at := time.Now()
	h.engine.Step(at, 2, []int64{0, 0})
	h.engine.Step(at.Add(time.Second), 2, []int64{250_000, 500_000})
	h.places["component/web"] = session.Place{Cgroup: "/system.slice/web.service"}
	h.places["component/batch"] = session.Place{Cgroup: "/jobs/batch"}
	h.places["component/other"] = session.Place{}
	for subject, want := range map[string]float64{"component/web": 0.25, "component/batch": 0.5, "web.service": 0.25} {
		if got, ok := f.Last("a", "unit.pressure.memory", subject); !ok || got != want {
			t.Errorf("%s: %v %v, want %v", subject, got, ok, want)
		}
	}
	for _, subject := range []string{"component/other", "component/none", ""} {
		if got, ok := f.Last("a", "unit.pressure.memory", subject); ok {
			t.Errorf("%q has %v", subject, got)
		}
	}
}
