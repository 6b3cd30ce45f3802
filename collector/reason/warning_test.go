package reason_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// A slow leak warns before anything changed; noise, a slope that leads away and one that takes for ever do not.
func TestWarningOutOfTrends(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	p, problems := picture.FromFiles(files, picture.Options{At: at})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	trend := func(name string, value func(hour float64, i int) float64) {
		out := picture.Trend{Ref: manifest.Ref("component/web@h"), Name: name}
		for i := range 73 {
			when := at.Add(-6*time.Hour + time.Duration(i)*5*time.Minute)
			out.Points = append(out.Points, picture.Reading{At: when, Value: value(when.Sub(at).Hours(), i)})
		}
		p.Trends = append(p.Trends, out)
	}
	trend("leak", func(hour float64, _ int) float64 { return 100 - 10*hour }) // 100 are left, and 10 go an hour
	trend("noise", func(_ float64, i int) float64 { return 100 + float64(i*7919%50) })
	trend("away", func(hour float64, _ int) float64 { return 100 + 10*hour })
	trend("slow", func(hour float64, _ int) float64 { return 100 - 0.1*hour })
	p.Trends[3].Points[5].Value = 50 // a wild one

	out, problems, err := reason.Answer("warning", p, nil)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	var got struct {
		Series   []struct{ Series string }
		Services []struct {
			Ref string
			In  struct{ Low, High string }
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Series) != 1 || got.Series[0].Series != "leak" || len(got.Services) != 1 || got.Services[0].Ref != "service/a" || !strings.HasPrefix(got.Services[0].In.Low, "3600") && !strings.HasPrefix(got.Services[0].In.Low, "3599") {
		t.Errorf("%s", out)
	}
	p.Trends = nil
	if _, _, err := reason.Answer("warning", p, nil); err == nil || !strings.Contains(err.Error(), "say what was measured") {
		t.Error(err)
	}
}
