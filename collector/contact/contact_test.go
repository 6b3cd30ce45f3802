package contact_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/collector/contact"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const model = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: checkout}
spec:
  owner: team/shop
  supportHours: calendar/day
  vendor: vendor/pay
  dependsOn: [{ref: component/web}, {ref: component/san}, {ref: component/gate}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {owner: team/shop, hosts: {names: [web1]}, repair: {team: team/ops}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: san}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: gate}
spec: {owner: team/quiet, external: {vendor: vendor/pay}}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: orphan}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: disks}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: tape}
spec: {owner: team/ops, repair: {after: [component/disks]}}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: bare}
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: shop}
spec:
  contacts:
    - {name: Day desk, phone: +49 30 1, hours: calendar/day}
    - {name: Night desk, phone: +49 30 2, hours: calendar/night}
  fallback: {name: Head of shop, phone: +49 30 9}
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: ops}
spec:
  contacts: [{name: Ops, email: ops@example.org, hours: calendar/day}]
  escalation: [{after: 15m, to: team/shop}, {after: 30m, to: vendor/pay}]
---
apiVersion: evenkeel/v1
kind: Team
metadata: {name: quiet}
spec:
  contacts: [{name: Quiet, email: q@example.org, hours: calendar/never}]
---
apiVersion: evenkeel/v1
kind: Vendor
metadata: {name: pay}
spec:
  contract: C-17
  hours: calendar/day
  contacts: [{name: Pay desk, phone: "0800 1"}]
  targets: [{priority: 1, response: 30m, restore: 4h}]
---
apiVersion: evenkeel/v1
kind: Calendar
metadata: {name: day}
spec: {timezone: UTC, default: 0}
---
apiVersion: evenkeel/v1
kind: Calendar
metadata: {name: night}
spec: {timezone: UTC, default: 0}
---
apiVersion: evenkeel/v1
kind: Calendar
metadata: {name: never}
spec: {timezone: UTC, default: 0}
`

// daily is open from one hour to another of each day in UTC; from above to goes over midnight.
type daily struct{ from, to int }

func (d daily) Spans(from, to time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(time.Time, time.Time) bool) {
		for day := from.UTC().Truncate(24*time.Hour).AddDate(0, 0, -1); day.Before(to) && d.from != d.to; day = day.AddDate(0, 0, 1) {
			a, b := day.Add(time.Duration(d.from)*time.Hour), day.Add(time.Duration(d.to)*time.Hour)
			if d.to < d.from {
				b = b.AddDate(0, 0, 1)
			}
			if a.Before(from) {
				a = from
			}
			if b.After(to) {
				b = to
			}
			if a.Before(b) && !yield(a, b) {
				return
			}
		}
	}
}

func calendars(ref manifest.Ref) (contact.Hours, error) {
	switch ref.Name() {
	case "day":
		return daily{8, 18}, nil
	case "night":
		return daily{20, 6}, nil
	case "never":
		return daily{}, nil
	}
	return nil, errors.New(string(ref) + " is not there")
}

func set(t *testing.T) *manifest.Set {
	t.Helper()
	s, problems := manifest.Parse("model", []byte(model))
	problems = append(problems, manifest.Validate(s, nil)...)
	for _, p := range problems {
		t.Fatal(p)
	}
	return s
}

// told writes an answer as lines: whom, when, and what is missing.
func told(a *contact.Answer) string {
	var b strings.Builder
	for _, s := range a.Steps {
		if s.Call != "" {
			fmt.Fprintf(&b, "%s %s: %s", s.Ref, s.Name, s.Call)
			if s.After != "" {
				fmt.Fprintf(&b, " after %s", s.After)
			}
			if s.Opens != "" {
				fmt.Fprintf(&b, ", opens %s", s.Opens)
			}
			b.WriteByte('\n')
		}
	}
	for _, g := range a.Gaps {
		fmt.Fprintf(&b, "gap %s: %s\n", g.Ref, g.Text)
	}
	return b.String()
}

func TestWho(t *testing.T) {
	for _, c := range []struct{ of, at, want string }{
		{"service/checkout", "2026-11-25T10:00:00Z", `team/shop Day desk: now
team/shop Night desk: closed, opens 2026-11-25T20:00:00Z
vendor/pay Pay desk: now
team/shop Head of shop: spare
`},
		{"service/checkout", "2026-11-25T02:00:00Z", `team/shop Night desk: now
team/shop Day desk: closed, opens 2026-11-25T08:00:00Z
vendor/pay Pay desk: closed, opens 2026-11-25T08:00:00Z
team/shop Head of shop: spare
gap vendor/pay: no contact is bound to answer now
`},
		{"service/checkout", "2026-11-25T19:00:00Z", `team/shop Day desk: closed, opens 2026-11-26T08:00:00Z
