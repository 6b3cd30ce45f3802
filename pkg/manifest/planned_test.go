package manifest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const around = `---
apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: ops}
`

const maintHead = "apiVersion: evenkeel/v1\nkind: Maintenance\nmetadata: {name: m}\nspec:\n  reason: patches\n  owner: team/ops\n"

const changeHead = "apiVersion: evenkeel/v1\nkind: Change\nmetadata: {name: c}\nspec:\n  title: New release\n  owner: team/ops\n  refs: [service/shop]\n"

const agreeHead = "apiVersion: evenkeel/v1\nkind: Agreement\nmetadata: {name: a}\nspec:\n  services: [service/shop]\n  provider: team/ops\n  signed: 2026-01-01\n"

const templateHead = "apiVersion: evenkeel/v1\nkind: HostTemplate\nmetadata: {name: t}\nspec:\n"

const night = "  window: {timezone: Europe/Berlin, start: 2026-12-01T22:00, duration: 4h}\n"

func TestMistakesInWhatIsPlanned(t *testing.T) {
	cases := []mistake{
		{"of nothing", maintHead + night, `f.yaml:5:3: spec takes exactly one of refs and matchLabels`},
		{"of both", maintHead + "  refs: [service/shop]\n  matchLabels: {a: b}\n" + night, `f.yaml:5:3: spec takes exactly one of refs and matchLabels`},
		{"of a team", maintHead + "  refs: [team/ops]\n" + night, `f.yaml:7:10: "team/ops" refers to a team: expected a service, component or host`},
		{"of a service that is not there", maintHead + "  refs: [service/shp]\n" + night, `f.yaml:7:10: service/shp is not there (did you mean "service/shop"?)`},
		{"twice the same", maintHead + "  refs: [service/shop, service/shop]\n" + night, `f.yaml:7:24: service/shop is listed twice`},
		{"no window", maintHead + "  refs: [service/shop]\n", `f.yaml:5:3: spec.window is missing`},
		{
			"no owner, no reason", "apiVersion: evenkeel/v1\nkind: Maintenance\nmetadata: {name: m}\nspec:\n  refs: [service/shop]\n" + night,
			"f.yaml:5:3: spec.owner is missing\nf.yaml:5:3: spec.reason is missing",
		},
		{"reason of two lines", "apiVersion: evenkeel/v1\nkind: Maintenance\nmetadata: {name: m}\nspec:\n  owner: team/ops\n  reason: \"a\\nb\"\n  refs: [service/shop]\n" + night, `f.yaml:6:11: the reason has a control character`},
		{"no zone", maintHead + "  refs: [service/shop]\n  window: {start: 2026-12-01T22:00, duration: 4h}\n", `f.yaml:8:11: spec.window.timezone is missing`},
		{"an offset for a zone", maintHead + "  refs: [service/shop]\n  window: {timezone: GMT+25, start: 2026-12-01, duration: 4h}\n", `f.yaml:8:22: "GMT+25" is not a time zone: expected an IANA name such as Europe/Berlin`},
		{"no end", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-01}\n", `f.yaml:8:11: spec.window takes exactly one of end and duration`},
		{"two ends", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-01, end: 2026-12-02, duration: 4h}\n", `f.yaml:8:11: spec.window takes exactly one of end and duration`},
		{
			"backwards", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02, end: 2026-12-01}\n",
			`f.yaml:8:51: the window ends at 2026-12-01T00:00, which is not after its start at 2026-12-02T00:00`,
		},
		{"for ever", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02, end: 2036-12-01}\n", `f.yaml:8:51: the window is longer than 366d`},
		{
			"a moment of a zone", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02T10:00:00Z, duration: 1h}\n",
			`f.yaml:8:34: "2026-12-02T10:00:00Z" is not a local date and time: expected such as 2026-11-27T09:30, without a zone, from 1900 to 2199`,
		},
		{
			"too long each time", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02, rrule: FREQ=DAILY, duration: 40d}\n",
			`f.yaml:8:75: duration 40d is not whole seconds from 1s to 31d`,
		},
		{
			"recurs with an end", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02, rrule: FREQ=DAILY, end: 2026-12-03}\n",
			`f.yaml:8:70: a window that recurs has a duration, not an end (write UNTIL in the rule to end the rule)`,
		},
		{
			"recurs without a length", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02, rrule: FREQ=DAILY}\n",
			`f.yaml:8:11: spec.window.duration is missing (how long it lasts each time, such as 2h)`,
		},
		{
			"bad rule", maintHead + "  refs: [service/shop]\n  window: {timezone: UTC, start: 2026-12-02, rrule: FREQ=HOURLY, duration: 1h}\n",
			`f.yaml:8:53: FREQ=HOURLY is not read: expected YEARLY, MONTHLY, WEEKLY or DAILY`,
		},
		{
			"a change that recurs", changeHead + "  window: {timezone: UTC, start: 2026-12-02, rrule: FREQ=DAILY, duration: 1h}\n",
			`f.yaml:8:53: a change is done once: its window does not recur (write one Change for each time, or a Maintenance)`,
		},
		{"a state that is none", changeHead + night + "  state: finished\n", `f.yaml:9:10: "finished" is not a value of spec.state: expected planned, running, done, failed or rolledBack`},
		{"a risk that is none", changeHead + night + "  risk: hihg\n", `f.yaml:9:9: "hihg" is not a value of spec.risk: expected low, medium or high (did you mean "high"?)`},
		{"an id that is a number", changeHead + night + "  externalId: 4711\n", `f.yaml:9:15: spec.externalId must be text, not a number (put it in quotes)`},
		{"a change of nothing", "apiVersion: evenkeel/v1\nkind: Change\nmetadata: {name: c}\nspec:\n  title: x\n  owner: team/ops\n  refs: []\n" + night, `f.yaml:7:9: spec.refs is empty`},
		{"an owner that is not there", "apiVersion: evenkeel/v1\nkind: Change\nmetadata: {name: c}\nspec:\n  title: x\n  owner: team/opps\n  refs: [service/shop]\n" + night, `f.yaml:6:10: team/opps is not there (did you mean "team/ops"?)`},
		{"nothing promised", agreeHead + "  reviewBy: 2027-01-01\n", `f.yaml:5:3: spec.targets is missing`},
		{"promised by a calendar", "apiVersion: evenkeel/v1\nkind: Agreement\nmetadata: {name: a}\nspec:\n  services: [service/shop]\n  provider: calendar/x\n  signed: 2026-01-01\n  reviewBy: 2027-01-01\n  targets: [{priority: 1, restore: 4h}]\n", `f.yaml:6:13: "calendar/x" refers to a calendar: expected a team or vendor`},
		{"hours that are not there", agreeHead + "  reviewBy: 2027-01-01\n  hours: calendar/office\n  targets: [{priority: 1, restore: 4h}]\n", `f.yaml:9:10: calendar/office is not there`},
		{"a priority that no incident has", agreeHead + "  reviewBy: 2027-01-01\n  targets: [{priority: 5, restore: 4h}]\n", `f.yaml:9:24: priority 5: incidents have 1 to 4`},
		{"reviewed before it is signed", agreeHead + "  reviewBy: 2025-01-01\n  targets: [{priority: 1, restore: 4h}]\n", `f.yaml:8:13: the review of 2025-01-01 is not after the signature of 2026-01-01`},
		{"no date", agreeHead + "  reviewBy: next year\n  targets: [{priority: 1, restore: 4h}]\n", `f.yaml:8:13: "next year" is not a date: expected such as 2026-12-25, from 1900 to 2199`},
		{"two credits", agreeHead + "  reviewBy: 2027-01-01\n  targets: [{priority: 1, restore: 4h}]\n  credit: {percent: 5%, amount: 100, currency: EUR}\n", `f.yaml:10:11: spec.credit takes exactly one of percent and amount`},
		{"money without a currency", agreeHead + "  reviewBy: 2027-01-01\n  targets: [{priority: 1, restore: 4h}]\n  credit: {amount: 100}\n", `f.yaml:10:11: spec.credit.currency is missing (three capital letters, such as EUR)`},
		{"a currency without money", agreeHead + "  reviewBy: 2027-01-01\n  targets: [{priority: 1, restore: 4h}]\n  credit: {percent: 5%, currency: EUR}\n", `f.yaml:10:35: a currency goes with spec.credit.amount`},
		{"credit below nothing", agreeHead + "  reviewBy: 2027-01-01\n  targets: [{priority: 1, restore: 4h}]\n  credit: {amount: -100, currency: EUR}\n", `f.yaml:10:20: amount -100 is below 0`},
		{"template for no host", templateHead + "  labels: {role: web}\n", `f.yaml:5:3: spec.hosts is missing`},
		{"template without a label", templateHead + "  hosts: {names: [h1]}\n", `f.yaml:5:3: spec.labels is missing`},
		{"template with both", templateHead + "  hosts: {names: [h1], matchLabels: {a: b}}\n  labels: {role: web}\n", `f.yaml:5:10: spec.hosts takes exactly one of matchLabels and names`},
		{
			"a label that belongs to agents", templateHead + "  hosts: {names: [h1]}\n  labels: {agent/os: linux}\n",
			`f.yaml:6:22: label "agent/os": names that begin with agent/ belong to what an agent says of itself`,
		},
	}
	for i := range cases {
		cases[i].text += around
	}
	tell(t, cases)
}

