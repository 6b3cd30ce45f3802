package whatif_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/whatif"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The values are such that no amount of five minutes has to be rounded.
const model = `
kind: Service
metadata: {name: shop}
spec: {title: Shop, criticality: 1, value: {perHour: 900, currency: EUR, calendar: calendar/value, loss: {major: 0.5, critical: 1}}, dependsOn: [{ref: service/api}, {ref: component/web}]}
---
kind: Service
metadata: {name: api}
spec: {criticality: 2, value: {perHour: 120, currency: EUR}, dependsOn: [{ref: component/db}]}
---
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h1, h2, h3]}, unit: web.service, health: {rule: quorum, quorum: {need: 2}}}
---
kind: Component
metadata: {name: db}
spec: {hosts: {names: [h4]}, unit: db.service}
---
kind: Host
metadata: {name: h1}
---
kind: Team
metadata: {name: ops}
spec: {contacts: [{name: Ada, phone: '+49 30 1'}]}
`

func read(t testing.TB, docs string, opt picture.Options) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, opt)
	for _, x := range problems {
		t.Fatal(x, b.String())
	}
	return p
}

const slot = 5 * time.Minute

func begin() time.Time { return time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC) } // a Wednesday

// clock writes a time of day in slots from midnight.
func clock(n int) string { return fmt.Sprintf("%02d:%02d", n/12, n%12*5) }

func window(t *rapid.T, name string, most int) (from, to int) {
	from = rapid.IntRange(0, most-1).Draw(t, name+" from")
	return from, rapid.IntRange(from+1, most).Draw(t, name+" to")
}

// oracle knows every slot: what is lost in it with and without the change, in millionths of EUR an hour, and whether each service is bad.
type oracle struct {
	at      int
	loss    [2][]int64
	bad     [2]map[manifest.Ref][]bool
	past    map[manifest.Ref][]bool // before at: whether bad
	known   map[manifest.Ref]int    // the first slot of which something is known
	open    func(slot int) bool     // whether objectives count
	busy    [][2]int
	rolling int
}

// left returns what is left of half the window in slots, doubled, and what the change spends; at the end of a change from start.
func (o *oracle) left(ref manifest.Ref, start, length int) (twice, spent int) {
	for i := max(start+length-o.rolling, o.known[ref]); i < start+length; i++ {
		if !o.open(i) {
			continue
		}
		twice++
		with := i >= start
		var bad, otherwise bool
		switch {
		case i < o.at:
			bad = o.past[ref][i]
			otherwise = bad
		default:
			otherwise = o.bad[0][ref][i-o.at]
			if bad = otherwise; with {
				bad = o.bad[1][ref][i-o.at]
			}
		}
		if bad {
			twice -= 2
		}
		if bad && !otherwise {
			spent++
		}
	}
	return twice, spent
}

func (o *oracle) feasible(start, length int) bool {
	for _, b := range o.busy {
		if b[0] < start+length && b[1] > start {
			return false
		}
	}
	for ref := range o.past {
		if twice, spent := o.left(ref, start, length); spent > 0 && twice < 0 {
			return false
		}
	}
	return true
}

// lost returns what a change costs on top, in EUR.
func (o *oracle) lost(start, length int) *big.Rat {
	sum := new(big.Rat)
	for i := start - o.at; i < start-o.at+length; i++ {
		sum.Add(sum, big.NewRat(o.loss[1][i]-o.loss[0][i], 12_000_000))
	}
	return sum
}

