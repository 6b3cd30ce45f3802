package cost_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const retail = `
  timezone: Europe/Berlin
  weekly: [{days: [mon..sun], from: 22:00, to: 06:00, factor: 0.2}, {days: [sat, sun], from: 10:00, to: 20:00, factor: 1.500001}]
  holidays: [{date: 2026-03-29, factor: 0}]
  peaks: [{from: 2026-10-24T12:30, to: 2026-10-25T02:30, factor: 3}]
`

func calendarOf(t testing.TB, spec string) *calendar.Calendar {
	t.Helper()
	set, problems := manifest.Parse("c.yaml", []byte("apiVersion: evenkeel/v1\nkind: Calendar\nmetadata: {name: c}\nspec:\n"+spec))
	for _, p := range problems {
		t.Fatal(p)
	}
	s, _ := manifest.SpecOf[manifest.Calendar](set, "calendar/c")
	c, err := calendar.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func day(d int) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, d) }

func decimal(t testing.TB, s string) manifest.Decimal {
	t.Helper()
	d, err := manifest.ParseDecimal(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rate(t testing.TB, perHour string, c *calendar.Calendar, losses ...string) *cost.Rate {
	r := &cost.Rate{PerHour: decimal(t, perHour), Calendar: c}
	for i, l := range losses {
		r.Loss[len(r.Loss)-len(losses)+i] = decimal(t, l)
	}
	return r
}

func TestRuns(t *testing.T) {
	office := calendarOf(t, "  timezone: UTC\n  default: 0\n  weekly: [{days: [mon..fri], from: 08:00, to: 18:00}]\n")
	monday := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		rate *cost.Rate
		runs []cost.Run
		end  time.Time
		want string
	}{
		{"an hour", rate(t, "12000", nil, "1"), []cost.Run{{From: monday, Level: health.Critical}}, monday.Add(time.Hour), "12000"},
		{"a nanosecond", rate(t, "3600", nil, "1"), []cost.Run{{From: monday, Level: health.Critical}}, monday.Add(1), "0"},
		{"half a millionth", rate(t, "3600", nil, "1"), []cost.Run{{From: monday, Level: health.Critical}}, monday.Add(500), "0.000001"},
		{"two levels", rate(t, "100", nil, "0.5", "1"), []cost.Run{{From: monday, Level: health.Major}, {From: monday.Add(time.Hour), Level: health.Critical}}, monday.Add(2 * time.Hour), "150"},
		{"ok costs nothing", rate(t, "100", nil, "1"), []cost.Run{{From: monday, Level: health.Major}}, monday.Add(time.Hour), "0"},
		{"only office hours", rate(t, "100", office, "1"), []cost.Run{{From: monday, Level: health.Critical}}, monday.AddDate(0, 0, 7), "5000"},
		{"end before the last run", rate(t, "100", nil, "1"), []cost.Run{{From: monday, Level: health.Critical}, {From: monday.AddDate(0, 0, 1), Level: health.OK}}, monday.Add(time.Hour), "100"},
		{"no history", rate(t, "100", nil, "1"), nil, monday, "0"},
		{"more than there is", rate(t, "9000000000000", nil, "1"), []cost.Run{{From: monday, Level: health.Critical}}, monday.AddDate(0, 0, 7), "9223372036854.775807"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.rate.Runs(c.runs, c.end).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// second is per hour x factor x loss of one second, in units of a millionth / (3600 x 10^12).
func second(r *cost.Rate, at time.Time, l health.Level) *big.Int {
	f := manifest.Decimal(1_000_000)
	if r.Calendar != nil {
		f = r.Calendar.FactorAt(at)
	}
	x := big.NewInt(int64(r.PerHour))
	x.Mul(x, big.NewInt(int64(f)))
	return x.Mul(x, big.NewInt(int64(r.Loss[l])))
}

// round rounds an amount of millionths that is not below 0, half up.
func round(x *big.Rat) manifest.Decimal {
	x = new(big.Rat).Add(x, big.NewRat(1, 2))
	return manifest.Decimal(new(big.Int).Quo(x.Num(), x.Denom()).Int64())
}

// Every second of a history is priced by itself and the sum is rounded: Runs and Series must give the same, to the last millionth.
func TestTheIntegralIsExact(t *testing.T) {
	cal := calendarOf(t, retail)
	rapid.Check(t, func(t *rapid.T) {
		r := &cost.Rate{PerHour: manifest.Decimal(rapid.Int64Range(0, 5e9).Draw(t, "per hour")), Calendar: cal}
		last := manifest.Decimal(0)
		for l := health.Warning; l <= health.Critical; l++ {
			last = manifest.Decimal(rapid.Int64Range(int64(last), 1_000_000).Draw(t, "loss"))
			r.Loss[l] = last
		}
		if rapid.IntRange(0, 9).Draw(t, "without a calendar") == 0 {
			r.Calendar = nil
		}
		change := rapid.SampledFrom([]string{"2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-12-31T23:00:00Z"}).Draw(t, "around")
		start, err := time.Parse(time.RFC3339, change)
		if err != nil {
			t.Fatal(err)
		}
		start = start.Add(time.Duration(rapid.IntRange(-9000, 600).Draw(t, "start")) * time.Second)
		step := time.Duration(rapid.SampledFrom([]int{1, 7, 60, 3600, 10_000}).Draw(t, "step")) * time.Second
		levels := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) health.Level {
			return health.Level(rapid.IntRange(0, 5).Draw(t, "level"))
		}), 0, int(min(600, 20_000/(step/time.Second)))).Draw(t, "levels")

		sum := new(big.Int)
		var runs []cost.Run
		for i, l := range levels {
			from := start.Add(time.Duration(i) * step)
			runs = append(runs, cost.Run{From: from, Level: l})
			for at := from; at.Before(from.Add(step)); at = at.Add(time.Second) {
				sum.Add(sum, second(r, at, l))
			}
		}
		want := round(new(big.Rat).SetFrac(sum, big.NewInt(3600*1_000_000_000_000)))
		if got := r.Series(cost.Series{Start: start, Step: step, Levels: levels}); got != want {
			t.Fatalf("the series costs %s, not %s", want, got)
		}
		if got := r.Runs(runs, start.Add(time.Duration(len(levels))*step)); got != want {
			t.Fatalf("the runs cost %s, not %s", want, got)
		}
	})
}

// Steps of odd lengths that begin at odd moments are cut by the factor where it changes.
func TestAStepIsCutWhereTheFactorChanges(t *testing.T) {
	cal := calendarOf(t, "  timezone: UTC\n  default: 0\n  weekly: [{days: [mon..sun], from: 10:00, to: 11:00}]\n")
	r := rate(t, "3600", cal, "1")
	all := func(n int) []health.Level {
		out := make([]health.Level, n)
		for i := range out {
			out[i] = health.Critical
		}
		return out
	}
	for _, s := range []cost.Series{
		{Start: day(0).Add(3*time.Hour + 123_457), Step: 7*time.Second + 13, Levels: all(6000)},
		{Start: day(0), Step: 24 * time.Hour, Levels: all(1)},
		{Start: day(0).Add(9 * time.Hour), Step: 5 * time.Hour, Levels: all(1)},
	} {
		if got := r.Series(s); got.String() != "3600" {
			t.Errorf("%s steps of %s cost %s, want 3600", s.Start, s.Step, got)
		}
	}
}

func TestCountersDoNotRunOver(t *testing.T) {
	r := rate(t, "60", nil, "0.1", "0.2", "0.3", "0.4", "0.5", "1")
	for l := health.OK; l <= health.Critical; l++ {
		levels := make([]health.Level, 100_003)
		for i := range levels {
			levels[i] = l
		}
		want := manifest.Decimal(len(levels)) * r.Loss[l]
		if got := r.Series(cost.Series{Start: day(0), Step: time.Minute, Levels: levels}); got != want {
			t.Errorf("%d minutes at %s cost %s, want %s", len(levels), l, got, want)
		}
	}
}

func segments(lines ...string) (out []cost.Segment) {
	for _, line := range lines {
		var ref, level, above string
		var minute int
		if n, _ := fmt.Sscan(line, &ref, &minute, &level, &above); n < 3 {
			panic(line)
		}
		l, err := health.ParseLevel(level)
		if err != nil {
			panic(err)
		}
		s := cost.Segment{Ref: manifest.Ref(ref), From: day(0).Add(time.Duration(minute) * time.Minute), Level: l}
		if above != "" {
			for up := range strings.SplitSeq(above, ",") {
				s.Above = append(s.Above, manifest.Ref(up))
			}
		}
		out = append(out, s)
	}
	return out
}

func TestNoLossIsCountedTwice(t *testing.T) {
	night := calendarOf(t, "  timezone: UTC\n  default: 0\n  weekly: [{days: [mon..sun], from: 01:00, to: 24:00}]\n")
	rates := map[manifest.Ref]*cost.Rate{"service/shop": rate(t, "900", night, "0.5", "1"), "service/api": rate(t, "100", nil, "1"), "service/web": rate(t, "600", nil, "1")}
	for _, c := range []struct {
		name     string
		segments []cost.Segment
		want     string
	}{
		{"apart", segments("service/shop 60 critical", "service/api 60 critical"), "1000: service/api 100, service/shop 900"},
		{"the upper counts", segments("service/shop 60 critical", "service/api 60 critical service/shop"), "900: service/api 0, service/shop 900"},
		{"only while it loses something", segments("service/shop 60 minor", "service/api 60 critical service/shop", "service/shop 90 major"), "275: service/api 50, service/shop 225"},
		{"which it does not while it is worth nothing", segments("service/shop 30 critical", "service/api 30 critical service/shop"), "950: service/api 50, service/shop 900"},
		{
			"two above, one after the other and both at once",
			segments("service/api 0 critical service/shop,service/web", "service/web 30 critical", "service/shop 60 critical", "service/web 90 ok", "service/shop 105 ok"),
			"1350: service/api 75, service/shop 675, service/web 600",
		},
		{"out of order, with what has no value", segments("service/api 90 ok", "service/x 0 critical", "service/api 60 critical"), "50: service/api 50, without a value [service/x]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bill := cost.Of(c.segments, day(0).Add(2*time.Hour), func(ref manifest.Ref) (cost.Rate, bool) {
				if r := rates[ref]; r != nil {
					return *r, true
				}
				return cost.Rate{}, false
			})
			got := bill.Total.String() + ":"
			for i, s := range bill.Services {
				if i > 0 {
					got += ","
				}
				got += fmt.Sprintf(" %s %s", s.Ref, s.Cost)
			}
			if len(bill.Unpriced) > 0 {
				got += fmt.Sprintf(", without a value %s", bill.Unpriced)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func BenchmarkYearOfMinutes(b *testing.B) {
	r := rate(b, "12000", calendarOf(b, retail), "0.1", "0.5", "1")
	levels := make([]health.Level, 525_600)
	for i := range levels {
		levels[i] = health.Level(i * 7 % 6)
	}
	h := cost.Series{Start: day(0), Step: time.Minute, Levels: levels}
	r.Series(h)
	b.ReportAllocs()
	for b.Loop() {
		r.Series(h)
	}
}
