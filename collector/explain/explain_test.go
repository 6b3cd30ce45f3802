package explain_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/explain"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `
kind: Service
metadata: {name: shop}
spec: {title: Shop, criticality: 1, owner: team/web, value: {perHour: 900, currency: EUR, loss: {major: 0.5, critical: 1}}, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {criticality: 2, value: {perHour: 120, currency: EUR}, dependsOn: [{ref: component/db}]}
---
kind: Service
metadata: {name: wiki}
spec: {dependsOn: [{ref: component/db, propagate: 'decrease:1'}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2, h3]}, unit: web.service, health: {rule: quorum, quorum: {need: 2}}}
---
kind: Component
metadata: {name: db}
spec: {title: Database, hosts: {names: [h4]}, unit: db.service, owner: team/dba}
---
kind: Team
metadata: {name: web}
spec: {contacts: [{name: Ada, phone: +49 30 1}]}
---
kind: Team
metadata: {name: dba}
spec: {contacts: [{name: Bob, email: bob@example.org, hours: calendar/office}]}
---
kind: Calendar
metadata: {name: office}
spec: {timezone: UTC, default: 0, weekly: [{days: [mon..fri], from: 08:00, to: 18:00}]}
`

func draw(t testing.TB, opt picture.Options) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(model, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, opt)
	for _, x := range problems {
		t.Fatal(x)
	}
	return p
}

func noon() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) } // a Wednesday

func history(lines ...string) *manifest.File {
	return &manifest.File{Name: "h.csv", Text: []byte("ref,time,level\n" + strings.Join(lines, "\n") + "\n")}
}

// A part whose harm is hidden by something worse has a cost that is known: it adds nothing for now.
func TestAlertOfWhatIsHidden(t *testing.T) {
	const docs = `
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {value: {perHour: 900, currency: EUR}, dependsOn: [{ref: service/mail, propagate: 'decrease:1'}, {ref: component/db}]}
---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: mail}
spec: {dependsOn: [{ref: component/mx}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: mx}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
`
	for _, tt := range []struct {
		set  map[string]string
		want string
	}{
		{map[string]string{"component/mx": "critical", "component/db": "critical"}, "It adds nothing to the cost now: what rests on it and has a value is bad by something worse: service/shop."},
		{map[string]string{"component/mx": "critical"}, "At these levels nothing is lost; 900 EUR an hour is at risk."},
		{map[string]string{"component/mx": "minor"}, "At these levels nothing is lost; 900 EUR an hour is at risk."},
	} {
		p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(docs)}}, picture.Options{At: noon(), Set: tt.set})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		causes := explain.Of(p).Causes
		if got := causes[len(causes)-1]; got.Ref != "component/mx" || !strings.Contains(got.Alert, tt.want) {
			t.Errorf("%v: %s", tt.set, got.Alert)
		}
	}
}

// The paragraph says what, since when, which services, what it costs and whom to call.
func TestAlert(t *testing.T) {
	for name, tt := range map[string]struct {
		set     map[string]string
		at      time.Time
		history *manifest.File
		want    []string
	}{
		"part": {
			set: map[string]string{"component/db@h4": "critical"},
			history: history("service/shop,2026-11-25T08:00:00Z,critical", "service/shop,2026-11-25T09:00:00Z,ok",
				"service/shop,2026-11-25T11:40:00Z,minor", "service/shop,2026-11-25T11:50:00Z,critical"),
			want: []string{"Database (component/db@h4) is critical. It hits service/api (critical), service/shop (critical) and service/wiki (major). " +
				"It costs 900 EUR an hour. Call Bob of team/dba, bob@example.org: it owns component/db."},
		},
		"priced": {
			set:  map[string]string{"component/web@h1": "critical", "component/web@h2": "critical"},
			want: []string{"component/web@h1 is critical. It hits service/shop (critical). It costs 900 EUR an hour. Call Ada of team/web, +49 30 1: it owns service/shop, which rests on component/web@h1.", "component/web@h2 is critical. It hits service/shop (critical). It costs 900 EUR an hour. Call Ada of team/web, +49 30 1: it owns service/shop, which rests on component/web@h2."},
		},
		"at night": {
			set:  map[string]string{"component/db@h4": "minor"},
			at:   noon().Add(9 * time.Hour),
			want: []string{"Database (component/db@h4) is minor. It hits service/api (minor), service/shop (minor) and service/wiki (warning). At these levels nothing is lost; 900 EUR an hour is at risk. Nobody is to be reached now: team/dba: no contact is there now."},
		},
		"not on the map": {
			set:     map[string]string{"service/shop": "critical"},
			history: history("service/shop,2026-11-25T11:40:00Z,critical"),
			want:    []string{"Shop (service/shop) is critical since 2026-11-25T11:40:00Z. Nothing that it rests on is to blame: what is wrong is not on the map. It costs 900 EUR an hour. Call Ada of team/web, +49 30 1: it owns service/shop."},
		},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.at.IsZero() {
				tt.at = noon()
			}
			p := draw(t, picture.Options{Set: tt.set, At: tt.at, History: tt.history})
			var got []string
			for _, c := range explain.Of(p).Causes {
				got = append(got, c.Alert)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCauses(t *testing.T) {
	p := draw(t, picture.Options{
		At: noon(), Set: map[string]string{"component/db@h4": "critical", "component/web@h1": "unknown", "component/web@h2": "unknown"},
		History: history("service/api,2026-11-25T11:00:00Z,critical"),
	})
	got := explain.Of(p)
	if got.Unit != "EUR" || got.PerHour != "900" || len(got.Causes) != 1 || !slices.Equal(got.Unranked, []manifest.Ref{"service/wiki"}) {
		t.Errorf("%+v", got)
	}
	c := got.Causes[0]
	if len(c.Services) != 3 || c.Services[0].Since == nil || *c.Services[0].Since != "2026-11-25T11:00:00Z" || c.Services[1].Since != nil || c.Since != nil || c.NotOnMap {
		t.Errorf("%+v", c)
	}
	got = explain.Of(draw(t, picture.Options{At: noon(), Set: map[string]string{"component/web@h1": "unknown", "component/web@h2": "unknown"}}))
	if len(got.Causes) != 0 || !slices.Equal(got.Unsure, []manifest.Ref{"service/shop"}) || got.PerHour != "0" {
		t.Errorf("%+v", got)
	}
}

// What a part is said to hit is what gets worse when files say that it is critical; the rest of what rests on it stays as it is.
func TestImpactIsTheDifference(t *testing.T) {
	parts := []string{"component/web@h1", "component/web@h2", "component/db@h4", "component/web", "service/api"}
	rapid.Check(t, func(rt *rapid.T) {
		set := map[string]string{}
		for _, ref := range parts {
			if l := rapid.SampledFrom([]string{"", "", "ok", "minor", "critical", "unknown"}).Draw(rt, ref); l != "" {
				set[ref] = l
			}
		}
		ref := rapid.SampledFrom(append(parts, "host/h1", "host/h4")).Draw(rt, "ref")
		before := draw(t, picture.Options{At: noon(), Set: set})
		got, err := explain.ImpactOf(before, manifest.Ref(ref))
		if err != nil {
			rt.Fatal(err)
		}
		out := map[string][]string{"host/h1": {"component/web@h1"}, "host/h4": {"component/db@h4"}}[ref]
		if out == nil {
			out = []string{ref}
		}
		for _, x := range out {
			set[x] = "critical"
		}
		after := draw(t, picture.Options{At: noon(), Set: set})
		var hit []manifest.Ref
		for _, s := range after.Map.Graph().Services() {
			was, _ := before.Map.Range(s)
			if is, _ := after.Map.Range(s); is != was {
				hit = append(hit, s)
			}
		}
		var told []manifest.Ref
		for _, x := range got.Hit {
			told = append(told, x.Ref)
		}
		if !slices.Equal(hit, told) {
			rt.Fatalf("%s with %v: told %v, wanted %v", ref, set, told, hit)
		}
		if len(got.Hit)+len(got.Held) != len(after.Map.Graph().ServicesAbove(manifest.Ref(out[len(out)-1]))) {
			rt.Fatalf("hit %v, held %v", got.Hit, got.Held)
		}
		if (got.Adds != "0") != (got.Then != got.PerHour) {
			rt.Fatalf("%+v", got)
		}
	})
}

func TestImpact(t *testing.T) {
	p := draw(t, picture.Options{At: noon()})
	got, err := explain.ImpactOf(p, "component/web@h1")
	if err != nil || len(got.Hit) != 0 || got.Adds != "0" || len(got.Held) != 1 || !strings.Contains(got.Held[0].Why, "service/api") && !strings.Contains(got.Held[0].Why, "ok") {
		t.Errorf("a spare replica: %+v, %v", got, err)
	}
	p = draw(t, picture.Options{At: noon(), Set: map[string]string{"component/web@h2": "critical"}})
	got, err = explain.ImpactOf(p, "component/web@h1")
	if err != nil || len(got.Hit) != 1 || got.Adds != "900" || got.Unit != "EUR" || got.Hit[0].PerHour != "900" || len(got.Now) != 0 {
		t.Errorf("the last one to spare is gone: %+v, %v", got, err)
	}
	p = draw(t, picture.Options{At: noon(), Set: map[string]string{"component/db@h4": "critical"}})
	got, err = explain.ImpactOf(p, "component/db@h4")
	if err != nil || len(got.Hit) != 0 || !slices.Equal(got.Now, []manifest.Ref{"service/api", "service/shop", "service/wiki"}) || len(got.Held) != 3 {
		t.Errorf("critical already: %+v, %v", got, err)
	}
	if _, err := explain.ImpactOf(p, "component/bd"); err == nil || !strings.Contains(err.Error(), `component/bd is not on the map (did you mean "component/db"?)`) {
		t.Error(err)
	}
}

// Where an incident about the cause is open, it knows since when.
func TestSinceOfAnIncident(t *testing.T) {
	p := draw(t, picture.Options{At: noon(), Set: map[string]string{"component/db@h4": "critical"}})
	opened := noon().Add(-time.Hour)
	for _, tt := range []struct {
		began, resolved time.Time
		want            string
	}{
		{time.Time{}, time.Time{}, "2026-11-25T11:00:00Z"},
		{opened.Add(-time.Minute), time.Time{}, "2026-11-25T10:59:00Z"},
		{time.Time{}, noon(), ""},
	} {
		p.Incidents = []incident.Incident{{Cause: "component/db@h4", OpenedAt: opened, BeganAt: tt.began, ResolvedAt: tt.resolved}}
		got := ""
		if since := explain.Of(p).Causes[0].Since; since != nil {
			got = *since
		}
		if got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