// A window's calendar is open exactly where the zone's clocks show a time in it.
func TestWindowIsOpenAsItReads(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe"} {
		loc, err := civil.Zone(zone)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(zone, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				start := civil.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) + civil.Time(rapid.IntRange(0, 400*24*4).Draw(t, "start")*900)
				length := civil.Time(rapid.IntRange(1, 200).Draw(t, "length") * 900)
				w := manifest.Window{Timezone: zone, Start: start}
				daily := rapid.Bool().Draw(t, "daily")
				switch {
				case daily:
					w.RRule, w.Duration = "FREQ=DAILY", manifest.Duration(time.Duration(length)*time.Second)
				case rapid.Bool().Draw(t, "end"):
					end := start + length
					w.End = &end
				default:
					w.Duration = manifest.Duration(time.Duration(length) * time.Second)
				}
				c, err := calendar.New(w.Calendar())
				if err != nil {
					t.Fatal(err)
				}
				from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 400*24).Draw(t, "around")) * time.Hour)
				for at := from; at.Before(from.Add(72 * time.Hour)); at = at.Add(15 * time.Minute) {
					now := civil.At(at.In(loc))
					want := now >= start && now < start+length
					for s := start; daily && s <= now; s += civil.DaySeconds {
						want = want || now >= s && now < s+length
					}
					if got := c.Open(at); got != want {
						t.Fatalf("%+v at %s: open %v, want %v", w, at.In(loc), got, want)
					}
				}
			})
		})
	}
}

