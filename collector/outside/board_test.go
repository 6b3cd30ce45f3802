package outside_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func at(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }

const shop = `
kind: Service
metadata: {name: shop}
spec:
  criticality: 1
  dependsOn: [{ref: component/web}, {ref: component/db}, {ref: component/pay}, {ref: component/queue}]
  indicators: [{name: orders, promql: 'sum(rate(orders_total[5m]))', levels: {critical: '< 0.1', major: '< 2'}, essential: true}]
---
kind: Component
metadata: {name: web}
spec: {source: {alertmanager: {matchLabels: {service: web, env: prod}, levels: {P1: critical}, otherwise: minor, within: 5m}}}
---
kind: Component
metadata: {name: db}
spec: {source: {zabbix: {matchLabels: {host: db-1}}}}
---
kind: Component
metadata: {name: pay}
spec: {source: {signal: payments}}
---
kind: Component
metadata: {name: queue}
spec: {source: {promql: {query: queue_length, levels: {major: '> 100'}, every: 10s}}}
`

// world is a board and the map that it speaks to.
type world struct {
	testing.TB
	board *outside.Board
	set   *manifest.Set
	graph *servicemap.Graph
	state *servicemap.State
}

func parse(t testing.TB, docs string) *manifest.Set {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, nil)
	for _, p := range problems {
		t.Fatal(p)
	}
	return set
}

func newWorld(t testing.TB, docs string) *world {
	t.Helper()
	w := &world{TB: t, board: outside.NewBoard()}
	w.draw(docs)
	return w
}

func (w *world) draw(docs string) {
	w.Helper()
	w.set = parse(w, docs)
	var err error
	if w.graph, err = servicemap.New(w.set, nil); err != nil {
		w.Fatal(err)
	}
	if w.state == nil {
		w.state = servicemap.NewState(w.graph, servicemap.Options{})
	} else {
		w.state = w.state.Rebase(w.graph)
	}
	w.board.Draw(w.set, w.graph)
}

// see returns the health and the words of a node at a moment.
func (w *world) see(now time.Time, ref manifest.Ref) string {
	w.Helper()
	w.state.Update(now, w.board.Flush(now)...)
	n, ok := w.state.Snapshot().Node(ref)
	if !ok {
		w.Fatalf("no %s", ref)
	}
	return servicemap.LevelText(n.Range) + ": " + n.Why.Text
}

func (w *world) expect(now time.Time, ref manifest.Ref, want string) {
	w.Helper()
	if got := w.see(now, ref); got != want {
		w.Errorf("at %s %s\n got %s\nwant %s", now.Format("15:04:05"), ref, got, want)
	}
}

func (w *world) tell(now time.Time, p outside.Posted) {
	w.Helper()
	if _, err := w.board.Tell(now, "ci", p); err != nil {
		w.Fatal(err)
	}
}

func (w *world) alert(now time.Time, sender outside.Sender, alerts ...outside.Alert) outside.Taken {
	w.Helper()
	taken, err := w.board.Alerts(now, sender, alerts)
	if err != nil {
		w.Fatal(err)
	}
	return taken
}

func fires(id, severity string, since time.Time) outside.Alert {
	return outside.Alert{
		ID: id, Firing: true, Since: since, Text: "it is slow",
		Labels: map[string]string{"alertname": "Slow", "service": "web", "env": "prod", "severity": severity},
	}
}

func over(a outside.Alert) outside.Alert { a.Firing = false; return a }

