package cause_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// A service that is bad while all its parts are known to be well has a cause that is not in the map; while some part is bad, or unknown,
// nobody can say so.
func TestNotInTheMap(t *testing.T) {
	for _, c := range []struct {
		name string
		set  map[manifest.Ref]string
		gap  bool
		text string
	}{
		{"all well", map[manifest.Ref]string{"service/api": "critical"}, true, "the cause is not in the map: the one part of service/api, component/db, is well; test says critical"},
		{"of two parts", map[manifest.Ref]string{"service/reports": "major"}, true, "the cause is not in the map: all 2 parts of service/reports are well; test says major"},
		{"a part is bad too", map[manifest.Ref]string{"service/api": "critical", "component/db@h4": "minor"}, false, "test says critical"},
		{"a part is unknown", map[manifest.Ref]string{"service/api": "critical", "component/db@h4": "unknown"}, false, "test says critical"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := cause.Find(state(t, shop, c.set).Snapshot(), time.Unix(0, 0))
			for _, x := range r.Causes {
				if x.Ref.Kind() == "service" && (x.NotInMap != c.gap || x.Text != c.text) {
					t.Errorf("%s: not in the map %t, %q", x.Ref, x.NotInMap, x.Text)
				}
				if x.Ref.Kind() != "service" && (x.NotInMap || x.Text != "test says "+x.Level.String()) {
					t.Errorf("%s: %+v", x.Ref, x)
				}
			}
			if len(r.Causes) == 0 {
				t.Error("no cause")
			}
		})
	}
	// The service above one with a gap is bad by that one, and has no gap of its own.
	r := cause.Find(state(t, shop, map[manifest.Ref]string{"service/api": "critical"}).Snapshot(), time.Unix(0, 0))
	if len(r.Causes) != 1 || r.Causes[0].Ref != "service/api" || len(r.Causes[0].Services) != 2 {
		t.Errorf("%+v", r.Causes)
	}
}