func TestPlannedThingsAreReadAndWrittenAgain(t *testing.T) {
	text := maintHead + "  matchLabels: {site: a}\n  window: {timezone: Europe/Berlin, start: 2026-01-04T02:00, rrule: FREQ=WEEKLY;BYDAY=SU, duration: 3h}\n" +
		"---\n" + changeHead + night + "  state: rolledBack\n  externalId: CHG-4711\n" +
		"---\n" + agreeHead + "  reviewBy: 2027-01-01\n  targets: [{priority: 1, response: 15m, restore: 4h}, {priority: 4, response: 8h}]\n  credit: {percent: 5%}\n" +
		"---\n" + templateHead + "  hosts: {matchLabels: {agent/os: linux}}\n  labels: {role: web}\n" + around
	set, problems := manifest.CheckFiles([]manifest.File{{Name: "f.yaml", Text: []byte(text)}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for r := range set.All() {
		b, err := manifest.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := manifest.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Spec, back.Spec); diff != "" {
			t.Errorf("%s:\n%s", r.Ref(), diff)
		}
	}
	change, _ := manifest.SpecOf[manifest.ChangeRecord](set, "change/c")
	if change.StateInForce() != "rolledBack" || change.RiskInForce() != "medium" {
		t.Errorf("state %s, risk %s", change.StateInForce(), change.RiskInForce())
	}
}