// The window that is told is feasible, and no start of a scan is feasible and costs less; every slot is priced by package cause.
func TestCheapestAgainstAScan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const at, horizon = 36, 72 // the question is asked at 03:00 about the six hours from then
		docs := model + "---\nkind: Calendar\nmetadata: {name: value}\nspec: {timezone: UTC, default: " + rapid.SampledFrom([]string{"0", "1", "3"}).Draw(rt, "default") + ", weekly: ["
		for i := range rapid.IntRange(1, 4).Draw(rt, "windows") {
			from, to := window(rt, "value", 120)
			docs += fmt.Sprintf("{days: [mon..sun], from: '%s', to: '%s', factor: %d},", clock(from), clock(to), 2*i)
		}
		openFrom, openTo := window(rt, "hours", 120)
		docs += fmt.Sprintf("]}\n---\nkind: Calendar\nmetadata: {name: hours}\nspec: {timezone: UTC, default: 0, weekly: [{days: [mon..sun], from: '%s', to: '%s'}]}\n", clock(openFrom), clock(openTo))
		o := &oracle{at: at, past: map[manifest.Ref][]bool{}, known: map[manifest.Ref]int{}, rolling: rapid.IntRange(12, 40).Draw(rt, "rolling")}
		byHours := rapid.Bool().Draw(rt, "by hours")
		o.open = func(i int) bool { return !byHours || i >= openFrom && i < openTo }
		history := "ref,time,level\n"
		for _, name := range []string{"shop", "api"} {
			ref := manifest.Ref("service/" + name)
			hours := ""
			if byHours {
				hours = ", hours: calendar/hours"
			}
			docs += fmt.Sprintf("---\nkind: SLO\nmetadata: {name: %s}\nspec: {service: %s, objective: 50%%, window: {rolling: %s}%s}\n", name, ref, manifest.Duration(o.rolling)*manifest.Duration(slot), hours)
			o.known[ref], o.past[ref] = rapid.IntRange(0, at-1).Draw(rt, "known"), make([]bool, at)
			bad := false
			for i := o.known[ref]; i < at; i++ {
				is := rapid.IntRange(0, 3).Draw(rt, "bad") == 0
				if i == o.known[ref] || is != bad {
					history += fmt.Sprintf("%s,%s,%s\n", ref, begin().Add(time.Duration(i)*slot).Format(time.RFC3339), map[bool]string{true: "critical", false: "ok"}[is])
				}
				bad = is
				o.past[ref][i] = is
			}
		}
		var maintenance *[2]int
		var changes [][2]int
		if rapid.Bool().Draw(rt, "maintenance") {
			// Of a part that the change takes out itself, which is no conflict but makes the map another one.
			from, to := window(rt, "maintenance", 120)
			maintenance = &[2]int{from, to}
			docs += fmt.Sprintf("---\nkind: Maintenance\nmetadata: {name: m}\nspec: {refs: [host/h1], reason: disks, owner: team/ops, window: {timezone: UTC, start: '2026-11-25T%s', end: '2026-11-25T%s'}}\n", clock(from), clock(to))
		}
		for i := range rapid.IntRange(0, 2).Draw(rt, "changes") {
			from, to := window(rt, "change", 120)
			docs += fmt.Sprintf("---\nkind: Change\nmetadata: {name: c%d}\nspec: {title: other, refs: [component/db], owner: team/ops, window: {timezone: UTC, start: '2026-11-25T%s', end: '2026-11-25T%s'}}\n", i, clock(from), clock(to))
			changes = append(changes, [2]int{from, to})
		}
		set := map[string]string{}
		for _, ref := range []string{"component/web@h2", "component/db@h4"} {
			if l := rapid.SampledFrom([]string{"", "", "", "major", "critical"}).Draw(rt, ref); l != "" {
				set[ref] = l
			}
		}
		take := rapid.SampledFrom([][]manifest.Ref{{"host/h1"}, {"component/db"}, {"host/h1", "component/web@h2"}, {"component/db@h4", "host/h1"}}).Draw(rt, "take")
		length := rapid.IntRange(1, 30).Draw(rt, "length")
		moment := func(i int) time.Time { return begin().Add(time.Duration(i) * slot) }
		opt := picture.Options{At: moment(at), Set: set, History: &manifest.File{Name: "h", Text: []byte(history)}}
		p := read(t, docs, opt)
		var ranges [2][]health.Range
		for with := range 2 {
			o.bad[with] = map[manifest.Ref][]bool{}
			for i := at; i < at+horizon+length; i++ {
				supposed := picture.Options{At: moment(i), Set: map[string]string{}}
				if with == 1 {
					out, err := p.Out(take...)
					if err != nil {
						rt.Fatal(err)
					}
					for _, ref := range out {
						supposed.Set[string(ref)] = "critical"
					}
				}
				q, problems := p.With(supposed)
				if len(problems) > 0 {
					rt.Fatal(problems)
				}
				o.loss[with] = append(o.loss[with], int64(cause.Loss(q.Map, "EUR", moment(i)).Money))
				shop, _ := q.Map.Range("service/shop")
				ranges[with] = append(ranges[with], shop)
				for ref := range o.past {
					r, _ := q.Map.Range(ref)
					o.bad[with][ref] = append(o.bad[with][ref], r.Low >= health.Major)
				}
			}
		}
		shop := -1 // a slot in which the change makes shop another one
		for i := range horizon {
			if ranges[0][i] != ranges[1][i] {
				shop = i
			}
		}
		if shop >= 0 || slices.ContainsFunc(take, func(ref manifest.Ref) bool { base, _ := ref.Member(); return base == "component/db" }) {
			o.busy = append(o.busy, changes...)
		}
		if shop >= 0 && maintenance != nil && !slices.Contains(take, "host/h1") {
			o.busy = append(o.busy, *maintenance)
		}

		from := rapid.IntRange(at, at+horizon-length).Draw(rt, "from")
		ask := whatif.Options{Take: take, From: moment(from), For: time.Duration(length) * slot, Horizon: horizon * slot}
		got, err := whatif.Of(p, ask)
		if err != nil {
			rt.Fatal(err, docs)
		}
		eur := func(d manifest.Decimal) *big.Rat { return big.NewRat(int64(d), 1_000_000) }
		if want := o.lost(from, length); eur(got.Lost["EUR"]).Cmp(want) != 0 {
			rt.Fatalf("lost %s, wanted %s\n%s", got.Lost["EUR"], want.FloatString(6), docs)
		}
		if want := o.feasible(from, length); got.Feasible != want {
			rt.Fatalf("feasible: told %v for %q, wanted %v\n%s\n%s", got.Feasible, got.Reasons, want, docs, history)
		}
		for start := at; start <= at+horizon-length; start++ {
			if !o.feasible(start, length) {
				continue
			}
			want := o.lost(start, length)
			if got.Cheapest == nil {
				rt.Fatalf("none told, and %s is feasible\n%s\n%s", moment(start), docs, history)
			}
			if eur(got.Cheapest.Lost["EUR"]).Cmp(want) > 0 {
				rt.Fatalf("told %s for %s EUR, and %s costs %s\n%s", got.Cheapest.From, got.Cheapest.Lost["EUR"], moment(start), want.FloatString(6), docs)
			}
		}
		if got.Cheapest == nil {
			return
		}
		if ask.From, err = time.Parse(time.RFC3339Nano, got.Cheapest.From); err != nil {
			rt.Fatal(err)
		}
		again, err := whatif.Of(p, ask)
		if err != nil || !again.Feasible || again.Lost["EUR"] != got.Cheapest.Lost["EUR"] || !got.Cheapest.Feasible {
			rt.Fatalf("%s is told to be the cheapest: %v, %+v", got.Cheapest.From, err, again)
		}
		if ask.From.Before(moment(at)) || ask.From.Add(ask.For).After(moment(at+horizon)) {
			rt.Fatalf("%s lies outside the horizon", got.Cheapest.From)
		}
	})
}

