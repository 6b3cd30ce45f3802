package change_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/change"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 900, currency: EUR}, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {criticality: 2, dependsOn: [{ref: component/db}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2]}, unit: web.service}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h2]}, unit: db.service}
---
kind: Team
metadata: {name: ops}
spec: {contacts: [{name: A, phone: +49 30 1}]}
`

func at() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

func declared(name, ref, state string, hoursAgo, hours int) string {
	return fmt.Sprintf("---\nkind: Change\nmetadata: {name: %s}\nspec: {title: Release of %s, refs: [%s], owner: team/ops, state: %s, window: {timezone: UTC, start: '%s', duration: %dh}}\n",
		name, name, ref, state, at().Add(-time.Duration(hoursAgo)*time.Hour).Format("2006-01-02T15:04"), hours)
}

func read(t testing.TB, docs string, opt picture.Options) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(model+docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	opt.At = at()
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, opt)
	for _, x := range problems {
		t.Fatal(x, b.String())
	}
	return p
}

func TestChangesBeneathACause(t *testing.T) {
	p := read(t, declared("near", "component/db", "done", 3, 1)+declared("still", "component/web", "running", 1, 4)+declared("ahead", "component/db", "planned", -3, 1), picture.Options{
		Set: map[string]string{"component/db@h2": "critical"},
	})
	seen, problems := change.Read(p, "c.csv", []byte("at,on,kind,what\n2026-11-25T11:00:00Z,host/h2,boot,new boot\n2026-11-24T12:00:00Z,component/db@h2,package,postgresql 17.1 to 17.2\n"+
		"2026-11-25T11:30:00Z,component/web@h2,unit,web.service\n2026-11-25T11:59:00Z,component/web@h1,binary,/usr/bin/web\n2026-11-01T00:00:00Z,host/h2,boot,long ago\n2026-11-25T13:00:00Z,host/h2,boot,after\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p.Changes = append(seen, picture.Change{Host: "h2", Kind: "unit", What: "db.service", At: at().Add(-48 * time.Hour), Refs: []manifest.Ref{"component/db@h2"}})
	got, err := change.Of(p)
	if err != nil || len(got.Causes) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	var lines []string
	for _, b := range got.Causes[0].Changes {
		lines = append(lines, fmt.Sprintf("%s %s %s: %d below, %s before, %.2f", b.Kind, b.On, b.What, b.Distance, b.Before, b.Closeness))
	}
	want := []string{
		"planned component/db Release of near: 0 below, 7200s before, 0.94",
		"package component/db@h2 postgresql 17.1 to 17.2: 0 below, 86400s before, 0.50",
		"boot host/h2 new boot: 1 below, 3600s before, 0.49",
		"planned component/web Release of still: 2 below, 0s before, 0.33",
		"unit component/web@h2 web.service: 2 below, 1800s before, 0.33",
		"unit component/db@h2 db.service: 0 below, 172800s before, 0.25",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if got.Causes[0].SinceKnown {
		t.Error("nobody knows since when")
	}
}

// The hours before and after a change are counted one by one.
func TestVerdictIsEveryHour(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		begun, took := rapid.IntRange(2, 60).Draw(rt, "begun"), 0
		took = rapid.IntRange(1, begun).Draw(rt, "took")
		state := rapid.SampledFrom([]string{"done", "failed", "rolledBack"}).Draw(rt, "state")
		var rows strings.Builder
		rows.WriteString("ref,time,level,origin\n")
		bad := make([]bool, 120) // by hour, the last one ends now
		was := ""
		for h := range bad {
			how := rapid.SampledFrom([]string{"critical,own", "critical,planned", "ok,", "ok,"}).Draw(rt, "how")
			bad[h] = how == "critical,own" // what was planned is by no change's fault
			if how != was {
				fmt.Fprintf(&rows, "service/shop,%s,%s\n", at().Add(time.Duration(h-120)*time.Hour).Format(time.RFC3339), how)
			}
			was = how
		}
		p := read(t, declared("c", "component/web", state, begun, took), picture.Options{History: &manifest.File{Name: "h", Text: []byte(rows.String())}})
		got, err := change.Of(p)
		if err != nil || len(got.Done) != 1 {
			rt.Fatalf("%+v, %v", got, err)
		}
		length := min(24, begun-took)
		before, after := 0, 0
		for i := range length {
			if bad[120-begun-1-i] {
				before++
			}
			if bad[120-begun+took+i] {
				after++
			}
		}
		want := map[bool]string{true: change.Worse, false: change.Better}[after > before]
		switch {
		case length == 0:
			want = change.Unknown
		case after == before:
			want = change.Same
		}
		v := got.Done[0]
		if v.Verdict != want || v.Before.Bad != fmt.Sprintf("%ds", before*3600) || v.After.Bad != fmt.Sprintf("%ds", after*3600) || v.After.Cost["EUR"] != manifest.Decimal(after*900_000_000) {
			rt.Fatalf("%+v; wanted %s of %d and %d hours", v, want, before, after)
		}
		failed := map[bool]int{true: 1}[state != "done"]
		for _, r := range got.Rates {
			if r.Finished != 1 || r.Failed != failed || r.Rate != float64(failed) || (r.Worse == 1) != (state == "done" && want == change.Worse) {
				rt.Fatalf("%+v", r)
			}
		}
	})
}

func TestRates(t *testing.T) {
	p := read(t, declared("a", "component/db", "done", 30, 1)+declared("b", "component/db", "failed", 40, 1)+declared("c", "component/web", "rolledBack", 50, 1)+declared("d", "component/web", "running", 1, 4), picture.Options{})
	got, err := change.Of(p)
	if err != nil {
		t.Fatal(err)
	}
	want := []change.Rate{
		{Ref: "service/api", Finished: 2, Failed: 1, Rate: 0.5},
		{Ref: "service/shop", Finished: 3, Failed: 2, Rate: math.Round(2e6/3) / 1e6},
		{Ref: "team/ops", Finished: 3, Failed: 2, Rate: math.Round(2e6/3) / 1e6},
	}
	if diff := cmp.Diff(want, got.Rates); diff != "" {
		t.Error(diff)
	}
	if len(got.Done) != 3 || got.Done[0].Change != "change/a" || len(got.Done[0].Unseen) != 2 || got.Done[0].Verdict != change.Unknown {
		t.Errorf("%+v", got.Done)
	}
}

// A declared change is judged like a planned one, while it is young; one that was observed is not.
func TestDeclaredIsJudged(t *testing.T) {
	history := "ref,time,level\nservice/shop," + at().Add(-100*time.Hour).Format(time.RFC3339) + ",ok\nservice/shop," + at().Add(-10*time.Hour).Format(time.RFC3339) + ",critical\n"
	p := read(t, "", picture.Options{History: &manifest.File{Name: "h", Text: []byte(history)}})
	ago := func(hours int, kind, state string, refs ...manifest.Ref) picture.Change {
		return picture.Change{ID: fmt.Sprint("c", hours), At: at().Add(-time.Duration(hours) * time.Hour), Kind: kind, State: state, What: "release", Refs: refs}
	}
	p.Changes = []picture.Change{
		ago(31*24, "declared", "done", "component/web"), ago(40, "declared", "rolledBack", "component/web"), ago(20, "package", "", "component/web"),
		ago(12, "declared", "", "component/web"), ago(11, "declared", ""), ago(-1, "declared", "", "component/web"),
	}
	got, err := change.Of(p)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range got.Done {
		lines = append(lines, fmt.Sprint(v.ID, " ", v.Title, " ", v.State, " ", v.Verdict, " ", v.Before.Bad, " ", v.After.Bad))
	}
	if diff := cmp.Diff([]string{"c12 release done worse 0s 36000s", "c40 release rolledBack same 0s 0s"}, lines); diff != "" {
		t.Error(diff)
	}
	shop := change.Rate{}
	for _, r := range got.Rates {
		if r.Ref == "service/shop" {
			shop = r
		}
	}
	if shop != (change.Rate{Ref: "service/shop", Finished: 2, Failed: 1, Worse: 1, Rate: 0.5}) {
		t.Errorf("%+v", got.Rates)
	}
}

func TestRead(t *testing.T) {
	_, problems := change.Read(read(t, "", picture.Options{}), "c.csv", []byte("at,on,kind,what\n,host/h9,boots,\n"))
	var got []string
	for _, x := range problems {
		got = append(got, x.String())
	}
	want := []string{
		`c.csv:2:10: "boots" is not a value of kind: expected declared, package, unit, boot, binary (did you mean "boot"?)`, "c.csv:2:16: what is missing",
		"c.csv:2:1: at is missing", "c.csv:2:2: host/h9 is not on the map",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
