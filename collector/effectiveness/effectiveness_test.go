package effectiveness_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/effectiveness"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve}
spec: {steps: [{action: cpu.weight, to: 10}]}
---
apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: unused}
spec: {steps: [{action: cpu.weight, to: 10}]}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {criticality: 1, dependsOn: [{ref: component/web}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1]}, unit: web.service}
`

func now() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) }

func read(t testing.TB, set map[string]string) *picture.Picture {
	t.Helper()
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(model)}}, picture.Options{At: now(), Set: set})
	for _, x := range problems {
		t.Fatal(x)
	}
	return p
}

func days(n int) time.Time { return now().AddDate(0, 0, -n) }

func events(t testing.TB, p *picture.Picture, lines ...string) []effectiveness.Event {
	t.Helper()
	out, problems := effectiveness.Read(p, "o.csv", []byte("item,at,event\n"+strings.Join(lines, "\n")+"\n"))
	for _, x := range problems {
		t.Fatal(x)
	}
	return out
}

func find(r effectiveness.Review, item string) effectiveness.Item {
	for _, i := range r.Items {
		if i.Item == item {
			return i
		}
	}
	return effectiveness.Item{}
}

// The share of good outcomes is what the definition says, each outcome weighed by itself.
func TestAgainstTheDefinition(t *testing.T) {
	p := read(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		opt := effectiveness.Options{
			HalfLife: time.Duration(rapid.IntRange(1, 200).Draw(t, "half-life")) * 24 * time.Hour,
			Factor:   rapid.SampledFrom([]float64{0.25, 0.5, 1}).Draw(t, "factor"), Thin: 3, Changes: 2,
		}
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) effectiveness.Event {
			return effectiveness.Event{
				Item: "runbook/relieve", At: now().Add(-time.Duration(rapid.IntRange(0, 1000).Draw(t, "hours")*7919) * time.Second),
				What: rapid.SampledFrom([]string{"good", "good", "bad", "change", "confirmed"}).Draw(t, "what"),
			}
		}), 1, 20).Draw(t, "events")
		got := find(effectiveness.Of(p, list, opt), "runbook/relieve")
		good, all, outcomes := 0.0, 0.0, 0
		for i, e := range list {
			if e.What != "good" && e.What != "bad" {
				continue
			}
			outcomes++
			w := math.Pow(0.5, now().Sub(e.At).Hours()/opt.HalfLife.Hours())
			for k, c := range list {
				if c.What == "change" && (c.At.After(e.At) || c.At.Equal(e.At) && k > i) {
					w *= opt.Factor
				}
			}
			all += w
			if e.What == "good" {
				good += w
			}
		}
		if got.Outcomes != outcomes || math.Abs(got.Evidence-all) > 1e-5 {
			t.Fatalf("%+v, wanted a weight of %g", got, all)
		}
		looked := slices.ContainsFunc(list, func(e effectiveness.Event) bool { return e.What == "confirmed" && now().Sub(e.At) < opt.HalfLife })
		if outcomes == 0 {
			if got.Effectiveness != nil || got.Zone != effectiveness.Untold || !got.Due && !looked {
				t.Fatalf("%+v", got)
			}
			return
		}
		e := good / all
		if math.Abs(*got.Effectiveness-e) > 1e-5 || *got.Least > *got.Effectiveness+1e-6 || *got.Least < 0 {
			t.Fatalf("%+v, wanted %g", got, e)
		}
		// The bound is where the share lies just at the edge of what such a bound explains.
		if l := *got.Least; all > 0.05 && l > 1e-3 && math.Abs(math.Abs(e-l)-1.959964*math.Sqrt(l*(1-l)/all)) > 1e-3 {
			t.Fatalf("the bound is %g of %g over %g", l, e, all)
		}
		if all < opt.Thin && !looked && !strings.Contains(strings.Join(got.Why, " "), "thin") {
			t.Fatalf("%q", got.Why)
		}
	})
}

func TestQueue(t *testing.T) {
	p := read(t, map[string]string{"service/shop": "critical"})
	var list []effectiveness.Event
	add := func(item, what string, ages ...int) {
		for _, age := range ages {
			list = append(list, effectiveness.Event{Item: item, At: days(age), What: what})
		}
	}
	add("runbook/relieve", "good", 100, 99, 98, 97, 96, 95, 94, 93)
	add("runbook/relieve", "bad", 4, 3, 2)
	add("runbook/steady", "good", 1, 2, 3, 4, 5, 6)
	add("runbook/changed", "good", 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2)
	add("runbook/changed", "confirmed", 30)
	add("runbook/changed", "change", 20, 10, 1)
	add("service/shop>component/web", "bad", 1, 1, 1, 1, 1, 1)
	add("runbook/steady", "bad", -1) // is still to come
	got := effectiveness.Of(p, list, effectiveness.Defaults())
	var lines []string
	for _, i := range got.Items {
		lines = append(lines, i.Item+" "+i.Zone+": "+strings.Join(i.Why, "; "))
	}
	want := []string{
		"service/shop>component/web ineffective: it is ineffective: 0 % of the weight of its outcomes is good",
		"runbook/relieve partly: it was effective at 2026-08-22T10:00:00Z and is partly now",
		"runbook/unused unknown: no outcome of it is known",
		"runbook/changed effective: 3 changes since it was confirmed at 2026-10-26T10:00:00Z",
		"runbook/steady effective: ",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if len(got.Gaps) != 1 || got.Gaps[0].Service != "service/shop" {
		t.Errorf("%+v", got.Gaps)
	}
}

// A gap stays in the queue after the service is well again, until somebody has looked at it; one that is seen later is another one.
func TestGaps(t *testing.T) {
	p := read(t, nil)
	incidents := []incident.Incident{
		{ID: "I3", Cause: "service/gone", Level: health.Critical, GapAt: days(1)},
		{ID: "I2", Cause: "service/shop", Level: health.Critical, GapAt: days(2)},
		{ID: "I1", Cause: "service/shop", Level: health.Major, GapAt: days(9)},
		{ID: "I0", Cause: "component/web", Level: health.Major},
	}
	confirmed := func(age int) []effectiveness.Event {
		return []effectiveness.Event{{Item: "service/shop", At: days(age), What: effectiveness.Confirmed, By: "ann", Note: "orders need the bank"}}
	}
	p.Incidents = incidents
	bad := read(t, map[string]string{"service/shop": "critical"})
	bad.Incidents = incidents
	for _, tt := range []struct {
		name string
		p    *picture.Picture
		list []effectiveness.Event
		want string
	}{
		{"nobody has looked", p, nil, "service/shop false 2026-11-23T10:00:00Z I2"},
		{"before it was seen again", p, confirmed(5), "service/shop false 2026-11-23T10:00:00Z I2"},
		{"since", p, confirmed(1), ""},
		{"still to come", p, confirmed(-1), "service/shop false 2026-11-23T10:00:00Z I2"},
		{"bad now", bad, nil, "service/shop true 2026-11-23T10:00:00Z I2"},
		{"bad now, and known", bad, confirmed(1), ""},
	} {
		r := effectiveness.Of(tt.p, tt.list, effectiveness.Defaults())
		var got []string
		for _, g := range r.Gaps {
			got = append(got, fmt.Sprintf("%s %t %s %s", g.Service, g.Now, g.Seen, g.Incident))
		}
		if s := strings.Join(got, "; "); s != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, s, tt.want)
		}
		if find(r, "service/shop").Item != "" {
			t.Errorf("%s: a service is no item", tt.name)
		}
	}
}

// A confirmation says who it was, and what was found.
func TestConfirmed(t *testing.T) {
	got := find(effectiveness.Of(read(t, nil), []effectiveness.Event{{Item: "runbook/relieve", At: days(2), What: effectiveness.Confirmed, By: "ann", Note: "fine"}}, effectiveness.Defaults()), "runbook/relieve")
	if got.By != "ann" || got.Note != "fine" || got.Confirmed != "2026-11-23T10:00:00Z" {
		t.Errorf("%+v", got)
	}
}

// What somebody has looked at leaves the queue: for good until there is something new, and for want of evidence for a half-life.
func TestConfirmedLeavesTheQueue(t *testing.T) {
	p := read(t, nil)
	add := func(list []effectiveness.Event, what string, ages ...int) []effectiveness.Event {
		for _, age := range ages {
			list = append(list, effectiveness.Event{Item: "runbook/relieve", At: days(age), What: what})
		}
		return list
	}
	bad := add(nil, "bad", 20, 19, 18, 17, 16, 15, 14, 13)
	for _, tt := range []struct {
		name string
		list []effectiveness.Event
		due  bool
	}{
		{"never", nil, true},
		{"looked at", add(nil, "confirmed", 10), false},
		{"looked at long ago", add(nil, "confirmed", 91), true},
		{"ineffective", bad, true},
		{"ineffective, and looked at", add(bad, "confirmed", 12), false},
		{"ineffective again", add(add(bad, "confirmed", 12), "bad", 3), true},
		{"changed since", add(add(bad, "confirmed", 12), "change", 3, 2, 1), true},
	} {
		if got := find(effectiveness.Of(p, tt.list, effectiveness.Defaults()), "runbook/relieve"); got.Due != tt.due {
			t.Errorf("%s: due is %t: %v", tt.name, got.Due, got.Why)
		}
	}
}

func TestRead(t *testing.T) {
	p := read(t, nil)
	if got := events(t, p, "runbook/relieve,2026-11-01T00:00:00Z,good", "service/shop>component/web,2026-11-01T00:00:00Z,change"); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	_, problems := effectiveness.Read(p, "o.csv", []byte("item,at,event\nrunbook/none,,good\ncomponent/web,2026-11-01T00:00:00Z,god\nservice/shop>component/db,2026-11-01T00:00:00Z,bad\nservice/shop,2026-11-01T00:00:00Z,good\nservice/shop,2026-11-01T00:00:00Z,confirmed\n"))
	var got []string
	for _, x := range problems {
		got = append(got, x.String())
	}
	want := []string{
		"o.csv:2:14: at is missing",
		"o.csv:2:1: runbook/none is not among the manifests",
		`o.csv:3:36: "god" is not a value of event: expected good, bad, change, confirmed (did you mean "good"?)`,
		`o.csv:3:1: "component/web" is not a reference to a detector, runbook, remediationpolicy, service (expected such as detector/NAME)`,
		"o.csv:4:1: service/shop does not rest on component/db",
		"o.csv:5:35: good is not an event of a service: expected confirmed, of a gap of the map",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
