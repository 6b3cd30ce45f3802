package manifest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

// maxWindow is the longest window that does not recur.
const maxWindow = Duration(366 * 24 * time.Hour)

func checkMaintenance(c *checker, m *Maintenance) {
	c.exactlyOne("spec", "refs and matchLabels", len(m.Refs) > 0, len(m.MatchLabels) > 0)
	c.listedOnce("spec.refs", m.Refs)
	c.labels("spec.matchLabels", m.MatchLabels)
	c.textLine("spec.reason", "the reason", m.Reason)
	c.timeWindow("spec.window", &m.Window)
}

func checkChange(c *checker, m *ChangeRecord) {
	c.listedOnce("spec.refs", m.Refs)
	c.textLine("spec.title", "the title", m.Title)
	c.textLine("spec.externalId", "the external id", m.ExternalID)
	if m.Window.RRule != "" {
		c.problem("spec.window.rrule", "a change is done once: its window does not recur", "write one Change for each time, or a Maintenance")
		return
	}
	c.timeWindow("spec.window", &m.Window)
}

func checkHostTemplate(c *checker, t *HostTemplate) {
	c.hosts("spec.hosts", t.Hosts)
	c.labels("spec.labels", t.Labels)
	for k := range t.Labels {
		if strings.HasPrefix(k, "agent/") {
			c.problem(join("spec.labels", k), fmt.Sprintf("label %q: names that begin with agent/ belong to what an agent says of itself", k), "")
		}
	}
}

func (c *checker) listedOnce(at string, refs []Ref) {
	for i, ref := range refs {
		if ref != "" && slices.Contains(refs[:i], ref) {
			c.problemf(fmt.Sprintf("%s[%d]", at, i), "%s is listed twice", ref)
		}
	}
}

func (c *checker) textLine(at, what, text string) {
	if why := oneLine(text); why != "" {
		c.problem(at, what+" "+why, "")
	}
}

func (c *checker) timeWindow(at string, w *Window) {
	zone := time.UTC
	if w.Timezone != "" {
		z, err := civil.Zone(w.Timezone)
		if err != nil {
			c.problem(at+".timezone", err.Error(), "")
		} else {
			zone = z
		}
	}
	most := maxWindow
	switch {
	case w.RRule != "" && w.End != nil:
		c.problem(at+".end", "a window that recurs has a duration, not an end", "write UNTIL in the rule to end the rule")
	case w.RRule != "" && w.Duration == 0:
		c.problem(at, at+".duration is missing", "how long it lasts each time, such as 2h")
	case w.RRule != "":
		most = maxRuleLength
	default:
		c.exactlyOne(at, "end and duration", w.End != nil, w.Duration != 0)
	}
	if d := w.Duration; d != 0 && (d < 0 || d > most || d%Duration(time.Second) != 0) {
		c.problemf(at+".duration", "duration %s is not whole seconds from 1s to %s", d, most)
	}
	if w.End != nil && *w.End <= w.Start {
		c.problemf(at+".end", "the window ends at %s, which is not after its start at %s", *w.End, w.Start)
	} else if w.End != nil && time.Duration(*w.End-w.Start)*time.Second > maxWindow.Std() {
		c.problemf(at+".end", "the window is longer than %s", maxWindow)
	}
	if w.RRule == "" {
		return
	}
	day := w.Start.Day()
	if _, err := recur.Parse(w.RRule, &day, w.Start.Clock(), zone); err != nil {
		c.problem(at+".rrule", err.Error(), "")
	}
}
