package agreement_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/agreement"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `
kind: Service
metadata: {name: shop}
spec: {criticality: 2}
---
kind: Service
metadata: {name: wiki}
---
kind: Team
metadata: {name: ops}
spec: {contacts: [{name: A, phone: +49 30 1}]}
---
kind: Agreement
metadata: {name: desk}
spec: {services: [service/shop], provider: team/ops, hours: calendar/office, targets: [{priority: 1, response: 30m, restore: 4h}, {priority: 2, restore: 8h}], credit: {amount: 250.5, currency: EUR}, signed: 2026-01-01, reviewBy: 2026-11-27}
---
kind: Calendar
metadata: {name: office}
spec: {timezone: Europe/Berlin, default: 0, weekly: [{days: [mon..fri], from: 08:00, to: 18:00}]}
`

func read(t testing.TB, docs string, at time.Time) *picture.Picture {
	t.Helper()
	var b strings.Builder
	for doc := range strings.SplitSeq(docs, "---\n") {
		fmt.Fprintf(&b, "---\napiVersion: evenkeel/v1\n%s\n", strings.TrimSpace(doc))
	}
	p, problems := picture.FromFiles([]manifest.File{{Name: "map", Text: []byte(b.String())}}, picture.Options{At: at})
	for _, x := range problems {
		t.Fatal(x, b.String())
	}
	return p
}

func csv(t testing.TB, p *picture.Picture, lines ...string) []agreement.Incident {
	t.Helper()
	out, problems := agreement.Read(p, "i.csv", []byte("id,service,priority,opened,acknowledged,resolved,onHold\n"+strings.Join(lines, "\n")+"\n"))
	for _, x := range problems {
		t.Fatal(x)
	}
	return out
}

func TestOf(t *testing.T) {
	p := read(t, model, time.Date(2026, 11, 26, 23, 30, 0, 0, time.UTC)) // 00:30 of the 27th in Berlin
	got, err := agreement.Of(p, csv(t, p,
		"4,service/shop,1,2026-11-26T16:00:00Z,,,", // open: an hour of Thursday is gone
		"1,service/shop,1,2026-11-23T17:30:00Z,2026-11-24T07:20:00Z,2026-11-24T12:00:00Z,2026-11-24T08:00:00Z/2026-11-24T09:00:00Z",
		"2,service/shop,2,2026-11-20T16:00:00Z,,2026-11-23T14:00:01Z,",
		"3,service/wiki,1,2026-11-24T08:00:00Z,,,",
		"5,service/shop,3,2026-11-24T08:00:00Z,,,", // nothing was promised for it
		"6,service/shop,1,2025-11-24T08:00:00Z,,,", // before it was signed
	))
	if err != nil || len(got.Agreements) != 1 {
		t.Fatal(err, got)
	}
	a := got.Agreements[0]
	var lines []string
	for _, v := range a.Verdicts {
		lines = append(lines, fmt.Sprint(v.Incident, " ", v.Promise, " ", v.Took, " of ", v.Within, ", due ", v.Due, ": ", v.Outcome))
	}
	want := []string{
		"2 restore 28801s of 28800s, due 2026-11-23T14:00:00Z: missed",
		"1 response 1200s of 1800s, due 2026-11-24T07:30:00Z: kept",
		"1 restore 14400s of 14400s, due 2026-11-24T12:00:00Z: kept",
		"4 response 3600s of 1800s, due 2026-11-26T16:30:00Z: missed",
		"4 restore 3600s of 14400s, due 2026-11-27T10:00:00Z: open",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if a.Kept != 2 || a.Missed != 2 || a.Open != 1 || !a.ReviewDue || a.Credit == nil || *a.Credit != (agreement.Credit{Breaches: 2, Amount: "501", Currency: "EUR"}) {
		t.Errorf("%+v %+v", a, a.Credit)
	}
	if diff := cmp.Diff([]manifest.Ref{"service/wiki"}, got.Uncovered); diff != "" {
		t.Error(diff)
	}
}

// Every quarter of an hour is asked by itself whether the time runs.
func TestTimeRunsByTheQuarter(t *testing.T) {
	at := time.Date(2026, 10, 27, 12, 0, 0, 0, time.UTC)
	p := read(t, model, at)
	office, err := p.Calendar("calendar/office")
	if err != nil {
		t.Fatal(err)
	}
	const quarter = 15 * time.Minute
	begin := at.AddDate(0, 0, -7) // the clocks change within
	rapid.Check(t, func(rt *rapid.T) {
		moment := func(name string, least int) (int, time.Time) {
			n := rapid.IntRange(least, 7*96).Draw(rt, name)
			return n, begin.Add(time.Duration(n) * quarter)
		}
		in := agreement.Incident{ID: "1", Service: "service/shop", Priority: 2}
		var opened int
		opened, in.Opened = moment("opened", 0)
		if rapid.Bool().Draw(rt, "over") {
			_, in.Resolved = moment("resolved", opened)
		}
		last := 0
		for range rapid.IntRange(0, 3).Draw(rt, "holds") {
			var h agreement.Hold
			last, h.From = moment("hold", last)
			last, h.To = moment("until", last)
			in.OnHold = append(in.OnHold, h)
		}
		got, err := agreement.Of(p, []agreement.Incident{in})
		if err != nil || len(got.Agreements[0].Verdicts) != 1 {
			rt.Fatalf("%+v, %v", got, err)
		}
		v := got.Agreements[0].Verdicts[0]
		took, due := time.Duration(0), ""
		ran := time.Duration(0)
		for m := in.Opened; m.Before(at.AddDate(0, 1, 0)); m = m.Add(quarter) {
			held := false
			for _, h := range in.OnHold {
				held = held || !m.Before(h.From) && m.Before(h.To)
			}
			if held || !office.Open(m) {
				continue
			}
			ran += quarter
			if m.Before(at) && (in.Resolved.IsZero() || m.Before(in.Resolved)) {
				took += quarter
			}
			if ran == 8*time.Hour {
				due = m.Add(quarter).Format(time.RFC3339)
			}
		}
		outcome := agreement.Kept
		switch {
		case took > 8*time.Hour:
			outcome = agreement.Missed
		case in.Resolved.IsZero():
			outcome = agreement.Open
		}
		if v.Took != slo.Seconds(took) || v.Outcome != outcome || v.Due != due {
			rt.Fatalf("told %+v; wanted %s, %s, due %s", v, took, outcome, due)
		}
	})
}

func TestReadRefuses(t *testing.T) {
	p := read(t, model, time.Now())
	_, problems := agreement.Read(p, "i.csv", []byte("id,service,priority,opened,acknowledged,resolved,onHold\n"+
		",service/shp,5,,,,\n1,service/shop,1,2026-11-24T08:00:00Z,2026-11-23T08:00:00Z,,noon\n2,service/shop,1,2026-11-24T08:00:00Z,,,2026-11-24T09:00:00Z/;2026-11-24T10:00:00Z/\n"))
	var got []string
	for _, x := range problems {
		got = append(got, x.String())
	}
	want := []string{
		"i.csv:2:1: id is missing",
		`i.csv:2:14: "5" is not a whole number from 1 to 4`,
		"i.csv:2:16: opened is missing",
		"i.csv:2:2: service/shp is not among the manifests",
		"i.csv:3:39: it lies before the incident was opened",
		`i.csv:3:61: "noon" is not a stretch of time (expected FROM/TO in RFC 3339, TO empty while it goes on; several with semicolons)`,
		"i.csv:4:41: the stretches do not follow each other in time",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKnown(t *testing.T) {
	p := read(t, model, time.Now())
	at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	p.Incidents = []incident.Incident{{
		ID: "a", Priority: 2, OpenedAt: at, AcknowledgedAt: at.Add(time.Minute), Services: []string{"service/shop", "service/wiki"},
		Holds: []incident.Hold{{From: at.Add(time.Hour), To: at.Add(2 * time.Hour)}, {From: at.Add(3 * time.Hour)}},
	}}
	holds := []agreement.Hold{{From: at.Add(time.Hour), To: at.Add(2 * time.Hour)}, {From: at.Add(3 * time.Hour)}}
	want := []agreement.Incident{
		{ID: "a", Service: "service/shop", Priority: 2, Opened: at, Acknowledged: at.Add(time.Minute), OnHold: holds},
		{ID: "a", Service: "service/wiki", Priority: 2, Opened: at, Acknowledged: at.Add(time.Minute), OnHold: holds},
	}
	if diff := cmp.Diff(want, agreement.Known(p)); diff != "" {
		t.Error(diff)
	}
}

// Whatever a file holds, it is read or told to be wrong, and what is read can be judged.
func FuzzRead(f *testing.F) {
	const head = "id,service,priority,opened,acknowledged,resolved,onHold\n"
	f.Add(head + "1,service/shop,1,2026-11-24T08:00:00Z,,,2026-11-24T09:00:00Z/2026-11-24T10:00:00Z;2026-11-24T11:00:00Z/\n")
	f.Add(head + "1,service/shop,1,2026-11-24T08:00:00Z,2026-11-24T08:10:00Z,2199-11-24T08:00:00Z,\n")
	p := read(f, model, time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC))
	f.Fuzz(func(t *testing.T, text string) {
		incidents, problems := agreement.Read(p, "i.csv", []byte(text))
		if len(problems) > 0 {
			return
		}
		got, err := agreement.Of(p, incidents)
		if err != nil {
			t.Fatal(err)
		}
		if a := got.Agreements[0]; a.Kept+a.Missed+a.Open != len(a.Verdicts) {
			t.Errorf("%+v", a)
		}
	})
}
