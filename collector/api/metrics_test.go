package api_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/collector/api"
)

var (
	helpLine   = regexp.MustCompile(`^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$`)
	typeLine   = regexp.MustCompile(`^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*")(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*")*\})? (\S+)$`)
)

// parse reads a page in the text format as strictly as promtool does: each family once, HELP and TYPE before its
// samples and both there, no sample twice, counters that end in _total, gauges that do not.
func parse(page string) (map[string]float64, error) {
	samples := map[string]float64{}
	seen := map[string]bool{}
	if !strings.HasSuffix(page, "\n") {
		return nil, fmt.Errorf("the last line does not end")
	}
	var family, kind string
	for i, line := range strings.Split(strings.TrimSuffix(page, "\n"), "\n") {
		bad := func(why string) error { return fmt.Errorf("line %d %q: %s", i+1, line, why) }
		if m := helpLine.FindStringSubmatch(line); m != nil {
			if seen[m[1]] {
				return nil, bad("the family is here twice")
			}
			seen[m[1]], family, kind = true, m[1], ""
			continue
		}
		if m := typeLine.FindStringSubmatch(line); m != nil {
			if m[1] != family || kind != "" {
				return nil, bad("TYPE does not follow its HELP")
			}
			if kind = m[2]; (kind == "counter") != strings.HasSuffix(family, "_total") {
				return nil, bad("_total is the end of counters, and of nothing else")
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		switch {
		case m == nil:
			return nil, bad("not a sample")
		case m[1] != family || kind == "":
			return nil, bad("a sample without HELP and TYPE before it")
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, bad(err.Error())
		}
		if _, twice := samples[m[1]+m[2]]; twice {
			return nil, bad("the sample is here twice")
		}
		samples[m[1]+m[2]] = v
	}
	return samples, nil
}

func TestMetricsPage(t *testing.T) {
	w := newWorld(t)
	if resp, _ := w.do("GET", "/metrics", "", ""); resp.StatusCode != 401 {
		t.Errorf("without a token: %d", resp.StatusCode)
	}
	resp, body := w.do("GET", "/metrics", "viewer", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	samples, err := parse(body)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	for name, want := range map[string]float64{
		`evenkeel_test_hosts{state="admitted"}`: 3, `evenkeel_test_hosts{state="pending"}`: 0.5, "evenkeel_test_calls_total": 12,
	} {
		if got, ok := samples[name]; !ok || got != want {
			t.Errorf("%s = %v, wanted %v", name, got, want)
		}
	}
	if len(samples) != 3+12 { // and what became of the messages of two senders
		t.Errorf("%d samples: %v", len(samples), samples)
	}
}

func TestMetricsValues(t *testing.T) {
	m := api.NewMetrics()
	m.Gauge("evenkeel_test_start_time_seconds", "When it began.", func() float64 { return 1_795_608_000.25 })
	m.Counter("evenkeel_test_samples_total", "Samples.", func() uint64 { return 1 << 40 })
	var page bytes.Buffer
	m.Write(&page)
	samples, err := parse(page.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, page.String())
	}
	if samples["evenkeel_test_start_time_seconds"] != 1_795_608_000.25 || samples["evenkeel_test_samples_total"] != 1<<40 {
		t.Errorf("%v\n%s", samples, page.String())
	}
}
