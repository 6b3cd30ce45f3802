package collector_test

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector"
)

func TestSourcesInTheConfiguration(t *testing.T) {
	c, err := collector.Parse("c.yaml", []byte("sources:\n  prometheus: {url: 'https://prom.example/base', bearerTokenFile: /etc/token, every: 15s}\n"))
	if err != nil || c.Sources.Prometheus.Every != 15*time.Second {
		t.Errorf("%+v %v", c.Sources, err)
	}
	if c, err := collector.Parse("c.yaml", nil); err != nil || c.Sources.Prometheus.Every != 30*time.Second {
		t.Errorf("%+v %v", c.Sources, err)
	}
	for text, want := range map[string]string{
		"{url: 'prom:9090'}":                          `sources.prometheus.url: "prom:9090" is not an http or https URL`,
		"{url: 'http://a:b@prom'}":                    "sources.prometheus.url: the URL holds a user: put a token into bearerTokenFile",
		"{every: 1s}":                                 "sources.prometheus.every: 1s is not between 5s and 1h",
		"{bearerTokenFile: /a}":                       "sources.prometheus.bearerTokenFile: a token without a url: write sources.prometheus.url",
		"{url: 'http://p', bearerTokenFile: /a}":      "sources.prometheus.url: a token is not sent over plain http to another machine: use https",
		"{url: 'http://[::1]:1', bearerTokenFile: a}": `sources.prometheus.bearerTokenFile: "a" is not an absolute path`,
	} {
		_, err := collector.Parse("c.yaml", []byte("sources:\n  prometheus: "+text+"\n"))
		if err == nil {
			t.Errorf("%s is taken", text)
		} else if got := err.Error(); len(got) < len(want) || got[len(got)-len(want):] != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}