team/shop Night desk: closed, opens 2026-11-25T20:00:00Z
vendor/pay Pay desk: closed, opens 2026-11-26T08:00:00Z
team/shop Head of shop: now
gap team/shop: no contact is there now
gap vendor/pay: no contact is bound to answer now
`},
		// At 7:50 the day begins before the escalation does.
		{"component/web@web1", "2026-11-25T07:50:00Z", `team/ops Ops: closed, opens 2026-11-25T08:00:00Z
team/shop Day desk: later after 15m
team/shop Night desk: closed after 15m, opens 2026-11-25T20:00:00Z
vendor/pay Pay desk: later after 30m
team/shop Day desk: closed, opens 2026-11-25T08:00:00Z
team/shop Night desk: closed, opens 2026-11-25T20:00:00Z
team/shop Head of shop: now
gap team/ops: no contact is there now
gap team/shop: no contact is there now
gap team/ops: it has no fallback
`},
		// At 18:50 nobody of the shop is there in a quarter of an hour either, but for its fallback; the contract has ended.
		{"component/web", "2026-11-25T18:50:00Z", `team/ops Ops: closed, opens 2026-11-26T08:00:00Z
team/shop Day desk: closed after 15m, opens 2026-11-26T08:00:00Z
team/shop Night desk: closed after 15m, opens 2026-11-25T20:00:00Z
team/shop Head of shop: later after 15m
vendor/pay Pay desk: closed after 30m, opens 2026-11-26T08:00:00Z
team/shop Day desk: closed, opens 2026-11-26T08:00:00Z
team/shop Night desk: closed, opens 2026-11-25T20:00:00Z
team/shop Head of shop: now
gap team/ops: no contact is there now
gap vendor/pay: team/ops escalates to it after 30m, and no contact is there then
gap team/shop: no contact is there now
gap team/ops: it has no fallback
`},
		{"host/web1", "2026-11-25T10:00:00Z", `team/ops Ops: now
team/shop Day desk: later after 15m
team/shop Night desk: closed after 15m, opens 2026-11-25T20:00:00Z
vendor/pay Pay desk: later after 30m
team/shop Day desk: now
team/shop Night desk: closed, opens 2026-11-25T20:00:00Z
team/shop Head of shop: spare
`},
		{"component/san", "2026-11-25T10:00:00Z", `team/shop Day desk: now
team/shop Night desk: closed, opens 2026-11-25T20:00:00Z
team/shop Head of shop: spare
gap component/san: it has no owner
`},
		{"component/gate", "2026-11-25T19:00:00Z", `team/quiet Quiet: closed
vendor/pay Pay desk: closed, opens 2026-11-26T08:00:00Z
gap team/quiet: no contact is there now
gap vendor/pay: no contact is bound to answer now
gap team/quiet: it has no fallback
gap component/gate: nobody is to be reached now
`},
		{"component/orphan", "2026-11-25T10:00:00Z", `gap component/orphan: it has no owner
gap component/orphan: nobody owns it, nor anything that rests on it
gap component/orphan: nobody is to be reached now
`},
		{"component/disks", "2026-11-25T16:50:00Z", `team/ops Ops: now
team/shop Day desk: later after 15m
team/shop Night desk: closed after 15m, opens 2026-11-25T20:00:00Z
vendor/pay Pay desk: later after 30m
gap component/disks: it has no owner
`},
		{"host/bare", "2026-11-25T10:00:00Z", `gap host/bare: no component runs on it, so nobody owns what it does
gap host/bare: nobody owns it, nor anything that rests on it
gap host/bare: nobody is to be reached now
`},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		a, err := contact.Who(set(t), manifest.Ref(c.of), at, calendars)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, told(&a)); diff != "" {
			t.Errorf("%s at %s: %s", c.of, c.at, diff)
		}
		for _, s := range a.Steps {
			if s.Why == "" {
				t.Errorf("%s: a step without a reason: %+v", c.of, s)
			}
		}
	}
}

// Without calendars it does not guess: nobody is known to be there, and the fallback is called.
func TestWithoutCalendars(t *testing.T) {
	a, err := contact.Who(set(t), "service/checkout", time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `team/shop Day desk: unknown
team/shop Night desk: unknown
vendor/pay Pay desk: unknown
team/shop Head of shop: now
gap team/shop: whether Day desk is there is not known: calendar/day cannot be read by this version
gap team/shop: whether Night desk is there is not known: calendar/night cannot be read by this version
gap team/shop: no contact is there now
gap vendor/pay: whether its contract holds now is not known: calendar/day cannot be read by this version
gap vendor/pay: no contact is bound to answer now
`
	if diff := cmp.Diff(want, told(&a)); diff != "" {
		t.Error(diff)
	}
	if s, ok := a.First(); !ok || s.Name != "Head of shop" {
		t.Errorf("%+v", s)
	}
}

func TestWhoOfNothing(t *testing.T) {
	for _, of := range []manifest.Ref{"service/nothing", "component/nothing@h", "host/nothing", "team/shop", ""} {
		if _, err := contact.Who(set(t), of, time.Now(), calendars); err == nil {
			t.Errorf("%q has contacts", of)
		}
	}
}
