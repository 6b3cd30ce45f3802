package manifest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // a machine without zones reads the same manifests

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const sloHead = "apiVersion: evenkeel/v1\nkind: SLO\nmetadata: {name: s}\nspec:\n"

const openHead = `apiVersion: openslo/v1
kind: SLO
metadata: {name: s, displayName: Checkout works}
spec:
`

// openSLO returns a whole document with one line of it replaced, and one added at the end.
func openSLO(line, by, last string) string {
	text := openHead + `  service: checkout
  description: Orders go through.
  indicatorRef: health
  timeWindow:
    - duration: 4w
      isRolling: true
  budgetingMethod: Timeslices
  objectives:
    - displayName: most
      target: 0.995
      timeSliceTarget: 0.95
      timeSliceWindow: 5
`
	if line != "" && !strings.Contains(text, line) {
		panic(fmt.Sprintf("%q is not a line of the document", line))
	}
	return strings.Replace(text, line, by, 1) + last
}

func one[T any](t *testing.T, text string) (*manifest.Resource, *T) {
	t.Helper()
	set, problems := manifest.Parse("f.yaml", []byte(text))
	if len(problems) > 0 || set.Len() != 1 {
		t.Fatalf("%d resources, %v\n%s", set.Len(), problems, text)
	}
	for r, spec := range manifest.Of[T](set) {
		return r, spec
	}
	t.Fatal("another kind")
	return nil, nil
}

func TestSLODefaults(t *testing.T) {
	_, s := one[manifest.SLO](t, sloHead+"  {service: service/a, objective: 99.9%, window: {calendar: month}}\n")
	if s.BadFrom() != health.Major || s.MethodInForce() != "occurrences" || s.ExcludedInForce() != "up" {
		t.Errorf("%v %v %v", s.BadFrom(), s.MethodInForce(), s.ExcludedInForce())
	}
	if loc, err := s.Window.Location(); err != nil || loc != time.UTC {
		t.Errorf("%v, %v", loc, err)
	}
}

