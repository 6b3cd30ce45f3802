package explain

import (
	"fmt"
	"strings"

	"github.com/evenkeel/evenkeel/collector/contact"
)

// namedServices is how many services an alert names.
const namedServices = 5

// alert writes the paragraph: what, since when, which services, what it costs an hour, whom to call. Where nothing that it hits is
// ranked, behind are the services with a value that rest on it and are bad by something worse.
func alert(c *Cause, unit string, ranked bool, behind []string, who *contact.Answer) string {
	var b strings.Builder
	name := string(c.Ref)
	if c.Title != "" {
		name = fmt.Sprintf("%s (%s)", c.Title, c.Ref)
	}
	fmt.Fprintf(&b, "%s is %s", name, c.Level)
	if c.Since != nil {
		fmt.Fprintf(&b, " since %s", *c.Since)
	}
	b.WriteString(".")
	if c.NotOnMap {
		b.WriteString(" Nothing that it rests on is to blame: what is wrong is not on the map.")
	}
	var hit []string
	for _, s := range c.Services {
		if s.Ref != c.Ref {
			hit = append(hit, fmt.Sprintf("%s (%s)", s.Ref, s.Level))
		}
	}
	if n := len(hit); n > namedServices {
		hit = append(hit[:namedServices:namedServices], fmt.Sprintf("%d more", n-namedServices))
	}
	if len(hit) > 0 {
		fmt.Fprintf(&b, " It hits %s.", and(hit))
	}
	switch {
	case !ranked && len(behind) > 0:
		fmt.Fprintf(&b, " It adds nothing to the cost now: what rests on it and has a value is bad by something worse: %s.", and(behind))
	case !ranked:
		b.WriteString(" What it costs is not known: nobody has valued what it hits.")
	case c.PerHour == "0":
		fmt.Fprintf(&b, " At these levels nothing is lost; %s %s an hour is at risk.", c.AtRisk, unit)
	default:
		fmt.Fprintf(&b, " It costs %s %s an hour.", c.PerHour, unit)
	}
	switch {
	case c.Call != nil:
		how := c.Call.Phone
		if how == "" {
			how = c.Call.Email
		}
		fmt.Fprintf(&b, " Call %s of %s, %s: %s.", c.Call.Name, c.Call.Ref, how, reason(who, c.Call))
	case len(who.Gaps) > 0:
		fmt.Fprintf(&b, " Nobody is to be reached now: %s: %s.", who.Gaps[0].Ref, who.Gaps[0].Text)
	default:
		b.WriteString(" Nobody is to be reached now.")
	}
	if c.Partial {
		b.WriteString(" There may be more causes.")
	}
	return b.String()
}

// reason says why that team or vendor is called: the step that led to it knows.
func reason(who *contact.Answer, call *contact.Step) string {
	for _, s := range who.Steps {
		if s.Ref == call.Ref && s.Call == "" {
			return s.Why
		}
	}
	return call.Why
}

// and writes a list as people do: "a", "a and b", "a, b and c".
func and(list []string) string {
	n := len(list)
	if n < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:n-1], ", ") + " and " + list[n-1]
}