// A spare replica costs nothing until the one beside it is in maintenance; another change on the same part is a conflict.
func TestWhatMaintenanceMakesOfIt(t *testing.T) {
	docs := strings.Replace(model, ", calendar: calendar/value", "", 1) + `---
kind: Host
metadata: {name: h2}
---
kind: Maintenance
metadata: {name: patches}
spec: {refs: [host/h2], reason: patches, owner: team/ops, window: {timezone: UTC, start: '2026-11-25T02:00', end: '2026-11-25T03:00'}}
---
kind: Change
metadata: {name: release}
spec: {title: New release, refs: [component/web], owner: team/ops, window: {timezone: UTC, start: '2026-11-25T06:00', duration: 1h}}
---
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 95%, window: {calendar: week}}
`
	p := read(t, docs, picture.Options{At: begin(), Set: map[string]string{"component/web@h3": "critical"}})
	got, err := whatif.Of(p, whatif.Options{Take: []manifest.Ref{"component/web@h1"}, From: begin().Add(time.Hour), For: 90 * time.Minute, Horizon: 8 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got.Lost["EUR"].String() != "900" || got.Anyway["EUR"].String() != "450" || got.Feasible || len(got.Services) != 1 || len(got.Services[0].States) != 2 || len(got.Conflicts) != 1 || got.Conflicts[0].Ref != "maintenance/patches" {
		t.Errorf("%+v", got)
	}
	if b := got.Budgets; len(b) != 1 || b[0].Spent != (whatif.Spread{Low: "3600s", High: "3600s"}) || !b[0].Assumed || b[0].Budget != "30240s" || b[0].Left.Low != "24840s" {
		t.Errorf("%+v", got.Budgets)
	}
	if c := got.Cheapest; c == nil || c.From != "2026-11-25T00:00:00Z" || c.Lost["EUR"].String() != "1350" || !c.Exact || c.Saves["EUR"].String() != "-450" {
		t.Errorf("%+v", got.Cheapest)
	}
	opt, err := whatif.Declared(p, "change/release")
	if err != nil {
		t.Fatal(err)
	}
	if got, err = whatif.Of(p, opt); err != nil || !got.Feasible || got.From != "2026-11-25T06:00:00Z" || got.To != "2026-11-25T07:00:00Z" || len(got.Conflicts) != 0 {
		t.Errorf("a change is no conflict with itself: %+v, %v", got, err)
	}
	opt.Change = ""
	if got, err = whatif.Of(p, opt); err != nil || got.Feasible || len(got.Conflicts) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Bad time on both sides of the turn of a month is spent of two budgets.
func TestTwoWindowsOfAnObjective(t *testing.T) {
	docs := strings.Replace(model, ", calendar: calendar/value", "", 1) + "---\nkind: SLO\nmetadata: {name: api}\nspec: {service: service/api, objective: 99%, window: {calendar: month}}\n"
	at := time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)
	got, err := whatif.Of(read(t, docs, picture.Options{At: at}), whatif.Options{Take: []manifest.Ref{"component/db"}, From: at.Add(3 * time.Hour), For: 3 * time.Hour})
	if err != nil || len(got.Budgets) != 2 {
		t.Fatalf("%+v, %v", got.Budgets, err)
	}
	if a, b := got.Budgets[0], got.Budgets[1]; a.To != "2026-12-01T00:00:00Z" || a.Spent.High != "3600s" || b.From != a.To || b.Spent.High != "7200s" {
		t.Errorf("%+v", got.Budgets)
	}
}

func TestRefusals(t *testing.T) {
	p := read(t, strings.Replace(model, ", calendar: calendar/value", "", 1), picture.Options{At: begin()})
	db := []manifest.Ref{"component/db"}
	for want, opt := range map[string]whatif.Options{
		"take: say what is taken out":                                         {From: begin(), For: time.Hour},
		`take: component/bd is not on the map (did you mean "component/db"?)`: {Take: []manifest.Ref{"component/bd"}, From: begin(), For: time.Hour},
		"for: expected more than nothing and up to 366d":                      {Take: db, From: begin()},
		"from: 2026-11-24T23:59:59Z lies before the moment of the question":   {Take: db, From: begin().Add(-time.Second), For: time.Hour},
		"horizon: expected at least the length of the window, 1h":             {Take: db, From: begin(), For: time.Hour, Horizon: time.Minute},
		"levels: component/db is taken out and set to minor":                  {Take: db, Set: map[string]string{"component/db": "minor"}, From: begin(), For: time.Hour},
		`"bad" is not a level`:                                                {Set: map[string]string{"component/db": "bad"}, From: begin(), For: time.Hour},
	} {
		if _, err := whatif.Of(p, opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, wanted %s", err, want)
		}
	}
	if _, err := whatif.Declared(p, "change/x"); err == nil || err.Error() != "change: change/x is not there" {
		t.Error(err)
	}
	before, _ := p.Map.Range("service/shop")
	if _, err := whatif.Of(p, whatif.Options{Take: db, From: begin(), For: time.Hour, Horizon: 24 * time.Hour}); err != nil {
		t.Error(err)
	}
	if after, _ := p.Map.Range("service/shop"); before != after {
		t.Error("the picture was changed")
	}
}

// The later it begins, the less it costs, until it would overspend the error budget: the cheapest start is where just nothing is left.
func TestTheBudgetDecides(t *testing.T) {
	docs := model + `---
kind: Calendar
metadata: {name: value}
spec: {timezone: UTC, default: 0, weekly: [{days: [mon..sun], from: 00:00, to: 07:00}]}
---
kind: Calendar
metadata: {name: hours}
spec: {timezone: UTC, default: 0, weekly: [{days: [mon..sun], from: 08:00, to: 12:00}]}
---
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 97.5%, window: {calendar: week}, hours: calendar/hours}
`
	at := begin().Add(6*time.Hour + 30*time.Minute)
	got, err := whatif.Of(read(t, docs, picture.Options{At: at}), whatif.Options{Take: []manifest.Ref{"component/web"}, From: at, For: 2 * time.Hour, Horizon: 4 * time.Hour})
	if err != nil || got.Cheapest == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	// 28 hours a week leave 42 minutes: it may reach from 06:42 to 08:42.
	start, err := time.Parse(time.RFC3339Nano, got.Cheapest.From)
	if edge := begin().Add(6*time.Hour + 42*time.Minute); err != nil || start.After(edge) || edge.Sub(start) > time.Second {
		t.Errorf("%s, %v", got.Cheapest.From, err)
	}
	if lost := got.Cheapest.Lost["EUR"].Float(); lost < 270 || lost > 270.26 || !got.Cheapest.Exact {
		t.Errorf("%+v", got.Cheapest)
	}
}
