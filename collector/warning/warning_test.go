package warning_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/warning"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 900, currency: EUR, loss: {major: 0.5}}, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {dependsOn: [{ref: component/db, propagate: 'decrease:1'}, {ref: component/web, weight: 2}, {ref: component/mail}], health: {rule: RULE}}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2, h3]}, unit: web.service, health: {rule: quorum, quorum: {need: 2}}}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h1, h2]}, unit: db.service, health: {rule: best}}
---
kind: Component
metadata: {name: mail}
spec: {hosts: {names: [h3]}, unit: mail.service}
---
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 99%, window: {rolling: 28d}, bad: critical}
---
kind: SLO
metadata: {name: api}
spec: {service: service/api, objective: 99%, window: {rolling: 28d}, bad: minor}
`

func at() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

func read(t testing.TB, rule string, set map[string]string) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(strings.Replace(model, "RULE", rule, 1), "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, picture.Options{At: at(), Set: set})
	for _, x := range problems {
		t.Fatal(x)
	}
	return p
}

// Whatever is drawn, a service is breached at the first minute at which the map, drawn anew with all parts critical that are so by then, has it
// at its level; and wherever in their ranges the parts really fail, that lies within what was told.
func TestBreachesAreWhatEveryMinuteSays(t *testing.T) {
	leafs := []manifest.Ref{"component/web@h1", "component/web@h2", "component/web@h3", "component/db@h1", "component/db@h2", "component/mail@h3"}
	level := map[manifest.Ref]health.Level{"service/shop": health.Critical, "service/api": health.Minor}
	rapid.Check(t, func(rt *rapid.T) {
		rule := rapid.SampledFrom([]string{"worst", "score", "threshold, threshold: {share: 40%}", "exponential, exponential: {base: 2}", "quorum, quorum: {need: 2}"}).Draw(rt, "rule")
		set := map[string]string{}
		for _, ref := range leafs {
			if l := rapid.SampledFrom([]string{"", "", "", "minor", "critical", "unknown"}).Draw(rt, "now"); l != "" {
				set[string(ref)] = l
			}
		}
		p := read(t, rule, set)
		var list []warning.Forecast
		for _, ref := range leafs {
			for range rapid.IntRange(0, 2).Draw(rt, "forecasts") {
				lo := rapid.IntRange(0, 20).Draw(rt, "lo")
				f := warning.Forecast{Ref: ref, Lo: time.Duration(lo) * time.Minute, Hi: time.Duration(rapid.IntRange(lo, 30).Draw(rt, "hi")) * time.Minute}
				if rapid.IntRange(0, 4).Draw(rt, "never") == 0 {
					f.Hi = warning.Never
				}
				list = append(list, f)
			}
		}
		got, err := warning.Of(p, nil, list)
		if err != nil {
			rt.Fatal(err)
		}
		// when is the minute of the breach when each part fails at its time.
		when := func(service manifest.Ref, fails map[manifest.Ref]time.Duration) time.Duration {
			for m := range 31 {
				now := map[string]string{}
				for ref, d := range fails {
					if d <= time.Duration(m)*time.Minute {
						now[string(ref)] = "critical"
					}
				}
				q, problems := p.With(picture.Options{At: at(), Set: now})
				if len(problems) > 0 {
					rt.Fatal(problems)
				}
				// A part that was set is set anew by that: what it was before is not worse than critical.
				if r, _ := q.Map.Range(service); r.Low >= level[service] {
					return time.Duration(m) * time.Minute
				}
			}
			return warning.Never
		}
		lo, hi, some := map[manifest.Ref]time.Duration{}, map[manifest.Ref]time.Duration{}, map[manifest.Ref]time.Duration{}
		for _, f := range list {
			for times, d := range map[*map[manifest.Ref]time.Duration]time.Duration{&lo: f.Lo, &hi: f.Hi} {
				if old, ok := (*times)[f.Ref]; !ok || d < old {
					(*times)[f.Ref] = d
				}
			}
		}
		for ref := range lo {
			some[ref] = time.Duration(rapid.IntRange(int(lo[ref]/time.Minute), int(min(hi[ref], 40*time.Minute)/time.Minute)).Draw(rt, "really")) * time.Minute
		}
		for ref := range level {
			soonest, latest, really := when(ref, lo), when(ref, hi), when(ref, some)
			told := warning.Span{Low: text(soonest), High: text(latest)}
			i := slices.IndexFunc(got.Services, func(s warning.Service) bool { return s.Ref == ref })
			switch {
			case i < 0 && soonest != warning.Never:
				rt.Fatalf("%s is not told, and breached in %s", ref, soonest)
			case i >= 0 && got.Services[i].In != told:
				rt.Fatalf("%s: told %+v, wanted %+v", ref, got.Services[i], told)
			case i >= 0 && len(got.Services[i].Because) == 0:
				rt.Fatalf("%s: nothing is to blame", ref)
			}
			if really < soonest || really > latest {
				rt.Fatalf("%s is really breached in %s, and told was %s to %s", ref, really, soonest, latest)
			}
		}
	})
}

func text(d time.Duration) string {
	if d == warning.Never {
		return "never"
	}
	return slo.Seconds(d)
}

func TestTrend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(warning.LeastPoints, 30).Draw(t, "points")
		slope, level := float64(rapid.IntRange(-50, 50).Draw(t, "slope")), float64(rapid.IntRange(-100, 100).Draw(t, "level"))
		points := make([]warning.Point, n)
		wild := rapid.IntRange(0, n/4).Draw(t, "wild")
		for i := range points {
			points[i] = warning.Point{At: at().Add(time.Duration(i-n+1) * time.Second), Value: level + slope*float64(i-n+1)}
		}
		exact, ok := warning.TrendOf(points, at())
		if !ok || exact.Slope != slope || exact.Low != slope || exact.High != slope || math.Abs(exact.Now-level) > 1e-9 {
			t.Fatalf("%+v: wanted %g from %g", exact, slope, level)
		}
		for i := range wild {
			points[i*4].Value += 1e6
		}
		got, _ := warning.TrendOf(points, at())
		if got.Low > got.Slope || got.High < got.Slope || got.Low > slope || got.High < slope {
			t.Fatalf("%+v with %d wild of %d: the slope is %g", got, wild, n, slope)
		}
		// The oracle: the median of all pairs, sorted the plain way.
		var all []float64
		for i := range points {
			for k := range i {
				all = append(all, (points[i].Value-points[k].Value)/float64(i-k))
			}
		}
		slices.Sort(all)
		if want := (all[(len(all)-1)/2] + all[len(all)/2]) / 2; math.Abs(got.Slope-want) > 1e-9*max(1, math.Abs(want)) {
			t.Fatalf("%g, wanted %g", got.Slope, want)
		}
	})
}

func TestUntil(t *testing.T) {
	for _, c := range []struct {
		trend  warning.Trend
		limit  float64
		above  bool
		lo, hi time.Duration
	}{
		{warning.Trend{Slope: 1, Low: 0.5, High: 2, Now: 90}, 100, true, 5 * time.Second, 20 * time.Second},
		{warning.Trend{Slope: 1, Low: -0.5, High: 2, Now: 90}, 100, true, 5 * time.Second, warning.Never},
		{warning.Trend{Slope: -1, Low: -2, High: -0.5, Now: 10}, 0, false, 5 * time.Second, 20 * time.Second},
		{warning.Trend{Slope: -1, Low: -2, High: -0.5, Now: 10}, 100, true, warning.Never, warning.Never},
		{warning.Trend{Now: 100}, 100, true, 0, 0},
		{warning.Trend{Slope: 1e-12, Low: 1e-12, High: 1e-12}, 100, true, warning.Never, warning.Never},
	} {
		if lo, hi := c.trend.Until(c.limit, c.above); lo != c.lo || hi != c.hi {
			t.Errorf("%+v to %g: %s, %s", c.trend, c.limit, lo, hi)
		}
	}
}

// A slow leak is told before anything is bad.
func TestOf(t *testing.T) {
	p := read(t, "worst", nil)
	lines := "ref,series,time,value,limit\n"
	for i := range 24 {
		noise := []float64{0, 0.4, -0.3, 0.2}[i%4]
		for _, ref := range []string{"component/web@h1", "component/web@h2"} {
			lines += fmt.Sprintf("%s,memory,%s,%.2f,100\n", ref, at().Add(time.Duration(i-23)*time.Hour).Format(time.RFC3339), 40+float64(i)+noise)
		}
	}
	lines += "component/mail@h3,disk,2026-11-25T10:00:00Z,50,0\n"
	series, problems := warning.ReadSeries(p, "s.csv", []byte(lines))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got, err := warning.Of(p, series, nil)
	if err != nil || len(got.Series) != 3 || got.Series[2].Trend != nil || len(got.Parts) != 2 || len(got.Services) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	s := got.Services[1]
	earliest, err := time.Parse(time.RFC3339, s.Earliest)
	if err != nil || s.Ref != "service/shop" || s.Now || s.Breach != health.Critical || earliest.Before(at().Add(35*time.Hour)) || earliest.After(at().Add(37*time.Hour)) || s.PerHour["EUR"].String() != "450" {
		t.Errorf("%+v", s)
	}
	if !slices.Equal(s.Because, []manifest.Ref{"component/web@h1", "component/web@h2"}) {
		t.Errorf("%v", s.Because)
	}
}

func TestRead(t *testing.T) {
	p := read(t, "worst", nil)
	var got []string
	_, problems := warning.ReadForecasts(p, "f.csv", []byte("ref,soonest,latest\ncomponent/wbe,1h,2h\ncomponent/web@h1,2h,1h\ncomponent/web@h1,soon,never\n"))
	_, more := warning.ReadSeries(p, "s.csv", []byte("ref,series,time,value,limit\ncomponent/db@h1,,,x,NaN\ncomponent/db@h1,disk,2026-11-25T10:00:00Z,1,2\ncomponent/db@h1,disk,2026-11-25T11:00:00Z,1,3\n"))
	for _, x := range append(problems, more...) {
		got = append(got, x.String())
	}
	want := []string{
		"f.csv:2:1: component/wbe is not on the map",
		"f.csv:3:21: it comes before the soonest time",
		`f.csv:4:18: "soon" is not a duration: expected a number with a unit, such as 30s, 10m, 1h30m or 2d (or never)`,
		"s.csv:2:17: series is missing", "s.csv:2:18: time is missing", `s.csv:2:19: "x" is not a number up to 1e18`, `s.csv:2:21: "NaN" is not a number up to 1e18`,
		"s.csv:4:45: the rows of disk before it have another limit",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever files hold, they are read or told to be wrong, and what is read gives an answer.
func FuzzRead(f *testing.F) {
	f.Add("ref,series,time,value,limit\ncomponent/db@h1,disk,2026-11-25T10:00:00Z,1,2\ncomponent/db@h1,disk,2026-11-25T11:00:00Z,1e300,2\n", "ref,soonest,latest\ncomponent/web@h1,1h,never\n")
	p := read(f, "worst", nil)
	f.Fuzz(func(t *testing.T, measured, told string) {
		series, problems := warning.ReadSeries(p, "s.csv", []byte(measured))
		forecasts, more := warning.ReadForecasts(p, "f.csv", []byte(told))
		if len(problems)+len(more) > 0 {
			return
		}
		got, err := warning.Of(p, series, forecasts)
		if err == nil {
			_, err = json.Marshal(got)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
