package governor_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/governor"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// calm is a fleet in which everything may be done.
func calm() governor.Fleet {
	return governor.Fleet{
		At: noon, Since: noon.Add(-time.Hour), Expected: 20, Reported: 20, Observers: 2,
		Group: governor.Group{Members: 20, Well: 19, Need: 3, Spare: 1.5},
	}
}

func act(risk governor.Risk) governor.Act {
	return governor.Act{
		Policy: "p", Host: "a", Component: "component/web", Services: []string{"service/shop"}, Action: "haproxy.drain", Target: "web/a",
		Risk: risk, Out: risk >= governor.R2, Beyond: risk >= governor.R2,
	}
}

// on is an act of the same policy on another host that began that long ago.
func on(host string, risk governor.Risk, ago time.Duration, change func(*governor.Record)) governor.Record {
	r := governor.Record{Act: act(risk), Began: noon.Add(-ago)}
	r.Host = host
	if change != nil {
		change(&r)
	}
	return r
}

func ended(r *governor.Record) { r.Ended = r.Began.Add(time.Second) }

func TestRules(t *testing.T) {
	many := func(n int, change func(*governor.Record)) []governor.Record {
		var out []governor.Record
		for i := range n {
			out = append(out, on("h"+string(rune('0'+i)), governor.R2, 2*time.Minute, change))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		risk   governor.Risk
		change func(*governor.Fleet)
		rule   string // that is closed; empty: none
		text   string
	}{
		{"all is well", governor.R1, func(*governor.Fleet) {}, "", ""},
		{"all is well", governor.R2, func(*governor.Fleet) {}, "", ""},
		{"all is well", governor.R3, func(*governor.Fleet) {}, "", ""},
		{"began just now, few heard", governor.R1, func(f *governor.Fleet) { f.Since, f.Reported = noon.Add(-time.Second), 17 }, "start-quiet", "17 of 20"},
		{"began just now, nearly all heard", governor.R1, func(f *governor.Fleet) { f.Since, f.Reported = noon.Add(-time.Second), 18 }, "", ""},
		{"began a while ago", governor.R1, func(f *governor.Fleet) { f.Since, f.Reported = noon.Add(-5*time.Second), 1 }, "", ""},
		{"began a while ago", governor.R2, func(f *governor.Fleet) { f.Since = noon.Add(-29 * time.Second) }, "start-quiet", "R2 waits 30s"},
		{"storm", governor.R1, func(f *governor.Fleet) { f.Storm = "9 of 20 hosts are silent or down" }, "storm", "9 of 20"},
		{"everybody is overloaded", governor.R1, func(f *governor.Fleet) { f.Overloaded = 20 }, "", ""},
		{"everybody is overloaded", governor.R2, func(f *governor.Fleet) { f.Overloaded = 7 }, "fleet-load", "7 of 20"},
		{"harm elsewhere", governor.R1, func(f *governor.Fleet) {
			f.Records = []governor.Record{on("b", governor.R1, time.Minute, func(r *governor.Record) { ended(r); r.Harmful = true })}
		}, "harm", "host b"},
		{"harm here is the episode's matter", governor.R1, func(f *governor.Fleet) {
			f.Records = []governor.Record{on("a", governor.R1, time.Minute, func(r *governor.Record) { ended(r); r.Harmful = true })}
		}, "", ""},
		{"harm long ago", governor.R1, func(f *governor.Fleet) {
			f.Records = []governor.Record{on("b", governor.R1, time.Hour, func(r *governor.Record) { ended(r); r.Harmful = true })}
		}, "", ""},
		{"a tenth of the group", governor.R2, func(f *governor.Fleet) {
			f.Records = many(1, func(r *governor.Record) { r.Verified = true })
		}, "", ""},
		{"more than a tenth of the group", governor.R2, func(f *governor.Fleet) {
			f.Records = many(2, func(r *governor.Record) { r.Verified = true })
		}, "group", "2 of 20 members"},
		{"another part of the service", governor.R2, func(f *governor.Fleet) {
			f.Records = many(1, func(r *governor.Record) { r.Verified, r.Component = true, "component/db" })
		}, "service", "service/shop"},
		{"too many within a minute", governor.R2, func(f *governor.Fleet) {
			for range 5 {
				f.Records = append(f.Records, on("b", governor.R2, 30*time.Second, func(r *governor.Record) { ended(r); r.Policy, r.Component, r.Services = "q", "component/x", nil }))
			}
		}, "fleet-rate", "5 acts"},
		{"a canary is out", governor.R2, func(f *governor.Fleet) {
			f.Records = many(1, func(r *governor.Record) { r.Component, r.Services = "component/x", nil })
		}, "ramp", "no more than 1"},
		{"a canary has helped", governor.R2, func(f *governor.Fleet) {
			f.Records = many(2, func(r *governor.Record) { r.Component, r.Services = "component/x", nil })
			ended(&f.Records[0])
			f.Records[0].Verified = true
		}, "", ""},
		{"the last of them", governor.R2, func(f *governor.Fleet) { f.Group = governor.Group{Members: 3, Well: 0, Spare: 2} }, "last-member healthy-floor", "0 "},
		{"one of a quorum", governor.R2, func(f *governor.Fleet) { f.Group = governor.Group{Members: 3, Well: 2, Need: 3, Spare: 2} }, "last-member", "3 are needed"},
		{"too few stay well", governor.R2, func(f *governor.Fleet) { f.Group.Well = 10 }, "healthy-floor", "50 %"},
		{"the rest cannot carry it", governor.R2, func(f *governor.Fleet) { f.Group.Spare = 1.1 }, "capacity", "1.1 times"},
		{"nobody knows what the rest can carry", governor.R2, func(f *governor.Fleet) { f.Group.Spare = 0 }, "capacity", "not known"},
		{"one observer", governor.R2, func(f *governor.Fleet) { f.Observers = 1 }, "observers", "one observer"},
		{"another R3", governor.R3, func(f *governor.Fleet) {
			f.Records = []governor.Record{on("b", governor.R3, 2*time.Minute, func(r *governor.Record) { r.Policy, r.Component, r.Services = "q", "component/x", nil })}
		}, "one-r3", "one at a time"},
		{"three times on one target", governor.R3, func(f *governor.Fleet) {
			for i := range 3 {
				f.Records = append(f.Records, on("a", governor.R3, time.Duration(i+1)*time.Hour, ended))
			}
		}, "target-day", "for people"},
		{"a failure before what cannot be taken back", governor.R3, func(f *governor.Fleet) {
			f.Records = []governor.Record{on("b", governor.R3, 2*time.Minute, func(r *governor.Record) { ended(r); r.Wrong = true })}
		}, "ramp", "failed"},
	} {
		f := calm()
		c.change(&f)
		var closed []string
		for _, v := range governor.Judge(&f, act(c.risk)) {
			if v.Text == "" {
				t.Errorf("%s, %s: %s says nothing", c.name, c.risk, v.Rule)
			}
			if !v.Open {
				closed = append(closed, v.Rule)
				if !strings.Contains(v.Text, c.text) {
					t.Errorf("%s, %s: %s says %q, want %q in it", c.name, c.risk, v.Rule, v.Text, c.text)
				}
			}
		}
		if got := strings.Join(closed, " "); got != c.rule {
			t.Errorf("%s, %s: closed are %q, want %q", c.name, c.risk, got, c.rule)
		}
	}
}

// However acts of R2 come and go, and whatever is begun as soon as the rules allow it: never is more than a tenth of a
// component held back, or one where it is small; never more than five acts begin in a minute; never more of one policy are
// open at once than twice as many as have helped, and one.
func TestWhatTheRulesKeep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.IntRange(1, 60).Draw(t, "members")
		f := calm()
		f.Group = governor.Group{Members: members, Well: members, Spare: 2}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			f.At = f.At.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			if len(f.Records) > 0 && rapid.Bool().Draw(t, "change") {
				r := &f.Records[rapid.IntRange(0, len(f.Records)-1).Draw(t, "which")]
				if r.Ended.IsZero() {
					switch rapid.IntRange(0, 2).Draw(t, "how") {
					case 0:
						r.Verified = true
					default:
						r.Ended = f.At
					}
				}
			}
			a := act(governor.R2)
			a.Host = "h" + string(rune('0'+rapid.IntRange(0, min(members, 60)-1).Draw(t, "host")))
			busy := false
			for _, r := range f.Records {
				busy = busy || r.Host == a.Host && r.Ended.IsZero()
			}
			if busy || governor.Refusal(governor.Judge(&f, a)) != "" {
				continue
			}
			f.Records = append(f.Records, governor.Record{Act: a, Began: f.At})
			held, recent, open, helped := 0, 0, 0, 0
			for _, r := range f.Records {
				if r.Ended.IsZero() {
					held++
				}
				if f.At.Sub(r.Began) < time.Minute {
					recent++
				}
				switch {
				case r.Verified && (r.Ended.IsZero() || f.At.Sub(r.Ended) < 10*time.Minute):
					helped++
				case r.Ended.IsZero():
					open++
				}
			}
			if held > max(1, members/10) || recent > 5 || open > 1<<min(helped, 20) {
				t.Fatalf("%d of %d held back, %d within a minute, %d open and %d helped", held, members, recent, open, helped)
			}
		}
	})
}

func TestStorm(t *testing.T) {
	var s governor.Storm
	at := noon
	for _, c := range []struct {
		after       time.Duration
		hosts, gone int
		storm       bool
	}{
		{0, 3, 3, false}, // too small a fleet for a storm
		{time.Second, 20, 6, false},
		{time.Second, 20, 7, true},
		{time.Second, 20, 0, true}, // not over yet
		{4 * time.Minute, 20, 7, true},
		{4*time.Minute + 59*time.Second, 20, 0, true},
		{time.Second, 20, 0, false},
	} {
		at = at.Add(c.after)
		if got := s.Look(at, c.hosts, c.gone); (got != "") != c.storm {
			t.Errorf("%s: %d of %d: %q", at.Format(time.TimeOnly), c.gone, c.hosts, got)
		}
	}
}