// An OpenSLO document and ours that says the same are the same resource.
func TestOpenSLOBecomesOurs(t *testing.T) {
	for _, c := range []struct{ name, open, ours string }{
		{
			"rolling, time slices", openSLO("", "", ""),
			`apiVersion: evenkeel/v1
kind: SLO
metadata: {name: s, annotations: {openslo/objective: most}}
spec:
  title: Checkout works
  description: Orders go through.
  service: service/checkout
  objective: 99.5%
  window: {rolling: 28d}
  method: timeslices
  slice: {length: 5m, target: 95%}
`,
		},
		{
			"calendar, occurrences", openHead + `  service: checkout
  timeWindow: [{duration: 1Q, calendar: {startTime: 2026-04-01 00:00:00, timeZone: America/New_York}, isRolling: false}]
  budgetingMethod: Occurrences
  objectives: [{targetPercent: 99.95}]
`, `apiVersion: evenkeel/v1
kind: SLO
metadata: {name: s}
spec:
  title: Checkout works
  service: service/checkout
  objective: 99.95%
  window: {calendar: quarter, timezone: America/New_York}
  method: occurrences
`,
		},
		{
			"ratio of time slices", openHead + `  service: checkout
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: RatioTimeslices
  objectives: [{target: 0.99, timeSliceWindow: 1h}]
`, `apiVersion: evenkeel/v1
kind: SLO
metadata: {name: s}
spec:
  title: Checkout works
  service: service/checkout
  objective: 99%
  window: {rolling: 30d}
  method: ratioTimeslices
  slice: {length: 1h}
`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := one[manifest.SLO](t, c.open)
			b, _ := one[manifest.SLO](t, c.ours)
			got, err := manifest.Encode(a)
			if err != nil {
				t.Fatal(err)
			}
			want, err := manifest.Encode(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSLOMistakes(t *testing.T) { tell(t, sloMistakes()) }

func sloMistakes() []mistake {
	ours := func(line string) string {
		return sloHead + "  service: service/a\n  objective: 99.9%\n  window: {rolling: 28d}\n" + line
	}
	sliced := func(slice string) string { return ours("  method: timeslices\n  slice: " + slice + "\n") }
	windowed := func(window string) string {
		return sloHead + "  service: service/a\n  objective: 99.9%\n  window: " + window + "\n"
	}
	return []mistake{
		{
			"nothing stated", sloHead + "  title: S\n",
			"f.yaml:5:3: spec.objective is missing\nf.yaml:5:3: spec.service is missing\nf.yaml:5:3: spec.window is missing",
		},
		{"service that is not there", ours(""), `f.yaml:5:12: service/a is not there`},
		{"service of another kind", sloHead + "  {service: component/a, objective: 99%, window: {rolling: 1d}}\n", `f.yaml:5:13: "component/a" refers to a component: expected a service`},
		{"whole", sloHead + "  service: service/a\n  objective: 100%\n  window: {rolling: 28d}\n", `f.yaml:6:14: an objective of 100% leaves no budget (the most is 99.9999%)`},
		{"not a share", sloHead + "  service: service/a\n  objective: 999%\n  window: {rolling: 28d}\n", `f.yaml:6:14: "999%" is not a share: it must be above 0% and at most 100%`},
		{"both windows", windowed("{rolling: 28d, calendar: month}"), `f.yaml:7:11: spec.window takes exactly one of rolling and calendar`},
		{"no window", windowed("{}"), `f.yaml:7:11: spec.window takes exactly one of rolling and calendar`},
		{"window too short", windowed("{rolling: 5m}"), `f.yaml:7:21: a window of 5m: expected 1h to 366d`},
		{"window too long", windowed("{rolling: 400d}"), `f.yaml:7:21: a window of 400d: expected 1h to 366d`},
		{"unknown period", windowed("{calendar: moon}"), `f.yaml:7:22: "moon" is not a value of spec.window.calendar: expected week, month, quarter or year`},
		{"unknown zone", windowed("{calendar: month, timezone: Europe/Berlim}"), `f.yaml:7:39: "Europe/Berlim" is not a time zone that is known here: expected a name such as Europe/Berlin`},
		{"zone of the machine", windowed("{calendar: month, timezone: Local}"), `f.yaml:7:39: "Local" is not a time zone: expected a name such as Europe/Berlin`},
		{"zone of a rolling window", windowed("{rolling: 28d, timezone: UTC}"), `f.yaml:7:36: a rolling window is elapsed time: it has no time zone`},
		{"unknown method", ours("  method: requests\n"), `f.yaml:8:11: "requests" is not a value of spec.method: expected occurrences, timeslices or ratioTimeslices`},
		{"slices without their length", ours("  method: timeslices\n"), `f.yaml:8:11: method timeslices needs spec.slice (such as slice: {length: 1m, target: 95%})`},
		{"slices of every moment", ours("  slice: {length: 1m}\n"), `f.yaml:8:10: method occurrences counts every moment, not slices (write method: timeslices, or leave slice out)`},
		{"slices without a target", sliced("{length: 1m}"), `f.yaml:9:10: method timeslices needs spec.slice.target (the least share of a slice that makes it good, such as 95%)`},
		{"slice without length", sliced("{target: 95%}"), `f.yaml:9:10: spec.slice.length is missing`},
		{"slice too long", sliced("{length: 2d, target: 95%}"), `f.yaml:9:19: a slice of 2d: expected 1s to 1d, so that a window holds at least two`},
		{
			"target of a mean", ours("  method: ratioTimeslices\n  slice: {length: 1m, target: 95%}\n"),
			`f.yaml:9:31: method ratioTimeslices takes the mean of the slices: none of them has a target`,
		},
		{"bad when ok", ours("  bad: ok\n"), `f.yaml:8:8: ok cannot be bad (the level from which time counts as bad, such as major)`},
		{"unknown level", ours("  bad: majr\n"), `f.yaml:8:8: "majr" is not a level: expected ok, info, warning, minor, major or critical (did you mean "major"?)`},
		{"hours that are no calendar", ours("  hours: office\n"), `f.yaml:8:10: "office" is not a reference: expected kind/name, such as calendar/x`},
		{"unknown convention", ours("  excluded: down\n"), `f.yaml:8:13: "down" is not a value of spec.excluded: expected up or leftOut`},

		{"OpenSLO: service that is not there", openSLO("", "", ""), `f.yaml:5:12: service/checkout is not there`},
		{
			"OpenSLO: another kind", "apiVersion: openslo/v1\nkind: AlertPolicy\nmetadata: {name: a}\nspec: {}\n",
			`f.yaml:2:7: kind AlertPolicy of openslo/v1 is not read (only SLO is)`,
		},
		{"OpenSLO: another version", strings.Replace(openSLO("", "", ""), "openslo/v1", "openslo/v1alpha", 1), `f.yaml:1:13: apiVersion "openslo/v1alpha" is not known (expected evenkeel/v1 or openslo/v1)`},
		{"OpenSLO: no spec", "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: a}\n", `f.yaml:1:1: spec is missing`},
		{"OpenSLO: bad name", "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: A}\nspec: {}\n", strings.Join([]string{
			`f.yaml:3:18: "A" is not a name: lower-case letters, digits, and between them - . _`,
			`f.yaml:4:7: spec.budgetingMethod is missing`, `f.yaml:4:7: spec.objectives is missing`,
			`f.yaml:4:7: spec.service is missing`, `f.yaml:4:7: spec.timeWindow is missing`,
		}, "\n")},
		{"OpenSLO: unknown key", openSLO("  service: checkout\n", "  service: checkout\n  servise: x\n", ""), `f.yaml:6:3: unknown key "servise" (did you mean "service"?)`},
		{"OpenSLO: label that is a list", openSLO("displayName: Checkout works", "labels: {tags: [auth]}", ""), `f.yaml:3:36: metadata.labels.tags must be text, not a list`},
		{
			"OpenSLO: a query", openSLO("  indicatorRef: health\n", "  indicator: {spec: {thresholdMetric: {}}}\n", ""),
			`f.yaml:7:3: indicator of openslo/v1 is not supported (leave it out: an SLO here measures the health of its service; put the query under indicators of the service)`,
		},
		{
			"OpenSLO: an indicator elsewhere", openSLO("indicatorRef: health", "indicatorRef: latency", ""),
			`f.yaml:7:17: indicator "latency" is not supported: an SLO here measures the health of its service (write indicatorRef: health, or leave it out)`,
		},
		{
			"OpenSLO: alert policies", openSLO("", "", "  alertPolicies: [page]\n"),
			`f.yaml:17:3: alertPolicies of openslo/v1 is not supported (leave it out: the windows and factors of burn rates follow from objective and window, and who is told follows from the service's owner)`,
		},
		{"OpenSLO: a threshold", openSLO("      target: 0.995\n", "      target: 0.995\n      op: lte\n      value: 3\n", ""), strings.Join([]string{
			`f.yaml:15:11: op of openslo/v1 is not supported (leave it out: an SLO here measures the health of its service)`,
			`f.yaml:16:14: value of openslo/v1 is not supported (leave it out: an SLO here measures the health of its service)`,
		}, "\n")},
		{"OpenSLO: two objectives", openSLO("", "", "    - target: 0.9\n"), `f.yaml:17:7: there are 2 objectives: an SLO here has one (write an SLO for each)`},
		{"OpenSLO: two windows", openSLO("      isRolling: true\n", "      isRolling: true\n    - {duration: 1w, isRolling: true}\n", ""), `f.yaml:11:7: there are 2 windows: an SLO has one`},
		{"OpenSLO: both targets", openSLO("target: 0.995", "target: 0.995\n      targetPercent: 99.5", ""), `f.yaml:13:7: spec.objectives[0] takes exactly one of target and targetPercent`},
		{"OpenSLO: target of nothing", openSLO("target: 0.995", "target: 0", ""), `f.yaml:14:15: 0 is not a share that can be kept: above 0, at most 1, exact to a millionth`},
		{"OpenSLO: target of all", openSLO("target: 0.995", "target: 1", ""), `f.yaml:14:15: an objective of 100% leaves no budget (the most is 99.9999%)`},
		{"OpenSLO: target too fine", openSLO("target: 0.995", "targetPercent: 99.99999", ""), `f.yaml:14:22: 99.99999 is not a share that can be kept: above 0, at most 100, exact to a millionth`},
		{"OpenSLO: month that rolls", openSLO("4w", "1M", ""), `f.yaml:9:17: a rolling window of 1M has no fixed length (use m, h, d or w, or a calendar)`},
		{"OpenSLO: much too long", openSLO("4w", "999999w", ""), `f.yaml:9:17: a window of 3650d: expected 1h to 366d`},
		{"OpenSLO: not a duration", openSLO("4w", "4 weeks", ""), `f.yaml:9:17: "4 weeks" is not a duration: expected a number and one of m, h, d, w, M, Q, Y, such as 4w`},
		{"OpenSLO: no kind of window", openSLO("      isRolling: true\n", "", ""), `f.yaml:9:7: spec.timeWindow[0] is neither rolling nor has it a calendar (write isRolling: true, or calendar)`},
		{
			"OpenSLO: two days of the calendar", openSLO("    - duration: 4w\n      isRolling: true\n", "    - {duration: 2d, calendar: {startTime: 2026-01-01 00:00:00, timeZone: UTC}}\n", ""),
			`f.yaml:9:18: a calendar window of 2d is not supported (1w, 1M, 1Q or 1Y)`,
		},
		{
			"OpenSLO: a week from Wednesday", openSLO("    - duration: 4w\n      isRolling: true\n", "    - {duration: 1w, calendar: {startTime: 2026-11-25 00:00:00, timeZone: UTC}}\n", ""),
			`f.yaml:9:44: 2026-11-25 00:00:00 is not where a week begins: other windows are not supported (a Monday at 00:00:00)`,
		},
		{
			"OpenSLO: unknown zone", openSLO("    - duration: 4w\n      isRolling: true\n", "    - {duration: 1M, calendar: {startTime: 2026-11-01 00:00:00, timeZone: Mars}}\n", ""),
			`f.yaml:9:75: "Mars" is not a time zone that is known here: expected a name such as Europe/Berlin`,
		},
		{"OpenSLO: no slice", openSLO("      timeSliceWindow: 5\n", "", ""), `f.yaml:13:7: spec.objectives[0].timeSliceWindow is missing: budgetingMethod Timeslices needs it`},
		{"OpenSLO: slices of every moment", openSLO("Timeslices", "Occurrences", ""), strings.Join([]string{
			`f.yaml:15:24: timeSliceTarget means nothing for budgetingMethod Occurrences (leave it out)`,
			`f.yaml:16:24: timeSliceWindow means nothing for budgetingMethod Occurrences (leave it out)`,
		}, "\n")},
	}
}
