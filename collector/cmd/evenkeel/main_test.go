package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/ctl"
	"github.com/evenkeel/evenkeel/pkg/health"
)

var update = flag.Bool("update", false, "write the golden files anew")

const shop = "../../../deploy/examples/shop"

func evenkeel(t *testing.T, stdin string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	// No environment: what runs on files asks no collector.
	code = ctl.Run(t.Context(), args, ctl.Env{In: strings.NewReader(stdin), Out: &o, Err: &e, Getenv: func(string) string { return "" }, Reason: answer})
	return o.String(), e.String(), code
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update and read the difference); got\n%s", path, got)
	}
}

// The example map, with all well, with one server gone, with the quorum gone, and without any data.
func TestSimulateShop(t *testing.T) {
	const at = "2026-11-25T10:00:00Z"
	for name, flags := range map[string][]string{
		"well":     nil,
		"one-gone": {"--set", "component/web@web1=critical"},
		"two-gone": {"--set", "component/web@web1=critical", "--set", "component/web@web2=critical"},
		"no-data":  {"--default", "unknown"},
		"inner":    {"--set", "service/orders=major", "--default", "ok"},
	} {
		args := append([]string{"simulate", "-f", shop, "--at", at}, flags...)
		out, errs, code := evenkeel(t, "", args...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
		golden(t, name, out)

		text, errs, code := evenkeel(t, "", append(args, "-o", "json")...)
		var s struct {
			APIVersion, Kind, At string
			Nodes                []struct {
				Ref, Low, High, Own string
				Score               *float64
				Why                 *struct {
					Rule   string
					Inputs []struct {
						Ref, Level, Mapped string
						Weight             float64
						Counted            bool
					}
					Text string
				}
			}
			Causes []struct {
				Ref, Level    string
				Services      []string
				PerHour, Unit string
				NotInMap      bool
				Text          string
			}
			Order []struct {
				Ref, Start, End string
				Reinstates      []string
			}
			Problems []any
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil || code != 0 || errs != "" {
			t.Errorf("%s: %v, exit %d, %s", name, err, code, errs)
			continue
		}
		if s.APIVersion != "evenkeel/v1" || s.Kind != "Simulation" || s.At != at || s.Problems == nil || s.Causes == nil || s.Order == nil {
			t.Errorf("%s: %s", name, text)
		}
		var refs []string
		for _, n := range s.Nodes {
			refs = append(refs, n.Ref)
			for _, end := range []string{n.Low, n.High} {
				if _, err := health.ParseLevel(end); err != nil {
					t.Errorf("%s: %s is %q", name, n.Ref, end)
				}
			}
		}
		if len(refs) < 10 || !slices.IsSorted(refs) {
			t.Errorf("%s: the nodes are not sorted: %q", name, refs)
		}
		for _, o := range s.Order {
			for _, x := range []string{o.Start, o.End} {
				if _, err := time.Parse(time.RFC3339, x); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if again, _, _ := evenkeel(t, "", append(args, "-o", "json")...); again != text {
			t.Errorf("%s: the same question has another answer", name)
		}
	}
}

// A policy may name a detector that every collector ships.
func TestSimulateKnowsShippedDetectors(t *testing.T) {
	const text = `apiVersion: evenkeel/v1
kind: Runbook
metadata: {name: relieve-cpu}
spec:
  steps: [{action: cpu.weight, to: 10}]
---
apiVersion: evenkeel/v1
kind: RemediationPolicy
metadata: {name: relieve-host}
spec:
  when: {detector: detector/host-cpu, level: major}
  hosts: {names: [a]}
  runbook: runbook/relieve-cpu
`
	out, errs, code := evenkeel(t, text, "simulate", "-f", "-", "-o", "json")
	if code != 0 || errs != "" || strings.Contains(out, "detector") {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	if _, errs, code := evenkeel(t, strings.Replace(text, "host-cpu", "host-cpus", 1), "simulate", "-f", "-"); code != ctl.ExitUsage || !strings.Contains(errs, "stdin:11:") {
		t.Errorf("a detector that there is not: exit %d, %s", code, errs)
	}
}

func TestSimulateRefuses(t *testing.T) {
	for _, tt := range []struct {
		stdin string
		flags []string
		says  string
	}{
		{"", []string{"-f", shop, "--set", "component/web"}, "expected REF=LEVEL"},
		{"", []string{"-f", shop, "--set", "component/wbe=critical"}, "component/wbe"},
		{"", []string{"-f", shop, "--set", "component/web@nowhere=critical"}, "component/web@nowhere"},
		{"", []string{"-f", shop, "--set", "component/web=terrible"}, "terrible"},
		{"", []string{"-f", shop, "--at", "today"}, "expected RFC 3339"},
		{"", []string{"-f", shop, "--default", "well"}, "expected ok or unknown"},
		{"", []string{"-f", shop + "/nothing"}, "no such file"},
		{"", nil, "-f FILE"},
		{"apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  critcality: 1\n", []string{"-f", "-"}, "stdin:5:3: "},
		{"apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  dependsOn: [{ref: service/b}]\n", []string{"-f", "-"}, "stdin:5:"},
	} {
		out, errs, code := evenkeel(t, tt.stdin, append([]string{"simulate"}, tt.flags...)...)
		if code != ctl.ExitUsage || out != "" || !strings.Contains(errs, tt.says) || strings.Contains(errs, ":0:0") {
			t.Errorf("%q: exit %d, %s%s", tt.flags, code, out, errs)
		}
	}
}

// The example map with several things broken: the plan in both outputs, and what it says about itself.
func TestRecoveryPlanShop(t *testing.T) {
	args := []string{
		"recovery-plan", "-f", shop, "--at", "2026-11-25T10:00:00Z", "--set", "component/batch@db1=critical", "--set", "component/web@web3=major",
		"--set", "component/web@web1=critical", "--set", "component/database@db1=critical", "--set", "component/san=critical",
	}
	out, errs, code := evenkeel(t, "", args...)
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "recovery-plan", out)
	text, errs, code := evenkeel(t, "", append(args, "-o", "json")...)
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "recovery-plan.json", text)
	var plan struct {
		Steps []struct {
			Ref, Start, End, Team, Contact string
			Reinstates                     []string
		}
		Cost, LowerBound, FirstComeCost, SeverityCost, Unit string
		Exact                                               bool
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&plan); err != nil || len(plan.Steps) != 5 || plan.Unit != "points" || plan.Cost == "" || plan.LowerBound == "" || plan.FirstComeCost == "" || plan.SeverityCost == "" {
		t.Errorf("%v, %+v", err, plan)
	}
	out, errs, code = evenkeel(t, "", "recovery-plan", "-f", shop, "--at", "2026-11-25T10:00:00Z")
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "recovery-plan-well", out)
	if _, errs, code = evenkeel(t, "", "recovery-plan", "-f", shop, "--set", "component/wbe=critical"); code != ctl.ExitUsage || !strings.Contains(errs, "component/wbe") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// The verbs that explain and judge, on example maps.
func TestExplainShop(t *testing.T) {
	for name, args := range map[string][]string{
		"cause":        {"cause", "-f", shop, "--set", "component/database@db1=critical", "--set", "component/batch@db1=major"},
		"cause-well":   {"cause", "-f", shop},
		"impact":       {"impact", "-f", shop, "component/database@db1"},
		"impact-spare": {"impact", "-f", shop, "component/web@web1"},
		"coverage":     {"coverage", "-f", shop},
		"portfolio":    {"portfolio", "-f", shop, "--history", "testdata/history.csv", "--set", "component/database@db1=critical", "--timezone", "Europe/Berlin"},
		"review":       {"review", "-f", shop, "--outcomes", "testdata/outcomes.csv"},
		"changes":      {"changes", "-f", shop, "-f", "testdata/change.yaml", "--changes", "testdata/changes.csv", "--history", "testdata/history.csv", "--set", "component/database@db1=critical"},
		"warning":      {"warning", "-f", shop, "--series", "testdata/series.csv", "--forecasts", "testdata/forecasts.csv"},
		"agreements":   {"agreements", "-f", "testdata/agreements", "--incidents", "testdata/incidents.csv"},
	} {
		out, errs, code := evenkeel(t, "", append(args, "--at", "2026-11-25T10:00:00Z")...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
		golden(t, name, out)
	}
	if _, errs, code := evenkeel(t, "", "agreements", "-f", shop, "--incidents", "testdata/incidents.csv"); code != ctl.ExitUsage || !strings.Contains(errs, "testdata/incidents.csv:2:3: service/payments is not among the manifests") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if _, errs, code := evenkeel(t, "", "impact", "-f", shop, "component/sna"); code != ctl.ExitUsage || !strings.Contains(errs, `did you mean "component/san"?`) {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// What-if on the example map: taken out on a sale day, and the cheapest window of two weeks.
func TestWhatIfShop(t *testing.T) {
	args := []string{"whatif", "-f", shop, "--at", "2026-11-25T10:00:00Z", "--take", "component/database", "--from", "2026-11-28T10:00:00Z", "--for", "30m", "--horizon", "14d"}
	out, errs, code := evenkeel(t, "", args...)
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "whatif", out)
	if out, errs, code = evenkeel(t, "", append(args, "-o", "json")...); code != 0 || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "whatif.json", out)
	for _, tt := range [][2]string{
		{"--take component/db --for 1h", "take: component/db is not on the map"},
		{"--take component/san", "say what is done and for how long"},
		{"--take component/san --for soon", `for: "soon" is not a duration`},
		{"--take component/san --for 1h --from noon", `from: "noon" is not a time`},
		{"--set component/san --for 1h", "expected REF=LEVEL"},
		{"--change change/none", "change/none is not there"},
	} {
		if _, errs, code := evenkeel(t, "", append([]string{"whatif", "-f", shop}, strings.Fields(tt[0])...)...); code != ctl.ExitUsage || !strings.Contains(errs, tt[1]) {
			t.Errorf("%s: exit %d, %s", tt[0], code, errs)
		}
	}
}

// The account of a month on the example map, in every format; the same question always gives the same bytes.
func TestReportShop(t *testing.T) {
	args := []string{
		"report", "-f", shop, "--history", "testdata/history.csv", "--faults", "testdata/faults.csv", "--incidents", "testdata/shop-incidents.csv",
		"--at", "2026-11-25T10:00:00Z", "--timezone", "Europe/Berlin",
	}
	for _, format := range []string{"md", "html", "csv", "json", "pdf"} {
		out, errs, code := evenkeel(t, "", append(args, "--format", format)...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", format, code, errs)
		}
		if format != "pdf" {
			golden(t, "report."+format, out)
		} else if !strings.HasPrefix(out, "%PDF-1.") || !strings.HasSuffix(out, "%%EOF\n") {
			t.Errorf("%d bytes are no PDF", len(out))
		}
		file := filepath.Join(t.TempDir(), "report")
		if _, errs, code = evenkeel(t, "", append(args, "--format", format, "-o", file)...); code != 0 || !strings.Contains(errs, "bytes") {
			t.Errorf("%s: exit %d, %s", format, code, errs)
		}
		if again, err := os.ReadFile(file); err != nil || string(again) != out {
			t.Errorf("%s: the file is another one: %v", format, err)
		}
	}
	out, errs, code := evenkeel(t, "", append(args, "--month", "2026-10", "--service", "service/checkout")...)
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	golden(t, "report-october.md", out)
	for _, tt := range [][2]string{
		{"--month 2026-13", `month: "2026-13" is not a month`},
		{"--month 2026-12", "month: 2026-12 has not begun"},
		{"--service service/checkuot", "service: service/checkuot is not there"},
		{"--format doc", "expected md, html, csv, json or pdf"},
		{"-o json", "say --format json"},
		{"--timezone Mars", `timezone: "Mars" is not a time zone`},
		{"--faults testdata/history.csv", `testdata/history.csv:1:1: the first line is "ref,time,level,origin" (expected ref,level,from,to)`},
	} {
		if _, errs, code := evenkeel(t, "", append(args, strings.Fields(tt[0])...)...); code != ctl.ExitUsage || !strings.Contains(errs, tt[1]) {
			t.Errorf("%s: exit %d, %s", tt[0], code, errs)
		}
	}
}
