package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// maxQuery bounds an expression: it is asked again and again.
const maxQuery = 4096

func (c *checker) source(at string, s *Source) {
	if s == nil {
		return
	}
	c.exactlyOne(at, "alertmanager, zabbix, signal and promql", s.Alertmanager != nil, s.Zabbix != nil, s.Signal != "", s.PromQL != nil)
	c.alerts(at+".alertmanager", s.Alertmanager)
	c.alerts(at+".zabbix", s.Zabbix)
	if s.Signal != "" {
		if why := badName("", s.Signal); why != "" {
			c.problem(at+".signal", why, "")
		}
	}
	if q := s.PromQL; q != nil {
		c.promql(at+".promql", at+".promql.query", q.Query, q.Levels)
		c.between(at+".promql.every", q.Every, 5*time.Second, time.Hour)
	}
}

func (c *checker) alerts(at string, s *AlertSource) {
	if s == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		if name == "" || len(name) > 128 || len(s.MatchLabels[name]) > 1024 {
			c.problemf(at+".matchLabels", "label %q is empty or too long", name)
		}
	}
	seen := map[string]string{}
	for _, word := range slices.Sorted(maps.Keys(s.Levels)) {
		low := strings.ToLower(word)
		if first, ok := seen[low]; ok {
			c.problemf(at+".levels."+word, "severity %q is the same as %q: capital letters do not count", word, first)
		}
		seen[low] = word
	}
	c.between(at+".within", s.Within, time.Minute, 24*time.Hour)
}

func (c *checker) between(at string, d *Duration, least, most time.Duration) {
	if d != nil && (d.Std() < least || d.Std() > most) {
		c.problemf(at, "%s is %s: expected %s to %s", at, d, Duration(least), Duration(most))
	}
}

// promql checks an expression as far as it can be without a server, and that each of its levels can be reached.
func (c *checker) promql(at, queryAt, query string, levels map[health.Level]Bounds) {
	switch {
	case strings.TrimSpace(query) == "" && query != "":
		c.problemf(queryAt, "%s is empty", queryAt)
	case len(query) > maxQuery:
		c.problemf(queryAt, "%s has %d bytes: the most is %d", queryAt, len(query), maxQuery)
	}
	if _, ok := levels[health.OK]; ok {
		c.problem(at+".levels.ok", "ok is what holds when no other level does", "")
	}
	for l := health.Info; l < health.Critical; l++ {
		b, ok := levels[l]
		if !ok {
			continue
		}
		for worse := l + 1; worse <= health.Critical; worse++ {
			if w, ok := levels[worse]; ok && w.covers(b) {
				c.problem(fmt.Sprintf("%s.levels.%s", at, l), fmt.Sprintf("%s can never be reached: whatever is %s is %s too, which makes it %s", l, b, w, worse), "")
				break
			}
		}
	}
}

// covers reports whether whatever satisfies o satisfies b too.
func (b Bounds) covers(o Bounds) bool {
	if b.Op[0] != o.Op[0] {
		return false
	}
	v, w := b.Value.Value(), o.Value.Value()
	if v == w {
		return b.Op == o.Op || len(b.Op) == 2
	}
	return (b.Op[0] == '<') == (v > w)
}
