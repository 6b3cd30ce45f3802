package reason_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

var files = []manifest.File{{Name: "m", Text: []byte(`apiVersion: evenkeel/v1
kind: Service
metadata: {name: a}
spec: {dependsOn: [{ref: component/web}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: web}
spec: {hosts: {names: [h]}}
---
apiVersion: evenkeel/v1
kind: Host
metadata: {name: h}
`)}}

func TestRefuses(t *testing.T) {
	for _, tt := range []struct {
		question string
		args     reason.Args
		says     string
	}{
		{"weather", nil, `"weather" is not a question: expected one of `},
		{"slo", reason.Args{"of": "service/a"}, `slo: "of" is not known here: it takes nothing`},
		{"contacts", reason.Args{"fo": "service/a"}, `contacts: "fo" is not known here: expected of`},
		{"contacts", reason.Args{"of": "service/b"}, "of: service/b is not there"},
	} {
		out, problems, err := reason.FromFiles(tt.question, files, picture.Options{At: time.Now()}, tt.args)
		if err == nil || !strings.HasPrefix(err.Error(), tt.says) || out != nil || problems != nil {
			t.Errorf("%s %v: %s, %v, %v", tt.question, tt.args, out, problems, err)
		}
	}
}

// What is supposed changes the answer, and not the picture.
func TestSuppose(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	p, problems := picture.FromFiles(files, picture.Options{At: at})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	broken, problems := p.With(picture.Options{At: at.Add(time.Hour), Set: map[string]string{"component/web@h": "critical"}, Broke: []string{"component/web@h"}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		p     *picture.Picture
		steps string
	}{
		{broken, `"steps":[{"ref":"component/web@h","start":"2026-11-30T11:00:00Z"`},
		{p, `"steps":[]`},
	} {
		calls, problems, err := reason.Answer("contacts", c.p, nil)
		if want := c.p == broken; err != nil || len(problems) > 0 || strings.Contains(string(calls), `"level":"critical","services":["service/a"]`) != want ||
			strings.Contains(string(calls), `"of":"component/web@h"`) != want {
			t.Errorf("%s, %v, %v", calls, problems, err)
		}
		out, problems, err := reason.Answer("recovery-plan", c.p, nil)
		if err != nil || len(problems) > 0 || !strings.Contains(string(out), c.steps) {
			t.Errorf("%s, %v, %v", out, problems, err)
		}
	}
	if _, problems := p.With(picture.Options{Set: map[string]string{"component/wbe": "critical"}}); len(problems) != 1 {
		t.Error(problems)
	}
}