func TestASignalCountsUntilItsEndAndThenNothingIsKnown(t *testing.T) {
	w := newWorld(t, shop)
	w.expect(at(0), "component/pay", "unknown: no data")
	w.tell(at(0), outside.Posted{Signal: "payments", Level: "ok", Text: "3 of 3 paid"})
	w.tell(at(0), outside.Posted{Ref: "component/pay", Level: "minor", Source: "probe", TTL: "1m"})
	w.expect(at(1), "component/pay", "minor: signal/probe says minor")
	w.expect(at(59), "component/pay", "minor: signal/probe says minor")
	w.expect(at(60), "component/pay", "unknown: signal/probe says unknown (no word since 2026-11-25T12:00:00Z)")
	w.tell(at(61), outside.Posted{Ref: "component/pay", Level: "gone", Source: "probe"})
	w.expect(at(61), "component/pay", "ok: signal/ci says ok (3 of 3 paid)")
	w.expect(at(300), "component/pay", "unknown: signal/ci says unknown (no word since 2026-11-25T12:00:00Z)")
	w.tell(at(301), outside.Posted{Signal: "payments", Level: "unknown", Text: "no test card"})
	w.expect(at(301), "component/pay", "unknown: signal/ci says unknown (no test card)")
	// A week after its end it is forgotten, and the leaf has no data at all.
	w.expect(at(301+300+7*24*3600+61), "component/pay", "unknown: no data")
	if got := w.board.Signals(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestWhatCannotBeTakenIsToldInWords(t *testing.T) {
	w := newWorld(t, shop)
	w.tell(at(0), outside.Posted{Ref: "component/web", Level: "ok"})
	for _, c := range []struct {
		p    outside.Posted
		want string
	}{
		{outside.Posted{Ref: "component/wbe", Level: "ok"}, `component/wbe is not on the map (did you mean "component/web"?)`},
		{outside.Posted{Signal: "payment", Level: "ok"}, `signal payment: no component listens to it (did you mean "payments"?)`},
		{outside.Posted{Level: "ok"}, "ref is missing: say what the signal is about, such as component/web, or name a signal"},
		{outside.Posted{Ref: "component/web", Signal: "payments", Level: "ok"}, "ref and signal: expected one of both, not both"},
		{outside.Posted{Ref: "component/web", Level: "fine"}, `level "fine": expected ok, info, warning, minor, major, critical, unknown or gone`},
		{outside.Posted{Ref: "component/web"}, `level "": expected ok, info, warning, minor, major, critical, unknown or gone`},
		{outside.Posted{Ref: "component/web", Level: "ok", TTL: "2d"}, "ttl 2d: expected 1s to 1d"},
		{outside.Posted{Ref: "component/web", Level: "ok", TTL: "soon"}, `ttl: "soon" is not a duration: expected a number with a unit, such as 30s, 10m, 1h30m or 2d`},
		{outside.Posted{Ref: "component/web", Level: "ok", TTL: "1m", Until: "2026-11-25T12:05:00Z"}, "until and ttl: expected one of both, not both"},
		{outside.Posted{Ref: "component/web", Level: "ok", Until: "noon"}, `until "noon" is not a time: expected RFC 3339, such as 2026-11-25T10:00:00Z`},
		{outside.Posted{Ref: "component/web", Level: "ok", Until: "2026-11-27T12:00:00Z"}, "until 2026-11-27T12:00:00Z is more than 1d after it was seen: say it again before then"},
		{outside.Posted{Ref: "component/web", Level: "ok", At: "2026-11-25T12:02:00Z"}, "at 2026-11-25T12:02:00Z is in the future: it is 2026-11-25T12:00:10Z here"},
		{outside.Posted{Ref: "component/web", Level: "ok", At: "2026-11-25T11:00:00Z"}, "it counts until 2026-11-25T11:05:00Z only, which is over: it is 2026-11-25T12:00:10Z here"},
		{outside.Posted{Ref: "component/web", Level: "ok", At: "2026-11-25T11:59:00Z"}, "at 2026-11-25T11:59:00Z: ci said something newer of component/web at 2026-11-25T12:00:00Z, which stands"},
		{outside.Posted{Ref: "component/web", Level: "gone", Source: "other"}, "level gone: other has said nothing of component/web"},
		{outside.Posted{Ref: "component/web", Level: "ok", Source: "a\nb"}, `source "a b": expected up to 100 printable characters`},
		{outside.Posted{Ref: "component/web", Level: "ok", Text: strings.Repeat("x", 5000)}, "text has 5000 bytes: the most is 4096"},
	} {
		if _, err := w.board.Tell(at(10), "ci", c.p); err == nil || err.Error() != c.want {
			t.Errorf("%+v\n got %v\nwant %s", c.p, err, c.want)
		}
	}
}

func TestAlertsAreWhatTheySayWhileTheirSenderIsThere(t *testing.T) {
	w := newWorld(t, shop)
	w.expect(at(0), "component/web", "unknown: alertmanager says unknown (no word from Alertmanager yet)")
	w.alert(at(0), outside.Alertmanager)
	w.expect(at(0), "component/web", "ok: alertmanager says ok (no alert)")
	w.expect(at(299), "component/web", "ok: alertmanager says ok (no alert)")
	w.expect(at(300), "component/web", "unknown: alertmanager says unknown (no word from Alertmanager since 2026-11-25T12:00:00Z, expected every 5m)")
	foreign := fires("f9", "critical", at(1))
	foreign.Labels["env"] = "test"
	if taken := w.alert(at(400), outside.Alertmanager, fires("f1", "warning", at(390)), foreign); taken != (outside.Taken{Firing: 2, Unmatched: 1}) {
		t.Errorf("%+v", taken)
	}
	w.expect(at(400), "component/web", "warning: alertmanager says warning (Slow since 2026-11-25T12:06:30Z: it is slow)")
	w.alert(at(401), outside.Alertmanager, fires("f2", "p1", at(395)), fires("f3", "odd", at(396)))
	w.expect(at(401), "component/web", "critical: alertmanager says critical (Slow since 2026-11-25T12:06:35Z: it is slow, and 2 more)")
	w.alert(at(402), outside.Alertmanager, over(fires("f2", "p1", at(395))))
	w.expect(at(402), "component/web", "minor: alertmanager says minor (Slow since 2026-11-25T12:06:36Z: it is slow, and 1 more)")
	w.alert(at(403), outside.Alertmanager, over(fires("f1", "warning", at(390))), over(fires("f3", "odd", at(396))))
	w.expect(at(403), "component/web", "ok: alertmanager says ok (no alert)")
	// A late word of the beginning does not bring an alert back, a new beginning does.
	if taken := w.alert(at(404), outside.Alertmanager, fires("f2", "p1", at(395))); taken.Late != 1 {
		t.Errorf("%+v", taken)
	}
	w.expect(at(404), "component/web", "ok: alertmanager says ok (no alert)")
	w.alert(at(405), outside.Alertmanager, fires("f2", "p1", at(404)))
	w.expect(at(405), "component/web", "critical: alertmanager says critical (Slow since 2026-11-25T12:06:44Z: it is slow)")
	// Zabbix was never heard of, whatever Alertmanager says.
	w.expect(at(405), "component/db", "unknown: zabbix says unknown (no word from Zabbix yet)")
}

// An alert that its sender no longer speaks of is not believed for ever, though the sender is there.
func TestAnAlertThatIsNotRepeated(t *testing.T) {
	w := newWorld(t, shop)
	w.alert(at(0), outside.Alertmanager, fires("f1", "major", at(0)))
	day := 24 * 3600
	for s := 0; s <= 5*day; s += 240 {
		w.alert(at(s), outside.Alertmanager)
		want := "unknown: alertmanager says unknown (Slow since 2026-11-25T12:00:00Z: it is slow, no word of it since 2026-11-25T12:00:00Z)"
		switch {
		case s < day:
			want = "major: alertmanager says major (Slow since 2026-11-25T12:00:00Z: it is slow)"
		case s > 4*day:
			want = "ok: alertmanager says ok (no alert)"
		}
		if got := w.see(at(s), "component/web"); got != want {
			t.Fatalf("after %d s\n got %s\nwant %s", s, got, want)
		}
	}
}

func TestAnswersOfQueries(t *testing.T) {
	w := newWorld(t, shop)
	var asked []string
	for _, q := range w.board.Queries() {
		asked = append(asked, fmt.Sprint(q.Ref, " ", q.Source, " ", q.PromQL, " ", q.Every))
	}
	if diff := cmp.Diff([]string{"component/queue promql queue_length 10s", "service/shop indicator/orders sum(rate(orders_total[5m])) 0s"}, asked); diff != "" {
		t.Error(diff)
	}
	rng, text := outside.Judge(w.board.Queries()[1].Levels, []float64{1.5})
	w.board.Answer("service/shop", "indicator/orders", rng, text)
	if r, _ := w.state.Snapshot().Range("service/shop"); r.Low != health.OK {
		t.Error("told before it was flushed")
	}
	if got := w.see(at(0), "service/shop"); !strings.HasPrefix(got, "major..critical: ") || !strings.Contains(got, "indicator/orders says major (1.5 is < 2)") {
		t.Error(got)
	}
	// A query that is no longer asked has nothing to say, and neither has its last answer.
	w.draw(strings.Replace(shop, "name: orders", "name: carts", 1))
	w.board.Answer("service/shop", "indicator/orders", rng, text)
	if got := w.see(at(1), "service/shop"); strings.Contains(got, "orders") {
		t.Error(got)
	}
}

func TestJudge(t *testing.T) {
	set := parse(t, shop)
	s, _ := manifest.SpecOf[manifest.Service](set, "service/shop")
	nan := 0.0
	nan /= nan
	for _, c := range []struct {
		values []float64
		rng    health.Range
		text   string
	}{
		{[]float64{2}, health.Exactly(health.OK), "2"},
		{[]float64{0.5}, health.Exactly(health.Major), "0.5 is < 2"},
		{[]float64{0}, health.Exactly(health.Critical), "0 is < 0.1"},
		{nil, health.Unknown, "the query returned nothing"},
		{[]float64{0, 0}, health.Unknown, "the query returned 2 series: expected one, such as of sum(...)"},
		{[]float64{nan}, health.Unknown, "the query returned NaN, which is no number"},
	} {
		if rng, text := outside.Judge(s.Indicators[0].Levels, c.values); rng != c.rng || text != c.text {
			t.Errorf("%v: %v %s", c.values, rng, text)
		}
	}
}

func TestWhatIsSetByHandStandsForALeafAndIsAddedToTheRest(t *testing.T) {
	w := newWorld(t, shop)
	w.alert(at(0), outside.Alertmanager, fires("f1", "critical", at(0)))
	w.expect(at(0), "component/web", "critical: alertmanager says critical (Slow since 2026-11-25T12:00:00Z: it is slow)")
	set := func(ref, level, length string) {
		t.Helper()
		h, err := w.board.Set(at(1), ref, level, "", length, "ann", "the check is wrong")
		if err != nil {
			t.Fatal(err)
		}
		w.board.Put(h)
	}
	set("component/web", "ok", "1h")
	set("service/shop", "minor", "30m")
	w.expect(at(2), "component/web", "ok: set to ok by ann until 2026-11-25T13:00:01Z: the check is wrong; without it: alertmanager says critical (Slow since 2026-11-25T12:00:00Z: it is slow)")
	if got := w.see(at(2), "service/shop"); !strings.HasPrefix(got, "minor..critical: ") || !strings.Contains(got, "the node itself: set to minor by ann until 2026-11-25T12:30:01Z: the check is wrong") {
		t.Error(got)
	}
	if got := w.board.Hands(at(3)); len(got) != 2 || got[0].Ref != "component/web" {
		t.Errorf("%+v", got)
	}
	w.board.Unset("service/shop")
	if got := w.see(at(4), "service/shop"); strings.Contains(got, "ann") {
		t.Error(got)
	}
	// It ends by itself, and leaves what is measured: here, that nobody spoke meanwhile.
	w.expect(at(3601), "component/web", "unknown: alertmanager says unknown (no word from Alertmanager since 2026-11-25T12:00:00Z, expected every 5m)")

	for _, c := range []struct{ ref, level, until, length, reason, want string }{
		{"component/wbe", "ok", "", "1h", "r", `component/wbe is not on the map (did you mean "component/web"?)`},
		{"component/web", "gone", "", "1h", "r", `level "gone": expected ok, info, warning, minor, major, critical or unknown`},
		{"component/web", "ok", "", "1h", "", "reason is missing or longer than 1000 bytes: say why, for those who see it and for the audit log"},
		{"component/web", "ok", "", "", "r", "until and for: expected exactly one of both; what is set by hand has to end, after at most 7d"},
		{"component/web", "ok", "2026-11-25T13:00:00Z", "1h", "r", "until and for: expected exactly one of both; what is set by hand has to end, after at most 7d"},
		{"component/web", "ok", "", "8d", "r", "for 8d: expected 1s to 7d"},
		{"component/web", "ok", "2026-12-03T12:00:00Z", "", "r", "until 2026-12-03T12:00:00Z is more than 7d from now: what is set by hand has to end before"},
		{"component/web", "ok", "2026-11-25T11:00:00Z", "", "r", "until 2026-11-25T11:00:00Z is over: it is 2026-11-25T12:00:00Z here"},
	} {
		if _, err := w.board.Set(at(0), c.ref, c.level, c.until, c.length, "ann", c.reason); err == nil || err.Error() != c.want {
			t.Errorf("%+v\n got %v", c, err)
		}
	}
}

// A board that was kept and loaded says the same of every node as the one that it was.
func TestWhatIsKeptIsAllThatCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{TB: nil, board: outside.NewBoard()}
		set, graph := parsed()
		w.board.Draw(set, graph)
		kept := map[string][]byte{}
		now := 0
		store := func() {
			records, err := w.board.Changed()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if kept[r.Key] = r.Value; r.Value == nil {
					delete(kept, r.Key)
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += rapid.SampledFrom([]int{0, 1, 30, 299, 4000, 90_000, 700_000}).Draw(t, "dt")
			severity := rapid.SampledFrom([]string{"critical", "p1", "warning", ""}).Draw(t, "severity")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				_, _ = w.board.Tell(at(now), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "by"), outside.Posted{
					Ref: "component/pay", Level: rapid.SampledFrom([]string{"ok", "major", "unknown", "gone"}).Draw(t, "level"), TTL: rapid.SampledFrom([]string{"1m", "1h"}).Draw(t, "ttl"),
				})
			case 1:
				_, _ = w.board.Tell(at(now), "c", outside.Posted{Signal: "payments", Level: "minor"})
			case 2, 3:
				a := fires(rapid.SampledFrom([]string{"f1", "f2", "f3"}).Draw(t, "id"), severity, at(now-rapid.IntRange(0, 60).Draw(t, "ago")))
				a.Firing = rapid.Bool().Draw(t, "firing")
				_, _ = w.board.Alerts(at(now), outside.Alertmanager, []outside.Alert{a})
			case 4:
				if h, err := w.board.Set(at(now), "component/web", "info", "", "1h", "ann", "r"); err == nil {
					w.board.Put(h)
					r, err := outside.HandRecord(h)
					if err != nil {
						t.Fatal(err)
					}
					kept[r.Key] = r.Value
				}
			case 5:
				w.board.Unset("component/web")
				delete(kept, outside.HandKey("component/web"))
			}
			w.board.Flush(at(now))
			store()
		}
		now += rapid.SampledFrom([]int{0, 61, 3600, 100_000}).Draw(t, "later")
		again := outside.NewBoard()
		for key, value := range kept {
			if err := again.Load(outside.Record{Key: key, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		again.Draw(set, graph)
		w.board.Draw(set, graph)
		one, two := servicemap.NewState(graph, servicemap.Options{}), servicemap.NewState(graph, servicemap.Options{})
		one.Update(at(now), w.board.Flush(at(now))...)
		two.Update(at(now), again.Flush(at(now))...)
		for _, ref := range graph.Refs() {
			a, _ := one.Snapshot().Node(ref)
			b, _ := two.Snapshot().Node(ref)
			if diff := cmp.Diff(a.Signals, b.Signals); diff != "" {
				t.Fatalf("%s:\n%s", ref, diff)
			}
		}
	})
}

var parsed = func() func() (*manifest.Set, *servicemap.Graph) {
	var set *manifest.Set
	var graph *servicemap.Graph
	return func() (*manifest.Set, *servicemap.Graph) {
		if set == nil {
			text := "apiVersion: evenkeel/v1\n" + strings.ReplaceAll(strings.TrimSpace(shop), "---\n", "---\napiVersion: evenkeel/v1\n")
			set, _ = manifest.CheckFiles([]manifest.File{{Name: "map", Text: []byte(text)}}, nil)
			graph, _ = servicemap.New(set, nil)
		}
		return set, graph
	}
}()

// Whatever was said in whatever order, a component is as bad as the worst of the alerts that fire and match, found by looking at all.
func TestAlertsAgreeWithLookingAtAll(t *testing.T) {
	set, graph := parsed()
	rapid.Check(t, func(t *rapid.T) {
		b := outside.NewBoard()
		b.Draw(set, graph)
		state := servicemap.NewState(graph, servicemap.Options{})
		firing := map[string]outside.Alert{}
		ended := map[string]time.Time{}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "id")
			a := outside.Alert{ID: id, Firing: rapid.Bool().Draw(t, "firing"), Since: at(rapid.IntRange(0, step).Draw(t, "since")), Labels: map[string]string{
				"service": rapid.SampledFrom([]string{"web", "api"}).Draw(t, "service"), "env": rapid.SampledFrom([]string{"prod", "test"}).Draw(t, "env"),
				"severity": rapid.SampledFrom([]string{"P1", "major", "warning", "odd"}).Draw(t, "severity"),
			}}
			if _, err := b.Alerts(at(step), outside.Alertmanager, []outside.Alert{a}); err != nil {
				t.Fatal(err)
			}
			end, wasEnded := ended[id]
			switch old, was := firing[id]; {
			case a.Firing && wasEnded && !a.Since.After(end):
			case a.Firing:
				firing[id] = a
				delete(ended, id)
			case was:
				delete(firing, id)
				ended[id] = a.Since
				if old.Since.After(a.Since) {
					ended[id] = old.Since
				}
			case wasEnded && a.Since.After(end):
				ended[id] = a.Since
			}
			want := health.OK
			for _, f := range firing {
				if f.Labels["service"] == "web" && f.Labels["env"] == "prod" {
					want = max(want, map[string]health.Level{"P1": health.Critical, "major": health.Major, "warning": health.Warning, "odd": health.Minor}[f.Labels["severity"]])
				}
			}
			state.Update(at(step), b.Flush(at(step))...)
			if r, _ := state.Snapshot().Range("component/web"); r != health.Exactly(want) {
				t.Fatalf("step %d: %v, want %s; firing %v", step, r, want, slices.Sorted(maps.Keys(firing)))
			}
		}
	})
}

func TestBounds(t *testing.T) {
	w := newWorld(t, shop)
	for i := range outside.MaxSignals {
		w.tell(at(0), outside.Posted{Ref: "component/pay", Level: "ok", Source: fmt.Sprint(i)})
	}
	if _, err := w.board.Tell(at(0), "ci", outside.Posted{Ref: "component/pay", Level: "ok"}); !errors.Is(err, outside.ErrFull) {
		t.Error(err)
	}
	w.tell(at(1), outside.Posted{Ref: "component/pay", Level: "major", Source: "7"}) // one that is held may change
	var many []outside.Alert
	for i := range outside.MaxAlerts {
		many = append(many, fires(fmt.Sprint(i), "major", at(0)))
	}
	w.alert(at(0), outside.Alertmanager, many...)
	if _, err := w.board.Alerts(at(1), outside.Zabbix, many[:1]); !errors.Is(err, outside.ErrFull) {
		t.Error(err)
	}
	w.alert(at(2), outside.Alertmanager, many[0])
}
